"""Iterate over a loader as one always does, and keep what its batches tell."""

from __future__ import annotations

import copy
import operator
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, IterDataPipe, MapDataPipe

from gpuaug.profiler.measure import instrument
from gpuaug.profiler.measure.clock import Notes, clocks, mine
from gpuaug.profiler.measure.tracing import (
    TracedBatch,
    TracedBatches,
    TracedCollate,
    TracedDataset,
    TracedIterable,
    reset,
)
from gpuaug.profiler.model.trace import Batch, Interval, Loader, Trace

__all__ = ["Recorder", "data_loader"]

COUNTED, COUNTED_AGAIN = 4, 32  # batches whose contents are looked at: the first ones, and then one in so many
LOOKED, LOOKED_AGAIN = 16, 7  # steps that all clocks are read for: the first ones, and then one in so many
DEPTH = 4  # of wrappers around a loader
KEPT = 4096  # batches; of a longer run the last ones
SECOND = 1e-9  # of a nanosecond


class _Standing:
    """Stands for a loader: its length, and whatever else is asked of it."""

    loader: Any

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # not there yet
            raise AttributeError(name)
        return getattr(self.loader, name)


class Recorder(_Standing):
    """Iterate over a loader as one always does, and keep what its batches tell.

    Args:
        loader: a DataLoader, or what holds one as its `loader` (timm's PrefetchLoader, gpuaug's DeviceLoader).
        origin: time.perf_counter_ns() from which seconds count; None: now.

    Attributes:
        trace: what was seen so far.
    """

    def __init__(self, loader: Any, origin: int | None = None) -> None:
        self.loader = loader
        self.inner = data_loader(loader)
        traceable(self.inner)
        self.origin = time.perf_counter_ns() if origin is None else origin
        self.patches = instrument.Patches()
        self._names: list[str] = []
        self._seen: deque[_Seen] = deque(maxlen=KEPT)
        self._starts: list[tuple[float, float, float]] = []
        self._ends: list[float] = []
        self._twin: DataLoader[Any] | None = None
        self._wrapper: Any = None
        self._view: _View | None = None
        self._contents = (0, 0, 0, 0)
        self._counted = 0
        self._steps = 0
        self._epoch = 0

    def __enter__(self) -> Recorder:
        reset()
        try:
            self._twin = traced(self.inner)
            if self.loader is not self.inner:
                self._view = _View(self, self._twin)
                self._wrapper = rewrapped(self.loader, self._view)
            self._names = instrument.transforms(self.inner.dataset, self.patches)
            if not self.inner.num_workers:  # workers time their own
                instrument.decoders(self.patches)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _restore(self) -> None:
        self.patches.restore()
        self._twin = self._wrapper = self._view = None  # ends persistent workers

    @property
    def trace(self) -> Trace:
        """Of the batches whose step is over."""
        before: Any = None
        workers: dict[int, dict[int, int]] = {}
        batches = []
        for seen in [seen for seen in self._seen if seen.over]:
            device = None if seen.events is None else _elapsed(seen.events, before)
            before = seen.events
            found = workers.setdefault(seen.epoch, {})  # every epoch may have workers of its own
            worker = -1 if seen.notes.process == os.getpid() else found.setdefault(seen.notes.process, len(found))
            batches.append(self._batch(seen, worker, device))
        return Trace(Loader.of(self.inner, self._names), batches, list(self._starts), list(self._ends))

    def __iter__(self) -> Iterator[Any]:
        """One epoch. A batch's step is what happens between two batches."""
        if self._twin is None:
            raise RuntimeError("Profile: the loader can be iterated inside `with gpuaug.profile(loader) as p:` only.")
        yield from self._epoch_of(self._twin if self._wrapper is None else self._wrapper)

    def _seconds(self, moment: int) -> float:
        return (moment - self.origin) * SECOND

    def _span(self, span: tuple[int, int] | None) -> Interval | None:
        return None if span is None else (self._seconds(span[0]), self._seconds(span[1]))

    def _epoch_of(self, source: Any) -> Iterator[Any]:
        """A wrapper pulls batches as it likes; a step is what happens between two of its own."""
        begun = time.perf_counter_ns()
        iterator = iter(source)
        there = time.perf_counter_ns()
        epoch, first = self._epoch, True
        self._epoch += 1
        last = begun
        while True:
            asked = time.perf_counter_ns()
            try:
                found = next(iterator)
            except StopIteration:
                self._ends.append((time.perf_counter_ns() - last) * SECOND)
                return
            given = time.perf_counter_ns()
            if first:
                self._starts.append((self._seconds(begun), self._seconds(there), self._seconds(given)))
                first = False
            if isinstance(found, TracedBatch):
                notes, found = found.notes, found.batch
                self._count(found)
            elif self._view is not None and self._view.passed:
                notes = self._view.passed.popleft()
            elif self._twin is not None and source is self._twin:
                raise ValueError(
                    f"profile: `loader` must give what its collate_fn made, and {type(self.inner).__name__} does not. "
                    "Pass the DataLoader that feeds it."
                )
            else:  # a wrapper that makes more batches than it takes
                yield found
                continue
            self._steps += 1
            look = self._steps <= LOOKED or self._steps % LOOKED_AGAIN == 0
            with _Seen(notes, epoch, asked, given, self._contents, look) as seen:
                self._seen.append(seen)
                yield found
                del found
            last = seen.end[0]

    def _count(self, batch: Any) -> None:
        """What travels differs little from batch to batch, and looking costs time."""
        self._counted += 1
        if self._counted <= COUNTED or self._counted % COUNTED_AGAIN == 0:
            self._contents = count(batch)

    def _batch(self, seen: _Seen, worker: int, device: Interval | None) -> Batch:
        notes, (tensors, inside, others, floats) = seen.notes, seen.contents
        wall, cpu, queue = notes.clocks
        step = None
        if seen.marks is not None:
            _, busy, waited = (after - before for after, before in zip(seen.end, seen.start, strict=True))
            step = (busy * SECOND, waited * SECOND, seen.process * SECOND)
        return Batch(
            epoch=seen.epoch,
            worker=worker,
            size=sum(len(index) if isinstance(index, (list, tuple)) else 1 for index, _ in notes.samples),
            fetch=(self._seconds(notes.fetch[0]), self._seconds(notes.fetch[1])),
            cpu=cpu * SECOND,
            queue=min(queue, max(0, wall - cpu)) * SECOND,  # the clocks are read one after the other
            threads=notes.threads * SECOND,
            samples=[(_named(index), took * SECOND) for index, took in notes.samples],
            stages=None if notes.stages is None else _stages(notes),
            sent=self._span(notes.sent),
            received=self._span(notes.received),
            pinned=self._span(notes.pinned),
            moved=(notes.moved[0] * SECOND, notes.moved[1] * SECOND),
            asked=self._seconds(seen.asked),
            given=self._seconds(seen.given),
            done=self._seconds(seen.end[0]),
            step=step,
            marks={} if seen.marks is None else _stages(seen.marks),
            device=device,
            tensors=tensors,
            tensor_bytes=inside,
            other_bytes=others,
            float_bytes=floats,
        )


