"""Crops, which decide which part of an image becomes the canvas, and at what size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.program import BICUBIC, BILINEAR, CONSTANT, EDGE, REFLECT, SYMMETRIC
from gpuaug.transforms.arguments import INTERPOLATIONS, Fill, Interpolation, Size, fill_row
from gpuaug.transforms.arguments import fill as check_fill
from gpuaug.transforms.arguments import interpolation as check_interpolation
from gpuaug.transforms.base import Canvas, Crop, Params, Placement, Transform, repeated, whole_boxes
from gpuaug.transforms.fitting import TRIES, first_fit
from gpuaug.transforms.straight import Boxes, Straight

__all__ = ["CenterCrop", "Pad", "RandomCrop", "RandomResizedCrop", "Resize"]

Array = NDArray[Any]

PADDING_MODES = {"constant": CONSTANT, "edge": EDGE, "reflect": REFLECT, "symmetric": SYMMETRIC}


def parse_padding(owner: object, padding: Size) -> tuple[int, int, int, int]:
    """One, two (left/right, top/bottom) or four (left, top, right, bottom) pixels, as (top, left, bottom, right)."""
    values = list(padding) if isinstance(padding, Sequence) else [padding]
    if len(values) not in (1, 2, 4) or not all(map(checks.is_integer, values)):
        raise checks.argument_error(owner, "padding", "1, 2 or 4 integers, in pixels", repr(padding))
    left, top, right, bottom = values * (4 // len(values))
    return top, left, bottom, right


class Resize(Crop):
    """Resize to `size`, with antialiasing, bit-equal to torchvision's CPU uint8 kernel.

    Args:
        size: (height, width), or one number for the shorter edge; None with `max_size` for the longer edge. Pixels.
        interpolation: "nearest", "nearest-exact", "bilinear" or "bicubic".
        max_size: Upper bound of the longer edge in pixels when `size` is one number.
        antialias: Whether to widen the filter when shrinking.

    Raises:
        ValueError: If `size`, `max_size` or `interpolation` is out of range.
    """

    def __init__(
        self,
        size: Size | None,
        interpolation: Interpolation = "bilinear",
        max_size: int | None = None,
        antialias: bool | None = True,
    ) -> None:
        if size is not None:
            checks.size(self, size)
        edges = () if size is None else tuple(size) if isinstance(size, Sequence) else (size,)
        if max_size is not None:
            checks.integer(self, "max_size", max_size, 1)
        if len(edges) == 2 and max_size is not None:
            raise checks.argument_error(self, "max_size", "None when `size` is (height, width)", repr(max_size))
        if len(edges) == 0 and max_size is None:
            raise checks.argument_error(self, "max_size", "an integer when `size` is None", repr(max_size))
        if len(edges) == 1 and max_size is not None and max_size <= edges[0]:
            raise checks.argument_error(self, "max_size", f"greater than `size` ({edges[0]})", repr(max_size))
        self.size, self.max_size, self.antialias, self._edges = size, max_size, antialias, edges
        self.interpolation = check_interpolation(self, interpolation, list(INTERPOLATIONS))
        self._mode = INTERPOLATIONS[self.interpolation]

    def sizes(self, sizes: Array) -> Array:
        edges = self._edges
        if len(edges) == 2:
            return repeated(len(sizes), *edges)
        short, long = sizes.min(axis=1).astype(np.int64), sizes.max(axis=1).astype(np.int64)
        # torchvision's order of operations: truncated true divisions
        if not edges:
            assert self.max_size is not None
            new_short, new_long = (self.max_size * short / long).astype(np.int64), np.full_like(long, self.max_size)
        else:
            new_short = np.full_like(short, edges[0])
            new_long = (edges[0] * long / short).astype(np.int64)
            if self.max_size is not None:
                over = new_long > self.max_size
                new_short = np.where(over, (self.max_size * new_short / new_long).astype(np.int64), new_short)
                new_long = np.where(over, self.max_size, new_long)
        wide = (sizes[:, 1] > sizes[:, 0])[:, None]
        result = np.where(wide, np.stack([new_short, new_long], 1), np.stack([new_long, new_short], 1))
        return np.maximum(result, 1)

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        sizes = canvas.sizes
        resized, zero = self.sizes(sizes), repeated(len(sizes), 0, 0)
        return Placement(whole_boxes(sizes), resized, zero, resized, self._mode, bool(self.antialias))


class CenterCrop(Crop):
    """Cut `size` from the middle; a smaller image is padded with zeros.

    The same as torchvision's CenterCrop.

    Args:
        size: (height, width) or one number for both, pixels.
    """

    def __init__(self, size: Size) -> None:
        self.size, self._pair = size, checks.size(self, size)

    def sizes(self, sizes: Array) -> Array:
        return repeated(len(sizes), *self._pair)

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        size = np.array(self._pair, np.int64)
        over = canvas.sizes - size
        start = np.where(over >= 0, np.rint(over / 2).astype(np.int64), -((-over) // 2))
        return Placement.cut(canvas.sizes, start, self.sizes(canvas.sizes), may_pad=bool((over < 0).any()))


class Pad(Crop):
    """Pad the borders.

    The same as torchvision's Pad.

    Args:
        padding: One number, (left/right, top/bottom) or (left, top, right, bottom), pixels; negative: cut off.
        fill: Level in [0, 255] for padding_mode "constant", one number or one per channel.
        padding_mode: "constant", "edge", "reflect" or "symmetric".
    """

    def __init__(self, padding: Size, fill: Fill = 0, padding_mode: str = "constant") -> None:
        self.padding, self._pads = padding, parse_padding(self, padding)
        self.fill = check_fill(self, fill)
        self.padding_mode = checks.one_of(self, "padding_mode", padding_mode, list(PADDING_MODES))
        self._border = PADDING_MODES[self.padding_mode]

    def sizes(self, sizes: Array) -> Array:
        top, left, bottom, right = self._pads
        return sizes + np.array([top + bottom, left + right])

    def check(self, canvas: Canvas) -> None:
        least = canvas.sizes.min(axis=0)
        if (self.sizes(least) < 1).any():
            got = f"{self.padding} for one of {tuple(least.tolist())}"
            raise checks.argument_error(self, "padding", "such that something of the image is left", got)
        check_reflection(self, self.padding_mode, np.array(self._pads).reshape(2, 2).max(0), canvas)

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        top, left, _, _ = self._pads
        start = np.broadcast_to(np.array([-top, -left]), canvas.sizes.shape)
        fill = fill_row(self, self.fill, canvas.channels).astype(np.uint8)
        sizes, pads = self.sizes(canvas.sizes), max(self._pads) > 0
        return Placement.cut(canvas.sizes, start, sizes, pads, self._border, fill)


def check_reflection(owner: object, padding_mode: str, most: Array, canvas: Canvas) -> None:
    """Check that padding `most` (2,) is less than every image's size: reflection has no pixels beyond the far edge."""
    limit = {"reflect": 1, "symmetric": 0}.get(padding_mode)
    if limit is not None and (most > canvas.sizes.min(axis=0) - limit).any():
        got = f"{most.max()} for an image of {tuple(canvas.sizes.min(axis=0).tolist())}"
        remedy = 'Pad less, or use padding_mode="edge".'
        raise checks.argument_error(
            owner, "padding", f"smaller than the image for padding_mode={padding_mode!r}", got, remedy
        )


