"""Tones: point operations as 256 numbers. Each function takes (n,) operands and returns (n, 256) uint8.

Arithmetic is float32, rounded as torchvision's uint8 kernels round (clamp, then truncate), so looking a level up here
gives what torchvision computes for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["brightness", "invert", "posterize", "solarize"]

Array = NDArray[Any]

LEVELS = np.arange(256, dtype=np.float32)


def brightness(factor: Array) -> Array:
    return np.clip(LEVELS * factor.astype(np.float32)[:, None], 0, 255).astype(np.uint8)


def posterize(bits: Array) -> Array:
    """Keep the `bits` highest bits, in [0, 8]."""
    mask = (0xFF00 >> bits.astype(np.int64)) & 0xFF
    return np.arange(256, dtype=np.uint8) & mask.astype(np.uint8)[:, None]


def solarize(threshold: Array) -> Array:
    """Invert the levels at or above `threshold`."""
    levels = np.arange(256, dtype=np.uint8)
    return np.where(threshold.astype(np.float32)[:, None] <= LEVELS, 255 - levels, levels)


def invert(size: int) -> Array:
    return np.broadcast_to(255 - np.arange(256, dtype=np.uint8), (size, 256))
