"""Shared by the kernels: the instruction set as plain integers, for compiled code, and the arithmetic of levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import LUMA, Blur, Box, Branch, Convolve, Elastic, Factor, Flip, Hue, Jpeg, Noise, Op, Warp
from gpuaug.kernels.numba.llvm.intrinsics import floor, fma
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["byte", "copy", "luma"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

IDENTITY, TABLE, CONTRAST, AUTOCONTRAST = int(Op.IDENTITY), int(Op.TABLE), int(Op.CONTRAST), int(Op.AUTOCONTRAST)
EQUALIZE, SATURATION, GRAYSCALE, HUE = int(Op.EQUALIZE), int(Op.SATURATION), int(Op.GRAYSCALE), int(Op.HUE)
PERMUTE, SHARPNESS, WARP, FLIP = int(Op.PERMUTE), int(Op.SHARPNESS), int(Op.WARP), int(Op.FLIP)
ERASE, BRANCH, JOIN, MERGE = int(Op.ERASE), int(Op.BRANCH), int(Op.JOIN), int(Op.MERGE)
ELASTIC = int(Op.ELASTIC)

FACTOR, REST = int(Factor.FACTOR), int(Factor.REST)
TURN = int(Hue.TURN)
MATRIX, INTERPOLATION = int(Warp.MATRIX), int(Warp.INTERPOLATION)
HAS_FILL, PROJECTIVE = int(Warp.HAS_FILL), int(Warp.PROJECTIVE)
KEY, SCALE, TAPS = int(Elastic.KEY), int(Elastic.SCALE), int(Elastic.TAPS)
HORIZONTAL, VERTICAL = int(Flip.HORIZONTAL), int(Flip.VERTICAL)
WEIGHTS_ACROSS, WEIGHTS_DOWN = int(Blur.WIDTH), int(Blur.HEIGHT)
SIZE, BORDER = int(Convolve.SIZE), int(Convolve.BORDER)
MEAN, SIGMA, CLIP, OP = int(Noise.MEAN), int(Noise.SIGMA), int(Noise.CLIP), int(Noise.OP)
QUALITY = int(Jpeg.QUALITY)
TOP, LEFT, HEIGHT, WIDTH = int(Box.TOP), int(Box.LEFT), int(Box.HEIGHT), int(Box.WIDTH)
WEIGHT = int(Branch.WEIGHT)

ZERO, FULL = np.float32(0), np.float32(255)
LUMA_R, LUMA_G, LUMA_B = (np.float32(weight) for weight in LUMA)


@inner
def byte(x: Scalar) -> Scalar:
    """Convert a float to a level as torchvision does: clamp, then truncate."""
    x = x if x > ZERO else ZERO
    return np.uint8(np.int32(x if x < FULL else FULL))


@inner
def luma(r: Scalar, g: Scalar, b: Scalar) -> Scalar:
    """The grey level, a whole number in float32."""
    return floor(fma(np.float32(b), LUMA_B, fma(np.float32(g), LUMA_G, np.float32(r) * LUMA_R)))


@inner
def copy(source: Array, target: Array) -> None:
    """Copy the first `target.size` elements."""
    for i in range(target.size):
        target[i] = source[i]
