"""Rotated boxes along the moves of a draw: torchvision's formats XYWHR, CXCYWHR and XYXYXYXY, and its arithmetic.

A box is kept as its four corners, clockwise as seen on the screen. As in torchvision, each step moves the corners,
makes a rectangle of the parallelogram they then form, and clips it to the image, at the angle it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.engine.boxes import ROWS, WIDTH, Rows, moved, table_of
from gpuaug.engine.geometry import Bend, Move, Route

__all__ = ["follow_rotated", "from_quads", "to_quads"]

Array = NDArray[Any]

MIRRORS, SQUARES, APPLIED = ROWS, ROWS + 1, ROWS + 2  # further rows of an uploaded move: what it does to each sample


def to_quads(boxes: Tensor, format_: str) -> Tensor:
    """Boxes (M, 5 or 8) as their corners (M, 8), x1, y1, ..., float64; float32 where the device has no float64."""
    boxes = boxes.to(torch.float32 if boxes.device.type == "mps" else torch.float64)
    return boxes if format_ == "XYXYXYXY" else _of_numbers(boxes.T, format_).permute(2, 1, 0).flatten(1)


def from_quads(quads: Tensor, format_: str, dtype: torch.dtype) -> Tensor:
    """The inverse of `to_quads`, in `dtype`. Angles are in (-180, 180] degrees, counter-clockwise."""
    if format_ == "XYXYXYXY":
        return quads.to(dtype)
    return _numbers_of(quads.reshape(-1, 4, 2).permute(2, 1, 0), format_).T.to(dtype)


def _of_numbers(boxes: Tensor, format_: str) -> Tensor:
    """(2, 4, ...) corners of boxes (5, ...)."""
    first, size, radians = boxes[:2], boxes[2:4], boxes[4] * (math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    across, down = torch.stack([size[0] * cos, -size[0] * sin]), torch.stack([size[1] * sin, size[1] * cos])
    if format_ == "CXCYWHR":
        first = first - (across + down) / 2
    return torch.stack([first, first + across, first + across + down, first + down], dim=1)


def _numbers_of(quads: Tensor, format_: str) -> Tensor:
    """The inverse of `_of_numbers`: width and height are the lengths of the first two sides."""
    first, size = quads[:, 0], _lengths(quads)
    radians = _angle(quads, 1)
    if format_ == "CXCYWHR":
        cos, sin = radians.cos(), radians.sin()
        first = first + torch.stack([size[0] * cos + size[1] * sin, size[1] * cos - size[0] * sin]) / 2
    return torch.cat([first, size, (radians * (180 / math.pi))[None]])


def sides_of(quads: Tensor) -> tuple[Tensor, Tensor]:
    """The first two sides, (2, ...) each, from the first corner to the second and from there to the third."""
    return quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 1]


def _angle(quads: Tensor, corner: int) -> Tensor:
    """Angle of the line from the first corner to another one, in radians, counter-clockwise as seen on the screen.

    torchvision's differences, as the sign of a zero decides between -180 and 180 degrees.
    """
    return torch.atan2(quads[1, 0] - quads[1, corner], quads[0, corner] - quads[0, 0])


def squared(quads: Tensor) -> Tensor:
    """Parallelograms (2, 4, ...) as rectangles around the same centre, along the longer side.

    torchvision's `_parallelogram_to_bounding_boxes`, also where its result depends on the quadrant of the angle.
    """
    centre = (quads[:, 0] + quads[:, 2]) / 2
    width, height = torch.hypot(*(quads[:, 1] - quads[:, 0])), torch.hypot(*(quads[:, 3] - quads[:, 0]))
    first, last = _angle(quads, 1), _angle(quads, 3)
    between = first - last
    sign = torch.where(between > math.pi / 2, -1.0, 1.0)
    cos, sin = between.cos(), between.sin()
    w = torch.where(width < height, width * sin, width + height * cos * sign) / 2
    h = torch.where(width > height, height * sin, height + width * cos * sign) / 2
    radians = torch.where(height > width, last + math.pi / 2, first)
    cos, sin = radians.cos(), radians.sin()
    across, down = torch.stack([w * cos, -w * sin]), torch.stack([h * sin, h * cos])
    return torch.stack([centre - across - down, centre + across - down, centre + across + down,
                        centre - across + down], dim=1)  # fmt: skip


def rolled(quads: Tensor, first: Tensor) -> Tensor:
    """Corners (2, 4, ...) in their order from number `first` (...) on."""
    order = (first + torch.arange(4, device=first.device).view(4, *[1] * first.ndim)) % 4
    return quads.gather(1, order.expand_as(quads))


def clipped(quads: Tensor, size: Tensor, hard: bool) -> Tensor:
    """Boxes (2, 4, ...) clipped to images of `size` (2, ...), width and height: torchvision's `clamp_bounding_boxes`.

    Args:
        quads: Corners.
        size: Width and height, which have as many axes as a corner.
        hard: True: a box of the same angle inside of box and image. False: the smallest one around what both share,
            whose corners may be outside of the image.
    """
    given = quads
    width, height = size
    for _ in range(4):  # the left border, and after each quarter turn the next one
        first = _leftmost(quads)
        cut = _clipped_left(rolled(quads, first), rolled(given, first), height, width, hard)
        quads, given = (torch.stack([each[1], width - each[0]]) for each in (rolled(cut, -first), given))
        width, height = height, width
    return quads


def _leftmost(quads: Tensor) -> Tensor:
    """Number of the leftmost corner (...); the upper one of two, if the side beside them is level within rounding.

    torchvision takes the upper corner also where the lower one is further left by up to half a degree, and then returns
    boxes of no size.
    """
    lower = quads[0].min(0).indices
    x, y = rolled(quads, lower)
    upper = (x[0] == x[1]) | y[1].isclose(y[2]) | y[0].isclose(y[3])
    return torch.where(upper, lower + 1, lower)


def lines_of(quads: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and value at x = 0 of the line from each corner to the next one, (4, ...) each."""
    x, y = quads
    slope = (y.roll(-1, 0) - y) / (x.roll(-1, 0) - x)
    return slope, y - slope * x


