"""Records the steps of a program on the device, and replays them in later calls with other memory.

No launch depends on a draw, so a list has the same steps for all batches of a shape: the same allocations, kernels and
grids. A replay skips the checks of torch and Triton, which are most of the cost of a launch on the host. All steps of
a program on the device go through `launch.launch`, or `empty` and `clone` in this file.
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

ENABLED = True  # a tool that replaces `launch` sets this to False, so that it sees every launch


@dataclass(frozen=True)
class Launch:
    """A recorded launch.

    arguments: Numbers, and addresses of `constants`. places: (position of an argument, number of the tensor) for the
    other addresses. asked: kernel, num_warps, maxnreg and constants of `launch`. begin: See `compat.starter`.
    """

    begin: Callable[[int, Sequence[Any]], None]
    grid: tuple[int, int, int]
    arguments: list[Any]
    places: list[tuple[int, int]]
    constants: dict[int, Tensor]
    asked: tuple[Any, int, int | None, dict[str, Any]]

    def start(self, tensors: list[Any], addresses: list[int], stream: int) -> None:
        """Start the kernel on `stream` of the current device."""
        arguments = self.arguments.copy()
        for place, number in self.places:
            arguments[place] = addresses[number]
        self.begin(stream, arguments)


@dataclass(frozen=True)
class Take:
    """A recorded allocation. copied: Number of the tensor whose contents it starts with, or -1."""

    shape: tuple[int, ...]
    options: dict[str, Any]
    copied: int = -1


@dataclass
class Tape:
    """Recorded steps in order. Tensors are numbered: first those given to the call, then the allocated ones."""

    tensors: list[Tensor]  # during the recording only; keeping them ensures that no id or address is reused
    steps: list[Launch | Take] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)  # tensors that have the same address in every call
    spent: list[list[int]] = field(default_factory=list)  # for each step, the tensors that no later step needs
    result: int = -1
    whole: bool = True  # False if a step could not be recorded

    def number(self, tensor: Tensor) -> int:
        """Number of a tensor; -1 if it is unknown. Then the steps cannot be replayed."""
        for number, known in enumerate(self.tensors):
            if known is tensor:
                return number
        self.whole = False
        return -1

    def launch(self, compiled: Any, grid: Any, arguments: Sequence[Any], asked: Any) -> None:
        """Record a launch."""
        numbers, places, constants = list(arguments), [], {}
        for place, argument in enumerate(arguments):
            if isinstance(argument, Tensor):
                if any(argument is constant for constant in self.constants):
                    constants[place], numbers[place] = argument, argument.data_ptr()
                else:
                    places.append((place, self.number(argument)))
        self.steps.append(Launch(compat.starter(compiled, grid), grid, numbers, places, constants, asked))

    def take(self, tensor: Tensor, options: dict[str, Any], copied: int = -1) -> Tensor:
        """Record an allocation."""
        self.tensors.append(tensor)
        self.steps.append(Take(tuple(tensor.shape), options, copied))
        return tensor

    def close(self, result: Tensor) -> None:
        """End the recording and release its tensors."""
        self.result = self.number(result)
        needed = {self.result}
        for step in reversed(self.steps):
            used = {number for _, number in step.places} if isinstance(step, Launch) else {step.copied} - {-1}
            self.spent.insert(0, sorted(used - needed))
            needed |= used
        self.tensors, self.constants = [], []

    def play(self, given: Sequence[Tensor], stream: int) -> Tensor:
        """Replay the steps on other tensors `given`, on `stream` of the current device."""
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


HERE = _Here()  # the tape that this thread is recording


@contextmanager
def noting(*given: Tensor) -> Iterator[Tape]:
    """A context in which steps on the device are recorded."""
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
    """Allocate a tensor, and record it if a recording is active."""
    options: dict[str, Any] = {"dtype": dtype, "device": device, "memory_format": memory_format}
    tensor = torch.empty(tuple(shape), **options)
    return tensor if HERE.tape is None else HERE.tape.take(tensor, options)


def clone(tensor: Tensor) -> Tensor:
    """Copy a contiguous tensor, and record it if a recording is active."""
    copy = tensor.clone()
    if HERE.tape is not None:
        HERE.tape.take(copy, {"dtype": tensor.dtype, "device": tensor.device}, HERE.tape.number(tensor))
    return copy
