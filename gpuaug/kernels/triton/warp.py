"""Warp: sample the canvas where an inverse matrix maps each output pixel; the same operations as in torch."""

from __future__ import annotations

import triton
import triton.language as tl

from gpuaug.kernels.triton.common import (
    BICUBIC,
    CUBIC,
    HAS_BICUBIC,
    HAS_BILINEAR,
    HAS_FILL,
    HAS_PROJECTIVE,
    INTERPOLATION,
    MATRIX,
    NEAREST,
    PROJECTIVE,
    float_at,
    gathered,
    operand,
    rint,
)

__all__ = ["sampled", "warp"]


@triton.jit
def _line(instruction, first: tl.constexpr, column, row):
    """The line of the matrix that begins at operand `first`, times (column, row, 1)."""
    a, b, c = operand(instruction, first), operand(instruction, first + 1), operand(instruction, first + 2)
    return a * column + (b * row + c)


@triton.jit
def _source(instruction, x, y, MAY: tl.constexpr):
    """Source coordinates of each pixel of the tile."""
    column, row = x.to(tl.float32), y.to(tl.float32)
    sx, sy = _line(instruction, MATRIX, column, row), _line(instruction, MATRIX + 3, column, row)
    if HAS_PROJECTIVE & MAY and operand(instruction, PROJECTIVE) != 0:
        depth = _line(instruction, MATRIX + 6, column, row)
        sx = tl.div_rn(sx, depth)
        sy = tl.div_rn(sy, depth)
    return sx, sy


@triton.jit
def warp(canvas, instruction, fill, x, y, mask, height, width, C: tl.constexpr, MAY: tl.constexpr):
    """Levels of the tile after the WARP at `instruction`; `fill` points to the channel's levels, float32 bits."""
    sx, sy = _source(instruction, x, y, MAY)
    return sampled(canvas, instruction, fill, sx, sy, mask, height, width, C, MAY)


@triton.jit
def sampled(canvas, instruction, fill, sx, sy, mask, height, width, C: tl.constexpr, MAY: tl.constexpr):
    """Levels of the tile read at (sx, sy), with the interpolation and the fill of a WARP or ELASTIC."""
    has_fill = operand(instruction, HAS_FILL) != 0
    f0 = tl.where(has_fill, float_at(fill), 0.0)
    f1 = f0
    f2 = f0
    if C == 3:
        f1 = tl.where(has_fill, float_at(fill + 1), 0.0)
        f2 = tl.where(has_fill, float_at(fill + 2), 0.0)
    interpolation = operand(instruction, INTERPOLATION).to(tl.int32)
    if HAS_BICUBIC & MAY and interpolation == BICUBIC:
        a, b, c = _bicubic(canvas, sx, sy, f0, f1, f2, has_fill, mask, height, width, C)
    elif HAS_BILINEAR & MAY and interpolation != NEAREST:
        a, b, c = _bilinear(canvas, sx, sy, f0, f1, f2, has_fill, mask, height, width, C)
    else:
        a, b, c = _nearest(canvas, sx, sy, f0, f1, f2, mask, height, width, C)
    return a, b, c


@triton.jit
def _nearest(canvas, sx, sy, f0, f1, f2, mask, height, width, C: tl.constexpr):
    # first clamped to just outside: very large, infinite or NaN values must not reach the cast
    rx = rint(tl.minimum(tl.maximum(sx, -2.0), width * 1.0 + 1.0)).to(tl.int32)
    ry = rint(tl.minimum(tl.maximum(sy, -2.0), height * 1.0 + 1.0)).to(tl.int32)
    inside = (rx >= 0) & (rx < width) & (ry >= 0) & (ry < height)
    a, b, c = gathered(canvas, ry * width + rx, inside & mask, height * width, C)
    a = tl.where(inside, a, rint(f0).to(tl.int32))
    if C == 3:
        b = tl.where(inside, b, rint(f1).to(tl.int32))
        c = tl.where(inside, c, rint(f2).to(tl.int32))
    return a, b, c