def _clipped_left(quads: Tensor, given: Tensor, height: Tensor, width: Tensor, hard: bool) -> Tensor:
    """Boxes whose first corner is the leftmost one, clipped at the left border; torchvision's `_clamp_along_y_axis`."""
    slope, offset = lines_of(quads)
    (x1, x2, _, _), (y1, y2, y3, y4) = quads
    offset = _clipped_offsets(slope, offset, lines_of(given)[1], height, width, hard)
    x = -(offset - offset.roll(1, 0)) / (slope - slope.roll(1, 0))
    crossings = torch.stack([x, slope * x + offset])
    straight = y1.isclose(y2) | y3.isclose(y4)
    gone = (quads[0] <= 0).all(0) | y1.isclose(y4) | y2.isclose(y3) | (straight & x1.isclose(x2))
    shifted = quads.clone()
    shifted[0, ::3].clamp_(min=0)
    known = ~crossings.isnan().flatten(0, 1).any(0)
    found = torch.where((x1 < 0) & known, crossings, quads)
    found = torch.where(straight, shifted, found)
    return torch.where(gone, torch.zeros_like(found), found)


def _clipped_offsets(slope: Tensor, offset: Tensor, most: Tensor, height: Tensor, width: Tensor, hard: bool) -> Tensor:
    """The values at x = 0 of the four sides when they are clipped; torchvision's `_clamp_y_intercept`."""
    (a1, a2, a3, a4), (b1, b2, b3, b4), (b1m, b2m, b3m, b4m) = slope, offset, most
    b1 = b2.clamp(b1, b3).clamp(min=0).minimum(height)
    b4 = b3.clamp(b2, b4).clamp(min=0).minimum(height)
    if hard:
        b1 = b4 = (b1 + b4) / 2
        lower = [b1 * a2 / a1, b3 * a2 / a3, (a1 - a2) * width + b1, (a3 - a2) * width + b3]
        b2 = torch.stack(lower).amax(0).minimum(b2)
        upper = [height * (1 - a3 / a4) + b4 * a3 / a4, height * (1 - a3 / a2) + b2 * a3 / a2]
        upper += [(a2 - a3) * width + b2, (a4 - a3) * width + b4]
        b3 = torch.stack(upper).amin(0).maximum(b3)
    b1, b3 = b1.clamp(b1m, b3m), b3.clamp(b1m, b3m)
    b4 = (b1 if hard else b4).clamp(b2m, b4m)
    return torch.stack([b4 if hard else b1, b2.clamp(b2m, b4m), b3, b4])


