"""What a transform knows about the images that reach it, and which part of them a crop reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import program

__all__ = ["Canvas", "Placement", "Seen", "repeated", "whole_boxes"]

Array = NDArray[Any]


@lru_cache(maxsize=256)
def repeated(count: int, *row: int) -> Array:
    """(count, len(row)) int64, the same row for every sample, without copies; read-only."""
    return np.broadcast_to(np.array(row, np.int64), (count, len(row)))


def whole_boxes(sizes: Array) -> Array:
    """(B, 4) boxes (top, left, height, width) of all of each image of `sizes` (B, 2)."""
    if sizes.strides[0] == 0:
        return repeated(len(sizes), 0, 0, *sizes[0].tolist())
    return np.concatenate([np.zeros_like(sizes), sizes], axis=1)


@dataclass(frozen=True)
class Seen:
    """What a step that chooses by the boxes (`Transform.sees_boxes`) knows of them, and further draws for its search.

    boxes: (M, 4) float64, x1, y1, x2, y2 in pixels of the images at this step. owners: The sample of each, (M,),
    ascending. draw: Function of (rows (n,), first block, number of blocks) that returns (n, 4 * blocks) uniforms of
    these samples; blocks of the step count from 1.
    """

    boxes: Array
    owners: Array
    draw: Callable[[Array, int, int], Array]


@dataclass(frozen=True)
class Canvas:
    """The images at a step: sizes (B, 2) int, (height, width) in pixels, and number of channels.

    seen: Their boxes, for a step that chooses by them.
    """

    sizes: Array
    channels: int
    seen: Seen | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def several(self) -> bool:
        """Whether the images differ in size."""
        return bool(self.sizes.strides[0] and (self.sizes != self.sizes[0]).any())  # a repeated row has stride 0

    @cached_property
    def groups(self) -> list[tuple[Any, tuple[int, int]]]:
        """The rows of the images of each (height, width), in the order of the batch: arrays, or a slice of all."""
        if not self.several:
            height, width = self.sizes[0].tolist()
            return [(slice(None), (height, width))]
        sizes, number = np.unique(self.sizes, axis=0, return_inverse=True)
        number = number.reshape(-1)
        rows = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
        return [(group, (int(height), int(width))) for group, (height, width) in zip(rows, sizes, strict=True)]

    @property
    def sides(self) -> tuple[Any, Any]:
        """Height and width: two numbers, or (B,) each if the images differ."""
        if self.several:
            height, width = self.sizes.T
        else:
            height, width = self.sizes[0].tolist()
        return height, width

    def size(self, owner: object) -> tuple[int, int]:
        """The (height, width) of all images.

        Raises:
            ValueError: If they differ.
        """
        if self.several:
            name = owner if isinstance(owner, str) else type(owner).__name__
            raise ValueError(
                f"{name}: `images` must have one size at this step, got sizes from {tuple(self.sizes.min(0).tolist())} "
                f"to {tuple(self.sizes.max(0).tolist())}. Put RandomResizedCrop, RandomCrop, CenterCrop or "
                "Resize((height, width)) before it."
            )
        height, width = self.sizes[0].tolist()
        return height, width


@dataclass(frozen=True)
class Placement:
    """The part of an image that a crop reads, relative to the image before it; see `program.Window` for the fields."""

    box: Array  # (B, 4)
    resized: Array  # (B, 2)
    start: Array  # (B, 2)
    size: Array  # (B, 2), size of the result
    interpolation: int = program.BILINEAR
    antialias: bool = True
    padding_mode: int = program.CONSTANT
    fill: Array | None = None  # (C,) uint8
    # whether any draw may do it, so that what is launched does not depend on the draw
    may_resample: bool = True  # resample
    may_crop: bool = False  # show only a part of the resampled image
    may_pad: bool = False  # reach outside of the image
    min_resized: Array | None = None  # (2,) the smallest `resized` of any draw; None: that of this draw
    kinds: Array | None = None  # (B,) interpolation of each sample; None: `interpolation` for all
    centred: Array | None = None  # (B,) bool, whose boxes become empty if their centre is outside; None: none

    @classmethod
    def cut(
        cls, sizes: Array, start: Array, size: Array, may_pad: bool, padding_mode: int = 0, fill: Array | None = None
    ) -> Placement:
        """No resampling: the part of images (B, 2) `sizes` that starts at `start`, padded where it reaches outside."""
        box = whole_boxes(sizes)
        return cls(
            box,
            sizes,
            start,
            size,
            padding_mode=padding_mode,
            fill=fill,
            may_resample=False,
            may_crop=True,
            may_pad=may_pad,
        )

    @property
    def statics(self) -> tuple[Any, ...]:
        """What all samples of a batch must share."""
        fill = () if self.fill is None or not self.fill.any() else tuple(self.fill.tolist())
        return self.interpolation, self.antialias, self.padding_mode, fill

    @classmethod
    def choose(cls, placements: Sequence[Placement], chosen: Array) -> Placement:
        """The placement of `chosen` (B,) for each sample; `statics` are those of the first."""
        rows = np.arange(len(chosen))
        fields: dict[str, Any] = {
            name: np.stack([getattr(p, name) for p in placements])[chosen, rows] for name in ("box", "resized", "start")
        }
        fields |= {name: any(getattr(p, name) for p in placements) for name in ("may_resample", "may_crop", "may_pad")}
        fields["min_resized"] = np.min([p.resized.min(axis=0) for p in placements], axis=0)
        return replace(placements[0], **fields)
