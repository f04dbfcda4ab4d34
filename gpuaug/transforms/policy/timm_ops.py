"""The ops of timm's policies: their names, their arguments as functions of the level, instructions and captions.

timm runs them on Pillow images. Tables, grey and contrast are Pillow's within one level; warps follow grid_sample, as
in torchvision on tensors, and a blur reflects the border where Pillow repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import MATRIX_SIZE, Blur, Factor, Warp
from gpuaug.program import OPERANDS, Instruction, Op
from gpuaug.transforms import tone
from gpuaug.transforms.arguments import INTERPOLATIONS, Level, fill_row
from gpuaug.transforms.base import Canvas
from gpuaug.transforms.blur import fixed_point
from gpuaug.transforms.geometric import warp_kinds

__all__ = ["BLURS", "KERNEL", "LEVELS", "TIMM_NAMES", "TIMM_NUMBER", "WARPS", "arguments_of", "caption_of", "timm_ops"]

Array = NDArray[Any]
Rule = Callable[[Array, Array, float], Array]  # (level / 10, sign, translate) -> the argument of timm's function

# timm's LEVEL_TO_ARG; `int` there truncates, which is floor here, as levels are not negative
LEVELS: dict[str, Rule | None] = {
    "Identity": None,
    "AutoContrast": None,
    "Equalize": None,
    "Invert": None,
    "Rotate": lambda level, sign, _: sign * (level * 30.0),
    "Posterize": lambda level, sign, _: np.floor(level * 4),
    "PosterizeIncreasing": lambda level, sign, _: 4 - np.floor(level * 4),
    "PosterizeOriginal": lambda level, sign, _: np.floor(level * 4) + 4,
    "Solarize": lambda level, sign, _: np.minimum(256, np.floor(level * 256)),
    "SolarizeIncreasing": lambda level, sign, _: 256 - np.minimum(256, np.floor(level * 256)),
    "SolarizeAdd": lambda level, sign, _: np.minimum(128, np.floor(level * 110)),
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), lambda level, sign, _: level * 1.8 + 0.1),
    **dict.fromkeys(
        ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"),
        lambda level, sign, _: np.maximum(0.1, 1.0 + sign * (level * 0.9)),
    ),
    **dict.fromkeys(("ShearX", "ShearY"), lambda level, sign, _: sign * (level * 0.3)),
    **dict.fromkeys(("TranslateXRel", "TranslateYRel"), lambda level, sign, translate: sign * (level * translate)),
    "Desaturate": lambda level, sign, _: np.clip(0.5 + 0.5 * level, 0.5, 1.0),
    "GaussianBlur": lambda level, sign, _: np.clip(0.1 + 1.9 * level, 0.1, 2.0),
    "GaussianBlurRand": lambda level, sign, _: np.clip(level, 0.0, 1.0),  # of 2 pixels; the radius is drawn below it
}
TIMM_NAMES = tuple(LEVELS)
TIMM_NUMBER = {name: number for number, name in enumerate(TIMM_NAMES)}
WARPS = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
BLURS = ("GaussianBlur", "GaussianBlurRand")
KERNEL = 13  # weights of a blur of radius 2: three boxes, each of at most 5 pixels

OPCODE = {
    "Identity": Op.IDENTITY,
    "AutoContrast": Op.AUTOCONTRAST,
    "Equalize": Op.EQUALIZE,
    **dict.fromkeys(WARPS, Op.WARP),
    **dict.fromkeys(("Color", "ColorIncreasing", "Desaturate"), Op.SATURATION),
    **dict.fromkeys(("Contrast", "ContrastIncreasing"), Op.CONTRAST),
    **dict.fromkeys(("Sharpness", "SharpnessIncreasing"), Op.SHARPNESS),
    **dict.fromkeys(BLURS, Op.BLUR),
}
OPCODES = np.array([OPCODE.get(name, Op.TABLE) for name in TIMM_NAMES], np.int32)


def solarize_add(add: Array) -> Array:
    """Add to the levels below 128, at most up to 255."""
    levels = np.arange(256)
    return np.where(levels < 128, np.minimum(255, levels + add[:, None]), levels).astype(np.uint8)


TONES: dict[str, Callable[[Array], Array]] = {
    "Invert": lambda value: tone.invert(len(value)),
    **dict.fromkeys(("Brightness", "BrightnessIncreasing"), tone.brightness),
    **dict.fromkeys(
        ("Posterize", "PosterizeIncreasing", "PosterizeOriginal"), lambda bits: tone.posterize(np.clip(bits, 0, 8))
    ),
    **dict.fromkeys(("Solarize", "SolarizeIncreasing"), tone.solarize),
    "SolarizeAdd": solarize_add,
}


class Resampling(Protocol):
    """How a policy resamples."""

    interpolation: str
    fill: Level


def arguments_of(ops: Array, level: Array, sign: Array, translate: float) -> Array:
    """The argument of timm's function for op numbers and levels on the scale of 0 to 10, all of one shape."""
    value = np.zeros(ops.shape)
    for number in np.unique(ops):
        rule = LEVELS[TIMM_NAMES[number]]
        if rule is not None:
            rows = ops == number
            value[rows] = rule(level[rows] / 10.0, sign[rows], translate)
    return value


