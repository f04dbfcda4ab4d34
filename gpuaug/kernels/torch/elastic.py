"""ELASTIC: noise for each pixel, smoothed in integers, says where each pixel reads the canvas. See `Elastic`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.instructions import FRACTION, Elastic
from gpuaug.kernels.torch.common import upload
from gpuaug.kernels.torch.noise import philox
from gpuaug.kernels.torch.warp import sampled

__all__ = ["elastic", "shifts"]

Array = NDArray[Any]

KEYS = slice(Elastic.KEY, Elastic.KEY + 3)
MIDDLE = 1 << 15  # of a 16-bit half, which is a noise of 0


def elastic(images: Tensor, operands: Array, kernel: Array, fill: Tensor | None, interpolation: int) -> Tensor:
    """Resample images (n, C, H, W) uint8 where `shifts` say; `fill` (n, C) float32 as of WARP."""
    height, width = images.shape[2:]
    x, y = shifts(operands, kernel, (height, width), images.device).unbind(1)
    x = torch.arange(width, device=images.device, dtype=torch.float32) + x
    y = torch.arange(height, device=images.device, dtype=torch.float32)[:, None] + y
    return sampled(images, x, y, fill, interpolation)


def shifts(operands: Array, kernel: Array, size: tuple[int, int], device: torch.device) -> Tensor:
    """From each pixel to where it reads, in pixels: (n, 2, H, W) float32, x and y.

    Args:
        operands: (n, OPERANDS) float32 of ELASTIC, whose TAPS are the same for all samples.
        kernel: (n, 2 * TAPS + 2 * (TAPS + 1)) int16, or longer.
        size: (height, width) of the canvas.
        device: Where to compute.
    """
    height, width = size
    count, rows = 2 * height * width, len(operands)
    blocks = torch.arange(-(-count // 8), device=device).expand(rows, -1)
    keys = upload(operands[:, KEYS].astype(np.int64), device)[:, :, None].expand(-1, -1, blocks.shape[1])
    words = philox(blocks, keys[:, 0], keys[:, 1], keys[:, 2], 0)
    halves = torch.stack([half for word in words for half in (word & 0xFFFF, word >> 16)], dim=-1)
    noise = halves.flatten(1)[:, :count].view(rows, 2, height, width).int() - MIDDLE
    weights, scale = upload(kernel.astype(np.int32), device), upload(operands, device)
    planes, start = [], 0
    for plane in range(2):
        taps = int(operands[:, Elastic.TAPS + plane].max())
        across, down = weights[:, start : start + taps], weights[:, start + taps : start + 2 * taps]
        total = _smoothed(noise[:, plane], across, down).float()
        planes.append(total * scale[:, Elastic.SCALE + plane, None, None])
        start += 2 * taps
    return torch.stack(planes, dim=1)


def _smoothed(noise: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """(n, H, W) int32 with 29 bits of fraction, of noise with 15 bits."""
    reach, (height, width) = across.shape[1] // 2, noise.shape[1:]
    padded = F.pad(noise.float(), (reach, reach, reach, reach), mode="reflect").int()  # floats hold them exactly
    lines = torch.full_like(padded[..., :width], 1 << (FRACTION - 1))
    for k in range(across.shape[1]):
        lines += padded[..., k : k + width] * across[:, k, None, None]
    lines >>= FRACTION
    total = torch.zeros_like(noise)
    for k in range(down.shape[1]):
        total += lines[:, k : k + height] * down[:, k, None, None]
    return total
