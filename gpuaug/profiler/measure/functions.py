"""Which functions take the time of a fetch: a timer interrupts the process every few milliseconds that it computes.

The interrupt, SIGPROF, shows the function that runs. A thread that looks at the stack instead would see it mostly where
the interpreter's lock is released. Each look adds the time on a core since the look before to that function, in the
present stage: the user's own code is told apart by line, functions of libraries have the line of the user's code that
called them. The timer is not set anew for each fetch, so that no part of a fetch is seen more often than another. It
runs in a pass of its own, since looking takes about 1 % of the time.
"""

from __future__ import annotations

import atexit
import os
import signal
import sysconfig
import threading
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

from gpuaug.profiler.measure.clock import Notes
from gpuaug.profiler.model.functions import Key, Times

__all__ = ["EVERY", "Sampler", "described", "is_own", "merged"]

EVERY = 0.005  # seconds on a core between two looks; one takes about 20 microseconds
DEPTH = 200  # frames of a stack, at most
HERE = os.path.dirname(__file__)
ROOT = os.path.dirname(os.path.dirname(HERE))  # the package
ENTRY = os.path.join(HERE, "tracing.py")  # calls the data set and the collate function
LIBRARY = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))  # of Python


class Sampler:
    """Looks at the stack of this process's main thread while it fetches.

    It does nothing in another thread, where the system has no such timer, and where other code handles SIGPROF.
    """

    def __init__(self) -> None:
        self._notes: Notes | None = None
        self._last = time.process_time_ns()
        self._found: dict[Key, Times] = {}
        self._before: Any = None
        main = threading.current_thread() is threading.main_thread()
        self._works = main and hasattr(signal, "setitimer") and signal.getsignal(signal.SIGPROF) == signal.SIG_DFL
        if self._works:
            self._before = signal.signal(signal.SIGPROF, self._look)
            signal.siginterrupt(signal.SIGPROF, False)  # system calls go on
            signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
            atexit.register(self.stop)  # the default for SIGPROF, which Python restores, ends the process

    def begin(self, notes: Notes) -> None:
        """Begin with a fetch of this thread; `notes` knows its present stage."""
        if self._works and threading.current_thread() is threading.main_thread():
            self._notes, self._found = notes, {}

    def end(self) -> None:
        """End a fetch: give its notes what was seen."""
        if self._notes is not None:
            self._notes.functions, self._notes = self._found, None

    def stop(self) -> None:
        """Stop the timer, and put the handler back that was there before."""
        self.end()
        if self._works:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, self._before)
            self._works = False
            atexit.unregister(self.stop)

    def _look(self, number: int, frame: FrameType | None) -> None:
        now = time.process_time_ns()
        spent, self._last = now - self._last, now
        notes = self._notes
        if notes is None:
            return
        found = None if frame is None else described(frame)
        if found is not None:
            inner = notes.inner
            key = ("getitem" if inner is None else inner.name, *found)
            looks, computing = self._found.get(key, (0, 0))
            self._found[key] = looks + 1, computing + spent


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
        for key, (looks, computing) in (one or {}).items():
            before = total.get(key, (0, 0))
            total[key] = before[0] + looks, before[1] + computing
    return total
