"""BLUR and CONVOLVE in integers: weights of 14 fraction bits, two taps at once, on padded rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import CIRCULAR, CONSTANT, EDGE, REFLECT
from gpuaug.kernels.numba.common import BORDER, SIZE, WEIGHTS_ACROSS, WEIGHTS_DOWN, copy
from gpuaug.kernels.numba.llvm.filter import COLUMNS, across, correlate, down
from gpuaug.kernels.numba.runtime.jit import inner, kernel

__all__ = ["blur", "convolve"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

ZERO = np.uint8(0)
STEP = 4  # pairs of rows in one round


@inner
def _place(i: Scalar, size: Scalar, border: Scalar) -> Scalar:
    """The pixel at index `i` of a padded axis of `size` pixels; -1: zero."""
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
def _edges(size: Scalar, before: Scalar, border: Scalar, edges: Array) -> None:
    """Write to `edges` the pixels of the `before` padding columns on the left of a row, then of those on its right."""
    for n in range(before):
        edges[n] = _place(n - before, size, border)
        edges[before + n] = _place(size + n, size, border)


@inner
def _pad(row: Array, edges: Array, padded: Array) -> None:
    before, size = edges.size // 2, row.size
    left, right = padded[:before], padded[before + size : before + size + before]
    for n in range(before):
        left[n] = row[edges[n]] if edges[n] >= 0 else ZERO
        right[n] = row[edges[before + n]] if edges[before + n] >= 0 else ZERO
    copy(row, padded[before : before + size])


@inner
def _taps(weights: Array, start: Scalar, n: Scalar, offsets: Array, table: Array) -> Scalar:
    """Write a row of taps, which begins at `start`, as pairs from pair `n` on, without zeros; returns their end."""
    words, k = table.view(np.int16), 0
    while k < weights.size:
        if weights[k] == 0:
            k += 1
            continue
        offsets[n] = start + k
        words[2 * n] = weights[k]
        words[2 * n + 1] = weights[k + 1] if k + 1 < weights.size else 0
        n += 1
        k += 2
    return n


@inner
def _pairs(weights: Array, lead: Scalar, table: Array) -> Scalar:
    """Write `lead` (0 or 1) zeros and all weights, as pairs, padded with zeros. Returns how many, the same for both."""
    words, pairs = table.view(np.int16), weights.size // 2 + 1
    words[: 2 * pairs] = 0
    words[lead : lead + weights.size] = weights
    return pairs


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
def _narrow(source: Array, height: Scalar, width: Scalar, out: Array) -> None:
    """Copy the first `width` of COLUMNS columns."""
    for y in range(height):
        copy(source[y * COLUMNS : y * COLUMNS + width], out[y * width : (y + 1) * width])


@kernel
def blur(canvas: Array, height: int, width: int, operands: Array, weights: Array, out: Array, scratch: Array) -> None:
    """Separable blur. Args: canvas, out (C, H W) uint8; operands, weights of `Op.BLUR`; scratch of `scratch_size`.

    `lines` holds rows after the horizontal pass, in pairs. A round adds STEP pairs; the next one needs the last `kept`.
    """
    kx, ky = int(operands[WEIGHTS_ACROSS]), int(operands[WEIGHTS_DOWN])
    first, end = _support(weights[kx : kx + ky])
    offsets, table, for_a, for_b = scratch[:64], scratch[64:128], scratch[128:192], scratch[192:256]
    taps = _taps(weights[:kx], 0, 0, offsets, table)
    pairs = _pairs(weights[kx + first : kx + end], 0, for_a)
    _pairs(weights[kx + first : kx + end], 1, for_b)
    edges, scratch = scratch[256 : 255 + kx], scratch[384:]
    _edges(width, kx // 2, REFLECT, edges)
    kept, top = pairs - 1, first - ky // 2
    wide, line = max(width, COLUMNS), -(-width // COLUMNS) * COLUMNS
    pitch, size = wide + kx, (kept + STEP) * line
    lines, scratch = scratch[:size], scratch[size:].view(np.uint8)
    padded, narrow = scratch[: 2 * STEP * pitch], scratch[2 * STEP * pitch :]
    for c in range(canvas.shape[0]):
        target = narrow if width < COLUMNS else out[c]
        for y in range(-2 * STEP * -(-kept // STEP), height, 2 * STEP):  # rounds below 0 only fill `lines`
            copy(lines[STEP * line : size], lines[: kept * line])
            steps = min(STEP, (height - y + 1) // 2)
            for n in range(2 * steps):
                at = _place(y + 2 * kept + n + top, height, REFLECT) * width
                _pad(canvas[c, at : at + width], edges, padded[n * pitch : (n + 1) * pitch])
            for n in range(steps):
                for at in range(0, line, COLUMNS):
                    a = 2 * n * pitch + min(at, wide - COLUMNS)
                    across(padded, a, a + pitch, offsets, table, taps, lines, (kept + n) * line + at)
            for n in range(steps if y >= 0 else 0):
                a, b = y + 2 * n, min(y + 2 * n + 1, height - 1)
                for at in range(0, line, COLUMNS):
                    x = min(at, wide - COLUMNS)
                    down(lines, n * line + at, line, for_a, for_b, pairs, target, a * wide + x, b * wide + x)
        if width < COLUMNS:
            _narrow(narrow, height, width, out[c])


@kernel
def convolve(
    canvas: Array, height: int, width: int, operands: Array, weights: Array, out: Array, scratch: Array
) -> None:
    """Correlate with a two-dimensional kernel, for `Op.CONVOLVE`. Args as of `blur`."""
    size, border = int(operands[SIZE]), int(operands[BORDER])
    wide, most = max(width, COLUMNS), size * (size + 1) // 2
    pitch = wide + size
    offsets, table, edges = scratch[:most], scratch[most : 2 * most], scratch[2 * most : 2 * most + size - 1]
    taps = 0
    for j in range(size):
        taps = _taps(weights[j * size : (j + 1) * size], j * pitch, taps, offsets, table)
    _edges(width, size // 2, border, edges)
    rows = height + size - 1
    scratch = scratch[2 * most + size :].view(np.uint8)
    padded, narrow = scratch[: rows * pitch], scratch[rows * pitch :]
    for c in range(canvas.shape[0]):
        target = narrow if width < COLUMNS else out[c]
        for y in range(rows):
            at, row = _place(y - size // 2, height, border) * width, padded[y * pitch : (y + 1) * pitch]
            if at >= 0:
                _pad(canvas[c, at : at + width], edges, row)
            else:
                row[:] = ZERO
        for a in range(0, height, 2):
            b = min(a + 1, height - 1)
            for at in range(0, width, COLUMNS):
                x = min(at, wide - COLUMNS)
                correlate(
                    padded, a * pitch + x, b * pitch + x, offsets, table, taps, target, a * wide + x, b * wide + x
                )
        if width < COLUMNS:
            _narrow(narrow, height, width, out[c])
