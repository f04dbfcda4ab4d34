"""Normal draws for each pixel: Philox4x32-10 in the kernel, and a table of quantiles, as in the torch backend."""

from __future__ import annotations

import triton
import triton.language as tl

from gpuaug.kernels.triton.common import (
    CLIP,
    INDEX_HIGH,
    INDEX_LOW,
    KEY_HIGH,
    KEY_LOW,
    LOOK,
    MEAN,
    OP,
    PIXELS,
    SIGMA,
    anywhere,
    operand,
)

__all__ = ["noise", "pixel_normals"]


@triton.jit
def pixel_normals(keys, op, element, normals):
    """The normals of elements. `element`: number within the sample. `keys`: words in the order of `KeyWord`."""
    block = (element >> 3).to(tl.uint32)
    zero = block * 0
    high = tl.load(keys + INDEX_HIGH).to(tl.uint32, bitcast=True)
    c1 = zero + ((high << 16) | op.to(tl.uint32) | PIXELS)
    c2 = zero + tl.load(keys + INDEX_LOW).to(tl.uint32, bitcast=True)
    c3 = zero + tl.load(keys + LOOK).to(tl.uint32, bitcast=True)
    k0 = zero + tl.load(keys + KEY_LOW).to(tl.uint32, bitcast=True)
    k1 = zero + tl.load(keys + KEY_HIGH).to(tl.uint32, bitcast=True)
    w0, w1, w2, w3 = tl.philox_impl(block, c1, c2, c3, k0, k1)
    place = element & 7
    word = tl.where(place < 4, tl.where(place < 2, w0, w1), tl.where(place < 6, w2, w3))
    half = tl.where((place & 1) == 0, word & 0xFFFF, word >> 16)
    return tl.load(anywhere(normals, half.to(tl.int32)))


@triton.jit
def noise(instruction, keys, level, element, normals):
    """Levels after the NOISE at `instruction`."""
    z = pixel_normals(keys, operand(instruction, OP).to(tl.int32), element, normals)
    total = level + (z * operand(instruction, SIGMA) + operand(instruction, MEAN)).to(tl.int32)  # as torchvision
    return tl.where(operand(instruction, CLIP) != 0, tl.minimum(tl.maximum(total, 0), 255), total & 255)
