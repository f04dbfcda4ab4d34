"""The three clocks of a stage: wall time, the thread's time on a core, and its time waiting for a core."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Clocks", "Notes", "Span", "Timed", "clocks", "mine", "stage"]

Span = tuple[int, int]  # perf_counter nanoseconds
Clocks = tuple[int, int, int]  # nanoseconds of this thread: wall, on a core, waiting for a core


class _Queue:
    """A thread's open schedstat file; -1 where there is none (only Linux has it)."""

    def __init__(self) -> None:
        self.owner = threading.get_native_id()
        try:
            self.file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, AttributeError):
            self.file = -1

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at the interpreter's end `os` may be gone
        """Close the file when its thread ends, or when a forked child replaces its parent's."""
        if self.file >= 0:
            close(self.file)


class Mine(threading.local):
    """The notes of this thread's present batch, and its schedstat file."""

    notes: Notes | None = None
    queue: _Queue | None = None


mine = Mine()


def _waited() -> int:
    """Nanoseconds that this thread has waited for a core; 0 on systems other than Linux."""
    queue = mine.queue
    if queue is None or queue.owner != threading.get_native_id():  # a forked child has its parent's
        queue = mine.queue = _Queue()
    return int(os.pread(queue.file, 64, 0).split()[1]) if queue.file >= 0 else 0


def clocks() -> Clocks:
    """The three clocks of this thread."""
    return time.perf_counter_ns(), time.thread_time_ns(), _waited()


class Notes:
    """The times of one batch.

    Attributes:
        process: Id of the process that made the batch.
        fetch: Span from the start of the first sample to the end of collating.
        clocks: Wall, cpu and queue time of the fetch in ns, see `Clocks`.
        samples: (index, wall time in ns) of each sample; the index is None for an iterable data set.
        stages: {name: [wall, cpu, queue, calls]} in ns, without the time of inner stages; None if not timed in detail.
        together: Whether the data set fetched all samples at once, so that each has the same part of the time.
        threads: Time of all threads of the process on cores, in ns.
        sent, received, pinned: Spans of pickling, unpickling and `pin_memory`; None if it did not happen.
        moved, queued: Time of pickling and of unpickling on a core, and waiting for a core, in ns.
        functions: What a `Sampler` saw during the fetch; None without one.
        fetching: Whether these are the notes of a fetch; else of a step.
        before: Notes of this thread before these.
    """

    __slots__ = (
        "before", "clocks", "fetch", "fetching", "functions", "inner", "moved", "pinned", "process", "queued",
        "received", "samples", "sent", "stages", "threads", "together",
    )  # fmt: skip

    def __init__(self, detailed: bool, fetching: bool = False, before: Notes | None = None) -> None:
        self.fetching, self.before = fetching, before
        self.process = os.getpid()
        self.fetch: Span = (0, 0)
        self.clocks: Clocks = (0, 0, 0)
        self.samples: list[tuple[Any, int]] = []
        self.stages: dict[str, list[int]] | None = {} if detailed else None
        self.threads = 0
        self.together = False
        self.sent: Span | None = None
        self.received: Span | None = None
        self.pinned: Span | None = None
        self.moved = self.queued = (0, 0)
        self.functions: dict[Any, Any] | None = None
        self.inner: stage | None = None  # the present stage

    def __reduce__(self) -> Any:
        """Pickle as plain numbers, which is fast, with the moment of pickling."""
        found = (
            self.process,
            self.fetch,
            self.clocks,
            self.samples,
            self.stages,
            self.threads,
            self.together,
            self.functions,
            clocks(),
        )
        return _arrived, found


def _arrived(
    process: int, fetch: Span, spent: Clocks, samples: Any, stages: Any, threads: int, together: bool, functions: Any,
    left: Clocks,
) -> tuple[Notes, Clocks, Clocks]:  # fmt: skip
    """(notes, clocks of pickling, clocks of unpickling)."""
    notes = Notes(False)
    notes.process, notes.fetch, notes.clocks, notes.threads = process, fetch, spent, threads
    notes.samples, notes.stages, notes.together, notes.functions = samples, stages, together, functions
    return notes, left, clocks()


class stage:  # noqa: N801  # used as a statement, like contextlib's
    """Time a part of a data set or a training step under a name: `with stage("read"): ...`.

    The report counts `read` as storage and `decode` as decoding; any other name gets its own row. Outside of a profile,
    a stage reads no clock.

    Args:
        name: Name of the stage.
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
    """A callable that is timed as a stage. It has the attributes and the class of the callable."""

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
        if name in ("_function", "_name"):  # not set yet
            raise AttributeError(name)
        return getattr(self._function, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._function, name, value)

    def __repr__(self) -> str:
        return repr(self._function)

    def __reduce__(self) -> Any:
        return Timed, (self._function, self._name)
