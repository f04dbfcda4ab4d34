"""Triton launches without a GPU: every launch runs in Triton's interpreter, and the bytes it touches can be counted.

gpuaug's Triton backend launches every kernel through `gpuaug.kernels.triton.runtime.launch.launch(kernel, grid, *args,
**constants)`. `intercept` replaces that function for the rest of the process, and catches what other libraries launch
by `kernel[grid](*args, **constants)`. A program of gpuaug is a whole image wherever that may be, since the
interpreter's cost is per program; which bytes a launch touches does not depend on it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .pseudocuda import is_pinned, on_cuda, to_host
from .pseudograph import capturing

__all__ = ["PLACE", "Buffer", "Listener", "TritonLaunch", "available", "intercept", "listeners", "real_tiles"]

PACKAGE = "gpuaug.kernels.triton"
PLACE = f"{PACKAGE}.runtime.launch"
SECTOR = 32  # bytes: the least that a GPU moves to or from memory

# The interpreter's methods that touch memory: where pointers and mask stand, and whether they read and write
HOOKS: dict[str, tuple[int, int | None, bool, bool]] = {
    "create_masked_load": (0, 1, True, False),
    "create_masked_store": (0, 2, False, True),
    "create_atomic_rmw": (1, 3, True, True),
    "create_atomic_cas": (0, None, True, True),
}

Array = NDArray[Any]


@dataclass(frozen=True)
class Buffer:
    """What one launch did to one piece of memory, in bytes."""

    names: tuple[str, ...]  # the kernel's arguments that lie in it
    size: int
    read: int  # distinct bytes
    written: int
    read_sectors: int  # distinct sectors of 32 bytes, in bytes
    written_sectors: int
    loaded: int  # with repetitions: what the kernel's load instructions ask the caches for
    stored: int


@dataclass(frozen=True)
class TritonLaunch:
    name: str
    grid: tuple[int, ...]
    constants: dict[str, Any]
    numbers: dict[str, Any]  # the arguments that are not tensors
    tensors: dict[str, tuple[tuple[int, ...], tuple[int, ...], str]]  # shape, strides and dtype of the others
    buffers: tuple[Buffer, ...] | None  # None: not counted


@dataclass
class Listener:
    """Who hears of launches: a function, whether it wants the bytes counted, which is slow, and the kernels run."""

    heard: Callable[[TritonLaunch], None]
    count_bytes: bool = False
    execute: bool = True


listeners: list[Listener] = []


_tiles: dict[str, tuple[int, int]] = {}  # as the backend has them


def available() -> bool:
    """Whether gpuaug has a Triton backend, and Triton is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("triton", PACKAGE))


def intercept() -> None:
    """Replace the backend's launch function, where there is one, by one that interprets and reports."""
    if not available():
        return
    importlib.import_module(PACKAGE)  # all its modules, which have the function by name
    place = sys.modules[PLACE]
    original = place.launch
    if original is _launch:
        return
    _catch()
    sys.modules[f"{PACKAGE}.runtime.tape"].ENABLED = False  # type: ignore[attr-defined]  # each launch goes through `launch`
    for name, module in list(sys.modules.items()):
        if name.startswith(PACKAGE) and getattr(module, "launch", None) is original:
            module.launch = _launch  # type: ignore[attr-defined]
    from .interpreter import mend, whole_images

    _tiles.update(place.TILES)
    mend()
    whole_images()


def _catch() -> None:
    """Report the launches of any kernel on pseudo tensors."""
    from triton.runtime.interpreter import InterpretedFunction

    original = InterpretedFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        if warmup or not any(map(on_cuda, (*args, *constants.values()))):  # also what `_launch` runs
            original(self, *args, grid=grid, warmup=warmup, **constants)
        else:
            _launch(self, grid, *args, **constants)

    InterpretedFunction.run = run


@contextmanager
def real_tiles() -> Iterator[None]:
    """Inside, grids are those of a device."""
    tiles = sys.modules[PLACE].TILES
    whole = dict(tiles)
    tiles.update(_tiles)
    try:
        yield
    finally:
        tiles.update(whole)


