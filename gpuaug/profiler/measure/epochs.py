"""Loaders whose epochs are too short to measure: a copy that goes on from epoch to epoch without a new start."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from gpuaug.profiler.measure.tracing import PassingOn
from gpuaug.profiler.model.trace import Trace

__all__ = ["SHORT", "is_short", "length_of", "repeated"]

SHORT = 8  # batches of an epoch; with fewer, most of a measurement would be starts of epochs
ENOUGH = 8192  # batches of the copy's epoch, at least


def length_of(loader: DataLoader[Any], trace: Trace | None = None) -> int | None:
    """Number of batches in an epoch: as the loader says, or as a trace with a whole epoch shows; None if unknown."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):  # of a sampler without a length
        pass
    if trace is None or not trace.ends:
        return None
    return max((sum(batch.epoch == epoch for batch in trace.batches) for epoch in range(len(trace.ends))), default=0)


def is_short(length: int | None) -> bool:
    """Whether an epoch of so many batches is too short."""
    return length is not None and 0 < length < SHORT


def repeated(loader: DataLoader[Any], length: int) -> DataLoader[Any]:
    """A copy of a loader whose epoch is as long as many of the loader's. The loader itself is not changed.

    Args:
        loader: A DataLoader.
        length: Number of batches in an epoch of the loader.
    """
    times = math.ceil(ENOUGH / length)
    twin = copy.copy(loader)
    if isinstance(loader.dataset, IterableDataset):
        changed: dict[str, Any] = {"dataset": RepeatedStream(loader.dataset, times)}
    elif loader.batch_sampler is not None:
        changed = {"batch_sampler": Repeated(loader.batch_sampler, times)}
    else:
        changed = {"sampler": Repeated(loader.sampler, times)}
    twin.__dict__.update(changed, _iterator=None)
    return twin


class Repeated:
    """A sampler that begins again when it has ended. Its other attributes are those of the sampler."""

    def __init__(self, sampler: Any, times: int) -> None:
        self.sampler_of_one_epoch, self.times = sampler, times

    def __len__(self) -> int:
        return self.times * len(self.sampler_of_one_epoch)

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.times):
            yield from self.sampler_of_one_epoch

    def __getattr__(self, name: str) -> Any:
        if name == "sampler_of_one_epoch":  # not set yet
            raise AttributeError(name)
        return getattr(self.sampler_of_one_epoch, name)


class RepeatedStream(PassingOn, IterableDataset[Any]):
    """An iterable data set that begins again when it has ended. Its attributes are those of the data set."""

    def __init__(self, dataset: Any, times: int = 1) -> None:
        super().__init__(dataset)
        self.__dict__["_repeats"] = times

    def __len__(self) -> int:
        return self._repeats * len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self._repeats):
            yield from self.dataset

    def __reduce__(self) -> Any:
        return RepeatedStream, (self.dataset, self._repeats)
