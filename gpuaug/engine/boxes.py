"""Boxes and key points along the moves of a draw, on the device they are on, all of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.engine.geometry import Move, Route
from gpuaug.instructions import MATRIX_SIZE
from gpuaug.kernels.torch.common import upload

__all__ = ["follow_boxes", "follow_points", "from_corners", "spread", "to_corners"]

Array = NDArray[Any]
Points = tuple[Tensor, Tensor]  # x and y, of one shape

HEIGHT, WIDTH = MATRIX_SIZE, MATRIX_SIZE + 1  # rows of an uploaded move, after its matrix
ROWS = MATRIX_SIZE + 2


def to_corners(boxes: Tensor, format_: str) -> Tensor:
    """Boxes (M, 4) of a format as float64 (x1, y1, x2, y2); float32 where the device has no float64."""
    boxes = boxes.to(torch.float32 if boxes.device.type == "mps" else torch.float64)
    if format_ == "XYXY":
        return boxes
    first, last = boxes[:, :2], boxes[:, 2:]
    if format_ == "CXCYWH":
        first = first - last / 2
    return torch.cat([first, first + last], dim=1)


def from_corners(boxes: Tensor, format_: str, dtype: torch.dtype) -> Tensor:
    """The inverse of `to_corners`, in `dtype`; integers are rounded towards zero, as in torchvision."""
    if format_ != "XYXY":
        first, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        boxes = torch.cat([first + size / 2 if format_ == "CXCYWH" else first, size], dim=1)
    return boxes.to(dtype)


def spread(table: Array, counts: Sequence[int], like: Tensor) -> Tensor:
    """A table (..., B) with a column for each row of the batch, (..., M), on the device and of the dtype of `like`.

    On the CPU NumPy repeats the columns, seven times as fast as torch selects them; elsewhere they are repeated there.
    """
    if like.device.type == "cpu":
        return torch.from_numpy(np.repeat(table, counts, axis=-1)).to(like.dtype)
    table = table.astype(np.float32 if like.dtype == torch.float32 else np.float64)
    owner = upload(np.repeat(np.arange(len(counts)), counts), like.device)
    return upload(table, like.device).index_select(table.ndim - 1, owner)


def table_of(moves: Sequence[Move], points: bool = False) -> Array:
    """(moves, 11, B): matrix, height and width of each move."""
    count = len(moves[0].size) if moves else 0
    table = np.empty((len(moves), ROWS, count))
    for number, move in enumerate(moves):
        table[number, :MATRIX_SIZE] = (move.points if points else move.matrix).reshape(-1, MATRIX_SIZE).T
        table[number, HEIGHT:] = move.size.T
    return table


def moved(m: Tensor, x: Tensor, y: Tensor, projective: bool) -> Points:
    """Points (M,) or (n, M) through the matrices in the rows of `m` (11, M)."""
    new_x, new_y = m[0] * x + (m[1] * y + m[2]), m[3] * x + (m[4] * y + m[5])
    if projective:
        depth = m[6] * x + (m[7] * y + m[8])
        new_x, new_y = new_x / depth, new_y / depth
    return new_x, new_y


def around(m: Tensor, low: Points, high: Points, projective: bool) -> tuple[Points, Points]:
    """The boxes around moved boxes, by their corners or, for an affine move, by their centres and half sizes."""
    if projective:
        x = torch.stack([low[0], high[0], high[0], low[0]])
        y = torch.stack([low[1], low[1], high[1], high[1]])
        x, y = moved(m, x, y, True)
        return (x.amin(0), y.amin(0)), (x.amax(0), y.amax(0))
    x, y = moved(m, (low[0] + high[0]) * 0.5, (low[1] + high[1]) * 0.5, False)
    half_x, half_y = (high[0] - low[0]) * 0.5, (high[1] - low[1]) * 0.5
    size = m[:5].abs()
    wide, tall = size[0] * half_x + size[1] * half_y, size[3] * half_x + size[4] * half_y
    return (x - wide, y - tall), (x + wide, y + tall)


def clipped(low: Points, high: Points, size: Points) -> tuple[Points, Points]:
    """Boxes cut off at the borders of images of `size` (width, height)."""
    (x1, y1), (x2, y2) = (
        tuple(value.clamp(min=0).minimum(limit) for value, limit in zip(end, size, strict=True)) for end in (low, high)
    )
    return (x1, y1), (x2, y2)


def follow_boxes(way: Route, boxes: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Boxes where the draw has moved them.

    Args:
        way: Moves of the draw.
        boxes: (M, 4) floats, x1, y1, x2, y2 in pixels of the input.
        counts: How many boxes each sample has.

    Returns:
        Boxes around the moved corners, clipped wherever pixels are cut off, (M, 4); which of them the steps of the
        list keep, (M,) bool, or None if there is no such step.
    """
    matrices, kept = iter(spread(table_of(way.moves), counts, boxes)) if way.moves else iter(()), None
    x1, y1, x2, y2 = boxes.T.contiguous().unbind()
    low, high, size = (x1, y1), (x2, y2), None
    for place, stage in enumerate(way.stages):
        if isinstance(stage, Move):
            m = next(matrices)
            low, high, size = *around(m, low, high, stage.projective), (m[WIDTH], m[HEIGHT])
            if stage.clips:
                low, high = clipped(low, high, size)
        else:
            if size is None:
                height, width = spread(way.before.T, counts, boxes)
                size = width, height
            if stage.clips:
                low, high = clipped(low, high, size)
            if stage.drops:
                left = (high[0] - low[0]) * (high[1] - low[1])
                shown = _shown(left, boxes, way, place, counts) if stage.asks_what_is_shown else None
                found = stage.keep(torch.stack([*low, *high], dim=1), torch.stack([*size, *size], dim=1), shown)
                kept = found if kept is None else kept & found
    return torch.stack([*low, *high], dim=1), kept


def _shown(left: Tensor, given: Tensor, way: Route, place: int, counts: Sequence[int]) -> Tensor:
    """(M,) share that the area `left` is of the area of the whole box, moved as far as stage `place` without a cut."""
    whole = Route(way.stages[:place], way.before, way.size).total()
    (m,) = spread(table_of([whole]), counts, given)
    x1, y1, x2, y2 = given.T.contiguous().unbind()
    low, high = around(m, (x1, y1), (x2, y2), projective=True)
    area = (high[0] - low[0]) * (high[1] - low[1])
    return torch.where(area > 0, left / area, torch.zeros_like(area))


def follow_points(way: Route, points: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Key points where the draw has moved them.

    Args:
        way: Moves of the draw.
        points: (M, n, 2) floats, (x, y) in pixels of the input.
        counts: How many rows each sample has.

    Returns:
        Points (M, n, 2); whether each has stayed inside wherever pixels are cut off, (M, n) bool; whether left and
        right are exchanged, (M,) bool.
    """
    x, y = points.permute(2, 1, 0).contiguous().unbind()  # (n, M) each
    inside = torch.ones_like(x, dtype=torch.bool)
    matrices = spread(table_of(way.moves, points=True), counts, points) if way.moves else ()
    for stage, m in zip(way.moves, matrices, strict=True):
        x, y = moved(m, x, y, stage.projective)
        if stage.clips:
            inside = inside & (x > -0.5) & (y > -0.5) & (x < m[WIDTH] - 0.5) & (y < m[HEIGHT] - 0.5)
    mirrored = np.linalg.det(way.matrices()[:, :2, :2]) < 0
    return torch.stack([x, y]).permute(2, 1, 0), inside.T, spread(mirrored.astype(np.float64), counts, points) > 0
