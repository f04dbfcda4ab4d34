"""Triton's interpreter: whole images at once, and hooks that watch every load and store."""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor
from triton.runtime import interpreter

from gpuaug.kernels.triton.runtime import launch
from gpuaug.ragged import Ragged

from .interpreter_faults import mend

__all__ = ["RULES", "SHIPPED", "AccessError", "May", "Watch", "mend", "whole_images"]

Builder = interpreter.InterpreterBuilder
SHIPPED = dict(launch.TILES)


def whole_images() -> None:
    """One program for a whole image: the interpreter's cost is per program, not per pixel."""
    for name in launch.TILES:
        launch.TILES[name] = (64, 64) if name == "blocks" else (1024, 1024)


class AccessError(Exception):
    """An access that a kernel must not make: which kernel, argument and program, and why."""


class May(enum.Flag):
    """What a kernel may do with an argument, in the part of it that belongs to the program's sample."""

    READ = enum.auto()
    PARTNER = enum.auto()  # read the part of the sample that is mixed in, too
    WRITE = enum.auto()  # each byte at most once
    AGAIN = enum.auto()  # the same program may write a byte again
    WHOLE = enum.auto()  # every byte is written


PAIR = May.READ | May.PARTNER
RESULT = May.WRITE | May.WHOLE
KEPT = May.READ | May.WRITE | May.AGAIN
RULES = {  # what is not said here is not allowed
    "taps_kernel": {"block": May.READ, "taps": May.WRITE},
    "crop_kernel": {"source": May.READ, "block": May.READ, "taps": May.READ, "out": RESULT},
    "statistics_kernel": {"canvas": May.READ, "block": May.READ, "normals": May.READ, "luts": May.READ | May.WRITE},
    "run_fused_kernel": {
        **dict.fromkeys(("canvas", "block", "luts", "normals"), May.READ),
        "base": KEPT,
        "total": KEPT,
        "out": RESULT,
    },
    "finish_kernel": {
        **dict.fromkeys(("canvas", "block", "luts", "normals"), PAIR),
        "base": PAIR | KEPT,
        "total": PAIR | KEPT,
        "out": RESULT,
    },
    "blur_kernel": {"source": May.READ, "block": May.READ, "target": May.WRITE},
    "noise_kernel": {"noise": May.WRITE, "block": May.READ},
    "across_kernel": {"noise": May.READ, "lines": May.WRITE, "block": May.READ},
    "elastic_kernel": {**dict.fromkeys(("canvas", "lines", "block"), May.READ), "out": RESULT},
    "jpeg_code_kernel": {"canvas": May.READ, "block": May.READ, "tables": May.READ, "planes": May.WRITE},
    "jpeg_decode_kernel": {"planes": May.READ, "block": May.READ, "canvas": May.WRITE},
    "labels_kernel": {"labels": PAIR, "block": May.READ, "out": RESULT},
}
SHARED = ("normals", "tables")  # tables that never change and belong to no sample
FILLED = ("block", *SHARED)  # by the host
SAMPLE_AXIS = {"taps_kernel": 0}  # of the grid; 1 elsewhere
ROOM = 40  # bits of address space for each argument of a launch


@dataclass
class Memory:
    """What became of the bytes of one storage: of the whole call, and of the launch at hand."""

    tensor: Tensor  # keeps the address from being used again
    defined: NDArray[np.bool_]
    count: NDArray[np.uint8] = field(init=False)  # how often written
    writer: NDArray[np.int32] = field(init=False)  # the program that did, 0 is none
    reader: NDArray[np.int32] = field(init=False)  # -1 is several

    def begin(self) -> None:
        self.count = np.zeros(len(self.defined), np.uint8)
        self.writer, self.reader = (np.zeros(len(self.defined), np.int32) for _ in range(2))


