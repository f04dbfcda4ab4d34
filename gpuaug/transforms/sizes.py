"""Crops whose result has a size that depends on the draw, and the pad that gives a batch of them one size."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.program import CONSTANT
from gpuaug.transforms.arguments import INTERPOLATIONS, Fill, Interpolation, fill_row
from gpuaug.transforms.arguments import interpolation as check_interpolation
from gpuaug.transforms.base import Canvas, Crop, Draws, Params, Placement, Transform, repeated, whole_boxes

__all__ = ["PadToLargest", "RandomResize", "RandomShortestSize", "RandomZoomOut", "ScaleJitter"]

Array = NDArray[Any]


class DrawnSize(Crop, abc.ABC, registered=False):
    """A crop whose result differs in size from image to image. Its parameters hold "size" (B, 2), (height, width).

    A crop or pad to one size has to follow, such as RandomCrop(size, pad_if_needed=True), or PadToLargest.
    """

    size_is_drawn = True

    def sizes(self, sizes: Array) -> Array:
        """Unknown before the draw: the sizes before it."""
        return sizes

    def after(self, canvas: Canvas, params: Params | None = None) -> Canvas:
        return canvas if params is None else Canvas(params["size"], canvas.channels)


class RandomSizes(DrawnSize, abc.ABC, registered=False):
    """Resize each image to a size of its own."""

    interpolation: str
    antialias: bool | None

    def _resample(self, interpolation: Interpolation, antialias: bool | None) -> None:
        """Keep how pixels are resampled."""
        self.interpolation = check_interpolation(self, interpolation, list(INTERPOLATIONS))
        self.antialias = antialias

    def smallest(self, sizes: Array) -> Array:
        """The size (B, 2) of the smallest draw."""
        return np.ones_like(sizes)

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        size, zero = params["size"], repeated(len(canvas), 0, 0)
        least = self.smallest(canvas.sizes).min(axis=0)
        mode = INTERPOLATIONS[self.interpolation]
        boxes = whole_boxes(canvas.sizes)
        return Placement(boxes, size, zero, size, mode, bool(self.antialias), min_resized=least)

    def describe(self, params: Params, sample: int) -> str:
        return "resize ({}, {})".format(*params["size"][sample])


class RandomResize(RandomSizes, registered=False):
    """Resize the shorter edge to a whole number drawn uniformly from [min_size, max_size).

    The same as torchvision's RandomResize. A crop or pad to one size has to follow.

    Args:
        min_size: Least length of the shorter edge, in pixels.
        max_size: One more than its largest length, in pixels.
        interpolation: "nearest", "nearest-exact", "bilinear" or "bicubic".
        antialias: Whether to widen the filter when shrinking.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 1

    def __init__(
        self,
        min_size: int,
        max_size: int,
        interpolation: Interpolation = "bilinear",
        antialias: bool | None = True,
    ) -> None:
        self.min_size = checks.integer(self, "min_size", min_size, 1, 32767)
        self.max_size = checks.integer(self, "max_size", max_size, self.min_size + 1, 32768)
        self._resample(interpolation, antialias)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        edges = self.min_size + np.floor(uniforms[:, 0] * (self.max_size - self.min_size)).astype(np.int64)
        return {"size": shorter_edges(canvas.sizes, edges)}

    def smallest(self, sizes: Array) -> Array:
        return shorter_edges(sizes, np.full(len(sizes), self.min_size))


def shorter_edges(sizes: Array, edges: Array) -> Array:
    """(B, 2) sizes whose shorter edge is `edges` (B,), in torchvision's order of operations: truncated divisions."""
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    longer = (edges * long / short).astype(np.int64)
    wide = (sizes[:, 1] > sizes[:, 0])[:, None]
    result: Array = np.where(wide, np.stack([edges, longer], 1), np.stack([longer, edges], 1))
    return result


