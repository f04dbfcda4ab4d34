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
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.engine.builder import same_warp
from gpuaug.instructions import MATRIX_SIZE, Flip, Warp
from gpuaug.program import Erase, Instruction, Mix, Op
from gpuaug.transforms.base import Canvas, Convert, Params, Placement, Transform
from gpuaug.transforms.targets import TargetStep

__all__ = ["Bend", "Move", "Route", "Stage", "inverted", "route"]

Array = NDArray[Any]

CENTRE = 0.5  # from the corner of a pixel to its centre


@dataclass
class Move:
    """A move of all samples, from the pixels before it to those after it.

    matrix: (B, 3, 3) float64. points: The same for key points, which differ at flips. size: (height, width) after it,
    (B, 2). clips: Whether what it moves out of the image is cut off there. projective: Whether it divides. straight:
    Whether it only scales, shifts and mirrors, along the axes. mirrors: Whether it may mirror. applied: (B,) bool,
    samples that it changes; None: all. squares: (B,) bool, samples whose rotated boxes it makes rectangles of; None: no
    one. Both are known of moves that are kept apart. centred: (B,) bool, the samples whose boxes become empty if their
    centre is outside, after a crop that was chosen by them.
    """

    matrix: Array
    points: Array
    size: Array
    clips: bool
    projective: bool = False
    straight: bool = False
    mirrors: bool = False
    applied: Array | None = None
    squares: Array | None = None
    centred: Array | None = None

    def then(self, other: Move) -> Move:
        """This move and another one as one."""
        matrix = points = other.matrix @ self.matrix
        if self.points is not self.matrix or other.points is not other.matrix:
            points = other.points @ self.points
        return Move(
            matrix, points, other.size, self.clips or other.clips, self.projective or other.projective,
            self.straight and other.straight, self.mirrors or other.mirrors,
            _either(self.applied, other.applied), _either(self.squares, other.squares),
        )  # fmt: skip


def _either(one: Array | None, other: Array | None) -> Array | None:
    """One of two choices of samples, or both together."""
    found: Array | None = one if other is None else other if one is None else one | other
    return found


@dataclass
class Bend:
    """A shift of each pixel by an amount of its own, which no matrix says: an ELASTIC.

    instruction: One for each sample. size: (height, width) of the images, (B, 2).
    """

    instruction: Instruction
    size: Array


Stage = Move | Bend | TargetStep


@dataclass
class Route:
    """The moves of a draw in order, and the steps for boxes between them.

    before, size: (height, width) of the input and of the output, (B, 2).
    """

    stages: list[Stage]
    before: Array
    size: Array

    @property
    def moves(self) -> list[Move]:
        return [stage for stage in self.stages if isinstance(stage, Move)]

    @property
    def bends(self) -> bool:
        return any(isinstance(stage, Bend) for stage in self.stages)

    def total(self) -> Move:
        """All moves as one, without the bends."""
        matrix = np.tile(np.eye(3), (len(self.size), 1, 1))
        total = Move(matrix, matrix, self.before, clips=False)
        for move in self.moves:
            total = total.then(move)
        return total

    def matrices(self) -> Array:
        """(B, 3, 3) float64, from the pixels of the input to those of the output."""
        return self.total().matrix


