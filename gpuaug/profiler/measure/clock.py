"""The clocks of a stage: the wall, the thread's own time, and the time it waited for a core."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Clocks", "Moment", "Notes", "Span", "Timed", "clocks", "mine", "moment", "stage"]

Span = tuple[int, int]  # perf_counter nanoseconds
Clocks = tuple[int, int, int]  # nanoseconds: wall, this thread on a core, this thread waiting for a core


class _Queue:
    """A thread's open schedstat file; -1 where there is none (Linux alone has it)."""

    def __init__(self) -> None:
        self.owner = threading.get_native_id()
        try:
            self.file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, AttributeError):
            self.file = -1

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at the interpreter's end `os` may be gone
        """With its thread, or when a fork's child finds its parent's."""
        if self.file >= 0:
            close(self.file)


class Mine(threading.local):
    """What this thread knows of its clocks and its batch."""

    notes: Notes | None = None
    queue: _Queue | None = None


mine = Mine()


def _waited() -> int:
    """Nanoseconds this thread has waited for a core (Linux); 0 where the kernel does not say."""
    queue = mine.queue
    if queue is None or queue.owner != threading.get_native_id():  # a fork brings its parent's
        queue = mine.queue = _Queue()
    return int(os.pread(queue.file, 64, 0).split()[1]) if queue.file >= 0 else 0


def clocks() -> Clocks:
    """The three clocks of this thread."""
    return time.perf_counter_ns(), time.thread_time_ns(), _waited()


class Notes:
    """What was noted of one batch.

    Attributes:
        process: id of the process that made it.
        fetch: from the first sample's start to the end of collating.
        clocks: wall, cpu and queue of the fetch, ns; see `Clocks`.
        samples: (index, wall) of each sample, ns; the index is None where the data set is iterable.
        stages: name -> [wall, cpu, queue, calls], ns, without what inner stages took; None if not timed in detail.
        threads: time of all the process's threads, ns.
        sent, received, pinned: spans of pickling, unpickling and `pin_memory`; None where it did not happen.
        moved: time on a core of pickling and unpickling, ns.
        fetching: these are of a fetch, not of a step. before: the thread's notes when they were begun.
    """

    __slots__ = (
        "before", "clocks", "fetch", "fetching", "inner", "moved", "pinned", "process", "received", "samples", "sent",
        "stages", "threads",
    )  # fmt: skip

    def __init__(self, detailed: bool, fetching: bool = False, before: Notes | None = None) -> None:
        self.fetching, self.before = fetching, before
        self.process = os.getpid()
        self.fetch: Span = (0, 0)
        self.clocks: Clocks = (0, 0, 0)
        self.samples: list[tuple[Any, int]] = []
        self.stages: dict[str, list[int]] | None = {} if detailed else None
        self.threads = 0
        self.sent: Span | None = None
        self.received: Span | None = None
        self.pinned: Span | None = None
        self.moved = (0, 0)
        self.inner: stage | None = None  # the stage that is under way

    def __reduce__(self) -> Any:
        """Numbers alone, so that it travels cheaply, and the moment at which it leaves."""
        found = (self.process, self.fetch, self.clocks, self.samples, self.stages, self.threads, moment())
        return _arrived, found


Moment = tuple[int, int]  # nanoseconds: the wall, and this thread on a core


def moment() -> Moment:
    return time.perf_counter_ns(), time.thread_time_ns()


def _arrived(
    process: int, fetch: Span, clocks: Clocks, samples: Any, stages: Any, threads: int, left: Moment
) -> tuple[Notes, Moment, Moment]:
    """The notes, when they left, and when they arrived."""
    notes = Notes(False)
    notes.process, notes.fetch, notes.clocks, notes.threads = process, fetch, clocks, threads
    notes.samples, notes.stages = samples, stages
    return notes, left, moment()


class stage:  # noqa: N801  # used as a statement, like contextlib's
    """Time a part of a data set's or a training step's work under a name of your own.

    Use it as `with stage("read"): ...`. Names `read` and `decode` are known to the report; any other name becomes a row
    of its own. Where no profiler listens it reads no clock.
    """

    __slots__ = ("below", "name", "notes", "outer", "start")

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        notes = mine.notes
        if notes is None or notes.stages is None:
            self.notes = None
            return
        self.notes, self.outer, self.below = notes, notes.inner, (0, 0, 0)
        notes.inner = self
        self.start = clocks()

    def __exit__(self, *error: object) -> None:
        notes = self.notes
        if notes is None or notes.stages is None:
            return
        end = clocks()
        wall, cpu, queue = (after - before for after, before in zip(end, self.start, strict=True))
        notes.inner = self.outer
        if self.outer is not None:
            above = self.outer.below
            self.outer.below = above[0] + wall, above[1] + cpu, above[2] + queue
        total = notes.stages.setdefault(self.name, [0, 0, 0, 0])
        total[0] += wall - self.below[0]
        total[1] += cpu - self.below[1]
        total[2] += queue - self.below[2]
        total[3] += 1


class Timed:
    """A callable under a stage's name. To everyone who asks it is the callable: its attributes, its class."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.__dict__.update(_function=function, _name=name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        notes = mine.notes
        if notes is None or notes.stages is None:
            return self._function(*args, **kwargs)
        with stage(self._name):
            return self._function(*args, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._function)

    def __getattr__(self, name: str) -> Any:
        if name in ("_function", "_name"):  # not there yet
            raise AttributeError(name)
        return getattr(self._function, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._function, name, value)

    def __repr__(self) -> str:
        return repr(self._function)

    def __reduce__(self) -> Any:
        return Timed, (self._function, self._name)
