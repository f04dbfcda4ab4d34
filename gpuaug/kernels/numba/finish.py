"""The last pass of one sample: look up values, erase, mix, cast, write in the memory format.

`finish_by_table` only looks up values in a table; `finish` does all of these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.kernels.numba.common import HEIGHT, LEFT, TOP, WIDTH, copy
from gpuaug.kernels.numba.llvm.intrinsics import rint
from gpuaug.kernels.numba.llvm.lookup import look_up
from gpuaug.kernels.numba.noise import pixel_words
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["BFLOAT16", "FLOAT16", "FLOAT32", "UINT8", "finish", "finish_by_table"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

FLOAT32, FLOAT16, BFLOAT16, UINT8 = range(4)
ZERO, FULL = np.float32(0), np.float32(255)
SIGN, MAGNITUDE = np.uint32(0x8000), np.uint32(0x7FFFFFFF)
INFINITY = np.uint32(0x7F800000)  # float32 bits
HALF_LIMIT = np.uint32(0x477FF000)  # 65520: from this value on, float16 rounds to infinity
HALF_NORMAL = np.uint32(0x38800000)  # 2**-14, the smallest normal float16
REBIAS = np.uint32((127 - 15) << 23)
UNIT = np.float32(1 << 24)  # number of subnormal float16 steps in 1.0


@inner
def _weave(a: Array, b: Array, c: Array, table: Array, out: Array) -> None:
    at = np.uint64(0)
    for i in range(a.size):
        out[at] = table[0, a[i]]
        out[at + np.uint64(1)] = table[1, b[i]]
        out[at + np.uint64(2)] = table[2, c[i]]
        at += np.uint64(3)


@inner
def _store(values: Array, out: Array, start: Scalar, stride: Scalar) -> None:
    at = np.uint64(start)
    for i in range(values.size):
        out[at] = values[i]
        at += np.uint64(stride)


@inner
def _compose(table: Array, pending: Array, out: Array) -> None:
    for c in range(table.shape[0]):
        for v in range(256):
            out[c, v] = table[c, pending[c, v]]


@inner
def finish_by_table(
    canvas: Array, pending: Array, table: Array, channels_last: bool, out: Array, composed: Array, streams: bool
) -> None:
    """Finish a sample that is neither erased nor mixed.

    Args:
        canvas: (C, H * W) uint8; pending: (C, 256) uint8, from `run_instructions`.
        table: (C, 256), already cast to the output's type (16-bit floats as uint16 bits).
        out: (C * H * W,) of that type, dense, in either memory format.
        composed: (C + 1, 256) of that type, scratch.
        streams: Whether to write past the caches, if each plane of `out` begins at a multiple of LINE.
    """
    channels, size = canvas.shape
    _compose(table, pending, composed)
    if channels_last and channels == 3:
        _weave(canvas[0], canvas[1], canvas[2], composed, out)
        return
    apart = composed[channels]
    for c in range(channels):
        if channels_last:
            at = np.uint64(c)
            for i in range(size):
                out[at] = composed[c, canvas[c, i]]
                at += np.uint64(channels)
        else:
            look_up(canvas[c], composed[c], apart, out[c * size : (c + 1) * size], streams)


@inner
def _to_half(values: Array, bits: Array, out: Array) -> None:
    for x in range(values.size):
        a = np.uint32(bits[x] & MAGNITUDE)
        odd = np.uint32((a >> np.uint32(13)) & np.uint32(1))
        normal = np.uint32(np.uint32(np.uint32(a - REBIAS) + np.uint32(0xFFF)) + odd) >> np.uint32(13)
        tiny = np.uint32(np.int32(rint((abs(values[x]) if a < HALF_NORMAL else ZERO) * UNIT)))
        h = np.uint32(normal if a >= HALF_NORMAL else tiny)
        h = np.uint32(h if a < HALF_LIMIT else np.uint32(0x7C00))
        h = np.uint32(h if a <= INFINITY else np.uint32(0x7E00))
        out[x] = np.uint16(h | ((bits[x] >> np.uint32(16)) & SIGN))


@inner
def _to_bfloat(bits: Array, out: Array) -> None:
    for x in range(bits.size):
        a = bits[x]
        odd = np.uint32((a >> np.uint32(16)) & np.uint32(1))
        rounded = np.uint32(np.uint32(np.uint32(a + np.uint32(0x7FFF)) + odd) >> np.uint32(16))
        out[x] = np.uint16(rounded if np.uint32(a & MAGNITUDE) <= INFINITY else np.uint32(0x7FC0))


@inner
def _to_byte(values: Array, out: Array) -> None:
    for x in range(values.size):
        v = rint(values[x])
        v = v if v > ZERO else ZERO
        out[x] = np.uint8(np.int32(v if v < FULL else FULL))


@inner
def _erase(
    values: Array, c: Scalar, width: Scalar, boxes: Array, shift: Array, scale: Array, ops: Array,
    seed_lo: Scalar, seed_hi: Scalar, index: Scalar, look: Scalar, normals: Array, words: Array,
) -> None:  # fmt: skip
    """Overwrite the boxes of one plane (H * W,), in order."""
    halves = words.view(np.uint16)
    for e in range(boxes.shape[0]):
        top, left = boxes[e, TOP], boxes[e, LEFT]
        bottom = min(top + boxes[e, HEIGHT], values.size // width)
        right = min(left + boxes[e, WIDTH], width)
        for y in range(top, bottom if left < right else top):
            row = values[y * width + left : y * width + right]
            if scale[e, c] == ZERO:
                row[:] = shift[e, c]
                continue
            element = c * values.size + y * width + left
            block = element // 8
            pixel_words(block, (element + row.size + 7) // 8 - block, ops[e], seed_lo, seed_hi, index, look, words)
            drawn = halves[element - 8 * block :]
            for x in range(row.size):
                row[x] = shift[e, c] + scale[e, c] * normals[drawn[x]]


@inner
def _mix(values: Array, other: Array, box: Array, width: Scalar, weight: Scalar, one_minus: Scalar) -> None:
    """Blend with the partner (H * W,); inside `box` its pixels replace the values."""
    if one_minus != ZERO:
        for i in range(values.size):
            theirs, own = other[i] * one_minus, values[i] * weight
            values[i] = theirs + own
    for y in range(box[TOP], box[TOP] + box[HEIGHT]):
        start = y * width + box[LEFT]
        end = start + box[WIDTH]
        copy(other[start:end], values[start:end])


@inner
def finish(
    canvas: Array, pending: Array, partner: Array, partner_pending: Array, width: int, table: Array,
    mixes: bool, weight: float, one_minus: float, mix_box: Array,
    boxes: Array, partner_boxes: Array, shift: Array, scale: Array, ops: Array,
    seed_lo: int, seed_hi: int, index: int, look: int, partner_index: int, partner_look: int, normals: Array,
    dtype: int, channels_last: bool, out: Array, values: Array, words: Array,
) -> None:  # fmt: skip
    """Finish a sample that may be erased and mixed.

    Args:
        canvas, partner: (C, H * W) uint8; pending, partner_pending: (C, 256) uint8, from `run_instructions`.
        table: (C, 256) float32.
        mixes: False ignores `partner`, `weight` (of this sample), `one_minus` (1 - weight) and `mix_box` (4,) int32.
        boxes, partner_boxes: (E, 4) int32, the erases of this sample and of its partner.
        shift, scale, ops: (E, C) float32, (E, C) float32, (E,) int64.
        index, look, partner_index, partner_look: keys of the draws; normals (65536,) float32.
        dtype: FLOAT32, FLOAT16, BFLOAT16 or UINT8.
        out: (C * H * W,), dense, in either memory format: float32, uint16 (the bits) or uint8.
        values: (3 H * W + 512 C + 256,) float32 and words: (2 W + 64,) uint32, scratch.
    """
    channels, size = canvas.shape
    own, other, cast = values[:size], values[size : 2 * size], values[2 * size : 3 * size]
    tables = values[3 * size : 3 * size + 512 * channels].reshape(2, channels, 256)
    apart = values[3 * size + 512 * channels :]
    _compose(table, pending, tables[0])
    share, rest = np.float32(weight), np.float32(one_minus)
    if mixes:
        _compose(table, partner_pending, tables[1])
    for c in range(channels):
        look_up(canvas[c], tables[0, c], apart, own)
        _erase(own, c, width, boxes, shift, scale, ops, seed_lo, seed_hi, index, look, normals, words)
        if mixes:
            look_up(partner[c], tables[1, c], apart, other)
            _erase(
                other, c, width, partner_boxes, shift, scale, ops,
                seed_lo, seed_hi, partner_index, partner_look, normals, words,
            )  # fmt: skip
            _mix(own, other, mix_box, width, share, rest)
        start, stride = (c, channels) if channels_last else (c * size, 1)
        target = cast.view(out.dtype)[:size] if channels_last else out[start : start + size]
        if dtype == FLOAT16:
            _to_half(own, own.view(np.uint32), target)
        elif dtype == BFLOAT16:
            _to_bfloat(own.view(np.uint32), target)
        elif dtype == UINT8:
            _to_byte(own, target)
        else:
            copy(own, target)
        if channels_last:
            _store(target, out, start, stride)
