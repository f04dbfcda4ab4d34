"""Positions of a window's pixels in an image, and the copy of a window that is not resampled."""

from __future__ import annotations

import numpy as np

from gpuaug.instructions import CONSTANT, EDGE, REFLECT
from gpuaug.kernels.numba.llvm.crop import PIXELS, copy_gray, copy_rgb, mirror_gray, mirror_rgb
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["cut", "cut_window", "place"]


@inner
def _source(i, n, mode):
    """The pixel, of 0..n-1, at position i of the padded line; -1 for the fill."""
    while i < 0 or i >= n:
        if mode == CONSTANT:
            return -1
        if mode == EDGE or n == 1:
            return 0 if i < 0 else n - 1
        i = (0 if i < 0 else 2 * n - 2) - i if mode == REFLECT else (-1 if i < 0 else 2 * n - 1) - i
    return i


@inner
def place(start, n, flip, padding_mode, where, size):
    """where[:size] = pixel (0..n-1) at each position of a window from `start`, -1: the fill. Returns lowest, end."""
    lo, hi = np.int64(n), np.int64(0)
    for x in range(size):
        i = _source(start + x, n, padding_mode)
        where[size - 1 - x if flip else x] = i
        if i >= 0:
            lo = min(lo, i)
            hi = max(hi, i + 1)
    return lo, hi


@inner
def cut_window(
    src,
    base,
    stride_y,
    stride_x,
    stride_c,
    size_y,
    size_x,
    start_y,
    start_x,
    flip_x,
    flip_y,
    padding_mode,
    fill,
    out,
    columns,
    lines,
):
    """Copy a window of the image at `base`, from (start_y, start_x) on, with padding and mirroring, to `out`.

    size_y, size_x: Size of the image. columns, lines: int32 scratch, as long as the sides of the window.
    """
    lo, hi = place(start_x, size_x, flip_x, padding_mode, columns, out.shape[2])
    low, high = place(start_y, size_y, flip_y, padding_mode, lines, out.shape[1])
    if hi <= lo or high <= low:
        for c in range(out.shape[0]):
            out[c] = np.uint8(fill[c])
        return
    cut(src, base, stride_y, stride_x, stride_c, columns, lines, fill, out)


@inner
def cut(src, base, stride_y, stride_x, stride_c, columns, lines, fill, out):
    """out[c, y, x] = the pixel in row lines[y] and column columns[x] of the box at `base`; -1 is the fill."""
    planes, height, width = out.shape
    x0, x1 = 0, width
    while columns[x0] < 0:
        x0 += 1
    while columns[x1 - 1] < 0:
        x1 -= 1
    count = x1 - x0
    first, last = np.int64(columns[x0]), np.int64(columns[x1 - 1])
    mirrored = last < first
    leftmost = min(first, last)
    run = count >= PIXELS and abs(last - first) == count - 1  # consecutive pixels of the row, in either order
    gray, rgb = run and stride_x == 1, run and planes == 3 and stride_c == 1 and stride_x == 3
    for y in range(height):
        i = np.int64(lines[y])
        if i < 0:
            for c in range(planes):
                for x in range(width):
                    out[c, y, x] = np.uint8(fill[c])
            continue
        line = base + i * stride_y
        if rgb:
            for x in range(0, count, PIXELS):
                x = min(x, count - PIXELS)
                at, to = line + 3 * (leftmost + x), y * width + x0
                if mirrored:
                    mirror_rgb(src, at, out, to + count - PIXELS - x, height * width)
                else:
                    copy_rgb(src, at, out, to + x, height * width)
        for c in range(0 if rgb else planes):
            at, to = line + c * stride_c, (c * height + y) * width + x0
            if gray and mirrored:
                for x in range(0, count, PIXELS):
                    x = min(x, count - PIXELS)
                    mirror_gray(src, at + leftmost + x, out, to + count - PIXELS - x, 0)
            elif gray:
                for x in range(0, count, PIXELS):
                    x = min(x, count - PIXELS)
                    copy_gray(src, at + leftmost + x, out, to + x, 0)
            else:
                for x in range(x0, x1):
                    out[c, y, x] = src[at + np.int64(columns[x]) * stride_x]
        for c in range(planes):
            for x in range(x0):
                out[c, y, x] = np.uint8(fill[c])
            for x in range(x1, width):
                out[c, y, x] = np.uint8(fill[c])
