"""The first samples of a data set, fetched where the loader's batches are fetched.

A data set may open a file, a connection or an LMDB environment at its first sample. Workers that are forked after that
would share it with this process, and read wrong bytes. So a loader with workers fetches these samples in one, too.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from gpuaug.profiler.measure.passes import clone

__all__ = ["fetch"]


def fetch(
    loader: DataLoader[Any], dataset: Any, count: int, look: Callable[[Any], Any] | None = None
) -> tuple[list[Any], Any]:
    """(the first samples of a data set, what `look` found), fetched as by the loader. The first sample warms it up.

    Args:
        loader: The loader.
        dataset: Its data set, or a changed one.
        count: Number of samples.
        look: Called with the last sample, where that was fetched: for the first sample, and again for all of them.

    Raises:
        ValueError: If the data set cannot give these samples; the message is that of its own error.
    """
    turns = [[0], list(range(count))]
    taken = _Taken(look)
    try:
        if not loader.num_workers:
            return [taken([dataset[number] for number in turn]) for turn in turns][-1]
        *_, packed = DataLoader(
            dataset,
            batch_sampler=turns,
            num_workers=1,
            collate_fn=_Packed(taken),
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=torch.Generator(),  # the global one stays where it is
        )
    except Exception as error:
        raise ValueError(_own_words(error)) from error
    found: tuple[list[Any], Any] = pickle.loads(packed)
    return found


def _own_words(error: Exception) -> str:
    """The message of an error, without the traceback that torch adds to that of a worker."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    if lines[0].startswith("Caught "):
        return lines[-1].removeprefix("ValueError: ")
    return str(error) if isinstance(error, ValueError) else f"{type(error).__qualname__}: {error}"


class _Taken:
    """Samples, and what `look` found."""

    def __init__(self, look: Callable[[Any], Any] | None) -> None:
        self.look = look

    def __call__(self, samples: list[Any]) -> tuple[list[Any], Any]:
        return samples, None if self.look is None else self.look(samples[-1])


class _Packed:
    """The same as bytes: as tensors they would take a file descriptor each, and a view its whole memory, to be sent."""

    def __init__(self, taken: _Taken) -> None:
        self.taken = taken

    def __call__(self, samples: list[Any]) -> bytes:
        samples, found = self.taken(samples)
        return pickle.dumps(([clone(sample) for sample in samples], found))
