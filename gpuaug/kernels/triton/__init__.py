"""The CUDA backend: every pass is one launch for the whole batch, and all parameters of a call go up in one copy.

`Job` is the main flow: lay the programs out in a block, upload it, launch. What is launched follows from the programs'
static parts (`Slot.may`, `Window.scales`, shapes), never from a draw, so that a CUDA graph can replay it.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from gpuaug.kernels.triton.crop import crop
from gpuaug.kernels.triton.filter import blur
from gpuaug.kernels.triton.finish import finish
from gpuaug.kernels.triton.jpeg import jpeg
from gpuaug.kernels.triton.labels import labels
from gpuaug.kernels.triton.launch import Block, Room, upload
from gpuaug.kernels.triton.plan import KEYS, Layout, Params, Run, lay_out, write, write_keys
from gpuaug.kernels.triton.step import Branches, step
from gpuaug.kernels.triton.tone import tone
from gpuaug.program import Op, Program
from gpuaug.ragged import Ragged

__all__ = ["Job"]

LONGEST = 2**22  # pixels of a canvas side: `rint` is exact below
LARGEST = 2**31  # bytes of an image
MOST = 2**16 - 1  # images of a batch: the second axis of a CUDA grid


class Job:
    """The programs of one call: their parameters in host memory, then on the device, then the launches."""

    def __init__(self, programs: list[Program], source: Tensor | Ragged) -> None:
        _check(source, programs)
        self.device, self.size = source.device, len(programs[0].keys.index)
        room, self.layouts, words = self._pack(programs, source)
        with self._on_device():
            self.params = Params(upload(words, self.device), room.head_words, room.row_words)

    def _pack(self, programs: list[Program], source: Tensor | Ragged | None) -> tuple[Room, list[Layout], Tensor]:
        """Lay the programs out in one block of memory, and fill it."""
        room = Room()
        room.row(KEYS)
        layouts = [lay_out(program, room, not n and isinstance(source, Ragged)) for n, program in enumerate(programs)]
        block = Block(room, self.size, self.device)
        write_keys(programs[0].keys, block)
        for number, layout in enumerate(layouts):
            write(layout, block, None if number else source)
        return room, layouts, block.words

    def replace(self, programs: list[Program]) -> None:
        """Put another draw of the same list into the same block, for a graph that has its address."""
        room, layouts, words = self._pack(programs, None)
        alike = [layout.signature for layout in layouts] == [layout.signature for layout in self.layouts]
        if not alike or (room.head_words, room.row_words) != (self.params.rows_at, self.params.row_words):
            raise RuntimeError(
                "Augment: the list, its dtype, `exact` or `memory_format` changed after the capture. Capture once more."
            )
        with self._on_device():
            self.params.block.copy_(words, non_blocking=True)

    def run(self, number: int, source: Tensor | Ragged) -> Tensor:
        """Program `number`, on the canvas of what ran before it."""
        with self._on_device():
            return _run(self.layouts[number], self.params, source)

    def labels(self, given: Tensor, num_classes: int | None) -> Tensor:
        """Labels on this device, mixed as the last program mixes its samples."""
        with self._on_device():
            return labels(given, num_classes, self.layouts[-1], self.params)

    def _on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


def _run(layout: Layout, params: Params, source: Tensor | Ragged) -> Tensor:
    program = layout.program
    canvas = _canvas(layout, params, source)
    branches = Branches.of(canvas, any(Op.BRANCH in run.may for run in layout.runs))
    for run in layout.runs:
        canvas = _filtered(layout, run, params, canvas, source)
        luts = tone(canvas, layout, run, params)
        last = run is layout.runs[-1]
        if (
            last
            and program.finish is not None
            and not program.finish.copies
            and (run.pure or program.finish.mix is None)
        ):
            return finish(canvas, layout, run, params, luts, branches)
        if run.count:
            canvas = step(canvas, layout, run, params, luts, branches)
    if program.finish is None or program.finish.copies:
        return canvas.clone() if canvas is source else canvas  # never what the caller gave
    return finish(canvas, layout, Run(0), params, canvas, branches)


def _canvas(layout: Layout, params: Params, source: Tensor | Ragged) -> Tensor:
    """The canvas: cropped, or the source itself where every draw would show it as it is."""
    window = layout.program.window
    if isinstance(source, Tensor) and (window is None or (window.whole and source.is_contiguous())):
        return source.contiguous()
    assert window is not None
    return crop(source, layout, params)


def _filtered(layout: Layout, run: Run, params: Params, canvas: Tensor, source: Tensor | Ragged) -> Tensor:
    """The canvas after the filters that precede a run, which work in place, but never on what the caller gave."""
    if run.filters and canvas is source:
        canvas = canvas.clone()
    for opcode in run.filters:
        (blur if opcode == Op.BLUR else jpeg)(canvas, layout, run, params)
    return canvas


def _check(source: Tensor | Ragged, programs: list[Program]) -> None:
    """Raise if a batch is beyond what the kernels' 32-bit offsets and a CUDA grid can count."""
    if len(source) > MOST:
        expected = f'at most {MOST} for backend "triton"'
        raise ValueError(f"Augment: `images` must be {expected}, got {len(source)}. Split the batch.")
    height, width = source.sizes.max(axis=0).tolist() if isinstance(source, Ragged) else source.shape[2:]
    channels = programs[0].channels
    canvases = [(*program.window.size, program.channels) for program in programs if program.window is not None]
    height, width, channels = max([(height, width, channels), *canvases], key=math.prod)
    sides = [height, width, *(side for canvas in canvases for side in canvas[:2])]
    if max(sides) >= LONGEST or height * width * channels >= LARGEST:
        expected = f'smaller than {LONGEST} pixels a side and {LARGEST} bytes each for backend "triton"'
        got = f"{height} x {width} x {channels}"
        raise ValueError(f'Augment: `images` must be {expected}, got {got}. Use backend="torch".')
