"""Instructions in runs: each run is fused, reads one canvas and writes the next one.

The first instruction of a run may read other pixels (`gather`: warp, flip, sharpness, convolution). Point instructions
follow, which work in registers and need no barrier. `evaluate` computes the run for one tile; `run_fused`, `statistics`
and `finish` use its result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuaug.kernels.triton.common import (
    BORDER,
    CONVOLVE,
    FILL_AT,
    FLIP,
    HAS_CONVOLVE,
    HAS_FLIP,
    HAS_PERMUTE,
    HAS_SHARPNESS,
    HAS_WARP,
    HORIZONTAL,
    OPCODE_AT,
    OPERANDS_AT,
    PERMUTE,
    REST,
    SHARPNESS,
    SIZE,
    VERTICAL,
    WARP,
    byte,
    float_at,
    gathered,
    operand,
    read,
    tile,
    write,
)
from gpuaug.kernels.triton.filter import convolve
from gpuaug.kernels.triton.point import point
from gpuaug.kernels.triton.runtime.launch import launch, normals, tiling
from gpuaug.kernels.triton.runtime.plan import Layout, Params, Run
from gpuaug.kernels.triton.runtime.tape import empty
from gpuaug.kernels.triton.warp import warp

__all__ = ["Branches", "evaluate", "run_fused", "run_fused_kernel"]


@triton.jit
def _row(pointers, inside):
    """Sum of the pixels left of, at and right of `pointers`."""
    left, right = tl.load(pointers - 1, inside, other=0), tl.load(pointers + 1, inside, other=0)
    return left.to(tl.int32) + tl.load(pointers, inside, other=0).to(tl.int32) + right.to(tl.int32)


@triton.jit
def _sharp(total, v, inside, weight):
    soft = ((2 * total + 13) * 40330) >> 20  # // 26, exact up to 2**15
    level = v.to(tl.float32)
    sharp = byte(tl.fma((soft - v).to(tl.float32), tl.zeros(v.shape, tl.float32) + weight, level))
    return tl.where(inside, sharp, v)


@triton.jit
def _sharpen(canvas, a, b, c, x, y, height, width, weight, C: tl.constexpr):
    """Sharpen the tile a, b, c. Pixels on the border of the image do not change."""
    inside = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    plane = height * width
    p, q, r = 4 * a, 4 * b, 4 * c
    rows = tl.where(height > 0, 3, 0)  # always 3, hidden from the compiler: unrolled it needs 128 registers
    for k in range(rows):
        pointers = canvas + ((y + (k - 1)) * width + x)
        p += _row(pointers, inside)
        if C == 3:
            q += _row(pointers + plane, inside)
            r += _row(pointers + 2 * plane, inside)
    a = _sharp(p, a, inside, weight)
    if C == 3:
        b, c = _sharp(q, b, inside, weight), _sharp(r, c, inside, weight)
    return a, b, c


@triton.jit
def gather(
    canvas, instruction, weights, x, y, mask, height, width, channel, channels, C: tl.constexpr, MAY: tl.constexpr
):  # fmt: skip
    """Load the tile and run the instruction at `instruction` if it moves pixels or reads neighbours; else only load.

    canvas: Channel `channel` of this sample, the first one of this program. weights: Kernel of a CONVOLVE, int16.
    """
    opcode = tl.load(instruction + OPCODE_AT)
    plane = height * width
    index = y * width + x
    if HAS_WARP & MAY and opcode == WARP:
        a, b, c = warp(canvas, instruction, instruction + FILL_AT + channel, x, y, mask, height, width, C, MAY)
    elif HAS_FLIP & MAY and opcode == FLIP:
        column = tl.where(operand(instruction, HORIZONTAL) != 0, width - 1 - x, x)
        row = tl.where(operand(instruction, VERTICAL) != 0, height - 1 - y, y)
        a, b, c = gathered(canvas, row * width + column, mask, plane, C)
    elif C == 1 and HAS_PERMUTE & MAY and opcode == PERMUTE:
        other = float_at(instruction + OPERANDS_AT + channel).to(tl.int32) - channel
        a, b, c = read(canvas + other * plane, index, mask, plane, C)
    elif HAS_CONVOLVE & MAY and opcode == CONVOLVE:
        size, border = operand(instruction, SIZE).to(tl.int32), operand(instruction, BORDER).to(tl.int32)
        a, b, c = convolve(canvas, weights, size, border, x, y, mask, height, width, C)
    else:
        a, b, c = read(canvas, index, mask, plane, C)
        if HAS_SHARPNESS & MAY and opcode == SHARPNESS:
            a, b, c = _sharpen(canvas, a, b, c, x, y, height, width, operand(instruction, REST), C)
    return a, b, c


@triton.jit
def evaluate(
    canvas, instructions, stride, count, weights, luts, keys, normals, base, total,
    x, y, mask, height, width, channel, channels, C: tl.constexpr, MAY: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Levels of the tile after the first `count` of the N instructions of a run, which are at `instructions`, `stride`
    words apart."""
    if N == 0:
        a, b, c = read(canvas, y * width + x, mask, height * width, C)
    else:
        a, b, c = gather(canvas, instructions, weights, x, y, mask, height, width, channel, channels, C, MAY)
        for k in range(count):
            a, b, c = point(
                instructions + k * stride, luts + (k * channels + channel) * 256, keys, normals, base, total,
                a, b, c, x, y, mask, height, width, channel, channels, C, MAY,
            )  # fmt: skip
    return a, b, c


