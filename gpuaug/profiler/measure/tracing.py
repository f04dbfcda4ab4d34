"""Trace each batch on its way through a DataLoader, without changing torch: the times travel with the batch.

A copy of the loader has a wrapped data set and a wrapped collate function. In the worker they record the time of each
sample and, for as many batches as the limits below allow, of each stage. The collated batch becomes a `TracedBatch`:
its pickling and unpickling record when it was sent and received, and its `pin_memory`, which torch calls, records
pinning. All processes of a machine use the same clock. The user gets the same batch as without tracing, without the
times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import Dataset, IterableDataset
from torch.utils.data._utils.pin_memory import pin_memory

from gpuaug.profiler.measure import instrument
from gpuaug.profiler.measure.clock import Clocks, Notes, clocks, mine, stage
from gpuaug.profiler.measure.functions import Sampler

__all__ = [
    "PassingOn",
    "TracedBatch",
    "TracedBatches",
    "TracedCollate",
    "TracedDataset",
    "TracedIterable",
    "TracedSubset",
    "reset",
]

DETAIL = 0.001  # limit: time of timing stages / time of the worker. The limit for all tracing is 0.01
ALWAYS = 2  # batches of each worker that are always timed in detail
CALIBRATION = 8, 8  # (runs, stages in each) to measure the time of timing one stage


class _Process:
    """What timing in detail has cost in this process so far."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.batches = 0
        self.elapsed = 0  # ns of fetching
        self.spent = 0  # ns of timing stages, estimated
        self.each = 0  # ns of timing one stage
        self.sampler: Sampler | None = None


_process = _Process()
_sampling = False  # whether processes that fetch look at their stacks


def reset(sampling: bool = False) -> None:
    """Start a new trace: forget the costs of earlier ones. With `sampling`, look at the stacks of all fetches."""
    global _process, _sampling
    if _process.sampler is not None and _process.pid == os.getpid():
        _process.sampler.stop()
    _process, _sampling = _Process(), sampling
    _end_fetch()


# ---- in the worker ---------------------------------------------------------------------------------------------------


def _notes() -> Notes:
    """The notes of the present fetch; new ones if there is none."""
    found = mine.notes
    return found if found is not None and found.fetching else _open()


def _end_fetch() -> None:
    """End the present fetch, finished or not."""
    if _process.sampler is not None:
        _process.sampler.end()
    if mine.notes is not None and mine.notes.fetching:
        mine.notes = mine.notes.before


def _open() -> Notes:
    """Start a fetch: new notes for this thread."""
    global _process
    if _process.pid != os.getpid():  # a forked worker
        _process = _Process()
        instrument.decoders()
    if not _process.each:
        _process.each = _cost()
    ours = _process
    if _sampling and ours.sampler is None:
        ours.sampler = Sampler()
    detailed = _sampling or ours.batches < ALWAYS or ours.spent <= DETAIL * ours.elapsed
    notes = mine.notes = Notes(detailed, True, mine.notes)
    notes.threads = time.process_time_ns()
    notes.clocks = clocks()
    notes.fetch = notes.clocks[0], 0
    if ours.sampler is not None:
        ours.sampler.begin(notes)
    return notes


def _close(notes: Notes) -> None:
    """Finish the notes of a fetch."""
    end = clocks()
    notes.clocks = (end[0] - notes.clocks[0], end[1] - notes.clocks[1], end[2] - notes.clocks[2])
    notes.threads = time.process_time_ns() - notes.threads
    notes.fetch = notes.fetch[0], end[0]
    _end_fetch()
    _process.batches += 1
    _process.elapsed += end[0] - notes.fetch[0]
    if notes.stages is not None:
        _process.spent += _process.each * sum(total[3] for total in notes.stages.values())


