"""Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), vectorised in numpy.

A draw is a function of (seed, epoch, index, op, block): no state, so any batch split, order or device sees the same
numbers. The key is the seed; the counter is (block, op | high index bits << 16, index, epoch).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["normal_table", "philox", "uniforms"]

Array = NDArray[Any]

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
MASK = 0xFFFFFFFF
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


def uniforms(seed: int, epoch: int, index: Array, ops: Array, blocks: Array) -> Array:
    """Uniform draws in [0, 1) on the 2**-24 grid.

    Args:
        index: (B,) uint64, below 2**48.
        ops, blocks: (n,) op id (below 2**15) and block number of each counter.

    Returns:
        (B, 4 n) float64, four draws for each counter.
    """
    shape = (len(index), len(ops))
    index = index.astype(np.uint64)[:, None]
    c0 = np.broadcast_to(blocks.astype(np.uint64), shape)
    c1 = ops.astype(np.uint64) | (index >> np.uint64(32) << np.uint64(16))
    c2 = np.broadcast_to(index & np.uint64(MASK), shape)
    c3 = np.full(shape, epoch & MASK, np.uint64)
    words = np.stack(philox(c0, c1, c2, c3, seed), axis=-1).reshape(len(index), -1)
    return (words >> np.uint64(8)) * 2.0**-24


@lru_cache(maxsize=1)
def normal_table() -> NDArray[np.float32]:
    """(65536,) standard normal quantiles at (i + 1/2) / 65536; a uniform 16-bit draw picks one."""
    centres = (torch.arange(65536, dtype=torch.float64, device="cpu") + 0.5) / 65536
    table: NDArray[np.float32] = torch.special.ndtri(centres).to(torch.float32).numpy()
    table.setflags(write=False)
    return table
