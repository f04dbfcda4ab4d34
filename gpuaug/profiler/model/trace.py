"""What a loader's batches told: one `Batch` for each, in seconds from the start, and the loader's settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

__all__ = ["Batch", "Interval", "Loader", "Trace", "batch_size"]

Interval = tuple[float, float]


@dataclass
class Batch:
    """One batch; times are seconds since the trace began, durations are seconds.

    Attributes:
        epoch: that it belongs to, from 0.
        worker: that made it, from 0 in order of appearance; -1 is the main process.
        size: samples in it.
        fetch: from the first sample's start to the end of collating.
        cpu, queue: of the fetch: on a core, and waiting for one. What is left is waiting for something else.
        threads: of the fetch: time of all the process's threads on cores.
        samples: (index, seconds) of each sample; the index is None where the data set is iterable.
        stages: name -> (wall, cpu, queue), without what inner stages took; None if it was not timed in detail.
        sent, received, pinned: spans of pickling, unpickling and pinning; None where it did not happen.
        moved: seconds on a core of pickling and unpickling.
        asked, given, done: when the main process asked for it, had it, and had done its step with it.
        step: (cpu, queue) of the main thread in the step, and the time of all the process's threads; None if only the
            wall was looked at.
        marks: name -> (wall, cpu, queue) of the stages that the user marked in the step, if it was looked at.
        device: seconds of the device from the step's start to its end, and idle before it; None without one.
        tensors, tensor_bytes, other_bytes, float_bytes: what travels: tensors, their bytes, of arrays and bytes objects
            that are pickled, and of float32 images.
    """

    epoch: int
    worker: int
    size: int
    fetch: Interval
    cpu: float
    queue: float
    threads: float
    samples: list[tuple[Any, float]]
    stages: dict[str, tuple[float, float, float]] | None
    sent: Interval | None
    received: Interval | None
    pinned: Interval | None
    moved: Interval
    asked: float
    given: float
    done: float
    step: tuple[float, float, float] | None
    marks: dict[str, tuple[float, float, float]]
    device: Interval | None
    tensors: int
    tensor_bytes: int
    other_bytes: int
    float_bytes: int

    @property
    def blocked(self) -> float:
        """Seconds of the fetch spent waiting, not for a core: storage, the network, a lock, a sleep."""
        return max(0.0, self.fetch[1] - self.fetch[0] - self.cpu - self.queue)


@dataclass(frozen=True)
class Loader:
    """A loader's settings."""

    kind: str
    dataset: str
    length: int | None  # batches in an epoch
    batch_size: int | None
    workers: int
    prefetch: int
    pin_memory: bool
    persistent: bool
    in_order: bool
    start: str  # fork, spawn or forkserver
    iterable: bool
    seeded: bool  # whether a worker_init_fn is set
    collate: str  # name of the function or its class
    transforms: list[str]

    @classmethod
    def of(cls, loader: DataLoader[Any], transforms: list[str]) -> Loader:
        """Read them off a loader."""
        try:
            length = len(loader)
        except TypeError:
            length = None
        context = getattr(loader, "multiprocessing_context", None)
        return cls(
            kind=type(loader).__name__,
            dataset=type(loader.dataset).__name__,
            length=length,
            batch_size=batch_size(loader),
            workers=loader.num_workers,
            prefetch=loader.prefetch_factor or 2,
            pin_memory=bool(loader.pin_memory),
            persistent=bool(loader.persistent_workers),
            in_order=bool(getattr(loader, "in_order", True)),
            start=start_method(context),
            iterable=isinstance(loader.dataset, IterableDataset),
            seeded=loader.worker_init_fn is not None,
            collate=getattr(loader.collate_fn, "__name__", type(loader.collate_fn).__name__),
            transforms=transforms,
        )


def batch_size(loader: DataLoader[Any]) -> int | None:
    """Samples of a batch, as far as the loader or its batch sampler says."""
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)


def start_method(context: Any) -> str:
    if context is None:
        return str(torch.multiprocessing.get_start_method())
    return str(context if isinstance(context, str) else context.get_start_method())


@dataclass
class Trace:
    """The batches of one or more epochs.

    Attributes:
        loader: settings.
        batches: in the order they were given.
        starts: for each epoch: when iteration began, when its iterator was there, and when its first batch was.
        ends: for each epoch that came to its end: from the last batch's step to the end of iteration.
    """

    loader: Loader
    batches: list[Batch] = field(default_factory=list)
    starts: list[tuple[float, float, float]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def asdict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def fromdict(cls, given: dict[str, Any]) -> Trace:
        return cls(
            Loader(**given["loader"]),
            [Batch(**batch) for batch in given["batches"]],
            [(begun, there, first) for begun, there, first in given["starts"]],
            list(given["ends"]),
        )
