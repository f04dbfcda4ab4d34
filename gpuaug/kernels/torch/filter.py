"""Filters: separable blur and small two-dimensional kernels, in integers. Weights have 14 fraction bits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gpuaug.instructions import CIRCULAR, CONSTANT, EDGE, FRACTION, LINE_FRACTION, REFLECT

__all__ = ["blur", "convolve"]

MODES = {CONSTANT: "constant", EDGE: "replicate", REFLECT: "reflect", CIRCULAR: "circular"}


def _padded(images: Tensor, x: int, y: int, border: int) -> Tensor:
    """int32 images with a border of x columns and y rows. Padded as floats, which hold levels exactly."""
    return F.pad(images.float(), (x, x, y, y), mode=MODES[border]).int()


def _shifted(total: Tensor, shift: int) -> Tensor:
    """total / 2**shift, rounded."""
    return (total + (1 << (shift - 1))) >> shift


def blur(images: Tensor, kernel: Tensor, width: int) -> Tensor:
    """(n, C, H, W) uint8; `kernel` (n, width + height) int32: the horizontal weights, then the vertical ones."""
    across, down = kernel[:, :width], kernel[:, width:]
    height, (rows, columns) = down.shape[1], images.shape[2:]
    padded = _padded(images, width // 2, height // 2, REFLECT)
    total = torch.zeros_like(padded[..., :columns])
    for k in range(width):
        total += padded[..., k : k + columns] * across[:, k, None, None, None]
    lines = _shifted(total, FRACTION - LINE_FRACTION)
    total = torch.zeros_like(images, dtype=torch.int32)
    for k in range(height):
        total += lines[:, :, k : k + rows] * down[:, k, None, None, None]
    return _shifted(total, FRACTION + LINE_FRACTION).clamp_(0, 255).byte()


def convolve(images: Tensor, kernel: Tensor, border: int) -> Tensor:
    """(n, C, H, W) uint8 correlated with `kernel` (n, size * size) int32."""
    size = round(kernel.shape[1] ** 0.5)
    rows, columns = images.shape[2:]
    padded = _padded(images, size // 2, size // 2, border)
    total = torch.zeros_like(images, dtype=torch.int32)
    for tap in range(size * size):
        y, x = divmod(tap, size)
        total += padded[:, :, y : y + rows, x : x + columns] * kernel[:, tap, None, None, None]
    return _shifted(total, FRACTION).clamp_(0, 255).byte()
