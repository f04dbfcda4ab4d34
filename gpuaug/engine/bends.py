"""Boxes and key points through an elastic deformation, as torchvision moves them: back by the shift at their pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.engine.geometry import Bend
from gpuaug.instructions import Elastic, Op
from gpuaug.kernels.torch.common import PIXELS_AT_ONCE, upload
from gpuaug.kernels.torch.elastic import shifts

__all__ = ["bent_boxes", "bent_points"]

Array = NDArray[Any]

SLACK = 1e-6  # pixels; the rounding of steps before must not move a whole number to the next pixel


def bent_boxes(bend: Bend, boxes: Tensor, owners: Array) -> Tensor:
    """The boxes (M, 4) around the moved corners, each taken at the pixel that is not below it.

    Args:
        bend: What moves them.
        boxes: x1, y1, x2, y2 in pixels.
        owners: The sample of each box, (M,).
    """
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2)
    moved = _moved(bend, corners, (corners - SLACK).ceil(), owners)
    return torch.cat([moved.amin(1), moved.amax(1)], dim=1)


def bent_points(bend: Bend, points: Tensor, owners: Array) -> Tensor:
    """The moved points (M, n, 2), each taken at its pixel; arguments as of `bent_boxes`."""
    return _moved(bend, points, (points + SLACK).trunc(), owners)


def _moved(bend: Bend, points: Tensor, pixels: Tensor, owners: Array) -> Tensor:
    """Points (M, n, 2) at whole `pixels`, clamped to the image, less the shifts there."""
    result = points.clone()
    instruction = bend.instruction
    wide = np.concatenate([bend.size, instruction.operands[:, Elastic.TAPS : Elastic.TAPS + 2]], axis=1)
    chosen = np.unique(owners[(instruction.opcode == Op.ELASTIC)[owners]])
    assert instruction.kernel is not None
    for kind in np.unique(wide[chosen], axis=0):
        samples = chosen[(wide[chosen] == kind).all(axis=1)]
        height, width = map(int, kind[:2])
        step = max(1, PIXELS_AT_ONCE // (2 * height * width))
        for start in range(0, len(samples), step):
            part = samples[start : start + step]
            rows = np.flatnonzero(np.isin(owners, part))
            field = shifts(instruction.operands[part], instruction.kernel[part], (height, width), points.device)
            mine = upload(rows, points.device)
            at = pixels.index_select(0, mine)
            x, y = at[..., 0].clamp(0, width - 1), at[..., 1].clamp(0, height - 1)
            number = upload(np.searchsorted(part, owners[rows]), points.device)[:, None] * (2 * height * width)
            index = number + (y * width + x).long()
            flat = field.flatten()
            by = torch.stack([flat[index], flat[index + height * width]], dim=-1).to(points.dtype)
            result.index_copy_(0, mine, torch.stack([x, y], dim=-1) - by)
    return result
