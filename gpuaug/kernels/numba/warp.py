"""WARP: every output pixel reads the source at the position that the inverse matrix gives.

Reading a pixel is the only scalar work, so one read fetches a 32-bit cell with all that is needed: three channels for
nearest, 2 x 2 taps for bilinear, four taps of a line for bicubic. Coordinates, weights and sums are vector loops over a
row. Positions outside the source have cells too, so no loop checks bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import BICUBIC, CUBIC, Warp
from gpuaug.kernels.numba.common import HAS_FILL, MATRIX, PROJECTIVE, copy
from gpuaug.kernels.numba.llvm.intrinsics import floor, rint
from gpuaug.kernels.numba.runtime.jit import inner, kernel

__all__ = [
    "bicubic_row", "bilinear_row", "move", "nearest", "outside", "pack", "pack_line", "pack_taps", "read", "unpack",
    "warp",
]  # fmt: skip

Array = NDArray[Any]
Scalar = Any  # typed by Numba

ZERO, ONE, TWO, FULL = np.float32(0), np.float32(1), np.float32(2), np.float32(255)
CUBIC_A = np.float32(CUBIC)
BYTE = np.uint32(255)


@inner
def _level(x: Scalar) -> Scalar:
    x = rint(x)
    x = x if x > ZERO else ZERO
    return np.uint8(np.int32(x if x < FULL else FULL))


@inner
def outside(fill: Scalar, has_fill: bool) -> Scalar:
    return np.uint32(_level(fill) if has_fill else 0)


@inner
def read(cells: Array, at: Array, line: Array) -> None:
    for x in range(line.size):
        line[x] = cells[np.uint32(at[x])]


@inner
def move(canvas: Array, height: Scalar, width: Scalar, m: Array, fill: Array, out: Array) -> bool:
    """Nearest, if the matrix only moves rows (a = 1, d = 0): copy whole rows. False if rounding breaks a row up."""
    for y in range(height):
        start, sy = m[MATRIX + 1] * np.float32(y) + m[MATRIX + 2], rint(m[MATRIX + 4] * np.float32(y) + m[MATRIX + 5])
        first = rint(start)
        broken = np.int32(0)
        for x in range(width):
            broken = np.int32(broken + np.int32(rint(np.float32(x) + start) != np.float32(x) + first))
        if broken != 0:
            return False
        reads = sy >= ZERO and sy < np.float32(height) and abs(first) < np.float32(width)
        by = np.int64(first) if reads else width
        begin, end = min(max(-by, 0), width), max(min(width, width - by), 0)
        source = np.int64(sy) * width + by if reads else 0
        for c in range(canvas.shape[0]):
            level = np.uint8(outside(fill[c], m[HAS_FILL] != ZERO))
            target = out[c, y * width : (y + 1) * width]
            if begin > 0 or end < width:
                target[:] = level
            if begin < end:
                copy(canvas[c, source + begin : source + end], target[begin:end])
    return True


@inner
def pack(a: Array, b: Array, c: Array, cells: Array) -> None:
    for i in range(a.size):
        cells[i] = np.uint32(a[i]) | np.uint32(b[i]) << np.uint32(8) | np.uint32(c[i]) << np.uint32(16)


@inner
def unpack(line: Array, a: Array, b: Array, c: Array) -> None:
    for x in range(line.size):
        a[x] = np.uint8(line[x])
        b[x] = np.uint8(line[x] >> 8)
        c[x] = np.uint8(line[x] >> 16)


@inner
def _nearest_cells(m: Array, y: Scalar, height: Scalar, width: Scalar, at: Array) -> None:
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    ax, bx, ay, by = m[MATRIX], m[MATRIX + 1] * y + m[MATRIX + 2], m[MATRIX + 3], m[MATRIX + 4] * y + m[MATRIX + 5]
    aw, bw, projective = m[MATRIX + 6], m[MATRIX + 7] * y + m[MATRIX + 8], m[PROJECTIVE] != ZERO
    outside = np.int32(height * width)
    for i in range(width):
        x = np.float32(i)
        sx, sy = ax * x + bx, ay * x + by
        if projective:
            sx, sy = sx / (aw * x + bw), sy / (aw * x + bw)
        sx, sy = rint(sx), rint(sy)
        inside = (sx >= ZERO) & (sx <= right) & (sy >= ZERO) & (sy <= bottom)
        cell = np.int32(np.int32(np.int32(sy if inside else ZERO) * width) + np.int32(sx if inside else ZERO))
        at[i] = cell if inside else outside


@inner
def nearest(canvas: Array, height: Scalar, width: Scalar, m: Array, fill: Array, out: Array, scratch: Array) -> None:
    """Scratch: (H W + 2 W + 1,) int32."""
    channels, size = canvas.shape
    at, line, cells = scratch[:width], scratch[width : 2 * width], scratch[2 * width :]
    has_fill = m[HAS_FILL] != ZERO
    for a in range(0, channels, 3):  # with fewer than three channels, the last one is read and written more than once
        b, c = min(a + 1, channels - 1), min(a + 2, channels - 1)
        pack(canvas[a], canvas[b], canvas[c], cells)
        level_b, level_c = outside(fill[b], has_fill), outside(fill[c], has_fill)
        cells[size] = outside(fill[a], has_fill) | level_b << np.uint32(8) | level_c << np.uint32(16)
        for y in range(height):
            _nearest_cells(m, np.float32(y), height, width, at)
            read(cells, at, line)
            start, end = y * width, (y + 1) * width
            unpack(line, out[a, start:end], out[b, start:end], out[c, start:end])


@inner
def _coordinates(
    m: Array, y: Scalar, reach: Scalar, height: Scalar, width: Scalar, sx: Array, sy: Array, near: Array
) -> None:
    """Source coordinates of output row `y`. near: 1 if any tap can be inside; else it and the coordinates are 0."""
    right, bottom = np.float32(width) + (reach - ONE), np.float32(height) + (reach - ONE)
    ax, bx, ay, by = m[MATRIX], m[MATRIX + 1] * y + m[MATRIX + 2], m[MATRIX + 3], m[MATRIX + 4] * y + m[MATRIX + 5]
    aw, bw, projective = m[MATRIX + 6], m[MATRIX + 7] * y + m[MATRIX + 8], m[PROJECTIVE] != ZERO
    for i in range(width):
        x = np.float32(i)
        px, py = ax * x + bx, ay * x + by
        if projective:
            px, py = px / (aw * x + bw), py / (aw * x + bw)
        inside = (px > -reach) & (px < right) & (py > -reach) & (py < bottom)
        sx[i] = px if inside else ZERO
        sy[i] = py if inside else ZERO
        near[i] = ONE if inside else ZERO


@inner
def pack_taps(plane: Array, height: Scalar, width: Scalar, cells: Array) -> None:
    """Cell (y, x) of (H + 1, W + 1) holds the 2 x 2 taps around (y - 1/2, x - 1/2); zeros outside the image."""
    cells[: (height + 1) * (width + 1)] = 0
    for y in range(height):
        row = plane[y * width : (y + 1) * width]
        upper, lower = cells[y * (width + 1) :], cells[(y + 1) * (width + 1) :]
        for x in range(width):
            upper[x] |= np.uint32(row[x]) << np.uint32(24)
            lower[x] |= np.uint32(row[x]) << np.uint32(8)
        for x in range(width):
            upper[x + 1] |= np.uint32(row[x]) << np.uint32(16)
            lower[x + 1] |= np.uint32(row[x])


@inner
def _weigh(sx: Array, sy: Array, near: Array, height: Scalar, width: Scalar, at: Array, weights: Array) -> None:
    """Cell numbers of a row, the weights of their four taps, and the sum of the weights inside the image."""
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    one, two, three, four, mask = weights[0], weights[1], weights[2], weights[3], weights[4]
    for x in range(sx.size):
        x0, y0 = floor(sx[x]), floor(sy[x])
        fx, fy, on = sx[x] - x0, sy[x] - y0, near[x]
        gx, gy = ONE - fx, ONE - fy
        at[x] = np.int32(np.int32(np.int32(y0 + ONE) * np.int32(width + 1)) + np.int32(x0 + ONE))
        w1, w2, w3, w4 = gx * gy * on, fx * gy * on, gx * fy * on, fx * fy * on
        one[x], two[x], three[x], four[x] = w1, w2, w3, w4
        w1 = w1 if (x0 >= ZERO) & (y0 >= ZERO) else ZERO
        w2 = w2 if (x0 < right) & (y0 >= ZERO) else ZERO
        w3 = w3 if (x0 >= ZERO) & (y0 < bottom) else ZERO
        w4 = w4 if (x0 < right) & (y0 < bottom) else ZERO
        mask[x] = ((w1 + w2) + w3) + w4


@inner
def _tap(cell: Scalar, place: Scalar) -> Scalar:
    return np.float32(np.int32((cell >> np.uint32(8 * place)) & BYTE))


@inner
def _sum_taps(line: Array, weights: Array, fill: Scalar, has_fill: bool, out: Array) -> None:
    one, two, three, four, mask = weights[0], weights[1], weights[2], weights[3], weights[4]
    for x in range(line.size):
        taps = line[x]
        total = (_tap(taps, 0) * one[x] + _tap(taps, 1) * two[x]) + _tap(taps, 2) * three[x]
        total = total + _tap(taps, 3) * four[x]
        out[x] = _level((total - fill) * mask[x] + fill if has_fill else total)


@inner
def bilinear_row(
    cells: Array, y: Scalar, height: Scalar, width: Scalar, m: Array, fill: Array,
    sx: Array, sy: Array, near: Array, at: Array, line: Array, weights: Array, out: Array,
) -> None:  # fmt: skip
    """Write row `y` of all channels from its source coordinates. cells (C, (H + 1) (W + 1)); weights (5, W)."""
    _weigh(sx, sy, near, height, width, at, weights)
    for c in range(cells.shape[0]):
        read(cells[c], at, line)
        _sum_taps(line, weights, fill[c], m[HAS_FILL] != ZERO, out[c, y * width : (y + 1) * width])


@kernel
def bilinear(canvas: Array, height: int, width: int, m: Array, fill: Array, out: Array, scratch: Array) -> None:
    """Args: canvas, out (C, H W) uint8; m of `Op.WARP`; fill (C,); scratch (10 W + C (H + 1) (W + 1),) int32."""
    channels, size = canvas.shape[0], (height + 1) * (width + 1)
    at, line = scratch[:width], scratch[width : 2 * width].view(np.uint32)
    floats = scratch[2 * width : 10 * width].view(np.float32).reshape(8, width)
    sx, sy, near, weights = floats[0], floats[1], floats[2], floats[3:]
    cells = scratch[10 * width : 10 * width + channels * size].view(np.uint32).reshape(channels, size)
    for c in range(channels):
        pack_taps(canvas[c], height, width, cells[c])
    for y in range(height):
        _coordinates(m, np.float32(y), ONE, height, width, sx, sy, near)
        bilinear_row(cells, y, height, width, m, fill, sx, sy, near, at, line, weights, out)


@inner
def _inner(x: Scalar) -> Scalar:
    return (((CUBIC_A + TWO) * x - (CUBIC_A + np.float32(3))) * x) * x + ONE


@inner
def _outer(x: Scalar) -> Scalar:
    five, eight, four = np.float32(5) * CUBIC_A, np.float32(8) * CUBIC_A, np.float32(4) * CUBIC_A
    return ((CUBIC_A * x - five) * x + eight) * x - four


@inner
def _coefficients(s: Array, near: Array, size: Scalar, weights: Array, inside: Array) -> None:
    """(4, W) weights along one axis, and the same with zeros for taps outside the image."""
    last = np.float32(size - 1)
    for x in range(s.size):
        s0 = floor(s[x])
        t, on = s[x] - s0, near[x]
        w0, w1, w2, w3 = _outer(t + ONE), _inner(t), _inner(ONE - t), _outer((ONE - t) + ONE)
        weights[0, x], weights[1, x], weights[2, x], weights[3, x] = w0 * on, w1 * on, w2 * on, w3 * on
        inside[0, x] = w0 * on if (s0 >= ONE) & (s0 <= last + ONE) else ZERO
        inside[1, x] = w1 * on if (s0 >= ZERO) & (s0 <= last) else ZERO
        inside[2, x] = w2 * on if (s0 >= -ONE) & (s0 < last) else ZERO
        inside[3, x] = w3 * on if (s0 >= -TWO) & (s0 < last - ONE) else ZERO


@inner
def pack_line(plane: Array, height: Scalar, width: Scalar, cells: Array) -> None:
    """Cell (y + 3, x + 3) of (H + 6, W + 3) holds pixels x to x + 3 of row y; zeros outside the image."""
    cells[:] = 0
    for y in range(height):
        row, line = plane[y * width : (y + 1) * width], cells[(y + 3) * (width + 3) :]
        for place in range(4):
            target = line[3 - place :]
            for x in range(width):
                target[x] |= np.uint32(row[x]) << np.uint32(8 * place)


@inner
def _add_line(line: Array, across: Array, down: Array, first: bool, total: Array) -> None:
    a, b, c, d = across[0], across[1], across[2], across[3]
    for x in range(line.size):
        taps = line[x]
        value = (_tap(taps, 0) * a[x] + _tap(taps, 1) * b[x]) + _tap(taps, 2) * c[x]
        value = (value + _tap(taps, 3) * d[x]) * down[x]
        total[x] = value if first else total[x] + value


@inner
def bicubic_row(
    cells: Array, y: Scalar, height: Scalar, width: Scalar, m: Array, fill: Array,
    sx: Array, sy: Array, near: Array, at: Array, line: Array, floats: Array, out: Array,
) -> None:  # fmt: skip
    """As `bilinear_row`; cells (C, (H + 6) (W + 3)), floats (18, W): scratch."""
    mask, total = floats[0], floats[1]
    across, across_in, down, down_in = floats[2:6], floats[6:10], floats[10:14], floats[14:18]
    _coefficients(sx, near, width, across, across_in)
    _coefficients(sy, near, height, down, down_in)
    for x in range(width):
        at[x] = np.int32(np.int32(np.int32(floor(sy[x]) + TWO) * np.int32(width + 3)) + np.int32(floor(sx[x]) + TWO))
        ones = ((across_in[0, x] + across_in[1, x]) + across_in[2, x]) + across_in[3, x]
        mask[x] = ((ones * down_in[0, x] + ones * down_in[1, x]) + ones * down_in[2, x]) + ones * down_in[3, x]
    for c in range(cells.shape[0]):
        for j in range(4):
            read(cells[c, j * (width + 3) :], at, line)
            _add_line(line, across, down[j], j == 0, total)
        target = out[c, y * width : (y + 1) * width]
        for x in range(width):
            target[x] = _level((total[x] - fill[c]) * mask[x] + fill[c] if m[HAS_FILL] != ZERO else total[x])


@kernel
def bicubic(canvas: Array, height: int, width: int, m: Array, fill: Array, out: Array, scratch: Array) -> None:
    """As `bilinear`; scratch (24 W + C (H + 6) (W + 3),) int32."""
    channels, size = canvas.shape[0], (height + 6) * (width + 3)
    at, line = scratch[:width], scratch[width : 2 * width].view(np.uint32)
    floats = scratch[2 * width : 23 * width].view(np.float32).reshape(21, width)
    sx, sy, near = floats[0], floats[1], floats[2]
    cells = scratch[24 * width : 24 * width + channels * size].view(np.uint32).reshape(channels, size)
    for c in range(channels):
        pack_line(canvas[c], height, width, cells[c])
    for y in range(height):
        _coordinates(m, np.float32(y), TWO, height, width, sx, sy, near)
        bicubic_row(cells, y, height, width, m, fill, sx, sy, near, at, line, floats[3:], out)


def warp(canvas: Array, height: int, width: int, m: Array, fill: Array, out: Array, scratch: Array) -> None:
    """WARP with bilinear or bicubic interpolation, as the operands say."""
    kernel = bicubic if m[Warp.INTERPOLATION] == BICUBIC else bilinear
    kernel(canvas, height, width, m, fill, out, scratch)
