"""`gpuaug bench`: the command of `python -m benchmarks`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

__all__ = ["command"]

PACKAGE = Path(__file__).parents[1]  # the folder of gpuaug


def missing() -> None:
    """Compare gpuaug with other libraries (the benchmarks are not installed)."""
    sys.exit(f"bench: the benchmarks must lie in {PACKAGE} or beside it, found none. Install gpuaug again.")


def find() -> Callable[..., None]:
    """The command of the benchmarks: they are `gpuaug.benchmarks` when installed, and `benchmarks` in a clone."""
    for name, folder in (("gpuaug.benchmarks", PACKAGE), ("benchmarks", PACKAGE.parent)):
        found = importlib.util.find_spec(name)
        if found is not None and found.origin and Path(found.origin).parent == folder / "benchmarks":
            command: Callable[..., None] = import_module(f"{name}.__main__").command
            return command
    return missing


command = find()
