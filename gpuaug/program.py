"""The program: what `lower` writes and `render` reads. One table row per sample, nothing random, nothing on a device.

A pipeline becomes a list of *segments*. A segment is one resample of the source (`Window`), a few *instructions*,
and the last segment ends in a `Finish`. An `Instruction` holds one for each sample, so neighbours in the batch may run
different instructions at the same place: that is how RandAugment, RandomChoice and the `p` gates stay batched.

Between passes a pixel is uint8 and the canvas is planar: (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpuaug.instructions import (
    BICUBIC,
    BILINEAR,
    CIRCULAR,
    CONSTANT,
    EDGE,
    NEAREST,
    NEAREST_EXACT,
    OPERANDS,
    REFLECT,
    SYMMETRIC,
    Feature,
    Op,
)
from gpuaug.philox import LOOK, NUMBERS, fold

__all__ = [
    "BICUBIC", "BILINEAR", "CIRCULAR", "CONSTANT", "EDGE", "NEAREST", "NEAREST_EXACT", "OPERANDS", "REFLECT",
    "SYMMETRIC", "VIEW", "Alike", "BySize", "Erase", "Feature", "Finish", "Instruction", "Keys",
    "ListedInstruction", "Mix", "Op", "Program", "Window", "merge",
]  # fmt: skip

Array = NDArray[Any]

VIEW = 0xFFFF  # the bits of `Keys.view` that number the views of a call; those above number copies of a module


@dataclass
class Instruction:
    """One instruction per sample: opcode (B,) int32, operands (B, OPERANDS) float32, and what else its opcodes need.

    possible: The opcodes that any draw could put here, and features (`Feature`). What a backend launches follows from
    this, never from the opcodes that were drawn. fill: (B, C) float32 levels. table: (B, 256) uint8. kernel: (B, n)
    int16, fixed point: `Q14` means 1.
    """

    possible: frozenset[int]
    opcode: Array
    operands: Array
    fill: Array | None = None
    table: Array | None = None
    kernel: Array | None = None

    @property
    def has_table(self) -> bool:
        return self.table is not None

    @classmethod
    def of(cls, opcode: int, size: int, *operands: Any, **extra: Array) -> Instruction:
        """An instruction where every sample runs `opcode`; each operand is a number or a (B,) array."""
        values = np.zeros((size, OPERANDS), np.float32)
        for column, operand in enumerate(operands):
            values[:, column] = operand
        return cls(frozenset({opcode}), np.full(size, opcode, np.int32), values, **extra)

    def take(self, rows: Array) -> Instruction:
        """The instruction of some of the samples."""
        extra = (None if array is None else array[rows] for array in (self.fill, self.table, self.kernel))
        return Instruction(self.possible, self.opcode[rows], self.operands[rows], *extra)

    def where(self, applied: Array) -> Instruction:
        """The same instruction, IDENTITY for the samples that are not `applied` (B,)."""
        opcode = np.where(applied, self.opcode, np.int32(Op.IDENTITY))
        return Instruction(self.possible | {Op.IDENTITY}, opcode, self.operands, self.fill, self.table, self.kernel)


class ListedInstruction(Instruction):
    """Instructions taken from a list: sample b runs instruction `chosen[b]` of `listed`.

    A policy has few different instructions, so they are computed once, and a call only selects. The arrays are made
    when they are first read.
    """

    def __init__(self, listed: Instruction, chosen: Array, words: Array | None = None) -> None:
        """`words` (n, instruction_words) int32: each instruction of the list as it is stored in a parameter block."""
        self.possible, self.listed, self.chosen, self.words = listed.possible, listed, chosen, words

    @property
    def has_table(self) -> bool:
        return self.listed.table is not None

    @cached_property
    def opcode(self) -> Array:  # type: ignore[override]
        return self.listed.opcode[self.chosen]

    @cached_property
    def operands(self) -> Array:  # type: ignore[override]
        return self.listed.operands[self.chosen]

    @cached_property
    def fill(self) -> Array | None:  # type: ignore[override]
        return None if self.listed.fill is None else self.listed.fill[self.chosen]

    @cached_property
    def table(self) -> Array | None:  # type: ignore[override]
        return None if self.listed.table is None else self.listed.table[self.chosen]


def _pad(array: Array, width: int) -> Array:
    return array if array.shape[1] == width else np.pad(array, ((0, 0), (0, width - array.shape[1])))


def merge(choices: Sequence[Instruction], chosen: Array) -> Instruction:
    """One instruction that runs `choices[chosen[b]]` for sample b; out of range is IDENTITY."""
    size = len(chosen)
    possible = frozenset({Op.IDENTITY}).union(*(choice.possible for choice in choices))
    instruction = Instruction(possible, np.zeros(size, np.int32), np.zeros((size, OPERANDS), np.float32))
    for name in ("fill", "table", "kernel"):
        arrays = [array for choice in choices if (array := getattr(choice, name)) is not None]
        if arrays:
            setattr(instruction, name, np.zeros((size, max(a.shape[1] for a in arrays)), arrays[0].dtype))
    for number, choice in enumerate(choices):
        rows = np.flatnonzero(chosen == number)
        instruction.opcode[rows] = choice.opcode[rows]
        instruction.operands[rows] = choice.operands[rows]
        for name in ("fill", "table", "kernel"):
            source, target = getattr(choice, name), getattr(instruction, name)
            if source is not None:
                target[rows, : source.shape[1]] = source[rows]
    return instruction


@dataclass
class Window:
    """How a segment reads its source: resample a box, take a window of the result, mirror it.

    `box` (B, 4) int32 (top, left, height, width), inside the image, is resampled to `resized` (B, 2). The canvas is
    the part of the result that starts at `start` (B, 2); it may reach outside (padding). It is then mirrored where
    `flip` (B, 2) int32 (horizontal, vertical) is not 0. `size` is the canvas (H, W), the same for every sample.

    `may_resample`, `min_resized` and `is_identity` follow from the list and the shapes, not from the draw: whether
    any draw may resample, the smallest size (height, width) that any draw resamples to, and whether every draw shows
    the source unchanged.
    """

    size: tuple[int, int]
    box: Array
    resized: Array
    start: Array
    flip: Array
    interpolation: int = BILINEAR
    antialias: bool = True
    padding_mode: int = CONSTANT
    fill: Array | None = None  # (C,) uint8
    may_resample: bool = True
    min_resized: tuple[int, int] = (1, 1)
    is_identity: bool = False

    def take(self, rows: Array, size: tuple[int, int]) -> Window:
        """The windows of some of the samples, whose canvas has this size."""
        box, resized, start, flip = (part[rows] for part in (self.box, self.resized, self.start, self.flip))
        return replace(self, size=size, box=box, resized=resized, start=start, flip=flip)

    def shows_all(self, source: tuple[int, int]) -> bool:
        """True if every sample shows a source of this size unchanged: not cut, resampled, padded, moved or mirrored."""
        if source != tuple(self.size):  # otherwise a box at (0, 0) of the canvas' size would count as the whole image
            return False
        moved = self.flip.any() or self.start.any() or self.box[:, :2].any()
        return not moved and bool(np.all(self.box[:, 2:] == self.size) and np.all(self.resized == self.size))


@dataclass
class Erase:
    """Boxes to erase in `finish`: box (B, 4) int32 (top, left, height, width); a box of size 0 erases nothing.

    The value of channel c is `shift[c]`, plus `scale[c]` times a standard normal drawn per pixel from `op`'s stream.
    """

    box: Array
    shift: Array  # (C,) float32
    scale: Array  # (C,) float32, zero for a constant
    op: int


@dataclass
class Mix:
    """Which sample to mix in: partner (B,) int64; `weight` (B,) float64 of the own pixels outside `box` (B, 4).

    Inside `box` (top, left, height, width) the pixels are the partner's. `share` (B,) float64 is the weight of the own
    label. `smoothing`: the part of every mixed label that is spread over all classes.
    """

    partner: Array
    weight: Array
    box: Array
    share: Array
    smoothing: float = 0.0


@dataclass
class Finish:
    """The last pass: table, erase, mix, cast, layout. `table` is (C, 256) float32; None keeps uint8 levels."""

    dtype: torch.dtype = torch.uint8
    memory_format: torch.memory_format = torch.contiguous_format
    table: Array | None = None
    erases: list[Erase] = field(default_factory=list)
    mix: Mix | None = None

    @property
    def copies(self) -> bool:
        """True if the result is the unchanged canvas."""
        plain = self.dtype == torch.uint8 and self.memory_format == torch.contiguous_format
        return plain and not self.erases and self.mix is None


@dataclass
class Keys:
    """The keys of a batch's draws; see docs/draws.md.

    seed, view, epoch: The same for the whole batch. stream: Further words of 64 bits that distinguish batches, for
    example by the process that counts samples which have no number in a data set. index: (B,) uint64 below 2**48, the
    number of each sample in the data set. look: (B,) uint32, the number of the look at the image: the sampler's count
    in the low 15 bits, the module's above them. None: taken from bits 48 to 62 of the index.
    """

    seed: int
    epoch: int
    index: Array
    look: Array = None  # type: ignore[assignment]
    view: int = 0
    stream: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.look is None:
            self.look = (self.index >> np.uint64(LOOK)).astype(np.uint32)
            self.index = self.index & np.uint64(NUMBERS)

    @property
    def key(self) -> int:
        """Philox's key, 64 bits, the same for every sample of the batch."""
        return fold(self.seed, self.epoch | self.view << 32, *self.stream)

    def take(self, rows: Array) -> Keys:
        """The keys of some of the samples."""
        return replace(self, index=self.index[rows], look=self.look[rows])