def follow_rotated(
    way: Route, boxes: Tensor, counts: Sequence[int], format_: str, mode: str | None
) -> tuple[Tensor, Tensor | None]:
    """Rotated boxes where the draw has moved them; see `gpuaug.engine.boxes.follow_boxes`.

    Args:
        way: Moves of the draw, each step apart.
        boxes: (M, 5 or 8) floats, in pixels of the input.
        counts: How many boxes each sample has.
        format_: Their format in torchvision.
        mode: How they are clipped, torchvision's clamping_mode: "soft", "hard" or None.

    Returns:
        Boxes like those given, the same bits where no step did anything to a sample; which of them the steps of the
        list keep, (M,) bool, or None if there is no such step.
    """
    rows = Rows(counts)
    laid = rows.laid(to_quads(boxes, format_))
    given = quads = torch.stack([laid[0::2], laid[1::2]])  # (x and y, corner, ...)
    table = rows.table(_table_of(way.moves), quads) if way.moves else quads.new_zeros(0, 1)
    tables, kept = iter(table), None
    size: Tensor | None = None
    changed = (table[:, APPLIED] > 0).any(0) if way.moves else torch.zeros_like(quads[0, 0], dtype=torch.bool)
    for place, stage in enumerate(way.stages):
        if isinstance(stage, Move):
            m = next(tables)
            size = m[WIDTH:ROWS]
            quads = _stepped(quads, m, stage, format_, mode)
            continue
        assert not isinstance(stage, Bend), "refused before the draw"
        size = rows.table(way.before.T[::-1].copy(), quads) if size is None else size
        own = mode if stage.clamping_mode == "auto" else stage.clamping_mode
        if stage.clips and own is not None:
            quads, changed = _clipped_as(quads, size, own, format_), torch.ones_like(changed)
        if stage.drops:
            sides = _lengths(quads)
            inside = ((quads >= 0) & (quads <= size[:, None])).flatten(0, 1).all(0, keepdim=True)
            before = [stage for stage in way.stages[:place] if isinstance(stage, Move)]
            shown = _shown(sides[0] * sides[1], given, before, table, rows) if stage.asks_what_is_shown else None
            found = stage.keep(rows.back(sides), rows.back(inside)[:, 0], shown)
            kept = found if kept is None else kept & found
    result = from_quads(rows.back(quads.transpose(0, 1).flatten(0, 1)), format_, boxes.dtype)
    return torch.where(rows.back(changed.expand_as(quads[0, 0])[None]), result, boxes), kept


def _table_of(moves: Sequence[Move]) -> Array:
    """(moves, 14, B): that of `gpuaug.engine.boxes.table_of`, and what each move does to each sample."""
    flags = np.ones((len(moves), 3, len(moves[0].size)))
    for row, move in zip(flags, moves, strict=True):
        row[0] = np.linalg.det(move.matrix[:, :2, :2]) < 0 if move.mirrors else False
        row[1] = False if move.squares is None else move.squares
        row[2] = True if move.applied is None else move.applied
    return np.concatenate([table_of(moves), flags], axis=1)


def _lengths(quads: Tensor) -> Tensor:
    """Width and height (2, ...) of boxes (2, 4, ...)."""
    return torch.stack([torch.hypot(*side) for side in sides_of(quads)])


def _stepped(quads: Tensor, m: Tensor, move: Move, format_: str, mode: str | None) -> Tensor:
    """Boxes after one move, by the table of the move, `m` (14, ...)."""
    found = moved(m[:, None], quads, move.projective)
    if move.mirrors:
        other = found.view(2, 2, 2, *found.shape[2:]).flip(2).flatten(1, 2)  # left and right corners exchanged
        found = torch.where(m[MIRRORS] > 0, other, found)
    if move.squares is not None:
        found = torch.where(m[SQUARES] > 0, squared(found), found)
    if move.clips and mode is not None:
        found = _clipped_as(found, m[WIDTH:ROWS], mode, format_)
    return torch.where(m[APPLIED] > 0, found, quads)


def _clipped_as(quads: Tensor, size: Tensor, mode: str, format_: str) -> Tensor:
    """Clipped boxes, as their format then describes them: one with an angle makes a rectangle of any four corners."""
    found = clipped(quads, size.expand(2, *quads.shape[2:]), mode == "hard")
    return found if format_ == "XYXYXYXY" else _of_numbers(_numbers_of(found, format_), format_)


def _shown(left: Tensor, given: Tensor, before: Sequence[Move], table: Tensor, rows: Rows) -> Tensor:
    """(M,) share that the area `left` is of the area of the whole box, after the moves `before` it without a cut."""
    quads = given
    for move, m in zip(before, table, strict=False):
        whole = moved(m[:, None], quads, move.projective)
        whole = whole if move.squares is None else torch.where(m[SQUARES] > 0, squared(whole), whole)
        quads = torch.where(m[APPLIED] > 0, whole, quads)
    area = _lengths(quads).prod(0)
    return rows.back(torch.where(area > 0, left / area, torch.zeros_like(area))[None])[:, 0]
