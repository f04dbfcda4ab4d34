"""What a program does on the device: noted in one call, and repeated in the next ones with other memory.

Nothing that is launched follows from a draw, so a list takes the same steps for batches of the same shape: so much
memory, these kernels, in this grid. To repeat them nobody is asked anything, and that is most of what a launch costs on
the host. What a program does on the device it does by `launch.launch`, and by `empty` and `clone` here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gpuaug import compat

__all__ = ["HERE", "Launch", "Tape", "clone", "empty", "noting"]

ENABLED = True  # a tool that puts another `launch` in the place of ours turns it off, and sees each one


@dataclass(frozen=True)
class Launch:
    """A kernel to start.

    arguments: numbers, and addresses of `constants`; `places` (argument, tensor) say whose address stands where else.
    asked: what `launch` was asked for: kernel, num_warps, maxnreg and constants. begin: see `compat.starter`.
    """

    begin: Callable[[int, Sequence[Any]], None]
    grid: tuple[int, int, int]
    arguments: list[Any]
    places: list[tuple[int, int]]
    constants: dict[int, Tensor]
    asked: tuple[Any, int, int | None, dict[str, Any]]

    def start(self, tensors: list[Any], addresses: list[int], stream: int) -> None:
        """Start it on `stream`, of the current device."""
        arguments = self.arguments.copy()
        for place, number in self.places:
            arguments[place] = addresses[number]
        self.begin(stream, arguments)


@dataclass(frozen=True)
class Take:
    """Memory to take; `copied` is the number of the tensor it begins as, or -1."""

    shape: tuple[int, ...]
    options: dict[str, Any]
    copied: int = -1


@dataclass
class Tape:
    """Steps in order. Tensors are numbered as they come: those that are given, then those that are taken."""

    tensors: list[Tensor]  # while it is noted; kept until then, so that none is taken for another
    steps: list[Launch | Take] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)  # that every call finds at the same address
    spent: list[list[int]] = field(default_factory=list)  # after each step, the tensors that no other one needs
    result: int = -1
    whole: bool = True  # nothing was done that is not in it

    def number(self, tensor: Tensor) -> int:
        """Of a tensor; -1 if it came from elsewhere, and then the steps cannot be repeated."""
        for number, known in enumerate(self.tensors):
            if known is tensor:
                return number
        self.whole = False
        return -1

    def launch(self, compiled: Any, grid: Any, arguments: Sequence[Any], asked: Any) -> None:
        """Note a launch."""
        numbers, places, constants = list(arguments), [], {}
        for place, argument in enumerate(arguments):
            if isinstance(argument, Tensor):
                if any(argument is constant for constant in self.constants):
                    constants[place], numbers[place] = argument, argument.data_ptr()
                else:
                    places.append((place, self.number(argument)))
        self.steps.append(Launch(compat.starter(compiled, grid), grid, numbers, places, constants, asked))

    def take(self, tensor: Tensor, options: dict[str, Any], copied: int = -1) -> Tensor:
        """Note memory."""
        self.tensors.append(tensor)
        self.steps.append(Take(tuple(tensor.shape), options, copied))
        return tensor

    def close(self, result: Tensor) -> None:
        """All is noted: let go of the tensors."""
        self.result = self.number(result)
        needed = {self.result}
        for step in reversed(self.steps):
            used = {number for _, number in step.places} if isinstance(step, Launch) else {step.copied} - {-1}
            self.spent.insert(0, sorted(used - needed))
            needed |= used
        self.tensors, self.constants = [], []

    def play(self, given: Sequence[Tensor], stream: int) -> Tensor:
        """The same steps, with others given, on `stream` of the current device."""
        tensors: list[Any] = list(given)
        addresses = [tensor.data_ptr() for tensor in tensors]
        for step, spent in zip(self.steps, self.spent, strict=True):
            if isinstance(step, Launch):
                step.start(tensors, addresses, stream)
            else:
                tensor = torch.empty(step.shape, **step.options)
                if step.copied >= 0:
                    tensor.copy_(tensors[step.copied])
                tensors.append(tensor)
                addresses.append(tensor.data_ptr())
            for number in spent:
                tensors[number] = None
        result: Tensor = tensors[self.result]
        return result


class _Here(threading.local):
    tape: Tape | None = None


HERE = _Here()  # the tape that this thread is noting


@contextmanager
def noting(*given: Tensor) -> Iterator[Tape]:
    """Inside, what is done on the device is noted."""
    HERE.tape = tape = Tape(list(given))
    try:
        yield tape
    finally:
        HERE.tape = None


def empty(
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Memory for a tensor."""
    options: dict[str, Any] = {"dtype": dtype, "device": device, "memory_format": memory_format}
    tensor = torch.empty(tuple(shape), **options)
    return tensor if HERE.tape is None else HERE.tape.take(tensor, options)


def clone(tensor: Tensor) -> Tensor:
    """A contiguous tensor's contents in memory of its own."""
    copy = tensor.clone()
    if HERE.tape is not None:
        HERE.tape.take(copy, {"dtype": tensor.dtype, "device": tensor.device}, HERE.tape.number(tensor))
    return copy
