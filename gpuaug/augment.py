"""The module in front of the backbone: check, sample, lower, render."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuaug import checks
from gpuaug.capture import Captured
from gpuaug.counter import Counter, Taken
from gpuaug.pipeline import Pipeline, evaluation
from gpuaug.program import Keys
from gpuaug.ragged import Ragged
from gpuaug.render import NAMES, choose, render
from gpuaug.transform import Canvas, Params
from gpuaug.transforms.mix import check_labels
from gpuaug.transforms.opaque import Opaque

__all__ = ["Augment", "Draw"]

Array = NDArray[Any]
Images = Tensor | Ragged

MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
HIGHEST_INDEX = 2**48 - 1


@dataclass(frozen=True)
class Draw:
    """What `Augment.sample` drew: keys (seed, epoch, index), a dict for each step of the list, and from which list."""

    keys: Keys
    params: list[Params]
    training: bool
    canvas: Canvas  # of the images it was drawn for


class Augment(nn.Module):
    """Augment a batch of raw uint8 images, each sample with its own draw, on the device it is on.

    A call samples parameters on the host, lowers them to a program per sample, and renders the program in a few
    batched passes. Every draw is a function of (seed, epoch, index, step), so it does not depend on batch size, order,
    backend or device; only MixUp, CutMix and opaque steps depend on how the batch was formed, and say so.

    Args:
        train: transforms for training, a list or a Compose. Kornia modules and torchvision v2 transforms may stand in
            it as opaque steps.
        eval: transforms for evaluation. None: see `gpuaug.pipeline.evaluation`; off by itself after `.eval()`.
        seed: of all draws, in [0, 2**64 - 1].
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
        seed: int = 0,
        backend: str = "auto",
        memory_format: torch.memory_format = torch.contiguous_format,
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.train_pipeline = Pipeline(train, "train")
        self.eval_pipeline = Pipeline(evaluation(self.train_pipeline.steps) if eval is None else eval, "eval")
        self._default_eval = eval is None
        self.seed = checks.integer(self, "seed", seed, 0, 2**64 - 1)
        self.backend = checks.one_of(self, "backend", backend, NAMES)
        if backend != "auto":
            choose(backend, torch.device("cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"))
        if memory_format not in MEMORY_FORMATS:
            raise checks.bad(self, "memory_format", " or ".join(map(str, MEMORY_FORMATS)), memory_format)
        self.memory_format = memory_format
        self.exact = bool(exact)
        self.epoch = 0
        self._counter = Counter()
        steps = [*self.train_pipeline.steps, *self.eval_pipeline.steps]
        self.opaque = nn.ModuleList(
            s.module for s in steps if isinstance(s, Opaque) and isinstance(s.module, nn.Module)
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, images: Images, labels: Tensor | None = None, *, index: Tensor | None = None) -> Any:
        """Augment a batch.

        Args:
            images: uint8 (B, C, H, W), or Ragged when the list starts with a crop or a resize. Not written to.
            labels: (B,) class numbers or (B, classes) soft or multi-hot; needed if the list mixes.
            index: (B,) int64 on the CPU, the samples' numbers in the data set, which key the draws. None: a counter.

        Returns:
            (B, C, h, w) in the dtype of ToDtype and the memory format; with labels, (images, labels). A mix makes
            labels (B, classes) float weights, which torch.nn.functional.cross_entropy takes as they are.
        """
        return self._run(images, labels, index, self.training, self.epoch)

    def _run(self, images: Images, labels: Tensor | None, index: Tensor | None, training: bool, epoch: int) -> Any:
        """`forward` in a mode and an epoch, which another thread may be changing."""
        self._check(images, labels, training)
        with self._reserved(len(images), index, training, epoch) as keys:
            return self._render(images, self._draw(images, keys, training), labels)

    def sample(self, images: Images, *, index: Tensor | None = None) -> Draw:
        """Draw the parameters for a batch of this shape. Everything random happens here."""
        self._check(images, None, self.training, mixes=False)
        with self._reserved(len(images), index, self.training, self.epoch) as keys:
            return self._draw(images, keys, self.training)

    def _draw(self, images: Images, keys: Keys, training: bool) -> Draw:
        canvas = _canvas(images)
        return Draw(keys, self._pipeline(training).sample(keys, canvas), training, canvas)

    def render(self, images: Images, draw: Draw, labels: Tensor | None = None) -> Any:
        """Render a draw, on the images it was drawn for or on others of the same sizes.

        Nothing random happens here: the same draw on the same images gives the same pixels.
        """
        if not isinstance(draw, Draw):
            raise checks.bad(self, "draw", "what `sample` returned", checks.describe(draw))
        self._check(images, labels, draw.training, mixes=labels is not None)
        canvas = _canvas(images)
        if len(images) != len(draw.canvas):
            raise checks.bad(self, "images", f"as many as the draw's samples, {len(draw.canvas)}", len(images))
        if canvas.channels != draw.canvas.channels or (canvas.sizes != draw.canvas.sizes).any():
            expected, remedy = (
                "of the sizes and channels the draw was made for",
                "Call sample(images) for these images.",
            )
            raise checks.bad(self, "images", expected, checks.describe(images), remedy)
        return self._render(images, draw, labels)

    def _render(self, images: Images, draw: Draw, labels: Tensor | None) -> Any:
        pipeline = self._pipeline(draw.training)
        items = pipeline.lower(draw.params, draw.keys, draw.canvas, self.exact, self.memory_format)
        result, labels = render(items, images, self.backend, labels, self._num_classes(draw.training))
        return result if labels is None else (result, labels)

    def capture(self, images: Tensor, labels: Tensor | None = None) -> Captured:
        """Record the launches for batches like this one as a CUDA graph, in the mode (train or eval) of the moment.

        What a call then costs on the host is sampling, lowering, two or three copies and one replay. No draw is used
        up. Draws, pixels and state are those of `forward`. Not yet run on a GPU; see `gpuaug.capture`.

        Args:
            images, labels: a batch of the shape to come, on the CUDA device, as `forward` takes them.

        Returns:
            A callable like `forward`; its result is in memory that its next call writes again.

        Raises:
            ValueError: if images are Ragged or not on CUDA, labels are elsewhere, or the list has opaque steps.
        """
        return Captured(self, images, labels)

    def _num_classes(self, training: bool) -> int | None:
        mix = self._pipeline(training).mix
        return None if mix is None else mix.num_classes

    @contextmanager
    def _reserved(self, size: int, index: Tensor | None, training: bool, epoch: int) -> Iterator[Keys]:
        """The keys of one batch. Without an index, training uses up the counter's next numbers, unless it fails."""
        if index is not None:
            yield Keys(self.seed, epoch, check_index(self, index, size))
        elif not training:
            yield Keys(self.seed, epoch, Taken(0, size).index())
        else:
            with self._counter.taking(size) as taken:
                yield Keys(self.seed, epoch, taken.index())

    def _keys(self, size: int) -> Keys:
        """Some keys, without using up draws."""
        return Keys(self.seed, self.epoch, np.arange(size, dtype=np.uint64))

    def set_epoch(self, epoch: int) -> None:
        """Draw differently from now on; the same epoch draws the same again."""
        self.epoch = checks.integer(self, "epoch", epoch, 0, 2**32 - 1)

    def get_extra_state(self) -> dict[str, int]:
        return {"epoch": self.epoch, "counter": self._counter.value()}

    def set_extra_state(self, state: dict[str, int]) -> None:
        epoch = checks.integer(self, "epoch", state["epoch"], 0, 2**32 - 1)
        counter = checks.integer(self, "counter", state["counter"], 0, HIGHEST_INDEX)
        self.epoch, self._counter = epoch, Counter(counter)

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
                raise checks.bad(self, "images", "uint8 (B, C, H, W) or Ragged", checks.describe(images), remedy)
            if images.layout != torch.strided:
                raise checks.bad(self, "images", "a dense tensor", str(images.layout), "Call images.to_dense().")
            if 0 in images.shape:
                raise checks.bad(self, "images", "at least one image of at least one pixel", checks.describe(images))
        elif not isinstance(images, Ragged):
            remedy = "Stack the images, or pack different sizes with Ragged.from_images(list)."
            raise checks.bad(self, "images", "uint8 (B, C, H, W) or Ragged", checks.describe(images), remedy)
        elif len(images) == 0:
            raise checks.bad(self, "images", "at least one image", "an empty Ragged")
        pipeline = self._pipeline(training)
        if mixes and pipeline.mix is not None:
            check_labels(self, pipeline.mix, labels, len(images))

    def __repr__(self) -> str:
        arguments = [f"train={_listing(self.train_pipeline)}"]
        if not self._default_eval:
            arguments.append(f"eval={_listing(self.eval_pipeline)}")
        for name, default in (
            ("seed", 0),
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
    return Canvas(np.broadcast_to(np.array([height, width]), (count, 2)), channels)


def check_index(owner: object, index: object, size: int) -> Array:
    """`index` as (B,) uint64."""
    good = isinstance(index, Tensor) and index.dtype == torch.int64 and index.shape == (size,)
    if not good:
        raise checks.bad(owner, "index", f"int64 ({size},), one number for each image", checks.describe(index))
    assert isinstance(index, Tensor)
    if index.device.type != "cpu":
        remedy = "Keep the loader's index on the CPU; reading it from a device would wait."
        raise checks.bad(owner, "index", "on the CPU", f"on {index.device}", remedy)
    numbers = index.numpy()
    if (numbers < 0).any() or (numbers > HIGHEST_INDEX).any():
        wrong = numbers[(numbers < 0) | (numbers > HIGHEST_INDEX)][0]
        raise checks.bad(owner, "index", "in [0, 2**48 - 1]", int(wrong))
    return numbers.astype(np.uint64)
