"""The instruction set: opcodes, their operands, the position of each word of a sample, and arithmetic constants.

The transforms write instructions and the backends read them, both by the names of this file: no other file repeats
its numbers. docs/adding-an-op.md says what a new opcode needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

__all__ = [
    "BICUBIC", "BILINEAR", "CIRCULAR", "CONSTANT", "CUBIC", "EDGE", "ERASE_WORDS", "FILL_AT", "FRACTION", "KEY_WORDS",
    "LINE_FRACTION", "LUMA", "MATRIX_SIZE", "MIX_WORDS", "MOST_OPCODES", "NEAREST", "NEAREST_EXACT", "OPCODE_AT",
    "OPERANDS", "OPERANDS_AT", "Q14", "RAGGED_WORDS", "REFLECT", "SMALL", "SYMMETRIC", "TABLE_WORDS",
    "WINDOW_WORDS", "Blur", "Box", "Branch", "Convolve", "Elastic", "Factor", "Feature", "Flip", "Hue", "Jpeg",
    "KeyWord", "MixWord", "Noise", "Op", "Warp", "WindowWord", "bits", "instruction_words", "table_at",
]  # fmt: skip

NEAREST, NEAREST_EXACT, BILINEAR, BICUBIC = range(4)  # `Window.interpolation` and `Warp.INTERPOLATION`
CONSTANT, EDGE, REFLECT, SYMMETRIC, CIRCULAR = range(5)  # `Window.padding_mode` and `Convolve.BORDER`

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue in grey: ITU-R BT.601, as torchvision
FRACTION = 14  # bits of fraction of a filter's weights
Q14 = 1 << FRACTION  # a weight of one
LINE_FRACTION = 7  # bits of fraction between the two passes of a blur: with 8 bits of level they fit into an int16
CUBIC = -0.75  # coefficient of a bicubic warp, as in grid_sample
SMALL = 128  # up to this height + width of the result, ATen's nearest-exact rounds differently

MOST_OPCODES = 32  # opcodes are below this, and features start here, so that `bits` of both fit into 64 bits


class Op(IntEnum):
    """Opcodes, with the operands each one reads. Arithmetic is float32, round to nearest, unless marked as integer.

    `fma(a, b, c)` is a * b + c rounded once, as ATen computes `c.add_(b, alpha=a)`. Grey is
    floor(fma(b, LUMA[2], fma(g, LUMA[1], r * LUMA[0]))).
    """

    IDENTITY = 0
    TABLE = 1  # table (256,): v -> table[v], every channel
    CONTRAST = 2  # `Factor`: as SATURATION, with the mean of the grey image in place of grey
    AUTOCONTRAST = 3  # per channel: trunc(clamp((v - low) / ((high - low) * (1 / 255)))), flat channels unchanged
    EQUALIZE = 4  # per channel, integer, Pillow's rule
    SATURATION = 5  # `Factor`: trunc(clamp(fma(grey, REST, v * FACTOR)))
    GRAYSCALE = 6  # every channel becomes grey
    HUE = 7  # `Hue`: see kernels/torch/instructions.py
    PERMUTE = 8  # [c0, c1, ...]: output channel i is input channel c_i
    SHARPNESS = 9  # `Factor`: trunc(clamp(fma(soft - v, REST, v))), integer soft, border unchanged
    WARP = 10  # `Warp`, fill: the inverse matrix, from pixel index to pixel index
    FLIP = 11  # `Flip`
    BLUR = 12  # `Blur`, kernel (width weights, then height weights): integer, Q14, reflected border
    CONVOLVE = 13  # `Convolve`, kernel (size * size weights): integer, Q14
    NOISE = 14  # `Noise`: v + trunc(z * SIGMA + MEAN), z by Philox from the normal table
    JPEG = 15  # `Jpeg`: integer
    ERASE = 16  # `Box`, fill
    BRANCH = 17  # `Branch`: keep the canvas as the base, total = WEIGHT * canvas
    JOIN = 18  # `Branch`: total += WEIGHT * canvas, then go back to the base
    MERGE = 19  # canvas = trunc(total)
    ELASTIC = 20  # `Elastic`, fill, kernel: each pixel reads where the canvas shows it, moved by smoothed noise


class Feature(IntEnum):
    """What `Instruction.possible` holds in addition to opcodes: the kinds of WARP that need separate code."""

    BILINEAR = MOST_OPCODES
    BICUBIC = MOST_OPCODES + 1
    PROJECTIVE = MOST_OPCODES + 2


def bits(possible: Iterable[int]) -> int:
    """Opcodes and features as the bits of one number."""
    return sum(1 << int(kind) for kind in possible)


# The operands of the opcodes: columns of `Instruction.operands`


class Factor(IntEnum):
    """CONTRAST, SATURATION and SHARPNESS: the factor, and 1 - factor."""

    FACTOR = 0
    REST = 1


class Hue(IntEnum):
    """HUE: the turn of the colour circle in sixths, 6 * hue_factor."""

    TURN = 0


class Warp(IntEnum):
    """WARP: matrix a b c d e f g h i row by row, then its kind. HAS_FILL: 0 is black, without a blend at the border."""

    MATRIX = 0
    INTERPOLATION = 9
    HAS_FILL = 10
    PROJECTIVE = 11


MATRIX_SIZE = 9


class Elastic(IntEnum):
    """ELASTIC: three numbers of 24 bits that key the noise, how far a noise of 1 moves, in pixels, and the weights.

    The noise of a plane (0: x, 1: y) is `element` plane * H * W + pixel of Philox's 16-bit halves: counter (element //
    8, KEY, KEY + 1, KEY + 2), key (0, 0), n = half - 2**15. It is smoothed in integers along x, (sum of n * weight +
    2**13) >> 14, then along y without a shift, with a reflected border; a shift is float32(sum) * SCALE, where SCALE
    counts for 2**-29. `kernel`: the weights of plane 0 along x and along y, TAPS each, then those of plane 1, TAPS + 1
    each. INTERPOLATION and HAS_FILL are as of WARP, and at the same places.
    """

    KEY = 0
    SCALE = 3
    TAPS = 5
    INTERPOLATION = 9
    HAS_FILL = 10


class Flip(IntEnum):
    """FLIP: not 0 where the axis is mirrored. The columns of `Window.flip` too."""

    HORIZONTAL = 0
    VERTICAL = 1


class Blur(IntEnum):
    """BLUR: number of weights of each pass."""

    WIDTH = 0
    HEIGHT = 1


class Convolve(IntEnum):
    """CONVOLVE: side of the kernel, and the padding mode beyond the border."""

    SIZE = 0
    BORDER = 1


class Noise(IntEnum):
    """NOISE: mean and sigma in levels; whether levels are clamped (otherwise they wrap); the op that keys the draws."""

    MEAN = 0
    SIGMA = 1
    CLIP = 2
    OP = 3


class Jpeg(IntEnum):
    """JPEG: 1 (worst) to 100 (best)."""

    QUALITY = 0


class Box(IntEnum):
    """ERASE, and every other box: `Window.box`, `Erase.box`, `Mix.box`."""

    TOP = 0
    LEFT = 1
    HEIGHT = 2
    WIDTH = 3


class Branch(IntEnum):
    """BRANCH and JOIN."""

    WEIGHT = 0


# An instruction in words of 32 bits: opcode, operands, a fill level for each channel, and the table if there is one

OPCODE_AT = 0
OPERANDS_AT = 1
OPERANDS = 16  # floats per instruction; the widest user is a channel permutation
FILL_AT = OPERANDS_AT + OPERANDS
TABLE_WORDS = 64  # 256 bytes


def table_at(channels: int) -> int:
    """The word at which the table begins."""
    return FILL_AT + channels


def instruction_words(channels: int, has_table: bool) -> int:
    """The length of an instruction in words."""
    return table_at(channels) + (TABLE_WORDS if has_table else 0)


# The other parts of a row of the parameter block, in words of 32 bits; a number of 64 bits takes two, the low one first


class KeyWord(IntEnum):
    """The keys of per-pixel draws, at the start of a row."""

    KEY_LOW = 0
    KEY_HIGH = 1
    LOOK = 2
    INDEX_LOW = 3
    INDEX_HIGH = 4


KEY_WORDS = len(KeyWord)


class WindowWord(IntEnum):
    """A window. OFFSET (64 bits) and SOURCE_WIDTH are present only if its source is ragged."""

    BOX = 0
    RESIZED = 4
    START = 6
    FLIP = 8
    OFFSET = 10
    SOURCE_WIDTH = 12


WINDOW_WORDS, RAGGED_WORDS = WindowWord.FLIP + 2, WindowWord.SOURCE_WIDTH + 1
ERASE_WORDS = len(Box)


class MixWord(IntEnum):
    """A mix: WEIGHT and REST of the pixels are float32, SHARE of the label is float64."""

    PARTNER = 0
    WEIGHT = 1
    REST = 2
    BOX = 3
    SHARE = 7


MIX_WORDS = MixWord.SHARE + 2