@triton.jit(do_not_specialize=["rows_at", "row_words", "instructions_at", "stride", "weights_at"])
def run_fused_kernel(
    canvas, out, block, rows_at, row_words, instructions_at, stride, weights_at, luts, normals, base, total,
    height, width, channels, C: tl.constexpr, MAY: tl.constexpr, N: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """canvas, out: (B, channels, H, W) uint8. Grid (tiles, B, channels / C)."""
    sample, channel = tl.program_id(1), tl.program_id(2)
    y, x = tile(width, BH, BW)
    mask = (y < height) & (x < width)
    plane = height * width
    here = (sample.to(tl.int64) * channels + channel) * plane
    row = block + rows_at + sample * row_words
    a, b, c = evaluate(
        canvas + here, row + instructions_at, stride, N, (row + weights_at).to(tl.pointer_type(tl.int16)),
        luts + sample.to(tl.int64) * (N * channels * 256), row, normals, base + here, total + here,
        x, y, mask, height, width, channel, channels, C, MAY, N,
    )  # fmt: skip
    write(out + here, y * width + x, mask, plane, a, b, c, C)


@dataclass
class Branches:
    """State of BRANCH, JOIN and MERGE between launches: base uint8 and total float32, (B, C, H, W) if needed."""

    base: Tensor
    total: Tensor

    @classmethod
    def of(cls, canvas: Tensor, needed: bool) -> Branches:
        """Memory for a program. If none is `needed`, any tensors, as arguments for the kernels."""
        if not needed:
            return cls(canvas, normals(canvas.device))
        return cls(*[empty(canvas.shape, dtype, canvas.device) for dtype in (torch.uint8, torch.float32)])


def run_fused(canvas: Tensor, layout: Layout, run: Run, params: Params, luts: Tensor, branches: Branches) -> Tensor:
    """The canvas after a run, (B, C, H, W) uint8."""
    batch, channels, height, width = canvas.shape
    quantiles = normals(canvas.device)
    out = empty(canvas.shape, torch.uint8, canvas.device)
    grid, sizes = tiling(height, width, batch, channels, run.tile)
    launch(
        run_fused_kernel, grid, canvas, out, *params.arguments, *layout.instructions(run), luts, quantiles,
        branches.base, branches.total, height, width, channels, MAY=run.mask, N=run.count, **sizes,
    )  # fmt: skip
    return out
