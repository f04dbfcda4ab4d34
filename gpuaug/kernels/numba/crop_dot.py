"""The passes of `crop` for processors that multiply four bytes at once (`llvm.dot`), with the same bits.

Between the passes four rows lie together, so that the second pass multiplies what it loads.
"""

from __future__ import annotations

import numpy as np

from gpuaug.kernels.numba.llvm.crop import prefetch
from gpuaug.kernels.numba.llvm.dot import (
    CHUNK,
    HEAD,
    ROWS,
    SPAN,
    START,
    across_planar,
    across_rgb,
    down,
    halves,
    orders_planar,
    orders_rgb,
    spread_planar,
    spread_rgb,
)  # fmt: skip
from gpuaug.kernels.numba.llvm.vectors import LINE
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["AHEAD", "CHUNKS", "NARROWEST", "across", "arrange", "ask", "downwards", "ends", "lanes_size"]

CHUNKS = 6  # most chunks of four taps
NARROWEST = 64  # columns that the second pass writes at once
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
AHEAD, FAR = 4, 16  # rows that are asked for before four rows are computed, and at most, from the first of them on


def lanes_size(width: int) -> int:
    """Length of the int32 scratch for the lanes of a line."""
    return 3 * ((width + 15) // 16) * (HEAD + CHUNK * CHUNKS)


@inner
def _bytes(table, at, count, j):
    """The low and high bytes of four weights of an output from its j-th on, zero from `count` on, as `halves`."""
    kept = (np.uint64(1) << np.uint64(8 * min(count - j, 4))) - np.uint64(1) if count > j else np.uint64(0)
    return halves(table, at + j) & (kept | kept << HALF) if count > j else np.uint64(0)


@inner
def _sum(both):
    """The sum of the four low bytes."""
    pairs = (both & np.uint64(0xFF00FF)) + ((both >> np.uint64(8)) & np.uint64(0xFF00FF))
    return np.int64((pairs & np.uint64(0xFFFF)) + (pairs >> np.uint64(16)))


@inner
def ends(base, stride_y, stride_c, planes, height, width, step):
    """Where the last byte ends that may be read for a box: taps and vectors reach beyond its last pixel."""
    return base + (height - 1) * stride_y + (planes - 1) * stride_c + step * (width + 4 * CHUNKS) + SPAN


@inner
def arrange(pixels, columns, first, counts, lo, n_in, width, row, chunks, table, precision, step, lanes, values):
    """Write what the pass across needs for each vector of 16 outputs; False if it cannot serve this line.

    Args:
        pixels: (width,) int32, the resized pixel of each column, -1: the fill.
        columns: (pitch,) int32, set to the first source pixel of each column.
        first, counts, table: Taps of the resized pixels from lo on, as `weights` returns them, `row` for each.
        step: 3 for pixels of three bytes, which become three outputs, 1 for planes.
        lanes: For each vector 16 sums, which each begin with, the place of the first pixel, and for each chunk of four
            taps 16 orders of bytes, 16 times four high and four low bytes of weights.
        values: (32 (CHUNKS + 1),) int32, scratch.
    """
    if chunks > CHUNKS:
        return False
    pitch = (width + 15) // 16 * 16
    held = np.int64(0)
    while pixels[held] < lo:  # there is one: the window shows a part of the image
        held += 1
    held = np.int64(pixels[held]) - lo
    for x in range(pitch):
        if x < width and pixels[x] >= lo:
            held = np.int64(pixels[x]) - lo  # padding repeats its neighbour, and the fill overwrites it later
        columns[x] = first[held]
    size = HEAD + CHUNK * chunks
    for vector in range(step * pitch // 16):
        lowest, highest = np.int64(n_in), np.int64(0)
        for x in range(16 * vector // step, (16 * vector + 15) // step + 1):
            lowest, highest = min(lowest, np.int64(columns[x])), max(highest, np.int64(columns[x]))
        if step * (highest - lowest + 4) > SPAN:
            return False
        lanes[vector * size + START] = step * lowest
    half = np.int64(1) << (precision - 1)
    for block in range(pitch // 16):
        to = step * block * size
        for lane in range(16):
            x = 16 * block + lane
            if x < width and pixels[x] >= lo:
                held = np.int64(pixels[x]) - lo
            count, total = np.int64(counts[held]), np.int64(0)
            for k in range(chunks):
                both = _bytes(table, held * row, count, 4 * k)
                values[32 * k + lane] = both >> HALF
                values[32 * k + 16 + lane] = both
                total += _sum(both)
            values[32 * chunks + lane] = 128 * total + half
            values[32 * chunks + 16 + lane] = step * columns[x]
        if step == 3:
            spread_rgb(values, 32 * chunks, lanes, to, 0, size)
        else:
            spread_planar(values, 32 * chunks, lanes, to, 0, size)
        for k in range(chunks):
            at = HEAD + CHUNK * k
            if step == 3:
                orders_rgb(values, 32 * chunks + 16, lanes, to, at, size)
                spread_rgb(values, 32 * k, lanes, to, at + 16, size)
                spread_rgb(values, 32 * k + 16, lanes, to, at + 32, size)
            else:
                orders_planar(values, 32 * chunks + 16, lanes, to, at, size)
                spread_planar(values, 32 * k, lanes, to, at + 16, size)
                spread_planar(values, 32 * k + 16, lanes, to, at + 32, size)
    return True


@inner
def ask(src, base, stride_y, stride_c, planes, begin, end, where, asked, n_rows, count):
    """Tell the processor that `count` further rows will be read, one after another; returns how many were asked for.

    The hardware prefetcher stops at every row of a box.
    """
    stop = min(asked + count, n_rows)
    for r in range(asked, stop):
        for c in range(planes):
            line = base + where[r] * stride_y + c * stride_c
            for x in range(begin, end, LINE):
                prefetch(src, line + x)
    return max(asked, stop)


@inner
def across(src, base, stride_y, stride_c, planes, where, first, n_rows, pitch, chunks, precision, step, lanes, mid):
    """The pass across of ROWS rows, where[first:] of where[:n_rows], to mid[row / ROWS][plane][column][ROWS]."""
    size = HEAD + CHUNK * chunks
    for c in range(1 if step == 3 else planes):
        line = base + c * stride_c
        rows = (
            line + where[first] * stride_y,
            line + where[min(first + 1, n_rows - 1)] * stride_y,
            line + where[min(first + 2, n_rows - 1)] * stride_y,
            line + where[min(first + 3, n_rows - 1)] * stride_y,
        )
        to = (first // ROWS * planes + c) * pitch * ROWS
        for block in range(pitch // 16):
            at = step * block * size
            if step == 3:
                across_rgb(src, rows, lanes, at, chunks, precision, mid, to + 64 * block, ROWS * pitch)
            else:
                across_planar(src, rows, lanes, at, chunks, precision, mid, to + 64 * block, 0)


@inner
def downwards(mid, planes, pitch, slot, count, table, start, precision, taps, out, y):
    """The second pass of output row y, from `count` rows from number `slot` on, with the weights table[start:].

    taps: int32 scratch for the high and low bytes of the weights of each group of rows.
    """
    begin = slot % ROWS
    total = np.int64(0)
    groups, by = (begin + count + ROWS - 1) // ROWS, np.uint64(8 * begin)
    taps[0], taps[1] = 0, 0
    for k in range((count + 3) // 4):
        both = _bytes(table, start, count, 4 * k)
        high, low = (both >> HALF) << by, (both & LOW) << by
        taps[2 * k] |= np.int64(high & LOW)
        taps[2 * k + 1] |= np.int64(low & LOW)
        taps[2 * k + 2], taps[2 * k + 3] = high >> HALF, low >> HALF
        total += _sum(both)
    bias = np.int32(128 * total + (np.int64(1) << (precision - 1)))
    height, width = out.shape[1], out.shape[2]
    step = planes * pitch * ROWS
    for c in range(planes):
        at = slot // ROWS * step + c * pitch * ROWS
        for x in range(0, width, NARROWEST):
            x = min(x, width - NARROWEST)
            down(mid, at + ROWS * x, step, taps, groups, bias, precision, out, (c * height + y) * width + x)
