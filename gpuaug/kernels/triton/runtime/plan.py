"""The launches of a program: which instructions run together, and the layout of its parameters in the block.

Both depend on the static parts of the program (`Instruction.possible`, `Window.may_resample`, shapes) and never on
a draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.instructions import (
    ERASE_WORDS,
    FILL_AT,
    KEY_WORDS,
    MIX_WORDS,
    OPCODE_AT,
    OPERANDS_AT,
    RAGGED_WORDS,
    WINDOW_WORDS,
    Feature,
    KeyWord,
    MixWord,
    Op,
    WindowWord,
    bits,
    instruction_words,
    table_at,
)
from gpuaug.kernels.triton.runtime.launch import Block, Room
from gpuaug.program import Finish, Instruction, Keys, ListedInstruction, Program, Window
from gpuaug.ragged import Ragged

__all__ = ["Layout", "Params", "Run", "lay_out", "runs", "write", "write_keys"]

Array = NDArray[Any]

GATHERS = frozenset({Op.WARP, Op.FLIP, Op.SHARPNESS, Op.CONVOLVE})
FILTERS = frozenset({Op.BLUR, Op.JPEG, Op.ELASTIC})
WINDOW_STATICS = ("size", "interpolation", "antialias", "padding_mode", "may_resample", "min_resized", "is_identity")
STATISTICS = frozenset({Op.CONTRAST, Op.AUTOCONTRAST, Op.EQUALIZE})
BRANCHES = frozenset({Op.BRANCH, Op.JOIN})


@dataclass(frozen=True)
class Params:
    """The block of a call on its device, with the start and the length of its rows, in words."""

    block: Tensor
    rows_at: int
    row_words: int

    @property
    def arguments(self) -> tuple[Tensor, int, int]:
        return self.block, self.rows_at, self.row_words


@dataclass(frozen=True)
class Run:
    """Instructions that one launch evaluates: the first may read neighbours, the others are point instructions.

    `filters` (BLUR, JPEG, ELASTIC) run before it for the samples whose first instruction is one of them.
    """

    first: int
    possible: frozenset[int] = frozenset()
    count: int = 0
    filters: tuple[int, ...] = ()

    @cached_property
    def mask(self) -> int:
        """`possible` as bits. The kernels are compiled without the code for other instructions."""
        return bits(self.possible - FILTERS - {Op.IDENTITY})

    @cached_property
    def has_statistics(self) -> bool:
        return bool(self.possible & STATISTICS)

    @cached_property
    def tile(self) -> str:
        """Key of `launch.TILES`: the more neighbours a pixel may need, the fewer pixels fit into its registers."""
        if Feature.BICUBIC in self.possible:
            return "bicubic"
        return "floats" if Feature.BILINEAR in self.possible else "levels"

    @cached_property
    def statistics_tile(self) -> str:
        """Key for `statistics`, which also needs registers for its statistics."""
        heavy = self.tile != "levels" or (self.count > 1 and self.possible & GATHERS)
        return "statistics floats" if heavy else "statistics"

    @cached_property
    def pure(self) -> bool:
        """True if the run may be evaluated more than once."""
        return not self.possible & BRANCHES


@lru_cache(maxsize=256)
def runs(possible: tuple[frozenset[int], ...], channels: int) -> tuple[Run, ...]:
    """Split instructions, given by their `possible`, into runs: at least one; the last may be empty."""
    gathers = GATHERS if channels == 3 else GATHERS | {Op.PERMUTE}
    found = [Run(0)]
    for number, kinds in enumerate(possible):
        run = found[-1]
        filters = tuple(sorted(kinds & FILTERS))
        barrier = filters or kinds & gathers or (kinds & STATISTICS and not run.pure)
        if barrier and run.count:
            run = Run(number)
            found.append(run)
        found[-1] = Run(run.first, run.possible | kinds, run.count + 1, run.filters + filters)
    return tuple(found)


@dataclass
class Layout:
    """Positions of a program's parameters. `*_at`: words from the start of a row; for the first three, of the block."""

    program: Program
    runs: tuple[Run, ...]
    fill_at: int = 0
    table_at: int = 0
    erases: int = 0
    window_at: int = 0
    instructions_at: int = 0
    stride: int = 0
    weights_at: dict[int, int] = field(default_factory=dict)
    erases_at: int = 0
    mix_at: int = 0

    def instructions(self, run: Run) -> tuple[int, int, int]:
        """Position of the instructions of a run, their distance, and the position of the weights of the first one."""
        return self.instructions_at + run.first * self.stride, self.stride, self.weights_at.get(run.first, 0)

    @property
    def signature(self) -> tuple[Any, ...]:
        """Everything that determines the launches and their arguments; the same for every draw."""
        window, finish = self.program.window, self.program.finish
        crop = None if window is None else [getattr(window, name) for name in WINDOW_STATICS]
        end = None if finish is None else (finish.dtype, finish.memory_format, self.random, len(finish.erases))
        places = [getattr(self, name) for name in vars(self) if name.endswith("_at") or name in ("erases", "stride")]
        return crop, end, places, [(run.first, run.count, run.mask, run.filters) for run in self.runs]

    @property
    def random(self) -> int:
        """Bits of the erases that draw their values."""
        assert self.program.finish is not None
        erases = self.program.finish.erases
        return sum(1 << e for e, erase in enumerate(erases) if erase.scale.any()) if erases else 0


