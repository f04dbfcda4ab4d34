"""The builder: collects what transforms lower to, fuses what may be fused, and ends a segment where it must.

What is fused is pixel-exact, with two exceptions that `exact=True` turns off: neighbouring warps of the user's list
become one matrix, and a flip before a resizing crop is done by the crop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.instructions import MATRIX_SIZE, Warp
from gpuaug.program import (
    BILINEAR,
    CONSTANT,
    NEAREST,
    NEAREST_EXACT,
    BySize,
    Erase,
    Finish,
    Instruction,
    Keys,
    Mix,
    Op,
    Program,
    Window,
)
from gpuaug.transforms.base import Canvas, Convert, Placement, Transform, repeated, whole_boxes

__all__ = ["Item", "ProgramBuilder", "same_warp"]

Array = NDArray[Any]
# a callable maps a canvas to a canvas: an opaque step, or fewer channels; a BySize can only be the first
Item = Program | Callable[[Tensor], Tensor] | BySize


class ProgramBuilder:
    """Builds the items of one batch. It is the `gpuaug.transforms.base.Builder` to which steps lower.

    canvas: Sizes and channels that the next step sees. floats: Whether pixels are floats there.
    """

    def __init__(self, keys: Keys, canvas: Canvas, exact: bool) -> None:
        self.keys, self.canvas, self.exact, self.floats = keys, canvas, exact, False
        self._sources = canvas
        self.items: list[Item] = []
        self._by_size: BySize | None = None
        self._converts: list[Convert] = []
        self._erases: list[Erase] = []
        self._mix: Mix | None = None
        self._late: list[Callable[[Tensor], Tensor]] = []  # functions of floats, after the last pass
        self._open()

    def _open(self) -> None:
        """Start a segment whose source is the unchanged canvas."""
        # None: all of the image, at its size, from its first pixel, not mirrored
        self._box: Array | None = None
        self._resized: Array | None = None
        self._start: Array | None = None
        self._flip: Array | None = None
        self._sizes = self.canvas.sizes  # of the segment's source
        self._scaled = self._cut = self._padded = self._touched = self._turned = False
        self._interpolation, self._antialias, self._padding_mode = BILINEAR, True, CONSTANT
        self._fill: Array | None = None
        self._least = (1, 1)
        self._instructions: list[Instruction] = []
        self._composable = False

    def _close(self, finish: Finish | None = None) -> None:
        """End the segment. A segment that does nothing is left out, unless it has a finish."""
        if self.canvas.several and finish is None:
            self._close_by_size()
        else:
            size = self.canvas.size("Augment")
            # the first reads the source, and the one after a BySize a packed batch
            packed = not self.items or isinstance(self.items[-1], BySize)
            window = self._window(size) if self._touched or packed else None
            if window is not None or self._instructions or finish is not None:
                self.items.append(Program(self.keys, self._channels, window, self._instructions, finish))
        self._open()

    @property
    def _channels(self) -> int:
        """Channels of the pixels that the programs run on."""
        return self.canvas.channels

    def _window(self, size: tuple[int, int]) -> Window:
        """How the segment reads its source, which may be ragged."""
        zero = repeated(len(self._sizes), 0, 0)
        parts = (
            whole_boxes(self._sizes) if self._box is None else self._box,
            self._sizes if self._resized is None else self._resized,
            zero if self._start is None else self._start,
            zero if self._flip is None else self._flip,
        )
        box, resized, start, flip = map(_words, parts)
        statics = (self._interpolation, self._antialias, self._padding_mode, self._fill)
        return Window(size, box, resized, start, flip, *statics, self._scaled, self._least, not self._touched)

    def _close_by_size(self) -> None:
        """End a segment whose canvases differ in size: each size of the source gets a separate program."""
        if self._by_size is None:
            every = np.arange(len(self._sources))
            self._by_size = BySize([(every[rows], []) for rows, _ in self._sources.groups], self.canvas.sizes, 0)
            self.items.append(self._by_size)
        self._by_size.parts = self._of_one_size(self._by_size.parts)
        window = self._window((0, 0))
        for rows, items in self._by_size.parts:
            height, width = self.canvas.sizes[rows[0]].tolist()
            part = window.take(rows, (height, width)) if self._touched or not items else None
            if part is not None or self._instructions:
                instructions = [instruction.take(rows) for instruction in self._instructions]
                items.append(Program(self.keys.take(rows), self._channels, part, instructions))
        self._by_size.sizes, self._by_size.channels = self.canvas.sizes, self._channels

    def _of_one_size(self, parts: list[tuple[Array, list[Any]]]) -> list[tuple[Array, list[Any]]]:
        """The parts of a BySize, split further where draws gave the images of a part different sizes."""
        found: list[tuple[Array, list[Any]]] = []
        for rows, items in parts:
            groups = Canvas(self.canvas.sizes[rows], 1).groups
            if len(groups) == 1:
                found.append((rows, items))
                continue
            for group, _ in groups:
                taken = [item.take(group) if isinstance(item, Program) else item for item in items]
                found.append((rows[group], taken))
        return found

    def window(self, placement: Placement) -> None:
        """Crop, pad or resize, in the same read of the source where that is exact."""
        if self._instructions or not self._joins(placement):
            self._close()
        self._touched = True
        start = self._mirrored(placement.start, placement.size, placement.resized)
        if placement.may_resample:
            self._box = self._in_source(placement.box)
            self._resized, self._start = placement.resized, start
            self._interpolation, self._antialias = placement.interpolation, placement.antialias
            self._scaled = True
            least = _least(placement.resized) if placement.min_resized is None else placement.min_resized
            self._least = int(least[0]), int(least[1])
            self._cut = placement.may_crop
        else:
            self._start = start if self._start is None else self._start + start  # its box is all of the canvas
            self._cut = True
            if placement.may_pad:
                self._padded, self._padding_mode, self._fill = True, placement.padding_mode, placement.fill
        self.canvas = Canvas(placement.size, self.canvas.channels)
        if placement.kinds is not None:
            self._split(placement.kinds)

    def _split(self, kinds: Array) -> None:
        """End the segment after a window whose samples differ in interpolation: each one gets a separate program."""
        assert not self.items, "checked by check_order"
        window, every = self._window(self.canvas.size("Augment")), np.arange(len(kinds))
        parts: list[tuple[Array, list[Any]]] = []
        for kind in np.unique(kinds).tolist():
            rows = every[kinds == kind]
            part = replace(window, interpolation=kind).take(rows, window.size)
            parts.append((rows, [Program(self.keys.take(rows), self._channels, part, [])]))
        self.items.append(BySize(parts, self.canvas.sizes, self._channels))
        self._open()

    def _in_source(self, box: Array) -> Array:
        """A box of the canvas as a box of the source, which was not resampled yet."""
        if self._start is None and self._flip is None:
            return box
        top_left = self._mirrored(box[:, :2], box[:, 2:], self.canvas.sizes)
        top_left = top_left if self._start is None else self._start + top_left
        return np.concatenate([top_left, box[:, 2:]], axis=1)

    def _mirrored(self, start: Array, length: Array, whole: Array) -> Array:
        """`start` in the direction of the source: a mirrored image is read from the other end."""
        if self._flip is None:
            return start
        return np.where(self._flip[:, ::-1], whole - start - length, start)  # flip is (horizontal, vertical)

    def _joins(self, placement: Placement) -> bool:
        if placement.may_resample:
            # a mirrored image resampled is the resampled image mirrored, but nearest breaks ties by direction
            turned = self._turned and (self.exact or placement.interpolation in (NEAREST, NEAREST_EXACT))
            return not self._scaled and not self._padded and not turned
        return not placement.may_pad or not (self._cut or self._padded)

    def instructions(self, instructions: list[Instruction], composable: bool = False) -> None:
        """Run instructions on the canvas. The window does a flip that comes first; a warp may join the one before."""
        for instruction in instructions:
            if not self._instructions and instruction.possible <= {Op.IDENTITY, Op.FLIP}:
                flips = (instruction.opcode == Op.FLIP)[:, None] & (instruction.operands[:, :2] != 0)
                self._flip = flips if self._flip is None else self._flip ^ flips
                self._turned = self._turned or Op.FLIP in instruction.possible
                self._touched = self._touched or self._turned
                continue
            if composable and self._composable and not self.exact and same_warp(self._instructions[-1], instruction):
                self._instructions[-1] = compose(self._instructions[-1], instruction)
            else:
                self._instructions.append(instruction)
            self._composable = composable

    def call(self, function: Callable[[Tensor], Tensor], canvas: Canvas) -> None:
        """Run a function on the batch's canvas, which has the shape `canvas` after it; floats: after the last pass."""
        if self.floats:
            self._late.append(function)
            return
        self._close()
        if self.canvas.several:
            assert self._by_size is not None  # the segment before it was closed
            for _, items in self._by_size.parts:
                items.append(function)
            self._by_size.channels = canvas.channels
        else:
            self.items.append(function)
        self.canvas = canvas
        self._open()

    def convert(self, step: Convert) -> None:
        """Convert levels to floats in the table of the last pass, and the values of erases before it."""
        self._converts.append(step)
        self.floats = self.floats or step.makes_floats
        for erase in self._erases:
            step.convert_erased(erase)

    def erase(self, erase: Erase) -> None:
        """Erase boxes of floats, in the last pass."""
        self._erases.append(erase)

    def mix(self, mix: Mix) -> None:
        """Mix the samples, in the last pass."""
        self._mix = mix

    def check_targets(self, step: Transform) -> None:
        """Nothing: the step is for boxes."""

    def finish(
        self, dtype: torch.dtype, memory_format: torch.memory_format, tables: dict[int, Array | None]
    ) -> list[Item]:
        """All items; the last Program has a `finish`. `tables` caches the list's tables by number of channels."""
        channels = self._channels
        if channels not in tables:
            tables[channels] = level_table(self._converts, channels)
        if self._late:  # they work on float32
            self._close(Finish(torch.float32, torch.contiguous_format, tables[channels], self._erases, self._mix))
            return [*self.items, *self._late, partial(_cast, dtype=dtype, memory_format=memory_format)]
        self._close(Finish(dtype, memory_format, tables[channels], self._erases, self._mix))
        return self.items


