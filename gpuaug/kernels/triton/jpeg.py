"""JPEG artefacts in two launches, in place: code the blocks of each plane, then upsample and convert to RGB.

The same bits as the torch backend. Between two roundings a DCT of libjpeg is linear in integers, so products with a
constant 8 x 8 matrix give its bits, without the usual fast algorithm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.kernels import jpeg as numbers
from gpuaug.kernels.torch.jpeg import FORWARD, INVERSE
from gpuaug.kernels.triton.common import (
    JPEG,
    OPCODE_AT,
    QUALITY,
    anywhere,
    operand,
    read,
    tile,
    write,
)
from gpuaug.kernels.triton.runtime.launch import TILES, constants, launch, tiling
from gpuaug.kernels.triton.runtime.plan import Layout, Params, Run
from gpuaug.kernels.triton.runtime.tape import empty

__all__ = ["jpeg", "jpeg_code_kernel", "jpeg_decode_kernel", "matrices"]

Array = NDArray[Any]

Y_R, Y_G, Y_B = (tl.constexpr(weight) for weight in numbers.LUMA_WEIGHTS)
CB_R, CB_G, CB_B = (tl.constexpr(weight) for weight in numbers.CB_WEIGHTS)
CR_R, CR_G, CR_B = (tl.constexpr(weight) for weight in numbers.CR_WEIGHTS)
CR_TO_RED, CB_TO_BLUE = tl.constexpr(numbers.CR_TO_RED), tl.constexpr(numbers.CB_TO_BLUE)
CB_TO_GREEN, CR_TO_GREEN = tl.constexpr(numbers.CB_TO_GREEN), tl.constexpr(numbers.CR_TO_GREEN)


def matrices() -> Array:
    """(256,) int32 on the host: forward and inverse DCT, luma and chroma tables, 64 each."""
    return np.array([*FORWARD, *INVERSE, *numbers.LUMA_TABLE, *numbers.CHROMA_TABLE], np.int32)


@triton.jit
def _transform(v, matrix, shift: tl.constexpr):
    """Multiply v (n, 8, 8) by `matrix` along its last axis, and round."""
    k, j = tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :]
    m = tl.load(matrix + 8 * k + j)
    total = tl.sum(v[:, :, None, :] * m[None, None, :, :], axis=3)
    return (total + (1 << (shift - 1))) >> shift


@triton.jit
def _turn(v):
    return tl.permute(v, (0, 2, 1))


@triton.jit
def _luma(canvas, y, x, width, plane, C: tl.constexpr):
    r, g, b = read(canvas, y * width + x, y >= 0, plane, C)
    if C == 3:
        r = (Y_R * r + Y_G * g + Y_B * b + 32768) >> 16
    return r


@triton.jit
def _chroma(canvas, y, x, width, plane, red):
    """Cb, or Cr if `red`."""
    r, g, b = read(canvas, y * width + x, y >= 0, plane, 3)
    cb = CB_R * r + CB_G * g + CB_B * b
    cr = CR_R * r + CR_G * g + CR_B * b
    return (tl.where(red, cr, cb) + 8421375) >> 16


@triton.jit(do_not_specialize=["rows_at", "row_words", "instruction_at"])
def jpeg_code_kernel(
    canvas, planes, block, rows_at, row_words, instruction_at, tables, height, width, C: tl.constexpr, N: tl.constexpr
):  # fmt: skip
    """From canvas (B, C, H, W) to coded planes, uint8: for each sample H * W luma, then two chroma planes of half size.

    Grid (groups of N luma blocks, B, 1 or 3).
    """
    sample, component = tl.program_id(1), tl.program_id(2)
    instruction = block + rows_at + sample * row_words + instruction_at
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    tall = tl.where(component == 0, height, half_height)
    wide = tl.where(component == 0, width, half_width)
    across = tl.cdiv(wide, 8)
    first = tl.program_id(0) * N
    if (tl.load(instruction + OPCODE_AT) == JPEG) & (first < across * tl.cdiv(tall, 8)):
        plane = height * width
        here = canvas + sample.to(tl.int64) * C * plane
        chroma_size = half_height * half_width if C == 3 else 0
        target = planes + sample.to(tl.int64) * (plane + 2 * chroma_size)
        number = (first + tl.arange(0, N))[:, None, None]
        y = (number // across) * 8 + tl.arange(0, 8)[None, :, None]
        x = (number % across) * 8 + tl.arange(0, 8)[None, None, :]
        row, column = tl.minimum(y, tall - 1), tl.minimum(x, width - 1)
        if C == 3 and component > 0:
            red = component == 2
            top, bottom = 2 * row, tl.minimum(2 * row + 1, height - 1)
            left, right = tl.minimum(2 * x, width - 1), tl.minimum(2 * x + 1, width - 1)
            v = _chroma(here, top, left, width, plane, red) + _chroma(here, top, right, width, plane, red)
            v += _chroma(here, bottom, left, width, plane, red) + _chroma(here, bottom, right, width, plane, red)
            v = (v + 1 + (x & 1)) >> 2
            target += plane + (component - 1) * chroma_size
        else:
            v = _luma(here, row, column, width, plane, C)
        v = _transform(v - 128, tables, 11)
        v = _turn(_transform(_turn(v), tables, 15))
        k, j = tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :]
        quality = tl.minimum(tl.maximum(operand(instruction, QUALITY).to(tl.int32), 1), 100)
        scale = tl.where(quality < 50, 5000 // quality, 200 - 2 * quality)
        base = tl.load(tables + 128 + tl.where(component == 0, 0, 64) + 8 * k + j)
        step = tl.minimum(tl.maximum((base * scale + 50) // 100, 1), 255)[None, :, :]
        level = (tl.abs(v) + 4 * step) // (8 * step)
        v = tl.where(v < 0, -level, level) * step
        v = _turn(_transform(_turn(v), tables + 64, 11))
        v = _transform(v, tables + 64, 18)
        v = tl.minimum(tl.maximum(v + 128, 0), 255)
        tl.store(target + y * wide + x, v.to(tl.uint8), (y < tall) & (x < wide))


@triton.jit
def _upsample(chroma, y, x, tall, wide, mask):
    """Upsample by the triangle filter. Up to two columns, libjpeg repeats samples instead."""
    row, column = y // 2, x // 2
    near = chroma + row * wide
    far = chroma + tl.minimum(tl.maximum(row - 1 + 2 * (y & 1), 0), tall - 1) * wide
    beside = tl.minimum(tl.maximum(column - 1 + 2 * (x & 1), 0), wide - 1)
    own = 3 * tl.load(anywhere(near, column), mask, other=0).to(tl.int32) + tl.load(
        anywhere(far, column), mask, other=0
    ).to(tl.int32)
    other = 3 * tl.load(anywhere(near, beside), mask, other=0).to(tl.int32) + tl.load(
        anywhere(far, beside), mask, other=0
    ).to(tl.int32)
    repeated = tl.load(anywhere(near, column), mask, other=0).to(tl.int32)
    return tl.where(wide <= 2, repeated, (3 * own + other + 8 - (x & 1)) >> 4)


@triton.jit(do_not_specialize=["rows_at", "row_words", "instruction_at"])
def jpeg_decode_kernel(
    planes, canvas, block, rows_at, row_words, instruction_at, height, width,
    C: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """From coded planes to the canvas, for the samples whose instruction is JPEG. Grid (tiles, B)."""
    sample = tl.program_id(1)
    if tl.load(block + rows_at + sample * row_words + instruction_at + OPCODE_AT) == JPEG:
        y, x = tile(width, BH, BW)
        mask = (y < height) & (x < width)
        plane = height * width
        tall, wide = (height + 1) // 2, (width + 1) // 2
        chroma_size = tall * wide if C == 3 else 0
        coded = planes + sample.to(tl.int64) * (plane + 2 * chroma_size)
        a = tl.load(coded + y * width + x, mask, other=0).to(tl.int32)
        b, c = a, a
        if C == 3:
            cb = _upsample(coded + plane, y, x, tall, wide, mask) - 128
            cr = _upsample(coded + plane + chroma_size, y, x, tall, wide, mask) - 128
            b = tl.minimum(tl.maximum(a + ((CB_TO_GREEN * cb + CR_TO_GREEN * cr + 32768) >> 16), 0), 255)
            c = tl.minimum(tl.maximum(a + ((CB_TO_BLUE * cb + 32768) >> 16), 0), 255)
            a = tl.minimum(tl.maximum(a + ((CR_TO_RED * cr + 32768) >> 16), 0), 255)
        write(canvas + sample.to(tl.int64) * C * plane, y * width + x, mask, plane, a, b, c, C)


def jpeg(canvas: Tensor, layout: Layout, run: Run, params: Params) -> None:
    """Run, in place, the JPEG that is the first instruction of `run`."""
    batch, channels, height, width = canvas.shape
    half = -(-height // 2) * -(-width // 2) if channels == 3 else 0
    planes = empty((batch, height * width + 2 * half), torch.uint8, canvas.device)
    instruction_at = layout.instructions(run)[0]
    blocks = -(-height // 8) * -(-width // 8)
    together = TILES["blocks"][0]
    launch(
        jpeg_code_kernel, (-(-blocks // together), batch, channels), canvas, planes, *params.arguments, instruction_at,
        constants(matrices, canvas.device), height, width, C=channels, N=together,
    )  # fmt: skip
    grid, sizes = tiling(height, width, batch, channels)
    launch(jpeg_decode_kernel, grid, planes, canvas, *params.arguments, instruction_at, height, width, **sizes)
