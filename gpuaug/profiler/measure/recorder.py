"""Iterate over a loader in the usual way, and record where each batch spent its time."""

from __future__ import annotations

import operator
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from gpuaug.profiler.measure import instrument
from gpuaug.profiler.measure.clock import Clocks, Notes, clocks, mine
from gpuaug.profiler.measure.contents import count, samples_in
from gpuaug.profiler.measure.functions import merged
from gpuaug.profiler.measure.loaders import check_traceable, data_loader, rewrapped, traced
from gpuaug.profiler.measure.memory import Peaks
from gpuaug.profiler.measure.step import StepHooks, StepNotes, elapsed, events, together
from gpuaug.profiler.measure.tracing import TracedBatch, reset
from gpuaug.profiler.measure.wrappers import check_rebatched
from gpuaug.profiler.model.functions import Key, Times
from gpuaug.profiler.model.trace import Batch, Interval, Loader, Trace

__all__ = ["Recorder", "count"]

COUNTED, COUNTED_AGAIN = 4, 32  # batches whose contents are counted: the first 4, then every 32nd
LOOKED, LOOKED_AGAIN = 16, 7  # steps for which all clocks are read: the first 16, then every 7th
RECORDED = 4096  # batches that are recorded; of a longer run the last ones
SECOND = 1e-9  # seconds of a nanosecond


class _Proxy:
    """Forwards length and attributes to a loader."""

    loader: Any

    def __len__(self) -> int:
        try:
            return len(self.loader)
        except RuntimeError as error:  # of Lightning, before the first epoch
            raise TypeError(str(error)) from None

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # not set yet
            raise AttributeError(name)
        return getattr(self.loader, name)


