"""Faults planted between the backend and the driver, each of which tests/support/launch_checks.py must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime.jit import JITFunction

from tests.support.launch_checks import Watch
from tests.support.launch_parts import alignments, numbers, numbers_kernel

__all__ = ["noticed"]

Launch = Callable[..., None]


def swapped(launch: Launch, kernel: Any, grid: Any, *arguments: Any, **named: Any) -> None:
    """Two numbers, each in the other's place."""
    out, small, large, *rest = arguments
    launch(kernel, grid, out, large, small, *rest, **named)


def elsewhere(launch: Launch, kernel: Any, grid: Any, *arguments: Any, **named: Any) -> None:
    """Another tensor of the same kind."""
    launch(kernel, grid, arguments[0].clone(), *arguments[1:], **named)


def larger(launch: Launch, kernel: Any, grid: Any, *arguments: Any, **named: Any) -> None:
    launch(kernel, (grid[0] + 1, *grid[1:]), *arguments, **named)


def wider(launch: Launch, kernel: Any, grid: Any, *arguments: Any, num_warps: int, **named: Any) -> None:
    launch(kernel, grid, *arguments, num_warps=2 * num_warps, **named)


def another_constant(launch: Launch, kernel: Any, grid: Any, *arguments: Any, N: int, **named: Any) -> None:  # noqa: N803
    launch(kernel, grid, *arguments, N=N // 2, **named)


def another_stream(launch: Launch, *arguments: Any, **named: Any) -> None:
    with torch.cuda.stream(torch.cuda.Stream()):
        launch(*arguments, **named)


def never(launch: Launch, *arguments: Any, **named: Any) -> None:
    """Nothing is started."""


def twice(launch: Launch, *arguments: Any, **named: Any) -> None:
    launch(*arguments, **named)
    launch(*arguments, **named)


FAULTS = (swapped, elsewhere, larger, wider, another_constant, another_stream, never, twice)


@contextmanager
def replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(holder, name)  # a fault in something that is no longer there is none
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def dtype_only(argument: Any) -> Any:
    """In place of `_kind`: neither alignment nor the value of a number counts."""
    return argument.dtype if isinstance(argument, Tensor) else None


def plants(watch: Watch) -> dict[str, Callable[[], None]]:
    """Faults in `launch` and in Triton, each with a part that meets it."""
    found: dict[str, Callable[[], None]] = {}
    for fault in FAULTS:

        def meet(fault: Any = fault) -> None:
            def inner(*arguments: Any, **named: Any) -> None:
                fault(watch.original, *arguments, **named)

            with replaced(watch, "inner", inner):
                numbers(watch)

        found[fault.__name__] = meet
    return found | {
        "stale alignment": lambda: stale(watch, (7, 9, 3), (7, 9, 3), 1),
        "stale one": lambda: stale(watch, (7, 9, 1), (7, 9, 3), 0),
        "stale multiple of 16": lambda: stale(watch, (16, 9, 3), (7, 9, 3), 0),
        "stale width": lambda: stale(watch, (7, 9, 3), (7, 2**40 + 1, 3), 0),
        "stale in a list": lambda: _stale_list(watch),
        "stream of Triton": lambda: _stream(watch),
        "host memory": lambda: _host(watch),
        "without launch": _around,
        "fused": lambda: _fused(watch),
        "width of Triton": lambda: _narrow(watch),
    }


def stale(watch: Watch, first: tuple[int, ...], then: tuple[int, ...], start: int) -> None:
    """A kernel that is kept for other arguments than those it was compiled for."""
    memory = torch.zeros(9, dtype=torch.int64, device="cuda")
    with replaced(watch.place, "kind", dtype_only):
        watch.launch(numbers_kernel, (1,), memory[:8], *first, N=8, num_warps=1)
        watch.launch(numbers_kernel, (1,), memory[start : start + 8], *then, N=8, num_warps=1)


def _stale_list(watch: Watch) -> None:
    with replaced(watch.place, "kind", dtype_only):
        alignments()


def _stream(watch: Watch) -> None:
    active = triton.runtime.driver.active
    with replaced(active, "get_current_stream", lambda device: 0), torch.cuda.stream(torch.cuda.Stream()):
        numbers(watch)


def _host(watch: Watch) -> None:
    """Memory that a device could not read; the address is right here."""
    watch.launch(numbers_kernel, (1,), torch.zeros(8, dtype=torch.int64, device="cpu"), 5, 7, 3, N=8, num_warps=1)


def _around() -> None:
    """A launch that the backend's `launch` knows nothing of; it fails as a launch on a device may."""
    numbers_kernel[(1,)](torch.zeros(8, dtype=torch.int64, device="cuda"), 5, 7, 3, N=8, num_warps=1)


def _fused(watch: Watch) -> None:
    original = JITFunction.run

    def run(*arguments: Any, **named: Any) -> Any:
        return original(*arguments, **{**named, "enable_fp_fusion": True})

    with replaced(JITFunction, "run", run):
        numbers(watch)


def _narrow(watch: Watch) -> None:
    """A launcher that takes numbers of 64 bits for 32."""
    launcher = triton.runtime.driver.active.launcher_cls
    original = launcher.__init__

    def init(self: Any, source: Any, metadata: Any) -> None:
        wide = source.signature
        source.signature = {name: "i32" if kind == "i64" else kind for name, kind in wide.items()}
        try:
            original(self, source, metadata)
        finally:
            source.signature = wide

    with replaced(launcher, "__init__", init):
        numbers(watch)


def forget(watch: Watch) -> None:
    """Let nothing be left of kernels that were compiled, so that a fault meets both ways of a launch."""
    watch.place.COMPILED.clear()
    watch.place.KNOWN.clear()
    numbers_kernel.device_caches.clear()


def noticed(watch: Watch) -> dict[str, str | None]:
    """What each planted fault is met with: the error's text, or None if nobody noticed."""
    found: dict[str, Any] = {}
    for name, meet in plants(watch).items():
        forget(watch)
        try:
            meet()
            found[name] = None
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    forget(watch)
    return found
