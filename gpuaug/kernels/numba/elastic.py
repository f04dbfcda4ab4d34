"""ELASTIC: noise of each pixel, smoothed in integers, says where each pixel reads the canvas. See `Elastic`.

The noise of both planes is drawn and smoothed along x; along y it is smoothed row by row, as the rows are written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import BICUBIC, BILINEAR, FRACTION, NEAREST, Elastic
from gpuaug.kernels.numba.common import HAS_FILL, KEY, SCALE, TAPS
from gpuaug.kernels.numba.llvm.intrinsics import rint
from gpuaug.kernels.numba.noise import philox_words
from gpuaug.kernels.numba.runtime.jit import inner, kernel
from gpuaug.kernels.numba.warp import bicubic_row, bilinear_row, outside, pack, pack_line, pack_taps, read, unpack

__all__ = ["elastic", "scratch_size"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
MIDDLE = np.uint32(0x80008000)  # of two 16-bit halves
HALF, SHIFT = np.int32(1 << (FRACTION - 1)), np.int32(FRACTION)


def scratch_size(height: int, width: int, operands: Array) -> int:
    """Size of `memory` of the kernels, in int32."""
    longest = int(operands[Elastic.TAPS : Elastic.TAPS + 2].max())
    return 2 * height * width + 4 + 6 * width + longest


@inner
def _place(i: Scalar, size: Scalar) -> Scalar:
    """The row or column at `i` of a reflected axis of `size`."""
    if i < 0:
        i = -i
    return i if i < size else 2 * size - 2 - i


@inner
def _across(row: Array, weights: Array, padded: Array, total: Array, line: Array) -> None:
    """Smooth a row (W,) int16 along x. weights: odd and symmetric; padded (W + weights,), total (W,) int32: scratch."""
    width, reach = row.size, weights.size // 2
    for x in range(reach):
        padded[x] = row[reach - x]
        padded[reach + width + x] = row[width - 2 - x]
    inside = padded[reach : reach + width]
    middle = np.int32(weights[reach])
    for x in range(width):
        inside[x] = row[x]
        total[x] = np.int32(HALF + np.int32(np.int32(row[x]) * middle))
    for k in range(0, reach, 2):  # two pairs of taps at once; an odd last one goes with a weight of 0
        last = min(k + 1, reach - 1)
        first, second = np.int32(weights[k]), np.int32(weights[k + 1] if k + 1 < reach else 0)
        a, b = padded[k : k + width], padded[2 * reach - k : 2 * reach - k + width]
        c, d = padded[last : last + width], padded[2 * reach - last : 2 * reach - last + width]
        for x in range(width):
            pairs = np.int32(np.int32(a[x] + b[x]) * first) + np.int32(np.int32(c[x] + d[x]) * second)
            total[x] = np.int32(total[x] + np.int32(pairs))
    for x in range(width):
        line[x] = np.int16(total[x] >> SHIFT)


@inner
def _down(lines: Array, y: Scalar, height: Scalar, weights: Array, scale: Scalar, total: Array, by: Array) -> None:
    """The shifts of row `y` in pixels: lines (H W,) int16 smoothed along y."""
    width, reach = total.size, weights.size // 2
    middle, own = np.int32(weights[reach]), lines[y * width : (y + 1) * width]
    for x in range(width):
        total[x] = np.int32(np.int32(own[x]) * middle)
    for k in range(0, reach, 2):
        last = min(k + 1, reach - 1)
        first, second = np.int32(weights[k]), np.int32(weights[k + 1] if k + 1 < reach else 0)
        up, low = _place(y + k - reach, height) * width, _place(y + reach - k, height) * width
        upper, lower = _place(y + last - reach, height) * width, _place(y + reach - last, height) * width
        a, b = lines[up : up + width], lines[low : low + width]
        c, d = lines[upper : upper + width], lines[lower : lower + width]
        for x in range(width):
            one = np.int32(np.int32(np.int32(a[x]) + np.int32(b[x])) * first)
            two = np.int32(np.int32(np.int32(c[x]) + np.int32(d[x])) * second)
            total[x] = np.int32(total[x] + np.int32(one + two))
    for x in range(width):
        by[x] = np.float32(total[x]) * scale


@inner
def _draw(height: Scalar, width: Scalar, m: Array, weights: Array, memory: Array) -> tuple[Array, Array]:
    """Draw the noise of both planes, and smooth it along x: (2, H W) int16. The rest of the memory is free."""
    count = height * width
    blocks = (2 * count + 7) // 8
    words = memory[: 4 * blocks].view(np.uint32)
    philox_words(0, blocks, np.int64(m[KEY]), np.int64(m[KEY + 1]), np.int64(m[KEY + 2]), 0, 0, words)
    for n in range(words.size):
        words[n] ^= MIDDLE
    noise = words.view(np.int16)
    rest = memory[4 * blocks :]
    lines, rest = rest[:count].view(np.int16).reshape(2, count), rest[count:]
    total, padded = rest[:width], rest[width:]
    for plane in range(2):
        taps = np.int64(m[TAPS + plane])
        start = 2 * plane * np.int64(m[TAPS])
        across = weights[start : start + taps]
        for y in range(height):
            row = noise[plane * count + y * width : plane * count + (y + 1) * width]
            _across(row, across, padded, total, lines[plane, y * width : (y + 1) * width])
    return lines, rest


@inner
def _shifts(
    lines: Array, y: Scalar, height: Scalar, width: Scalar, m: Array, weights: Array, memory: Array
) -> tuple[Array, Array]:
    """The shifts of row `y` along x and y, (W,) float32 each."""
    total, by_x, by_y = memory[:width], memory[width : 2 * width], memory[2 * width : 3 * width]
    one, two = np.int64(m[TAPS]), np.int64(m[TAPS + 1])
    _down(lines[0], y, height, weights[one : 2 * one], m[SCALE], total, by_x.view(np.float32))
    _down(lines[1], y, height, weights[2 * one + two : 2 * (one + two)], m[SCALE + 1], total, by_y.view(np.float32))
    return by_x.view(np.float32), by_y.view(np.float32)


@inner
def _coordinates(
    by_x: Array, by_y: Array, y: Scalar, reach: Scalar, height: Scalar, width: Scalar, sx: Array, sy: Array, near: Array
) -> None:  # fmt: skip
    """Source coordinates of output row `y`. near: 1 if any tap can be inside; else it and the coordinates are 0."""
    right, bottom = np.float32(width) + (reach - ONE), np.float32(height) + (reach - ONE)
    for i in range(width):
        px, py = np.float32(i) + by_x[i], y + by_y[i]
        inside = (px > -reach) & (px < right) & (py > -reach) & (py < bottom)
        sx[i] = px if inside else ZERO
        sy[i] = py if inside else ZERO
        near[i] = ONE if inside else ZERO


@inner
def _cells(by_x: Array, by_y: Array, y: Scalar, height: Scalar, width: Scalar, at: Array) -> None:
    """The cell of the nearest pixel of each pixel of row `y`."""
    right, bottom, outer = np.float32(width - 1), np.float32(height - 1), np.int32(height * width)
    for i in range(width):
        sx, sy = rint(np.float32(i) + by_x[i]), rint(y + by_y[i])
        inside = (sx >= ZERO) & (sx <= right) & (sy >= ZERO) & (sy <= bottom)
        cell = np.int32(np.int32(np.int32(sy if inside else ZERO) * width) + np.int32(sx if inside else ZERO))
        at[i] = cell if inside else outer


@kernel
def nearest(
    canvas: Array, height: int, width: int, m: Array, weights: Array, fill: Array, out: Array,
    scratch: Array, memory: Array,
) -> None:  # fmt: skip
    """Args: canvas, out (C, H W) uint8; m, weights of `Op.ELASTIC`; fill (C,); scratch (C + 2 W, H W + 1) int32."""
    channels, size = canvas.shape
    at, line = scratch[:width], scratch[width : 2 * width]
    groups = (channels + 2) // 3
    cells = scratch[2 * width : 2 * width + groups * (size + 1)].reshape(groups, size + 1)
    has_fill = m[HAS_FILL] != ZERO
    lines, rest = _draw(height, width, m, weights, memory)
    for g in range(groups):
        a, b, c = 3 * g, min(3 * g + 1, channels - 1), min(3 * g + 2, channels - 1)
        pack(canvas[a], canvas[b], canvas[c], cells[g])
        level_b, level_c = outside(fill[b], has_fill), outside(fill[c], has_fill)
        cells[g, size] = outside(fill[a], has_fill) | level_b << np.uint32(8) | level_c << np.uint32(16)
    for y in range(height):
        by_x, by_y = _shifts(lines, y, height, width, m, weights, rest)
        _cells(by_x, by_y, np.float32(y), height, width, at)
        start, end = y * width, (y + 1) * width
        for g in range(groups):
            a, b, c = 3 * g, min(3 * g + 1, channels - 1), min(3 * g + 2, channels - 1)
            read(cells[g], at, line)
            unpack(line, out[a, start:end], out[b, start:end], out[c, start:end])


@kernel
def bilinear(
    canvas: Array, height: int, width: int, m: Array, weights: Array, fill: Array, out: Array,
    scratch: Array, memory: Array,
) -> None:  # fmt: skip
    """As `nearest`; scratch (10 W + C (H + 1) (W + 1),) int32."""
    channels, size = canvas.shape[0], (height + 1) * (width + 1)
    at, line = scratch[:width], scratch[width : 2 * width].view(np.uint32)
    floats = scratch[2 * width : 10 * width].view(np.float32).reshape(8, width)
    sx, sy, near = floats[0], floats[1], floats[2]
    cells = scratch[10 * width : 10 * width + channels * size].view(np.uint32).reshape(channels, size)
    lines, rest = _draw(height, width, m, weights, memory)
    for c in range(channels):
        pack_taps(canvas[c], height, width, cells[c])
    for y in range(height):
        by_x, by_y = _shifts(lines, y, height, width, m, weights, rest)
        _coordinates(by_x, by_y, np.float32(y), ONE, height, width, sx, sy, near)
        bilinear_row(cells, y, height, width, m, fill, sx, sy, near, at, line, floats[3:], out)


@kernel
def bicubic(
    canvas: Array, height: int, width: int, m: Array, weights: Array, fill: Array, out: Array,
    scratch: Array, memory: Array,
) -> None:  # fmt: skip
    """As `nearest`; scratch (24 W + C (H + 6) (W + 3),) int32."""
    channels, size = canvas.shape[0], (height + 6) * (width + 3)
    at, line = scratch[:width], scratch[width : 2 * width].view(np.uint32)
    floats = scratch[2 * width : 23 * width].view(np.float32).reshape(21, width)
    sx, sy, near = floats[0], floats[1], floats[2]
    cells = scratch[24 * width : 24 * width + channels * size].view(np.uint32).reshape(channels, size)
    lines, rest = _draw(height, width, m, weights, memory)
    for c in range(channels):
        pack_line(canvas[c], height, width, cells[c])
    for y in range(height):
        by_x, by_y = _shifts(lines, y, height, width, m, weights, rest)
        _coordinates(by_x, by_y, np.float32(y), TWO, height, width, sx, sy, near)
        bicubic_row(cells, y, height, width, m, fill, sx, sy, near, at, line, floats[3:], out)


KERNELS = {NEAREST: nearest, BILINEAR: bilinear, BICUBIC: bicubic}


def elastic(
    canvas: Array, height: int, width: int, m: Array, weights: Array, fill: Array, out: Array,
    scratch: Array, memory: Array,
) -> None:  # fmt: skip
    """ELASTIC with the interpolation that the operands say. memory (scratch_size(H, W, m),) int32."""
    KERNELS[int(m[Elastic.INTERPOLATION])](canvas, height, width, m, weights, fill, out, scratch, memory)
