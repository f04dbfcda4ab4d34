"""Run the PTX that Triton's compiler makes, without a GPU: each thread, each access checked, each instruction counted.

    compiled = compile_ptx(kernel, (source, target, count), {"BLOCK": 1024})
    counts = Emulator(compiled).run((4,), source, target, count)

The text is what ptxas would get: vector widths, casts and contractions are the compiler's own. The emulator knows what
Triton makes of integer and float kernels and refuses the rest. ptxas, caches and time are outside its reach.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor
from triton import language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from .ptx_code import Code, Counts, Memory, middle
from .ptx_numbers import DTYPE, UINT, Array, width_of

MISSING = object()


def _language() -> list[tuple[Any, dict[str, Any]]]:
    """Triton's language as its compiler needs it, whatever the interpreter does.

    With TRITON_INTERPRET set `tl.sum` and its like are interpreted functions; and the interpreter leaves its patches of
    `tl.core` behind when a kernel calls one of them.
    """
    modules = [module for name, module in sys.modules.items() if name.startswith("triton.language")]
    if tl.core.reduce.__module__ != tl.core.__name__:
        raise RuntimeError("ptx: import it before the Triton interpreter runs, which changes triton.language for good.")
    compiled: dict[Any, Any] = {}

    def turned(value: Any) -> Any:
        for cell in getattr(value, "__closure__", None) or ():  # a method of tl.tensor closes over the function
            value = cell.cell_contents if isinstance(cell.cell_contents, InterpretedFunction) else value
        if isinstance(value, InterpretedFunction) and value not in compiled:
            compiled[value] = JITFunction(value.fn, **value.kwargs)
        return compiled.get(value, value) if isinstance(value, InterpretedFunction) else value

    holders = [*modules, tl.tensor, tl.dtype, tl.condition, tl.core.tensor_descriptor_base]
    return [(holder, {name: turned(value) for name, value in vars(holder).items()}) for holder in holders]


LANGUAGE = _language()


def _put(holder: Any, name: str, value: Any) -> None:
    if value is MISSING:
        delattr(holder, name)
    else:
        setattr(holder, name, value)


@contextmanager
def compiling() -> Iterator[None]:
    """Inside, `triton.jit` makes functions for the compiler, and triton.language is the compiler's."""
    before: list[tuple[Any, str, Any]] = []
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = False
        for holder, names in LANGUAGE:
            now = vars(holder)
            changed = [name for name in names if now.get(name, MISSING) is not names[name]]
            before += [(holder, name, now.get(name, MISSING)) for name in changed]
            for name in changed:
                setattr(holder, name, names[name])
        try:
            yield
        finally:
            for holder, name, value in before:
                _put(holder, name, value)


_LOADED: dict[str, dict[str, ModuleType]] = {}


def load_compiled(package: str, module: str = "") -> ModuleType:
    """`package` or a module of it, imported afresh with its kernels for the compiler; sys.modules stays as it was.

    What its functions import when they are called comes from the old modules.
    """

    def taken() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if f"{name}.".startswith(f"{package}.")}

    if package not in _LOADED:
        parent, _, leaf = package.rpartition(".")
        holder = importlib.import_module(parent) if parent else None
        old, attribute = taken(), getattr(holder, leaf, MISSING)
        try:
            with compiling():
                importlib.import_module(package)
            _LOADED[package] = taken()
        finally:
            taken()
            sys.modules.update(old)
            if holder is not None and hasattr(holder, leaf):
                _put(holder, leaf, attribute)
    return _LOADED[package][f"{package}.{module}" if module else package]


