"""Normal draws for each pixel: Philox4x32-10 with key (key, index, look, op, pixel), and a table of quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.kernels.torch.common import upload
from gpuaug.philox import MASK, MULTIPLIER_0, MULTIPLIER_1, PIXELS, ROUNDS, WEYL_0, WEYL_1, normal_table
from gpuaug.program import Keys

__all__ = ["noise", "philox", "pixel_normals"]

Array = NDArray[Any]


def philox(c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, seed: int) -> list[Tensor]:
    """`gpuaug.philox.philox` on int64 tensors: products wrap, and a masked shift gives the high word."""
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL_0) & MASK, (k1 + WEYL_1) & MASK
    return [c0, c1, c2, c3]


def pixel_normals(keys: Keys, rows: Array, op: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """(n, C, H, W) float32 normals for samples `rows`. A Philox block has eight of them, low halves first."""
    count = int(np.prod(shape))
    blocks = torch.arange(-(-count // 8), device=device).expand(len(rows), -1)
    index = keys.index[rows]
    c1 = upload((index >> np.uint64(32) << np.uint64(16) | np.uint64(op | PIXELS)).astype(np.int64), device)[:, None]
    c2 = upload((index & np.uint64(MASK)).astype(np.int64), device)[:, None]
    c3 = upload(keys.look[rows].astype(np.int64), device)[:, None]
    words = philox(blocks, c1.expand_as(blocks), c2.expand_as(blocks), c3.expand_as(blocks), keys.key)
    halves = torch.stack([half for word in words for half in (word & 0xFFFF, word >> 16)], dim=-1)
    table = upload(normal_table().copy(), device)
    return table[halves.flatten(1)[:, :count]].view(len(rows), *shape)


def noise(images: Tensor, normals: Tensor, mean: Tensor, sigma: Tensor, clip: Tensor) -> Tensor:
    """Add noise to levels: clamped where `clip` is set, else wrapped. Operands are (n, 1, 1, 1) float32."""
    change = (normals * sigma + mean).to(torch.int16)  # truncated, as torchvision
    total = images + change
    return torch.where(clip != 0, total.clamp(0, 255), total & 255).to(torch.uint8)
