"""The ops that the policies draw: their numbers, strengths, instructions and captions, with torchvision's tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gpuaug.instructions import MATRIX_SIZE, Factor, Warp
from gpuaug.program import OPERANDS, Instruction, Op
from gpuaug.transforms import matrix, tone
from gpuaug.transforms.arguments import INTERPOLATIONS, Level, fill_row
from gpuaug.transforms.base import Canvas
from gpuaug.transforms.geometric import warp_kinds

__all__ = [
    "BLENDS", "KINDS", "MOST", "NAMES", "NUMBER", "SIGNED", "Book", "caption", "compute_ops", "magnitudes", "signed",
]  # fmt: skip

Array = NDArray[Any]

NAMES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
NUMBER = {name: number for number, name in enumerate(NAMES)}
OPCODES = np.array(
    [Op.IDENTITY] + [Op.WARP] * 5
    + [Op.TABLE, Op.SATURATION, Op.CONTRAST, Op.SHARPNESS, Op.TABLE, Op.TABLE, Op.AUTOCONTRAST, Op.EQUALIZE, Op.TABLE],
    np.int32,
)  # fmt: skip
TONES: dict[str, Callable[[Array], Array]] = {  # functions of the magnitudes
    "Brightness": lambda magnitude: tone.brightness(1.0 + magnitude),
    "Posterize": lambda magnitude: tone.posterize(np.trunc(magnitude)),
    "Solarize": lambda magnitude: tone.solarize(255.0 * magnitude),
    "Invert": lambda magnitude: tone.invert(len(magnitude)),
}
SIGNED = np.array([1 <= number <= 9 for number in range(len(NAMES))])
KINDS = 14  # ops that RandAugment and TrivialAugmentWide draw: all but Invert
BLENDS = [NUMBER[name] for name in ("Brightness", "Color", "Contrast", "Sharpness")]


FLOAT32: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's defaults are set to


@lru_cache(maxsize=1024)  # batches may hold many sizes
def magnitudes(kind: str, bins: int, height: int, width: int) -> Array:
    """(ops, bins) magnitude of each op, before the sign, as torchvision's _AUGMENTATION_SPACE of that policy."""
    shear, shift_x, shift_y, rotate, blend, levels, most_bits = {
        "standard": (0.3, 150.0 / 331.0 * width, 150.0 / 331.0 * height, 30.0, 0.9, 4, 8),
        "wide": (0.99, 32.0, 32.0, 135.0, 0.99, 6, 8),
        "augmix": (0.3, width / 3.0, height / 3.0, 30.0, 0.9, 4, 4),
    }[kind]
    table = torch.zeros(len(NAMES), bins, dtype=torch.float64, device="cpu")
    for name, end in {
        "ShearX": shear, "ShearY": shear, "TranslateX": shift_x, "TranslateY": shift_y, "Rotate": rotate,
        "Brightness": blend, "Color": blend, "Contrast": blend, "Sharpness": blend,
    }.items():  # fmt: skip
        table[NUMBER[name]] = torch.linspace(0.0, end, bins, **FLOAT32)  # float32 first, as torchvision
    table[NUMBER["Posterize"]] = (most_bits - (torch.arange(bins, **FLOAT32) / ((bins - 1) / levels))).round().int()
    table[NUMBER["Solarize"]] = torch.linspace(1.0, 0.0, bins, **FLOAT32)
    return table.numpy()


class Warping(Protocol):
    """How a policy resamples."""

    interpolation: str
    fill: Level


MOST = 4096  # instructions in a book


class Book:
    """Every instruction a policy can draw, computed once: each op at each strength, with either sign."""

    def __init__(self, owner: Warping, strengths: Array, canvas: Canvas) -> None:
        """`strengths` (ops, bins) are magnitudes before the sign."""
        count, bins = strengths.shape
        both = np.stack([strengths, np.where(SIGNED[:, None], -strengths, strengths)], axis=2)
        self.magnitude = both.reshape(-1)  # instruction (op, bin, sign) is number (op * bins + bin) * 2 + sign
        self.bins, self.first = bins, strengths[:, 0].copy()
        span = strengths[:, -1] - strengths[:, 0]  # strengths are even steps, whole numbers of them for posterize
        self.per_bin = np.where(span == 0, 0.0, (bins - 1) / np.where(span == 0, 1.0, span))
        ops = np.arange(count).repeat(2 * bins)
        (self.instruction,) = compute_ops(owner, ops[:, None], self.magnitude[:, None], canvas)
        self.words = words(self.instruction)

    def find(self, ops: Array, magnitude: Array) -> Array | None:
        """(B, places) number of each instruction; None if one is not in the book, because the draw was changed."""
        number = ops
        if self.bins > 1:
            steps = (np.abs(magnitude) - self.first[ops]) * self.per_bin[ops]
            number = ops * self.bins + np.rint(steps).astype(np.int64)
        number = 2 * number + np.signbit(magnitude)
        good = self.magnitude.take(number, mode="clip") == magnitude
        good |= ops == NUMBER["Identity"]  # where an op does not run, its magnitude stays in the draw
        return number if good.all() else None


