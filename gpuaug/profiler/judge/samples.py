"""Samples of a data set before and after a change, fetched where the loader's batches are fetched.

A data set may open a file, a connection or an LMDB environment at its first sample. Workers that are forked after that
would share it with this process, and read wrong bytes. So a loader with workers fetches these samples in one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

__all__ = ["Samples", "fetch"]

Fetched = tuple[Any, Any] | str  # a sample before and after the change, or an error


@dataclass(frozen=True)
class Samples:
    """Samples 0, 1, ... of both data sets.

    Attributes:
        before, after: Samples of each.
        found: What the last argument of `fetch` returned after all of them, in the process that fetched them.
    """

    before: list[Any]
    after: list[Any]
    found: Any


def fetch(loader: DataLoader[Any], changed: Any, count: int, look: Callable[[Any], Any]) -> Samples:
    """Fetch the first samples of a loader's data set, and of a changed one.

    Args:
        loader: The loader.
        changed: The changed data set; it gives as many samples.
        count: Number of samples.
        look: Called with the last sample of `changed`, where that was fetched.

    Raises:
        ValueError: If a data set cannot give these samples; the message is that of its own error.
    """
    collate = _Collate(look)
    both = _Both(loader.dataset, changed)
    if not loader.num_workers:
        pairs, found = collate([both[number] for number in range(count)])
    else:
        ((pairs, found),) = DataLoader(
            both,
            batch_sampler=[list(range(count))],
            num_workers=1,
            collate_fn=collate,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=torch.Generator(),  # the global one stays where it is
        )
    for pair in pairs:
        if isinstance(pair, str):
            raise ValueError(pair)
    return Samples([pair[0] for pair in pairs], [pair[1] for pair in pairs], found)


class _Both(Dataset[Any]):
    """Pairs of the samples of two data sets."""

    def __init__(self, before: Any, after: Any) -> None:
        self.before, self.after = before, after

    def __len__(self) -> int:
        return len(self.before)

    def __getitem__(self, number: int) -> Fetched:
        try:
            return self.before[number], self.after[number]
        except Exception as error:  # an exception of the user's may not survive pickling
            return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


class _Collate:
    """The pairs of a batch as they are, and what was found after them."""

    def __init__(self, look: Callable[[Any], Any]) -> None:
        self.look = look

    def __call__(self, pairs: Sequence[Fetched]) -> tuple[list[Fetched], Any]:
        last = pairs[-1]
        return list(pairs), None if isinstance(last, str) else self.look(last[1])
