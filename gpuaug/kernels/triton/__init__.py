"""The CUDA backend: each pass is one launch for the whole batch, and all parameters of a call are uploaded in one copy.

`Job` is the main flow: write the programs to a block, upload it, launch. The launches depend on the static parts of
the programs (`Instruction.possible`, `Window.may_resample`, shapes) and never on a draw, so that a CUDA graph can
replay them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from gpuaug import compat
from gpuaug.instructions import KEY_WORDS, Op
from gpuaug.kernels.defaults import each
from gpuaug.kernels.triton.crop import crop
from gpuaug.kernels.triton.elastic import elastic
from gpuaug.kernels.triton.filter import blur
from gpuaug.kernels.triton.finish import finish
from gpuaug.kernels.triton.instructions import Branches, run_fused
from gpuaug.kernels.triton.jpeg import jpeg
from gpuaug.kernels.triton.labels import labels
from gpuaug.kernels.triton.runtime import tape
from gpuaug.kernels.triton.runtime.launch import Block, Room, interpreted, kind, upload
from gpuaug.kernels.triton.runtime.plan import Layout, Params, Run, lay_out, write, write_keys
from gpuaug.kernels.triton.runtime.tape import Tape, clone, noting
from gpuaug.kernels.triton.runtime.writer import Writer
from gpuaug.kernels.triton.statistics import statistics
from gpuaug.program import Alike, Keys, Program
from gpuaug.ragged import Ragged

__all__ = ["Job", "drawn", "each", "prepare"]

LONGEST = 2**22  # limit of a canvas side in pixels: `rint` is exact below it
LARGEST = 2**31  # limit of an image in bytes
MOST = 2**16 - 1  # limit of a batch in images: the second axis of a CUDA grid
MOST_PLANS = 64  # of one list and shape: a plan for each stream and for each stride and alignment of the source
NOTHING = nullcontext()


class Plan:
    """Shared by all calls of a list with batches of one shape: the layout of the parameters, and the launches."""

    def __init__(self, programs: Sequence[Program], source: Tensor | Ragged | None, repeats: bool) -> None:
        self.room, self.repeats = Room(), repeats
        self.room.row(KEY_WORDS)
        ragged = isinstance(source, Ragged)
        self.layouts = [lay_out(program, self.room, not n and ragged) for n, program in enumerate(programs)]
        self.tapes: dict[Any, Tape] = {}
        self.writer: Writer | None = None
        self.begun = False  # True after the search for a writer

    def run(self, key: Any, given: tuple[Tensor, ...], device: torch.device, work: Callable[[], Tensor]) -> Tensor:
        """Call `work`, or replay its steps on the tensors `given`. The first call compiles, the second one records."""
        with on_device(device):
            if not self.repeats or not tape.ENABLED or compat.has_launch_hooks():
                return work()
            tape_ = self.tapes.get(key)
            if tape_ is not None and tape_.whole:
                return tape_.play(given, compat.current_stream(device.index))
            with noting(*given) as noted:
                result = work()
            noted.close(result)
            self.tapes[key] = noted
            return result


def known(alike: Alike | None, source: Tensor | Ragged, programs: Sequence[Program] | None = None) -> Plan | None:
    """The plan of calls that are `alike`, created from `programs` if there is none; None if a plan cannot be reused."""
    if alike is None or not isinstance(source, Tensor) or interpreted():
        return None
    stream = compat.current_stream(source.device.index)
    plans: dict[Any, Plan] = alike.plans
    key = (source.device, stream, source.stride(), kind(source))
    plan = plans.get(key)
    if plan is None and programs is not None:
        _check(source, programs)
        if len(plans) >= MOST_PLANS:
            plans.clear()
        plan = plans[key] = Plan(programs, source, repeats=True)
    return plan


class Job:
    """The programs of one call: writes their parameters in host memory, uploads them, and launches the kernels."""

    def __init__(self, programs: Sequence[Program], source: Tensor | Ragged) -> None:
        plan = known(programs[0].alike, source, programs)
        if plan is None:
            _check(source, programs)
            plan = Plan(programs, source, repeats=False)
        self.device, self.plan = source.device, plan
        block = self._pack(programs, source)
        if plan.repeats and not plan.begun and programs[0].alike is not None:
            plan.begun, plan.writer = True, Writer.of(programs[0].alike, plan.layouts, block)
        self._send(block)

    @classmethod
    def drawn(cls, alike: Alike, keys: Keys, source: Tensor | Ragged) -> Job | None:
        """A job whose draws are written directly to the block, from the second call with a shape on; else None."""
        plan = known(alike, source)
        if plan is None or plan.writer is None:
            return None
        job = cls.__new__(cls)
        job.device, job.plan = source.device, plan
        block = Block(plan.room, len(source), source.device)
        if not plan.writer.write(keys, block):
            return None
        job._send(block)
        return job

    def _send(self, block: Block) -> None:
        room = self.plan.room
        with on_device(self.device):
            self.params = Params(upload(block.words, self.device), room.head_words, room.row_words)

    def _pack(self, programs: Sequence[Program], source: Tensor | Ragged | None) -> Block:
        """Write the parameters to one block of memory."""
        plan = self.plan
        block = Block(plan.room, len(programs[0].keys.index), self.device)
        write_keys(programs[0].keys, block)
        for number, (layout, program) in enumerate(zip(plan.layouts, programs, strict=True)):
            write(layout, program, block, None if number else source)
        return block

    def replace(self, programs: Sequence[Program]) -> None:
        """Replace the contents of the block by another draw of the same list. A CUDA graph refers to its address."""
        other = Plan(programs, None, repeats=False)
        room, mine = other.room, self.plan.room
        alike = [layout.signature for layout in other.layouts] == [layout.signature for layout in self.plan.layouts]
        if not alike or (room.head_words, room.row_words) != (mine.head_words, mine.row_words):
            raise RuntimeError(
                "Augment: the list, its dtype, `exact` or `memory_format` changed after the capture. Capture once more."
            )
        words = self._pack(programs, None).words
        with on_device(self.device):
            self.params.block.copy_(words, non_blocking=True)

    def run(self, number: int, source: Tensor | Ragged) -> Tensor:
        """Run program `number` on the result of the program before it, or on the batch."""
        layout, params = self.plan.layouts[number], self.params
        if not isinstance(source, Tensor):
            with on_device(self.device):
                return _run(layout, params, source)
        key = number if number == 0 else (number, source.stride(), kind(source))
        return self.plan.run(key, (source, params.block), self.device, lambda: _run(layout, params, source))

    def labels(self, given: Tensor, num_classes: int | None) -> Tensor:
        """Mix labels, which are on this device, as the last program mixes its samples."""
        layout, params = self.plan.layouts[-1], self.params
        key = (given.shape, given.stride(), kind(given))
        both = given, params.block
        return self.plan.run(key, both, self.device, lambda: labels(given, num_classes, layout, params))


prepare, drawn = Job, Job.drawn


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """A context in which `device` is the current device."""
    here = device.type != "cuda" or device.index == torch.cuda.current_device()
    return NOTHING if here else torch.cuda.device(device)


def _run(layout: Layout, params: Params, source: Tensor | Ragged) -> Tensor:
    program = layout.program
    canvas = _canvas(layout, params, source)
    branches = Branches.of(canvas, any(Op.BRANCH in run.possible for run in layout.runs))
    for run in layout.runs:
        canvas = _filtered(layout, run, params, canvas, source)
        luts = statistics(canvas, layout, run, params)
        last = run is layout.runs[-1]
        if (
            last
            and program.finish is not None
            and not program.finish.copies
            and (run.pure or program.finish.mix is None)
        ):
            return finish(canvas, layout, run, params, luts, branches)
        if run.count:
            canvas = run_fused(canvas, layout, run, params, luts, branches)
    if program.finish is None or program.finish.copies:
        return clone(canvas) if canvas is source else canvas  # never the caller's own tensor
    return finish(canvas, layout, Run(0), params, canvas, branches)


def _canvas(layout: Layout, params: Params, source: Tensor | Ragged) -> Tensor:
    """The cropped canvas, or the source itself if no draw can change it."""
    window = layout.program.window
    if isinstance(source, Tensor) and (window is None or (window.is_identity and source.is_contiguous())):
        return source.contiguous()
    assert window is not None
    return crop(source, layout, params)


def _filtered(layout: Layout, run: Run, params: Params, canvas: Tensor, source: Tensor | Ragged) -> Tensor:
    """The canvas after the filters before a run. BLUR and JPEG work in place, so they get no tensor of the caller."""
    for opcode in run.filters:
        if opcode == Op.ELASTIC:
            canvas = elastic(canvas, layout, run, params)
            continue
        canvas = clone(canvas) if canvas is source else canvas
        (blur if opcode == Op.BLUR else jpeg)(canvas, layout, run, params)
    return canvas


def _check(source: Tensor | Ragged, programs: Sequence[Program]) -> None:
    """Raise if a batch is too large for the kernels' 32-bit offsets or for a CUDA grid."""
    if len(source) > MOST:
        expected = f'at most {MOST} for backend "triton"'
        raise ValueError(f"Augment: `images` must be {expected}, got {len(source)}. Split the batch.")
    height, width = source.whole.max(axis=0).tolist() if isinstance(source, Ragged) else source.shape[2:]
    channels = programs[0].channels
    canvases = [(*program.window.size, program.channels) for program in programs if program.window is not None]
    height, width, channels = max([(height, width, channels), *canvases], key=math.prod)
    sides = [height, width, *(side for canvas in canvases for side in canvas[:2])]
    if max(sides) >= LONGEST or height * width * channels >= LARGEST:
        expected = f'smaller than {LONGEST} pixels a side and {LARGEST} bytes each for backend "triton"'
        got = f"{height} x {width} x {channels}"
        raise ValueError(f'Augment: `images` must be {expected}, got {got}. Use backend="torch".')
