"""Try augmentations on the user's own training, in stages of small grids, with several seeds. See docs/tuning.md."""

from __future__ import annotations

from gpuaug.tuning.entry import tune
from gpuaug.tuning.outcome import Row, Run
from gpuaug.tuning.reporter import Reporter, run
from gpuaug.tuning.result import Result

__all__ = ["Reporter", "Result", "Row", "Run", "run", "tune"]


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