class RouteBuilder:
    """A builder that keeps where steps move pixels. It is a `gpuaug.transforms.base.Builder`.

    With `apart`, which rotated boxes need, every step of torchvision's is a move of its own, a flip too.
    """

    floats = False

    def __init__(self, canvas: Canvas, exact: bool, apart: bool = False) -> None:
        self.canvas, self.exact, self.apart = canvas, exact, apart
        self.stages: list[Stage] = []
        self._flips = False  # whether the last stage only mirrors
        self._warp: Instruction | None = None  # the last stage, if a warp may join it

    def window(self, placement: Placement) -> None:
        if self.apart:
            self._windows(placement)
            return
        box, start = placement.box.astype(np.float64), placement.start
        scale = placement.resized / box[:, 2:]
        matrix = np.zeros((len(box), 3, 3))
        matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2] = scale[:, 1], scale[:, 0], 1.0
        matrix[:, :2, 2] = (-box[:, :2] * scale - start)[:, ::-1]
        self._add(Move(matrix, matrix, placement.size, clips=True, straight=True, centred=placement.centred))
        self.canvas = Canvas(placement.size, self.canvas.channels)

    def _windows(self, placement: Placement) -> None:
        """A window as torchvision's steps: it cuts the box, resizes it, and cuts or pads the result."""
        box, resized = placement.box, placement.resized
        for start, scale, size in (
            (box[:, :2], None, box[:, 2:]),
            (np.zeros_like(box[:, :2]), resized / box[:, 2:], resized),
            (placement.start, None, placement.size),
        ):
            before = self.canvas.sizes
            applied = ((start != 0) | (size != before)).any(axis=1)
            if not applied.any():
                continue
            matrix = np.tile(np.eye(3), (len(box), 1, 1))
            if scale is not None:
                matrix[:, 0, 0], matrix[:, 1, 1] = scale[:, 1], scale[:, 0]
                squares = applied
            else:
                matrix[:, :2, 2] = -start[:, ::-1]
                squares = applied & ((start > 0) | (start + size < before)).any(axis=1)  # not where it only pads
            self._add(Move(matrix, matrix, size, clips=True, straight=True, applied=applied, squares=squares))
            self.canvas = Canvas(size, self.canvas.channels)

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
                if self.apart and Op.FLIP in possible:
                    self._add(self._flipped(instruction), flips=True)
            elif Op.FLIP in possible:
                self._add(self._flipped(instruction), flips=True)
            if Op.ELASTIC in possible:
                self.stages.append(Bend(instruction, self.canvas.sizes))
                self._warp = None

    def _last(self) -> Move:
        last = self.stages[-1]
        assert isinstance(last, Move)
        return last

    def _add(self, move: Move, flips: bool = False) -> None:
        """A further move. Mirroring joins what is before and after it: boxes stay boxes, and nothing is cut off."""
        self._warp = None
        last = self.stages[-1] if self.stages else None
        joins = isinstance(last, Move) and (flips or self._flips) and last.centred is move.centred is None
        joins = joins and not self.apart
        if joins:
            self.stages[-1], self._flips = self._last().then(move), flips and self._flips
        else:
            self.stages.append(move)
            self._flips = flips

    def _flipped(self, instruction: Instruction) -> Move:
        mirrored = (instruction.opcode == Op.FLIP)[:, None]
        turned = mirrored & (instruction.operands[:, [Flip.HORIZONTAL, Flip.VERTICAL]] != 0)
        matrix = np.zeros((len(turned), 3, 3))
        matrix[:, [0, 1], [0, 1]], matrix[:, 2, 2] = np.where(turned, -1.0, 1.0), 1.0
        matrix[:, :2, 2] = turned * self.canvas.sizes[:, ::-1]
        points = matrix.copy()
        points[:, :2, 2] -= turned
        applied = turned.any(axis=1) if self.apart else None
        return Move(matrix, points, self.canvas.sizes, clips=False, straight=True, mirrors=True, applied=applied)

    def _warped(self, instruction: Instruction) -> Move:
        applied = instruction.opcode == Op.WARP
        inverse = instruction.operands[:, Warp.MATRIX : MATRIX_SIZE].astype(np.float64).reshape(-1, 3, 3)
        if not applied.all():
            inverse = np.where(applied[:, None, None], inverse, np.eye(3))
        projective = bool((applied & (instruction.operands[:, Warp.PROJECTIVE] != 0)).any())
        matrix = _of_corners(inverted(inverse))
        own = applied if self.apart else None
        move = Move(matrix, matrix, self.canvas.sizes, True, projective, applied=own, squares=own)
        if self.apart:
            return move
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


def _of_corners(matrices: Array) -> Array:
    """Matrices that map centres of pixels, numbered from (0, 0), as such that map corners."""
    matrices[:, :, 2] -= CENTRE * (matrices[:, :, 0] + matrices[:, :, 1])
    matrices[:, :2] += CENTRE * matrices[:, 2:]
    return matrices


def inverted(matrices: Array) -> Array:
    """The inverse of each (B, 3, 3); where there is none, as for a quadrilateral without area, the pseudo-inverse.

    By cofactors, in whole arrays: np.linalg.inv takes four times as long for small matrices.
    """
    a, b, c, d, e, f, g, h, i = matrices.reshape(-1, 9).T
    rows = [e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f]
    rows += [d * h - e * g, b * g - a * h, a * e - b * d]
    cofactors = np.stack(rows, axis=1).reshape(-1, 3, 3)
    determinant = a * rows[0] + b * rows[3] + c * rows[6]
    flat = np.abs(determinant) < 1e-12
    if flat.any():
        return np.where(
            flat[:, None, None], np.linalg.pinv(matrices), cofactors / np.where(flat, 1.0, determinant)[:, None, None]
        )
    inverse: Array = cofactors / determinant[:, None, None]
    return inverse


def route(
    steps: Sequence[Transform], params: Sequence[Params], canvas: Canvas, exact: bool, apart: bool = False
) -> Route:
    """Where a draw of `steps` moves pixels; `apart`: with a move for each of torchvision's steps, for rotated boxes."""
    builder = RouteBuilder(canvas, exact, apart)
    for step, drawn in zip(steps, params, strict=True):
        if step.moves or isinstance(step, TargetStep):
            step.lower(drawn, builder)
        else:
            builder.canvas = step.after(builder.canvas, drawn)
    return Route(builder.stages, canvas.sizes, builder.canvas.sizes)