def _named(index: Any) -> int | str | None:
    """What a sample is called: its index, if that is one."""
    if isinstance(index, str):
        return index
    try:
        return operator.index(index)
    except TypeError:
        return None


def _stages(notes: Notes) -> dict[str, tuple[float, float, float]]:
    return {name: (w * SECOND, c * SECOND, q * SECOND) for name, (w, c, q, _) in (notes.stages or {}).items()}


class _Seen:
    """What was seen of one batch in the main process; its step lies between entering and leaving.

    All clocks are read if one is to `look`; else the wall alone, for right after a step they are slow.
    """

    __slots__ = ("asked", "before", "contents", "end", "epoch", "events", "given", "marks", "notes", "over", "process",
                 "start")  # fmt: skip

    def __init__(
        self, notes: Notes, epoch: int, asked: int, given: int, contents: tuple[int, int, int, int], look: bool
    ) -> None:
        self.notes, self.epoch, self.asked, self.given, self.contents = notes, epoch, asked, given, contents
        self.marks = Notes(True) if look else None
        self.over = False

    def __enter__(self) -> _Seen:
        self.events = _events()
        self.start = self.end = (self.given, 0, 0)
        if self.marks is not None:
            self.before, mine.notes = mine.notes, self.marks
            self.process = -time.process_time_ns()
            self.start = self.end = clocks()
        return self

    def __exit__(self, *error: object) -> None:
        """Of a batch that was left, too."""
        if self.marks is None:
            self.end = (time.perf_counter_ns(), 0, 0)
        else:
            self.end = clocks()
            self.process += time.process_time_ns()
            if mine.notes is self.marks:
                mine.notes = self.before
        if self.events is not None:
            self.events[1].record()
        self.over = True


