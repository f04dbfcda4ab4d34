"""The module in front of the backbone: check, sample, lower, render."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast, overload

import numpy as np
import torch
from torch import Tensor

from gpuaug import checks, compat
from gpuaug.engine.batch import Images, canvas_of
from gpuaug.engine.call import Call, Draw, Draws
from gpuaug.engine.capture import Captured
from gpuaug.engine.config import to_dict
from gpuaug.engine.explain import explain
from gpuaug.engine.export import EvalModule
from gpuaug.engine.listed import Labels, Pictures
from gpuaug.engine.numbering import Mode
from gpuaug.engine.parts import PartFinder
from gpuaug.engine.replace import ReplaceableModule
from gpuaug.engine.scenes import Scene
from gpuaug.engine.settings import written
from gpuaug.program import Keys
from gpuaug.transforms.base import Transform

__all__ = ["Augment", "Draw"]

# targets with keys: a mapping for the batch, or a list with one mapping for each image
Keyed = TypeVar("Keyed", bound="Mapping[str, object] | Sequence[Mapping[str, object]]")

NOT_TRACED = (
    "Augment: draws and kernels cannot be traced or exported. Export augment.eval_module((height, width)) in its place."
)


class Augment(ReplaceableModule):
    """Augment a batch of raw uint8 images, each sample with its own draw, on the device it is on.

    A call samples parameters on the host, lowers them to a program per sample, and renders the program in a few
    batched passes. Every draw is a function of (seed, view, epoch, index, look, step), so it does not depend on batch
    size, order, backend or device. Only MixUp, CutMix and opaque steps depend on how the batch was formed; their
    docstrings say so. Two calls in training never use the same draw: to apply one draw twice, `sample` it once and
    `render` it twice. See docs/draws.md.

    Args:
        train: Transforms for training, a list or a Compose. It may contain Kornia modules and torchvision v2
            transforms as opaque steps.
        eval: Transforms for evaluation. None: derived from `train`: crops become Resize and CenterCrop, random steps
            are left out. If a step that changes the shape has no counterpart, such as a RandomChoice of crops, a call
            in evaluation raises an error.
        seed: Seed of all draws, in [0, 2**64 - 1]. None: taken from torch's generator, so torch.manual_seed determines
            it and two modules draw differently. Two modules with the same number draw the same. Loading a checkpoint
            restores the saved seed in both cases.
        backend: "auto", "triton" (CUDA, ROCm), "numba" (CPU) or "torch" (any device).
        memory_format: Memory format of the result, torch.contiguous_format or torch.channels_last.
        exact: False merges neighbouring RandomRotation, RandomAffine and RandomPerspective into one resample, and lets
            a resizing crop do a flip that comes before it. True does every step separately, which gives torchvision's
            pixels for every list.
        mask_fill: Number that masks get where no image is, such as an ignore index.
        erase_masks: Whether RandomErasing fills masks with `mask_fill` too.
        flip_pairs: Numbers (left, right) of key points that a mirror exchanges, such as the eyes. None: no pairs.
        same: For calls with a mapping of several pictures: names of those that share a draw, or several groups of them.

    Raises:
        ValueError: If a transform is at a place in the list where it cannot run, or an argument is out of range.
    """

    def __init__(
        self,
        train: Sequence[object] | Transform,
        eval: Sequence[object] | Transform | None = None,
        *,
        seed: int | None = None,
        backend: str = "auto",
        memory_format: torch.memory_format = torch.contiguous_format,
        exact: bool = False,
        mask_fill: float = 0,
        erase_masks: bool = False,
        flip_pairs: Sequence[tuple[int, int]] | None = None,
        same: Sequence[str] | Sequence[Sequence[str]] = (),
    ) -> None:
        super().__init__(seed)
        self._set_lists(train, eval)
        self._set_arguments(
            backend=backend, memory_format=memory_format, exact=exact, mask_fill=mask_fill, erase_masks=erase_masks,
            flip_pairs=flip_pairs, same=same,
        )  # fmt: skip

    @overload
    def forward(self, images: Images, labels: None = None, *, index: Tensor | None = None) -> Tensor: ...
    @overload
    def forward(self, images: Images, labels: Tensor, *, index: Tensor | None = None) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(self, images: Images, labels: Keyed, *, index: Tensor | None = None) -> tuple[Tensor, Keyed]: ...
    @overload
    def forward(self, images: Pictures, labels: None = None, *, index: Tensor | None = None) -> dict[str, Tensor]: ...
    @overload
    def forward(
        self, images: Pictures, labels: Labels, *, index: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Labels]: ...
    @torch.compiler.disable(reason=NOT_TRACED)  # type: ignore[no-untyped-call, untyped-decorator]
    def forward(
        self, images: Images | Pictures, labels: Labels | None = None, *, index: Tensor | None = None
    ) -> Tensor | dict[str, Tensor] | tuple[Tensor | dict[str, Tensor], Labels]:
        """Augment a batch.

        Args:
            images: uint8 (B, C, H, W), or Ragged if a crop or resize in the list gives all images one size. Transforms
                before it that change pixels run on the images of each size separately. Never written to. Clips
                (B, T, C, H, W), whose frames share a draw, and mappings of several batches, see docs/clips.md.
            labels: (B,) class numbers or (B, classes) soft or multi-hot labels; required if the list mixes. Masks,
                boxes and key points, which follow the pixels, come as a mapping or as a list with a mapping for each
                image, see docs/targets.md. If a step moves pixels, any other form raises an error.
            index: (B,) int64 on the CPU: the number of each sample in the data set, which keys its draws, and from bit
                48 on the sampler's number of the look. None: a counter of the module. If it is on a device, reading it
                waits for the device, and a warning says so.

        Returns:
            (B, C, h, w) in the dtype of ToDtype and the module's memory format, (B, T, C, h, w) for clips, a dict of
            them for a mapping; with labels, (images, labels). A mix turns labels into (B, classes) float weights, which
            torch.nn.functional.cross_entropy accepts directly. Targets come back in the form they had.

        Raises:
            RuntimeError: If the call is traced or exported; see `eval_module`.
        """
        # otherwise the result of one batch would become a constant of the graph
        if compat.is_tracing() or torch.compiler.is_exporting():
            raise RuntimeError(NOT_TRACED)
        with self.prepare(images, labels, index=index) as call:
            return call.run()

    if TYPE_CHECKING:
        __call__ = forward

    @overload
    def prepare(
        self, images: Images, labels: Labels | None = None, *, index: Tensor | None = None, mode: Mode | None = None
    ) -> Call: ...
    @overload
    def prepare(
        self, images: Pictures, labels: Labels | None = None, *, index: Tensor | None = None, mode: Mode | None = None
    ) -> Scene: ...
    def prepare(
        self, images: Images | Pictures, labels: Labels | None = None, *, index: Tensor | None = None,
        mode: Mode | None = None,
    ) -> Call | Scene:  # fmt: skip
        """Check a batch and reserve its draws: the part of `forward` before rendering.

        For callers that render ahead, such as DeviceLoader: `run` the call, then `commit` it when its result is handed
        out, or `release` it; a `with` block does this. Until then, a saved state counts neither the draws of this call
        nor those of later calls. A call that is dropped without commit or release has used up its draws.

        Args:
            images, labels, index: As for `forward`.
            mode: Mode of the pass that the batch belongs to, as `begin_pass` returned it. None: the current mode; a
                call that activation checkpointing repeats then has the draws of the first one.
        """
        training = self.training if mode is None else mode.training
        if self._schedule is not None:
            self._follow_schedule(self.epoch if mode is None else mode.epoch)
        if type(images) is not Tensor and isinstance(images, Mapping):
            take = partial(self._numbering.take, index=index, mode=mode, training=training)
            return self._scene(images, labels, training, take)
        plain, targets = self._check(images, labels, training)
        if self._cast:
            self._tell_of_a_cast(self._pipeline(training))
        return self._call(images, plain, targets, self._numbering.take(images, index, mode, training), training)

    @overload
    def sample(self, images: Images, labels: Labels | None = None, *, index: Tensor | None = None) -> Draw: ...
    @overload
    def sample(self, images: Pictures, labels: Labels | None = None, *, index: Tensor | None = None) -> Draws: ...
    def sample(
        self, images: Images | Pictures, labels: Labels | None = None, *, index: Tensor | None = None
    ) -> Draw | Draws:
        """Draw the parameters for a batch of this shape; of a mapping, a dict of draws. Everything random happens here.

        In training it uses up a look at each image. Only RandomIoUCrop needs labels: targets with boxes, as for a call.
        """
        if self._schedule is not None:
            self._follow_schedule(self.epoch)
        if not isinstance(images, Tensor) and isinstance(images, Mapping):
            take = partial(self._numbering.take, index=index, mode=None, training=self.training)
            with self._scene(images, labels, self.training, take, mixes=False) as scene:
                return scene.draw()
        _, targets = self._check(images, labels, self.training, mixes=False)
        taken = self._numbering.take(images, index, None, self.training)
        with self._call(images, None, targets, taken, self.training) as call:
            return call.draw()

    def example_draw(
        self, images: Images, labels: Labels | None = None, *, epoch: int | None = None, first: int = 0
    ) -> Draw:
        """The training list's draw for the samples `first`, `first` + 1, ... of an epoch, in either mode.

        Nothing is used up: the next call draws what it would have drawn without this one.

        Args:
            images: As for `forward`.
            labels: As for `sample`: targets with boxes, for RandomIoUCrop.
            epoch: Number of the epoch, in [0, 2**32 - 1]; the list stays the present one. None: the current epoch.
            first: Number of the first sample, in [0, 2**47].
        """
        _, targets = self._check(images, labels, training=True, mixes=False)
        keys, canvas = self._keys(len(images)), canvas_of(images)
        first = checks.integer(self, "first", first, 0, 2**47)
        keys = replace(keys, index=keys.index + np.uint64(first)) if first else keys
        if epoch is not None:
            keys = replace(keys, epoch=checks.integer(self, "epoch", epoch, 0, 2**32 - 1))
        params = self.train_pipeline.sample(keys, canvas, targets, self.exact)
        return Draw(keys, params, True, canvas, self.train_pipeline, self.exact)

    @overload
    def render(self, images: Images, draw: Draw, labels: None = None) -> Tensor: ...
    @overload
    def render(self, images: Images, draw: Draw, labels: Tensor) -> tuple[Tensor, Tensor]: ...
    @overload
    def render(self, images: Images, draw: Draw, labels: Keyed) -> tuple[Tensor, Keyed]: ...
    @overload
    def render(self, images: Pictures, draw: Mapping[str, Draw], labels: None = None) -> dict[str, Tensor]: ...
    @overload
    def render(
        self, images: Pictures, draw: Mapping[str, Draw], labels: Labels
    ) -> tuple[dict[str, Tensor], Labels]: ...
    def render(
        self, images: Images | Pictures, draw: Draw | Mapping[str, Draw], labels: Labels | None = None
    ) -> Tensor | dict[str, Tensor] | tuple[Tensor | dict[str, Tensor], Labels]:
        """Render a draw on the images it was drawn for, or on others of the same sizes.

        Nothing random happens here: the same draw on the same images gives the same pixels. A draw for images serves
        clips too, and clips of any length.

        Raises:
            ValueError: If `sample` did not return the draw, or the images have other sizes than those it was drawn for.
        """
        return cast("Tensor", self._rendered(images, draw, labels))

    explain = staticmethod(explain)

    def part_finder(self) -> PartFinder:
        """What a data set with `regions` takes of this module, to decode of each image what its draw reads."""
        return PartFinder(self.train_pipeline, self.eval_pipeline, self.exact)

    def capture(self, images: Tensor, labels: Tensor | None = None) -> Captured:
        """Record the launches for batches like this one as a CUDA graph, in the current mode (train or eval).

        On the host, a call then costs sampling, lowering, two or three copies and one replay. No draw is used up.
        Draws, pixels and state are the same as those of `forward`.

        Args:
            images, labels: A batch on the CUDA device, as for `forward`, of the shape of the batches to come.

        Returns:
            A callable like `forward`. Its next call overwrites the memory of its result.

        Raises:
            ValueError: If images are Ragged or not on CUDA, labels are on another device, or the list has opaque steps.
        """
        return Captured(self, images, labels)

    def eval_module(self, size: int | tuple[int, int], channels: int = 3) -> EvalModule:
        """The evaluation list for images of one size as plain torch operations, which can be exported.

        `Augment` itself runs on the host and in its own kernels, so it cannot be exported: torch.export,
        torch.jit.trace and torch.compile(fullgraph=True) refuse it. Use this module instead to export a model with its
        preprocessing.

        Args:
            size: Size of the images, an int or (height, width), in pixels.
            channels: Number of channels of the images.

        Returns:
            A module that maps (B, channels, height, width), uint8 or floats that hold levels from 0 to 255, to what
            this module returns in evaluation, on the device of its buffers; resized levels may differ by one.

        Raises:
            ValueError: If the list has steps other than Resize, CenterCrop, Pad, Grayscale, RGB, ToDtype, Normalize.
        """
        return self._eval_module(checks.size("Augment.eval_module", size), channels)

    def _keys(self, size: int) -> Keys:
        """Keys for `size` samples, without using up draws."""
        return Keys(self.seed, self.epoch, np.arange(size, dtype=np.uint64))

    def to_dict(self) -> dict[str, object]:
        """This module's arguments as plain data for JSON and YAML; `from_dict` reads it. Other steps raise an error."""
        return to_dict(self, evaluation=self._eval_given, seed=self._numbering.given)

    def __repr__(self) -> str:
        return written(self, evaluation=self._eval_given, seed=self._numbering.given)
