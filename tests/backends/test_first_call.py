"""What a list compiles: the kernels that it needs, and not the large ones that it does not."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import pytest

TypingError = pytest.importorskip("numba").TypingError

CODE = """
import importlib, pkgutil, torch
import gpuaug as ga
import gpuaug.kernels.numba as package
from numba.core.dispatcher import Dispatcher

floats = [ga.ToDtype(torch.float32, scale=True)]
augment = ga.Augment({steps}, seed=0, backend="numba")
for count in (1, 7):
    augment(torch.zeros(count, 3, 40, 36, dtype=torch.uint8))
for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    for name, value in vars(importlib.import_module(info.name)).items():
        if isinstance(value, Dispatcher) and value.__module__ == info.name and value.overloads:
            print(name, *{{type(one.library).__name__ for one in value.overloads.values()}})
"""
CUT = {"cut_group", "cut_window", "cut", "place", "_source"}
ENTRIES = {"crop_group", "cut_group", "run_group", "finish_group", "finish_group_by_table", "fill"}
LARGE = {"crop_group", "run_group", "finish_group", "run_instructions", "crop", "finish"}


@pytest.mark.parametrize(
    ("steps", "needs", "not_needed"),
    [
        ("[ga.RandomHorizontalFlip()]", {"cut_group"}, LARGE | {"finish_group_by_table"}),
        ("[ga.RandomCrop(20)]", {"cut_group"}, LARGE | {"finish_group_by_table"}),
        ("[ga.RandomInvert(), ga.RandomPosterize(3), *floats]", {"finish_group_by_table"}, LARGE | CUT),
        ("[ga.CenterCrop(20), ga.RandomSolarize(9.0), *floats]", {"cut_group", "finish_group_by_table"}, LARGE),
        ("[ga.RandomResizedCrop(20), *floats]", {"crop_group", "finish_group_by_table"}, {"run_group", "finish_group"}),
        ("[ga.RandomResizedCrop(20), ga.ColorJitter(0.4, hue=0.1)]", {"crop_group", "run_group"}, {"finish_group"}),
    ],
)
def test_what_a_list_compiles(steps: str, needs: set[str], not_needed: set[str]) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(steps=steps)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    libraries = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert needs <= set(libraries)
    assert not set(libraries) & not_needed
    entries = {name for name, library in libraries.items() if library == "JITCodeLibrary"}
    assert entries <= ENTRIES  # all else is optimised, and made machine code of, where it is linked into
    assert {library for name, library in libraries.items() if name not in entries} <= {"Linked"}


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_a_kernel_is_compiled(collects: bool) -> None:
    from numba import njit
    from numba.core import event

    import gpuaug.kernels.numba.runtime.jit  # noqa: F401 - from now on it listens

    seen: list[bool] = []

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            seen.append(gc.isenabled())

        def on_end(self, event: Any) -> None:
            seen.append(gc.isenabled())

    def ours(x: Any) -> Any:
        return x + 1

    def theirs(x: Any) -> Any:
        return x + 2

    def fails(x: Any) -> Any:
        return x.no_such_name

    ours.__module__ = fails.__module__ = "gpuaug.kernels"
    listener = Listener()
    event.register("numba:compile", listener)
    was = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        assert njit(ours)(1) == 2
        assert gc.isenabled() is collects
        assert njit(theirs)(1) == 3
        with pytest.raises(TypingError):
            njit(fails)(1)
        assert gc.isenabled() is collects
    finally:
        event.unregister("numba:compile", listener)
        (gc.enable if was else gc.disable)()
    assert seen == [False, collects, collects, collects, False, collects]
