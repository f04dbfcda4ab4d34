"""Point instructions: each output pixel depends on the same input pixel only. Several run in registers, in order."""

from __future__ import annotations

import triton
import triton.language as tl

from gpuaug.kernels.triton.common import (
    BRANCH,
    CONTRAST,
    EQUALIZE,
    ERASE,
    FACTOR,
    FILL_AT,
    GRAYSCALE,
    HAS_BRANCH,
    HAS_ERASE,
    HAS_GRAYSCALE,
    HAS_HUE,
    HAS_JOIN,
    HAS_MERGE,
    HAS_NOISE,
    HAS_PERMUTE,
    HAS_SATURATION,
    HAS_STATISTICS,
    HAS_TABLE,
    HEIGHT,
    HUE,
    JOIN,
    LEFT,
    MERGE,
    NOISE,
    OPCODE_AT,
    PERMUTE,
    REST,
    SATURATION,
    TABLE,
    TOP,
    TURN,
    WEIGHT,
    WIDTH,
    anywhere,
    byte,
    float_at,
    luma,
    operand,
)
from gpuaug.kernels.triton.noise import noise

__all__ = ["in_box", "point"]

SIXTH = tl.constexpr(1 / 6)
TO_LEVEL = tl.constexpr(255.999 / 255)  # torchvision's factor from [0, 1] to levels


@triton.jit
def in_box(box, x, y):
    """Whether (x, y) is inside the box (top, left, height, width), four int32 at `box`."""
    top, left = tl.load(box + TOP), tl.load(box + LEFT)
    return (y >= top) & (y < top + tl.load(box + HEIGHT)) & (x >= left) & (x < left + tl.load(box + WIDTH))


@triton.jit
def _look_up(table, step, a, b, c, C: tl.constexpr):
    """Map levels through uint8 tables that are `step` bytes apart."""
    a = tl.load(anywhere(table, a)).to(tl.int32)
    if C == 3:
        b = tl.load(anywhere(table + step, b)).to(tl.int32)
        c = tl.load(anywhere(table + 2 * step, c)).to(tl.int32)
    return a, b, c


@triton.jit
def _blend(level, factor, grey, weight):
    return byte(tl.fma(grey, weight, level.to(tl.float32) * factor))


@triton.jit
def _saturation(instruction, a, b, c):
    grey = luma(a, b, c)
    factor = operand(instruction, FACTOR)
    weight = tl.zeros(a.shape, tl.float32) + operand(instruction, REST)
    return _blend(a, factor, grey, weight), _blend(b, factor, grey, weight), _blend(c, factor, grey, weight)


@triton.jit
def _wheel(k, high, chroma):
    """One channel of the result. `k`: its position on the colour circle, in sixths, before wrapping."""
    k = k - 6.0 * tl.floor(k * SIXTH)
    ramp = tl.maximum(tl.minimum(tl.minimum(k, 4.0 - k), 1.0), 0.0)
    return byte((high - chroma * ramp) * TO_LEVEL)


@triton.jit
def _hue(instruction, a, b, c):
    red, green, blue = a.to(tl.float32), b.to(tl.float32), c.to(tl.float32)
    high = tl.maximum(red, tl.maximum(green, blue))
    chroma = high - tl.minimum(red, tl.minimum(green, blue))
    is_red, is_green = high == red, high == green
    difference = tl.where(is_red, green - blue, tl.where(is_green, blue - red, red - green))
    sector = tl.where(is_red, 0.0, tl.where(is_green, 2.0, 4.0))
    hue = tl.div_rn(difference, tl.maximum(chroma, 1.0)) + sector
    hue = hue + operand(instruction, TURN)
    return _wheel(hue + 5.0, high, chroma), _wheel(hue + 3.0, high, chroma), _wheel(hue + 1.0, high, chroma)


@triton.jit
def _pick(order, a, b, c):
    return tl.where(order == 0, a, tl.where(order == 1, b, c))


@triton.jit
def _join(base, total, weight, level, index, mask):
    tl.store(total + index, tl.load(total + index, mask, other=0.0) + level.to(tl.float32) * weight, mask)
    return tl.load(base + index, mask, other=0).to(tl.int32)


