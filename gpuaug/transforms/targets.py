"""Steps for the boxes of a batch: they drop or clip boxes at their place in the list, and change no pixel."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from torch import Tensor

from gpuaug import checks
from gpuaug.transforms.base import Builder, Canvas, Kind, Params, Transform
from gpuaug.transforms.straight import Straight

__all__ = ["ClampBoundingBoxes", "SanitizeBoundingBoxes", "TargetStep"]


class TargetStep(Transform, abc.ABC, registered=False):
    """A step that does nothing to pixels, and something to boxes."""

    kind = Kind.TARGET
    clips = False  # whether it clips boxes to their image
    clamping_mode: str | None = "auto"  # how it clips those that are rotated; "auto": as the boxes say
    drops = False  # whether it may drop boxes
    asks_what_is_shown = False  # whether that depends on how much of a box is left
    follow: Sequence[str] = ()  # further keys that lose what belongs to a dropped box

    @property
    def numbers(self) -> int:
        return 0

    def straight(self, canvas: Canvas) -> Sequence[Straight]:
        return ()

    def check_order(self, argument: str, floats: bool) -> None:
        """It may be at any place."""

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def lower(self, params: Params, builder: Builder) -> None:
        builder.check_targets(self)

    def describe(self, params: Params, sample: int) -> str:
        return ""

    def detail(self, params: Params, sample: int) -> str:
        return "for boxes, changes no pixel"

    def keep(self, sides: Tensor, inside: Tensor, shown: Tensor | None) -> Tensor:
        """(M,) bool, the boxes to keep.

        Args:
            sides: Width and height of the boxes at this step, (M, 2), in pixels.
            inside: Whether no part of a box is outside of its image, (M,) bool.
            shown: Share of each box's area that crops and the images' borders have left, (M,), if the step asks for it.
        """
        raise NotImplementedError


class ClampBoundingBoxes(TargetStep, registered=False):
    """Clip boxes to their image. The same as torchvision's ClampBoundingBoxes.

    Every step that moves boxes clips them already, so it is needed only for boxes that reach out of their image before
    the first such step, or to clip rotated boxes in another way.

    Args:
        clamping_mode: "auto": as the boxes' own `clamping_mode` says, "soft" if they have none. Of rotated boxes "hard"
            keeps a box of the same angle that is inside of the image, "soft" the smallest one around what the image
            shows. None: no clipping.

    Raises:
        ValueError: If `clamping_mode` is none of these.
    """

    clips = True

    def __init__(self, clamping_mode: str | None = "auto") -> None:
        if clamping_mode is not None:
            checks.one_of(self, "clamping_mode", clamping_mode, ["auto", "soft", "hard"])
        self.clamping_mode = clamping_mode


class SanitizeBoundingBoxes(TargetStep, registered=False):
    """Drop boxes that are too small, or of which too little is left, with all that belongs to them.

    A dropped box drops the rows of the same number in `labels`, `keypoints` and `masks` of its image, and in the keys
    that `follow` names. With the defaults the same as torchvision's SanitizeBoundingBoxes. It needs boxes in lists, one
    tensor for each image, as the number of boxes changes. For boxes on a CUDA device it waits for the device, since the
    host has to know how many are left.

    Args:
        min_size: Least width and height of a box, in pixels.
        min_area: Least area of a box, in square pixels.
        min_visibility: Least share of a box's area that crops and the borders of the image have left, in [0, 1].
        follow: Names of further keys of the targets with one row for each box, such as "iscrowd" or "area".

    Raises:
        ValueError: If an argument is out of range.
    """

    drops = True

    def __init__(
        self, min_size: float = 1.0, min_area: float = 1.0, min_visibility: float = 0.0, follow: Sequence[str] = ()
    ) -> None:
        self.min_size = checks.number(self, "min_size", min_size, 0, 1e6, "pixels")
        self.min_area = checks.number(self, "min_area", min_area, 0, 1e12, "square pixels")
        self.min_visibility = checks.number(self, "min_visibility", min_visibility, 0, 1, "a share")
        if (
            isinstance(follow, str)
            or not isinstance(follow, Sequence)
            or not all(isinstance(name, str) for name in follow)
        ):
            raise checks.argument_error(self, "follow", "a list of names of keys", repr(follow))
        self.follow = list(follow)

    @property
    def asks_what_is_shown(self) -> bool:  # type: ignore[override]
        return self.min_visibility > 0

    def keep(self, sides: Tensor, inside: Tensor, shown: Tensor | None) -> Tensor:
        width, height = sides.unbind(1)
        large = (width >= self.min_size) & (height >= self.min_size) & (width * height >= self.min_area)
        return large & inside if shown is None else large & inside & (shown >= self.min_visibility)
