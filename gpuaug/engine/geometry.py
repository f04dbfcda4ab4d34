"""Where a draw moves what is in an image: one matrix per sample for each move, for boxes, key points and other targets.

Coordinates are continuous, x right and y down, in pixels: the top left pixel covers [0, 1] x [0, 1], so the centre of
pixel (i, j) is (j + 0.5, i + 0.5). Boxes are in this frame, as in torchvision. A flip of *key points* follows
torchvision too, which takes them for indices of pixels there: x becomes width - 1 - x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.engine.builder import same_warp
from gpuaug.instructions import MATRIX_SIZE, Flip, Warp
from gpuaug.kernels.torch.common import upload
from gpuaug.program import Erase, Instruction, Mix, Op
from gpuaug.transforms.base import Canvas, Convert, Params, Placement, Transform
from gpuaug.transforms.targets import TargetStep

__all__ = ["Move", "Route", "follow_boxes", "follow_points", "route"]

Array = NDArray[Any]

# from the centre of pixel (0, 0) to its corner, and back
TO_INDEX = np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])
TO_CORNER = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
MATRIX, SIZE = slice(0, MATRIX_SIZE), slice(MATRIX_SIZE, MATRIX_SIZE + 2)  # columns of an uploaded move
X, Y = [0, 2, 2, 0], [1, 1, 3, 3]  # columns of a box (x1, y1, x2, y2): x and y of its corners


@dataclass
class Move:
    """A move of all samples, from the pixels before it to those after it.

    matrix: (B, 3, 3) float64. points: The same for key points, which differ at flips. size: (height, width) after it,
    (B, 2). clips: Whether what it moves out of the image is cut off there. projective: Whether it divides.
    """

    matrix: Array
    points: Array
    size: Array
    clips: bool
    projective: bool = False

    def then(self, other: Move) -> Move:
        """This move and another one as one."""
        matrix, points = other.matrix @ self.matrix, other.points @ self.points
        return Move(matrix, points, other.size, self.clips or other.clips, self.projective or other.projective)


@dataclass
class Route:
    """The moves of a draw in order, and the steps for boxes between them. size: (height, width) at the end, (B, 2)."""

    stages: list[Move | TargetStep]
    size: Array

    @property
    def moves(self) -> list[Move]:
        return [stage for stage in self.stages if isinstance(stage, Move)]

    def matrices(self) -> Array:
        """(B, 3, 3) float64, from the pixels of the input to those of the output."""
        matrix = np.tile(np.eye(3), (len(self.size), 1, 1))
        for move in self.moves:
            matrix = move.matrix @ matrix
        return matrix


class RouteBuilder:
    """A builder that keeps where steps move pixels. It is a `gpuaug.transforms.base.Builder`."""

    floats = False

    def __init__(self, canvas: Canvas, exact: bool) -> None:
        self.canvas, self.exact = canvas, exact
        self.stages: list[Move | TargetStep] = []
        self._flips = False  # whether the last stage only mirrors
        self._warp: Instruction | None = None  # the last stage, if a warp may join it

    def window(self, placement: Placement) -> None:
        box, start = placement.box.astype(np.float64), placement.start
        scale = placement.resized / box[:, 2:]
        matrix = np.zeros((len(box), 3, 3))
        matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2] = scale[:, 1], scale[:, 0], 1.0
        matrix[:, :2, 2] = (-box[:, :2] * scale - start)[:, ::-1]
        self._add(Move(matrix, matrix, placement.size, clips=True))
        self.canvas = Canvas(placement.size, self.canvas.channels)

    def instructions(self, instructions: list[Instruction], composable: bool = False) -> None:
        for instruction in instructions:
            possible = instruction.possible
            if Op.BRANCH in possible:
                raise ValueError(
                    "Augment: masks, boxes and key points cannot follow AugMix, which averages differently moved "
                    "copies of an image. Pass class labels only, or leave AugMix out."
                )
            if Op.WARP in possible:
                joins = composable and self._warp is not None and not self.exact
                if joins and self._warp is not None and same_warp(self._warp, instruction):
                    self.stages[-1] = self._last().then(self._warped(instruction))
                else:
                    self._add(self._warped(instruction))
                self._warp = instruction if composable else None
            elif Op.FLIP in possible:
                self._add(self._flipped(instruction), flips=True)

    def _last(self) -> Move:
        last = self.stages[-1]
        assert isinstance(last, Move)
        return last

    def _add(self, move: Move, flips: bool = False) -> None:
        """A further move. Mirroring joins what is before and after it: boxes stay boxes, and nothing is cut off."""
        self._warp = None
        joins = bool(self.stages) and isinstance(self.stages[-1], Move) and (flips or self._flips)
        if joins:
            self.stages[-1], self._flips = self._last().then(move), flips and self._flips
        else:
            self.stages.append(move)
            self._flips = flips

    def _flipped(self, instruction: Instruction) -> Move:
        height, width = self.canvas.sizes.T
        mirrored = instruction.opcode == Op.FLIP
        matrix, points = (np.tile(np.eye(3), (len(mirrored), 1, 1)) for _ in range(2))
        for axis, operand, length in ((0, Flip.HORIZONTAL, width), (1, Flip.VERTICAL, height)):
            turned = mirrored & (instruction.operands[:, operand] != 0)
            for each, end in ((matrix, length), (points, length - 1)):
                each[:, axis, axis], each[:, axis, 2] = np.where(turned, -1.0, 1.0), np.where(turned, end, 0.0)
        return Move(matrix, points, self.canvas.sizes, clips=False)

    def _warped(self, instruction: Instruction) -> Move:
        applied = instruction.opcode == Op.WARP
        inverse = instruction.operands[:, Warp.MATRIX : MATRIX_SIZE].astype(np.float64).reshape(-1, 3, 3)
        inverse = np.where(applied[:, None, None], inverse, np.eye(3))
        projective = bool((applied & (instruction.operands[:, Warp.PROJECTIVE] != 0)).any())
        matrix = TO_CORNER @ inverted(inverse) @ TO_INDEX
        move = Move(matrix, matrix, self.canvas.sizes, clips=True, projective=projective)
        if Op.FLIP in instruction.possible:  # RandomChoice of a flip and a warp: each sample has one of them
            flip = self._flipped(instruction)
            move.matrix, move.points = move.matrix @ flip.matrix, move.points @ flip.points
        return move

    def check_targets(self, step: Transform) -> None:
        assert isinstance(step, TargetStep)
        self.stages.append(step)
        self._warp = None

    def convert(self, step: Convert) -> None:
        """Nothing moves."""

    def erase(self, erase: Erase) -> None:
        """Nothing moves."""

    def mix(self, mix: Mix) -> None:
        """Nothing moves."""

    def call(self, function: Callable[[Tensor], Tensor], canvas: Canvas) -> None:
        self.canvas = canvas


def inverted(matrices: Array) -> Array:
    """The inverse of each (B, 3, 3); for one that has none, such as of a quadrilateral without area, the pseudo-inverse.

    By cofactors, in whole arrays: np.linalg.inv takes four times as long for small matrices.
    """
    a, b, c, d, e, f, g, h, i = matrices.reshape(-1, 9).T
    rows = [e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f]
    rows += [d * h - e * g, b * g - a * h, a * e - b * d]
    cofactors = np.stack(rows, axis=1).reshape(-1, 3, 3)
    determinant = a * rows[0] + b * rows[3] + c * rows[6]
    flat = np.abs(determinant) < 1e-12
    if flat.any():
        return np.where(flat[:, None, None], np.linalg.pinv(matrices), cofactors / np.where(flat, 1.0, determinant)[:, None, None])
    inverse: Array = cofactors / determinant[:, None, None]
    return inverse


def route(steps: Sequence[Transform], params: Sequence[Params], canvas: Canvas, exact: bool) -> Route:
    """Where a draw of `steps` moves pixels."""
    builder = RouteBuilder(canvas, exact)
    for step, drawn in zip(steps, params, strict=True):
        if step.moves or isinstance(step, TargetStep):
            step.lower(drawn, builder)
        else:
            builder.canvas = step.after(builder.canvas)
    return Route(builder.stages, builder.canvas.sizes)


# ---- boxes and points along a route, on the device they are on -------------------------------------------------------


def _uploaded(way: Route, device: torch.device, points: bool) -> list[Tensor]:
    """The moves (B, 11): matrix, then (height, width); in one copy."""
    moves = way.moves
    table = np.empty((len(moves), len(way.size), SIZE.stop))
    for number, move in enumerate(moves):
        table[number, :, MATRIX] = (move.points if points else move.matrix).reshape(-1, MATRIX_SIZE)
        table[number, :, SIZE] = move.size
    if device.type == "mps":  # it has no float64
        table = table.astype(np.float32)
    return list(upload(table, device)) if moves else []


def _moved(m: Tensor, x: Tensor, y: Tensor, projective: bool) -> tuple[Tensor, Tensor]:
    """Points (M, n) through the matrices (M, 9)."""
    a, b, c, d, e, f, g, h, i = m[:, MATRIX].unsqueeze(2).unbind(1)
    new_x, new_y = a * x + (b * y + c), d * x + (e * y + f)
    if projective:
        depth = g * x + (h * y + i)
        new_x, new_y = new_x / depth, new_y / depth
    return new_x, new_y


def follow_boxes(way: Route, boxes: Tensor, owner: Tensor, size: Array) -> tuple[Tensor, Tensor | None]:
    """Boxes where the draw has moved them.

    Args:
        way: Moves of the draw.
        boxes: (M, 4) floats, x1, y1, x2, y2 in pixels of the input.
        owner: The sample that each box belongs to, (M,) int64 on the same device.
        size: (height, width) of the input, (B, 2).

    Returns:
        Boxes around the moved corners, clipped wherever pixels are cut off, (M, 4); which of them a step of the list
        keeps, (M,) bool, or None if it has no such step.
    """
    moves = iter(_uploaded(way, boxes.device, points=False))
    kept: Tensor | None = None
    asks = any(isinstance(stage, TargetStep) and stage.drops for stage in way.stages)
    limits = _limits(upload(size.astype(np.float64), boxes.device).to(boxes.dtype), owner)
    whole_x, whole_y = boxes[:, X], boxes[:, Y]  # corners of the whole box, of which nothing is cut off
    for stage in way.stages:
        if isinstance(stage, Move):
            m = next(moves)[owner]
            x, y = _moved(m, boxes[:, X], boxes[:, Y], stage.projective)
            boxes = torch.stack([x.amin(1), y.amin(1), x.amax(1), y.amax(1)], dim=1)
            limits = _limits(m[:, SIZE])
            if stage.clips:
                boxes = boxes.clamp(min=0).minimum(limits)
            if asks:
                whole_x, whole_y = _moved(m, whole_x, whole_y, stage.projective)
        else:
            boxes = stage.clip(boxes, limits)
            if stage.drops:
                found = stage.keep(boxes, limits, _shown(boxes, whole_x, whole_y))
                kept = found if kept is None or found is None else kept & found
    return boxes, kept


def _limits(size: Tensor, owner: Tensor | None = None) -> Tensor:
    """(M, 4) width, height, width, height from sizes (height, width)."""
    size = size if owner is None else size[owner]
    return size[:, [1, 0, 1, 0]]


def _shown(boxes: Tensor, whole_x: Tensor, whole_y: Tensor) -> Tensor:
    """(M,) share of the area of the box around the whole corners that the clipped box has."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    whole = (whole_x.amax(1) - whole_x.amin(1)) * (whole_y.amax(1) - whole_y.amin(1))
    return torch.where(whole > 0, area / whole, torch.zeros_like(area)).clamp(max=1.0)


def follow_points(way: Route, points: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Key points where the draw has moved them.

    Args:
        way: Moves of the draw.
        points: (M, n, 2) floats, (x, y) in pixels of the input.
        owner: The sample that each row belongs to, (M,) int64 on the same device.

    Returns:
        Points (M, n, 2); whether each has stayed inside wherever pixels are cut off, (M, n) bool; whether left and
        right are exchanged, (M,) bool.
    """
    x, y = points.unbind(2)
    inside = torch.ones_like(x, dtype=torch.bool)
    for stage, move in zip(way.moves, _uploaded(way, points.device, points=True), strict=True):
        m = move[owner]
        x, y = _moved(m, x, y, stage.projective)
        if stage.clips:
            height, width = m[:, SIZE].unsqueeze(2).unbind(1)
            inside = inside & (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    mirrored = upload(np.linalg.det(way.matrices()[:, :2, :2]) < 0, points.device)[owner]
    return torch.stack([x, y], dim=2), inside, mirrored
