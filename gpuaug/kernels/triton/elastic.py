"""ELASTIC: noise of each pixel, smoothed in integers, says where each pixel reads the canvas. See `Elastic`.

Three launches: draw the noise of both planes; smooth it along x; smooth it along y and read the canvas there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuaug.instructions import Feature, bits
from gpuaug.kernels.triton.common import (
    ELASTIC,
    FILL_AT,
    FRACTION,
    KEY,
    OPCODE_AT,
    REFLECT,
    SCALE,
    TAPS,
    anywhere,
    operand,
    read,
    tile,
    wrap,
    write,
)
from gpuaug.kernels.triton.runtime.launch import launch, tiling
from gpuaug.kernels.triton.runtime.plan import Layout, Params, Run
from gpuaug.kernels.triton.runtime.tape import empty
from gpuaug.kernels.triton.warp import sampled

__all__ = ["across_kernel", "elastic", "elastic_kernel", "noise_kernel"]

MIDDLE = tl.constexpr(0x80008000)  # of two 16-bit halves
HALF = tl.constexpr(1 << (FRACTION.value - 1))
BLOCKS = 256  # Philox blocks of a program
RESAMPLE = bits([Feature.BILINEAR, Feature.BICUBIC])


@triton.jit
def _key(instruction, number: tl.constexpr, like):
    return like * 0 + operand(instruction, number).to(tl.int32).to(tl.uint32)


@triton.jit(do_not_specialize=["rows_at", "row_words", "instruction_at"])
def noise_kernel(noise, block, rows_at, row_words, instruction_at, blocks, N: tl.constexpr):
    """noise: (B, 4 * blocks) int32, each word two int16. Grid (ceil(blocks / N), B); only samples of ELASTIC."""
    sample = tl.program_id(1)
    instruction = block + rows_at + sample * row_words + instruction_at
    if tl.load(instruction + OPCODE_AT) == ELASTIC:
        number = tl.program_id(0) * N + tl.arange(0, N)
        c0 = number.to(tl.uint32)
        c1, c2, c3 = _key(instruction, KEY, c0), _key(instruction, KEY + 1, c0), _key(instruction, KEY + 2, c0)
        w0, w1, w2, w3 = tl.philox_impl(c0, c1, c2, c3, c0 * 0, c0 * 0)
        to, inside = noise + sample.to(tl.int64) * blocks * 4 + number * 4, number < blocks
        tl.store(to, (w0 ^ MIDDLE).to(tl.int32, bitcast=True), inside)
        tl.store(to + 1, (w1 ^ MIDDLE).to(tl.int32, bitcast=True), inside)
        tl.store(to + 2, (w2 ^ MIDDLE).to(tl.int32, bitcast=True), inside)
        tl.store(to + 3, (w3 ^ MIDDLE).to(tl.int32, bitcast=True), inside)


@triton.jit(do_not_specialize=["rows_at", "row_words", "instruction_at", "weights_at"])
def across_kernel(
    noise, lines, block, rows_at, row_words, instruction_at, weights_at, blocks, height, width,
    BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """Smooth along x: noise of `noise_kernel` to lines (B, 2, H, W) int16. Grid (tiles, B, 2)."""
    sample, plane = tl.program_id(1), tl.program_id(2)
    row = block + rows_at + sample * row_words
    instruction = row + instruction_at
    if tl.load(instruction + OPCODE_AT) == ELASTIC:
        y, x = tile(width, BH, BW)
        mask = (y < height) & (x < width)
        source = (noise + sample.to(tl.int64) * blocks * 4).to(tl.pointer_type(tl.int16)) + plane * height * width
        first = operand(instruction, TAPS).to(tl.int32)
        taps = tl.where(plane == 0, first, operand(instruction, TAPS + 1).to(tl.int32))
        weights = (row + weights_at).to(tl.pointer_type(tl.int16)) + 2 * first * plane
        total = tl.zeros((BH, BW), tl.int32) + HALF
        for k in range(taps):
            pointers = anywhere(source, y * width + wrap(x + (k - taps // 2), width, REFLECT))
            total += tl.load(pointers, mask, other=0).to(tl.int32) * tl.load(weights + k).to(tl.int32)
        to = lines + (sample.to(tl.int64) * 2 + plane) * height * width
        tl.store(to + y * width + x, (total >> FRACTION).to(tl.int16), mask)


@triton.jit
def _shift(lines, weights, taps, scale, y, x, mask, height, width):
    """The shift of each pixel of the tile in pixels: a plane of lines smoothed along y."""
    total = tl.zeros(mask.shape, tl.int32)
    for k in range(taps):
        pointers = lines + wrap(y + (k - taps // 2), height, REFLECT) * width + x
        total += tl.load(pointers, mask, other=0).to(tl.int32) * tl.load(weights + k).to(tl.int32)
    return total.to(tl.float32) * scale


@triton.jit(do_not_specialize=["rows_at", "row_words", "instruction_at", "weights_at"])
def elastic_kernel(
    canvas, lines, out, block, rows_at, row_words, instruction_at, weights_at, height, width, channels,
    C: tl.constexpr, MAY: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """canvas, out: (B, channels, H, W) uint8, copied where the instruction is not ELASTIC. Grid (tiles, B, channels /
    C)."""
    sample, channel = tl.program_id(1), tl.program_id(2)
    y, x = tile(width, BH, BW)
    mask = (y < height) & (x < width)
    plane = height * width
    here = (sample.to(tl.int64) * channels + channel) * plane
    row = block + rows_at + sample * row_words
    instruction = row + instruction_at
    if tl.load(instruction + OPCODE_AT) == ELASTIC:
        one, two = operand(instruction, TAPS).to(tl.int32), operand(instruction, TAPS + 1).to(tl.int32)
        weights = (row + weights_at).to(tl.pointer_type(tl.int16))
        own = lines + sample.to(tl.int64) * 2 * plane
        by_x = _shift(own, weights + one, one, operand(instruction, SCALE), y, x, mask, height, width)
        below = weights + 2 * one + two
        by_y = _shift(own + plane, below, two, operand(instruction, SCALE + 1), y, x, mask, height, width)
        sx, sy = x.to(tl.float32) + by_x, y.to(tl.float32) + by_y
        fill = instruction + FILL_AT + channel
        a, b, c = sampled(canvas + here, instruction, fill, sx, sy, mask, height, width, C, MAY)
        write(out + here, y * width + x, mask, plane, a, b, c, C)
    else:
        a, b, c = read(canvas + here, y * width + x, mask, plane, C)
        write(out + here, y * width + x, mask, plane, a, b, c, C)


def elastic(canvas: Tensor, layout: Layout, run: Run, params: Params) -> Tensor:
    """The canvas, (B, C, H, W) uint8, after the ELASTIC that is the first instruction of `run`."""
    batch, channels, height, width = canvas.shape
    instruction_at, _, weights_at = layout.instructions(run)
    blocks = -(-2 * height * width // 8)
    noise = empty((batch, 4 * blocks), torch.int32, canvas.device)
    lines = empty((batch, 2, height, width), torch.int16, canvas.device)
    out = empty(canvas.shape, torch.uint8, canvas.device)
    launch(noise_kernel, (-(-blocks // BLOCKS), batch), noise, *params.arguments, instruction_at, blocks, N=BLOCKS)
    grid, sizes = tiling(height, width, batch, 1)
    sizes.pop("C")
    launch(
        across_kernel, (*grid[:2], 2), noise, lines, *params.arguments, instruction_at, weights_at, blocks,
        height, width, **sizes,
    )  # fmt: skip
    grid, sizes = tiling(height, width, batch, channels, run.tile)
    launch(
        elastic_kernel, grid, canvas, lines, out, *params.arguments, instruction_at, weights_at, height, width,
        channels, MAY=run.mask & RESAMPLE, **sizes,
    )  # fmt: skip
    return out
