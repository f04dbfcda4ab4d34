"""CONTRAST, AUTOCONTRAST and EQUALIZE: tables that depend on statistics of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.kernels.numba.common import AUTOCONTRAST, CONTRAST, FACTOR, REST, byte, luma
from gpuaug.kernels.numba.llvm.intrinsics import fma
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["compose", "statistics"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

STEP = np.float32(1 / 255)


@inner
def compose(pending: Array, table: Array) -> None:
    """Set `pending` to the table that applies `pending`, then `table`."""
    for v in range(256):
        pending[v] = table[pending[v]]


@inner
def _count(plane: Array, pending: Array, bins: Array, counts: Array) -> None:
    """Histogram (256,) of `pending[plane]`: in four parts, so that equal neighbours do not wait for each other."""
    for i in range(1024):
        bins[i] = 0
    quarter = plane.size // 4
    two, three, four = plane[quarter:], plane[2 * quarter :], plane[3 * quarter :]
    bins_2, bins_3, bins_4 = bins[256:], bins[512:], bins[768:]
    for i in range(quarter):
        bins[plane[i]] += 1
        bins_2[two[i]] += 1
        bins_3[three[i]] += 1
        bins_4[four[i]] += 1
    for i in range(4 * quarter, plane.size):
        bins[plane[i]] += 1
    for v in range(256):
        counts[v] = 0
    for v in range(256):
        counts[pending[v]] += bins[v] + bins_2[v] + bins_3[v] + bins_4[v]


@inner
def _grey_sum(r: Array, g: Array, b: Array) -> Scalar:
    total: Scalar = 0
    for i in range(r.size):
        total += np.int32(luma(r[i], g[i], b[i]))
    return total


@inner
def _sum(plane: Array) -> Scalar:
    total = 0
    for i in range(plane.size):
        total += plane[i]
    return total


@inner
def _contrast_table(mean: Scalar, factor: Scalar, weight: Scalar, table: Array) -> None:
    for v in range(256):
        table[v] = byte(fma(mean, weight, np.float32(v) * factor))


@inner
def _extremes(plane: Array) -> tuple[Scalar, Scalar]:
    low, high = np.uint8(255), np.uint8(0)
    for i in range(plane.size):
        v = plane[i]
        low = v if v < low else low
        high = v if v > high else high
    return low, high


@inner
def _occupied(counts: Array) -> tuple[Scalar, Scalar]:
    low, high = 0, 255
    while low < 255 and counts[low] == 0:
        low += 1
    while high > 0 and counts[high] == 0:
        high -= 1
    return low, high


@inner
def _autocontrast_table(low: Scalar, high: Scalar, table: Array) -> None:
    scale = np.float32(high - low) * STEP
    for v in range(256):
        table[v] = byte(np.float32(v - low) / scale) if high > low else np.uint8(v)


@inner
def _equalize_table(counts: Array, size: Scalar, table: Array) -> None:
    high = 255
    while high > 0 and counts[high] == 0:
        high -= 1
    step = (size - counts[high]) // 255
    below = step // 2
    for v in range(256):
        table[v] = np.uint8(min(below // step, 255)) if step > 0 else np.uint8(v)
        below += counts[v]


@inner
def statistics(opcode: Scalar, operands: Array, canvas: Array, pending: Array, clean: bool, scratch: Array) -> None:
    """Compose the instruction's table into `pending`, which is the identity if `clean`. Scratch: (1536,) int32."""
    channels, size = canvas.shape
    table, counts = scratch[:256], scratch[256:512]
    for c in range(channels):
        if opcode == CONTRAST:
            if c == 0:
                total = _grey_sum(canvas[0], canvas[1], canvas[2]) if channels == 3 else _sum(canvas[0])
                _contrast_table(np.float32(total) / np.float32(size), operands[FACTOR], operands[REST], table)
        elif opcode == AUTOCONTRAST and clean:
            low, high = _extremes(canvas[c])
            _autocontrast_table(np.int64(low), np.int64(high), table)
        else:
            _count(canvas[c], pending[c], scratch[512:], counts)
            if opcode == AUTOCONTRAST:
                first, last = _occupied(counts)
                _autocontrast_table(first, last, table)
            else:
                _equalize_table(counts, size, table)
        compose(pending[c], table)
