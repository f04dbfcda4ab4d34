"""MixUp and CutMix, which mix a sample with another one of its batch, and their labels."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks, program
from gpuaug.transforms.base import Builder, Canvas, Kind, Params, Transform
from gpuaug.transforms.quantile import beta_quantile
from gpuaug.transforms.straight import Blend, Straight

__all__ = ["CutMix", "Mix", "MixUp", "strangers"]

Array = NDArray[Any]

MODES = ("batch", "pair", "elem")
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
SOFT = (
    *WHOLE,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)


class Mix(Transform, abc.ABC):
    """Mixes samples of a batch. Runs last, on floats, even if conversions follow it in the list."""

    kind = Kind.MIX
    draws = 3

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        num_classes: int | None = None,
        labels_getter: str = "default",
        mode: str = "batch",
        label_smoothing: float = 0.0,
    ) -> None:
        self.alpha = checks.number(self, "alpha", alpha, 0.01, 100)
        self.num_classes = None if num_classes is None else checks.integer(self, "num_classes", num_classes, 1)
        self.mode = checks.one_of(self, "mode", mode, MODES)
        self.labels_getter = checks.one_of(self, "labels_getter", labels_getter, ("default",))
        self.label_smoothing = checks.number(self, "label_smoothing", label_smoothing, 0, 1, "a fraction")

    def check(self, canvas: Canvas) -> None:
        canvas.size(self)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        quantile = beta_quantile(self.alpha, self.alpha)
        if self.mode == "batch":  # one draw for all
            return {
                "weight": np.full(len(uniforms), quantile(uniforms[:1, 0])[0]),
                "place": np.broadcast_to(uniforms[:1, 1:], (len(uniforms), self.draws - 1)),
            }
        uniforms = uniforms[leaders(self.mode, len(uniforms))]
        return {"weight": quantile(uniforms[:, 0]), "place": uniforms[:, 1:]}

    def sample(self, draws: Any, canvas: Canvas) -> Params:
        params = super().sample(draws, canvas)
        params["partner"] = partners(self.mode, len(canvas))
        return params

    def lower(self, params: Params, builder: Builder) -> None:
        mixing = self.mixing(params, builder.canvas)
        builder.mix(replace(mixing, smoothing=self.label_smoothing) if self.label_smoothing else mixing)

    @abc.abstractmethod
    def mixing(self, params: Params, canvas: Canvas) -> program.Mix:
        """Partners, weights and boxes, as if all samples were mixed."""


def choose_mixes(mixes: Sequence[program.Mix], chosen: Array) -> program.Mix:
    """The mix number `chosen` (B,) for each sample; one past the last is none. Partners are those of the first mix."""
    size = len(chosen)
    nothing = program.Mix(mixes[0].partner, np.ones(size), np.zeros((size, 4), np.int32), np.ones(size))
    options, rows = [*mixes, nothing], np.arange(size)
    weight, box, share = (
        np.stack([getattr(mix, name) for mix in options])[chosen, rows] for name in ("weight", "box", "share")
    )
    return program.Mix(mixes[0].partner, weight, box, share, mixes[0].smoothing)


def leaders(mode: str, size: int) -> Array:
    """(B,) the sample whose draw each one uses: the first of the batch, the lower of its pair, or itself."""
    own = np.arange(size)
    return {"batch": np.zeros(size, np.int64), "pair": np.minimum(own, own[::-1]), "elem": own}[mode]


@lru_cache(maxsize=64)
def partners(mode: str, size: int) -> Array:
    """(B,) the sample that is mixed in: the one before (as torchvision), or in mode "pair" number B - 1 - i."""
    own = np.arange(size)
    found = own[::-1].copy() if mode == "pair" else np.roll(own, 1)
    found.setflags(write=False)
    return found


def strangers(partner: Array, numbers: Array) -> Array:
    """(B,) partners of which none is a copy of the sample's own image, unless the batch holds nothing else.

    A copy is replaced by the nearest sample before it that shows another image, as if the batch were a ring; so nothing
    changes in a batch without copies. A sample that is its own partner stays so.

    Args:
        partner: The sample that is mixed into each one, (B,).
        numbers: The number of the image that each sample shows, (B,).
    """
    own = np.arange(len(numbers))
    copies = (numbers[partner] == numbers) & (partner != own)
    first = numbers != np.roll(numbers, 1)  # whether a sample is the first of a run of copies
    if not copies.any() or not first.any():
        return partner
    begin = np.maximum.accumulate(np.where(first, own, -1))
    begin[begin < 0] = np.flatnonzero(first)[-1]  # the run continues from the end of the batch
    return np.where(copies, (begin[partner] - 1) % len(numbers), partner)


class MixUp(Mix):
    """Blend each image and label with another's. Zhang et al., arXiv:1710.09412.

    The weight is Beta(alpha, alpha). Partners are neighbours, so the batch should be shuffled. The draw of mode
    "batch" is keyed by the batch's first index, and every mode depends on how the batch was formed. If the batch holds
    several looks at an image (the same number in `index`), the partner is the nearest sample before it of another one.

    Args:
        alpha: Parameter of the Beta distribution, in [0.01, 100].
        num_classes: Number of classes, required for labels (B,) of class numbers; None for soft or multi-hot labels
            (B, classes), and for the float targets (B,) of a regression.
        labels_getter: Only "default" is accepted, without effect; labels are the second argument of the call.
        mode: "batch": one weight for the batch, the partner is the sample before (torchvision). "elem": the same
            partner, a weight for each sample. "pair": sample i with sample B - 1 - i, one weight for the two; the
            middle one of an odd batch stays unchanged (the names are timm's).
        label_smoothing: Part of every label of a training batch, mixed or not, that is spread over all classes, in
            [0, 1], as timm and torch's cross_entropy; labels only, no masks.
    """

    def straight(self, canvas: Canvas) -> Sequence[Straight] | None:
        if self.mode != "batch":
            return None
        return (Blend(beta_quantile(self.alpha, self.alpha), partners(self.mode, len(canvas)).copy()),)

    def describe(self, params: Params, sample: int) -> str:
        return f"MixUp {params['weight'][sample]:.2f}"

    def mixing(self, params: Params, canvas: Canvas) -> program.Mix:
        box = np.zeros((len(canvas), 4), np.int32)
        return program.Mix(params["partner"], params["weight"], box, params["weight"])


class CutMix(Mix):
    """Paste a box of another image, and share the labels by its exact area. Yun et al., arXiv:1905.04899.

    The box covers 1 - Beta(alpha, alpha) of the image before it is cut off at the border. Partners and draws are those
    of MixUp.

    Args:
        alpha: Parameter of the Beta distribution, in [0.01, 100].
        num_classes: Number of classes, required for labels (B,) of class numbers; None for soft or multi-hot labels
            (B, classes), and for the float targets (B,) of a regression.
        labels_getter: Only "default" is accepted, without effect; labels are the second argument of the call.
        mode: "batch", "elem" or "pair", as for MixUp.
        label_smoothing: Part of every label that is spread over all classes, as for MixUp.
        minmax: Range (low, high) of the box's sides as fractions of the image's, in [0, 1], with each side drawn by
            itself and the box inside of the image (timm's `cutmix_minmax`); None: by `alpha`, as above.
        correct_lam: Whether labels are shared by the exact area; False: by the weight that was drawn, although the
            border cuts boxes off. With `minmax` it is always the area.
        even_sides: Whether the box's sides are rounded down to even numbers of pixels, as in torchvision; timm's are
            any number.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        num_classes: int | None = None,
        labels_getter: str = "default",
        mode: str = "batch",
        label_smoothing: float = 0.0,
        minmax: Sequence[float] | None = None,
        correct_lam: bool = True,
        even_sides: bool = True,
    ) -> None:
        super().__init__(
            alpha=alpha,
            num_classes=num_classes,
            labels_getter=labels_getter,
            mode=mode,
            label_smoothing=label_smoothing,
        )
        self.minmax = None if minmax is None else checks.interval(self, "minmax", minmax, 0, 1)
        self.correct_lam, self.even_sides = bool(correct_lam), bool(even_sides)
        self.draws = 3 if self.minmax is None else 5

    def describe(self, params: Params, sample: int) -> str:
        return "CutMix"

    def mixing(self, params: Params, canvas: Canvas) -> program.Mix:
        size = np.array(canvas.size(self))
        if self.minmax is None:
            center = np.floor(params["place"] * size).astype(np.int64)
            low, high = self._around(center, np.sqrt(1.0 - params["weight"])[:, None] * size)
            low, high = np.maximum(low, 0), np.minimum(high, size)
        else:
            least, most = ((limit * size).astype(np.int64) for limit in self.minmax)
            sides = least + np.floor(params["place"][:, 2:] * np.maximum(most - least, 1)).astype(np.int64)
            low = np.floor(params["place"][:, :2] * (size - sides + 1)).astype(np.int64)
            high = low + sides
        box = np.concatenate([low, high - low], axis=1).astype(np.int32)
        share = 1.0 - box[:, 2].astype(np.int64) * box[:, 3] / (size[0] * size[1])
        if not self.correct_lam and self.minmax is None:
            share = params["weight"]
        return program.Mix(params["partner"], np.ones(len(canvas)), box, share)

    def _around(self, center: Array, sides: Array) -> tuple[Array, Array]:
        """The ends of boxes with these sides in pixels, before the border cuts them off."""
        if self.even_sides:
            half = (0.5 * sides).astype(np.int64)
            return center - half, center + half
        whole = sides.astype(np.int64)
        return center - whole // 2, center + (whole + 1) // 2


def check_labels(owner: object, mix: Mix, labels: object, size: int) -> None:
    """Raise an error if `labels` cannot be mixed; their values are checked only on the CPU."""
    if labels is None:
        name = type(mix).__name__
        raise ValueError(
            f"Augment: the pipeline mixes labels ({name}), but no labels were given. Call augment(images, labels)."
        )
    if not isinstance(labels, Tensor) or labels.ndim not in (1, 2):
        expected = "a tensor (B,) of class numbers or targets, or (B, classes) of weights"
        raise checks.argument_error(owner, "labels", expected, checks.describe(labels))
    if len(labels) != size:
        raise checks.argument_error(owner, "labels", f"as many as the images, {size}", f"{len(labels)}")
    if labels.ndim == 2:
        if labels.dtype not in SOFT or labels.shape[1] == 0:
            expected = "(B, classes) of bool, integers or floats, with at least one class"
            raise checks.argument_error(owner, "labels", expected, checks.describe(labels))
        if mix.num_classes is not None and labels.shape[1] != mix.num_classes:
            expected = f"(B, {mix.num_classes}), as num_classes says"
            raise checks.argument_error(owner, "labels", expected, checks.describe(labels))
        return
    if labels.is_floating_point() and mix.num_classes is None:
        if mix.label_smoothing:
            got = f"{mix.label_smoothing:g} with targets (B,) of floats, which have no classes"
            raise checks.argument_error(mix, "label_smoothing", "0 for a regression", got)
        return  # targets of a regression
    if labels.dtype not in WHOLE:
        remedy = "Leave num_classes out to mix them as the targets of a regression, or pass soft labels (B, classes)."
        raise checks.argument_error(owner, "labels", "integer class numbers when (B,)", checks.describe(labels), remedy)
    if mix.num_classes is None:
        remedy = f"Use {type(mix).__name__}(num_classes=...), or pass soft labels (B, classes)."
        raise checks.argument_error(mix, "num_classes", "given for labels (B,) of class numbers", "None", remedy)
    if labels.device.type == "cpu" and len(labels):
        low, high = map(int, labels.aminmax())
        if low < 0 or high >= mix.num_classes:
            got = f"{low if low < 0 else high}"
            raise checks.argument_error(owner, "labels", f"class numbers in [0, {mix.num_classes - 1}]", got)
