"""Crop: resample a box, take a window of it, mirror it (long: kernels of weights and of pixels, and their launches).

Integers, as in ATen's uint8 kernels and the torch backend.

`taps` computes the first tap and the weights of each output row and column (in float64, then int16). `crop` then reads
the taps of each output pixel from the source: horizontally to whole levels, then vertically. Lines are resampled again
for each row that needs them: at most twice as many as in two passes, but no intermediate image is in memory. A list
that only cuts, pads or flips has no taps, and one launch.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuaug import instructions
from gpuaug.kernels.triton.common import (
    BILINEAR,
    CONSTANT,
    CUBIC,
    EDGE,
    HEIGHT,
    HORIZONTAL,
    LEFT,
    NEAREST,
    NEAREST_EXACT,
    REFLECT,
    SMALL,
    TOP,
    VERTICAL,
    WIDTH,
    WINDOW_FLIP,
    WINDOW_OFFSET,
    WINDOW_RESIZED,
    WINDOW_SOURCE_WIDTH,
    WINDOW_START,
    anywhere,
    tile,
    write,
)
from gpuaug.kernels.triton.runtime.launch import launch, tiling
from gpuaug.kernels.triton.runtime.plan import Layout, Params
from gpuaug.kernels.triton.runtime.tape import empty
from gpuaug.program import Window
from gpuaug.ragged import Ragged

__all__ = ["crop", "crop_kernel", "taps_kernel"]

TAPS_AHEAD = tl.constexpr(16)  # words before the taps of an axis: precision, number of taps, and 14 for alignment
CHUNK = 256  # outputs of an axis that are computed together
COPY = tl.constexpr(14)  # precision of a tap of weight one


@triton.jit
def _position(p, length, flip, start, n, PADDING: tl.constexpr):
    """The resampled pixel, of n, that canvas pixel p of `length` shows, and whether it is inside the image."""
    p = tl.where(flip != 0, length - 1 - p, p) + start
    inside = (p >= 0) & (p < n)
    if PADDING == CONSTANT or PADDING == EDGE:
        p = tl.minimum(tl.maximum(p, 0), n - 1)
    else:
        period = tl.maximum(2 * n - 2, 1) if PADDING == REFLECT else 2 * n
        p = p % period
        p = tl.where(p < 0, p + period, p)
        p = tl.where(p < n, p, (period if PADDING == REFLECT else period - 1) - p)
    if PADDING != CONSTANT:
        inside = p >= 0
    return p, inside


@triton.jit
def _cubic(x, A: tl.constexpr):
    near = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    far = ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    return tl.where(x < 1.0, near, tl.where(x < 2.0, far, 0.0))


@triton.jit
def _filter(x, A: tl.constexpr, MODE: tl.constexpr):
    return tl.maximum(1.0 - x, 0.0) if MODE == BILINEAR else _cubic(x, A)


@triton.jit
def _span(output, scale, n_in, MODE: tl.constexpr, ANTIALIAS: tl.constexpr):
    """First input and number of taps of each output, and the centre from which the weights are computed."""
    if ANTIALIAS:
        support = tl.maximum(scale, 1.0) * (1.0 if MODE == BILINEAR else 2.0)
        center = scale * (output.to(tl.float64) + 0.5)
        first = tl.maximum((center - support + 0.5).to(tl.int32), 0)
        end = tl.minimum((center + support + 0.5).to(tl.int32), n_in)
    else:
        half: tl.constexpr = 1 if MODE == BILINEAR else 2
        center = scale * (output.to(tl.float64) + 0.5) - 0.5
        if MODE == BILINEAR:
            center = tl.maximum(center, 0.0)
        index = tl.minimum(tl.floor(center).to(tl.int32), n_in - 1)
        first = tl.maximum(index - half + 1, 0)
        end = tl.minimum(index + half + 1, n_in)
    return first, tl.maximum(end - first, 0), center


@triton.jit
def _wide_tap(j, first, count, center, inverse, MODE: tl.constexpr):
    """Tap j of the antialiasing filter, before it is normalised."""
    w = _filter(tl.abs((j + first - center + 0.5) * inverse), -0.5, MODE)
    return tl.where((j >= 0) & (j < count), w, 0.0)


@triton.jit
def _plain_tap(j, first, count, center, n_in, MODE: tl.constexpr):
    """Weight of tap j of the fixed filter. Taps beyond the border are added to the outermost pixel."""
    size: tl.constexpr = 2 if MODE == BILINEAR else 4
    index = tl.minimum(tl.floor(center).to(tl.int32), n_in - 1)
    part = tl.minimum(tl.maximum(center - index, 0.0), 1.0)
    unbound = index - size // 2 + 1
    total = part * 0.0
    instruction = index * 0
    for k in tl.static_range(size):
        instruction = tl.where(unbound + k <= 0, 0, tl.where(unbound + k >= n_in - 1, count - 1, instruction))
        total += tl.where(instruction == j, _filter(tl.abs(k + 1 - size // 2 - part), CUBIC, MODE), 0.0)
        instruction += 1
    return total


@triton.jit
def _nearest(output, n_in, n_out, small, MODE: tl.constexpr):
    """The nearest input, in float32 as ATen, which rounds nearest-exact differently up to a height + width of 128."""
    scale = tl.div_rn(n_in.to(tl.float32), n_out.to(tl.float32))
    if MODE == NEAREST:
        index = tl.floor(output.to(tl.float32) * scale)
    else:
        center = (output.to(tl.float64) + 0.5) * scale.to(tl.float64)
        fused = tl.floor((center - 0.5).to(tl.float32) + 0.5)
        index = tl.where(small, tl.floor(center.to(tl.float32)), fused)
    return tl.minimum(index.to(tl.int32), n_in - 1)


@triton.jit
def _fixed(weight, precision):
    """A float64 weight as an integer, rounded half away from zero."""
    scaled = weight * (1 << precision).to(tl.float64)  # exact
    return tl.where(scaled < 0, scaled - 0.5, scaled + 0.5).to(tl.int32)


@triton.jit(do_not_specialize=["rows_at", "row_words", "window_at"])
def taps_kernel(
    block, rows_at, row_words, window_at, taps, axis_words, height, width,
    MODE: tl.constexpr, ANTIALIAS: tl.constexpr, PADDING: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """First tap and weights of each canvas pixel of an axis (long: two passes over the same taps).

    taps: (B, 2, axis_words) int32: precision, number of taps, then the first tap of each canvas pixel of the axis
    (-1: outside), then the weights, tap by tap. Grid (B, 2); axis 0 is y.
    """
    sample, axis = tl.program_id(0), tl.program_id(1)
    window = block + rows_at + sample * row_words + window_at
    n_in, n_out = tl.load(window + HEIGHT + axis), tl.load(window + WINDOW_RESIZED + axis)
    small = tl.load(window + WINDOW_RESIZED) + tl.load(window + WINDOW_RESIZED + 1) <= SMALL
    start = tl.load(window + WINDOW_START + axis)
    flip = tl.load(window + WINDOW_FLIP + 1 - axis)  # (horizontal, vertical)
    length = height * (1 - axis) + width * axis  # not tl.where, which would read the arguments through a pointer
    out = taps + (sample.to(tl.int64) * 2 + axis) * axis_words
    offset = tl.arange(0, CHUNK)
    copies = n_in == n_out
    scale = n_in.to(tl.float64) / n_out.to(tl.float64)
    inverse = tl.where(scale >= 1.0, 1.0 / scale, 1.0)
    precision = n_in * 0 + COPY
    most = n_in * 0 + 1
    if MODE != NEAREST and MODE != NEAREST_EXACT and not copies:
        # the largest precision at which the rounded largest weight of the axis is still an int16
        largest = tl.zeros((CHUNK,), tl.float64)
        widest = tl.zeros((CHUNK,), tl.int32)
        for chunk in range(tl.cdiv(n_out, CHUNK)):
            output = chunk * CHUNK + offset
            first, count, center = _span(output, scale, n_in, MODE, ANTIALIAS)
            count = tl.where(output < n_out, count, 0)
            widest = tl.maximum(widest, count)
            taps_here = tl.max(count, axis=0)
            if ANTIALIAS:
                total = tl.zeros((CHUNK,), tl.float64)
                top = tl.zeros((CHUNK,), tl.float64)
                for j in range(taps_here):  # in this order: the rounding of the sum depends on it
                    w = _wide_tap(j, first, count, center, inverse, MODE)
                    total += w
                    top = tl.maximum(top, w)
                top = top / tl.where(total == 0.0, 1.0, total)
            else:
                top = tl.zeros((CHUNK,), tl.float64)
                for j in range(taps_here):
                    top = tl.maximum(top, _plain_tap(j, first, count, center, n_in, MODE))
            largest = tl.maximum(largest, tl.where(output < n_out, top, 0.0))
        most = tl.max(widest, axis=0)
        peak = tl.max(largest, axis=0)
        precision = n_in * 0
        fits = n_in * 0 + 1
        for _ in range(22):
            peak = peak * 2.0
            fits = tl.where((peak + 0.5).to(tl.int64) < 32768, fits, 0)
            precision += fits
    tl.store(out, precision)
    tl.store(out + 1, most)
    for chunk in range(tl.cdiv(length, CHUNK)):
        p = chunk * CHUNK + offset
        mask = p < length
        wanted, inside = _position(p, length, flip, start, n_out, PADDING)
        at = out + TAPS_AHEAD + p
        if copies:
            tl.store(at, tl.where(inside, wanted, -1), mask)
            tl.store(at + length, tl.full((CHUNK,), 1, tl.int32) << COPY, mask)
        elif MODE == NEAREST or MODE == NEAREST_EXACT:
            tl.store(at, tl.where(inside, _nearest(wanted, n_in, n_out, small, MODE), -1), mask)
            tl.store(at + length, tl.full((CHUNK,), 1, tl.int32) << COPY, mask)
        else:
            first, count, center = _span(wanted, scale, n_in, MODE, ANTIALIAS)
            # all `most` taps from `begin` on are inside the box, so `crop` checks no bounds
            begin = tl.minimum(first, n_in - most)
            before = first - begin
            tl.store(at, tl.where(inside, begin, -1), mask)
            if ANTIALIAS:
                total = tl.zeros((CHUNK,), tl.float64)
                for j in range(most):
                    total += _wide_tap(j, first, count, center, inverse, MODE)
                total = tl.where(total == 0.0, 1.0, total)
                for j in range(most):
                    weight = _wide_tap(j - before, first, count, center, inverse, MODE) / total
                    tl.store(at + (j + 1) * length, _fixed(weight, precision), mask)
            else:
                for j in range(most):
                    weight = _plain_tap(j - before, first, count, center, n_in, MODE)
                    tl.store(at + (j + 1) * length, _fixed(weight, precision), mask)


@triton.jit
def _level(total, precision):
    return tl.minimum(tl.maximum(total >> precision, 0), 255)


@triton.jit(do_not_specialize=["rows_at", "row_words", "window_at", "fill_at"])
def crop_kernel(
    source, out, block, rows_at, row_words, window_at, fill_at, taps, axis_words,
    batch_stride, stride_y, stride_x, stride_c, height, width, channels,
    C: tl.constexpr, RAGGED: tl.constexpr, SCALES: tl.constexpr, PADDING: tl.constexpr,
    BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """source: dense uint8 with these strides, or ragged: (height, width, channels) images, whose offset and width are
    in the parameter row. out: (B, channels, H, W) uint8. Grid (tiles, B, channels / C).
    """
    sample, channel = tl.program_id(1), tl.program_id(2)
    window = block + rows_at + sample * row_words + window_at
    if RAGGED:
        low, high = tl.load(window + WINDOW_OFFSET).to(tl.uint32, bitcast=True), tl.load(window + WINDOW_OFFSET + 1)
        offset = (high.to(tl.int64) << 32) | low.to(tl.int64)
        stride_y = tl.load(window + WINDOW_SOURCE_WIDTH) * channels
        stride_x = channels
        stride_c = 1
    else:
        offset = sample.to(tl.int64) * batch_stride
    top, left = tl.load(window + TOP), tl.load(window + LEFT)
    box_height, box_width = tl.load(window + HEIGHT), tl.load(window + WIDTH)
    data = (
        source + offset + top.to(tl.int64) * stride_y + left.to(tl.int64) * stride_x + channel.to(tl.int64) * stride_c
    )
    y, x = tile(width, BH, BW)
    mask = (y < height) & (x < width)
    a = tl.zeros((BH, BW), tl.int32)
    b, c = a, a
    if SCALES:
        down = taps + sample.to(tl.int64) * 2 * axis_words
        across = down + axis_words
        precision_y, taps_y = tl.load(down), tl.load(down + 1)
        precision_x, taps_x = tl.load(across), tl.load(across + 1)
        # beyond the canvas the last row and column are read again, so no load needs a mask
        row, column = tl.minimum(y, height - 1), tl.minimum(x, width - 1)
        first_y, first_x = tl.load(down + TAPS_AHEAD + row), tl.load(across + TAPS_AHEAD + column)
        inside = (first_y >= 0) & (first_x >= 0)
        weights_y, weights_x = down + TAPS_AHEAD + height + row, across + TAPS_AHEAD + width + column
        data += tl.maximum(first_y, 0) * stride_y + tl.maximum(first_x, 0) * stride_x
        half = tl.zeros((BH, BW), tl.int32) + (1 << (precision_x - 1))
        a += 1 << (precision_y - 1)
        b, c = a, a
        for k in range(taps_y):
            line_a, line_b, line_c = half, half, half
            for j in range(taps_x):
                weight = tl.load(weights_x + j * width)
                at = anywhere(data, k * stride_y + j * stride_x)
                line_a += tl.load(at).to(tl.int32) * weight
                if C == 3:
                    line_b += tl.load(anywhere(at, stride_c)).to(tl.int32) * weight
                    line_c += tl.load(anywhere(at, 2 * stride_c)).to(tl.int32) * weight
            weight = tl.load(weights_y + k * height)
            a += _level(line_a, precision_x) * weight
            if C == 3:
                b += _level(line_b, precision_x) * weight
                c += _level(line_c, precision_x) * weight
        a, b, c = _level(a, precision_y), _level(b, precision_y), _level(c, precision_y)
    else:
        flip_x, flip_y = tl.load(window + WINDOW_FLIP + HORIZONTAL), tl.load(window + WINDOW_FLIP + VERTICAL)
        start_y, start_x = tl.load(window + WINDOW_START), tl.load(window + WINDOW_START + 1)
        wanted_y, inside_y = _position(y, height, flip_y, start_y, box_height, PADDING)
        wanted_x, inside_x = _position(x, width, flip_x, start_x, box_width, PADDING)
        inside = inside_y & inside_x & mask
        at = wanted_y * stride_y + wanted_x * stride_x
        a = tl.load(anywhere(data, at), inside, other=0).to(tl.int32)
        if C == 3:
            b = tl.load(anywhere(data + stride_c, at), inside, other=0).to(tl.int32)
            c = tl.load(anywhere(data + 2 * stride_c, at), inside, other=0).to(tl.int32)
    if PADDING == CONSTANT:
        fill = block + fill_at
        a = tl.where(inside, a, tl.load(fill + channel))
        if C == 3:
            b = tl.where(inside, b, tl.load(fill + channel + 1))
            c = tl.where(inside, c, tl.load(fill + channel + 2))
    plane = height * width
    here = (sample.to(tl.int64) * channels + channel) * plane
    write(out + here, y * width + x, mask, plane, a, b, c, C)


def _taps(window: Window, size: tuple[int, int], layout: Layout, params: Params) -> tuple[Tensor, int]:
    """The taps of all samples, and the words of an axis: enough for every box of images of `size`."""
    height, width = window.size
    reach = 1 if window.interpolation == instructions.BILINEAR else 2
    words = 0
    for source, least, length in zip(size, window.min_resized, window.size, strict=True):
        most = 2 * math.ceil(reach * max(source / least, 1.0)) + 1 if window.antialias else 4
        most = 1 if window.interpolation in (instructions.NEAREST, instructions.NEAREST_EXACT) else most
        words = max(words, TAPS_AHEAD.value + length * (1 + most))
    axis_words = -(-words // 16) * 16
    batch = len(window.box)
    taps = empty((batch, 2, axis_words), torch.int32, params.block.device)
    launch(
        taps_kernel, (batch, 2), *params.arguments, layout.window_at, taps, axis_words, height, width,
        MODE=window.interpolation, ANTIALIAS=window.antialias, PADDING=window.padding_mode, CHUNK=CHUNK,
    )  # fmt: skip
    return taps, axis_words


def crop(source: Tensor | Ragged, layout: Layout, params: Params) -> Tensor:
    """(B, C, H, W) uint8: the canvas that the window of the program describes."""
    window = layout.program.window
    assert window is not None
    (height, width), batch = window.size, len(source)
    if isinstance(source, Ragged):
        data, channels, strides = source.data, source.channels, (0, 0, 0, 0)
        size = tuple(source.whole.max(axis=0).tolist())
    else:
        span = sum((n - 1) * stride for n, stride in zip(source.shape[1:], source.stride()[1:], strict=True))
        source = source.contiguous() if span >= 2**31 else source  # offsets in a sample have 32 bits
        data, channels, size = source, source.shape[1], tuple(source.shape[2:])
        strides = source.stride(0), source.stride(2), source.stride(3), source.stride(1)
    taps, axis_words = _taps(window, size, layout, params) if window.may_resample else (params.block, 0)
    out = empty((batch, channels, height, width), torch.uint8, data.device)
    grid, sizes = tiling(height, width, batch, channels)
    launch(
        crop_kernel, grid, data, out, *params.arguments, layout.window_at, layout.fill_at, taps, axis_words, *strides,
        height, width, channels, RAGGED=isinstance(source, Ragged), SCALES=window.may_resample,
        PADDING=window.padding_mode, **sizes,
    )  # fmt: skip
    return out