@triton.jit
def _branch(base, total, weight, level, index, mask):
    tl.store(total + index, level.to(tl.float32) * weight, mask)
    tl.store(base + index, level.to(tl.uint8), mask)


@triton.jit
def point(
    instruction, lut, keys, normals, base, total, a, b, c, x, y, mask, height, width, channel, channels,
    C: tl.constexpr, MAY: tl.constexpr,
):  # fmt: skip
    """Run the instruction at `instruction` on levels a, b, c. Those that `gather` runs do nothing here.

    lut: Table of the channel, from `statistics`, for this instruction. base, total: Channel of this sample, kept from
    BRANCH to MERGE.
    """
    opcode = tl.load(instruction + OPCODE_AT)
    plane = height * width
    index = y * width + x
    if HAS_TABLE & MAY and opcode == TABLE:
        a, b, c = _look_up((instruction + FILL_AT + channels).to(tl.pointer_type(tl.uint8)), 0, a, b, c, C)
    elif HAS_STATISTICS & MAY and (opcode >= CONTRAST) & (opcode <= EQUALIZE):
        a, b, c = _look_up(lut, 256, a, b, c, C)
    elif C == 3 and HAS_SATURATION & MAY and opcode == SATURATION:
        a, b, c = _saturation(instruction, a, b, c)
    elif C == 3 and HAS_GRAYSCALE & MAY and opcode == GRAYSCALE:
        a = luma(a, b, c).to(tl.int32)
        b = a
        c = a
    elif C == 3 and HAS_HUE & MAY and opcode == HUE:
        a, b, c = _hue(instruction, a, b, c)
    elif C == 3 and HAS_PERMUTE & MAY and opcode == PERMUTE:
        p, q, r = operand(instruction, 0), operand(instruction, 1), operand(instruction, 2)
        a, b, c = _pick(p, a, b, c), _pick(q, a, b, c), _pick(r, a, b, c)
    elif HAS_NOISE & MAY and opcode == NOISE:
        element = channel * plane + index
        a = noise(instruction, keys, a, element, normals)
        if C == 3:
            b = noise(instruction, keys, b, element + plane, normals)
            c = noise(instruction, keys, c, element + 2 * plane, normals)
    elif HAS_ERASE & MAY and opcode == ERASE:
        top, left = operand(instruction, TOP).to(tl.int32), operand(instruction, LEFT).to(tl.int32)
        bottom, right = (
            top + operand(instruction, HEIGHT).to(tl.int32),
            left + operand(instruction, WIDTH).to(tl.int32),
        )
        inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
        fill = instruction + FILL_AT + channel
        a = tl.where(inside, float_at(fill).to(tl.int32), a)
        if C == 3:
            b = tl.where(inside, float_at(fill + 1).to(tl.int32), b)
            c = tl.where(inside, float_at(fill + 2).to(tl.int32), c)
    elif HAS_BRANCH & MAY and opcode == BRANCH:
        weight = operand(instruction, WEIGHT)
        _branch(base, total, weight, a, index, mask)
        if C == 3:
            _branch(base + plane, total + plane, weight, b, index, mask)
            _branch(base + 2 * plane, total + 2 * plane, weight, c, index, mask)
        tl.debug_barrier()  # another thread of this program may read it next
    elif HAS_JOIN & MAY and opcode == JOIN:
        weight = operand(instruction, WEIGHT)
        a = _join(base, total, weight, a, index, mask)
        if C == 3:
            b = _join(base + plane, total + plane, weight, b, index, mask)
            c = _join(base + 2 * plane, total + 2 * plane, weight, c, index, mask)
        tl.debug_barrier()
    elif HAS_MERGE & MAY and opcode == MERGE:
        a = byte(tl.load(total + index, mask, other=0.0))
        if C == 3:
            b = byte(tl.load(total + plane + index, mask, other=0.0))
            c = byte(tl.load(total + 2 * plane + index, mask, other=0.0))
        tl.debug_barrier()  # a later BRANCH writes it
    return a, b, c
