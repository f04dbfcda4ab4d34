"""Find the DataLoader that a user passed, check that it can be traced, and make a traced copy."""

from __future__ import annotations

import copy
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, IterDataPipe, MapDataPipe, Subset

from gpuaug.profiler.measure.tracing import (
    TracedBatches,
    TracedCollate,
    TracedDataset,
    TracedIterable,
    TracedSubset,
)
from gpuaug.profiler.measure.wrappers import around, inside, instead, is_data_loader

__all__ = ["check_traceable", "data_loader", "rewrapped", "traced"]

DEPTH = 4  # nested wrappers around a loader, at most


def data_loader(loader: Any) -> DataLoader[Any]:
    """The DataLoader itself, or the one inside a wrapper.

    Raises:
        ValueError: If there is none.
    """
    found = loader
    for _ in range(DEPTH):
        if found is None:
            break
        if is_data_loader(found):
            return found
        found = inside(found)
    raise ValueError(
        f"profile: `loader` must be a torch DataLoader or have one as its `loader`, got {type(loader).__name__}. "
        f"{instead(loader)}"
    )


def rewrapped(wrapper: Any, view: Any) -> Any:
    """A copy of a wrapper, and of the wrappers inside it, around `view` instead of the DataLoader."""
    inner = inside(wrapper)
    return around(wrapper, view if is_data_loader(inner) else rewrapped(inner, view))


def check_traceable(loader: DataLoader[Any]) -> None:
    """Check that tracing does not change a loader's batches.

    Raises:
        ValueError: If it could.
    """
    home = str(getattr(type(loader).__iter__, "__module__", "")).partition(".")[0]
    if home not in ("torch", "torchdata"):
        raise ValueError(
            f"profile: `loader` must iterate as torch's DataLoader does, got {type(loader).__name__}, which has a "
            "custom __iter__ or is being profiled already. Pass a plain DataLoader with its settings."
        )
    if isinstance(loader.dataset, (IterDataPipe, MapDataPipe)):
        raise ValueError(
            "profile: `loader` must have a Dataset or IterableDataset, got a data pipe, which torch shuffles in "
            "another way. Wrap it in an IterableDataset."
        )


def traced(loader: DataLoader[Any]) -> DataLoader[Any]:
    """A copy of a loader whose batches are TracedBatches. The loader itself is not changed.

    The copy shares the sampler and the generator, so its batches are those that the loader would give.
    """
    twin = copy.copy(loader)
    dataset = loader.dataset
    wrapped = _wrapper(dataset)(dataset)
    twin.__dict__.update(dataset=wrapped, collate_fn=TracedCollate(loader.collate_fn), _iterator=None)
    return twin


def _wrapper(dataset: Any) -> Any:
    """The class that traces a data set."""
    if isinstance(dataset, IterableDataset):
        return TracedIterable
    if not callable(getattr(dataset, "__getitems__", None)):
        return TracedDataset
    return TracedSubset if _one_by_one(dataset) else TracedBatches


def _one_by_one(dataset: Any) -> bool:
    """Whether a data set is a Subset, of a Subset, ..., that asks for one sample after the other."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
        if not callable(getattr(dataset, "__getitems__", None)):
            return True
    return False
