"""Point instructions: each output pixel depends on the same input pixel only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.kernels.numba.common import HEIGHT, LEFT, TOP, WIDTH, byte, luma
from gpuaug.kernels.numba.llvm.intrinsics import floor, fma
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["accumulate", "erase", "grayscale", "hue", "merge", "saturation"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

ZERO, ONE, TWO, FOUR = np.float32(0), np.float32(1), np.float32(2), np.float32(4)
SIXTH = np.float32(1 / 6)
TO_BYTE = np.float32(255.999 / 255)  # torchvision's factor from [0, 1] to levels


@inner
def saturation(r: Array, g: Array, b: Array, factor: Scalar, weight: Scalar) -> None:
    for i in range(r.size):
        grey = luma(r[i], g[i], b[i])
        r[i] = byte(fma(grey, weight, np.float32(r[i]) * factor))
        g[i] = byte(fma(grey, weight, np.float32(g[i]) * factor))
        b[i] = byte(fma(grey, weight, np.float32(b[i]) * factor))


@inner
def grayscale(r: Array, g: Array, b: Array) -> None:
    for i in range(r.size):
        grey = np.uint8(np.int32(luma(r[i], g[i], b[i])))
        r[i] = grey
        g[i] = grey
        b[i] = grey


@inner
def _wheel(k: Scalar, high: Scalar, span: Scalar) -> Scalar:
    """One channel of the result. `k`: its position on the colour wheel, in sixths, before wrapping."""
    k = k - np.float32(6) * floor(k * SIXTH)
    t = FOUR - k
    t = k if k < t else t
    t = t if t < ONE else ONE
    t = t if t > ZERO else ZERO
    return np.uint8(np.int32((high - span * t) * TO_BYTE))


@inner
def hue(red: Array, green: Array, blue: Array, shift: Scalar) -> None:
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
def erase(plane: Array, width: Scalar, box: Array, fill: Scalar) -> None:
    top, left, level = np.int64(box[TOP]), np.int64(box[LEFT]), np.uint8(np.int32(fill))
    bottom, right = min(top + np.int64(box[HEIGHT]), plane.size // width), min(left + np.int64(box[WIDTH]), width)
    for y in range(int(top), int(bottom)):
        for x in range(int(y * width + left), int(y * width + right)):
            plane[x] = level


@inner
def accumulate(plane: Array, weight: Scalar, first: bool, total: Array) -> None:
    for i in range(plane.size):
        part = weight * np.float32(plane[i])
        total[i] = part if first else total[i] + part


@inner
def merge(total: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = byte(total[i])