def _launch(kernel: Any, grid: Any, *args: Any, **constants: Any) -> None:
    """Stands in for the backend's `launch`."""
    from triton.runtime.interpreter import InterpretedFunction

    function = kernel
    while not isinstance(function, InterpretedFunction) and hasattr(function, "fn"):
        function = function.fn
    if not isinstance(function, InterpretedFunction):
        raise RuntimeError(
            f"audit: {kernel} was compiled, not interpreted. Set TRITON_INTERPRET=1, or import "
            "benchmarks.evidence.pseudocuda, before Triton is imported."
        )
    given = [*zip(function.arg_names, args, strict=False), *constants.items()]
    tensors = {name: value for name, value in given if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if not on_cuda(tensor) and not is_pinned(tensor):
            raise ValueError(f"{function.__name__}: pointer argument {name} is a CPU tensor, which no kernel can read")
    scalars = {name: value for name, value in given if name not in tensors}
    sizes = tuple(grid(scalars) if callable(grid) else grid)
    listener = listeners[-1] if listeners else Listener(lambda launch: None)
    counters = _counters(tensors) if listener.count_bytes and not capturing else None
    arguments, named = [to_host(arg) for arg in args], {name: to_host(value) for name, value in constants.items()}
    if capturing:
        capturing[-1].add(kernel[sizes], arguments, named)
    elif listener.execute:
        with _disable_current_modes(), _counting(counters):
            kernel[sizes](*arguments, **named)
    buffers = None if counters is None else tuple(counter.total() for counter in counters)
    kept = {name: value for name, value in constants.items() if name not in tensors}
    numbers = {name: value for name, value in scalars.items() if name not in constants}
    kinds = {name: (tuple(t.shape), tuple(t.stride()), str(t.dtype)) for name, t in tensors.items()}
    listener.heard(TritonLaunch(function.__name__, sizes, kept, numbers, kinds, buffers))


@dataclass
class _Counter:
    """Marks the bytes of one storage that a launch touches."""

    base: int
    size: int
    names: list[str]
    loaded: int = 0
    stored: int = 0
    read: Array = field(init=False)
    written: Array = field(init=False)

    def __post_init__(self) -> None:
        self.read, self.written = np.zeros(self.size, bool), np.zeros(self.size, bool)

    def touch(self, first: Array, width: int, read: bool, written: bool) -> None:
        """`first`: where elements of `width` bytes begin, counted from the base."""
        for mask, wanted in ((self.read, read), (self.written, written)):
            if wanted:
                for byte in range(width):
                    mask[first + byte] = True
        self.loaded += first.size * width if read else 0
        self.stored += first.size * width if written else 0

    def total(self) -> Buffer:
        def sectors(mask: Array) -> int:
            padded = np.pad(mask, (0, -len(mask) % SECTOR))
            return int(padded.reshape(-1, SECTOR).any(axis=1).sum()) * SECTOR

        return Buffer(
            tuple(self.names),
            self.size,
            int(self.read.sum()),
            int(self.written.sum()),
            sectors(self.read),
            sectors(self.written),
            self.loaded,
            self.stored,
        )


def _counters(tensors: dict[str, Tensor]) -> list[_Counter]:
    """One for each storage, by address."""
    counters: dict[int, _Counter] = {}
    for name, tensor in tensors.items():
        storage = to_host(tensor).untyped_storage()
        if storage.nbytes():
            counter = counters.setdefault(storage.data_ptr(), _Counter(storage.data_ptr(), storage.nbytes(), []))
            counter.names.append(name)
    return [counters[base] for base in sorted(counters)]


@contextmanager
def _counting(counters: Sequence[_Counter] | None) -> Iterator[None]:
    """Hook the interpreter's loads, stores and atomics."""
    if counters is None:
        yield
        return
    from triton.runtime.interpreter import InterpreterBuilder as Builder

    bases = np.array([counter.base for counter in counters], np.uint64)

    def touch(pointers: Any, mask: Array, read: bool, written: bool) -> None:
        width = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        addresses, chosen = np.broadcast_arrays(pointers.data, mask)
        addresses = addresses[chosen].astype(np.uint64)
        if not addresses.size:
            return
        owners = np.searchsorted(bases, addresses, side="right") - 1
        for owner in np.unique(owners):
            counter = counters[owner]
            first = (addresses[owners == owner] - bases[owner]).astype(np.int64)
            if owner < 0 or first.max() + width > counter.size:
                raise IndexError(f"a kernel {'writes' if written else 'reads'} outside its arguments")
            counter.touch(first, width, read, written)

    def hook(original: Any, place: int, mask: int | None, read: bool, written: bool) -> Callable[..., Any]:
        def counted(builder: Any, *arguments: Any, **options: Any) -> Any:
            chosen = np.array(True) if mask is None else arguments[mask].data
            touch(arguments[place], chosen, read, written)
            return original(builder, *arguments, **options)

        return counted

    originals = {name: getattr(Builder, name) for name in HOOKS}
    for name, how in HOOKS.items():
        setattr(Builder, name, hook(originals[name], *how))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(Builder, name, original)
