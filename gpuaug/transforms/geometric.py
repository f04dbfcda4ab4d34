"""Flips and warps, which move pixels on the canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.instructions import MATRIX_SIZE, Warp
from gpuaug.program import Feature, Instruction, Op
from gpuaug.transforms import matrix
from gpuaug.transforms.arguments import INTERPOLATIONS, Fill, Interpolation, Level, Range, fill_row
from gpuaug.transforms.arguments import fill as check_fill
from gpuaug.transforms.arguments import interpolation as check_interpolation
from gpuaug.transforms.base import Canvas, Params, Pixel
from gpuaug.transforms.straight import Mirror, Straight

__all__ = ["RandomAffine", "RandomHorizontalFlip", "RandomPerspective", "RandomRotation", "RandomVerticalFlip"]

Array = NDArray[Any]

WARPS = ("nearest", "bilinear", "bicubic")
SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])  # corners (x, y): top left, top right, bottom right, bottom left


@lru_cache(maxsize=64)
def flip(size: int, horizontal: int, vertical: int) -> Instruction:
    """A FLIP instruction, the same for every draw; it must not be written to."""
    return Instruction.of(Op.FLIP, size, horizontal, vertical)


class RandomHorizontalFlip(Pixel):
    """Mirror left and right.

    The same as torchvision's RandomHorizontalFlip.

    Args:
        p: Chance per sample.
    """

    moves = True

    def __init__(self, p: float = 0.5) -> None:
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [flip(len(canvas), 1, 0)]

    def describe(self, params: Params, sample: int) -> str:
        return "flip"

    def detail(self, params: Params, sample: int) -> str:
        return "left and right mirrored"

    def straight(self, canvas: Canvas) -> Sequence[Straight]:
        return (Mirror(0, float(self.p)),)


class RandomVerticalFlip(Pixel):
    """Mirror top and bottom.

    The same as torchvision's RandomVerticalFlip.

    Args:
        p: Chance per sample.
    """

    moves = True

    def __init__(self, p: float = 0.5) -> None:
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [flip(len(canvas), 0, 1)]

    def describe(self, params: Params, sample: int) -> str:
        return "upside down"

    def detail(self, params: Params, sample: int) -> str:
        return "top and bottom mirrored"

    def straight(self, canvas: Canvas) -> Sequence[Straight]:
        return (Mirror(1, float(self.p)),)


def warp(
    owner: object, inverse: Array, interpolation: str, fill: Level, channels: int, projective: bool = False
) -> Instruction:
    """A WARP instruction for inverse matrices (B, 3, 3), pixel index to pixel index."""
    size = len(inverse)
    operands = np.zeros((size, 16), np.float32)
    operands[:, Warp.MATRIX : MATRIX_SIZE] = inverse.reshape(size, MATRIX_SIZE)
    operands[:, Warp.INTERPOLATION] = INTERPOLATIONS[interpolation]
    operands[:, Warp.HAS_FILL], operands[:, Warp.PROJECTIVE] = fill is not None, projective
    rows = np.broadcast_to(fill_row(owner, fill, channels), (size, channels))
    possible = warp_kinds(interpolation) | ({Feature.PROJECTIVE} if projective else set())
    return Instruction(possible, np.full(size, Op.WARP, np.int32), operands, fill=rows)


def warp_kinds(interpolation: str) -> frozenset[int]:
    """`Instruction.possible` of a WARP."""
    return {
        "nearest": frozenset({Op.WARP}),
        "bilinear": frozenset({Op.WARP, Feature.BILINEAR}),
        "bicubic": frozenset({Op.WARP, Feature.BICUBIC}),
    }[interpolation]


def angles(owner: object, argument: str, value: Range) -> tuple[float, float]:
    """A range of degrees; one number means (-value, value)."""
    if checks.is_number(value):
        limit = checks.number(owner, argument, value, 0, math.inf, "degrees")
        return -limit, limit
    return checks.interval(owner, argument, value, what="in degrees")


def check_center(owner: object, center: Sequence[float] | None) -> tuple[float, float] | None:
    if center is None:
        return None
    if not isinstance(center, Sequence) or len(center) != 2 or not all(map(checks.is_number, center)):
        raise checks.argument_error(owner, "center", "None or (x, y), in pixels from the top left corner", repr(center))
    return float(center[0]), float(center[1])


class RandomRotation(Pixel):
    """Rotate by an angle drawn uniformly, counter-clockwise on the screen.

    Neighbouring RandomRotation, RandomAffine and RandomPerspective with the same interpolation and fill are merged and
    resampled once; `Augment(exact=True)` resamples for each, as torchvision does.

    Args:
        degrees: Range of the angle in degrees, (low, high), or one number for (-degrees, degrees).
        interpolation: "nearest", "bilinear" or "bicubic" (a = -0.75, as grid_sample; torchvision has none on tensors).
        expand: Only False is accepted: the size of an expanded image depends on its angle.
        center: Centre of the rotation, (x, y) pixels from the top left corner; None is the middle.
        fill: Level in [0, 255] outside the image, one number or one per channel.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 1
    composable = True
    moves = True

    def __init__(
        self,
        degrees: Range,
        interpolation: Interpolation = "nearest",
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: Fill = 0,
    ) -> None:
        if expand:
            expected = "False, since the size of an expanded image depends on its angle, and a batch has one size"
            raise checks.argument_error(self, "expand", expected, repr(expand), "Pad before it instead.")
        self.degrees, self.expand = degrees, expand
        self._span = angles(self, "degrees", degrees)
        self.interpolation = check_interpolation(self, interpolation, WARPS)
        self.center = check_center(self, center)
        self.fill = check_fill(self, fill)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        low, high = self._span
        return {"degrees": low + uniforms[:, 0] * (high - low)}

    def describe(self, params: Params, sample: int) -> str:
        return f"rotate {params['degrees'][sample]:.0f}°"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        zero = np.zeros(len(canvas))
        # torchvision's affine turns clockwise, its rotate counter-clockwise
        inverse = matrix.affine(canvas.sides, -params["degrees"], (zero, zero), 1.0, (zero, zero), self.center)
        return [warp(self, inverse, self.interpolation, self.fill, canvas.channels)]


