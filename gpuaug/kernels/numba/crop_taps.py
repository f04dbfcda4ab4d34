"""Integer taps of a resize, one axis at a time: the arithmetic of `gpuaug.kernels.resample`, for one sample."""

from __future__ import annotations

import math

import numpy as np

from gpuaug.instructions import BILINEAR, NEAREST_EXACT
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["NEAREST_EXACT_SMALL", "taps", "weights"]

NEAREST_EXACT_SMALL = -1  # NEAREST_EXACT as ATen rounds it if output height + width is at most SMALL


@inner
def _tap(i, n_in, scale, filter_, antialias, support, size, real, at, stride):
    """Write float taps of output `i` to `real[at::stride]`; returns first input, number of inputs, largest tap."""
    largest = 0.0
    if antialias:
        center = scale * (i + 0.5)
        inverse = 1.0 / scale if scale >= 1.0 else 1.0
        first = max(np.int64(center - support + 0.5), 0)
        count = min(max(min(np.int64(center + support + 0.5), n_in) - first, 0), size)
        total = 0.0
        for j in range(count):
            x = abs((j + first - center + 0.5) * inverse)
            w = max(1.0 - x, 0.0) if filter_ == BILINEAR else _cubic(x, -0.5)
            real[at + j * stride] = w
            total += w
        if total != 0.0:
            for j in range(count):
                w = real[at + j * stride] / total
                real[at + j * stride] = w
                largest = max(largest, w)
        return first, count, largest
    source = scale * (i + 0.5) - 0.5
    if filter_ == BILINEAR:
        source = max(source, 0.0)
    index = min(np.int64(math.floor(source)), n_in - 1)
    part = min(max(source - index, 0.0), 1.0)
    unbound = index - size // 2 + 1
    first = max(unbound, 0)
    count = min(max(min(index + size // 2 + 1, n_in) - first, 0), size)
    instruction = 0
    for j in range(size):
        real[at + j * stride] = 0.0
        x = abs(np.float64(j + 1 - size // 2) - part)
        w = max(1.0 - x, 0.0) if filter_ == BILINEAR else _cubic(x, -0.75)
        if unbound + j <= 0:
            instruction = 0
        elif unbound + j >= n_in - 1:
            instruction = count - 1
        real[at + instruction * stride] += w
        largest = max(largest, real[at + instruction * stride])
        instruction += 1
    return first, count, largest


@inner
def _cubic(x, a):
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return 0.0


@inner
def _antialiased(n_in, lo, hi, scale, filter_, support, size, first, count, real, stride):
    """As `_tap` for outputs lo..hi-1, whose taps are in columns of `real`; returns the largest.

    Written as loops over outputs, which LLVM vectorises; indices without a sign need no check for negative ones.
    """
    inverse = 1.0 / scale if scale >= 1.0 else 1.0
    n, totals = hi - lo, np.uint64(size * stride)  # the taps have one line more than is needed
    for i in range(n):
        center = scale * (np.float64(i + lo) + 0.5)
        start = max(np.int64(center - support + 0.5), 0)
        first[i] = start
        count[i] = min(max(min(np.int64(center + support + 0.5), n_in) - start, 0), size)
        real[totals + np.uint64(i)] = 0.0
    for j in range(size):
        line = np.uint64(j * stride)
        for i in range(n):
            center = scale * (np.float64(i + lo) + 0.5)
            x = abs((np.float64(j + np.int64(first[i])) - center + 0.5) * inverse)
            w = max(1.0 - x, 0.0) if filter_ == BILINEAR else _cubic(x, -0.5)
            w = w if j < count[i] else 0.0
            real[line + np.uint64(i)] = w
            real[totals + np.uint64(i)] += w
    for j in range(size):
        line = np.uint64(j * stride)
        for i in range(n):
            total = real[totals + np.uint64(i)]
            real[line + np.uint64(i)] /= total if total != 0.0 else 1.0
    largest = 0.0
    for j in range(size):
        line = np.uint64(j * stride)
        for i in range(n):
            before = real[totals + np.uint64(i)] if j > 0 else 0.0
            real[totals + np.uint64(i)] = max(before, real[line + np.uint64(i)])
    for i in range(n):
        largest = max(largest, real[totals + np.uint64(i)])
    return largest


@inner
def taps(n_in, n_out, filter_, antialias):
    """Row length of the weight table of one axis: room for all taps of one output."""
    if n_in == n_out or filter_ < BILINEAR:
        return 2
    size = 2 * (filter_ - 1)
    if not antialias:
        return size
    return math.ceil(0.5 * size * max(n_in / n_out, 1.0)) * 2 + 2


@inner
def weights(n_in, n_out, filter_, antialias, lo, hi, first, count, table, real):
    """Integer weights of outputs lo..hi-1 of an axis of n_in pixels resampled to n_out; returns the precision.

    first, count int32[hi - lo]; table int16[(hi - lo) * taps(...)], zero padded; real float64, for one output more.
    The pixel is (sum(count weights * inputs from first) + (1 << precision >> 1)) >> precision, clamped.
    """
    row = taps(n_in, n_out, filter_, antialias)
    if n_in == n_out or filter_ < BILINEAR:
        scale32 = np.float32(n_in) / np.float32(n_out)
        for i in range(lo, hi):
            index = i
            if n_in != n_out and filter_ == NEAREST_EXACT:  # ATen fuses scale * (i + 0.5) - 0.5 into one operation
                index = np.int64(math.floor(np.float32((i + 0.5) * scale32 - 0.5) + np.float32(0.5)))
            elif n_in != n_out and filter_ == NEAREST_EXACT_SMALL:
                index = np.int64(math.floor(np.float32((i + 0.5) * scale32)))
            elif n_in != n_out:
                index = np.int64(math.floor(np.float32(i) * scale32))
            first[i - lo] = min(index, n_in - 1)
            count[i - lo] = 1
            table[2 * (i - lo)] = 1 << 14
            table[2 * (i - lo) + 1] = 0
        return np.int32(14)
    scale = n_in / n_out
    size = 2 * (filter_ - 1)
    support = 0.5 * size
    if antialias:
        support = support * scale if scale >= 1.0 else support
        size = math.ceil(support) * 2 + 1
    largest, stride, begin, end = 0.0, hi - lo + 1, lo, lo
    if antialias:
        largest = _antialiased(n_in, lo, hi, scale, filter_, support, size, first, count, real, stride)
        begin, end = lo, hi
    for i in range(n_out):
        if begin <= i < end:
            continue
        at = i - lo if lo <= i < hi else hi - lo
        start, n, top = _tap(i, n_in, scale, filter_, antialias, support, size, real, at, stride)
        largest = max(largest, top)
        if at < hi - lo:
            first[at] = start
            count[at] = n
    precision = 0
    while precision < 22 and int(0.5 + largest * (1 << (precision + 1))) < 1 << 15:
        precision += 1
    one = float(1 << precision)
    for j in range(row):
        for i in range(hi - lo):
            v = real[np.uint64(j * stride) + np.uint64(i)] * one if j < count[i] else 0.0
            table[np.uint64(i * row) + np.uint64(j)] = np.int32(v - 0.5 if v < 0 else v + 0.5)
    return np.int32(precision)
