"""The draws of a batch in one compiled call: Philox4x32-10, with the bits of `gpuaug.philox`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import philox
from gpuaug.kernels.numba.runtime.jit import kernel
from gpuaug.philox import MASK, MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

__all__ = ["fill"]

Array = NDArray[Any]

LOW, HALF, BYTE = np.uint64(MASK), np.uint64(32), np.uint64(8)
M0, M1, W0, W1 = (np.uint64(number) for number in (MULTIPLIER_0, MULTIPLIER_1, WEYL_0, WEYL_1))


@kernel
def fill(
    seed_low: Any, seed_high: Any, index: Array, last: Array, ops: Array, blocks: Array, words: Array, out: Array
) -> None:  # fmt: skip
    """Uniform draws in [0, 1) on the 2**-24 grid.

    index (B,) uint64; last (B,) uint64, the last word of the counter; ops, blocks (n,) uint64; words (4, B) uint64,
    scratch; out (B, 4 n) float64.
    """
    for n in range(ops.size):  # samples are contiguous, so that the loop vectorises
        for b in range(index.size):
            c0, c1, c2, c3 = blocks[n], ops[n] | (index[b] >> HALF << np.uint64(16)), index[b] & LOW, last[b]
            k0, k1 = seed_low, seed_high
            for _ in range(ROUNDS):
                p0, p1 = c0 * M0, c2 * M1
                c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
                k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
            words[0, b], words[1, b], words[2, b], words[3, b] = c0, c1, c2, c3
        for b in range(index.size):
            for word in range(4):
                out[b, 4 * n + word] = np.float64(np.int64(words[word, b] >> BYTE)) * 2.0**-24


philox.compiled = fill
