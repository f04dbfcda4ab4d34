"""Which functions take the time of a fetch: a thread looks at the stack of the thread that fetches, again and again.

It runs only in a pass of its own, since it costs some percent. Each look adds the time since the look before, on a core
and waiting, to the function that runs, in the present stage. Functions of the user's own code are told apart by line;
those of libraries have the line of the user's code that called them.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import CodeType, FrameType

from gpuaug.profiler.measure.clock import Clocks, Notes
from gpuaug.profiler.model.functions import Key, Times

__all__ = ["EVERY", "Sampler", "described", "merged"]

EVERY = 0.005  # seconds between two looks; one takes about 50 microseconds
DEPTH = 200  # frames of a stack, at most
HERE = os.path.dirname(__file__)
ROOT = os.path.dirname(os.path.dirname(HERE))  # the package
ENTRY = os.path.join(HERE, "tracing.py")  # calls the data set and the collate function
LIBRARY = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))  # of Python


class Sampler(threading.Thread):
    """Looks at the stack of the thread that makes it, while that thread fetches."""

    def __init__(self) -> None:
        super().__init__(name="gpuaug profile", daemon=True)
        self.watched = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self.watched) if hasattr(time, "pthread_getcpuclockid") else None
        self._queue = _schedstat(threading.get_native_id())
        self._over = threading.Event()
        self._notes: Notes | None = None
        self._last: Clocks = (0, 0, 0)
        self._found: dict[Key, Times] = {}

    def begin(self, notes: Notes) -> None:
        """Begin with a fetch of this thread; `notes` knows its clocks and its present stage."""
        if threading.get_ident() == self.watched:
            self._notes, self._last, self._found = None, notes.clocks, {}
            self._notes = notes

    def end(self, notes: Notes) -> None:
        """End a fetch: give its notes what was seen."""
        if self._notes is notes:
            self._notes = None
            notes.functions = dict(self._found)

    def stop(self) -> None:
        """End the thread, and wait until it has ended."""
        self._over.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        try:
            while not self._over.wait(EVERY):
                self._look()
        finally:
            if self._queue >= 0:
                os.close(self._queue)

    def _look(self) -> None:
        notes = self._notes
        if notes is None:
            return
        now = self._clocks()
        frame, inner = sys._current_frames().get(self.watched), notes.inner
        found = None if frame is None else described(frame)
        del frame
        before, self._last = self._last, now
        if found is None or self._notes is not notes:
            return
        wall, cpu, queue = (max(0, after - first) for after, first in zip(now, before, strict=True))
        key = ("getitem" if inner is None else inner.name, *found)
        looks, computing, waiting = self._found.get(key, (0, 0, 0))
        self._found[key] = looks + 1, computing + cpu, waiting + max(0, wall - cpu - queue)

    def _clocks(self) -> Clocks:
        """The three clocks of the watched thread."""
        wall = time.perf_counter_ns()
        cpu = wall if self._clock is None else time.clock_gettime_ns(self._clock)
        queue = int(os.pread(self._queue, 64, 0).split()[1]) if self._queue >= 0 else 0
        return wall, cpu, queue


def _schedstat(thread: int) -> int:
    """The open schedstat file of a thread of this process; -1 where there is none."""
    try:
        return os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def described(frame: FrameType) -> tuple[str, str, int, str] | None:
    """(name, file, line, file:line of the user's line that called it) of the function that runs.

    Functions of the profiler itself are left out: their time is that of their caller. None if nothing is left.
    """
    leaf: tuple[CodeType, int] | None = None
    here: FrameType | None = frame
    for _ in range(DEPTH):
        if here is None or here.f_code.co_filename == ENTRY:
            break
        code, line = here.f_code, here.f_lineno or 0
        here = here.f_back
        if code.co_filename.startswith(HERE):
            continue
        leaf = leaf or (code, line)
        if is_own(code.co_filename):
            if leaf[0] is code:
                return _name(code), code.co_filename, line, ""
            return _name(leaf[0]), leaf[0].co_filename, leaf[0].co_firstlineno, f"{code.co_filename}:{line}"
    return None if leaf is None else (_name(leaf[0]), leaf[0].co_filename, leaf[0].co_firstlineno, "")


def _name(code: CodeType) -> str:
    """The name of a function with its class, where Python tells it (from 3.11 on)."""
    return str(getattr(code, "co_qualname", code.co_name)).replace("<locals>.", "")


@lru_cache(maxsize=4096)
def is_own(file: str) -> bool:
    """Whether a file is the user's own: not of Python, nor of an installed package."""
    if file.startswith("<"):
        return file.startswith(("<ipython", "<stdin"))
    parts = file.replace("\\", "/").split("/")
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not file.startswith((ROOT + os.sep, *LIBRARY))


def merged(found: Iterable[Mapping[Key, Times] | None]) -> dict[Key, Times]:
    """What was seen in several fetches, together."""
    total: dict[Key, Times] = {}
    for one in found:
        for key, times in (one or {}).items():
            looks, computing, waiting = (a + b for a, b in zip(total.get(key, (0, 0, 0)), times, strict=True))
            total[key] = looks, computing, waiting
    return total
