"""Crop, resize, pad and flip one uint8 image in one call, with the integer arithmetic of ATen's uint8 resize."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import NEAREST_EXACT, SMALL
from gpuaug.kernels.numba.crop_dot import (
    AHEAD,
    CHUNKS,
    FAR,
    NARROWEST,
    across,
    arrange,
    ask,
    downwards,
    ends,
    lanes_size,
)
from gpuaug.kernels.numba.crop_taps import NEAREST_EXACT_SMALL, taps, weights
from gpuaug.kernels.numba.cut import cut_window, place
from gpuaug.kernels.numba.llvm.crop import ROWS, horizontal_four, horizontal_rgb, interleave, prefetch, vertical
from gpuaug.kernels.numba.llvm.dot import DOT
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["crop", "make_scratch"]

Scratch = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

WHERE_X, WHERE_Y, FIRST, COUNT, COLUMN, SLOT, ROW = range(7)  # rows of the int32 scratch


@inner
def _expand(index, lo, n_in, width, row, chunks, table, wide):
    """Arrange the weights for the horizontal pass: wide[block][chunk][quad][2][4 columns][4 pairs]."""
    blocks = (width + 15) // 16
    for x in range(blocks * 16):
        i = np.int64(index[WHERE_X, x]) - lo if x < width else np.int64(-1)
        if i < 0 or i + lo < 0:
            i = np.int64(0)  # padding: any value, since the fill overwrites it later
        first, count = np.int64(index[FIRST, i]), np.int64(index[COUNT, i])
        shift = min(max(first + 4 * chunks - n_in, 0), first) if n_in >= 4 * chunks else 0
        index[COLUMN, x] = first - shift
        for k in range(chunks):
            to = ((x // 16 * chunks + k) * 4 + x % 16 // 4) * 64 + x % 4 * 8
            for t in range(4):
                j = 4 * k + t - shift
                w = table[i * row + j] if 0 <= j < count else np.int16(0)
                for c in range(4):
                    wide[to + t // 2 * 32 + 2 * c + t % 2] = w


@inner
def crop(
    src,
    offset,
    stride_y,
    stride_x,
    stride_c,
    box,
    resized,
    window,
    flip,
    filter_,
    antialias,
    padding_mode,
    fill,
    out,
    scratch,
):
    """Resample a box of `src`, cut the window `out` from it, pad and mirror it (long: one compiled call per image).

    src uint8[:], pixel (y, x, c) at offset + y * stride_y + x * stride_x + c * stride_c; box = top, left, height,
    width; resized = height, width; window = top, left in the resized image; flip = horizontal, vertical; fill
    float32[C]; out uint8[C, H, W], contiguous; scratch of `make_scratch`, one per thread; ValueError if too small.
    """
    mid, index, table, wide, real, lanes, pairs = scratch
    if index.shape[1] < max(out.shape[1], out.shape[2]):
        raise ValueError("scratch is too small")
    if box[2] == resized[0] and box[3] == resized[1]:
        base = offset + box[0] * stride_y + box[1] * stride_x
        cut_window(
            src, base, stride_y, stride_x, stride_c, np.int64(resized[0]), np.int64(resized[1]),
            np.int64(window[0]), np.int64(window[1]), flip[0], flip[1], padding_mode, fill, out, index[WHERE_X],
            index[WHERE_Y],
        )  # fmt: skip
        return
    kind = filter_
    if filter_ == NEAREST_EXACT and resized[0] + resized[1] <= SMALL:
        kind = NEAREST_EXACT_SMALL
    planes, height, width = out.shape
    base = offset + box[0] * stride_y + box[1] * stride_x
    pitch = (width + 15) // 16 * 16
    chunks = np.int64(1)
    row = np.int64(2)
    lo = np.int64(0)
    precision = np.int32(0)
    rgb = planes == 3 and stride_c == 1 and stride_x == 3
    dot = DOT and width >= NARROWEST and (rgb or stride_x == 1)
    step = 3 if rgb else 1
    dot = dot and ends(base, stride_y, stride_c, planes, box[2], box[3], step) <= src.size  # not at the end of a batch
    for axis in range(1, -1, -1):
        n_in, n_out, start = np.int64(box[2 + axis]), np.int64(resized[axis]), np.int64(window[axis])
        size = width if axis else height
        where = WHERE_X if axis else WHERE_Y
        if index.shape[1] < max(size + 15, n_in if axis == 0 else 0):
            raise ValueError("scratch is too small")
        lo, hi = place(start, n_out, flip[1 - axis], padding_mode, index[where], size)
        if hi <= lo:
            for c in range(planes):
                out[c] = np.uint8(fill[c])
            return
        row = taps(n_in, n_out, filter_, antialias)
        if (hi - lo + 1) * row > min(real.size, table.size):
            raise ValueError("scratch is too small")
        precision_y = weights(n_in, n_out, kind, antialias, lo, hi, index[FIRST], index[COUNT], table, real)
        if axis:
            precision = precision_y
            widest = 1
            for i in range(hi - lo):
                widest = max(widest, np.int64(index[COUNT, i]))
            chunks = (widest + 3) // 4
            if 16 * pitch * chunks > wide.size:
                raise ValueError("scratch is too small")
            dot = dot and arrange(
                index[WHERE_X], index[COLUMN], index[FIRST], index[COUNT], lo, n_in, width, row, chunks, table,
                precision, step, lanes, pairs,
            )  # fmt: skip
            if not dot:
                _expand(index, lo, n_in, width, row, chunks, table, wide)
    n_x = np.int64(box[3])
    lowest, highest = np.int64(index[COLUMN, 0]), np.int64(index[COLUMN, 0])
    for x in range(pitch):
        lowest = min(lowest, np.int64(index[COLUMN, x]))
        highest = max(highest, np.int64(index[COLUMN, x]))
    n_rows, done = np.int64(0), np.int64(0)
    for i in range(height):
        i = i if hi - lo > i else 0
        for r in range(max(done, np.int64(index[FIRST, i])), index[FIRST, i] + index[COUNT, i]):
            index[SLOT, r] = n_rows
            index[ROW, n_rows] = r
            n_rows += 1
            done = r + 1
    lines = n_rows * planes
    line = (lines + ROWS * (planes + 4)) * pitch
    room = 4 * (highest + 4 * chunks + 16)
    if line + ROWS * room > mid.size:
        raise ValueError("scratch is too small")

    q = 0
    if dot:
        q = lines  # each row is computed when the first output needs it
    elif rgb:  # interleaved RGB is read in place, as far as src reaches
        for q in range(0, lines, 3 * ROWS):
            r = q // 3
            rows = (
                base + index[ROW, r] * stride_y,
                base + index[ROW, min(r + 1, n_rows - 1)] * stride_y,
                base + index[ROW, min(r + 2, n_rows - 1)] * stride_y,
                base + index[ROW, min(r + 3, n_rows - 1)] * stride_y,
            )
            if max(rows[0], rows[3]) + 3 * (highest + 4 * chunks) + 4 > src.size:
                break
            for block in range(pitch // 16):
                ahead = ROWS * stride_y + 3 * np.int64(index[COLUMN, 16 * block])
                for k in range(ROWS):
                    prefetch(src, rows[k] + ahead)  # the hardware prefetcher stops at every row of the box
                horizontal_rgb(
                    src, rows, index, COLUMN * index.shape[1], wide, block, chunks, precision, mid, q * pitch, pitch
                )
        else:
            q = lines
    stop = min(highest + 4 * chunks, n_x)
    for first_line in range(q, lines, 4 * ROWS):  # other layouts are interleaved first, four lines together
        for group in range(ROWS):
            q = first_line + 4 * group
            at0 = _line(base, q, lines, planes, stride_y, stride_c, index)
            at1 = _line(base, q + 1, lines, planes, stride_y, stride_c, index)
            at2 = _line(base, q + 2, lines, planes, stride_y, stride_c, index)
            at3 = _line(base, q + 3, lines, planes, stride_y, stride_c, index)
            to = line + group * room
            x = lowest
            if stride_x == 1:
                while x < stop and max(max(at0, at1), max(at2, at3)) + x + 16 <= src.size:
                    interleave(src, at0 + x, at1 + x, at2 + x, at3 + x, mid, to + 4 * x)
                    x += 16
            while x < stop:
                mid[to + 4 * x] = src[at0 + x * stride_x]
                mid[to + 4 * x + 1] = src[at1 + x * stride_x]
                mid[to + 4 * x + 2] = src[at2 + x * stride_x]
                mid[to + 4 * x + 3] = src[at3 + x * stride_x]
                x += 1
        rows = (line, line + room, line + 2 * room, line + 3 * room)
        for block in range(pitch // 16):
            horizontal_four(
                mid,
                rows,
                index,
                COLUMN * index.shape[1],
                wide,
                block,
                chunks,
                precision,
                mid,
                first_line * pitch,
                pitch,
            )

    x0, x1 = 0, width
    while index[WHERE_X, x0] < 0:
        x0 += 1
    while index[WHERE_X, x1 - 1] < 0:
        x1 -= 1
    ready, asked, together = np.int64(0), np.int64(0), np.int64(1 if rgb else planes)
    for y in range(height):
        i = np.int64(index[WHERE_Y, y]) - lo
        if index[WHERE_Y, y] < 0:
            for c in range(planes):
                for x in range(width):
                    out[c, y, x] = np.uint8(fill[c])
            continue
        count = np.int64(index[COUNT, i])
        if dot:
            slot = np.int64(index[SLOT, index[FIRST, i]])
            while ready < slot + count:
                asked = ask(
                    src, base, stride_y, stride_c, together, step * lowest, step * stop, index[ROW], asked, n_rows,
                    max(ready + AHEAD - asked, 0),
                )  # fmt: skip
                across(
                    src, base, stride_y, stride_c, np.int64(planes), index[ROW], ready, n_rows, pitch, chunks,
                    precision, step, lanes, mid,
                )  # fmt: skip
                ready += ROWS
            asked = ask(
                src, base, stride_y, stride_c, together, step * lowest, step * stop, index[ROW], asked, n_rows,
                1 if asked < ready + FAR else 0,
            )  # fmt: skip
            downwards(mid, planes, pitch, slot, count, table, i * row, precision_y, pairs, out, y)
        for c in range(planes):
            at = (index[SLOT, index[FIRST, i]] * planes + c) * pitch
            if dot:
                pass
            elif width >= 32:
                for x in range(0, width, 32):
                    x = min(x, width - 32)
                    vertical(
                        mid,
                        at + x,
                        planes * pitch,
                        table,
                        i * row,
                        (count + 1) // 2,
                        precision_y,
                        out,
                        (c * height + y) * width + x,
                    )
            else:
                for x in range(width):
                    total = np.int32(1) << (precision_y - np.int32(1))
                    for j in range(count):
                        total += np.int32(mid[at + j * planes * pitch + x]) * np.int32(table[i * row + j])
                    out[c, y, x] = min(max(total >> precision_y, np.int32(0)), np.int32(255))
            for x in range(x0):
                out[c, y, x] = np.uint8(fill[c])
            for x in range(x1, width):
                out[c, y, x] = np.uint8(fill[c])


@inner
def _line(base, q, lines, planes, stride_y, stride_c, index):
    q = min(q, lines - 1)
    return base + index[ROW, q // planes] * stride_y + q % planes * stride_c


def make_scratch(max_width: int, max_height: int, most_taps: int, channels: int, out_h: int, out_w: int) -> Scratch:
    """Scratch arrays of one thread, for boxes up to max_height x max_width with at most most_taps taps per column."""
    pitch, side = (out_w + 15) // 16 * 16, max(out_h, out_w)
    most = 8 * max(max_width, max_height) + 8 * (side + 1)
    mid = (max_height * channels + ROWS * (channels + 4)) * pitch + 4 * ROWS * (2 * max_width + 64)
    return (
        np.empty(mid, np.uint8),
        np.empty((7, max(side + 16, max_height)), np.int32),
        np.empty(most, np.int16),
        np.empty(16 * pitch * (most_taps // 4 + 2), np.int16),
        np.empty(most, np.float64),
        np.empty(lanes_size(out_w), np.int32),
        np.empty(max(2 * (max_height // ROWS + 2), 32 * (CHUNKS + 1)), np.int32),
    )
