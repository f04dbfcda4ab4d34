"""Filters in integers: separable blur in two passes, small two-dimensional kernels in one; 14 fraction bits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuaug.kernels.triton.common import (
    BLUR,
    CONSTANT,
    FRACTION,
    LINE_FRACTION,
    OPCODE_AT,
    REFLECT,
    WEIGHTS_ACROSS,
    WEIGHTS_DOWN,
    anywhere,
    gathered,
    operand,
    tile,
    wrap,
)
from gpuaug.kernels.triton.runtime.launch import launch, tiling
from gpuaug.kernels.triton.runtime.plan import Layout, Params, Run
from gpuaug.kernels.triton.runtime.tape import empty

__all__ = ["blur", "blur_kernel", "convolve"]

HALF = tl.constexpr(1 << (FRACTION.value - 1))
SHIFT_ACROSS = tl.constexpr(FRACTION.value - LINE_FRACTION.value)  # bits by which each pass of a blur shifts right
SHIFT_DOWN = tl.constexpr(FRACTION.value + LINE_FRACTION.value)
HALF_ACROSS, HALF_DOWN = tl.constexpr(1 << (SHIFT_ACROSS.value - 1)), tl.constexpr(1 << (SHIFT_DOWN.value - 1))


@triton.jit
def convolve(canvas, weights, size, border, x, y, mask, height, width, C: tl.constexpr):
    """Correlate the tile with `weights` (size * size,) int16."""
    a = tl.zeros(mask.shape, tl.int32) + HALF
    b, c = a, a
    for tap in range(size * size):
        weight = tl.load(weights + tap).to(tl.int32)
        row, column = y + (tap // size - size // 2), x + (tap % size - size // 2)
        within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        inside = mask & tl.where(border == CONSTANT, within, mask)
        index = wrap(row, height, border) * width + wrap(column, width, border)
        ta, tb, tc = gathered(canvas, index, inside, height * width, C)
        a, b, c = a + ta * weight, b + tb * weight, c + tc * weight
    return _level(a, FRACTION), _level(b, FRACTION), _level(c, FRACTION)


@triton.jit
def _level(total, shift: tl.constexpr):
    return tl.minimum(tl.maximum(total >> shift, 0), 255)


@triton.jit(do_not_specialize=["rows_at", "row_words", "instruction_at", "weights_at"])
def blur_kernel(
    source, target, block, rows_at, row_words, instruction_at, weights_at, height, width,
    DOWN: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """Along x: canvas (B, channels, H, W) uint8 to lines, int16 of the same shape, with LINE_FRACTION fraction bits.
    Along y (DOWN): lines to canvas.

    Only samples whose instruction is BLUR are read or written. Grid (tiles, B, channels).
    """
    sample = tl.program_id(1)
    row = block + rows_at + sample * row_words
    instruction = row + instruction_at
    if tl.load(instruction + OPCODE_AT) == BLUR:
        y, x = tile(width, BH, BW)
        mask = (y < height) & (x < width)
        here = (sample.to(tl.int64) * tl.num_programs(2) + tl.program_id(2)) * height * width
        weights = (row + weights_at).to(tl.pointer_type(tl.int16))
        size = operand(instruction, WEIGHTS_ACROSS).to(tl.int32)
        if DOWN:
            weights += size
            size = operand(instruction, WEIGHTS_DOWN).to(tl.int32)
        total = tl.zeros((BH, BW), tl.int32) + (HALF_DOWN if DOWN else HALF_ACROSS)
        for k in range(size):
            tap = k - size // 2
            at = wrap(y + tap, height, REFLECT) * width + x if DOWN else y * width + wrap(x + tap, width, REFLECT)
            pointers = source + here + at if DOWN else anywhere(source + here, at)
            total += tl.load(pointers, mask, other=0).to(tl.int32) * tl.load(weights + k).to(tl.int32)
        result = _level(total, SHIFT_DOWN).to(tl.uint8) if DOWN else (total >> SHIFT_ACROSS).to(tl.int16)
        tl.store(target + here + y * width + x, result, mask)


def blur(canvas: Tensor, layout: Layout, run: Run, params: Params) -> None:
    """Run, in place, the BLUR that is the first instruction of `run`."""
    batch, channels, height, width = canvas.shape
    lines = empty(canvas.shape, torch.int16, canvas.device)
    instruction_at, _, weights_at = layout.instructions(run)
    grid, sizes = tiling(height, width, batch, 1)
    sizes.pop("C")
    for source, target, down in ((canvas, lines, False), (lines, canvas, True)):
        launch(
            blur_kernel, (*grid[:2], channels), source, target, *params.arguments, instruction_at, weights_at,
            height, width, DOWN=down, **sizes,
        )  # fmt: skip
