"""The module in front of the backbone: check, sample, lower, render."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuaug import checks, compat
from gpuaug.engine.capture import Captured
from gpuaug.engine.counter import Counter
from gpuaug.engine.evaluation import DefaultEvaluation
from gpuaug.engine.export import EvalModule
from gpuaug.engine.numbering import Mode, Numbering
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.render import NAMES, choose, drawn, render
from gpuaug.engine.state import MISSING
from gpuaug.program import Keys
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Canvas, Params, repeated
from gpuaug.transforms.convert import followed, kept
from gpuaug.transforms.mix import check_labels
from gpuaug.transforms.opaque import Opaque

__all__ = ["Augment", "Draw"]

Array = NDArray[Any]
Images = Tensor | Ragged

MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
NOT_TRACED = (
    "Augment: draws and kernels cannot be traced or exported. Export augment.eval_module((height, width)) in its place."
)


@dataclass(frozen=True)
class Draw:
    """What `Augment.sample` drew: the keys, a dict for each step of the list, and from which list."""

    keys: Keys
    params: list[Params]
    training: bool
    canvas: Canvas  # of the images it was drawn for


class Augment(nn.Module):
    """Augment a batch of raw uint8 images, each sample with its own draw, on the device it is on.

    A call samples parameters on the host, lowers them to a program per sample, and renders the program in a few
    batched passes. Every draw is a function of (seed, view, epoch, index, look, step), so it does not depend on batch
    size, order, backend or device; only MixUp, CutMix and opaque steps depend on how the batch was formed, and say so.
    No two calls in training draw alike: to have one draw twice, `sample` it and `render` it twice. See docs/draws.md.

    Args:
        train: transforms for training, a list or a Compose. Kornia modules and torchvision v2 transforms may stand in
            it as opaque steps.
        eval: transforms for evaluation. None: see `gpuaug.engine.evaluation.evaluation`; off by itself after
        `.eval()`. Where a
            step that changes the shape has no counterpart, as a RandomChoice of crops, a call in evaluation raises.
        seed: Seed of all draws, in [0, 2**64 - 1]. None takes one from torch's generator, so that torch.manual_seed
            governs it and no two modules draw alike; a number is that number, and two modules given the same draw
            alike. A checkpoint restores it either way.
        backend: "auto", "triton" (CUDA, ROCm), "numba" (CPU) or "torch" (anywhere).
        memory_format: of the result, torch.contiguous_format or torch.channels_last.
        exact: resample once for each geometric transform, as torchvision does; False composes neighbouring
            RandomRotation, RandomAffine and RandomPerspective into one resample.

    Raises:
        ValueError: if a transform cannot stand where it does, or an argument is out of range.
    """

    def __init__(
        self,
        train: Any,
        eval: Any = None,
        *,
        seed: int | None = None,
        backend: str = "auto",
        memory_format: torch.memory_format = torch.contiguous_format,
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.train_pipeline = Pipeline(train, "train")
        self._default_eval = DefaultEvaluation(self.train_pipeline.steps) if eval is None else None
        self.eval_pipeline = Pipeline(self._default_eval.steps if self._default_eval else eval, "eval")
        self._numbering = Numbering(None if seed is None else checks.integer(self, "seed", seed, 0, 2**64 - 1))
        self.backend, self.memory_format, self.exact = backend, memory_format, bool(exact)
        if backend != "auto":
            choose(backend, torch.device("cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"))
        self._dtype = followed(self, torch.get_default_dtype(), lambda weight: weight, self._dtypes)
        self._cast = False  # to another dtype, since it last ran
        steps = [*self.train_pipeline.steps, *self.eval_pipeline.steps]
        self.opaque = nn.ModuleList(
            s.module for s in steps if isinstance(s, Opaque) and isinstance(s.module, nn.Module)
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Arguments that are set later are checked as in the constructor."""
        if name == "backend":
            checks.one_of(self, name, value, NAMES)
        elif name == "memory_format" and value not in MEMORY_FORMATS:
            raise checks.argument_error(self, name, " or ".join(map(str, MEMORY_FORMATS)), value)
        super().__setattr__(name, value)

    @torch.compiler.disable(reason=NOT_TRACED)  # type: ignore[no-untyped-call, untyped-decorator]
    def forward(self, images: Images, labels: Tensor | None = None, *, index: Tensor | None = None) -> Any:
        """Augment a batch.

        Args:
            images: uint8 (B, C, H, W), or Ragged when a crop or a resize of the list brings all to one size; what
                changes pixels before it runs on the images of each size by themselves. Not written to.
            labels: (B,) class numbers or (B, classes) soft or multi-hot; needed if the list mixes. Beside a step that
                moves pixels any other form raises, since masks, boxes and key points would stay where they are; floats
                (B, 4) are taken for class weights, since nothing tells them from boxes.
            index: (B,) int64 on the CPU, the samples' numbers in the data set, which key the draws; from bit 48 on, the
                sampler's number of the look. None: a counter. On a device it is read with a wait and a warning.

        Returns:
            (B, C, h, w) in the dtype of ToDtype and the memory format; with labels, (images, labels). A mix makes
            labels (B, classes) float weights, which torch.nn.functional.cross_entropy takes as they are.

        Raises:
            RuntimeError: while it is traced or exported; see `eval_module`.
        """
        # else one batch's result would become a constant
        if compat.is_tracing() or torch.compiler.is_exporting():
            raise RuntimeError(NOT_TRACED)
        mode = self._mode()
        self._check(images, labels, mode.training)
        with self._numbering.calling(images, index, mode) as keys:
            return self._run(images, labels, keys, mode.training)

    def _run(self, images: Images, labels: Tensor | None, keys: Keys, training: bool) -> Any:
        canvas, pipeline = _canvas(images), self._pipeline(training)
        if self._cast:
            self._tell_of_a_cast(pipeline)
        alike = pipeline.alike(canvas, self.exact, self.memory_format, self._dtype)
        if alike is not None:
            done = drawn(alike, keys, images, self.backend, labels, pipeline.mix)
            if done is not None:
                return done[0] if labels is None else done
        return self._render(images, self._draw(images, keys, training), labels)

    def _mode(self) -> Mode:
        return self._numbering.mode(self.training)

    def sample(self, images: Images, *, index: Tensor | None = None) -> Draw:
        """Draw the parameters for a batch of this shape. Everything random happens here.

        In training it uses up a look at each image, as a call does; render the draw as often as it is wanted.
        """
        mode = self._mode()
        self._check(images, None, mode.training, mixes=False)
        with self._numbering.calling(images, index, mode) as keys:
            return self._draw(images, keys, mode.training)

    def _draw(self, images: Images, keys: Keys, training: bool) -> Draw:
        canvas = _canvas(images)
        return Draw(keys, self._pipeline(training).sample(keys, canvas), training, canvas)

    def render(self, images: Images, draw: Draw, labels: Tensor | None = None) -> Any:
        """Render a draw, on the images it was drawn for or on others of the same sizes.

        Nothing random happens here: the same draw on the same images gives the same pixels.
        """
        if not isinstance(draw, Draw):
            raise checks.argument_error(self, "draw", "what `sample` returned", checks.describe(draw))
        self._check(images, labels, draw.training, mixes=labels is not None)
        canvas = _canvas(images)
        if len(images) != len(draw.canvas):
            raise checks.argument_error(
                self, "images", f"as many as the draw's samples, {len(draw.canvas)}", len(images)
            )
        if canvas.channels != draw.canvas.channels or (canvas.sizes != draw.canvas.sizes).any():
            expected, remedy = (
                "of the sizes and channels the draw was made for",
                "Call sample(images) for these images.",
            )
            raise checks.argument_error(self, "images", expected, checks.describe(images), remedy)
        return self._render(images, draw, labels)

    def _render(self, images: Images, draw: Draw, labels: Tensor | None) -> Any:
        pipeline = self._pipeline(draw.training)
        if self._cast:
            self._tell_of_a_cast(pipeline)
        items = pipeline.lower(draw.params, draw.keys, draw.canvas, self.exact, self.memory_format, self._dtype)
        result, labels = render(items, images, self.backend, labels, self._num_classes(draw.training))
        return result if labels is None else (result, labels)

    def capture(self, images: Tensor, labels: Tensor | None = None) -> Captured:
        """Record the launches for batches like this one as a CUDA graph, in the mode (train or eval) of the moment.

        What a call then costs on the host is sampling, lowering, two or three copies and one replay. No draw is used
        up. Draws, pixels and state are those of `forward`.

        Args:
            images, labels: a batch of the shape to come, on the CUDA device, as `forward` takes them.

        Returns:
            A callable like `forward`; its result is in memory that its next call writes again.

        Raises:
            ValueError: if images are Ragged or not on CUDA, labels are elsewhere, or the list has opaque steps.
        """
        return Captured(self, images, labels)

    def eval_module(self, size: int | tuple[int, int], channels: int = 3) -> EvalModule:
        """The evaluation list for images of one size as plain torch operations, which export.

        `Augment` itself runs on the host and in kernels of its own, so it cannot be exported: torch.export,
        torch.jit.trace and torch.compile(fullgraph=True) refuse it. Put this in its place to export a model with its
        preprocessing.

        Args:
            size: of the images to come, an int or (height, width), in pixels.
            channels: of the images to come.

        Returns:
            A module that maps (B, channels, height, width), uint8 or floats that hold levels from 0 to 255, to what
            this module returns in evaluation, on the device of its buffers; resized levels may differ by one.

        Raises:
            ValueError: if the list has steps other than Resize, CenterCrop, Pad, Grayscale, ToDtype and Normalize.
        """
        height_width = checks.size("Augment.eval_module", size)
        canvas = Canvas(np.array([height_width]), checks.integer("Augment.eval_module", "channels", channels, 1))
        if self._default_eval:
            self._default_eval.check(canvas)
        pipeline, keys = self.eval_pipeline, self._keys(1)
        params = pipeline.sample(keys, canvas)
        items = pipeline.lower(params, keys, canvas, self.exact, self.memory_format)
        follows, dtype = (True, self._dtype) if isinstance(pipeline.dtype, str) else (False, pipeline.dtype)
        return EvalModule(pipeline.steps, items, channels, height_width, dtype, self.memory_format, follows)

    def _num_classes(self, training: bool) -> int | None:
        mix = self._pipeline(training).mix
        return None if mix is None else mix.num_classes

    def _keys(self, size: int) -> Keys:
        """Some keys, without using up draws."""
        return Keys(self.seed, self.epoch, np.arange(size, dtype=np.uint64))

    # ---- dtype -------------------------------------------------------------------------------------------------------

    @property
    def _dtypes(self) -> list[torch.dtype | str]:
        return [self.train_pipeline.dtype, self.eval_pipeline.dtype]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Augment:
        """What nn.Module's `.half()`, `.to(...)` and the like come to: the dtype of ToDtype("auto") follows.

        There is no buffer to be cast, for that would be in everything that lists or sends buffers, as DDP in each step.
        """
        dtype = followed(self, self._dtype, fn, self._dtypes)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._dtype, self._cast = dtype, self._cast or dtype != self._dtype
        return self

    def _tell_of_a_cast(self, pipeline: Pipeline) -> None:
        """Warn, once after a cast, if the list makes another dtype than the module was cast to."""
        self._cast, dtype = False, pipeline.dtype
        if isinstance(dtype, torch.dtype) and dtype not in (torch.uint8, self._dtype):
            warnings.warn(kept(self, dtype, self._dtype), stacklevel=2)

    # ---- seed, epoch, state and copies -------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """Of all draws; the one that was drawn where none was given."""
        return self._numbering.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._numbering.seed, self._numbering.given = checks.integer(self, "seed", seed, 0, 2**64 - 1), True

    @property
    def _counter(self) -> Counter:
        return self._numbering.counter

    @property
    def epoch(self) -> int:
        """The epoch that was told by `set_epoch`, or counted by DeviceLoader."""
        return self._numbering.epochs.number

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: each image has its looks anew, so the same epoch draws the same again.

        Worker processes that hold a copy of this module learn of it. After `load_state_dict`, the epoch that was saved
        goes on where it was.
        """
        self._numbering.epochs.tell(checks.integer(self, "epoch", epoch, 0, 2**32 - 1))

    def get_extra_state(self) -> Tensor:
        """Seed, view, epoch and counter as int64 on the CPU; see `gpuaug.engine.state`."""
        return self._numbering.save()

    def set_extra_state(self, state: Any) -> None:
        """Go on from a state, also one of version 0.1. A damaged one is left aside with a warning."""
        self._numbering.load(state)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: Any, *others: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *others)
        name = prefix + "_extra_state"
        if name in missing_keys:
            missing_keys.remove(name)
            warnings.warn(MISSING, stacklevel=2)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"memory_format": str(self.memory_format)}  # which pickles under no protocol below 4

    def __setstate__(self, state: dict[str, Any]) -> None:
        memory_format = getattr(torch, str(state["memory_format"]).removeprefix("torch."))
        super().__setstate__(state | {"memory_format": memory_format})  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> Augment:
        """A copy with a view of its own, so that the two do not draw alike."""
        return self._copied(lambda value: deepcopy(value, memo), memo)

    def __copy__(self) -> Augment:
        return self._copied(lambda value: value.copy() if isinstance(value, dict) else value, {})

    def _copied(self, copied: Callable[[Any], Any], memo: dict[int, Any]) -> Augment:
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        for name, value in vars(self).items():
            vars(clone)[name] = self._numbering.copy() if value is self._numbering else copied(value)
        return clone

    def _pipeline(self, training: bool) -> Pipeline:
        return self.train_pipeline if training else self.eval_pipeline

    def _check(self, images: object, labels: object, training: bool, mixes: bool = True) -> None:
        """Raise if the batch cannot be augmented; by metadata only, before anything changes."""
        remedy = "Pass the raw bytes, or (images * 255).round().to(torch.uint8)."
        if isinstance(images, Tensor):
            if images.dtype != torch.uint8 or images.ndim != 4:
                if images.dtype == torch.uint8:
                    remedy = "Stack images (C, H, W) to one tensor (B, C, H, W)."
                    if images.ndim == 3:
                        remedy = "Add a batch dimension with images[None]."
                    elif images.ndim > 4:
                        remedy = "Fold frames or views into the batch with images.flatten(0, -4), and labels alike."
                elif images.dtype in (torch.uint16, torch.int16, torch.int32, torch.int64):
                    remedy = "Bring levels to [0, 255]: (images.int() // 256).to(torch.uint8) for levels of 16 bits."
                raise checks.argument_error(
                    self, "images", "uint8 (B, C, H, W) or Ragged", checks.describe(images), remedy
                )
            if images.layout != torch.strided:
                raise checks.argument_error(
                    self, "images", "a dense tensor", str(images.layout), "Call images.to_dense()."
                )
            if 0 in images.shape:
                raise checks.argument_error(
                    self, "images", "at least one image of at least one pixel", checks.describe(images)
                )
        elif not isinstance(images, Ragged):
            remedy = "Stack the images, or pack different sizes with Ragged.from_images(list)."
            raise checks.argument_error(self, "images", "uint8 (B, C, H, W) or Ragged", checks.describe(images), remedy)
        elif len(images) == 0:
            raise checks.argument_error(self, "images", "at least one image", "an empty Ragged")
        pipeline = self._pipeline(training)
        if mixes and pipeline.mix is not None:
            check_labels(self, pipeline.mix, labels, len(images))
        if labels is not None and pipeline.moving is not None:
            checks.labels_beside(self, pipeline.moving, labels, len(images), pipeline.mix is not None)
        if not training and self._default_eval:
            self._default_eval.check(_canvas(images))

    def __repr__(self) -> str:
        arguments = [f"train={_listing(self.train_pipeline)}"]
        if not self._default_eval:
            arguments.append(f"eval={_listing(self.eval_pipeline)}")
        if self._numbering.given:
            arguments.append(f"seed={self.seed}")
        for name, default in (
            ("backend", "auto"),
            ("memory_format", torch.contiguous_format),
            ("exact", False),
        ):
            if getattr(self, name) != default:
                arguments.append(f"{name}={getattr(self, name)!r}")
        return "Augment(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


def _listing(pipeline: Pipeline) -> str:
    return "[\n" + "".join(f"        {step!r},\n" for step in pipeline.steps) + "    ]"


def _canvas(images: Images) -> Canvas:
    if isinstance(images, Ragged):
        return Canvas(images.sizes.astype(np.int64), images.channels)
    count, channels, height, width = images.shape
    return Canvas(repeated(count, height, width), channels)
