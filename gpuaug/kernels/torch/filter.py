"""Filters: separable blur and small two-dimensional kernels, in integers. Weights are Q14: 16384 is one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from gpuaug.program import CIRCULAR, CONSTANT, EDGE, REFLECT

__all__ = ["blur", "convolve"]

MODES = {CONSTANT: "constant", EDGE: "replicate", REFLECT: "reflect", CIRCULAR: "circular"}


def _padded(images: Tensor, x: int, y: int, border: int) -> Tensor:
    """int32 images with a border of x columns and y rows; torch pads floats, which hold levels exactly."""
    return F.pad(images.float(), (x, x, y, y), mode=MODES[border]).int()


def blur(images: Tensor, kernel: Tensor, width: int) -> Tensor:
    """(n, C, H, W) uint8; `kernel` (n, width + height) int32: the horizontal weights, then the vertical ones."""
    across, down = kernel[:, :width], kernel[:, width:]
    height, (rows, columns) = down.shape[1], images.shape[2:]
    padded = _padded(images, width // 2, height // 2, REFLECT)
    lines = sum(padded[..., k : k + columns] * across[:, k, None, None, None] for k in range(width))
    lines = (lines + 64) >> 7  # 8 bits of level and 7 of fraction, as an int16 holds
    total = sum(lines[:, :, k : k + rows] * down[:, k, None, None, None] for k in range(height))
    out: Tensor = ((total + (1 << 20)) >> 21).clamp(0, 255).byte()
    return out


def convolve(images: Tensor, kernel: Tensor, border: int) -> Tensor:
    """(n, C, H, W) uint8 correlated with `kernel` (n, size * size) int32."""
    size = round(kernel.shape[1] ** 0.5)
    rows, columns = images.shape[2:]
    padded = _padded(images, size // 2, size // 2, border)
    total = sum(
        padded[:, :, y : y + rows, x : x + columns] * kernel[:, y * size + x, None, None, None]
        for y in range(size)
        for x in range(size)
    )
    out: Tensor = ((total + 8192) >> 14).clamp(0, 255).byte()
    return out
