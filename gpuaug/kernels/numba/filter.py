"""BLUR and CONVOLVE: integer, Q14, a row of taps at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.kernels.numba.jit import inner, kernel

__all__ = ["blur", "convolve"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

CONSTANT, EDGE, REFLECT, SYMMETRIC, CIRCULAR = range(5)
ZERO, FULL = np.int32(0), np.int32(255)


@inner
def _place(i: Scalar, size: Scalar, border: Scalar) -> Scalar:
    """Where index `i` reads along an axis of `size`; -1 for zero."""
    if 0 <= i < size:
        return i
    if border == CONSTANT:
        return -1
    if border == EDGE or size == 1:
        return 0 if i < 0 else size - 1
    if border == CIRCULAR:
        return i % size
    i = abs(i) % (2 * size - 2)
    return i if i < size else 2 * size - 2 - i


@inner
def _pad(row: Array, before: Scalar, border: Scalar, padded: Array) -> None:
    size = row.size
    for x in range(before):
        at = _place(x - before, size, border)
        padded[x] = row[at] if at >= 0 else ZERO
    for x in range(size):
        padded[before + x] = row[x]
    for x in range(before + size, padded.size):
        at = _place(x - before, size, border)
        padded[x] = row[at] if at >= 0 else ZERO


@inner
def _add(row: Array, weight: Scalar, total: Array) -> None:
    for x in range(total.size):
        total[x] = np.int32(total[x] + np.int32(np.int32(row[x]) * np.int32(weight)))


@inner
def _add_four(a: Array, b: Array, c: Array, d: Array, weights: Array, total: Array) -> None:
    wa, wb, wc, wd = np.int32(weights[0]), np.int32(weights[1]), np.int32(weights[2]), np.int32(weights[3])
    for x in range(total.size):
        one = np.int32(np.int32(np.int32(a[x]) * wa) + np.int32(np.int32(b[x]) * wb))
        two = np.int32(np.int32(np.int32(c[x]) * wc) + np.int32(np.int32(d[x]) * wd))
        total[x] = np.int32(total[x] + np.int32(one + two))


@inner
def _support(weights: Array) -> tuple[Scalar, Scalar]:
    """The taps (first, end) outside which every weight is zero."""
    first, end = 0, weights.size
    while first < end and weights[first] == 0:
        first += 1
    while end > first and weights[end - 1] == 0:
        end -= 1
    return first, end


@inner
def _slide(padded: Array, weights: Array, total: Array) -> None:
    """total[x] += sum over k of weights[k] * padded[x + k]."""
    size = total.size
    k, end = _support(weights)
    while k + 4 <= end:
        a, b = padded[k : k + size], padded[k + 1 : k + 1 + size]
        c, d = padded[k + 2 : k + 2 + size], padded[k + 3 : k + 3 + size]
        _add_four(a, b, c, d, weights[k : k + 4], total)
        k += 4
    while k < end:
        _add(padded[k : k + size], weights[k], total)
        k += 1


@inner
def _round_to(total: Array, half: Scalar, shift: Scalar, out: Array) -> None:
    for x in range(out.size):
        v = np.int32(np.int32(total[x] + np.int32(half)) >> np.int32(shift))
        v = v if v > ZERO else ZERO
        out[x] = np.uint8(v if v < FULL else FULL)


@kernel
def blur(canvas: Array, height: int, width: int, operands: Array, weights: Array, out: Array, scratch: Array) -> None:
    """Separable blur. Args: canvas, out (C, H W) uint8; operands, weights as `Op.BLUR`; scratch as `scratch_size`."""
    kx, ky = int(operands[0]), int(operands[1])
    across, down = weights[:kx], weights[kx : kx + ky]
    total, padded = scratch[:width], scratch[width : 2 * width + kx - 1]
    start = 2 * width + kx - 1
    rows = scratch[start : start + (height * width + 1) // 2].view(np.int16)
    first, end = _support(down)
    for c in range(canvas.shape[0]):
        for y in range(height):
            _pad(canvas[c, y * width : (y + 1) * width], kx // 2, REFLECT, padded)
            total[:] = 64
            _slide(padded, across, total)
            row = rows[y * width : (y + 1) * width]
            for x in range(width):
                row[x] = np.int16(total[x] >> np.int32(7))
        for y in range(height):
            total[:] = ZERO
            for k in range(first, end):
                at = _place(y + k - ky // 2, height, REFLECT) * width
                _add(rows[at : at + width], down[k], total)
            _round_to(total, 1 << 20, 21, out[c, y * width : (y + 1) * width])


@kernel
def convolve(
    canvas: Array, height: int, width: int, operands: Array, weights: Array, out: Array, scratch: Array
) -> None:
    """Correlate. Args as `blur`, for `Op.CONVOLVE`."""
    size, border = int(operands[0]), int(operands[1])
    total, padded = scratch[:width], scratch[width : 2 * width + size - 1]
    for c in range(canvas.shape[0]):
        for y in range(height):
            total[:] = ZERO
            for j in range(size):
                at = _place(y + j - size // 2, height, border)
                row = weights[j * size : (j + 1) * size]
                first, end = _support(row)
                if at >= 0 and first < end:
                    _pad(canvas[c, at * width : (at + 1) * width], size // 2, border, padded)
                    _slide(padded, row, total)
            _round_to(total, 1 << 13, 14, out[c, y * width : (y + 1) * width])
