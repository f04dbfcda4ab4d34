"""The CPU backend: each thread takes a few samples and runs their whole program while their images are in its cache.

`render` is the main flow: crop the group, run its instructions, finish it. The threads share only the result.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.instructions import OPERANDS, Jpeg, Op
from gpuaug.kernels.defaults import drawn
from gpuaug.kernels.numba.crop import make_scratch
from gpuaug.kernels.numba.elastic import elastic
from gpuaug.kernels.numba.elastic import scratch_size as elastic_scratch_size
from gpuaug.kernels.numba.filter import blur, convolve
from gpuaug.kernels.numba.group import crop_group, cut_group, finish_group, finish_group_by_table, run_group
from gpuaug.kernels.numba.instructions import needs_own_kernel, scratch_size
from gpuaug.kernels.numba.jpeg import jpeg
from gpuaug.kernels.numba.jpeg import scratch_size as jpeg_scratch_size
from gpuaug.kernels.numba.llvm.vectors import LINE
from gpuaug.kernels.numba.noise import noise
from gpuaug.kernels.numba.philox import fill  # noqa: F401 - once imported, `gpuaug.philox` uses it
from gpuaug.kernels.numba.runtime import background, buffers  # noqa: F401 - `background` prepares forks
from gpuaug.kernels.numba.runtime.jit import carried
from gpuaug.kernels.numba.runtime.pool import SAMPLES_AT_ONCE, parallel_for
from gpuaug.kernels.numba.tables import KINDS, LEVELS, composed, tables
from gpuaug.kernels.numba.warp import warp
from gpuaug.philox import MASK, normal_table
from gpuaug.program import Finish, Program, Window
from gpuaug.ragged import Ragged, layout

__all__ = ["Job", "drawn", "each", "prepare", "render"]

Array = NDArray[Any]

STREAMED = 6 << 20  # bytes of a result from which on it is written past the caches, if its memory is not new
_memory = threading.local()  # scratch arrays of each thread, by name; reused while the shape is the same


class Job:
    """The programs of one call. Each is prepared when it runs, as it needs the result of the program before it."""

    def __init__(self, programs: Sequence[Program], source: Tensor | Ragged) -> None:
        self.programs = programs

    def run(self, number: int, source: Tensor | Ragged) -> Tensor:
        """Run program `number` on the result of the program before it, or on the batch."""
        return render(self.programs[number], source)

    def labels(self, given: Tensor, num_classes: int | None) -> None:
        """None: the torch backend mixes the labels, which are few."""


prepare = Job


def render(program: Program, source: Tensor | Ragged) -> Tensor:
    """Run one program. Returns (B, C, h, w) uint8, or the dtype and layout of its finish."""
    threads = torch.get_num_threads()
    batch = _Batch(program, source)
    if threads == 1 and batch.planes is not None:
        batch.work(0, batch.size)  # needs no scratch memory, which each thread would allocate
    else:
        parallel_for(carried(batch.work), batch.size, threads)
    if batch.mixes:  # after all canvases are done: a sample needs its partner's
        parallel_for(carried(batch.mix), batch.size, threads)
    return batch.out


def each(work: Callable[[int], None], counts: Sequence[int]) -> None:
    """Call `work` with the number of each part. `counts`: the number of images of each part.

    The images of a large part are divided among the threads. Small parts run in parallel, each on one thread.
    """
    small = [number for number, count in enumerate(counts) if count <= SAMPLES_AT_ONCE]
    for number in set(range(len(counts))).difference(small):
        work(number)
    inference = torch.is_inference_mode_enabled()  # each thread has its own inference mode

    def together(start: int, stop: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            for number in small[start:stop]:
                work(number)

    parallel_for(together, len(small), torch.get_num_threads(), 1)


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array that only this thread uses."""
    array: Array | None = getattr(_memory, name, None)
    if array is None or array.shape != shape or array.dtype != dtype:
        array = np.empty(shape, dtype)
        setattr(_memory, name, array)
    return array


