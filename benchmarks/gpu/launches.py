"""What the Triton backend launches, seen and replaced: every kernel goes through the backend's function `launch`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["kernels", "listening", "name", "replaced"]

PACKAGE = "gpuaug.kernels.triton"

Launch = Callable[..., None]  # kernel, grid, *arguments, num_warps=4, **constants


def name(kernel: Any) -> str:
    """Of a compiled or an interpreted kernel."""
    while not hasattr(kernel, "__name__"):
        kernel = kernel.fn
    return str(kernel.__name__)


def kernels() -> set[str]:
    """The names of all kernels that the backend has."""
    importlib.import_module(PACKAGE)
    modules = [module for place, module in list(sys.modules.items()) if place.startswith(PACKAGE)]
    found = {name for module in modules for name, value in vars(module).items() if hasattr(value, "fn")}
    return {name for name in found if name.endswith("_kernel")}


@contextmanager
def replaced(make: Callable[[Launch], Launch]) -> Iterator[None]:
    """Inside, the backend launches with what `make` makes of its function."""
    importlib.import_module(PACKAGE)
    original = sys.modules[f"{PACKAGE}.runtime.launch"].launch
    modules = [module for place, module in list(sys.modules.items()) if place.startswith(PACKAGE)]
    users = [module for module in modules if getattr(module, "launch", None) is original]
    made, tape = make(original), sys.modules[f"{PACKAGE}.runtime.tape"]
    before, tape.ENABLED = tape.ENABLED, False  # type: ignore[attr-defined]
    for module in users:
        module.launch = made  # type: ignore[attr-defined]
    try:
        yield
    finally:
        tape.ENABLED = before  # type: ignore[attr-defined]
        for module in users:
            module.launch = original  # type: ignore[attr-defined]


@contextmanager
def listening() -> Iterator[list[str]]:
    """Inside, the names of the kernels are noted as they are launched."""
    seen: list[str] = []

    def make(launch: Launch) -> Launch:
        def noted(kernel: Any, grid: Any, *arguments: Any, **named: Any) -> None:
            seen.append(name(kernel))
            launch(kernel, grid, *arguments, **named)

        return noted

    with replaced(make):
        yield seen