class RandomCrop(Crop):
    """Cut `size` at a position drawn uniformly, after padding.

    The same as torchvision's RandomCrop.

    Args:
        size: (height, width) or one number for both, pixels.
        padding: One number, (left/right, top/bottom) or (left, top, right, bottom), pixels, negative as for Pad.
        pad_if_needed: Whether to pad an image that is smaller than `size`, on both sides by the missing pixels.
        fill: Level in [0, 255] for padding_mode "constant", one number or one per channel.
        padding_mode: "constant", "edge", "reflect" or "symmetric".
    """

    draws = 2

    def __init__(
        self,
        size: Size,
        padding: Size | None = None,
        pad_if_needed: bool = False,
        fill: Fill = 0,
        padding_mode: str = "constant",
    ) -> None:
        self._pair, self._pads = checks.size(self, size), parse_padding(self, 0 if padding is None else padding)
        self.size, self.padding, self.pad_if_needed = size, padding, pad_if_needed
        self.fill = check_fill(self, fill)
        self.padding_mode = checks.one_of(self, "padding_mode", padding_mode, list(PADDING_MODES))
        self._border = PADDING_MODES[self.padding_mode]

    def sizes(self, sizes: Array) -> Array:
        return repeated(len(sizes), *self._pair)

    def for_evaluation(self) -> Sequence[Transform]:
        return (CenterCrop(self.size),)

    def _padding(self, sizes: Array) -> tuple[Array, Array]:
        """Padding before and after, each (B, 2) for (height, width)."""
        top, left, bottom, right = self._pads
        before, after = repeated(len(sizes), top, left), repeated(len(sizes), bottom, right)
        if self.pad_if_needed:
            missing = np.maximum(np.array(self._pair) - (sizes + before + after), 0)
            before, after = before + missing, after + missing
        return before, after

    def check(self, canvas: Canvas) -> None:
        before, after = self._padding(canvas.sizes)
        padded, size = canvas.sizes + before + after, np.array(self._pair)
        small = (padded < size).any(axis=1)
        if small.any():
            number = int(small.argmax())
            got = f"{tuple(padded[number].tolist())} for image {number}"
            remedy = "Use pad_if_needed=True, or Resize before."
            raise checks.argument_error(self, "images", f"at least {tuple(size.tolist())} after padding", got, remedy)
        check_reflection(self, self.padding_mode, np.maximum(before, after).max(axis=0), canvas)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        before, after = self._padding(canvas.sizes)
        room = canvas.sizes + before + after - np.array(self._pair)
        return {"start": np.floor(uniforms * (room + 1)).astype(np.int64) - before}

    def describe(self, params: Params, sample: int) -> str:
        return "crop ({}, {})".format(*params["start"][sample])

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        fill = fill_row(self, self.fill, canvas.channels).astype(np.uint8)
        pads = any((padding > 0).any() for padding in self._padding(canvas.sizes))
        return Placement.cut(canvas.sizes, params["start"], self.sizes(canvas.sizes), pads, self._border, fill)


