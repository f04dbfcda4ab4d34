"""JPEG artefacts, one sample on one core: the pixels after encoding at a quality and decoding, bit for bit.

The same bits as `gpuaug.kernels.torch.jpeg`: the lossy steps of libjpeg(-turbo) at its defaults, in its integer
arithmetic - jccolor.c, jcprepct.c, jcsample.c, jfdctint.c, jcparam.c and jcdctmgr.c (ITU T.81 Annex K
tables), jidctint.c, jdsample.c with the context rows of jdmainct.c, jdcolor.c. Written from the algorithms.

Planes and DCT values are stored as int16 (they fit, see `_code`) and computed in int32. The transforms work on LANES
blocks at once, stored [coefficient][block], so that every inner loop is contiguous with a constant trip count. Each
expression is converted back to int32, as Numba widens integer sums to 64 bits and LLVM would keep that width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from gpuaug.kernels.jpeg import (
    CB_TO_BLUE,
    CB_TO_GREEN,
    CB_WEIGHTS,
    CHROMA_TABLE,
    CR_TO_GREEN,
    CR_TO_RED,
    CR_WEIGHTS,
    LUMA_TABLE,
    LUMA_WEIGHTS,
)
from gpuaug.kernels.numba.runtime.jit import kernel

LANES = 32  # blocks transformed together
_WORK = 64 * LANES
_FIXED = 2 * _WORK + 3 * 64  # two transform buffers, then the tables: quantisation step, multiplier, shift

# Only compiled code calls the helpers. Without Python wrappers they compile faster.
_F = TypeVar("_F", bound=Callable[..., object])
_inner: Callable[[_F], _F]
_inner = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]

_i16 = np.int16
_i32 = np.int32
_Int16: TypeAlias = NDArray[np.int16]
_UInt8: TypeAlias = NDArray[np.uint8]

_LUMA, _CHROMA = np.array(LUMA_TABLE), np.array(CHROMA_TABLE)
_Y_R, _Y_G, _Y_B = LUMA_WEIGHTS
_CB_R, _CB_G, _CB_B = CB_WEIGHTS
_CR_R, _CR_G, _CR_B = CR_WEIGHTS


def scratch_size(C: int, h: int, w: int) -> int:  # noqa: N803
    """Elements of the 1-D int16 scratch array that `jpeg` needs for a (C, h, w) canvas (or any smaller one)."""
    rows, cols = (h + 7) // 8 * 8, (w + 7) // 8 * 8
    down, across = (h + 15) // 16 * 8 if C == 3 else 0, (w + 15) // 16 * 8
    return _FIXED + rows * cols + 2 * down * across + 8 * across


@_inner
def _tables(base: NDArray[np.int64], quality: int, tables: _Int16) -> None:
    """Fill tables (int16 (192,)) from a T.81 base table (int64 (64,)): steps 1..255 and how to divide by 8 * step.

    Steps as jpeg_quality_scaling with force_baseline. For 0 <= n < 2**14 and d = 8 * step, n // d is exactly
    n * m >> s with s = 14 + ceil(log2 d) and m = 2**s // d + 1: m < 2**15 and n * m < 2**29.
    """
    q = min(max(quality, 1), 100)
    scale = 5000 // q if q < 50 else 200 - 2 * q
    for k in range(64):
        step = min(max((base[k] * scale + 50) // 100, 1), 255)
        s = 17
        while (1 << (s - 17)) < step:
            s += 1
        tables[k] = step
        tables[64 + k] = (1 << s) // (8 * step) + 1
        tables[128 + k] = s


@_inner
def _fdct(src: _Int16, dst: _Int16, shift: int | np.int32) -> None:
    """8-point forward DCTs (jfdctint.c): src [8][8][LANES] along its second axis, over 2**shift; dst is transposed."""
    half = _i32(_i32(1) << _i32(shift - 1))
    for p in range(8):
        for i in range(LANES):
            a = p * 8 * LANES + i
            x0, x7 = _i32(src[a]), _i32(src[a + 7 * LANES])
            x1, x6 = _i32(src[a + LANES]), _i32(src[a + 6 * LANES])
            x2, x5 = _i32(src[a + 2 * LANES]), _i32(src[a + 5 * LANES])
            x3, x4 = _i32(src[a + 3 * LANES]), _i32(src[a + 4 * LANES])
            s0, s1, s2, s3 = _i32(x0 + x7), _i32(x1 + x6), _i32(x2 + x5), _i32(x3 + x4)
            d0, d1, d2, d3 = _i32(x0 - x7), _i32(x1 - x6), _i32(x2 - x5), _i32(x3 - x4)
            t10, t11, t12, t13 = _i32(s0 + s3), _i32(s1 + s2), _i32(s1 - s2), _i32(s0 - s3)
            r = _i32((t12 + t13) * 4433 + half)
            z5 = _i32((d0 + d1 + d2 + d3) * 9633 + half)
            z1 = _i32((d3 + d0) * -7373)
            z2 = _i32((d2 + d1) * -20995)
            z3 = _i32((d3 + d1) * -16069 + z5)
            z4 = _i32((d2 + d0) * -3196 + z5)
            b = p * LANES + i
            dst[b] = _i32((t10 + t11) * 8192 + half) >> shift
            dst[b + 8 * LANES] = _i32(d0 * 12299 + z1 + z4) >> shift
            dst[b + 16 * LANES] = _i32(t13 * 6270 + r) >> shift
            dst[b + 24 * LANES] = _i32(d1 * 25172 + z2 + z3) >> shift
            dst[b + 32 * LANES] = _i32((t10 - t11) * 8192 + half) >> shift
            dst[b + 40 * LANES] = _i32(d2 * 16819 + z2 + z4) >> shift
            dst[b + 48 * LANES] = _i32(t12 * -15137 + r) >> shift
            dst[b + 56 * LANES] = _i32(d3 * 2446 + z1 + z3) >> shift


@_inner
def _idct(src: _Int16, dst: _Int16, shift: int | np.int32) -> None:
    """8-point inverse DCTs (jidctint.c): src [8][8][LANES] along its second axis, over 2**shift; dst is transposed."""
    half = _i32(_i32(1) << _i32(shift - 1))
    for p in range(8):
        for i in range(LANES):
            a = p * 8 * LANES + i
            x0, x4 = _i32(src[a]), _i32(src[a + 4 * LANES])
            x2, x6 = _i32(src[a + 2 * LANES]), _i32(src[a + 6 * LANES])
            x1, x3 = _i32(src[a + LANES]), _i32(src[a + 3 * LANES])
            x5, x7 = _i32(src[a + 5 * LANES]), _i32(src[a + 7 * LANES])
            z1 = _i32((x2 + x6) * 4433)
            t2, t3 = _i32(x6 * -15137 + z1), _i32(x2 * 6270 + z1)
            t0, t1 = _i32((x0 + x4) * 8192 + half), _i32((x0 - x4) * 8192 + half)
            e0, e1, e2, e3 = _i32(t0 + t3), _i32(t1 + t2), _i32(t1 - t2), _i32(t0 - t3)
            z5 = _i32((x1 + x3 + x5 + x7) * 9633)
            z1 = _i32((x7 + x1) * -7373)
            z2 = _i32((x5 + x3) * -20995)
            z3 = _i32((x7 + x3) * -16069 + z5)
            z4 = _i32((x5 + x1) * -3196 + z5)
            o0, o1 = _i32(x1 * 12299 + z1 + z4), _i32(x3 * 25172 + z2 + z3)
            o2, o3 = _i32(x5 * 16819 + z2 + z4), _i32(x7 * 2446 + z1 + z3)
            b = p * LANES + i
            dst[b] = _i32(e0 + o0) >> shift
            dst[b + 8 * LANES] = _i32(e1 + o1) >> shift
            dst[b + 16 * LANES] = _i32(e2 + o2) >> shift
            dst[b + 24 * LANES] = _i32(e3 + o3) >> shift
            dst[b + 32 * LANES] = _i32(e3 - o3) >> shift
            dst[b + 40 * LANES] = _i32(e2 - o2) >> shift
            dst[b + 48 * LANES] = _i32(e1 - o1) >> shift
            dst[b + 56 * LANES] = _i32(e0 - o0) >> shift


@_inner
def _quantise(src: _Int16, dst: _Int16, tables: _Int16) -> None:
    """src [v][h][LANES] (8 * orthonormal DCT) to the nearest multiple of each step, half away from 0: dst [h][v]."""
    for k in range(64):
        step, m, s = _i32(tables[k]), _i32(tables[64 + k]), _i32(tables[128 + k])
        half = _i32(4 * step)
        a, b = k * LANES, (k % 8 * 8 + k // 8) * LANES
        for i in range(LANES):
            x = _i32(src[a + i])
            sign = _i32(x >> 31)
            v = _i32(_i32(_i32(_i32(x ^ sign) - sign + half) * m) >> s)
            v = _i32(v * step)
            dst[b + i] = _i32(_i32(v ^ sign) - sign)


@_inner
def _code(plane: _Int16, work: _Int16, other: _Int16, tables: _Int16) -> None:
    """Pass plane (int16 2-D, whole 8x8 blocks, levels -128..127) through DCT, quantisation and back, in place.

    Bounds: a quantised block has an orthonormal norm of at most 8 * (128 + 127.5) = 2044, so a sample before the clamp
    is within 2044 and a half-transformed one within 4 * sqrt(8) * 2044 < 2**15. The final clamp saturates, as
    libjpeg-turbo's SIMD code does (the C range-limit table wraps beyond 512 levels).
    """
    across = plane.shape[1] // 8
    blocks = plane.shape[0] // 8 * across
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        for j in range(count):
            y, x = (first + j) // across * 8, (first + j) % across * 8
            for r in range(8):
                for c in range(8):
                    work[(r * 8 + c) * LANES + j] = plane[y + r, x + c]
        _fdct(work, other, _i32(11))  # rows: other is [horizontal frequency][y]
        _fdct(other, work, _i32(15))  # columns: work is [vertical][horizontal frequency]
        _quantise(work, other, tables)  # other is [horizontal][vertical frequency]
        _idct(other, work, _i32(11))  # columns: work is [y][horizontal frequency]
        _idct(work, other, _i32(18))  # rows: other is [x][y]
        for i in range(_WORK):
            other[i] = min(max(other[i], _i16(-128)), _i16(127))
        for j in range(count):
            y, x = (first + j) // across * 8, (first + j) % across * 8
            for r in range(8):
                for c in range(8):
                    plane[y + r, x + c] = other[(c * 8 + r) * LANES + j]


@_inner
def _repeat_last(plane: _Int16, rows: int) -> None:
    """Fill plane (int16 2-D) below its first `rows` rows with the last of them (expand_bottom_edge)."""
    for y in range(rows, plane.shape[0]):
        for x in range(plane.shape[1]):
            plane[y, x] = plane[rows - 1, x]


@_inner
def _forward_row(r: _UInt8, g: _UInt8, b: _UInt8, luma: _Int16, cb: _Int16, cr: _Int16) -> None:
    """jccolor.c on one row: r, g, b uint8 (w,) to int16 luma, cb, cr, levels -128..127; the rest of each repeats."""
    w = r.size
    for x in range(w):
        red, green, blue = _i32(r[x]), _i32(g[x]), _i32(b[x])
        luma[x] = _i32(_i32(red * _Y_R + green * _Y_G + blue * _Y_B + 32768) >> 16) - 128
        cb[x] = _i32(red * _CB_R + green * _CB_G + blue * _CB_B + 32767) >> 16
        cr[x] = _i32(red * _CR_R + green * _CR_G + blue * _CR_B + 32767) >> 16
    for x in range(w, luma.size):
        luma[x] = luma[w - 1]
    for x in range(w, cb.size):
        cb[x] = cb[w - 1]
        cr[x] = cr[w - 1]


@_inner
def _downsample(top: _Int16, bottom: _Int16, out: _Int16) -> None:
    """h2v2_downsample: int16 top, bottom (2 * cols,), levels less 128, averaged to out (cols,), bias 1, 2, 1, 2."""
    for x in range(out.size):
        total = _i32(top[2 * x]) + _i32(top[2 * x + 1]) + _i32(bottom[2 * x]) + _i32(bottom[2 * x + 1])
        out[x] = _i32(total + 1 + (x & 1)) >> 2


@_inner
def _upsample(near: _Int16, far: _Int16, cols: int, sums: _Int16, out: _Int16) -> None:
    """h2v2_fancy_upsample of one row: int16 near (3/4) and far (1/4), first `cols` samples, to out (2 * cols,).

    sums is int16 scratch (cols + 2,). The bias, 8 on even and 7 on odd columns, does not change with the level shift.
    Up to two columns are too narrow for the filter: libjpeg repeats samples instead (h2v2_upsample).
    """
    if cols <= 2:
        for x in range(2 * cols):
            out[x] = near[x // 2]
        return
    for x in range(cols):
        sums[x + 1] = 3 * _i32(near[x]) + _i32(far[x])
    sums[0], sums[cols + 1] = sums[1], sums[cols]
    for x in range(cols):
        this = 3 * _i32(sums[x + 1])
        out[2 * x] = _i32(this + _i32(sums[x]) + 8) >> 4
        out[2 * x + 1] = _i32(this + _i32(sums[x + 2]) + 7) >> 4


@_inner
def _inverse_row(luma: _Int16, cb: _Int16, cr: _Int16, r: _UInt8, g: _UInt8, b: _UInt8) -> None:
    """jdcolor.c on one row: int16 luma, cb, cr, levels less 128, to uint8 r, g, b (w,)."""
    for x in range(r.size):
        y, u, v = _i32(luma[x]) + 128, _i32(cb[x]), _i32(cr[x])
        red = _i32(y + _i32(_i32(v * CR_TO_RED + 32768) >> 16))
        green = _i32(y + _i32(_i32(u * CB_TO_GREEN + v * CR_TO_GREEN + 32768) >> 16))
        blue = _i32(y + _i32(_i32(u * CB_TO_BLUE + 32768) >> 16))
        r[x] = min(max(red, _i32(0)), _i32(255))
        g[x] = min(max(green, _i32(0)), _i32(255))
        b[x] = min(max(blue, _i32(0)), _i32(255))


@kernel
def jpeg(canvas: _UInt8, quality: int, out: _UInt8, scratch: _Int16) -> None:
    """JPEG-encode and decode one sample.

    Args:
        canvas: uint8 (C, h, w), C-contiguous, C = 3 (RGB, coded YCbCr 4:2:0) or 1 (grey); any h, w >= 1.
        quality: int, 1 (worst) .. 100 (best), clamped to that range as libjpeg does.
        out: uint8 (C, h, w), C-contiguous; fully written. May be `canvas`, which is read completely before any write.
        scratch: int16 1-D, C-contiguous, at least `scratch_size(C, h, w)` elements; its contents are ignored.
    """
    channels, h, w = canvas.shape
    if channels != 1 and channels != 3:
        raise ValueError("jpeg needs 1 or 3 channels")
    rows, cols = (h + 7) // 8 * 8, (w + 7) // 8 * 8
    # Chroma: ch x cw real samples; columns are replicated before averaging, rows after it (jcprepct.c, jcsample.c).
    ch, cw, across = (h + 1) // 2, (w + 1) // 2, (w + 15) // 16 * 8
    down = (h + 15) // 16 * 8 if channels == 3 else 0
    work, other, tables = scratch[:_WORK], scratch[_WORK : 2 * _WORK], scratch[2 * _WORK : _FIXED]
    end = _FIXED + rows * cols
    luma = scratch[_FIXED:end].reshape(rows, cols)
    chroma = scratch[end : end + 2 * down * across].reshape(2 * down, across)  # Cb above Cr
    end += 2 * down * across
    temp = scratch[end : end + 8 * across].reshape(4, 2 * across)
    if channels == 3:
        for i in range(ch):
            for k in range(2):
                y = min(2 * i + k, h - 1)
                _forward_row(canvas[0, y], canvas[1, y], canvas[2, y], luma[y], temp[k], temp[2 + k])
            for k in range(2):
                _downsample(temp[2 * k], temp[2 * k + 1], chroma[k * down + i])
    else:
        for y in range(h):
            row, pixels = luma[y], canvas[0, y]
            for x in range(cols):
                row[x] = _i32(pixels[min(x, w - 1)]) - 128
    _tables(_LUMA, quality, tables)
    _repeat_last(luma, h)
    _code(luma, work, other, tables)
    if channels == 1:
        for y in range(h):
            row, pixels = luma[y], out[0, y]
            for x in range(w):
                pixels[x] = _i32(row[x]) + 128
        return
    _tables(_CHROMA, quality, tables)
    _repeat_last(chroma[:down], ch)
    _repeat_last(chroma[down:], ch)
    _code(chroma, work, other, tables)
    for y in range(h):
        i = y // 2
        j = min(max(i - 1 + 2 * (y & 1), 0), ch - 1)  # the other chroma row (jdmainct.c repeats the first and last)
        for k in range(2):
            _upsample(chroma[k * down + i], chroma[k * down + j], cw, temp[2], temp[k])
        _inverse_row(luma[y], temp[0], temp[1], out[0, y], out[1, y], out[2, y])
