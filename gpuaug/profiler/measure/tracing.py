"""Stamps that ride in the batch: a stock DataLoader tells when each batch was at each place, without patching torch.

The data set and the collate function of a loader's copy are wrapped. In the worker they note how long each sample took
and, for as many batches as is cheap, each stage. The collated batch becomes a `TracedBatch`, whose pickling and
unpickling note when it was sent and received, and whose `pin_memory`, which torch calls, notes pinning. All processes
of a machine read one clock. The user gets the batch alone, and it is the batch that the loader would have given anyway.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import Dataset, IterableDataset
from torch.utils.data._utils.pin_memory import pin_memory

from gpuaug.profiler.measure import instrument
from gpuaug.profiler.measure.clock import Moment, Notes, clocks, mine, moment, stage

__all__ = ["TracedBatch", "TracedBatches", "TracedCollate", "TracedDataset", "TracedIterable", "reset"]

DETAIL = 0.001  # of a worker's time may go into the clocks of stages; all tracing may take 0.01
ALWAYS = 2  # batches of each worker that are timed in detail whatever it costs
CALIBRATION = 8, 8  # times as many stages, timed to learn what timing one costs


class _Process:
    """What detail has cost this process so far."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.batches = 0
        self.elapsed = 0  # ns of fetching
        self.spent = 0  # ns of timing stages, about
        self.each = 0  # ns of timing one


_process = _Process()


def reset() -> None:
    """Forget what detail has cost; a new trace begins."""
    global _process
    _process = _Process()
    _leave()


# ---- in the worker ---------------------------------------------------------------------------------------------------


def _notes() -> Notes:
    """Of the fetch that is under way, begun if need be."""
    found = mine.notes
    return found if found is not None and found.fetching else _open()


def _leave() -> None:
    """A fetch is over, or was given up."""
    if mine.notes is not None and mine.notes.fetching:
        mine.notes = mine.notes.before


def _open() -> Notes:
    """New notes of this thread."""
    global _process
    if _process.pid != os.getpid():  # a worker that was forked
        _process = _Process()
        instrument.decoders()
    if not _process.each:
        _process.each = _cost()
    ours = _process
    detailed = ours.batches < ALWAYS or ours.spent <= DETAIL * ours.elapsed
    notes = mine.notes = Notes(detailed, True, mine.notes)
    notes.threads = time.process_time_ns()
    notes.clocks = clocks()
    notes.fetch = notes.clocks[0], 0
    return notes


def _close(notes: Notes) -> None:
    """The batch is made."""
    end = clocks()
    notes.clocks = (end[0] - notes.clocks[0], end[1] - notes.clocks[1], end[2] - notes.clocks[2])
    notes.threads = time.process_time_ns() - notes.threads
    notes.fetch = notes.fetch[0], end[0]
    _leave()
    _process.batches += 1
    _process.elapsed += end[0] - notes.fetch[0]
    if notes.stages is not None:
        _process.spent += _process.each * sum(total[3] for total in notes.stages.values())


def _cost() -> int:
    """Nanoseconds that timing one stage takes, if nothing comes between."""
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


class _Wrapper:
    """Stands for a data set: what is read from it, and written to it, goes to the data set itself."""

    dataset: Any

    def __init__(self, dataset: Any) -> None:
        self.__dict__["dataset"] = dataset

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)

    def __repr__(self) -> str:
        return repr(self.dataset)

    def __reduce__(self) -> Any:
        return _revive, (type(self), self.dataset)


def _revive(kind: type[_Wrapper], dataset: Any) -> _Wrapper:
    """In a worker that was spawned, decoders are not timed yet."""
    instrument.decoders()
    return kind(dataset)


class TracedDataset(_Wrapper, Dataset[Any]):
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
            _leave()
            raise
        notes.samples.append((index, time.perf_counter_ns() - start))
        return sample


class TracedBatches(TracedDataset):
    """One that fetches a whole batch at once; the time is spread over its samples."""

    def __getitems__(self, indices: Any) -> Any:
        notes = _notes()
        start = time.perf_counter_ns()
        try:
            samples = self.dataset.__getitems__(indices)
        except BaseException:
            _leave()
            raise
        each = (time.perf_counter_ns() - start) // max(1, len(indices))
        notes.samples += [(index, each) for index in indices]
        return samples


class TracedIterable(_Wrapper, IterableDataset[Any]):
    """An iterable data set whose samples are timed."""

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        _leave()  # an epoch that was left early
        samples = iter(self.dataset)
        while True:
            notes = _notes()
            start = time.perf_counter_ns()
            try:
                sample = next(samples)
            except StopIteration:
                if not notes.samples:  # a last, short batch is still collated
                    _leave()
                return
            except BaseException:
                _leave()
                raise
            notes.samples.append((None, time.perf_counter_ns() - start))
            yield sample


class TracedCollate:
    """A collate function that closes a batch's notes and sends them along."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, samples: Any) -> Any:
        notes = _notes()
        with stage("collate"):
            batch = self.function(samples)
        _close(notes)
        return TracedBatch(batch, notes)


# ---- on the way ------------------------------------------------------------------------------------------------------


class _First:
    """Notes when it is pickled, and when it is unpickled."""

    def __reduce__(self) -> Any:
        return _first, (moment(),)


def _first(left: Moment) -> tuple[Moment, Moment]:
    return left, moment()


class TracedBatch:
    """A batch and its notes."""

    def __init__(self, batch: Any, notes: Notes) -> None:
        self.batch, self.notes = batch, notes

    def __reduce__(self) -> Any:
        """The parts of a tuple are pickled and unpickled in order: what lies between the first and the notes is it."""
        return _unpack, (_First(), self.batch, self.notes)

    def pin_memory(self, device: Any = None) -> TracedBatch:
        """Called by torch's own pinning thread."""
        start = time.perf_counter_ns()
        self.batch = pin_memory(self.batch, device)  # type: ignore[no-untyped-call]
        self.notes.pinned = start, time.perf_counter_ns()
        return self


def _unpack(first: tuple[Moment, Moment], batch: Any, last: tuple[Notes, Moment, Moment]) -> TracedBatch:
    (left, arrived), (notes, left_last, arrived_last) = first, last
    notes.sent, notes.received = (left[0], left_last[0]), (arrived[0], arrived_last[0])
    notes.moved = left_last[1] - left[1], arrived_last[1] - arrived[1]
    return TracedBatch(batch, notes)