def _cost() -> int:
    """Nanoseconds that timing one stage takes, at best."""
    before, mine.notes = mine.notes, Notes(True)
    times, stages = CALIBRATION
    taken = []
    for _ in range(times):
        start = time.perf_counter_ns()
        for _ in range(stages):
            with stage("calibration"):
                pass
        taken.append((time.perf_counter_ns() - start) // stages)
    mine.notes = before
    return max(1, min(taken))


class PassingOn:
    """A data set around another one. Its attributes are read from and written to that one."""

    dataset: Any

    def __init__(self, dataset: Any) -> None:
        self.__dict__["dataset"] = dataset

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not set yet during unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)

    def __repr__(self) -> str:
        return repr(self.dataset)

    def __reduce__(self) -> Any:
        return _revive, (type(self), self.dataset, _sampling)


def _revive(kind: type[PassingOn], dataset: Any, sampling: bool) -> PassingOn:
    """Unpickle the wrapper in a spawned worker, and time the decoders there."""
    global _sampling
    _sampling = _sampling or sampling
    instrument.decoders()
    return kind(dataset)


class TracedDataset(PassingOn, Dataset[Any]):
    """A map-style data set whose samples are timed."""

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        notes = mine.notes
        if notes is None or not notes.fetching:
            notes = _open()
        start = time.perf_counter_ns()
        try:
            sample = self.dataset[index]
        except BaseException:
            _end_fetch()
            raise
        notes.samples.append((index, time.perf_counter_ns() - start))
        return sample


class TracedBatches(TracedDataset):
    """A data set that fetches a whole batch at once. Each sample gets the same part of the time."""

    def __getitems__(self, indices: Any) -> Any:
        notes = _notes()
        start = time.perf_counter_ns()
        try:
            samples = self.dataset.__getitems__(indices)
        except BaseException:
            _end_fetch()
            raise
        each = (time.perf_counter_ns() - start) // max(1, len(indices))
        notes.samples += [(index, each) for index in indices]
        notes.together = len(indices) > 1
        return samples


class TracedSubset(TracedDataset):
    """A Subset, which fetches the samples of a batch one by one, so that each can be timed."""

    __getitems__ = None


class TracedIterable(PassingOn, IterableDataset[Any]):
    """An iterable data set whose samples are timed."""

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        _end_fetch()  # of an epoch that was not finished
        samples = iter(self.dataset)
        while True:
            notes = _notes()
            start = time.perf_counter_ns()
            try:
                sample = next(samples)
            except StopIteration:
                if not notes.samples:  # a last, short batch is still collated
                    _end_fetch()
                return
            except BaseException:
                _end_fetch()
                raise
            notes.samples.append((None, time.perf_counter_ns() - start))
            yield sample


class TracedCollate:
    """A collate function that finishes a batch's notes and adds them to the batch."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, samples: Any) -> Any:
        notes = _notes()
        try:
            with stage("collate"):
                batch = self.function(samples)
        except BaseException:
            _end_fetch()
            raise
        _close(notes)
        return TracedBatch(batch, notes)


# ---- on the way ------------------------------------------------------------------------------------------------------


class _First:
    """Records when it is pickled, and when it is unpickled."""

    def __reduce__(self) -> Any:
        return _first, (clocks(),)


def _first(left: Clocks) -> tuple[Clocks, Clocks]:
    return left, clocks()


class TracedBatch:
    """A batch and its notes."""

    def __init__(self, batch: Any, notes: Notes) -> None:
        self.batch, self.notes = batch, notes

    def __reduce__(self) -> Any:
        """Pickle the batch between two time records: a tuple is pickled and unpickled in order."""
        return _unpack, (_First(), self.batch, self.notes)

    def pin_memory(self, device: Any = None) -> TracedBatch:
        """Pin the batch and record the time. torch's pinning thread calls it."""
        start = time.perf_counter_ns()
        self.batch = pin_memory(self.batch, device)  # type: ignore[no-untyped-call]
        self.notes.pinned = start, time.perf_counter_ns()
        return self


def _unpack(first: tuple[Clocks, Clocks], batch: Any, last: tuple[Notes, Clocks, Clocks]) -> TracedBatch:
    (left, arrived), (notes, left_last, arrived_last) = first, last
    notes.sent, notes.received = (left[0], left_last[0]), (arrived[0], arrived_last[0])
    notes.moved = left_last[1] - left[1], arrived_last[1] - arrived[1]
    notes.queued = left_last[2] - left[2], arrived_last[2] - arrived[2]
    return TracedBatch(batch, notes)
