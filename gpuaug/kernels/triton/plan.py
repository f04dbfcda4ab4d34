"""From a program to launches: which slots run together, and where its parameters lie in the block.

Both follow from the static parts of the program (`Slot.may`, `Window.scales`, shapes) and never from a draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.kernels.triton.launch import Block
from gpuaug.program import Keys, May, Op, Program, Slot
from gpuaug.ragged import Ragged

__all__ = ["Layout", "Params", "Run", "lay_out", "runs"]

Array = NDArray[Any]

GATHERS = frozenset({Op.WARP, Op.FLIP, Op.SHARPNESS, Op.CONVOLVE})
FILTERS = frozenset({Op.BLUR, Op.JPEG})
STATISTICS = frozenset({Op.CONTRAST, Op.AUTOCONTRAST, Op.EQUALIZE})
BRANCHES = frozenset({Op.BRANCH, Op.JOIN})


@dataclass(frozen=True)
class Params:
    """The block of a call on its device, and where its rows begin and how long they are, in words."""

    block: Tensor
    rows_at: int
    row_words: int

    @property
    def arguments(self) -> tuple[Tensor, int, int]:
        return self.block, self.rows_at, self.row_words


@dataclass
class Run:
    """Slots that one launch evaluates: the first may look at neighbours, the others are point instructions.

    `filters` (BLUR, JPEG) are done before it, in place, for the samples whose first instruction is one.
    """

    first: int
    may: frozenset[int] = frozenset()
    count: int = 0
    filters: list[int] = field(default_factory=list)

    @property
    def mask(self) -> int:
        """`may` as bits, for the kernels to leave out what cannot occur."""
        return sum(1 << kind for kind in self.may - FILTERS - {Op.IDENTITY})

    @property
    def tones(self) -> bool:
        return bool(self.may & STATISTICS)

    @property
    def tile(self) -> str:
        """Of `launch.TILES`: the more neighbours a pixel may need, the fewer pixels a thread has registers for."""
        return "bicubic" if May.BICUBIC in self.may else "floats" if May.BILINEAR in self.may else "levels"

    @property
    def tone_tile(self) -> str:
        """The same for `tone`, which keeps statistics beside what it evaluates."""
        heavy = self.tile != "levels" or (self.count > 1 and self.may & GATHERS)
        return "tone floats" if heavy else "tone"

    @property
    def pure(self) -> bool:
        """True if it may be evaluated more than once."""
        return not self.may & BRANCHES


def runs(slots: list[Slot], channels: int) -> list[Run]:
    """At least one; the last may be empty."""
    gathers = GATHERS if channels == 3 else GATHERS | {Op.PERMUTE}
    found = [Run(0)]
    for number, slot in enumerate(slots):
        run = found[-1]
        filters = sorted(slot.may & FILTERS)
        barrier = filters or slot.may & gathers or (slot.may & STATISTICS and not run.pure)
        if barrier and run.count:
            run = Run(number)
            found.append(run)
        run.filters += filters
        run.may |= slot.may
        run.count += 1
    return found


@dataclass
class Layout:
    """Where a program's parameters lie. `*_at` are words from the start of a row, of the block for the first three."""

    program: Program
    runs: list[Run]
    fill_at: int = 0
    table_at: int = 0
    erases: int = 0
    window_at: int = 0
    slots_at: int = 0
    stride: int = 0
    weights_at: dict[int, int] = field(default_factory=dict)
    erases_at: int = 0
    mix_at: int = 0

    def slots(self, run: Run) -> tuple[int, int, int]:
        """Where the slots of a run begin, how far they lie apart, and where the weights of its first one are."""
        return self.slots_at + run.first * self.stride, self.stride, self.weights_at.get(run.first, 0)

    @property
    def signature(self) -> tuple[Any, ...]:
        """All that decides what is launched with which numbers; equal for every draw."""
        window, finish = self.program.window, self.program.finish
        names = ("size", "interpolation", "antialias", "padding_mode", "scales", "least", "whole")
        crop = [getattr(window, name, None) for name in names]
        end = None if finish is None else (finish.dtype, finish.memory_format, self.random, len(finish.erases))
        places = [getattr(self, name) for name in vars(self) if name.endswith("_at") or name in ("erases", "stride")]
        return crop, end, places, [(run.first, run.count, run.mask, run.filters) for run in self.runs]

    @property
    def random(self) -> int:
        """Which erases draw their values, as bits."""
        assert self.program.finish is not None
        return sum(1 << e for e, erase in enumerate(self.program.finish.erases) if erase.scale.any())


