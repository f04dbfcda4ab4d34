"""Statistics: what a pixel becomes by what all pixels of its image say. CONTRAST, AUTOCONTRAST and EQUALIZE."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from gpuaug.instructions import Op
from gpuaug.kernels.torch.common import byte, luma
from gpuaug.kernels.torch.point import blend

__all__ = ["statistics"]


def statistics(images: Tensor, opcode: int, factor: Tensor, rest: Tensor) -> Tensor:
    """(n, C, H, W) uint8 after one of the three. `factor` and `rest` (n, 1, 1, 1) float32 are for CONTRAST."""
    if opcode == Op.CONTRAST:
        return blend(images, _mean(images), factor, rest)
    return _autocontrast(images) if opcode == Op.AUTOCONTRAST else functional.equalize(images)


def _mean(images: Tensor) -> Tensor:
    """(n, 1, 1, 1) float32, of the grey image."""
    total = luma(images).sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64)
    # a tensor on the device: CUDA multiplies by the reciprocal of a scalar
    return total.float() / torch.full_like(total, images[0, 0].numel(), dtype=torch.float32)


def _autocontrast(images: Tensor) -> Tensor:
    """As torchvision's, for any number of channels, but without writing by a mask: MPS and XPU wait there."""
    values = images.float()
    low, high = values.amin(dim=(2, 3), keepdim=True), values.amax(dim=(2, 3), keepdim=True)
    flat = high == low
    scale = torch.where(flat, 1.0, (high - low) * (1.0 / 255))
    return byte((values - torch.where(flat, 0.0, low)) / scale)