@triton.jit
def _near(sx, sy, reach, height, width):
    """Whether any tap can be inside, and the coordinates, which are zero where no tap is."""
    right, bottom = width + (reach - 1.0), height + (reach - 1.0)
    near = (sx > -reach) & (sx < right) & (sy > -reach) & (sy < bottom)
    return near, tl.where(near, sx, 0.0), tl.where(near, sy, 0.0)


@triton.jit
def _tap(canvas, x, y, weight, near, mask, height, width, C: tl.constexpr):
    """The contribution of a tap to each channel, and its weight; zero outside."""
    inside = near & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    weight = tl.where(inside, weight, 0.0)
    a, b, c = gathered(canvas, y * width + x, inside & mask, height * width, C)
    return a.to(tl.float32) * weight, b.to(tl.float32) * weight, c.to(tl.float32) * weight, weight


@triton.jit
def _level(value, coverage, fill, has_fill):
    value = tl.where(has_fill, (value - fill) * coverage + fill, value)
    return tl.minimum(tl.maximum(rint(value), 0.0), 255.0).to(tl.int32)


@triton.jit
def _bilinear(canvas, sx, sy, f0, f1, f2, has_fill, mask, height, width, C: tl.constexpr):
    near, sx, sy = _near(sx, sy, 1.0, height, width)
    fx, fy = tl.floor(sx), tl.floor(sy)
    part_x, part_y = sx - fx, sy - fy
    x0, y0 = fx.to(tl.int32), fy.to(tl.int32)
    a, b, c, coverage = _tap(canvas, x0, y0, (1.0 - part_x) * (1.0 - part_y), near, mask, height, width, C)
    for k in tl.static_range(1, 4):
        right = part_x if k % 2 == 1 else 1.0 - part_x
        lower = part_y if k >= 2 else 1.0 - part_y
        ta, tb, tc, weight = _tap(canvas, x0 + k % 2, y0 + k // 2, right * lower, near, mask, height, width, C)
        a, b, c, coverage = a + ta, b + tb, c + tc, coverage + weight
    return _level(a, coverage, f0, has_fill), _level(b, coverage, f1, has_fill), _level(c, coverage, f2, has_fill)


@triton.jit
def _cubic(part, k):
    """Weight of tap k of 0 to 3 for the fraction `part`: grid_sample's bicubic."""
    near = tl.where(k < 2, part, 1.0 - part)
    far = near + 1.0
    inner = (((CUBIC + 2.0) * near - (CUBIC + 3.0)) * near) * near + 1.0
    outer = ((CUBIC * far - CUBIC * 5.0) * far + CUBIC * 8.0) * far - CUBIC * 4.0
    return tl.where((k == 0) | (k == 3), outer, inner)


@triton.jit
def _bicubic(canvas, sx, sy, f0, f1, f2, has_fill, mask, height, width, C: tl.constexpr):
    near, sx, sy = _near(sx, sy, 2.0, height, width)
    fx, fy = tl.floor(sx), tl.floor(sy)
    part_x, part_y = sx - fx, sy - fy
    x0, y0 = fx.to(tl.int32) - 1, fy.to(tl.int32) - 1
    zero = tl.zeros(sx.shape, tl.float32)
    a, b, c, coverage = zero, zero, zero, zero
    taps = tl.where(height > 0, 4, 0)  # always 4, hidden from the compiler: unrolled it needs too many registers
    for j in range(taps):
        line_a, line_b, line_c, line = zero, zero, zero, zero
        for i in range(taps):
            ta, tb, tc, weight = _tap(canvas, x0 + i, y0 + j, _cubic(part_x, i), near, mask, height, width, C)
            line_a, line_b, line_c, line = line_a + ta, line_b + tb, line_c + tc, line + weight
        down = _cubic(part_y, j)
        a, b, c, coverage = a + line_a * down, b + line_b * down, c + line_c * down, coverage + line * down
    return _level(a, coverage, f0, has_fill), _level(b, coverage, f1, has_fill), _level(c, coverage, f2, has_fill)
