"""The rows of a loader's profile."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.model.costs import Costs

__all__ = ["rows"]


def rows(loader: DataLoader[Any], count: int = 12) -> dict[str, float]:
    """Seconds of a batch in each row, from at least `count` batches."""
    with Recorder(loader) as recorder:
        while len(recorder.trace.batches) < count:
            list(recorder)
        return {row.name: row.seconds for row in Costs(recorder.trace, 2.0).rows}