def lay_out(program: Program, room: Room, ragged: bool) -> Layout:
    """Reserve words for the parameters of a program. `ragged`: rows also hold the offset and width of their image."""
    instructions, channels, finish = program.instructions, program.channels, program.finish
    layout = Layout(program, runs(tuple([instruction.possible for instruction in instructions]), channels))
    if program.window is not None:
        layout.fill_at = room.head(channels)
        layout.window_at = room.row(RAGGED_WORDS if ragged else WINDOW_WORDS)
    layout.instructions_at = room.row_words
    layout.stride = instruction_words(channels, any(instruction.has_table for instruction in instructions))
    room.row(len(instructions) * layout.stride)
    for number, instruction in enumerate(instructions):
        if instruction.kernel is not None:
            layout.weights_at[number] = room.row(-(-instruction.kernel.shape[1] // 2))
    if finish is not None:
        if finish.table is not None:
            layout.table_at = room.head(finish.table.size)
        layout.erases = room.head(len(finish.erases) * (1 + 2 * channels))
        layout.erases_at = room.row(ERASE_WORDS * len(finish.erases))
        if finish.mix is not None:
            layout.mix_at = room.row(MIX_WORDS)
    return layout


def write_keys(keys: Keys, block: Block) -> None:
    """Write the keys of the draws of each pixel, at the start of each row."""
    key, rows = keys.key, block.rows
    rows[:, KeyWord.KEY_LOW : KeyWord.LOOK] = np.array([key & 0xFFFFFFFF, key >> 32], np.uint32).view(np.int32)
    rows[:, KeyWord.LOOK] = keys.look.view(np.int32)
    rows[:, KeyWord.INDEX_LOW : KEY_WORDS] = _halves(keys.index)


def _halves(numbers: Array) -> Array:
    """Split (B,) numbers of 64 bits into low and high words, (B, 2) int32."""
    return np.ascontiguousarray(numbers).view(np.int32).reshape(-1, 2)


def write(layout: Layout, program: Program, block: Block, source: Tensor | Ragged | None) -> None:
    """Write the parameters of a program as `layout` says. `source`: None if another program makes it."""
    if program.window is not None:
        _write_window(program.window, layout, block, source)
    for number, instruction in enumerate(program.instructions):
        _write_instruction(instruction, number, layout, block)
    if program.finish is not None:
        _write_finish(program.finish, layout, block)


def _write_window(window: Window, layout: Layout, block: Block, source: Tensor | Ragged | None) -> None:
    block.head[layout.fill_at : layout.fill_at + layout.program.channels] = 0 if window.fill is None else window.fill
    row = block.rows[:, layout.window_at :]
    row[:, WindowWord.BOX : WindowWord.RESIZED] = window.box
    row[:, WindowWord.RESIZED : WindowWord.START] = window.resized
    row[:, WindowWord.START : WindowWord.FLIP] = window.start
    row[:, WindowWord.FLIP : WindowWord.OFFSET] = window.flip
    if isinstance(source, Ragged):
        row[:, WindowWord.OFFSET : WindowWord.SOURCE_WIDTH] = _halves(source.corners)
        row[:, WindowWord.SOURCE_WIDTH] = source.sizes[:, 1]


def _write_instruction(instruction: Instruction, number: int, layout: Layout, block: Block) -> None:
    """Write opcode, operands, fill and table; in another place the weights of a filter."""
    at, rows, channels = layout.instructions_at + number * layout.stride, block.rows, layout.program.channels
    end = at + layout.stride
    if isinstance(instruction, ListedInstruction) and instruction.words is not None:
        rows[:, at:end] = instruction.words[instruction.chosen]
        return
    row, floats = rows[:, at:end], block.row_floats[:, at:end]
    row[:, OPCODE_AT] = instruction.opcode
    floats[:, OPERANDS_AT:FILL_AT] = instruction.operands
    floats[:, FILL_AT : table_at(channels)] = 0 if instruction.fill is None else instruction.fill
    table = None if instruction.table is None else np.ascontiguousarray(instruction.table).view(np.int32)
    row[:, table_at(channels) :] = 0 if table is None else table
    if instruction.kernel is not None:
        count, at = instruction.kernel.shape[1], layout.weights_at[number]
        halves = np.zeros((len(rows), count + count % 2), np.int16)
        halves[:, :count] = instruction.kernel
        rows[:, at : at + halves.shape[1] // 2] = halves.view(np.int32)


def _write_finish(finish: Finish, layout: Layout, block: Block) -> None:
    channels, rows, floats = layout.program.channels, block.rows, block.row_floats
    if finish.table is not None:
        block.head_floats[layout.table_at : layout.table_at + finish.table.size] = finish.table.reshape(-1)
    for number, erase in enumerate(finish.erases):
        head = layout.erases + number * (1 + 2 * channels)
        block.head[head] = erase.op
        block.head_floats[head + 1 : head + 1 + channels] = erase.shift
        block.head_floats[head + 1 + channels : head + 1 + 2 * channels] = erase.scale
        rows[:, layout.erases_at + ERASE_WORDS * number :][:, :ERASE_WORDS] = erase.box
    if finish.mix is not None:
        mix, row = finish.mix, rows[:, layout.mix_at :]
        row[:, MixWord.PARTNER] = mix.partner
        row[:, MixWord.BOX : MixWord.SHARE] = mix.box
        row[:, MixWord.SHARE : MIX_WORDS] = _halves(np.asarray(mix.share, np.float64))
        floats[:, layout.mix_at + MixWord.WEIGHT] = mix.weight
        floats[:, layout.mix_at + MixWord.REST] = 1.0 - mix.weight