class RandomResizedCrop(Crop):
    """Cut a box of random area and aspect ratio and resize it to `size`, bit-equal to torchvision's CPU uint8 kernel.

    Args:
        size: (height, width) or one number for both, pixels.
        scale: Range of the box's area, as a fraction of the image's area.
        ratio: Range of the box's width / height, log-uniform.
        interpolation: "nearest", "nearest-exact", "bilinear" or "bicubic"; or "random", as timm: bilinear or bicubic
            for each sample, in two passes, which only the first step of a list can be.
        antialias: Whether to widen the filter when shrinking.
    """

    def __init__(
        self,
        size: Size,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Interpolation = "bilinear",
        antialias: bool | None = True,
    ) -> None:
        self.size, self._pair, self.antialias = size, checks.size(self, size), antialias
        self.scale = checks.interval(self, "scale", scale, 0, math.inf)
        self.ratio = checks.interval(self, "ratio", ratio, 1e-6, 1e6)
        self.interpolation = check_interpolation(self, interpolation, [*INTERPOLATIONS, "random"])
        self._mode = INTERPOLATIONS.get(self.interpolation, BILINEAR)
        self.must_be_first = self.interpolation == "random"
        self.draws = 2 * TRIES + 2 + self.must_be_first

    def sizes(self, sizes: Array) -> Array:
        return repeated(len(sizes), *self._pair)

    def for_evaluation(self) -> Sequence[Transform]:
        """Resize(round(1.14 * size)) and CenterCrop(size); bilinear instead of random."""
        height, width = self._pair
        larger = (round(1.14 * height), round(1.14 * width))
        size: Size = larger[0] if height == width else larger
        word = "bilinear" if self.must_be_first else self.interpolation
        return (Resize(size, word, antialias=self.antialias), CenterCrop(self.size))

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        height, width = canvas.sizes.T
        h, w, found = first_fit(uniforms, height, width, self._fits, self.scale, self.ratio)
        top = np.floor(uniforms[:, 2 * TRIES] * (height - h + 1))
        left = np.floor(uniforms[:, 2 * TRIES + 1] * (width - w + 1))
        if not found.all():  # no try fitted: the largest central box with an allowed ratio
            ratio, (low, high) = width / height, self.ratio
            central_w = np.where(ratio > high, np.maximum(np.rint(height * high), 1), width)
            central_h = np.where(ratio < low, np.maximum(np.rint(width / low), 1), height)
            lost = ~found
            h, w = np.where(lost, central_h, h), np.where(lost, central_w, w)
            top, left = np.where(lost, (height - h) // 2, top), np.where(lost, (width - w) // 2, left)
        box = np.empty((len(h), 4), np.int64)
        box[:, 0], box[:, 1], box[:, 2], box[:, 3] = top, left, h, w
        params = {"box": box, "sizes": canvas.sizes}
        return params | {"cubic": uniforms[:, -1] < 0.5} if self.must_be_first else params

    def straight(self, canvas: Canvas) -> Sequence[Straight] | None:
        if self.must_be_first:
            return None
        return (Boxes(canvas.size(self), TRIES, self.scale, self.ratio),)

    def describe(self, params: Params, sample: int) -> str:
        shown, whole = params["box"][sample, 2:].prod(), params["sizes"][sample].prod()
        return f"crop {100 * shown / whole:.0f}%"

    @staticmethod
    def _fits(h: Array, w: Array, height: Array, width: Array) -> Array:
        return (w > 0) & (w <= width) & (h > 0) & (h <= height)

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        size, zero = self.sizes(canvas.sizes), repeated(len(canvas), 0, 0)
        kinds = np.where(params["cubic"], BICUBIC, BILINEAR) if self.must_be_first else None
        return Placement(params["box"], size, zero, size, self._mode, bool(self.antialias), kinds=kinds)