class _Driver:
    """Says which GPU to compile for, and has none. The device is a key of Triton's caches, so it names the target."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> str:
        return f"sm_{self.arch} without a GPU"

    def get_current_stream(self, device: object = None) -> int:
        return 0


@dataclass(frozen=True)
class Compiled:
    """A kernel as ptxas would get it, and what the compiler assumed of the arguments."""

    ptx: str
    names: tuple[str, ...]  # of the arguments that are not constexpr
    fixed: Mapping[str, Any]  # those that became constants: None, and integers equal to 1
    aligned: frozenset[str]  # those that the compiler takes for multiples of 16
    shared: int  # bytes of shared memory
    kernel: Any  # Triton's own object, with every stage in `asm`

    def check(self, args: Sequence[Any]) -> list[tuple[str, Any]]:
        """Names and values of the arguments that the code takes; raises for one that it was not compiled for."""
        named = [(name, tensor_of(value)) for name, value in zip(self.names, args, strict=True)]
        for name, value in named:
            start = value.data_ptr() if isinstance(value, torch.Tensor) else value
            if (name in self.aligned and start % 16) or self.fixed.get(name, start) != start:
                raise ValueError(f"Compiled: `{name}` is not what the kernel was compiled for, got {start}.")
        return [(name, value) for name, value in named if name not in self.fixed]


def tensor_of(argument: Any) -> Any:
    """A numpy array as the tensor that shares its memory; everything else as it is."""
    return torch.from_numpy(argument) if isinstance(argument, np.ndarray) else argument


def compile_ptx(
    kernel: Any,
    args: Sequence[Any],
    constants: Mapping[str, Any],
    *,
    arch: int = 80,
    num_warps: int = 4,
    **options: Any,
) -> Compiled:
    """Compile `kernel` for the arguments of a launch, specialised as the launch would be.

    Args:
        kernel: a JITFunction.
        args: every argument that is not constexpr, in order: tensors and arrays on the CPU, numbers, None.
        constants: the constexpr arguments by name.
        arch: compute capability times ten.
        options: further options of the compiler. Multiplications and additions stay apart unless told otherwise.
    """
    if not isinstance(kernel, JITFunction):
        raise TypeError(f"compile_ptx: `kernel` must be a JITFunction, got {kernel!r}. Define it under `compiling()`.")
    names = tuple(name for name in kernel.arg_names if name not in constants)
    given = dict(zip(names, map(tensor_of, args), strict=True))
    driver = triton.runtime.driver
    active, driver._active = driver._active, _Driver(arch)
    try:
        with compiling():
            options = {"enable_fp_fusion": False, "num_warps": num_warps} | options
            made = kernel.warmup(grid=(1,), **given, **constants, **options)
    finally:
        driver._active = active
    fixed = {kernel.arg_names[path[0]]: value for path, value in made.src.constants.items()}
    aligned = {kernel.arg_names[path[0]] for path, value in made.src.attrs.items() if ["tt.divisibility", 16] in value}
    fixed = {name: value for name, value in fixed.items() if name in names}
    return Compiled(made.asm["ptx"], names, fixed, frozenset(aligned), made.metadata.shared, made)


def memory_of(tensor: Tensor, name: str, base: int) -> Memory:
    """All that a tensor spans, as bytes, at an address of the same alignment to 16."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    size = (last + 1) * tensor.element_size() if tensor.numel() else 0
    data = torch.empty(0, dtype=torch.uint8)
    data.set_(tensor.untyped_storage(), tensor.storage_offset() * tensor.element_size(), (size,))
    return Memory(data.numpy(), name, base + tensor.data_ptr() % 16)


class Emulator:
    """A kernel that can be launched on arrays in memory.

    Args:
        source: what `compile_ptx` returns, or PTX with one entry.
        allow_approximate: compute `div.full`, `ex2.approx` and their like as the rounded exact value; else they raise.
        shared: bytes of shared memory, where PTX alone does not say.

    Raises:
        NotImplementedError: for an instruction that is not known, naming it.
    """

    def __init__(self, source: Compiled | str, *, allow_approximate: bool = False, shared: int | None = None) -> None:
        self.compiled = None if isinstance(source, str) else source
        text, shared = (source, shared) if isinstance(source, str) else (source.ptx, source.shared)
        self.code = Code(text, shared, allow_approximate)

    def run(self, grid: Sequence[int], *args: Any) -> Counts:
        """Launch on arrays and tensors of the CPU, which are written in place, and on numbers.

        Args:
            grid: blocks along x, y and z.
            args: what `compile_ptx` got; for PTX alone one for each parameter, of which the last may be left out.

        Raises:
            IndexError: for an access outside every array, or misaligned, with the instruction and the address.
            ValueError: for an argument that is not what the code was compiled for.
        """
        named = self.compiled.check(args) if self.compiled else [("", tensor_of(value)) for value in args]
        values: dict[str, Array] = {name: UINT[width_of(kind)](0) for name, kind in self.code.parameters.items()}
        memories: dict[int, Memory] = {}
        for window, (parameter, (name, value)) in enumerate(zip(values, named, strict=False), 1):
            if isinstance(value, Tensor):
                memories[window] = memory_of(value, name or parameter, middle(window))
                value = memories[window].base
            kind = self.code.parameters[parameter]
            width = width_of(kind)
            held = DTYPE[kind](value) if kind[0] == "f" else UINT[width](int(value) & (1 << width) - 1)
            values[parameter] = held.view(UINT[width])
        return self.code.launch([*grid, 1, 1][:3], values, memories)