def timm_ops(
    owner: Resampling, names: Sequence[str], ops: Array, value: Array, cubic: Array, canvas: Canvas
) -> list[Instruction]:
    """Instructions for op numbers and their arguments, each (B, places), one for each place.

    Args:
        names: Names of all ops that any draw could put there, apart from Identity.
        cubic: Whether a warp of that place is bicubic if the policy's interpolation is "random", (B, places).
    """
    size, places = ops.shape
    ops, value, cubic = (array.T.reshape(-1) for array in (ops, value, cubic))
    opcode = OPCODES[ops]
    if canvas.channels == 1:
        opcode[opcode == Op.SATURATION] = Op.IDENTITY
    operands = np.zeros((len(ops), OPERANDS), np.float32)
    factor = np.where(ops == TIMM_NUMBER["Desaturate"], np.clip(1.0 - value, 0.0, 1.0), value)
    operands[:, Factor.FACTOR], operands[:, Factor.REST] = factor, 1.0 - factor

    rows = np.flatnonzero(opcode == Op.WARP)
    sides = [np.tile(side, places)[rows] if canvas.several else side for side in canvas.sides]
    operands[rows, Warp.MATRIX : MATRIX_SIZE] = inverses(ops[rows], value[rows], sides).reshape(-1, MATRIX_SIZE)
    if owner.interpolation == "random":
        kinds = np.where(cubic, INTERPOLATIONS["bicubic"], INTERPOLATIONS["bilinear"])
        operands[rows, Warp.INTERPOLATION] = kinds[rows]
    else:
        operands[rows, Warp.INTERPOLATION] = INTERPOLATIONS[owner.interpolation]
    operands[rows, Warp.HAS_FILL] = owner.fill is not None
    fill = np.broadcast_to(fill_row(owner, owner.fill, canvas.channels), (len(ops), canvas.channels))

    table = np.zeros((len(ops), 256), np.uint8)
    for name in names:
        if name in TONES:
            rows = np.flatnonzero(ops == TIMM_NUMBER[name])
            table[rows] = TONES[name](value[rows])

    kernel = None
    if any(name in BLURS for name in names):
        rows = np.flatnonzero(opcode == Op.BLUR)
        operands[rows, Blur.WIDTH] = operands[rows, Blur.HEIGHT] = KERNEL
        kernel = np.zeros((len(ops), 2 * KERNEL), np.int16)
        kernel[rows] = np.tile(fixed_point(three_boxes(value[rows])), 2)

    possible = possible_of(owner.interpolation, names)
    parts = [slice(place * size, (place + 1) * size) for place in range(places)]
    return [
        Instruction(
            possible, opcode[part], operands[part], fill[part], table[part], None if kernel is None else kernel[part]
        )
        for part in parts
    ]


def possible_of(interpolation: str, names: Sequence[str]) -> frozenset[int]:
    """`Instruction.possible` of a place where any of these ops, or none, may be."""
    found = frozenset({int(Op.IDENTITY), *(int(OPCODES[TIMM_NUMBER[name]]) for name in names)})
    if any(name in WARPS for name in names):
        for kind in ("bilinear", "bicubic") if interpolation == "random" else (interpolation,):
            found |= warp_kinds(kind)
    return found


def inverses(ops: Array, value: Array, sides: Sequence[Array | int]) -> Array:
    """(n, 3, 3) what timm gives to Pillow's Image.transform, from pixel index to pixel index.

    Pillow's matrices map corner coordinates, so index 0 is 0.5 there. Shears keep the top left corner.
    """
    height, width = sides
    turn, shear_x, shear_y, shift_x, shift_y = (np.where(ops == TIMM_NUMBER[name], value, 0.0) for name in WARPS)
    angle = -np.radians(turn)
    middle_x, middle_y = width * 0.5, height * 0.5
    m = np.zeros((len(ops), 3, 3))
    m[:, 0, 0], m[:, 0, 1], m[:, 1, 0], m[:, 1, 1] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    m[:, 0, 1] += shear_x
    m[:, 1, 0] += shear_y
    m[:, 0, 2] = middle_x - np.cos(angle) * middle_x - np.sin(angle) * middle_y + shift_x * width
    m[:, 1, 2] = middle_y + np.sin(angle) * middle_x - np.cos(angle) * middle_y + shift_y * height
    m[:, :2, 2] += 0.5 * (m[:, :2, 0] + m[:, :2, 1]) - 0.5
    m[:, 2, 2] = 1.0
    return m


def three_boxes(radius: Array) -> Array:
    """(n, KERNEL) weights of Pillow's GaussianBlur(radius): three boxes of the same variance, with fractional ends."""
    variance = radius**2 / 3
    whole = np.floor((np.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    distance = np.abs(np.arange(-2, 3))
    inside = np.where(distance <= whole[:, None], 1.0, np.where(distance == whole[:, None] + 1, part[:, None], 0.0))
    box = inside / inside.sum(axis=1, keepdims=True)
    weights = box
    for _ in range(2):
        wider = np.zeros((len(box), weights.shape[1] + 4))
        for tap in range(5):
            wider[:, tap : tap + weights.shape[1]] += box[:, tap : tap + 1] * weights
        weights = wider
    return weights


def caption_of(number: int, value: float) -> str:
    """A short description of an op, e.g. "Rotate 9°"."""
    name = TIMM_NAMES[number]
    shown = name.removesuffix("Increasing").removesuffix("Original").removesuffix("Rel").removesuffix("Rand")
    if name in ("ShearX", "ShearY"):
        return f"{shown} {math.degrees(math.atan(value)):.0f}°"
    if name == "Rotate":
        return f"{shown} {value:.0f}°"
    if name in ("TranslateXRel", "TranslateYRel"):
        return f"{shown} {100 * value:.0f}%"
    if name in BLURS:
        return f"{shown} {value:.1f} px"
    if name in ("AutoContrast", "Equalize", "Invert"):
        return shown
    if OPCODES[number] == Op.TABLE and "Brightness" not in name:
        return f"{shown} {value:.0f}"
    return f"{shown} {value:.2f}"
