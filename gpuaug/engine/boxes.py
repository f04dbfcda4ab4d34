"""Boxes and key points along the moves of a draw, on the device they are on, all of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.engine.bends import bent_boxes, bent_points
from gpuaug.engine.geometry import Bend, Move, Route, Stage
from gpuaug.instructions import MATRIX_SIZE
from gpuaug.kernels.torch.common import upload
from gpuaug.transforms.targets import TargetStep

__all__ = ["follow_boxes", "follow_points", "from_corners", "to_corners"]

Array = NDArray[Any]

WIDTH, HEIGHT = MATRIX_SIZE, MATRIX_SIZE + 1  # rows of an uploaded move, after its matrix
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


class Rows:
    """How the rows of a batch lie beside its samples, so that a table with a column for each sample fits them.

    If every sample has as many rows, they are laid out as (..., n, B), and a table (..., 1, B) meets them by itself;
    otherwise they stay (..., 1, M), and a column is repeated for each row of its sample.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts, self.size = counts, len(counts)
        self.alike = len(set(counts)) == 1

    def laid(self, values: Tensor) -> Tensor:
        """Rows (M, k) as (k, n, B) or (k, 1, M)."""
        if self.alike:
            return (
                values.reshape(self.size, values.shape[0] // self.size, values.shape[1]).permute(2, 1, 0).contiguous()
            )
        return values.T.contiguous()[:, None]

    def back(self, values: Tensor) -> Tensor:
        """The inverse of `laid`."""
        return values.permute(2, 1, 0).reshape(values.shape[1] * values.shape[2], values.shape[0])

    def table(self, table: Array, like: Tensor) -> Tensor:
        """A table (..., B) as it meets rows that are laid out, on the device and of the dtype of `like`."""
        on_host = like.device.type == "cpu"
        if not self.alike and on_host:
            table = table.take(self.owners, axis=-1)
        if on_host:
            return torch.from_numpy(table).to(like.dtype).unsqueeze(-2)
        moved = upload(table.astype(np.float32 if like.dtype == torch.float32 else np.float64), like.device)
        if not self.alike:
            moved = moved.index_select(table.ndim - 1, upload(self.owners, like.device))
        return moved.unsqueeze(-2)

    @cached_property
    def owners(self) -> Array:
        """(M,) the sample of each row."""
        return np.repeat(np.arange(self.size), self.counts)


def table_of(moves: Sequence[Move], points: bool = False) -> Array:
    """(moves, 11, B): matrix, width and height of each move."""
    count = len(moves[0].size) if moves else 0
    table = np.empty((len(moves), ROWS, count))
    for number, move in enumerate(moves):
        table[number, :MATRIX_SIZE] = (move.points if points else move.matrix).reshape(-1, MATRIX_SIZE).T
        table[number, WIDTH:] = move.size.T[::-1]
    return table


def paired(values: Tensor, count: int) -> Tensor:
    """The first axis (2 * count, ...) as two, (2, count, ...); the memory stays the same."""
    return values.view(2, count, *values.shape[1:])


def moved(m: Tensor, points: Tensor, projective: bool) -> Tensor:
    """Points (2, ...), x and y, through the matrices in the rows of `m` (11, ...)."""
    columns = paired(m[:6], 3)  # (2, 3, ...)
    new = (columns[:, 1] * points[1]).add_(columns[:, 2]).add_(columns[:, 0] * points[0])
    return new.div_((m[7] * points[1]).add_(m[8]).add_(m[6] * points[0])) if projective else new


def around(m: Tensor, corners: Tensor, move: Move) -> Tensor:
    """The boxes (4, ...) around moved boxes, by their corners or, for an affine move, by centres and half sizes."""
    low, high = corners[:2], corners[2:]
    if move.projective:
        x = torch.stack([low[0], high[0], high[0], low[0]])
        y = torch.stack([low[1], low[1], high[1], high[1]])
        turned = moved(m[:, None], torch.stack([x, y]), True)
        return torch.cat([turned.amin(1), turned.amax(1)])
    if move.straight:
        ends = (m[0:5:4] * paired(corners, 2)).add_(m[2:6:3])  # (low and high, x and y, ...)
        return torch.cat([torch.minimum(*ends), torch.maximum(*ends)]) if move.mirrors else ends.flatten(0, 1)
    middle, half = (low + high).mul_(0.5), (high - low).mul_(0.5)
    middle, columns = moved(m, middle, False), paired(m[:6], 3).abs()
    half = (columns[:, 0] * half[0]).add_(columns[:, 1] * half[1])
    return torch.cat([middle - half, middle + half])


def clip(corners: Tensor, size: Tensor) -> None:
    """Cut boxes (4, ...) off at the borders of images of `size` (2, ...), width and height, in place."""
    ends = paired(corners.clamp_(min=0), 2)
    torch.minimum(ends, size, out=ends)


def _off_centre(corners: Tensor, size: Tensor, centred: Tensor) -> Tensor:
    """Which boxes (4, ...) have their centre outside of images of `size` (2, ...), where `centred` is not 0."""
    middle = (corners[:2] + corners[2:]) / 2
    return ~((middle > 0) & (middle < size)).all(0) & (centred != 0)


def follow_boxes(
    way: Route, boxes: Tensor, counts: Sequence[int], mode: str | None = "soft"
) -> tuple[Tensor, Tensor | None]:
    """Boxes where the draw has moved them.

    Args:
        way: Moves of the draw.
        boxes: (M, 4) floats, x1, y1, x2, y2 in pixels of the input.
        counts: How many boxes each sample has.
        mode: torchvision's clamping_mode; None: boxes are not clipped.

    Returns:
        Boxes around the moved corners, clipped wherever pixels are cut off, (M, 4); which of them the steps of the
        list keep, (M,) bool, or None if there is no such step.
    """
    rows = Rows(counts)
    matrices, kept = iter(rows.table(table_of(way.moves), boxes)) if way.moves else iter(()), None
    given = corners = rows.laid(boxes)
    size: Tensor | None = None
    first, left = 0, None  # the stage after the last bend, and the share of each box that was left there
    asked = any(isinstance(stage, TargetStep) and stage.asks_what_is_shown for stage in way.stages)
    for place, stage in enumerate(way.stages):
        if isinstance(stage, Move):
            m = next(matrices)
            corners, size = around(m, corners, stage), m[WIDTH:]
            outside = None if stage.centred is None else _off_centre(corners, size, rows.table(stage.centred, boxes))
            if stage.clips and mode is not None:
                clip(corners, size)
            if outside is not None:
                corners = corners.masked_fill(outside, 0.0)
        elif isinstance(stage, Bend):
            if asked:
                left = _shown(corners, given, way.stages[first:place], way, rows, left)
            corners = rows.laid(bent_boxes(stage, rows.back(corners), rows.owners))
            size = rows.table(stage.size.T[::-1].copy(), boxes)
            if mode is not None:
                clip(corners, size)
            first, given = place + 1, corners  # it changes areas and cuts nothing off
        else:
            size = rows.table(way.before.T[::-1].copy(), boxes) if size is None else size
            if stage.clips and (mode if stage.clamping_mode == "auto" else stage.clamping_mode) is not None:
                corners = corners.clone()  # they may be the given ones
                clip(corners, size)
            if stage.drops:
                sides = corners[2:] - corners[:2]
                shown = None
                if stage.asks_what_is_shown:
                    shown = rows.back(_shown(corners, given, way.stages[first:place], way, rows, left)[None])[:, 0]
                inside = ((corners >= 0) & (corners <= torch.cat([size, size]))).all(0, keepdim=True)
                found = stage.keep(rows.back(sides), rows.back(inside)[:, 0], shown)
                kept = found if kept is None else kept & found
    return rows.back(corners), kept


def _shown(
    corners: Tensor, given: Tensor, stages: Sequence[Stage], way: Route, rows: Rows, before: Tensor | None
) -> Tensor:
    """Share that the areas of boxes are of those of the whole boxes, moved by `stages` without a cut, times `before`.

    Args:
        corners: The boxes (4, ...) after the stages.
        given: The boxes before them.
        stages: Stages of `way`, none of which is a bend.
        way: Moves of the draw.
        rows: How the boxes lie beside their samples.
        before: Share that was left before these stages; None: all.
    """
    whole = Route(list(stages), way.before, way.size).total()
    whole.projective = True
    (m,) = rows.table(table_of([whole]), given)
    moved_whole = around(m, given, whole)
    area, left = ((each[2] - each[0]) * (each[3] - each[1]) for each in (moved_whole, corners))
    share = torch.where(area > 0, left / area, torch.zeros_like(area))
    return share if before is None else share * before


def _inside(places: Tensor, size: Tensor) -> Tensor:
    """Whether points (2, ...), x and y, are in images of `size` (2, ...), width and height."""
    return ((places > -0.5) & (places < size - 0.5)).all(0)


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
    rows = Rows(counts)
    number = points.shape[1]
    places = paired(rows.laid(points.transpose(1, 2).flatten(1)), number)  # (x and y, n, ...)
    inside = torch.ones_like(places[0], dtype=torch.bool)
    matrices = iter(rows.table(table_of(way.moves, points=True), points)[:, :, None]) if way.moves else iter(())
    for stage in way.stages:
        if isinstance(stage, Move):
            m = next(matrices)
            places = moved(m, places, stage.projective)
            if stage.clips:
                inside = inside & _inside(places, m[WIDTH:])
        elif isinstance(stage, Bend):
            limits = rows.table(stage.size.T[::-1].copy(), points)[:, None]
            inside = inside & _inside(places, limits)  # it takes what is outside for the nearest pixel
            flat = rows.back(places.flatten(0, 1)).view(len(points), 2, number).transpose(1, 2)
            flat = bent_points(stage, flat, rows.owners).transpose(1, 2).flatten(1)
            places = paired(rows.laid(flat), number)
            inside = inside & _inside(places, limits)
    mirrored = np.linalg.det(way.matrices()[:, :2, :2]) < 0
    turned = rows.table(mirrored.astype(np.float64), points).expand(*inside.shape[1:])
    result = rows.back(places.flatten(0, 1)).view(len(points), 2, number).transpose(1, 2)
    return result, rows.back(inside), rows.back(turned[None])[:, 0] > 0