class RandomAffine(Pixel):
    """Rotate, translate, scale and shear, drawn uniformly, keeping the centre.

    Merged with neighbouring geometric steps as described in RandomRotation.

    Args:
        degrees: Range of the angle in degrees, clockwise, as in torchvision's RandomAffine: (low, high), or one number
            for (-degrees, degrees).
        translate: Largest (x, y) shift as fractions of (width, height), each in [0, 1]; rounded to pixels.
        scale: Range of the factor of the size.
        shear: Range in degrees along x: one number, (low, high), or (x low, x high, y low, y high).
        interpolation: "nearest", "bilinear" or "bicubic".
        fill: Level in [0, 255] outside the image, one number or one per channel.
        center: Centre of the rotation, (x, y) pixels from the top left corner; None is the middle.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 6
    composable = True
    moves = True

    def __init__(
        self,
        degrees: Range,
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: Range | None = None,
        interpolation: Interpolation = "nearest",
        fill: Fill = 0,
        center: Sequence[float] | None = None,
    ) -> None:
        span = angles(self, "degrees", degrees)
        if translate is not None:
            if not isinstance(translate, Sequence) or len(translate) != 2:
                raise checks.argument_error(self, "translate", "None or (x, y) fractions in [0, 1]", repr(translate))
            for value in translate:
                checks.number(self, "translate", value, 0, 1, "a fraction")
        if scale is not None:
            checks.interval(self, "scale", scale, 1e-6, 1e6)
        self.degrees, self.translate, self.scale, self.shear = degrees, translate, scale, shear
        self._span, self._shears = span, self._parse_shear(shear)
        self.interpolation = check_interpolation(self, interpolation, WARPS)
        self.fill = check_fill(self, fill)
        self.center = check_center(self, center)

    def _parse_shear(self, shear: Range | None) -> tuple[tuple[float, float], tuple[float, float]]:
        if shear is None:
            return (0.0, 0.0), (0.0, 0.0)
        if isinstance(shear, Sequence) and len(shear) == 4:
            return angles(self, "shear", tuple(shear[:2])), angles(self, "shear", tuple(shear[2:]))
        return angles(self, "shear", shear), (0.0, 0.0)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        height, width = canvas.sides
        shift_x, shift_y = self.translate or (0.0, 0.0)
        shear_x, shear_y = self._shears
        ranges = [
            self._span,
            (-shift_x * width, shift_x * width),
            (-shift_y * height, shift_y * height),
            self.scale or (1.0, 1.0),
            shear_x,
            shear_y,
        ]
        degrees, x, y, scale, shear_x, shear_y = (
            low + number * (high - low) for number, (low, high) in zip(uniforms.T, ranges, strict=True)
        )
        return {
            "degrees": degrees,
            "translate": np.rint(np.stack([x, y], axis=1)),
            "scale": scale,
            "shear": np.stack([shear_x, shear_y], axis=1),
        }

    def describe(self, params: Params, sample: int) -> str:
        return f"affine {params['degrees'][sample]:.0f}°, ×{params['scale'][sample]:.2f}"

    def detail(self, params: Params, sample: int) -> str:
        degrees, scale = params["degrees"][sample], params["scale"][sample]
        (right, down), (x, y) = params["translate"][sample], params["shear"][sample]
        sheared = f", sheared by {x:.0f}° and {y:.0f}°" if x or y else ""
        return f"{degrees:.0f}° clockwise, {right:.0f} px right, {down:.0f} px down, ×{scale:.2f}{sheared}"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        translate, shear = params["translate"].T, params["shear"].T
        inverse = matrix.affine(
            canvas.sides,
            params["degrees"],
            (translate[0], translate[1]),
            params["scale"],
            (shear[0], shear[1]),
            self.center,
        )
        return [warp(self, inverse, self.interpolation, self.fill, canvas.channels)]


class RandomPerspective(Pixel):
    """Move the four corners inwards by whole pixels drawn uniformly.

    The same as torchvision's RandomPerspective.

    Merged with neighbouring geometric steps as described in RandomRotation.

    Args:
        distortion_scale: Largest move of a corner as a fraction of half the size, in [0, 1].
        p: Chance per sample.
        interpolation: "nearest", "bilinear" or "bicubic".
        fill: Level in [0, 255] outside the image, one number or one per channel.
    """

    draws = 8
    composable = True
    moves = True

    def __init__(
        self, distortion_scale: float = 0.5, p: float = 0.5, interpolation: Interpolation = "bilinear", fill: Fill = 0
    ) -> None:
        self.distortion_scale = checks.number(self, "distortion_scale", distortion_scale, 0, 1, "a fraction")
        self.p = checks.probability(self, p)
        self.interpolation = check_interpolation(self, interpolation, WARPS)
        self.fill = check_fill(self, fill)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        sizes = canvas.sizes[:, None, ::-1]  # (B, 1, 2) as (width, height)
        bounds = (self.distortion_scale * (sizes // 2)).astype(np.int64) + 1
        inward = np.floor(uniforms.reshape(-1, 4, 2) * bounds)
        return {"corners": inward + SQUARE * (sizes - bounds)}  # (B, 4, 2) as (x, y)

    def detail(self, params: Params, sample: int) -> str:
        corners = [f"({y:.0f}, {x:.0f})" for x, y in params["corners"][sample]]
        return f"corners at {', '.join(corners[:3])} and {corners[3]}, clockwise from the top left"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        start = SQUARE * (canvas.sizes[:, None, ::-1] - 1)
        inverse = matrix.perspective(start, params["corners"])
        return [warp(self, inverse, self.interpolation, self.fill, canvas.channels, projective=True)]
