"""Passes: the whole loop, the loader alone, the step alone, and the loader with files outside of the page cache.

Each pass iterates anew over the loader for some seconds, and leaves out the first batches.
"""

from __future__ import annotations

import copy
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from gpuaug.profiler.measure.clock import clocks
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.model.functions import Key, Times
from gpuaug.profiler.model.trace import Trace

__all__ = ["FEWEST", "Pass", "alone", "batches_of", "cold_files", "evict", "recorded", "sampled", "starts", "timed"]

CACHED = 4  # batches on which the step alone runs again and again
WARM = 2  # first steps alone that are left out: they may compile
WINDOWS = 5  # parts of a pass, of which the fastest and the slowest are reported
FEWEST = WINDOWS + 1  # batches that a run times at least
EPOCHS = 2, 5  # epochs whose starts are timed: at least, and at most
MAX_FILES = 200_000  # largest number of files that are evicted from the page cache


@dataclass(frozen=True)
class Pass:
    """A measured pass.

    Attributes:
        name: Name of the pass.
        pace: Seconds per batch over the whole pass.
        low, high: Seconds per batch in its fastest and its slowest window.
        batches: Number of batches.
        busy: Seconds per batch that (the thread of the step computed, all threads of its process computed, the thread
            waited for a core); None if not measured.
    """

    name: str
    pace: float
    low: float
    high: float
    batches: int
    busy: tuple[float, float, float] | None = None


def repeat(source: Any) -> Iterator[Any]:
    """The batches of one epoch after another."""
    while True:
        empty = True
        for batch in source:
            empty = False
            yield batch
        if empty:
            raise ValueError(
                "profile: `loader` must yield at least one batch, got none. Check its data set and drop_last."
            )


