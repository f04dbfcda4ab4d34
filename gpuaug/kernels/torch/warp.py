"""Warp: sample the canvas where an inverse matrix maps each output pixel. float32, rounded after each operation."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuaug.instructions import BICUBIC, CUBIC, MATRIX_SIZE, NEAREST

__all__ = ["sampled", "warp"]


def warp(images: Tensor, inverse: Tensor, fill: Tensor | None, interpolation: int, projective: bool) -> Tensor:
    """Resample images (n, C, H, W) uint8. `inverse` (n, 9) maps output pixel indices to input pixel indices.

    `fill` (n, C) float32 levels; None: black, without a blend at the border. The blend is that of torchvision,
    (value - fill) * coverage + fill, where pixels outside already count as zero in value.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device, dtype=torch.float32)
    y = torch.arange(height, device=images.device, dtype=torch.float32)[:, None]
    a, b, c, d, e, f, g, h, i = (inverse[:, k, None, None] for k in range(MATRIX_SIZE))
    sx, sy = a * x + (b * y + c), d * x + (e * y + f)
    if projective:
        depth = g * x + (h * y + i)
        sx, sy = sx / depth, sy / depth
    return sampled(images, sx, sy, fill, interpolation)


def sampled(images: Tensor, sx: Tensor, sy: Tensor, fill: Tensor | None, interpolation: int) -> Tensor:
    """Images (n, C, H, W) uint8 read at positions (n, H, W), in indices of pixels; `fill` as of `warp`."""
    fill = None if fill is None else fill[:, :, None, None]
    if interpolation == NEAREST:
        return _nearest(images, sx, sy, fill)
    return _blended(images, sx, sy, fill, interpolation)


def _nearest(images: Tensor, sx: Tensor, sy: Tensor, fill: Tensor | None) -> Tensor:
    height, width = images.shape[2:]
    rx, ry = torch.round(sx), torch.round(sy)  # half to even, as grid_sample
    inside = (rx >= 0) & (rx <= width - 1) & (ry >= 0) & (ry <= height - 1)
    pixels = _pixels(images, rx, ry, inside)
    outside = torch.zeros((), dtype=torch.uint8, device=images.device) if fill is None else fill.round().to(torch.uint8)
    return torch.where(inside[:, None], pixels, outside)


def _pixels(images: Tensor, x: Tensor, y: Tensor, inside: Tensor) -> Tensor:
    """(n, C, H, W) pixels at whole coordinates (n, H, W); undefined where not `inside`."""
    width = images.shape[3]
    index = (torch.where(inside, y, 0).long() * width + torch.where(inside, x, 0).long()).flatten(1)
    return images.flatten(2).gather(2, index[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def _coefficients(part: Tensor, interpolation: int) -> list[Tensor]:
    """Weights of the taps from left to right; `part` is the fractional part of the coordinate."""
    if interpolation != BICUBIC:
        return [1.0 - part, part]
    far, near = part + 1.0, 1.0 - part
    return [_outer(far), _inner(part), _inner(near), _outer(near + 1.0)]


def _inner(x: Tensor) -> Tensor:
    return (((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x) * x + 1.0


def _outer(x: Tensor) -> Tensor:
    return ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC


def _blended(images: Tensor, sx: Tensor, sy: Tensor, fill: Tensor | None, interpolation: int) -> Tensor:
    height, width = images.shape[2:]
    reach = 2 if interpolation == BICUBIC else 1
    near = (sx > -reach) & (sx < width + reach - 1) & (sy > -reach) & (sy < height + reach - 1)
    sx, sy = torch.where(near, sx, 0.0), torch.where(near, sy, 0.0)
    x0, y0 = torch.floor(sx), torch.floor(sy)
    across, down = _coefficients(sx - x0, interpolation), _coefficients(sy - y0, interpolation)

    def tap(i: int, j: int, weight: Tensor) -> tuple[Tensor, Tensor]:
        x, y = x0 + (i + 1 - reach), y0 + (j + 1 - reach)
        inside = near & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        weight = torch.where(inside, weight, 0.0)[:, None]
        return _pixels(images, x, y, inside) * weight, weight

    def total(taps: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        value, coverage = taps[0]
        for more, cover in taps[1:]:
            value, coverage = value + more, coverage + cover
        return value, coverage

    if interpolation == BICUBIC:
        lines = [total([tap(i, j, w) for i, w in enumerate(across)]) for j in range(4)]
        value, coverage = total([(v * w[:, None], m * w[:, None]) for (v, m), w in zip(lines, down, strict=True)])
    else:
        value, coverage = total([tap(i, j, across[i] * down[j]) for j in range(2) for i in range(2)])
    if fill is not None:
        value = (value - fill) * coverage + fill
    return value.round().clamp(0, 255).to(torch.uint8)
