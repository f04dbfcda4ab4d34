"""Finish, in one launch: the last run, look up values in a table, erase, mix, cast, write in the memory format.

For a mix the last run of the partner is evaluated again, so that no float canvas is in memory.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from gpuaug.kernels.triton.common import (
    ERASE_WORDS,
    MIX_BOX,
    MIX_PARTNER,
    MIX_REST,
    MIX_WEIGHT,
    anywhere,
    float_at,
    rint,
    tile,
)
from gpuaug.kernels.triton.instructions import Branches, evaluate
from gpuaug.kernels.triton.noise import pixel_normals
from gpuaug.kernels.triton.point import in_box
from gpuaug.kernels.triton.runtime.launch import launch, normals, tiling
from gpuaug.kernels.triton.runtime.plan import Layout, Params, Run
from gpuaug.kernels.triton.runtime.tape import empty

__all__ = ["finish", "finish_kernel"]


@triton.jit
def _erase(value, inside, shift, scale, row, op, element, normals, RANDOM: tl.constexpr):
    """Erase `value` where `inside`. `shift` and `scale` are those of this channel."""
    level = float_at(shift)
    if RANDOM:
        level = level + float_at(scale) * pixel_normals(row, op, element, normals)
    return tl.where(inside, level, value)


@triton.jit
def _values(
    canvas, block, rows_at, row_words, sample, instructions_at, stride, weights_at, luts, normals, base, total,
    table_at, erases, erases_at,
    x, y, mask, height, width, channel, channels,
    C: tl.constexpr, MAY: tl.constexpr, N: tl.constexpr,
    TABLE: tl.constexpr, ERASES: tl.constexpr, RANDOM: tl.constexpr,
):  # fmt: skip
    """The values of a tile of `sample`, float32: after its last run, the table and the erasing."""
    plane = height * width
    here = (sample.to(tl.int64) * channels + channel) * plane
    row = block + rows_at + sample * row_words
    a, b, c = evaluate(
        canvas + here, row + instructions_at, stride, N, (row + weights_at).to(tl.pointer_type(tl.int16)),
        luts + sample.to(tl.int64) * (N * channels * 256), row, normals, base + here, total + here,
        x, y, mask, height, width, channel, channels, C, MAY, N,
    )  # fmt: skip
    if TABLE:
        own = block + table_at + channel * 256
        p = float_at(anywhere(own, a))
        q, r = p, p
        if C == 3:
            q = float_at(anywhere(own + 256, b))
            r = float_at(anywhere(own + 512, c))
    else:
        p, q, r = a.to(tl.float32), b.to(tl.float32), c.to(tl.float32)
    for e in tl.static_range(ERASES):
        inside = in_box(row + erases_at + ERASE_WORDS * e, x, y) & mask
        head = block + erases + e * (2 * channels + 1)
        op = tl.load(head)
        shift, scale = head + 1 + channel, head + 1 + channels + channel
        element = channel * plane + y * width + x
        # no draws in a tile without an erased pixel
        if tl.max(tl.max(inside.to(tl.int32), axis=1), axis=0) > 0:
            random: tl.constexpr = (RANDOM >> e) & 1
            p = _erase(p, inside, shift, scale, row, op, element, normals, random)
            if C == 3:
                q = _erase(q, inside, shift + 1, scale + 1, row, op, element + plane, normals, random)
                r = _erase(r, inside, shift + 2, scale + 2, row, op, element + 2 * plane, normals, random)
    return p, q, r


@triton.jit
def _blend(own, other, inside, weight, rest):
    return tl.where(inside, other, tl.where(rest == 0, own, other * rest + own * weight))


@triton.jit
def _store(pointer, value, mask):
    if pointer.dtype.element_ty == tl.uint8:
        value = tl.minimum(tl.maximum(rint(value), 0.0), 255.0)
    tl.store(pointer, value.to(pointer.dtype.element_ty), mask)


@triton.jit(
    do_not_specialize=[
        "rows_at",
        "row_words",
        "instructions_at",
        "stride",
        "weights_at",
        "table_at",
        "erases",
        "erases_at",
        "mix_at",
    ]
)
def finish_kernel(
    canvas, out, block, rows_at, row_words, instructions_at, stride, weights_at, luts, normals, base, total,
    table_at, erases, erases_at, mix_at,
    out_y, out_x, out_c, height, width, channels, C: tl.constexpr, MAY: tl.constexpr, N: tl.constexpr,
    TABLE: tl.constexpr, ERASES: tl.constexpr, RANDOM: tl.constexpr, MIX: tl.constexpr,
    BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """canvas: (B, channels, H, W) uint8; out of the same shape in any dtype, dense, with strides out_y, out_x, out_c.

    At table_at: (channels, 256) float32. At erases: op, shifts and scales of each erase. Grid (tiles, B, channels / C).
    """
    sample, channel = tl.program_id(1), tl.program_id(2)
    y, x = tile(width, BH, BW)
    mask = (y < height) & (x < width)
    if MIX:
        mix = block + rows_at + sample * row_words + mix_at
        weight, rest = float_at(mix + MIX_WEIGHT), float_at(mix + MIX_REST)
        pasted = tl.max(tl.max((in_box(mix + MIX_BOX, x, y) & mask).to(tl.int32), axis=1), axis=0)
        p = tl.zeros((BH, BW), tl.float32)
        q, r = p, p
        for part in range(tl.where((rest != 0) | (pasted > 0), 2, 1)):  # this sample, then its partner
            u, v, w = _values(
                canvas, block, rows_at, row_words, tl.where(part == 0, sample, tl.load(mix + MIX_PARTNER)),
                instructions_at, stride, weights_at, luts, normals, base, total, table_at, erases, erases_at,
                x, y, mask, height, width, channel, channels, C, MAY, N, TABLE, ERASES, RANDOM,
            )  # fmt: skip
            inside = in_box(mix + MIX_BOX, x, y)
            p = tl.where(part == 0, u, _blend(p, u, inside, weight, rest))
            if C == 3:
                q = tl.where(part == 0, v, _blend(q, v, inside, weight, rest))
                r = tl.where(part == 0, w, _blend(r, w, inside, weight, rest))
    else:
        p, q, r = _values(
            canvas, block, rows_at, row_words, sample, instructions_at, stride, weights_at, luts, normals, base, total,
            table_at, erases, erases_at,
            x, y, mask, height, width, channel, channels, C, MAY, N, TABLE, ERASES, RANDOM,
        )  # fmt: skip
    here = out + sample.to(tl.int64) * channels * height * width + channel * out_c + y * out_y + x * out_x
    _store(here, p, mask)
    if C == 3:
        _store(here + out_c, q, mask)
        _store(here + 2 * out_c, r, mask)


def finish(
    canvas: Tensor, layout: Layout, run: Run, params: Params, luts: Tensor, branches: Branches
) -> Tensor:  # fmt: skip
    """Convert the canvas before the last run to (B, C, H, W) in the dtype and memory format of the finish."""
    wanted = layout.program.finish
    assert wanted is not None
    batch, channels, height, width = canvas.shape
    out = empty(canvas.shape, wanted.dtype, canvas.device, wanted.memory_format)
    quantiles = normals(canvas.device)
    heavy = wanted.mix is not None or layout.random
    pixels = "floats" if heavy and run.tile == "levels" else run.tile
    grid, sizes = tiling(height, width, batch, channels, pixels)
    launch(
        finish_kernel, grid, canvas, out, *params.arguments, *layout.instructions(run), luts, quantiles,
        branches.base, branches.total,
        layout.table_at, layout.erases, layout.erases_at, layout.mix_at,
        out.stride(2), out.stride(3), out.stride(1), height, width, channels, MAY=run.mask, N=run.count,
        TABLE=wanted.table is not None, ERASES=len(wanted.erases), RANDOM=layout.random, MIX=wanted.mix is not None,
        **sizes,
    )  # fmt: skip
    return out
