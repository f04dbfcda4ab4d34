"""The instructions of one sample, run on one core while its image is in the cache.

The canvas is planar (C, H * W), so every loop runs over a plane or a row of bytes and LLVM vectorises it. Tables are
not applied at once: they are composed in `pending` (C, 256), which is applied when an instruction needs the pixels,
or by `finish`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import NEAREST, Op, Warp
from gpuaug.kernels.numba.common import (
    AUTOCONTRAST,
    BRANCH,
    EQUALIZE,
    ERASE,
    FACTOR,
    FLIP,
    GRAYSCALE,
    HORIZONTAL,
    HUE,
    IDENTITY,
    JOIN,
    MATRIX,
    MERGE,
    PERMUTE,
    PROJECTIVE,
    REST,
    SATURATION,
    SHARPNESS,
    TABLE,
    TURN,
    VERTICAL,
    WARP,
    WEIGHT,
    byte,
    copy,
)
from gpuaug.kernels.numba.llvm.intrinsics import fma
from gpuaug.kernels.numba.llvm.lookup import look_up
from gpuaug.kernels.numba.point import accumulate, erase, grayscale, hue, merge, saturation
from gpuaug.kernels.numba.runtime.jit import inner
from gpuaug.kernels.numba.statistics import compose, statistics
from gpuaug.kernels.numba.warp import move, nearest

__all__ = ["needs_own_kernel", "run_instructions", "scratch_size"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

ZERO, ONE = np.float32(0), np.float32(1)
COMMUTE = (TABLE, AUTOCONTRAST, EQUALIZE, FLIP)  # need no table applied first: they compose with it, or use a histogram
OWN_KERNEL = (Op.BLUR, Op.CONVOLVE, Op.NOISE, Op.JPEG, Op.ELASTIC)


def needs_own_kernel(opcodes: Array, operands: Array) -> Array:
    """Which instructions have separate kernels: OWN_KERNEL, and WARP with bilinear or bicubic interpolation."""
    blended = (opcodes == WARP) & (operands[..., Warp.INTERPOLATION] != NEAREST)
    return np.asarray(np.isin(opcodes, OWN_KERNEL) | blended)


def scratch_size(channels: int, height: int, width: int) -> int:
    """Size of the scratch of `run_instructions` and of every other kernel except `jpeg`, in int32."""
    return 21504 + 32 * width + 48 * height + channels * (height + 6) * (width + 3)


@inner
def _sharpen_plane(plane: Array, height: Scalar, width: Scalar, weight: Scalar, out: Array) -> None:
    """Sharpen the plane as one row of pixels, then restore the border, where the neighbours were wrong."""
    size = plane.size
    inside = size - 2 * width - 2  # from (1, 1) to (H - 2, W - 2)
    up, row, down, target = plane[: inside + 2], plane[width:], plane[2 * width :], out[width + 1 :]
    for x in range(inside):
        ring = np.int32(up[x]) + np.int32(up[x + 1]) + np.int32(up[x + 2]) + np.int32(row[x])
        ring += np.int32(row[x + 2]) + np.int32(down[x]) + np.int32(down[x + 1]) + np.int32(down[x + 2])
        twice = np.int32(2 * (ring + 5 * np.int32(row[x + 1])) + 13)
        soft = np.int32(np.int32(twice * np.int32(40330)) >> np.int32(20))  # twice // 26, exact up to 2**15
        v = np.float32(row[x + 1])
        target[x] = byte(fma(np.float32(soft) - v, weight, v))
    copy(plane[:width], out[:width])
    copy(plane[size - width :], out[size - width :])
    for y in range(1, height - 1):
        out[y * width] = plane[y * width]
        out[(y + 1) * width - 1] = plane[(y + 1) * width - 1]


@inner
def _mirror(source: Array, target: Array) -> None:
    last = np.uint64(source.size - 1)
    for x in range(source.size):
        target[x] = source[last - np.uint64(x)]


@inner
def _flip(plane: Array, height: Scalar, width: Scalar, horizontal: bool, vertical: bool, out: Array) -> None:
    for y in range(height):
        start = (height - 1 - y if vertical else y) * width
        if horizontal:
            _mirror(plane[y * width : (y + 1) * width], out[start : start + width])
        else:
            copy(plane[y * width : (y + 1) * width], out[start : start + width])


@inner
def _reset(pending: Array) -> None:
    for c in range(pending.shape[0]):
        for v in range(256):
            pending[c, v] = v


@inner
def _settle(canvas: Array, pending: Array) -> None:
    """Apply the pending tables and set them to the identity."""
    for c in range(canvas.shape[0]):
        look_up(canvas[c], pending[c], pending[c], canvas[c])
    _reset(pending)


@inner
def run_instructions(
    opcodes: Array, operands: Array, fills: Array, tables: Array, first: int, last: int,
    canvas: Array, spare: Array, base: Array, total: Array, height: int, width: int,
    scratch: Array, pending: Array, flush: bool,
) -> int:  # fmt: skip
    """Run instructions `first` to `last` (exclusive, none of which `needs_own_kernel`) of one sample.

    Args:
        opcodes, operands, fills, tables: (K,) int32, (K, OPERANDS) float32, (K, C) float32, (K, 256) uint8.
        canvas: (C, H * W) uint8, the input; `spare` has the same shape. Both are overwritten.
        base, total: uint8 and float32 of the same shape, kept from BRANCH to MERGE, also between calls.
        scratch: (scratch_size(C, H, W),) int32.
        pending: (C, 256) uint8, written: the tables that are not yet applied. `flush` applies them: the identity.

    Returns:
        0 if the result is in `canvas`, 1 if in `spare`.
    """
    here, there = canvas, spare
    swapped, dirty = 0, False
    _reset(pending)
    for k in range(first, last + 1):
        opcode = opcodes[k] if k < last else MERGE if flush else IDENTITY
        if opcode == IDENTITY:
            continue
        if dirty and opcode not in COMMUTE:
            _settle(here, pending)
            dirty = False
        if k == last:
            break
        operand, fill = operands[k], fills[k]
        moved = False
        if opcode == TABLE:
            for c in range(here.shape[0]):
                compose(pending[c], tables[k])
            dirty = True
        elif opcode <= EQUALIZE:
            statistics(opcode, operand, here, pending, not dirty, scratch)
            dirty = True
        elif opcode == SATURATION:
            saturation(here[0], here[1], here[2], operand[FACTOR], operand[REST])
        elif opcode == GRAYSCALE and here.shape[0] == 3:
            grayscale(here[0], here[1], here[2])
        elif opcode == HUE:
            hue(here[0], here[1], here[2], operand[TURN])
        elif opcode == WARP:
            if not (operand[MATRIX] == ONE and operand[MATRIX + 3] == ZERO and operand[PROJECTIVE] == ZERO) or not move(
                here, height, width, operand, fill, there
            ):
                nearest(here, height, width, operand, fill, there, scratch)
            moved = True
        elif opcode in (SHARPNESS, PERMUTE, FLIP):
            moved = opcode != SHARPNESS or (height > 2 and width > 2)
            for c in range(here.shape[0] if moved else 0):
                if opcode == PERMUTE:
                    copy(here[np.int64(operand[c])], there[c])
                elif opcode == FLIP:
                    _flip(here[c], height, width, operand[HORIZONTAL] != ZERO, operand[VERTICAL] != ZERO, there[c])
                else:
                    _sharpen_plane(here[c], height, width, operand[REST], there[c])
        else:
            for c in range(here.shape[0]):
                if opcode == ERASE:
                    erase(here[c], width, operand, fill[c])
                elif opcode == MERGE:
                    merge(total[c], here[c])
                elif opcode in (BRANCH, JOIN):
                    accumulate(here[c], operand[WEIGHT], opcode == BRANCH, total[c])
                    if opcode == BRANCH:
                        copy(here[c], base[c])
                    else:
                        copy(base[c], here[c])
        if moved:
            here, there = there, here
            swapped = 1 - swapped
    return swapped