def keys(values: Keys) -> Array:
    """(B, 5) uint32, the start of a row: seed low, high, epoch, index low, high."""
    seed = np.broadcast_to(
        np.array([values.seed & 0xFFFFFFFF, values.seed >> 32, values.epoch], np.uint32), (len(values.index), 3)
    )
    return np.concatenate([seed, values.index.astype("<u8").view(np.uint32).reshape(-1, 2)], axis=1)


def lay_out(program: Program, block: Block, source: Tensor | Ragged | None) -> Layout:
    """Put a program's parameters into the block. `source` is None if a program before it makes it."""
    layout = Layout(program, runs(program.slots, program.channels))
    channels, window, finish = program.channels, program.window, program.finish
    if window is not None:
        fill = np.zeros(channels, np.int32) if window.fill is None else window.fill.astype(np.int32)
        layout.fill_at = block.head(fill)
        parts = [window.box, window.resized, window.start, window.flip]
        if isinstance(source, Ragged):
            parts += [source.offsets.view(np.int32).reshape(-1, 2), source.sizes[:, 1:]]
        layout.window_at = block.column(np.concatenate(parts, axis=1, dtype=np.int32))
    _lay_out_slots(layout, program.slots, channels, block)
    if finish is not None:
        if finish.table is not None:
            layout.table_at = block.head(finish.table.astype(np.float32))
        layout.erases = block.head_words
        for erase in finish.erases:
            block.head(np.array([erase.op], np.int32))
            block.head(np.broadcast_to(erase.shift, channels).astype(np.float32))
            block.head(np.broadcast_to(erase.scale, channels).astype(np.float32))
        layout.erases_at = block.row_words
        for erase in finish.erases:
            block.column(erase.box.astype(np.int32))
        if finish.mix is not None:
            mix = finish.mix
            floats = np.stack([mix.weight, 1.0 - mix.weight, mix.share, 1.0 - mix.share], axis=1).astype(np.float32)
            words = floats.view(np.int32)
            columns = [mix.partner[:, None].astype(np.int32), words[:, :2], mix.box.astype(np.int32), words[:, 2:]]
            layout.mix_at = block.column(np.concatenate(columns, axis=1))
    return layout


def _lay_out_slots(layout: Layout, slots: list[Slot], channels: int, block: Block) -> None:
    size = block.size
    tables = any(slot.table is not None for slot in slots)
    layout.slots_at = block.row_words
    layout.stride = 1 + 16 + channels + (64 if tables else 0)
    words = np.zeros((size, len(slots), layout.stride), np.int32)
    for number, slot in enumerate(slots):
        own = words[:, number]
        own[:, 0] = slot.opcode
        own[:, 1:17] = slot.operands.view(np.int32)
        if slot.fill is not None:
            own[:, 17 : 17 + channels] = np.ascontiguousarray(slot.fill, np.float32).view(np.int32)
        if slot.table is not None:
            own[:, 17 + channels :] = np.ascontiguousarray(slot.table).view(np.int32)
    block.column(words)
    for number, slot in enumerate(slots):
        if slot.kernel is not None:
            weights = np.zeros((size, slot.kernel.shape[1] + slot.kernel.shape[1] % 2), np.int16)
            weights[:, : slot.kernel.shape[1]] = slot.kernel
            layout.weights_at[number] = block.column(weights)
