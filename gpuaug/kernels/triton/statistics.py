"""CONTRAST, AUTOCONTRAST and EQUALIZE: tables that depend on statistics of the image.

Histogram and table are one launch. One program per sample (and channel group) reads the whole image, so no partial
histograms are in memory, and a sample without such an instruction costs nothing. For a later instruction of the run,
the instructions before it are evaluated again, without a canvas in memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuaug.instructions import Op, bits
from gpuaug.kernels.triton.common import (
    CONTRAST,
    EQUALIZE,
    FACTOR,
    HAS_AUTOCONTRAST,
    HAS_CONTRAST,
    HAS_EQUALIZE,
    OPCODE_AT,
    REST,
    byte,
    luma,
    operand,
)
from gpuaug.kernels.triton.instructions import evaluate
from gpuaug.kernels.triton.runtime.launch import launch, normals, tiling
from gpuaug.kernels.triton.runtime.plan import Layout, Params, Run
from gpuaug.kernels.triton.runtime.tape import empty

__all__ = ["statistics", "statistics_kernel"]

STEP = tl.constexpr(1 / 255)
KEEPERS = bits([Op.BRANCH, Op.JOIN, Op.MERGE])  # a run has none of these before an instruction that needs statistics


@triton.jit
def _contrast(total, size, instruction, levels):
    factor, weight = operand(instruction, FACTOR), operand(instruction, REST)
    mean = tl.div_rn(total.to(tl.float32), size * 1.0)
    zero = tl.zeros(levels.shape, tl.float32)
    return byte(tl.fma(zero + mean, zero + weight, levels.to(tl.float32) * factor))


@triton.jit
def _autocontrast(seen, levels):
    low, high = 255 - _max(seen & 0xFFFF), _max(seen >> 16)
    scale = tl.where(high > low, (high - low).to(tl.float32) * STEP, 1.0)
    stretched = byte(tl.div_rn((levels - low).to(tl.float32), tl.zeros(levels.shape, tl.float32) + scale))
    return tl.where(high > low, stretched, levels)


@triton.jit
def _equalize(counts, size, levels):
    """The table of an equalization, by Pillow's rule, in integers."""
    last = tl.max(tl.where(counts > 0, levels, 0), axis=0)
    step = (size - tl.sum(tl.where(levels == last, counts, 0), axis=0)) // 255
    below = step // 2 + tl.cumsum(counts, axis=0) - counts
    return tl.where(step > 0, tl.minimum(below // tl.maximum(step, 1), 255), levels)


@triton.jit
def _histogram(v, mask):
    """Histogram (256,) of the levels where `mask`."""
    flat: tl.constexpr = v.shape[0] * v.shape[1]
    return tl.histogram(tl.reshape(v, (flat,)), 256, tl.reshape(mask, (flat,)))


@triton.jit(do_not_specialize=["rows_at", "row_words", "instructions_at", "stride", "weights_at"])
def statistics_kernel(
    canvas, luts, block, rows_at, row_words, instructions_at, stride, weights_at, normals,
    height, width, channels, C: tl.constexpr, MAY: tl.constexpr, N: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """canvas: (B, channels, H, W) uint8; luts: (B, N, channels, 256) uint8, written for the samples that need one.

    Grid (1, B, channels / C).
    """
    sample, channel = tl.program_id(1), tl.program_id(2)
    plane = height * width
    here = (sample.to(tl.int64) * channels + channel) * plane
    row = block + rows_at + sample * row_words
    own = luts + sample.to(tl.int64) * (N * channels * 256)
    weights = (row + weights_at).to(tl.pointer_type(tl.int16))
    levels = tl.arange(0, 256)
    for k in range(N):
        instruction = row + instructions_at + k * stride
        opcode = tl.load(instruction + OPCODE_AT)
        if (opcode >= CONTRAST) & (opcode <= EQUALIZE):
            seen_a = tl.zeros((BH, BW), tl.int32)  # extremes of the levels, or the luma of at most 2**21 pixels
            seen_b, seen_c = seen_a, seen_a
            bins_a = tl.zeros((256,), tl.int32)
            bins_b, bins_c = bins_a, bins_a
            across = tl.cdiv(width, BW)
            for number in range(tl.cdiv(height, BH) * across):
                y = ((number // across) * BH + tl.arange(0, BH))[:, None]
                x = ((number % across) * BW + tl.arange(0, BW))[None, :]
                mask = (y < height) & (x < width)
                a, b, c = evaluate(
                    canvas + here, row + instructions_at, stride, k, weights, own, row, normals, canvas, normals,
                    x, y, mask, height, width, channel, channels, C, MAY, N,
                )  # fmt: skip
                if HAS_CONTRAST & MAY and opcode == CONTRAST:
                    v = luma(a, b, c).to(tl.int32) if C == 3 else a
                    seen_a += tl.where(mask, v, 0)
                elif HAS_EQUALIZE & MAY and opcode == EQUALIZE:
                    bins_a += _histogram(a, mask)
                    if C == 3:
                        bins_b += _histogram(b, mask)
                        bins_c += _histogram(c, mask)
                else:
                    seen_a = _extend(seen_a, a, mask)
                    if C == 3:
                        seen_b = _extend(seen_b, b, mask)
                        seen_c = _extend(seen_c, c, mask)
            table = own + (k * channels + channel) * 256 + tl.arange(0, 256)
            if HAS_CONTRAST & MAY and opcode == CONTRAST:
                contrast = _contrast(_sum(seen_a.to(tl.int64)), plane, instruction, levels).to(tl.uint8)
                tl.store(table, contrast)
                if C == 3:
                    tl.store(table + 256, contrast)
                    tl.store(table + 512, contrast)
            elif HAS_EQUALIZE & MAY and opcode == EQUALIZE:
                tl.store(table, _equalize(bins_a, plane, levels).to(tl.uint8))
                if C == 3:
                    tl.store(table + 256, _equalize(bins_b, plane, levels).to(tl.uint8))
                    tl.store(table + 512, _equalize(bins_c, plane, levels).to(tl.uint8))
            elif HAS_AUTOCONTRAST & MAY:
                tl.store(table, _autocontrast(seen_a, levels).to(tl.uint8))
                if C == 3:
                    tl.store(table + 256, _autocontrast(seen_b, levels).to(tl.uint8))
                    tl.store(table + 512, _autocontrast(seen_c, levels).to(tl.uint8))
            if N > 1:
                tl.debug_barrier()  # the next instruction of this run reads the table


@triton.jit
def _extend(seen, v, mask):
    """Update `seen` by levels `v`: the largest in the upper 16 bits, the largest distance from 255 in the lower 16."""
    top, bottom = tl.where(mask, v << 16, 0), tl.where(mask, 255 - v, 0)
    return tl.maximum(seen & 0xFF0000, top) | tl.maximum(seen & 0xFF, bottom)


@triton.jit
def _sum(v):
    return tl.sum(tl.sum(v, axis=1), axis=0)


@triton.jit
def _max(v):
    return tl.max(tl.max(v, axis=1), axis=0)


def statistics(canvas: Tensor, layout: Layout, run: Run, params: Params) -> Tensor:
    """(B, instructions, C, 256) uint8: the tables of the instructions of a run that need statistics; any tensor if
    none does."""
    if not run.has_statistics:
        return canvas
    batch, channels, height, width = canvas.shape
    luts = empty((batch, run.count, channels, 256), torch.uint8, canvas.device)
    grid, sizes = tiling(height, width, batch, channels, run.statistics_tile)
    launch(
        statistics_kernel, (1, *grid[1:]), canvas, luts, *params.arguments, *layout.instructions(run),
        normals(canvas.device), height, width, channels, MAY=run.mask & ~KEEPERS, N=run.count, **sizes,
    )  # fmt: skip
    return luts