def synchronize() -> None:
    """Wait for the device."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def timed(
    name: str,
    source: Any,
    step: Callable[[Any], Any] | None,
    seconds: float,
    warm: int,
    once: bool = False,
    wall: bool = False,
) -> Pass:
    """Measure the time per batch of a loop, which runs on until it has enough batches.

    Args:
        name: Name of the pass.
        source: A loader.
        step: Training step; None: only iterate.
        seconds: Duration: of what is timed, or with `wall` of all.
        warm: Number of first batches that are not timed. With `wall`, fewer if half of the time is over.
        once: Whether to end with the first epoch.
        wall: Whether starting the loader and the first batches count.
    """
    stream = (batch for batch in source) if once else repeat(source)
    marks = run(stream, step, seconds, warm, wall)
    stream.close()  # type: ignore[attr-defined]
    if len(marks) < 3:
        raise ValueError(
            f"profile: `loader` must yield more than {warm + 2} batches an epoch, got fewer. Use smaller batches."
        )
    return summary(name, marks)


def run(
    stream: Iterator[Any], step: Callable[[Any], Any] | None, seconds: float, warm: int, wall: bool = False
) -> list[float]:
    """The times between batches, from the end of the first `warm` ones on. Waits for the device twice in all."""
    begun = time.perf_counter()
    for batch in itertools.islice(stream, warm):
        if step is not None:
            step(batch)
        if wall and time.perf_counter() >= begun + seconds / 2:
            break
    synchronize()
    marks = [time.perf_counter()]
    end = (begun if wall else marks[0]) + seconds
    for batch in stream:
        if step is not None:
            step(batch)
        marks.append(time.perf_counter())
        if marks[-1] >= end and len(marks) > FEWEST:
            break
    synchronize()
    marks[-1] = time.perf_counter()
    return marks


def summary(name: str, marks: list[float]) -> Pass:
    """The pass of these times between batches."""
    count = len(marks) - 1
    edges = [round(count * k / WINDOWS) for k in range(WINDOWS + 1)]
    paces = [(marks[b] - marks[a]) / (b - a) for a, b in itertools.pairwise(edges) if b > a]
    return Pass(name, (marks[-1] - marks[0]) / count, min(paces), max(paces), count)


def recorded(
    name: str,
    loader: Any,
    step: Callable[[Any], Any] | None,
    seconds: float,
    warm: int,
    origin: int,
    wall: bool = False,
) -> tuple[Pass, Trace]:
    """Measure a loop as `timed`, and trace its batches in seconds since `origin`."""
    with Recorder(loader, origin) as recorder:
        found = timed(name, recorder, step, seconds, warm, wall=wall)
        return found, recorder.trace


def starts(loader: Any, step: Callable[[Any], Any] | None, seconds: float, origin: int) -> Trace:
    """Trace some whole epochs, for the times that they take to start. Without a step, each batch is dropped at once."""
    least, most = EPOCHS
    begun = time.perf_counter()
    with Recorder(loader, origin) as recorder:
        for epoch in range(1, most + 1):
            for batch in recorder:
                if step is not None:
                    step(batch)
            if epoch >= least and time.perf_counter() - begun >= seconds:
                break
        return recorder.trace


def sampled(name: str, loader: Any, seconds: float, warm: int) -> tuple[Pass, dict[Key, Times]]:
    """Measure a loader alone while its stacks are looked at: (pass, what was seen of its functions)."""
    with Recorder(loader, sampling=True) as recorder:
        found = timed(name, recorder, None, seconds, warm, wall=True)
        return found, recorder.functions


def batches_of(loader: Any, count: int = CACHED) -> list[Any]:
    """Copies of the first batches, so that shared memory and pinned buffers are released."""
    found = []
    for batch in itertools.islice(repeat(loader), count):
        found.append(clone(batch))
    return found


def clone(batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.clone()
    if isinstance(batch, dict):
        twin = copy.copy(batch)  # a defaultdict has other arguments
        twin.update((name, clone(part)) for name, part in batch.items())
        return twin
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(clone(part) for part in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)([clone(part) for part in batch])
    return batch


def alone(step: Callable[[Any], Any], batches: list[Any], seconds: float) -> Pass:
    """Measure the step on batches in memory, without workers: no data path can be faster."""
    stream = itertools.cycle(batches)
    for batch in itertools.islice(stream, WARM):
        step(batch)
    begun, process = clocks(), time.process_time_ns()
    found = summary("model alone", run(stream, step, seconds, 0))
    _, own, queued = (after - before for after, before in zip(clocks(), begun, strict=True))
    spent = (own, time.process_time_ns() - process, queued)
    each = 1e-9 / found.batches
    return replace(found, busy=(each * spent[0], each * spent[1], each * spent[2]))


# ---- files -----------------------------------------------------------------------------------------------------------


def cold_files(dataset: Any) -> list[str]:
    """Files that a data set lists: torchvision's `samples`, lists of paths; also those of nested data sets."""
    found: list[str] = []
    seen: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if depth == 0 or id(value) in seen or len(found) >= MAX_FILES:
            return
        seen.add(id(value))
        if isinstance(value, (str, os.PathLike)):
            found.append(os.fspath(value))
        elif isinstance(value, (list, tuple)):
            for part in value[:MAX_FILES]:
                if isinstance(part, (str, os.PathLike)):
                    found.append(os.fspath(part))
                elif isinstance(part, (list, tuple)) and part and isinstance(part[0], (str, os.PathLike)):
                    found.append(os.fspath(part[0]))
                elif hasattr(part, "__dict__"):
                    look(part, depth - 1)
        elif hasattr(value, "__dict__"):
            for part in vars(value).values():
                look(part, depth - 1)

    look(dataset, 4)
    return [path for path in dict.fromkeys(found) if os.path.isfile(path)]


def evict(paths: list[str]) -> tuple[int, int]:
    """Drop files from the page cache: (files, bytes) that were dropped. Needs no root.

    Raises:
        RuntimeError: If the system is not Linux.
    """
    if not hasattr(os, "posix_fadvise"):
        raise RuntimeError("profile: --cold needs posix_fadvise, which this system does not have. Remove --cold.")
    files = size = 0
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(descriptor)  # unwritten pages would stay in the cache
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            files, size = files + 1, size + os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    return files, size