def words(instruction: Instruction) -> Array:
    """(n, 1 + 16 + C + 64) int32: opcode, operands, fill and table of each instruction, one after another."""
    parts = [instruction.opcode[:, None], instruction.operands, instruction.fill, instruction.table]
    return np.concatenate([np.ascontiguousarray(part).view(np.int32) for part in parts], axis=1)


def compute_ops(owner: Warping, ops: Array, magnitude: Array, canvas: Canvas) -> list[Instruction]:
    """Instructions for op numbers and signed magnitudes, each (B, places), without a book; one for each place."""
    size, places = ops.shape
    ops, magnitude = ops.T.reshape(-1), magnitude.T.reshape(-1)
    opcode = OPCODES[ops]
    if canvas.channels == 1:
        opcode[opcode == Op.SATURATION] = Op.IDENTITY
    operands = np.zeros((len(ops), OPERANDS), np.float32)
    operands[:, Factor.FACTOR], operands[:, Factor.REST] = 1.0 + magnitude, 1.0 - (1.0 + magnitude)

    rows = np.flatnonzero(opcode == Op.WARP)
    height, width = canvas.sides
    if canvas.several:
        height, width = (np.tile(side, places)[rows] for side in (height, width))
    inverse = _inverse(ops[rows], magnitude[rows], (height, width))
    operands[rows, Warp.MATRIX : MATRIX_SIZE] = inverse.reshape(-1, MATRIX_SIZE)
    operands[rows, Warp.INTERPOLATION] = INTERPOLATIONS[owner.interpolation]
    operands[rows, Warp.HAS_FILL] = owner.fill is not None
    fill = np.broadcast_to(fill_row(owner, owner.fill, canvas.channels), (len(ops), canvas.channels))

    table = np.zeros((len(ops), 256), np.uint8)
    for name, tones in TONES.items():
        rows = np.flatnonzero(ops == NUMBER[name])
        table[rows] = tones(magnitude[rows])

    parts = [slice(place * size, (place + 1) * size) for place in range(places)]
    possible = frozenset(map(int, OPCODES)) | warp_kinds(owner.interpolation)
    return [Instruction(possible, opcode[part], operands[part], fill[part], table[part]) for part in parts]


def _inverse(ops: Array, magnitude: Array, size: tuple[Array | int, Array | int]) -> Array:
    shear_x, shear_y, shift_x, shift_y, rotate = (
        np.where(ops == NUMBER[name], magnitude, 0.0)
        for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
    )
    height, width = size
    sheared = (shear_x != 0) | (shear_y != 0)  # about the top left corner, as Pillow did it in the paper
    center = (np.where(sheared, 0.0, width * 0.5), np.where(sheared, 0.0, height * 0.5))
    shear = (np.degrees(np.arctan(shear_x)), np.degrees(np.arctan(shear_y)))
    return matrix.affine(size, -rotate, (np.trunc(shift_x), np.trunc(shift_y)), 1.0, shear, center)


CAPTIONS: dict[str, Callable[[float], str]] = {  # functions of the magnitude
    "Rotate": lambda degrees: f" {degrees:.0f}°",
    **dict.fromkeys(("ShearX", "ShearY"), lambda slope: f" {math.degrees(math.atan(slope)):.0f}°"),
    **dict.fromkeys(("TranslateX", "TranslateY"), lambda pixels: f" {pixels:.0f} px"),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), lambda change: f" ×{1 + change:.2f}"),
    "Posterize": lambda bits: f" {bits:.0f} bits",
    "Solarize": lambda threshold: f" {255 * threshold:.0f}",
}


def caption(name: str, magnitude: float) -> str:
    """A short description of a policy's op, e.g. "Rotate 9°"."""
    return name + (CAPTIONS[name](magnitude) if name in CAPTIONS else "")


def signed(ops: Array, magnitude: Array, uniforms: Array) -> Array:
    """Make the magnitudes of signed ops negative where `uniforms` is below 0.5."""
    return np.where(SIGNED[ops] & (uniforms < 0.5), -magnitude, magnitude)
