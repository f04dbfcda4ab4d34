"""Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), vectorised in numpy.

A draw is a function of its key and counter: no state, so any batch split, order or device sees the same numbers. The
key is the same for the whole batch, made from the seed by `fold`; the counter of a sample is (block, op | number >> 32
<< 16, number, look). See docs/draws.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["fold", "normal_table", "philox", "uniforms"]

Array = NDArray[Any]

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
MASK = 0xFFFFFFFF
M0, M1 = np.uint64(MULTIPLIER_0), np.uint64(MULTIPLIER_1)
LOOK = 48  # the bit of an index where the number of the look begins
NUMBERS = (1 << LOOK) - 1  # the highest number of a sample
LOOKS = 1 << 15  # how many looks at a sample can be numbered in an index
PIXELS = 1 << 15  # op ids with this bit are per-pixel streams, so they never meet the parameter draws

# (seed low, seed high, index, last counter word (B,), ops, blocks, scratch (4, B), out): a compiled `uniforms` with the
# same bits, which writes (B, 4 n) into `out`; gpuaug.kernels.numba.philox sets it when it is imported.
compiled: Callable[..., None] | None = None


def philox(c0: Array, c1: Array, c2: Array, c3: Array, seed: int) -> tuple[Array, Array, Array, Array]:
    """Four uint32 words for each counter; uint64 arrays that hold 32-bit values, of shapes that broadcast."""
    mask, half = np.uint64(MASK), np.uint64(32)
    for number, (k0, k1) in enumerate(_round_keys(seed)):
        p0, p1 = c0 * M0, c2 * M1
        if number < 2:  # words that depend only on the sample or only on the block do not have the full shape yet
            c0, c1, c2, c3 = (p1 >> half) ^ (c1 ^ k0), p1 & mask, (p0 >> half) ^ (c3 ^ k1), p0 & mask
            continue
        np.right_shift(p1, half, out=c0)
        np.right_shift(p0, half, out=c2)
        c0 ^= c1
        c2 ^= c3
        c0 ^= k0
        c2 ^= k1
        c1, c3 = np.bitwise_and(p1, mask, out=p1), np.bitwise_and(p0, mask, out=p0)
    return c0, c1, c2, c3


@lru_cache(maxsize=16)
def _round_keys(seed: int) -> list[tuple[np.uint64, np.uint64]]:
    low, high = seed & MASK, (seed >> 32) & MASK
    return [(np.uint64((low + r * WEYL_0) & MASK), np.uint64((high + r * WEYL_1) & MASK)) for r in range(ROUNDS)]


@lru_cache(maxsize=1024)
def fold(seed: int, *words: int) -> int:
    """Make a 64-bit key from a 64-bit seed and 64-bit `words`; without words, or if all are 0, it is the seed.

    Four 32-bit words at a time are encrypted under the key so far, so keys of different words differ as seeds do. No
    rule keeps these counters apart from those of draws, and none is needed: they meet once in 2**64.
    """
    if not any(words):
        return seed
    halves = [half for word in words for half in (word & MASK, word >> 32)]
    for start in range(0, len(halves), 4):
        block = [np.array([half], np.uint64) for half in (halves[start : start + 4] + [0] * 4)[:4]]
        low, high, *_ = philox(block[0], block[1], block[2], block[3], seed)
        seed = int(low[0]) | int(high[0]) << 32
    return seed


def uniforms(key: int, index: Array, look: Array, ops: Array, blocks: Array) -> Array:
    """Uniform draws in [0, 1) on the 2**-24 grid.

    Args:
        key: Key of the batch, 64 bits; see `fold`.
        index: Number of each sample, (B,) uint64, below 2**48.
        look: Number of the look at each sample, (B,), below 2**32.
        ops, blocks: Op id (below 2**15) and block number of each counter, (n,).

    Returns:
        (B, 4 n) float64, four draws for each counter.
    """
    index, look, ops, blocks = (np.ascontiguousarray(numbers, np.uint64) for numbers in (index, look, ops, blocks))
    if compiled is not None:
        out, scratch = np.empty((len(index), 4 * len(ops))), np.empty((4, len(index)), np.uint64)
        compiled(np.uint64(key & MASK), np.uint64(key >> 32 & MASK), index, look, ops, blocks, scratch, out)
        return out
    index = index[:, None]  # values shared by all samples or all blocks stay one row or column as long as possible
    c1 = ops | (index >> np.uint64(32) << np.uint64(16))
    words = philox(blocks, c1, index & np.uint64(MASK), look[:, None], key)
    numbers = np.empty((len(index), len(ops), 4))
    for number, word in enumerate(words):
        np.multiply(word >> np.uint64(8), 2.0**-24, out=numbers[:, :, number])
    return numbers.reshape(len(index), -1)


@lru_cache(maxsize=1)
def normal_table() -> NDArray[np.float32]:
    """(65536,) standard normal quantiles at (i + 1/2) / 65536; a uniform 16-bit draw picks one."""
    centres = (torch.arange(65536, dtype=torch.float64, device="cpu") + 0.5) / 65536
    table: NDArray[np.float32] = torch.special.ndtri(centres).to(torch.float32).numpy()
    table.setflags(write=False)
    return table
