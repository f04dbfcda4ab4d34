"""Per-pixel normal draws: Philox4x32-10 inside the kernel, through the table of quantiles, as the twin's."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["pixel_normals"]


@triton.jit
def pixel_normals(keys, op, element, normals):
    """Normals of elements, numbered within the sample. `keys`: key low, key high, look, index low, index high."""
    block = (element >> 3).to(tl.uint32)
    zero = block * 0
    high = tl.load(keys + 4).to(tl.uint32, bitcast=True)
    c1 = zero + ((high << 16) | op.to(tl.uint32) | 32768)
    c2 = zero + tl.load(keys + 3).to(tl.uint32, bitcast=True)
    c3 = zero + tl.load(keys + 2).to(tl.uint32, bitcast=True)
    k0 = zero + tl.load(keys).to(tl.uint32, bitcast=True)
    k1 = zero + tl.load(keys + 1).to(tl.uint32, bitcast=True)
    w0, w1, w2, w3 = tl.philox_impl(block, c1, c2, c3, k0, k1)
    place = element & 7
    word = tl.where(place < 4, tl.where(place < 2, w0, w1), tl.where(place < 6, w2, w3))
    half = tl.where((place & 1) == 0, word & 0xFFFF, word >> 16)
    return tl.load(normals + half.to(tl.int32))
