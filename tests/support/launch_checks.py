"""Compares each launch that reaches the driver with what the backend asked for, and runs it in the PTX emulator.

For a process that was started with the environment of `fakecuda`; tests/support/real_launch.py is such a process.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime.jit import JITFunction

from benchmarks.evidence import fakecuda, pseudograph
from benchmarks.evidence.pseudocuda import on_cuda, to_host
from benchmarks.evidence.ptx import Compiled, Emulator
from benchmarks.evidence.ptx_numbers import width_of

__all__ = ["Asked", "LaunchError", "Report", "Watch", "kernels"]

PACKAGE = "gpuaug.kernels.triton"
TYPES = {
    torch.uint8: "*u8", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64",
    torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.float64: "*fp64",
}  # fmt: skip
RANGES = {"i32": (-(2**31), 2**31), "i64": (-(2**63), 2**63), "u64": (0, 2**64)}


class LaunchError(AssertionError):
    """A launch is not what was asked for."""


@dataclass
class Asked:
    """What the backend asked `launch` for."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    num_warps: int
    maxnreg: int | None
    constants: dict[str, Any]
    stream: int
    started: int = 0


@dataclass
class Report:
    """What was launched."""

    launches: int = 0
    fast: int = 0  # without Triton's JIT
    repeated: Counter[str] = field(default_factory=Counter)  # from a tape, by kernel
    parameters: int = 0  # compared
    captured: int = 0  # launches that a graph holds
    replayed: int = 0
    streams: set[int] = field(default_factory=set)
    launched: Counter[str] = field(default_factory=Counter)  # by kernel
    compiled: dict[str, set[str]] = field(default_factory=dict)  # by kernel, the hashes of its specialisations

    def figures(self) -> dict[str, Any]:
        """For a file."""
        made = {name: len(hashes) for name, hashes in self.compiled.items()}
        return {
            **vars(self),
            "repeated": dict(self.repeated),
            "streams": len(self.streams),
            "launched": dict(self.launched),
            "compiled": made,
        }


def kernels() -> set[str]:
    """The names of all kernels of the package: what Triton compiles and no other kernel calls."""
    modules = [module for name, module in sys.modules.items() if name.startswith(PACKAGE)]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, JITFunction)}
    called = {name for function in found for name in function.fn.__code__.co_names}
    return {function.__name__ for function in found} - called


def expect(what: str, got: Any, wanted: Any) -> None:
    if got != wanted:
        raise LaunchError(f"{what}: {got!r}, but {wanted!r} was asked for")


def described(kernel: Any) -> Compiled:
    """What the emulator knows of a compiled kernel, from what Triton keeps of it."""
    names = kernel.src.fn.arg_names
    constexpr = {parameter.name for parameter in kernel.src.fn.params if parameter.is_constexpr}
    fixed = {names[path[0]]: value for path, value in kernel.src.constants.items()}
    aligned = {names[path[0]] for path, value in kernel.src.attrs.items() if ["tt.divisibility", 16] in value}
    given = tuple(name for name in names if name not in constexpr)
    fixed = {name: value for name, value in fixed.items() if name in given}
    return Compiled(kernel.asm["ptx"], given, fixed, frozenset(aligned), kernel.metadata.shared, kernel)


