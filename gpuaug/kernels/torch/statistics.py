"""CONTRAST, AUTOCONTRAST and EQUALIZE: point instructions that depend on statistics of the whole image."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from gpuaug.instructions import Op
from gpuaug.kernels.torch.common import byte, luma
from gpuaug.kernels.torch.point import blend

__all__ = ["statistics"]


def statistics(images: Tensor, opcode: int, factor: Tensor, rest: Tensor) -> Tensor:
    """Run one of the three: (n, C, H, W) uint8. `factor` and `rest` (n, 1, 1, 1) float32 are for CONTRAST."""
    if opcode == Op.CONTRAST:
        return blend(images, _mean(images), factor, rest)
    return _autocontrast(images) if opcode == Op.AUTOCONTRAST else functional.equalize(images)


def _mean(images: Tensor) -> Tensor:
    """Mean of the grey image, (n, 1, 1, 1) float32."""
    total = luma(images).sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64)
    # divided by a tensor: with a scalar, CUDA would multiply by the reciprocal
    return total.float() / torch.full_like(total, images[0, 0].numel(), dtype=torch.float32)


def _autocontrast(images: Tensor) -> Tensor:
    """As in torchvision, for any number of channels, but without a masked write, at which MPS and XPU wait."""
    values = images.float()
    low, high = values.amin(dim=(2, 3), keepdim=True), values.amax(dim=(2, 3), keepdim=True)
    flat = high == low
    scale = torch.where(flat, 1.0, (high - low) * (1.0 / 255))
    return byte((values - torch.where(flat, 0.0, low)) / scale)