@dataclass
class Argument:
    """A tensor of a launch, which the kernel sees at an address of its own (`base`), far from all others."""

    name: str
    tensor: Tensor
    base: int
    may: May
    memory: Memory
    part: Callable[[Argument, int], NDArray[np.bool_]]  # the bytes that belong to a sample
    parts: dict[int, NDArray[np.bool_]] = field(default_factory=dict)

    def own(self, sample: int) -> NDArray[np.bool_]:
        if sample not in self.parts:
            self.parts[sample] = self.part(self, sample)
        return self.parts[sample]


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def footprint(tensor: Tensor, whole: Tensor) -> NDArray[np.bool_]:
    """Which bytes of the storage of `whole` the elements of `tensor`, a view of it, occupy."""
    item = whole.element_size()
    elements = torch.zeros(whole.untyped_storage().nbytes() // item, dtype=torch.bool)
    numbers = torch.arange(len(elements)).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    elements[numbers.reshape(-1)] = True
    return np.repeat(elements.numpy(), item)


class Watch:
    """A context in which every load and store of the Triton kernels is checked, and new memory is full of `poison`.

    A launch may touch no byte outside the elements of the tensors it was given, each through its own pointer; of those
    only what `rules` allow, in the part that belongs to the running program's sample; no byte that nobody has written;
    and no byte that another program of the launch writes.

    Args:
        poison: a byte.
        ragged: the source, if it is one, as its parts do not follow from its shape.
    """

    def __init__(
        self, poison: int = 0xA5, ragged: Ragged | None = None, rules: dict[str, dict[str, May]] | None = None
    ) -> None:
        self.poison, self.ragged, self.rules = poison, ragged, RULES if rules is None else rules
        self.kernels: list[str] = []
        self.accesses = 0
        self._fresh: dict[int, Tensor] = {}
        self._memories: dict[int, Memory] = {}
        self._arguments: list[Argument] = []

    def __enter__(self) -> Watch:
        self._stack = ExitStack()
        for name in ("empty", "empty_like"):
            self._patch(torch, name, partial(self._allocate, getattr(torch, name)))
        for name, module in list(sys.modules.items()):
            if name.startswith("gpuaug.kernels.triton.") and module is not launch and hasattr(module, "launch"):
                self._patch(module, "launch", self.launch)
        load, store = Builder.create_masked_load, Builder.create_masked_store
        self._patch(
            Builder, "create_masked_load", lambda own, pointers, mask, *rest: load(
                own, self._checked(pointers, mask, "load"), mask, *rest
            ),
        )  # fmt: skip
        self._patch(
            Builder, "create_masked_store", lambda own, pointers, value, mask, *rest: store(
                own, self._checked(pointers, mask, "store"), value, mask, *rest
            ),
        )  # fmt: skip
        for name in ("create_atomic_rmw", "create_atomic_cas"):
            self._patch(Builder, name, self._atomic)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        self._stack.enter_context(mock.patch.object(owner, name, value))

    def _allocate(self, original: Callable[..., Tensor], *arguments: Any, **named: Any) -> Tensor:
        tensor = original(*arguments, **named)
        torch.tensor([], dtype=torch.uint8).set_(tensor.untyped_storage()).fill_(self.poison)
        self._fresh[storage(tensor)] = tensor
        return tensor

    def _atomic(self, *_: object) -> None:
        raise AccessError(f"{self._kernel}: an atomic, which nobody watches")

    # --- one launch ---------------------------------------------------------------------------------------------

    def launch(self, kernel: Any, grid: Any, *arguments: Any, **constants: Any) -> None:
        """Stands in for `gpuaug.kernels.triton.runtime.launch.launch`."""
        self._kernel = kernel.fn.__name__
        self._given = dict(zip(inspect.signature(kernel.fn).parameters, arguments, strict=False)) | constants
        tensors = {name: value for name, value in self._given.items() if isinstance(value, Tensor)}
        self._arguments, seen = [], set[int]()
        for number, (name, tensor) in enumerate(tensors.items()):
            may = self.rules[self._kernel].get(name, May(0))
            if storage(tensor) in seen:  # stands where the launch has nothing to give
                may = May(0)
            if May.PARTNER in may and self._mixes:  # what two samples' programs read, neither writes
                may &= ~May.WRITE
            seen.add(storage(tensor))
            base = ((number + 1) << ROOM) + storage(tensor) % 64
            self._arguments.append(Argument(name, tensor, base, may, self._memory(name, tensor), self._part))
        for argument in self._arguments:
            argument.memory.begin()
        convert, waiting = interpreter._implicit_cvt, iter(self._arguments)

        def converted(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return convert(value)
            argument = next(waiting)
            kind = convert(value).dtype
            address = argument.base + value.data_ptr() - storage(value)
            return tl.tensor(interpreter.TensorHandle(np.array([address], np.uint64), kind), kind)

        try:
            with mock.patch.object(interpreter, "_implicit_cvt", converted):
                launch.launch(kernel, grid, *arguments, **constants)
        except interpreter.InterpreterError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, AccessError):
                cause = cause.__cause__
            raise cause or error from None
        self.kernels.append(self._kernel)
        self._check_whole()

    def _memory(self, name: str, tensor: Tensor) -> Memory:
        key = storage(tensor)
        if key not in self._memories:
            fresh = key in self._fresh and name not in FILLED
            self._memories[key] = Memory(tensor, np.full(tensor.untyped_storage().nbytes(), not fresh))
        return self._memories[key]

    def _part(self, argument: Argument, sample: int) -> NDArray[np.bool_]:
        tensor = argument.tensor
        if argument.name in SHARED:
            return footprint(tensor, tensor)
        if argument.name == "block":
            start = self._given["rows_at"] + sample * self._given["row_words"]
            return footprint(tensor[: self._given["rows_at"]], tensor) | footprint(
                tensor[start : start + self._given["row_words"]], tensor
            )
        if self.ragged is not None and tensor is self.ragged.data:
            return footprint(self.ragged[sample], tensor)
        return footprint(tensor[sample], tensor)

    def _partner(self, sample: int) -> int:
        at = self._given["rows_at"] + sample * self._given["row_words"] + self._given.get("mix_at", 0)
        return int(self._given["block"][at]) if self._mixes else sample

    @property
    def _mixes(self) -> bool:
        return bool(self._given.get("MIX", "mix_at" in self._given))

    def _check_whole(self) -> None:
        for argument in self._arguments:
            if May.WHOLE in argument.may:
                wrong = footprint(argument.tensor, argument.tensor) & (argument.memory.count != 1)
                if wrong.any():
                    at = int(wrong.argmax())
                    text = f"byte {at} was written {argument.memory.count[at]} times ({int(wrong.sum())} such)"
                    raise AccessError(f"{self._kernel}: `{argument.name}`: {text}")

    # --- one access ---------------------------------------------------------------------------------------------

    def _checked(self, pointers: Any, mask: Any, kind: str) -> Any:
        """Check the access. Returns the pointers to the memory itself."""
        shape = np.broadcast_shapes(pointers.data.shape, mask.data.shape)
        addresses = np.broadcast_to(pointers.data, shape)[np.broadcast_to(mask.data, shape).astype(bool)]
        if addresses.size == 0:
            return interpreter.TensorHandle(np.zeros_like(pointers.data), pointers.dtype)
        signed = addresses.astype(np.int64)
        numbers = (signed + (1 << (ROOM - 1))) >> ROOM
        number = int(numbers[0])
        if not (numbers == number).all() or not 0 < number <= len(self._arguments):
            raise AccessError(f"{self._kernel}: a {kind} through no pointer it was given, program {self._program}")
        argument = self._arguments[number - 1]
        item = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        self._check(argument, signed - argument.base, item, kind)
        real = pointers.data + np.uint64((storage(argument.tensor) - argument.base) % 2**64)
        return interpreter.TensorHandle(real, pointers.dtype)

    @property
    def _program(self) -> tuple[int, int, int]:
        return interpreter.interpreter_builder.grid_idx

    def _check(self, argument: Argument, starts: NDArray[np.int64], item: int, kind: str) -> None:
        memory, x_y_z = argument.memory, self._program
        self.accesses += len(starts)
        sample = x_y_z[SAMPLE_AXIS.get(self._kernel, 1)]

        def refuse(wrong: NDArray[np.bool_], why: str) -> None:
            if wrong.any():
                text = f"{kind} at byte {int(starts[wrong][0])} of `{argument.name}`, program {x_y_z}: {why}"
                raise AccessError(f"{self._kernel}: {text} ({int(wrong.sum())} of {len(starts)})")

        if (May.READ if kind == "load" else May.WRITE) not in argument.may:
            refuse(starts == starts, "not allowed")
        refuse((starts < 0) | (starts + item > len(memory.defined)), "outside its memory")
        refuse((starts + storage(argument.tensor)) % item != 0, "not aligned")
        me = 1 + (x_y_z[0] * 4096 + x_y_z[1]) * 64 + x_y_z[2]
        for byte in range(item):
            at = starts + byte
            here = argument.own(sample)[at]
            if kind == "load" and May.PARTNER in argument.may and not here.all():
                here = here | argument.own(self._partner(sample))[at]
            refuse(~here, "outside the part of its sample")
            others = memory.writer[at]
            if kind == "load":
                refuse(~memory.defined[at], "nobody has written it")
                refuse((others != 0) & (others != me), "another program writes it")
                before = memory.reader[at]
                memory.reader[at] = np.where((before == 0) | (before == me), me, -1)
            else:
                before = memory.reader[at]
                refuse((before != 0) & (before != me), "another program reads it")
                np.add.at(memory.count, at, 1)
                if May.AGAIN in argument.may:
                    refuse((others != 0) & (others != me), "another program writes it")
                else:
                    refuse(memory.count[at] != 1, "written already")
                memory.writer[at] = me
                memory.defined[at] = True