class Watch:
    """Checks every launch in this process, and runs it.

    Args:
        execute: run the code in the emulator.
    """

    def __init__(self, driver: fakecuda.Driver, report: Report, execute: bool = True) -> None:
        import gpuaug.kernels.triton  # noqa: F401

        self.report, self.execute = report, execute
        self.place = sys.modules[f"{PACKAGE}.runtime.launch"]
        self.inner = self.original = self.place.launch  # `inner` is where faults are planted
        self.emulators: dict[str, Emulator] = {}
        self.asked: list[Asked] = []
        self.wrong: list[BaseException] = []
        self.slow = 0
        self._count_slow()
        for name, module in list(sys.modules.items()):
            if name.startswith(PACKAGE) and getattr(module, "launch", None) is self.original:
                module.launch = self.launch  # type: ignore[attr-defined]
        tape = sys.modules[f"{PACKAGE}.runtime.tape"].Launch
        tape.start = self._repeat(tape.start)
        driver.hear(self.started)

    def _repeat(self, original: Any) -> Any:
        """In place of the start of a launch from a tape, which is checked as one that `launch` was asked for."""

        def start(noted: Any, tensors: list[Any], addresses: list[int], stream: int) -> None:
            kernel, num_warps, maxnreg, constants = noted.asked
            arguments = noted.arguments[: len(noted.arguments) - len(constants)]
            for place, number in noted.places:
                arguments[place] = tensors[number]
            for place, tensor in noted.constants.items():
                arguments[place] = tensor
            self.report.repeated[kernel.__name__] += 1
            now = torch.cuda.current_stream().cuda_stream
            asked = Asked(kernel, noted.grid, tuple(arguments), num_warps, maxnreg, constants, now)
            self._watched(asked, lambda: original(noted, tensors, addresses, stream))

        return start

    def _count_slow(self) -> None:
        original = JITFunction.run

        def run(*arguments: Any, **named: Any) -> Any:
            self.slow += 1
            return original(*arguments, **named)

        JITFunction.run = run

    def launch(
        self,
        kernel: Any,
        grid: Any,
        *arguments: Any,
        num_warps: int = 4,
        maxnreg: int | None = None,
        **constants: Any,
    ) -> None:
        """In place of the backend's `launch`, which it calls."""
        whole = (*map(int, grid), 1, 1)[:3]
        stream = torch.cuda.current_stream().cuda_stream
        asked = Asked(kernel, whole, arguments, num_warps, maxnreg, constants, stream)
        options = {"num_warps": num_warps, "maxnreg": maxnreg, **constants}
        self._watched(asked, lambda: self.inner(kernel, grid, *arguments, **options))

    def _watched(self, asked: Asked, launch: Callable[[], None]) -> None:
        before = self.slow
        self.asked.append(asked)
        try:
            launch()
        except RuntimeError:
            if self.wrong:  # found on the other side of C
                raise self.wrong.pop() from None
            raise
        finally:
            self.asked.pop()
            self.wrong.clear()
        expect("launches", asked.started, 1)
        self.report.launches += 1
        self.report.fast += self.slow == before
        self.report.launched[asked.kernel.__name__] += 1

    def started(self, raw: fakecuda.RawLaunch) -> None:
        """Hears of a launch from the driver."""
        try:
            with _disable_current_modes():
                if not self.asked:
                    raise LaunchError(f"{raw.kernel.name} was started by other means than `launch`")
                asked = self.asked[-1]
                asked.started += 1
                compiled = described(raw.kernel)
                check(raw, asked, compiled)
                self.report.parameters += parameters(raw, asked, compiled)
                self.report.streams.add(raw.stream)
                self.report.compiled.setdefault(raw.kernel.name, set()).add(raw.kernel.hash)
                if self.execute:
                    self.run(raw, asked, compiled)
        except BaseException as error:
            self.wrong.append(error)
            raise

    def run(self, raw: fakecuda.RawLaunch, asked: Asked, compiled: Compiled) -> None:
        """Run the kernel, or let the graph that is being captured do it."""
        emulator = self.emulators.setdefault(raw.kernel.hash, None) or Emulator(compiled)  # type: ignore[arg-type]
        self.emulators[raw.kernel.hash] = emulator
        hosts = [to_host(argument) for argument in asked.arguments]
        if not pseudograph.capturing:
            emulator.run(raw.grid, *hosts)
            return

        def replay(*arguments: Any) -> None:
            self.report.replayed += 1
            emulator.run(raw.grid, *arguments)

        self.report.captured += 1
        pseudograph.capturing[-1].add(replay, hosts, {})


def check(raw: fakecuda.RawLaunch, asked: Asked, compiled: Compiled) -> None:
    """Raise if another kernel, or one compiled for other arguments, or in another shape, was started."""
    kernel = raw.kernel
    if kernel.src.fn is not asked.kernel:
        raise LaunchError(f"kernel: {kernel.name}, but {asked.kernel.__name__} was asked for")
    expect("grid", raw.grid, asked.grid)
    expect("block", raw.block, (32 * asked.num_warps, 1, 1))
    expect("num_warps", kernel.metadata.num_warps, asked.num_warps)
    expect("maxnreg", kernel.metadata.maxnreg, asked.maxnreg)
    expect("shared memory", raw.shared, kernel.metadata.shared)
    expect("launch attributes", raw.attributes, 0)
    expect("stream", raw.stream, asked.stream)
    expect("fused multiply-adds", kernel.metadata.enable_fp_fusion, False)
    names = kernel.src.fn.arg_names
    constants = {names[path[0]]: value for path, value in kernel.src.constants.items()}
    for name, value in asked.constants.items():
        expect(f"constant {name}", constants[name], value)
    hosts = [name for name, value in named(asked, compiled) if isinstance(value, Tensor) and not on_cuda(value)]
    expect("tensors on the host", hosts, [])


def named(asked: Asked, compiled: Compiled) -> list[tuple[str, Any]]:
    return list(zip(compiled.names, asked.arguments, strict=True))


def parameters(raw: fakecuda.RawLaunch, asked: Asked, compiled: Compiled) -> int:
    """Compare every parameter with its argument; returns how many there are."""
    signature, code = raw.kernel.src.signature, declared(raw.kernel)
    passed = [(name, value) for name, value in named(asked, compiled) if name not in compiled.fixed]
    for name, value in passed:
        if isinstance(value, Tensor):
            expect(f"type of {name}", signature[name], TYPES[value.dtype])
        else:
            least, end = RANGES[signature[name]]
            if not least <= value < end:
                raise LaunchError(f"{name}: {value} does not fit the {signature[name]} it was compiled for")
    try:
        compiled.check([to_host(argument) for argument in asked.arguments])
    except ValueError as error:
        raise LaunchError(str(error)) from None
    expect("parameters besides two of Triton's own", len(code) - 2, len(passed))
    for number, (width, (name, value)) in enumerate(zip(code, passed, strict=False)):
        wanted = value.data_ptr() if isinstance(value, Tensor) else value
        expect(f"parameter {name}", raw.parameter(number, width), wanted % 2 ** (8 * width))
    for number in (-2, -1):
        expect("Triton's scratch memory", raw.parameter(len(code) + number, 8), 0)
    return len(code)


def declared(kernel: Any) -> list[int]:
    """The width in bytes of every parameter that the PTX declares."""
    head = kernel.asm["ptx"].partition(".entry")[2].partition(")")[0]
    return [
        width_of(line.split()[1].lstrip(".")) // 8 for line in head.splitlines() if line.strip().startswith(".param")
    ]