class Recorder(_Proxy):
    """Iterate over a loader in the usual way, and record where each batch spent its time.

    Args:
        loader: A DataLoader, or an object with one as its `loader` (timm's PrefetchLoader, gpuaug's DeviceLoader).
        origin: Value of time.perf_counter_ns() at second 0 of the trace. None: now.
        sampling: Whether to look at the stacks of the processes that fetch, which costs some percent of the time.

    Attributes:
        trace: Trace of the batches so far.
    """

    def __init__(self, loader: Any, origin: int | None = None, sampling: bool = False) -> None:
        self.loader, self.sampling = loader, sampling
        self.inner = data_loader(loader)
        check_traceable(self.inner)
        self.origin = time.perf_counter_ns() if origin is None else origin
        self.patches = instrument.Patches()
        self._names: list[str] = []
        self._seen: deque[_Seen] = deque(maxlen=RECORDED)
        self._starts: list[tuple[float, float, float]] = []
        self._ends: list[float] = []
        self._twin: DataLoader[Any] | None = None
        self._wrapper: Any = None
        self._view: _View | None = None
        self._contents = (0, 0, 0, 0, 0)
        self._counted = 0
        self._steps = 0
        self._epoch = 0
        self._memory = Peaks()
        self._workers: set[int] = set()  # process ids of the workers of this epoch

    def __enter__(self) -> Recorder:
        reset(self.sampling)
        StepHooks.install()
        try:
            self._twin = traced(self.inner)
            if self.loader is not self.inner:
                self._view = _View(self, self._twin)
                self._wrapper = rewrapped(self.loader, self._view)
            self._names = instrument.transforms(self.inner.dataset, self.patches)
            if not self.inner.num_workers:  # workers time their decoders themselves
                instrument.decoders(self.patches)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _restore(self) -> None:
        StepHooks.remove()
        self.patches.restore()
        self._twin = self._wrapper = self._view = None  # ends persistent workers
        if self.sampling:
            reset()

    @property
    def trace(self) -> Trace:
        """The trace of all batches whose step has ended."""
        before: Any = None
        workers: dict[int, dict[int, int]] = {}
        batches = []
        for seen in [seen for seen in self._seen if seen.over]:
            device = None if seen.events is None else elapsed(seen.events, before)
            before = seen.events
            found = workers.setdefault(seen.epoch, {})  # every epoch may have its own workers
            worker = -1 if seen.notes.process == os.getpid() else found.setdefault(seen.notes.process, len(found))
            batches.append(self._batch(seen, worker, device))
        loader = Loader.of(self.inner, self._names)
        return Trace(loader, batches, list(self._starts), list(self._ends), self._memory.result())

    @property
    def functions(self) -> dict[Key, Times]:
        """What was seen of the functions that fetch, with `sampling`."""
        return merged(seen.notes.functions for seen in self._seen if seen.over)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over one epoch. The step of a batch lasts until the next batch is requested."""
        if self._twin is None:
            raise RuntimeError("profile: a profile can only be iterated inside `with gpuaug.profile(loader) as p:`.")
        self._twin.worker_init_fn = self.inner.worker_init_fn  # a framework may set it after the profile has begun
        source = self._twin if self._wrapper is None else self._wrapper
        begun = time.perf_counter_ns()
        self._memory.end_epoch()
        self._workers.clear()
        iterator = iter(source)  # now and not with the first batch: it draws a seed, and starts the workers
        return self._epoch_of(iterator, source is self._twin, time.perf_counter_ns() - begun)

    def end_step(self) -> None:
        """End the present step now, not with the next request: what follows is validation, or a checkpoint."""
        if self._seen:
            self._seen[-1].__exit__()

    def _seconds(self, moment: int) -> float:
        return (moment - self.origin) * SECOND

    def _span(self, span: tuple[int, int] | None) -> Interval | None:
        return None if span is None else (self._seconds(span[0]), self._seconds(span[1]))

    def _epoch_of(self, iterator: Iterator[Any], own: bool, start: int) -> Iterator[Any]:
        """One epoch. A wrapper may request batches ahead; its steps lie between the batches that it yields.

        Args:
            iterator: Batches of the DataLoader, or of a wrapper.
            own: Whether they are those of the DataLoader.
            start: Time that it took to make the iterator, in ns. What a job does until its first request is left out.
        """
        there = time.perf_counter_ns()
        begun = there - start
        epoch, first = self._epoch, True
        self._epoch += 1
        last = begun
        while True:
            look = self._looks()
            asked = clocks() if look else (time.perf_counter_ns(), 0, 0)
            try:
                found = next(iterator)
            except StopIteration:
                self._ends.append((time.perf_counter_ns() - last) * SECOND)
                return
            given = clocks() if look else (time.perf_counter_ns(), 0, 0)
            if first:
                self._starts.append((self._seconds(begun), self._seconds(there), self._seconds(given[0])))
                first = False
            if isinstance(found, TracedBatch):
                notes, found = found.notes, found.batch
                self._count(found, notes)
            elif self._view is not None and self._view.passed:
                if not self._steps:
                    check_rebatched(self.loader, self._contents[-1], samples_in(found))
                notes = self._view.passed.popleft()
            elif own:
                raise ValueError(
                    f"profile: `loader` must yield what its collate_fn returns, and {type(self.inner).__name__} does "
                    "not. Pass the DataLoader that it reads from."
                )
            else:  # a wrapper that yields more batches than it reads
                yield found
                continue
            self._steps += 1
            with _Seen(notes, epoch, asked, given, self._contents, look) as seen:
                self._seen.append(seen)
                yield found
                del found
            last = seen.end[0]

    def _looks(self) -> bool:
        """Whether all clocks are read for the next batch and its step."""
        number = self._steps + 1
        return number <= LOOKED or number % LOOKED_AGAIN == 0

    def _count(self, batch: Any, notes: Notes) -> None:
        """Count the contents of some batches, and look at the memory: they differ little, and it takes time."""
        self._counted += 1
        if notes.process != os.getpid():
            self._workers.add(notes.process)
        if self._counted <= COUNTED or self._counted % COUNTED_AGAIN == 0:
            self._contents = (*count(batch), samples_in(batch))
            self._memory.look(self._workers)

    def _batch(self, seen: _Seen, worker: int, device: Interval | None) -> Batch:
        notes, (tensors, inside, others, floats, inside_batch) = seen.notes, seen.contents
        size = sum(len(index) if isinstance(index, (list, tuple)) else 1 for index, _ in notes.samples)
        if self.inner.batch_sampler is None:  # batch_size=None: the data set may give whole batches
            size = max(size, inside_batch)
        wall, cpu, queue = notes.clocks
        step = None
        if seen.marks is not None:
            _, busy, waited = (after - before for after, before in zip(seen.end, seen.start, strict=True))
            step = (busy * SECOND, waited * SECOND, seen.process * SECOND)
        return Batch(
            epoch=seen.epoch,
            worker=worker,
            size=size,
            fetch=(self._seconds(notes.fetch[0]), self._seconds(notes.fetch[1])),
            cpu=cpu * SECOND,
            queue=min(queue, max(0, wall - cpu)) * SECOND,  # the clocks are read one after the other
            threads=notes.threads * SECOND,
            samples=[(_named(index), took * SECOND) for index, took in notes.samples],
            together=notes.together or size > len(notes.samples),
            stages=None if notes.stages is None else _stages(notes),
            sent=self._span(notes.sent),
            received=self._span(notes.received),
            pinned=self._span(notes.pinned),
            moved=(notes.moved[0] * SECOND, notes.moved[1] * SECOND),
            queued=(notes.queued[0] * SECOND, notes.queued[1] * SECOND),
            request=seen.request(self.loader is self.inner),
            asked=self._seconds(seen.asked[0]),
            given=self._seconds(seen.given[0]),
            done=self._seconds(seen.end[0]),
            step=step,
            marks={} if seen.marks is None else seen.marks.marks(),
            device=device,
            phases=seen.phases(),
            tensors=tensors,
            tensor_bytes=inside,
            other_bytes=others,
            float_bytes=floats,
        )


def _named(index: Any) -> int | str | None:
    """The name of a sample: its index, if that is a string or an integer."""
    if isinstance(index, str):
        return index
    try:
        return operator.index(index)
    except TypeError:
        return None


def _stages(notes: Notes) -> dict[str, tuple[float, float, float]]:
    return {name: (w * SECOND, c * SECOND, q * SECOND) for name, (w, c, q, _) in (notes.stages or {}).items()}


class _Seen:
    """Times of one batch in the main process; the `with` block is its step.

    With `look` all clocks are read, else only the wall clock: right after a step, reading the others is slow.
    """

    __slots__ = ("asked", "before", "contents", "end", "epoch", "events", "given", "marks", "notes", "over", "process",
                 "start")  # fmt: skip

    def __init__(
        self,
        notes: Notes,
        epoch: int,
        asked: Clocks,
        given: Clocks,
        contents: tuple[int, int, int, int, int],
        look: bool,
    ) -> None:
        self.notes, self.epoch, self.asked, self.given, self.contents = notes, epoch, asked, given, contents
        self.marks = StepNotes() if look else None
        self.over = False

    def __enter__(self) -> _Seen:
        self.events = events()
        self.start = self.end = (self.given[0], 0, 0)
        if self.marks is not None:
            self.before, mine.notes = mine.notes, self.marks
            self.process = -time.process_time_ns()
            self.marks.device = self.events is not None
            self.start = self.end = self.marks.since = together()
        return self

    def request(self, own: bool) -> Interval | None:
        """(cpu, queue) in seconds of the main thread while it waited for the batch and took it, see `Batch`."""
        if self.marks is None:
            return None
        wall, cpu, queue = (after - before for after, before in zip(self.given, self.asked, strict=True))
        return (cpu * SECOND if own else 0.0), min(queue, max(0, wall - cpu)) * SECOND

    def phases(self) -> dict[str, float]:
        """{phase: seconds on the device}; waits for it."""
        return {} if self.marks is None or self.events is None else self.marks.device_phases(*self.events)

    def __exit__(self, *error: object) -> None:
        """Also called if the loop ends with this batch, and before that where a framework says that a step is over."""
        if self.over:
            return
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


class _View(_Proxy):
    """The loader that a wrapper reads from: it removes the notes from the batches and keeps them."""

    def __init__(self, recorder: Recorder, loader: DataLoader[Any]) -> None:
        self.recorder, self.loader = recorder, loader
        self.passed: deque[Notes] = deque()

    def __iter__(self) -> Iterator[Any]:
        """Start the workers at once: a thread of the wrapper must not be the one that forks."""
        self.passed.clear()  # notes of an epoch that was not finished
        return self._through(iter(self.loader))

    def _through(self, batches: Iterator[Any]) -> Iterator[Any]:
        for one in batches:
            self.passed.append(one.notes)
            self.recorder._count(one.batch, one.notes)
            yield one.batch
