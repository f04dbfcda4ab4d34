"""Where these files lie: `benchmarks` in a clone of the repository, `gpuaug.benchmarks` in an installed package."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

__all__ = ["PACKAGE", "RESULTS", "ROOT", "from_tests"]

PACKAGE = __name__.rpartition(".")[0]  # what stands before a module's name in `python -m`
ROOT = Path(__file__).parents[1] if "." not in PACKAGE else None  # of the clone; None where installed
RESULTS = Path(__file__).with_name("results")  # of stored runs, which an installed package does not have


def from_tests(module: str, name: str) -> Any:
    """A name of a module of the tests, which are in the repository only.

    Raises:
        RuntimeError: if the tests are not there.
    """
    if ROOT is None:  # a folder `tests` that Python finds now is somebody else's
        raise RuntimeError(
            f"{PACKAGE}: this part needs the repository's tests, which an installed package does not have. "
            "Run it in a clone, as python -m benchmarks."
        )
    return getattr(importlib.import_module(f"tests.{module}"), name)