def _cast(values: Tensor, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    return values.to(dtype).contiguous(memory_format=memory_format)


def level_table(converts: Sequence[Convert], channels: int) -> Array | None:
    """(C, 256) float32: each level after the conversions, computed by torchvision's functions; None: stays uint8."""
    levels = torch.arange(256, dtype=torch.uint8, device="cpu").expand(channels, 1, 256)
    for step in converts:
        levels = step.convert(levels)
    return np.ascontiguousarray(levels[:, 0].numpy()) if levels.is_floating_point() else None


def _words(part: Array) -> Array:
    """(B, n) int32 in its own memory; for a repeated row, an array that all calls share and none writes to."""
    if part.strides[0] == 0:
        return _repeated_words(len(part), tuple(part[0].tolist()))
    return np.ascontiguousarray(part, np.int32)


@lru_cache(maxsize=256)
def _repeated_words(count: int, row: tuple[int, ...]) -> Array:
    # not marked read-only: Numba would compile its kernels again for read-only arrays
    return np.ascontiguousarray(repeated(count, *row), np.int32)


def _least(sizes: Array) -> Array:
    return sizes[0] if sizes.strides[0] == 0 else sizes.min(axis=0)


def same_warp(first: Instruction, second: Instruction) -> bool:
    """True if both resample in the same way: same interpolation, and same fill or none."""
    assert first.fill is not None
    assert second.fill is not None
    how = slice(Warp.INTERPOLATION, Warp.HAS_FILL + 1)
    alike = (first.operands[:, how] == second.operands[:, how]).all()
    return bool(alike and (first.fill == second.fill).all())


def compose(first: Instruction, second: Instruction) -> Instruction:
    """One warp that does `first`, then `second`: its inverse pulls through the second, then through the first."""
    matrices = []
    for instruction in (first, second):
        matrix = instruction.operands[:, Warp.MATRIX : MATRIX_SIZE].astype(np.float64).reshape(-1, 3, 3)
        matrices.append(np.where((instruction.opcode == Op.WARP)[:, None, None], matrix, np.eye(3)))
    operands = np.maximum(first.operands, second.operands)  # interpolation and fill are the same, projective is either
    operands[:, Warp.MATRIX : MATRIX_SIZE] = (matrices[0] @ matrices[1]).reshape(-1, MATRIX_SIZE)
    return Instruction(
        first.possible | second.possible, np.maximum(first.opcode, second.opcode), operands, fill=first.fill
    )