class Alike:
    """A list of steps and the shape of its batch. Programs with the same object differ only in their draws.

    straight: Function that returns (op, Straight) for each step that draws, in order; None if only `sample` can draw
    the list. plans: What a backend keeps for later calls.
    """

    def __init__(self, straight: Callable[[], list[tuple[int, Any]] | None]) -> None:
        self.straight = straight
        self.plans: dict[Any, Any] = {}


@dataclass
class Program:
    """One segment, lowered: `window` (None: the source is the canvas), `instructions`, and `finish` for the last one.

    `alike` is set on the first program of a call only, and None if images differ in size.
    """

    keys: Keys
    channels: int
    window: Window | None
    instructions: list[Instruction]
    finish: Finish | None = None
    alike: Alike | None = None

    def take(self, rows: Array) -> Program:
        """The program of some of the samples, without a finish."""
        window = None if self.window is None else self.window.take(rows, self.window.size)
        return Program(self.keys.take(rows), self.channels, window, [each.take(rows) for each in self.instructions])

    def uses(self, *opcodes: int) -> bool:
        """True if any instruction of any sample runs one of `opcodes`."""
        return any(bool(np.isin(instruction.opcode, opcodes).any()) for instruction in self.instructions)


@dataclass
class BySize:
    """What runs while the images differ in size: separate items for the images of each size.

    parts: For each size, the rows (n,) of its images and their items, of which the first reads the source. sizes
    (B, 2), channels: Sizes and channels of the resulting images.
    """

    parts: list[tuple[Array, list[Any]]]
    sizes: Array
    channels: int