class RandomShortestSize(RandomSizes, registered=False):
    """Resize the shorter edge to one of several lengths, the longer one to at most `max_size`.

    The same as torchvision's RandomShortestSize. A crop or pad to one size has to follow.

    Args:
        min_size: Length of the shorter edge in pixels, or several to choose from.
        max_size: Largest length of the longer edge in pixels; None: no limit.
        interpolation: "nearest", "nearest-exact", "bilinear" or "bicubic".
        antialias: Whether to widen the filter when shrinking.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 1

    def __init__(
        self,
        min_size: int | Sequence[int],
        max_size: int | None = None,
        interpolation: Interpolation = "bilinear",
        antialias: bool | None = True,
    ) -> None:
        lengths = list(min_size) if isinstance(min_size, Sequence) else [min_size]
        if not lengths:
            raise checks.argument_error(self, "min_size", "an integer or a list of at least one", repr(min_size))
        self._lengths = tuple(checks.integer(self, "min_size", length, 1, 32767) for length in lengths)
        self.min_size = min_size
        self.max_size = None if max_size is None else checks.integer(self, "max_size", max_size, 1, 32767)
        self._resample(interpolation, antialias)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        chosen = np.floor(uniforms[:, 0] * len(self._lengths)).astype(np.int64)
        return {"size": self._sizes(canvas.sizes, np.array(self._lengths)[chosen])}

    def _sizes(self, sizes: Array, edges: Array) -> Array:
        ratio = edges / sizes.min(axis=1)
        if self.max_size is not None:
            ratio = np.minimum(ratio, self.max_size / sizes.max(axis=1))
        return scaled(sizes, ratio)

    def smallest(self, sizes: Array) -> Array:
        return self._sizes(sizes, np.full(len(sizes), min(self._lengths)))


def scaled(sizes: Array, ratio: Array) -> Array:
    """(B, 2) sizes times `ratio` (B,), rounded down to whole pixels; at least one pixel."""
    result: Array = np.maximum((sizes * ratio[:, None]).astype(np.int64), 1)
    return result


class ScaleJitter(RandomSizes, registered=False):
    """Resize to a random factor of the size that fits `target_size`. Ghiasi et al., arXiv:2012.07177.

    The same as torchvision's ScaleJitter, with its order: the first number of `target_size` is compared with the
    width, the second with the height. A crop or pad to one size has to follow, usually RandomCrop(target_size,
    pad_if_needed=True).

    Args:
        target_size: Two numbers, pixels.
        scale_range: Range of the factor.
        interpolation: "nearest", "nearest-exact", "bilinear" or "bicubic".
        antialias: Whether to widen the filter when shrinking.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 1

    def __init__(
        self,
        target_size: tuple[int, int],
        scale_range: tuple[float, float] = (0.1, 2.0),
        interpolation: Interpolation = "bilinear",
        antialias: bool | None = True,
    ) -> None:
        if not isinstance(target_size, Sequence) or len(target_size) != 2:
            raise checks.argument_error(self, "target_size", "two numbers, in pixels", repr(target_size))
        checks.size(self, target_size, "target_size")
        self.target_size = target_size
        self.scale_range = checks.interval(self, "scale_range", scale_range, 1e-3, 1e3)
        self._resample(interpolation, antialias)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        low, high = self.scale_range
        return {"size": self._sizes(canvas.sizes, low + uniforms[:, 0] * (high - low))}

    def _sizes(self, sizes: Array, scale: Array | float) -> Array:
        first, second = self.target_size
        return scaled(sizes, np.minimum(second / sizes[:, 0], first / sizes[:, 1]) * scale)

    def smallest(self, sizes: Array) -> Array:
        return self._sizes(sizes, self.scale_range[0])


class RandomZoomOut(DrawnSize, registered=False):
    """Place the image at random on a larger canvas. Liu et al., arXiv:1512.02325.

    The same as torchvision's RandomZoomOut. A resize or crop to one size has to follow.

    Args:
        fill: Level in [0, 255] of the canvas, one number or one per channel; masks get `mask_fill` of Augment.
        side_range: Range of the factor of both sides, at least 1.
        p: Chance per sample.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 3

    def __init__(self, fill: Fill = 0, side_range: Sequence[float] = (1.0, 4.0), p: float = 0.5) -> None:
        self.fill = checks.fill(self, fill)
        self.side_range = checks.interval(self, "side_range", side_range, 1, 1e3)
        self.p = checks.probability(self, p)

    def for_evaluation(self) -> Sequence[Transform]:
        return ()

    def sample(self, draws: Draws, canvas: Canvas) -> Params:
        params = super().sample(draws, canvas)
        applied = params["applied"][:, None]
        params["size"] = np.where(applied, params["size"], canvas.sizes)
        params["start"] = np.where(applied, params["start"], 0)
        return params

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        low, high = self.side_range
        size = scaled(canvas.sizes, low + uniforms[:, 0] * (high - low))
        room = size - canvas.sizes
        return {"size": size, "start": -np.floor(room * uniforms[:, [2, 1]]).astype(np.int64)}  # (top, left)

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        fill = fill_row(self, self.fill, canvas.channels).astype(np.uint8)
        return Placement.cut(canvas.sizes, params["start"], params["size"], True, CONSTANT, fill)

    def describe(self, params: Params, sample: int) -> str:
        return "zoom out ({}, {})".format(*params["size"][sample])


class PadToLargest(Crop, registered=False):
    """Pad on the right and at the bottom to the largest height and width of the batch.

    For images of different sizes that are to become one tensor, as detection models take them. The result depends on
    how the batch was formed; boxes and masks are padded with it.

    Args:
        multiple: Height and width become multiples of this number of pixels, such as 32.
        fill: Level in [0, 255] of the padding, one number or one per channel.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, multiple: int = 1, fill: Fill = 0) -> None:
        self.multiple = checks.integer(self, "multiple", multiple, 1, 4096)
        self.fill = checks.fill(self, fill)

    def sizes(self, sizes: Array) -> Array:
        height, width = (-(-sizes.max(axis=0) // self.multiple) * self.multiple).tolist()
        return repeated(len(sizes), height, width)

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        return {"size": self.sizes(canvas.sizes)}  # of the whole batch, also where only some of its samples are lowered

    def after(self, canvas: Canvas, params: Params | None = None) -> Canvas:
        return Canvas(self.sizes(canvas.sizes) if params is None else params["size"], canvas.channels)

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        fill = fill_row(self, self.fill, canvas.channels).astype(np.uint8)
        zero = repeated(len(canvas), 0, 0)
        return Placement.cut(canvas.sizes, zero, params["size"], True, CONSTANT, fill)
