"""Normal draws for each pixel: Philox4x32-10 blocks of eight 16-bit halves, and the table of normal quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import philox
from gpuaug.kernels.numba.common import CLIP, MEAN, OP, SIGMA
from gpuaug.kernels.numba.philox import HALF, LOW, M0, M1, W0, W1
from gpuaug.kernels.numba.runtime.jit import inner, kernel
from gpuaug.philox import ROUNDS

__all__ = ["noise", "philox_words", "pixel_words"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

ZERO, FULL = np.int32(0), np.int32(255)
PIXELS = np.uint64(philox.PIXELS)
CHUNK = 512  # blocks drawn together, for 4096 pixels


@inner
def philox_words(
    block: Scalar, count: Scalar, one: Scalar, two: Scalar, three: Scalar, key_low: Scalar, key_high: Scalar,
    words: Array,
) -> None:  # fmt: skip
    """Write `count` blocks, from `block` on, to `words` (4 count,) uint32; the counter is (block, one, two, three)."""
    low, high, age, counter = np.uint64(two), np.uint64(0), np.uint64(three), np.uint64(one)
    key_0, key_1 = np.uint64(key_low), np.uint64(key_high)
    for i in range(count):
        c0, c1, c2, c3 = np.uint64(block + i), counter, low, age
        k0, k1 = key_0, key_1
        for _ in range(ROUNDS):
            p0, p1 = c0 * M0, c2 * M1
            high = (p1 >> HALF) ^ c1 ^ k0
            c2 = (p0 >> HALF) ^ c3 ^ k1
            c0, c1, c3 = high, p1 & LOW, p0 & LOW
            k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
        words[4 * i], words[4 * i + 1] = np.uint32(c0), np.uint32(c1)
        words[4 * i + 2], words[4 * i + 3] = np.uint32(c2), np.uint32(c3)


@inner
def pixel_words(
    block: Scalar,
    count: Scalar,
    op: Scalar,
    seed_lo: Scalar,
    seed_hi: Scalar,
    index: Scalar,
    look: Scalar,
    words: Array,
) -> None:
    """Write `count` blocks, from `block` on, to `words` (4 count,) uint32. As uint16, half j is element 8 block + j."""
    counter = np.uint64(op) | PIXELS | ((np.uint64(index) >> HALF) << np.uint64(16))
    philox_words(block, count, counter, np.uint64(index) & LOW, np.uint64(look), seed_lo, seed_hi, words)


@inner
def _add(flat: Array, halves: Array, normals: Array, mean: Scalar, sigma: Scalar, clip: bool, change: Array) -> None:
    for i in range(flat.size):
        change[i] = normals[halves[i]]
    for i in range(flat.size):
        v = np.int32(np.int32(flat[i]) + np.int32(np.int16(np.int32(change[i] * sigma + mean))))
        if clip:
            v = v if v > ZERO else ZERO
            v = v if v < FULL else FULL
        flat[i] = np.uint8(v)


@kernel
def noise(
    canvas: Array, operands: Array, seed_lo: int, seed_hi: int, index: int, look: int, normals: Array, scratch: Array
) -> None:
    """Add noise in place. Args: operands of `Op.NOISE`; scratch at least (6144,) int32."""
    flat = canvas.reshape(-1)
    words, change = scratch[: 4 * CHUNK].view(np.uint32), scratch[4 * CHUNK : 12 * CHUNK].view(np.float32)
    halves = words.view(np.uint16)
    for start in range(0, flat.size, 8 * CHUNK):
        part = flat[start : start + 8 * CHUNK]
        pixel_words(start // 8, (part.size + 7) // 8, int(operands[OP]), seed_lo, seed_hi, index, look, words)
        _add(part, halves, normals, operands[MEAN], operands[SIGMA], operands[CLIP] != np.float32(0), change)
