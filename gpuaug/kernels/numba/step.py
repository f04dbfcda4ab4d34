"""The instructions of one sample, run on one core while its image sits in cache.

The canvas is planar (C, H * W), so every loop runs over a plane or a row of bytes and LLVM vectorises it. Tables are
not applied at once: they compose in `pending` (C, 256), which is applied when an instruction needs the pixels
themselves, or is left to `finish`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.kernels.numba.llvm.intrinsics import floor, fma
from gpuaug.kernels.numba.llvm.lookup import look_up
from gpuaug.kernels.numba.runtime.jit import inner, kernel
from gpuaug.kernels.numba.tables import AUTOCONTRAST, EQUALIZE, adapt, byte, compose, luma
from gpuaug.kernels.numba.warp import move, nearest

__all__ = ["RARE", "rare", "run", "scratch_size"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

ZERO, ONE, TWO, FOUR = np.float32(0), np.float32(1), np.float32(2), np.float32(4)
SIXTH = np.float32(1 / 6)
TO_BYTE = np.float32(255.999 / 255)  # torchvision's way back from [0, 1]
IDENTITY, TABLE = 0, 1
SATURATION, GRAYSCALE, HUE, PERMUTE, SHARPNESS = range(5, 10)
WARP, FLIP, BLUR, CONVOLVE, NOISE, JPEG, ERASE, BRANCH, JOIN, MERGE = range(10, 20)
COMMUTE = (TABLE, AUTOCONTRAST, EQUALIZE, FLIP)  # need no table applied first: they compose with it, or see a histogram
RARE = (BLUR, CONVOLVE, NOISE, JPEG)  # kernels of their own, called between two runs


def rare(opcodes: Array, operands: Array) -> Array:
    """Which instructions `run` leaves to their own kernels: RARE, and WARP with an interpolation above nearest."""
    return np.asarray(np.isin(opcodes, RARE) | ((opcodes == WARP) & (operands[..., 9] != 0)))


def scratch_size(channels: int, height: int, width: int) -> int:
    """What `run` and every rare kernel but `jpeg` need, in int32."""
    return 21504 + 32 * width + 48 * height + channels * (height + 6) * (width + 3)


@inner
def _saturate(r: Array, g: Array, b: Array, factor: Scalar, weight: Scalar) -> None:
    for i in range(r.size):
        grey = luma(r[i], g[i], b[i])
        r[i] = byte(fma(grey, weight, np.float32(r[i]) * factor))
        g[i] = byte(fma(grey, weight, np.float32(g[i]) * factor))
        b[i] = byte(fma(grey, weight, np.float32(b[i]) * factor))


@inner
def _decolour(r: Array, g: Array, b: Array) -> None:
    for i in range(r.size):
        grey = np.uint8(np.int32(luma(r[i], g[i], b[i])))
        r[i] = grey
        g[i] = grey
        b[i] = grey


@inner
def _wheel(k: Scalar, high: Scalar, span: Scalar) -> Scalar:
    """One channel: `k` is its place on the colour wheel, in sixths, before wrapping."""
    k = k - np.float32(6) * floor(k * SIXTH)
    t = FOUR - k
    t = k if k < t else t
    t = t if t < ONE else ONE
    t = t if t > ZERO else ZERO
    return np.uint8(np.int32((high - span * t) * TO_BYTE))


@inner
def _shift_hue(red: Array, green: Array, blue: Array, shift: Scalar) -> None:
    for i in range(red.size):
        r, g, b = np.float32(red[i]), np.float32(green[i]), np.float32(blue[i])
        high = r if r > g else g
        high = high if high > b else b
        low = r if r < g else g
        low = low if low < b else b
        span = high - low
        is_r = high == r
        is_g = high == g
        one = g - b if is_r else (b - r if is_g else r - g)
        offset = ZERO if is_r else (TWO if is_g else FOUR)
        h = one / (span if span > ONE else ONE) + offset
        h = h + shift
        red[i] = _wheel(h + np.float32(5), high, span)
        green[i] = _wheel(h + np.float32(3), high, span)
        blue[i] = _wheel(h + ONE, high, span)


@inner
def _copy(source: Array, target: Array) -> None:
    for i in range(target.size):
        target[i] = source[i]


@inner
def _sharpen_plane(plane: Array, height: Scalar, width: Scalar, weight: Scalar, out: Array) -> None:
    """The plane as one row of pixels; the border, where neighbours wrap, is then put back."""
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
    _copy(plane[:width], out[:width])
    _copy(plane[size - width :], out[size - width :])
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
            _copy(plane[y * width : (y + 1) * width], out[start : start + width])


@inner
def _erase(plane: Array, width: Scalar, box: Array, fill: Scalar) -> None:
    top, left, level = np.int64(box[0]), np.int64(box[1]), np.uint8(np.int32(fill))
    bottom, right = min(top + np.int64(box[2]), plane.size // width), min(left + np.int64(box[3]), width)
    for y in range(int(top), int(bottom)):
        for x in range(int(y * width + left), int(y * width + right)):
            plane[x] = level


@inner
def _accumulate(plane: Array, weight: Scalar, first: bool, total: Array) -> None:
    for i in range(plane.size):
        part = weight * np.float32(plane[i])
        total[i] = part if first else total[i] + part


@inner
def _merge(total: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = byte(total[i])


@inner
def _reset(pending: Array) -> None:
    for c in range(pending.shape[0]):
        for v in range(256):
            pending[c, v] = v


@inner
def _settle(canvas: Array, pending: Array) -> None:
    """Apply the pending tables, which are then the identity."""
    for c in range(canvas.shape[0]):
        look_up(canvas[c], pending[c], pending[c], canvas[c])
    _reset(pending)


@kernel
def run(
    opcodes: Array, operands: Array, fills: Array, tables: Array, first: int, last: int,
    canvas: Array, spare: Array, base: Array, total: Array, height: int, width: int,
    scratch: Array, pending: Array, flush: bool,
) -> int:  # fmt: skip
    """Run instructions `first` to `last` (exclusive, none of them `rare`) of one sample.

    Args:
        opcodes, operands, fills, tables: (K,) int32, (K, 16) float32, (K, C) float32, (K, 256) uint8.
        canvas: (C, H * W) uint8, the input; `spare` alike. Both are overwritten.
        base, total: uint8 and float32 alike, kept from BRANCH to MERGE, also between calls.
        scratch: (scratch_size(C, H, W),) int32.
        pending: (C, 256) uint8, written: the tables not yet applied; identity if `flush`, which applies them.

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
            adapt(opcode, operand, here, pending, not dirty, scratch)
            dirty = True
        elif opcode == SATURATION:
            _saturate(here[0], here[1], here[2], operand[0], operand[1])
        elif opcode == GRAYSCALE and here.shape[0] == 3:
            _decolour(here[0], here[1], here[2])
        elif opcode == HUE:
            _shift_hue(here[0], here[1], here[2], operand[0])
        elif opcode == WARP:
            if not (operand[0] == ONE and operand[3] == ZERO and operand[11] == ZERO) or not move(
                here, height, width, operand, fill, there
            ):
                nearest(here, height, width, operand, fill, there, scratch)
            moved = True
        elif opcode in (SHARPNESS, PERMUTE, FLIP):
            moved = opcode != SHARPNESS or (height > 2 and width > 2)
            for c in range(here.shape[0] if moved else 0):
                if opcode == PERMUTE:
                    _copy(here[np.int64(operand[c])], there[c])
                elif opcode == FLIP:
                    _flip(here[c], height, width, operand[0] != ZERO, operand[1] != ZERO, there[c])
                else:
                    _sharpen_plane(here[c], height, width, operand[1], there[c])
        else:
            for c in range(here.shape[0]):
                if opcode == ERASE:
                    _erase(here[c], width, operand, fill[c])
                elif opcode == MERGE:
                    _merge(total[c], here[c])
                elif opcode in (BRANCH, JOIN):
                    _accumulate(here[c], operand[0], opcode == BRANCH, total[c])
                    if opcode == BRANCH:
                        _copy(here[c], base[c])
                    else:
                        _copy(base[c], here[c])
        if moved:
            here, there = there, here
            swapped = 1 - swapped
    return swapped