class _Batch:
    """One batch: its program as arrays with one row per sample, its source and its result."""

    def __init__(self, program: Program, source: Tensor | Ragged) -> None:
        self.program, self.source = program, source
        data, self.offsets, strides, self.channels = layout(source)
        self.data, self.strides = data.numpy(), np.ascontiguousarray(strides)
        self.size = len(self.offsets)
        self.at_once = min(SAMPLES_AT_ONCE, self.size)
        window = program.window
        if window is None:
            assert isinstance(source, Tensor)
            window = _whole(self.size, (source.shape[2], source.shape[3]))
        self.window = window
        self.height, self.width = window.size
        self.pixels = self.height * self.width
        self.fill = np.zeros(self.channels, np.float32) if window.fill is None else window.fill.astype(np.float32)
        self.composed = composed(program.instructions, self.size, self.channels)
        if self.composed is None:
            self._stack(program)
        self.crop_shape = self._crop_shape() if window.may_resample else ()

        finish = program.finish or Finish()
        self.mixes = finish.mix is not None
        self.plain = not self.mixes and not finish.erases
        shape = (self.size, self.channels, self.height, self.width)
        self.out, was_used = buffers.empty(shape, finish.dtype, finish.memory_format)
        self.channels_last = finish.memory_format == torch.channels_last
        self.kind, self.code = KINDS[finish.dtype]
        dense = self.out.permute(0, 2, 3, 1) if self.channels_last else self.out
        bits = dense.view(torch.int16) if self.kind is np.uint16 else dense
        self.result = bits.reshape(self.size, -1).numpy().view(self.kind)
        plane = self.pixels * finish.dtype.itemsize
        aligned = (self.result.ctypes.data | plane) % LINE == 0
        self.streams = was_used and aligned and self.result.nbytes >= STREAMED and not self.channels_last
        self.table, self.cast = tables(finish.table, self.channels, finish.dtype)
        if self.mixes:
            self.canvases = scratch("batch", (self.size, 1, self.channels, self.pixels), np.uint8)
            # canvases with instructions other than tables have no pending table
            none = np.tile(LEVELS, (self.size, self.channels, 1)) if self.composed is None else self.composed
            self.pending: Array = none
        if not self.plain:
            self._set_up_finish(finish)
        self.direct = not program.instructions and finish.copies and finish.table is None
        self.planes = self._planes(window)

    def _planes(self, window: Window) -> Array | None:
        """Canvases in place, in the result or the source, (B, 1, C, H * W); None if they need separate memory."""
        shape = (self.size, 1, self.channels, self.pixels)
        if self.direct:
            return self.result.reshape(shape)
        if not self.plain or self.composed is None or not window.is_identity:
            return None
        source = self.source
        return self.data.reshape(shape) if isinstance(source, Tensor) and source.is_contiguous() else None

    def _stack(self, program: Program) -> None:
        instructions, size, channels = program.instructions, self.size, self.channels
        count = len(instructions)
        self.opcodes = np.zeros((size, count), np.int32)
        self.operands = np.zeros((size, count, OPERANDS), np.float32)
        self.fills = np.zeros((size, count, channels), np.float32)
        self.tables = np.empty(
            (size, count, 256 if any(instruction.table is not None for instruction in instructions) else 0), np.uint8
        )
        for k, instruction in enumerate(instructions):
            self.opcodes[:, k], self.operands[:, k] = instruction.opcode, instruction.operands
            if instruction.fill is not None:
                self.fills[:, k] = instruction.fill
            if instruction.table is not None:
                self.tables[:, k] = instruction.table
        self.apart = needs_own_kernel(self.opcodes, self.operands)
        self.interrupts = np.flatnonzero(self.apart.any(axis=0))
        self.fused = np.where(self.apart, Op.IDENTITY, self.opcodes).astype(np.int32)
        self.branches = bool((self.opcodes == Op.BRANCH).any())

    def _set_up_finish(self, finish: Finish) -> None:
        size, erases, mix = self.size, finish.erases, finish.mix
        self.boxes = np.zeros((size, len(erases), 4), np.int32)
        for e, erase in enumerate(erases):
            self.boxes[:, e] = erase.box
        values = (len(erases), self.channels)
        self.shift = np.array([erase.shift for erase in erases], np.float32).reshape(values)
        self.scale = np.array([erase.scale for erase in erases], np.float32).reshape(values)
        self.ops = np.array([erase.op for erase in erases], np.int64)
        self.partner = np.arange(size) if mix is None else mix.partner.astype(np.int64)
        self.weight = np.ones(size, np.float32) if mix is None else mix.weight.astype(np.float32)
        self.rest = np.zeros(size, np.float32) if mix is None else (1.0 - mix.weight).astype(np.float32)
        self.mix_box = np.zeros((size, 4), np.int32) if mix is None else mix.box.astype(np.int32)

    def work(self, start: int, stop: int) -> None:
        """Render samples start..stop, at most SAMPLES_AT_ONCE, to the result; if there is a mix, to their canvases."""
        if self.planes is not None:
            self._work_in_place(start, stop, self.planes[start:stop])
            return
        shape = (self.at_once, 2, self.channels, self.pixels)
        canvases, side = scratch("canvases", shape, np.uint8), scratch("side", (self.at_once,), np.int64)
        pending = scratch("pending", (self.at_once, self.channels, 256), np.uint8)
        self._crop(start, stop, canvases)
        side[:] = 0
        if self.composed is None:
            self._run(start, stop, canvases, side, pending)
        else:
            pending[: stop - start] = self.composed[start:stop]
        if self.plain:
            self._finish_by_table(start, stop, canvases, side, pending)
        elif self.mixes:
            for g in range(stop - start):
                self.canvases[start + g, 0] = canvases[g, side[g]]
        else:
            self._finish(start, stop, canvases, np.arange(self.size) % self.at_once, side, pending)

    def _work_in_place(self, start: int, stop: int, planes: Array) -> None:
        """Cut the window directly into the result, or apply the tables to the source, which needs no window."""
        if self.direct:
            self._crop(start, stop, planes)
            return
        assert self.composed is not None
        self._finish_by_table(start, stop, planes, np.zeros(stop - start, np.int64), self.composed[start:stop])

    def _run(self, start: int, stop: int, canvases: Array, side: Array, pending: Array) -> None:
        """Run the instructions of samples start..stop: fused ones together, those with separate kernels one by one."""
        done, count = 0, len(self.program.instructions)
        for k in map(int, self.interrupts):
            if self.apart[start:stop, k].any():
                if done < k:
                    self._run_fused(start, stop, done, k, canvases, side, pending, flush=True)
                self._run_apart(start, stop, k, canvases, side)
                done = k
        if done < count:
            self._run_fused(start, stop, done, count, canvases, side, pending, flush=self.mixes)
        else:
            pending[:] = LEVELS

    def _finish_by_table(self, start: int, stop: int, canvases: Array, side: Array, pending: Array) -> None:
        memory = scratch("composed", (self.channels + 1, 256), self.kind)
        finish_group_by_table(
            start, stop, canvases, side, pending, self.cast, self.channels_last, self.result, memory, self.streams
        )  # fmt: skip

    def _crop(self, start: int, stop: int, canvases: Array) -> None:
        """Cut the window of samples start..stop into canvases[:, 0]."""
        window, where = self.window, (self.data, self.offsets, self.strides, self.window.box)
        planes = canvases.reshape(*canvases.shape[:3], self.height, self.width)
        if not window.may_resample:
            lines = scratch("where", (2, max(self.height, self.width)), np.int32)
            cut_group(
                start, stop, *where, window.start, window.flip, window.padding_mode, self.fill, planes,
                lines,
            )  # fmt: skip
            return
        crop_group(
            start, stop, *where, window.resized, window.start, window.flip, window.interpolation, window.antialias,
            window.padding_mode, self.fill, planes, self._crop_scratch(),
        )  # fmt: skip

    def mix(self, start: int, stop: int) -> None:
        """Mix samples start..stop with their partners, from their canvases to the result."""
        rows, side = np.arange(self.size), np.zeros(self.size, np.int64)
        self._finish(start, stop, self.canvases, rows, side, self.pending)

    def _run_fused(
        self, start: int, stop: int, first: int, last: int, canvases: Array, side: Array, pending: Array, flush: bool
    ) -> None:
        kept = (self.at_once if self.branches else 1, self.channels, self.pixels if self.branches else 0)
        run_group(
            start, stop, first, last, self.fused, self.operands, self.fills, self.tables, canvases, side,
            scratch("bases", kept, np.uint8), scratch("totals", kept, np.float32), self.height, self.width,
            scratch("instructions", (scratch_size(self.channels, self.height, self.width),), np.int32), pending, flush,
        )  # fmt: skip

    def _run_apart(self, start: int, stop: int, k: int, canvases: Array, side: Array) -> None:
        """Run instruction k of those samples in which it has a separate kernel."""
        instruction, keys = self.program.instructions[k], self.program.keys
        for b in start + np.flatnonzero(self.apart[start:stop, k]):
            g, opcode, operands = b - start, int(self.opcodes[b, k]), self.operands[b, k]
            flat, flat_out = canvases[g, side[g]], canvases[g, 1 - side[g]]
            shape = (self.channels, self.height, self.width)
            memory = scratch("instructions", (scratch_size(*shape),), np.int32)
            if opcode == Op.NOISE:  # in place
                number, look = int(keys.index[b]), int(keys.look[b])
                noise(flat, operands, *_seed(keys.key), number, look, normal_table(), memory)
                continue
            if opcode == Op.JPEG:
                space = scratch("jpeg", (jpeg_scratch_size(*shape),), np.int16)
                jpeg(flat.reshape(shape), int(operands[Jpeg.QUALITY]), flat_out.reshape(shape), space)
            elif opcode == Op.WARP:
                warp(flat, self.height, self.width, operands, self.fills[b, k], flat_out, memory)
            elif opcode == Op.ELASTIC:
                assert instruction.kernel is not None
                space = scratch("elastic", (elastic_scratch_size(*shape[1:], operands),), np.int32)
                weights = instruction.kernel[b]
                elastic(flat, *shape[1:], operands, weights, self.fills[b, k], flat_out, memory, space)
            else:
                assert instruction.kernel is not None
                kernel = blur if opcode == Op.BLUR else convolve
                kernel(flat, self.height, self.width, operands, instruction.kernel[b], flat_out, memory)
            side[g] = 1 - side[g]

    def _finish(self, start: int, stop: int, canvases: Array, rows: Array, side: Array, pending: Array) -> None:
        keys = self.program.keys
        finish_group(
            start, stop, canvases, rows, side, pending, self.width, self.table,
            self.mixes, self.partner, self.weight, self.rest, self.mix_box,
            self.boxes, self.shift, self.scale, self.ops,
            *_seed(keys.key), keys.index, keys.look, normal_table(), self.code, self.channels_last, self.result,
            scratch("values", (3 * self.pixels + 512 * self.channels + 256,), np.float32),
            scratch("row", (2 * self.width + 64,), np.uint32),
        )  # fmt: skip

    def _crop_shape(self) -> tuple[int, ...]:
        """Arguments of `make_scratch`, rounded up, so that batches of similar images use the same scratch."""
        box = self.window.box
        height, width = box[:, 2:].max(axis=0).tolist()
        shrink = max(float((box[:, 3] / self.window.resized[:, 1]).max()), 1.0)
        taps = min(4 * math.ceil(shrink) + 8, width + 8)  # bicubic, the widest, has two taps a pixel on each side
        wide, tall, most = (1 << max(6, n.bit_length()) for n in (width, height, taps))
        return wide, tall, most, self.channels, self.height, self.width

    def _crop_scratch(self) -> Any:
        if getattr(_memory, "crop_shape", None) != self.crop_shape:
            _memory.crop, _memory.crop_shape = make_scratch(*self.crop_shape), self.crop_shape
        return _memory.crop


def _seed(seed: int) -> tuple[int, int]:
    return seed & MASK, (seed >> 32) & MASK


def _whole(batch: int, size: tuple[int, int]) -> Window:
    """The window that copies the whole canvas."""
    box = np.zeros((batch, 4), np.int32)
    box[:, 2:] = size
    zero = np.zeros((batch, 2), np.int32)
    return Window(size, box, np.ascontiguousarray(box[:, 2:]), zero, zero, may_resample=False, is_identity=True)
