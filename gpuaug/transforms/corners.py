"""Crops at fixed corners, and the lists of torchvision's FiveCrop and TenCrop, each of which makes one view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.transforms.arguments import Size
from gpuaug.transforms.base import Canvas, Crop, Params, Placement, Transform, repeated
from gpuaug.transforms.crop import CenterCrop
from gpuaug.transforms.geometric import RandomHorizontalFlip, RandomVerticalFlip

__all__ = ["CornerCrop", "CropViews", "FiveCrop", "TenCrop"]

Array = NDArray[Any]

CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1), "center": None}


class CornerCrop(Crop, registered=False):
    """Cut `size` from a corner, or from the middle.

    One of the five crops of torchvision's FiveCrop.

    Args:
        size: (height, width) or one number for both, pixels; at most the size of the image.
        corner: "top left", "top right", "bottom left", "bottom right" or "center".

    Raises:
        ValueError: If `size` or `corner` is not one of these.
    """

    def __init__(self, size: Size, corner: str) -> None:
        self.size, self._pair = size, checks.size(self, size)
        self.corner = checks.one_of(self, "corner", corner, list(CORNERS))

    def check(self, canvas: Canvas) -> None:
        """Check that every image is large enough.

        Raises:
            ValueError: If an image is smaller than `size`.
        """
        small = (canvas.sizes < np.array(self._pair)).any(axis=1)
        if small.any():
            got = f"{tuple(canvas.sizes[small.argmax()].tolist())} for image {int(small.argmax())}"
            raise checks.argument_error(self, "images", f"at least {self._pair}", got, "Put a Resize before it.")

    def sizes(self, sizes: Array) -> Array:
        return repeated(len(sizes), *self._pair)

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        side = CORNERS[self.corner]
        if side is None:
            return CenterCrop(self.size).placement(params, canvas)
        start = (canvas.sizes - np.array(self._pair)) * np.array(side)
        return Placement.cut(canvas.sizes, start, self.sizes(canvas.sizes), may_pad=False)


class CropViews:
    """Lists of transforms, one for each view: what `MultiView` and `TTA` take as `views`.

    It can be iterated, to put other steps before or after each list: `[[*crop, ga.ToDtype(...)] for crop in views]`.
    """

    def __init__(self, lists: Sequence[Sequence[Transform]], written: str) -> None:
        self._lists, self._written = [list(steps) for steps in lists], written

    def __len__(self) -> int:
        return len(self._lists)

    def __getitem__(self, number: int) -> list[Transform]:
        return list(self._lists[number])

    def __iter__(self) -> Iterator[list[Transform]]:
        return map(list, self._lists)

    def __repr__(self) -> str:
        return self._written


class FiveCrop(CropViews):
    """The four corners and the middle of each image, as five views.

    The same as torchvision's FiveCrop, in its order: top left, top right, bottom left, bottom right, center. It holds a
    list for each view; `MultiView(views)` and `TTA(model, views)` run them.

    Args:
        size: (height, width) or one number for both, pixels; at most the size of the images.
    """

    def __init__(self, size: Size) -> None:
        super().__init__([[CornerCrop(size, corner)] for corner in CORNERS], f"FiveCrop(size={size!r})")
        self.size = size


class TenCrop(CropViews):
    """The five crops of each image and those of its mirror image, as ten views.

    The same as torchvision's TenCrop, in its order: those of FiveCrop, then those of the mirrored image.

    Args:
        size: (height, width) or one number for both, pixels; at most the size of the images.
        vertical_flip: Whether to mirror vertically.
    """

    def __init__(self, size: Size, vertical_flip: bool = False) -> None:
        mirror = (RandomVerticalFlip if vertical_flip else RandomHorizontalFlip)(p=1.0)
        five = FiveCrop(size)
        more = ", vertical_flip=True" if vertical_flip else ""
        super().__init__([*five, *([mirror, *crop] for crop in five)], f"TenCrop(size={size!r}{more})")
        self.size, self.vertical_flip = size, bool(vertical_flip)
