"""Each pass over a group of samples in one call. A group is so small that its canvases stay in the L2 cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.kernels.numba.crop import crop
from gpuaug.kernels.numba.cut import cut_window
from gpuaug.kernels.numba.finish import finish, finish_by_table
from gpuaug.kernels.numba.instructions import run_instructions
from gpuaug.kernels.numba.llvm.intrinsics import fence
from gpuaug.kernels.numba.runtime.jit import kernel

__all__ = ["crop_group", "cut_group", "finish_group", "finish_group_by_table", "run_group"]

Array = NDArray[Any]


@kernel
def crop_group(
    start: int, stop: int, source: Array, offsets: Array, strides: Array,
    box: Array, resized: Array, begin: Array, flip: Array,
    interpolation: int, antialias: bool, padding_mode: int, fill: Array, canvases: Array, scratch: Any,
) -> None:  # fmt: skip
    """Crop samples start..stop into canvases[:, 0]; canvases (n, 2, C, H, W) uint8."""
    for b in range(start, stop):
        crop(
            source, offsets[b], strides[b, 0], strides[b, 1], strides[b, 2], box[b], resized[b], begin[b], flip[b],
            interpolation, antialias, padding_mode, fill, canvases[b - start, 0], scratch,
        )  # fmt: skip


@kernel
def cut_group(
    start: int, stop: int, source: Array, offsets: Array, strides: Array, box: Array, begin: Array, flip: Array,
    padding_mode: int, fill: Array, canvases: Array, where: Array,
) -> None:  # fmt: skip
    """As `crop_group` without resampling; compiles in a fifth of the time. where (2, longest side) int32: scratch."""
    for b in range(start, stop):
        stride_y, stride_x, stride_c = strides[b, 0], strides[b, 1], strides[b, 2]
        base = offsets[b] + box[b, 0] * stride_y + box[b, 1] * stride_x
        cut_window(
            source, base, stride_y, stride_x, stride_c, np.int64(box[b, 2]), np.int64(box[b, 3]),
            np.int64(begin[b, 0]), np.int64(begin[b, 1]), flip[b, 0], flip[b, 1], padding_mode, fill,
            canvases[b - start, 0], where[0], where[1],
        )  # fmt: skip


@kernel
def run_group(
    start: int, stop: int, first: int, last: int, opcodes: Array, operands: Array, fills: Array, tables: Array,
    canvases: Array, side: Array, bases: Array, totals: Array, height: int, width: int,
    scratch: Array, pending: Array, flush: bool,
) -> None:  # fmt: skip
    """Run instructions first..last of samples start..stop; `side` (n,) is the number, 0 or 1, of the
    canvas that holds each sample."""
    for b in range(start, stop):
        g = b - start
        k = g if bases.shape[0] > g else 0
        side[g] ^= run_instructions(
            opcodes[b], operands[b], fills[b], tables[b], first, last,
            canvases[g, side[g]], canvases[g, 1 - side[g]], bases[k], totals[k], height, width,
            scratch, pending[g], flush,
        )  # fmt: skip


@kernel
def finish_group_by_table(
    start: int, stop: int, canvases: Array, side: Array, pending: Array, table: Array,
    channels_last: bool, out: Array, composed: Array, streams: bool,
) -> None:  # fmt: skip
    """Finish samples that are not erased and not mixed; out (B, C * H * W). streams: whether past the caches."""
    for b in range(start, stop):
        g = b - start
        finish_by_table(canvases[g, side[g]], pending[g], table, channels_last, out[b], composed, streams)
    if streams:
        fence()


@kernel
def finish_group(
    start: int, stop: int, canvases: Array, rows: Array, side: Array, pending: Array, width: int, table: Array,
    mixes: bool, partner: Array, weight: Array, rest: Array, mix_box: Array,
    boxes: Array, shift: Array, scale: Array, ops: Array,
    seed_lo: int, seed_hi: int, index: Array, look: Array, normals: Array,
    dtype: int, channels_last: bool, out: Array, values: Array, words: Array,
) -> None:  # fmt: skip
    """Finish samples start..stop, which may be erased and mixed.

    Sample b is in canvases[rows[b], side[rows[b]]], its tables in pending[rows[b]]; boxes (B, E, 4).
    """
    for b in range(start, stop):
        own, p = rows[b], partner[b]
        other = rows[p] if mixes else own
        finish(
            canvases[own, side[own]], pending[own], canvases[other, side[other]], pending[other], width, table,
            mixes, weight[b], rest[b], mix_box[b], boxes[b], boxes[p], shift, scale, ops,
            seed_lo, seed_hi, index[b], look[b], index[p], look[p], normals, dtype, channels_last, out[b],
            values, words,
        )  # fmt: skip
