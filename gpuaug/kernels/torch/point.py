"""Point instructions: each output pixel depends on the same input pixel only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpuaug.instructions import Box
from gpuaug.kernels.torch.common import byte, fma, luma

__all__ = ["blend", "erase", "grayscale", "hue", "in_box", "look_up", "permute", "saturation"]


def look_up(images: Tensor, table: Tensor) -> Tensor:
    """Map levels through `table` (n, C or 1, 256) uint8."""
    n, channels = images.shape[:2]
    index = images.flatten(2).long()
    return table.expand(n, channels, 256).gather(2, index).view_as(images)


def blend(images: Tensor, other: Tensor, factor: Tensor, rest: Tensor) -> Tensor:
    """images * factor + other * rest; `factor` and `rest` are (n, 1, 1, 1) float32, as all operands in this file."""
    return byte(fma(other.expand_as(images), rest, images.float() * factor))


def saturation(images: Tensor, factor: Tensor, rest: Tensor) -> Tensor:
    return blend(images, luma(images), factor, rest)


def grayscale(images: Tensor) -> Tensor:
    return byte(luma(images)).expand_as(images)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Rotate the hue, in sixths of a circle, without a branch: channel = max - chroma * ramp(hue + offset)."""
    r, g, b = (images[:, c].float() for c in range(3))
    high, low = torch.maximum(r, torch.maximum(g, b)), torch.minimum(r, torch.minimum(g, b))
    chroma = high - low
    red, green = high == r, high == g
    difference = torch.where(red, g - b, torch.where(green, b - r, r - g))
    sector = torch.where(red, 0.0, torch.where(green, 2.0, 4.0))
    hue = difference / chroma.clamp(min=1) + sector
    hue = hue + turn[:, 0]
    sixth = float(np.float32(1 / 6))
    to_level = float(np.float32(255.999 / 255))  # torchvision's factor from [0, 1] to levels
    out = []
    for offset in (5.0, 3.0, 1.0):
        k = hue + offset
        k = k - 6.0 * torch.floor(k * sixth)
        ramp = torch.minimum(k, 4.0 - k).clamp(max=1.0).clamp(min=0.0)
        out.append((high - chroma * ramp) * to_level)
    return byte(torch.stack(out, dim=1))


def permute(images: Tensor, order: Tensor) -> Tensor:
    """Output channel i is input channel order[:, i]."""
    return images.gather(1, order.long()[:, :, None, None].expand_as(images))


def erase(images: Tensor, box: Tensor, fill: Tensor) -> Tensor:
    """Fill `box` (n, 4) float32 with the levels `fill` (n, C) float32."""
    levels = fill.to(torch.uint8)[:, :, None, None]
    return torch.where(in_box(box, images.shape[2:], images.device), levels, images)


def in_box(box: Tensor, size: torch.Size, device: torch.device) -> Tensor:
    """(n, 1, H, W) bool: whether each pixel is inside the box of its sample, (n, 4)."""
    y, x = torch.arange(size[0], device=device)[:, None], torch.arange(size[1], device=device)
    top, left, height, width = (box[:, c, None, None, None] for c in Box)
    return (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
