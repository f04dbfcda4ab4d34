"""Crop: resample a box of the source, take a window of it, mirror it. Antialiased, in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.instructions import SMALL
from gpuaug.kernels.resample import positions, taps
from gpuaug.kernels.torch.common import PIXELS_AT_ONCE, upload
from gpuaug.program import Window
from gpuaug.ragged import Ragged, layout

__all__ = ["crop"]

Array = NDArray[Any]


def crop(source: Tensor | Ragged, window: Window) -> Tensor:
    """(B, C, H, W) uint8: the canvas that `window` describes."""
    data, offsets, strides, channels = layout(source)
    height, width = window.size
    partial = isinstance(source, Ragged) and source.parts is not None
    flip_x, flip_y = window.flip.T
    rows, inside_y = positions(window.start[:, 0], height, flip_y, window.resized[:, 0], window.padding_mode)
    columns, inside_x = positions(window.start[:, 1], width, flip_x, window.resized[:, 1], window.padding_mode)
    out = torch.empty((len(offsets), channels, height, width), dtype=torch.uint8, device=data.device)
    step = max(1, PIXELS_AT_ONCE // (int(window.box[:, 2].max()) * width * channels))
    for start in range(0, len(offsets), step):
        part = slice(start, start + step)
        box, resized = window.box[part].astype(np.int64), window.resized[part]
        how = window.interpolation, window.antialias, resized.sum(axis=1) <= SMALL
        taps_x = taps(box[:, 3], resized[:, 1], columns[part], *how)
        taps_y = taps(box[:, 2], resized[:, 0], rows[part], *how)
        lines = _horizontal(data, offsets[part], strides[part], channels, box, taps_x, partial)
        out[part] = _vertical(lines, taps_y)
    if not (inside_y.all() and inside_x.all()):
        inside = upload(inside_y, data.device)[:, None, :, None] & upload(inside_x, data.device)[:, None, None, :]
        fill = np.zeros(channels, np.uint8) if window.fill is None else window.fill
        out = torch.where(inside, out, upload(fill, data.device)[:, None, None])
    return out


def _round(total: Tensor, precision: Tensor) -> Tensor:
    """Convert integer sums to levels; `precision` (B, 1, 1, 1)."""
    half = torch.ones_like(precision) << (precision - 1)
    return ((total + half) >> precision).clamp_(0, 255).to(torch.uint8)


def _horizontal(
    data: Tensor,
    offsets: Array,
    strides: Array,
    channels: int,
    box: Array,
    taps_x: tuple[Array, Array, Array],
    partial: bool,
) -> Tensor:
    """(B, C, tallest box, W) uint8: each line of each box, resized to W. `partial`: the source has parts of images."""
    first, weights, precision = taps_x
    device = data.device
    y = np.minimum(np.arange(box[:, 2].max()), box[:, 2:3] - 1) + box[:, :1]
    base = offsets[:, None] + y * strides[:, :1]
    channel = np.arange(channels) * strides[:, 2:]
    lines = upload(base[:, None, :, None] + channel[:, :, None, None], device)  # (B, C, lines, 1) offsets in the buffer
    stride, left = strides[:, 1:2], box[:, 1:2]
    total = torch.zeros((len(box), channels, y.shape[1], first.shape[1]), dtype=torch.int32, device=device)
    for k in range(weights.shape[2]):
        x = left + np.minimum(first + k, box[:, 3:4] - 1)  # beyond the last tap the weight is zero
        index = lines + upload(x * stride, device)[:, None, None, :]
        if partial:  # rows beyond a sample's own box may lie outside; their values are not used
            index.clamp_(0, len(data) - 1)
        total += data[index] * upload(weights[:, :, k], device)[:, None, None, :]
    return _round(total, upload(precision, device)[:, None, None, None])


def _vertical(lines: Tensor, taps_y: tuple[Array, Array, Array]) -> Tensor:
    """Resample the lines (B, C, L, W) vertically: (B, C, H, W) uint8."""
    first, weights, precision = taps_y
    device, shape = lines.device, lines.shape
    total = torch.zeros((*shape[:2], first.shape[1], shape[3]), dtype=torch.int32, device=device)
    for k in range(weights.shape[2]):
        y = upload(np.minimum(first + k, shape[2] - 1), device)[:, None, :, None]
        line = lines.gather(2, y.expand(-1, shape[1], -1, shape[3]))
        total += line * upload(weights[:, :, k], device)[:, None, :, None]
    return _round(total, upload(precision, device)[:, None, None, None])
