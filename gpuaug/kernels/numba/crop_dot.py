"""The passes of `crop` for processors that multiply four bytes at once (`llvm.dot`), with the same bits.

Between the passes four rows lie together, so that the second pass multiplies what it loads.
"""

from __future__ import annotations

import numpy as np

from gpuaug.kernels.numba.llvm.crop import prefetch
from gpuaug.kernels.numba.llvm.dot import CHUNK, HEAD, ROWS, SPAN, START, across_planar, across_rgb, down
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["CHUNKS", "NARROWEST", "across", "arrange", "downwards", "lanes_size"]

CHUNKS = 6  # most chunks of four taps
NARROWEST = 64  # columns that the second pass writes at once
EACH = 0x01010101  # times a byte: that byte four times
STEPS = 0x03020100


def lanes_size(width: int) -> int:
    """Length of the int32 scratch for the lanes of a line."""
    return 3 * ((width + 15) // 16) * (HEAD + CHUNK * CHUNKS)


@inner
def arrange(pixels, columns, first, counts, lo, n_in, width, row, chunks, table, precision, step, lanes):
    """Write what the pass across needs for each vector of 16 outputs; False if it cannot serve this line.

    Args:
        pixels: (width,) int32, the resized pixel of each column, -1: the fill.
        columns: (pitch,) int32, set to the first source pixel of each column.
        first, counts, table: Taps of the resized pixels from lo on, as `weights` returns them, `row` for each.
        step: 3 for pixels of three bytes, which become three outputs, 1 for planes.
        lanes: For each vector 16 sums, which each begin with, the place of the first pixel, and for each chunk of four
            taps 16 orders of bytes, 16 times four high and four low bytes of weights.
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
        at = np.int64(first[held])
        columns[x] = at - (min(max(at + 4 * chunks - n_in, 0), at) if n_in >= 4 * chunks else 0)
    size = HEAD + CHUNK * chunks
    for vector in range(step * pitch // 16):
        lowest, highest = np.int64(n_in), np.int64(0)
        for x in range(16 * vector // step, (16 * vector + 15) // step + 1):
            lowest, highest = min(lowest, np.int64(columns[x])), max(highest, np.int64(columns[x]))
        if step * (highest - lowest + 4) > SPAN:
            return False
        lanes[vector * size + START] = step * lowest
    half = np.int64(1) << (precision - 1)
    for x in range(pitch):
        if x < width and pixels[x] >= lo:
            held = np.int64(pixels[x]) - lo
        shift, count, total = np.int64(first[held]) - columns[x], np.int64(counts[held]), np.int64(0)
        for k in range(chunks):
            high, low = np.int64(0), np.int64(0)
            for t in range(4):
                j = 4 * k + t - shift
                w = np.int64(table[held * row + j]) if 0 <= j < count else np.int64(0)
                high |= (w >> 8 & 255) << 8 * t
                low |= (w & 255) << 8 * t
                total += w & 255
            for c in range(step):
                to = (step * x + c) // 16 * size
                at = to + HEAD + CHUNK * k + (step * x + c) % 16
                lanes[at] = (step * columns[x] - lanes[to + START] + c) * EACH + step * STEPS
                lanes[at + 16] = high
                lanes[at + 32] = low
        for c in range(step):
            lanes[(step * x + c) // 16 * size + (step * x + c) % 16] = 128 * total + half
    return True


@inner
def across(src, base, stride_y, stride_c, planes, n_x, columns, where, n_rows, pitch, chunks, precision, step, lanes,
           mid, spare):  # fmt: skip
    """The pass across of the rows where[:n_rows] to mid, as [n_rows / ROWS][plane][column][ROWS] bytes.

    mid[spare:]: room for rows that lie at the end of `src`, where a vector would read beyond it.
    """
    lowest, highest = np.int64(columns[0]), np.int64(columns[0])
    for x in range(pitch):
        lowest, highest = min(lowest, np.int64(columns[x])), max(highest, np.int64(columns[x]))
    reach = step * (highest + 4 * (chunks - 1)) + SPAN
    stop = min(highest + 4 * chunks, n_x)
    size = HEAD + CHUNK * chunks
    for group in range((n_rows + ROWS - 1) // ROWS):
        first = ROWS * group
        for c in range(1 if step == 3 else planes):
            line = base + c * stride_c
            rows = (
                line + where[first] * stride_y,
                line + where[min(first + 1, n_rows - 1)] * stride_y,
                line + where[min(first + 2, n_rows - 1)] * stride_y,
                line + where[min(first + 3, n_rows - 1)] * stride_y,
            )
            source = src
            if max(rows[0], rows[3]) + reach > src.size:
                for r in range(ROWS):
                    for x in range(step * lowest, step * stop):
                        mid[spare + r * reach + x] = src[rows[r] + x]
                source, rows = mid, (spare, spare + reach, spare + 2 * reach, spare + 3 * reach)
            to = (group * planes + c) * pitch * ROWS
            for block in range(pitch // 16):
                at = step * block * size
                ahead = ROWS * stride_y + lanes[at + START]
                for k in range(ROWS):
                    prefetch(source, rows[k] + ahead)  # the hardware prefetcher stops at every row of the box
                if step == 3:
                    across_rgb(source, rows, lanes, at, chunks, precision, mid, to + 64 * block, ROWS * pitch)
                else:
                    across_planar(source, rows, lanes, at, chunks, precision, mid, to + 64 * block, 0)


@inner
def downwards(mid, planes, pitch, slot, count, weights, precision, taps, out, y):
    """The second pass of output row y, from `count` rows from number `slot` on; taps: int32 scratch."""
    begin, groups, total = slot % ROWS, (slot % ROWS + count + ROWS - 1) // ROWS, np.int64(0)
    for g in range(2 * groups):
        taps[g] = 0
    for j in range(count):
        w, at = np.int64(weights[j]), begin + j
        taps[at // ROWS * 2] |= (w >> 8 & 255) << 8 * (at % ROWS)
        taps[at // ROWS * 2 + 1] |= (w & 255) << 8 * (at % ROWS)
        total += w & 255
    bias = np.int32(128 * total + (np.int64(1) << (precision - 1)))
    height, width = out.shape[1], out.shape[2]
    step = planes * pitch * ROWS
    for c in range(planes):
        at = slot // ROWS * step + c * pitch * ROWS
        for x in range(0, width, NARROWEST):
            x = min(x, width - NARROWEST)
            down(mid, at + ROWS * x, step, taps, groups, bias, precision, out, (c * height + y) * width + x)
