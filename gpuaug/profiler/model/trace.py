"""A trace: the times of each batch, in seconds since the start, and the loader's settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

__all__ = ["BACKWARD", "DEVICE", "FORWARD", "OPTIMIZER", "REST", "Batch", "Interval", "Loader", "Memory", "Trace",
           "batch_size"]  # fmt: skip

Interval = tuple[float, float]

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"  # phases of a step
DEVICE = "waiting for the device"  # calls in the step that wait for it
REST = "rest of the step"


@dataclass
class Batch:
    """The times of one batch. Moments are seconds since the trace began; durations are seconds.

    Attributes:
        epoch: Number of the epoch, from 0.
        worker: Number of the worker, from 0 in order of appearance; -1 is the main process.
        size: Number of samples.
        fetch: Span from the start of the first sample to the end of collating.
        cpu, queue: Time of the fetch on a core, and waiting for a core. The rest is waiting for something else.
        threads: Time of all threads of the process on cores during the fetch.
        samples: (index, seconds) of each sample; the index is None for an iterable data set.
        together: Whether the data set fetched all samples at once, so that each has the same part of the time.
        stages: {name: (wall, cpu, queue)} without the time of inner stages; None if not timed in detail.
        sent, received, pinned: Spans of pickling, unpickling and pinning; None if it did not happen.
        moved, queued: Time of pickling and of unpickling on a core, and waiting for a core.
        request: (cpu, queue) of the main thread from `asked` to `given`; None if only the wall clock was read. With a
            wrapper, which may compute in between, cpu is 0.
        asked: Moment at which the main process requested the batch.
        given: Moment at which the main process received the batch.
        done: Moment at which the step ended.
        step: (cpu, queue, threads) of the step: the main thread on a core and waiting for one, and all threads of the
            process on cores. None if only the wall clock was read.
        marks: {name: (wall, cpu, queue)} of the phases of the step, and of the stages that the user marked in it.
        device: (seconds of the step on the device, seconds that the device was idle before it); None without a device.
        phases: {phase: seconds on the device}; empty without a device or a backward pass.
        tensors: Number of tensors in the batch.
        tensor_bytes, other_bytes: Bytes of the tensors, and of arrays and bytes objects, which are pickled.
        float_bytes: Bytes of float32 images.
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
    together: bool = False
    phases: dict[str, float] = field(default_factory=dict)
    queued: Interval = (0.0, 0.0)
    request: Interval | None = None

    @property
    def blocked(self) -> float:
        """Time of the fetch spent waiting for something else than a core: storage, the network, a lock, a sleep."""
        return max(0.0, self.fetch[1] - self.fetch[0] - self.cpu - self.queue)


@dataclass(frozen=True)
class Memory:
    """The largest memory that was seen, in bytes. None is unknown.

    Attributes:
        main: Resident memory of the main process during the trace.
        peak: Resident memory of the main process since it started.
        workers: Resident memory of each worker. Pages that workers share with the main process count in each.
        device: Memory of tensors on the CUDA device since the process started.
    """

    main: int | None
    peak: int | None
    workers: list[int] = field(default_factory=list)
    device: int | None = None

    def joined(self, other: Memory | None) -> Memory:
        """The largest memory of two traces."""
        if other is None:
            return self
        return Memory(
            max(self.main or 0, other.main or 0) or None,
            max(self.peak or 0, other.peak or 0) or None,
            max(self.workers, other.workers, key=sum),
            None if self.device is None and other.device is None else max(self.device or 0, other.device or 0),
        )


@dataclass(frozen=True)
class Loader:
    """The settings of a loader."""

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
        """The settings of a DataLoader; `transforms` are the names of its data set's transforms."""
        try:
            length = len(loader)
        except (TypeError, NotImplementedError):  # of a sampler without a length
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
    """Number of samples in a batch; None if the loader and its batch sampler do not say."""
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)


def start_method(context: Any) -> str:
    """fork, spawn or forkserver."""
    if context is None:
        return str(torch.multiprocessing.get_start_method())
    return str(context if isinstance(context, str) else context.get_start_method())


@dataclass
class Trace:
    """The batches of one or more epochs.

    Attributes:
        loader: Settings of the loader.
        batches: Batches in the order in which the main process received them.
        starts: For each epoch: the moments at which iteration began, the iterator existed, and the first batch arrived.
        ends: For each finished epoch: seconds from the end of the last step to the end of iteration.
        memory: Memory of the processes and of the device; None if it was not looked at.
    """

    loader: Loader
    batches: list[Batch] = field(default_factory=list)
    starts: list[tuple[float, float, float]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    memory: Memory | None = None

    def asdict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def fromdict(cls, given: dict[str, Any]) -> Trace:
        return cls(
            Loader(**given["loader"]),
            [Batch(**batch) for batch in given["batches"]],
            [(begun, there, first) for begun, there, first in given["starts"]],
            list(given["ends"]),
            None if given.get("memory") is None else Memory(**given["memory"]),
        )
