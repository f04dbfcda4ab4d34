"""Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), vectorised in numpy.

A draw is a function of its key and counter: no state, so any batch split, order or device sees the same numbers. The
key is one for a batch, made of the seed by `fold`; the counter of a sample is (block, op | number >> 32 << 16, number,
look). See docs/draws.md.
"""

from __future__ import annotations

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
LOOK = 48  # the bit of an index where the number of the look begins
NUMBERS = (1 << LOOK) - 1  # the highest number of a sample
LOOKS = 1 << 15  # how many looks at a sample can be numbered in an index
PIXELS = 1 << 15  # op ids with this bit are per-pixel streams, so they never meet the parameter draws


def philox(c0: Array, c1: Array, c2: Array, c3: Array, seed: int) -> tuple[Array, Array, Array, Array]:
    """Four uint32 words for each counter; all arguments uint64 arrays holding 32-bit values, of one shape."""
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    mask, half = np.uint64(MASK), np.uint64(32)
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(MULTIPLIER_0), c2 * np.uint64(MULTIPLIER_1)
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ np.uint64(k0), p1 & mask, (p0 >> half) ^ c3 ^ np.uint64(k1), p0 & mask
        k0, k1 = (k0 + WEYL_0) & MASK, (k1 + WEYL_1) & MASK
    return c0, c1, c2, c3


@lru_cache(maxsize=1024)
def fold(seed: int, *words: int) -> int:
    """The key, 64 bits, of `words` under a seed, 64 bits as each of them; without words, or if all are 0, the seed.

    Four 32-bit words at a time are encrypted under the key so far, so keys of different words differ as seeds do. The
    counters lie apart from those of draws by no rule, and need not: they meet once in 2**64.
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
        key: 64 bits; see `fold`.
        index: (B,) uint64, below 2**48.
        look: (B,) below 2**32.
        ops, blocks: (n,) op id (below 2**15) and block number of each counter.

    Returns:
        (B, 4 n) float64, four draws for each counter.
    """
    shape = (len(index), len(ops))
    index = index.astype(np.uint64)[:, None]
    c0 = np.broadcast_to(blocks.astype(np.uint64), shape)
    c1 = ops.astype(np.uint64) | (index >> np.uint64(32) << np.uint64(16))
    c2 = np.broadcast_to(index & np.uint64(MASK), shape)
    c3 = np.broadcast_to(look.astype(np.uint64)[:, None], shape)
    words = np.stack(philox(c0, c1, c2, c3, key), axis=-1).reshape(len(index), -1)
    return (words >> np.uint64(8)) * 2.0**-24


@lru_cache(maxsize=1)
def normal_table() -> NDArray[np.float32]:
    """(65536,) standard normal quantiles at (i + 1/2) / 65536; a uniform 16-bit draw picks one."""
    centres = (torch.arange(65536, dtype=torch.float64, device="cpu") + 0.5) / 65536
    table: NDArray[np.float32] = torch.special.ndtri(centres).to(torch.float32).numpy()
    table.setflags(write=False)
    return table