class _View(_Standing):
    """A traced loader to a wrapper that must not see tracing."""

    def __init__(self, recorder: Recorder, loader: DataLoader[Any]) -> None:
        self.recorder, self.loader = recorder, loader
        self.passed: deque[Notes] = deque()

    def __iter__(self) -> Iterator[Any]:
        """Workers start at once, as they would: the wrapper's threads must not be the ones that fork."""
        self.passed.clear()  # of an epoch that was left early
        return self._through(iter(self.loader))

    def _through(self, batches: Iterator[Any]) -> Iterator[Any]:
        for one in batches:
            self.passed.append(one.notes)
            self.recorder._count(one.batch)
            yield one.batch


def data_loader(loader: Any) -> DataLoader[Any]:
    """The DataLoader itself, or the one inside; ValueError if there is none."""
    found = loader
    for _ in range(DEPTH):
        if isinstance(found, DataLoader):
            return found
        found = getattr(found, "loader", None)
    raise ValueError(
        f"profile: `loader` must be a torch DataLoader or hold one as its `loader`, got {type(loader).__name__}. "
        "Pass the DataLoader that feeds it."
    )


def rewrapped(wrapper: Any, view: Any) -> Any:
    """A copy of a wrapper, and of those inside it, around something else than the DataLoader."""
    inner = view if isinstance(wrapper.loader, DataLoader) else rewrapped(wrapper.loader, view)
    twin = copy.copy(wrapper)
    try:
        twin.__dict__["loader"] = inner
    except AttributeError:
        raise ValueError(
            f"profile: `loader` must let its `loader` be set, and {type(wrapper).__name__} has no __dict__. "
            "Pass the DataLoader that feeds it."
        ) from None
    return twin


def traceable(loader: DataLoader[Any]) -> None:
    """Raise ValueError for a loader whose batches would be others if they were traced."""
    home = str(getattr(type(loader).__iter__, "__module__", "")).partition(".")[0]
    if home not in ("torch", "torchdata"):
        raise ValueError(
            f"profile: `loader` must iterate as torch's DataLoader does; {type(loader).__name__} has an __iter__ of "
            "its own, or is being profiled already. Pass a plain DataLoader with its settings."
        )
    if isinstance(loader.dataset, (IterDataPipe, MapDataPipe)):
        raise ValueError(
            "profile: `loader` must have a Dataset or IterableDataset, got a data pipe, whose shuffling torch treats "
            "apart. Wrap it in an IterableDataset."
        )


def traced(loader: DataLoader[Any]) -> DataLoader[Any]:
    """A copy of a loader whose batches are TracedBatches; the loader itself is left as it is.

    The copy draws what the loader would have drawn: it shares the sampler and the generator.
    """
    twin = copy.copy(loader)
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset):
        wrapped: Any = TracedIterable(dataset)
    else:
        wrapped = (TracedBatches if callable(getattr(dataset, "__getitems__", None)) else TracedDataset)(dataset)
    twin.__dict__.update(dataset=wrapped, collate_fn=TracedCollate(loader.collate_fn), _iterator=None)
    return twin


# ---- devices and contents --------------------------------------------------------------------------------------------


def _events() -> tuple[Any, Any] | None:
    """Two CUDA events, the first one recorded; nothing waits for them before the report."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return None
    pair: Any = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    pair[0].record()
    return pair


def _elapsed(pair: tuple[Any, Any], before: tuple[Any, Any] | None) -> Interval:
    """Seconds from the step's start to its end on the device, and from the end of the step before it."""
    pair[1].synchronize()
    idle = before[1].elapsed_time(pair[0]) / 1e3 if before is not None else 0.0
    return pair[0].elapsed_time(pair[1]) / 1e3, max(0.0, idle)


def count(batch: Any) -> tuple[int, int, int, int]:
    """(tensors, their bytes, bytes of arrays and bytes objects, bytes of float32 with at least 3 dimensions)."""
    if isinstance(batch, torch.Tensor):
        size = batch.numel() * batch.element_size()
        return 1, size, 0, size if batch.dtype == torch.float32 and batch.dim() >= 3 else 0
    if isinstance(batch, np.ndarray):
        return 0, 0, batch.nbytes, batch.nbytes if batch.dtype == np.float32 and batch.ndim >= 3 else 0
    if isinstance(batch, (bytes, bytearray, str)):
        return 0, 0, len(batch), 0
    if isinstance(batch, dict):
        parts = list(batch.values())
    elif isinstance(batch, (list, tuple)):
        parts = list(batch)
    elif hasattr(batch, "__dict__"):
        parts = list(vars(batch).values())
    else:
        return 0, 0, sys.getsizeof(batch), 0
    found = [count(part) for part in parts]
    tensors, inside, others, floats = (sum(part[k] for part in found) for k in range(4))
    return tensors, inside, others, floats
