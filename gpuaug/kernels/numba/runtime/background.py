"""Small batches do not wait for the compiler: the twin renders them, with the same bits, while a thread compiles.

In a notebook the first picture then takes a fraction of a second. A loop does not stay slow: after `SERVED` such calls
the next one waits for the thread. What is being compiled when the process ends is given up, and a process that forks
waits until the kernel being compiled is done, since a child would find Numba's lock held by nobody.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import torch
from numba.core.compiler_lock import global_compiler_lock

from gpuaug.kernels.numba.runtime import jit

__all__ = ["SERVED", "render"]

T = TypeVar("T")

SWITCH = 2e-4  # seconds for which a thread that compiles keeps Python's lock while the twin waits for it; 5e-3 is usual
SERVED = 16  # calls that the twin serves in a row; it takes 10 ms an image and keeps the compiler waiting


class _State:
    """Of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.waiting: deque[Callable[[], object]] = deque()  # calls whose kernels are to be compiled
        self.served = 0
        self.failed = False


_state = _State()


def render(kernels: Callable[[], T], twin: Callable[[], T], again: Callable[[], Callable[[], object]]) -> T:
    """What `kernels` returns; if some of them have to be compiled first, what `twin` returns.

    Args:
        kernels: Function that renders a batch on the kernels; it may be stopped in the middle and called again.
        twin: Function that renders it without them.
        again: Function that copies what the kernels read, and returns one that uses them once more in another thread.
    """
    state = _state
    if not state.failed:
        try:
            with jit.only_ready():
                return kernels()
        except jit.NotReady:
            pass
        if state.served < SERVED:
            result = _served(twin)
            _compile(state, again())
            return result
    thread = state.thread
    if thread is not None:
        thread.join()
    return kernels()  # if the thread failed, this says why


def _served(twin: Callable[[], T]) -> T:
    """What `twin` returns, beside a thread that compiles.

    torch's threads would wait for one another in loops, and take its core; and each operation of the twin gives up
    Python's lock, which the other thread would keep for long.
    """
    threads, interval = torch.get_num_threads(), sys.getswitchinterval()
    torch.set_num_threads(1)
    sys.setswitchinterval(min(interval, SWITCH))
    try:
        return twin()
    finally:
        sys.setswitchinterval(interval)
        torch.set_num_threads(threads)


def _compile(state: _State, again: Callable[[], object]) -> None:
    """Have a thread compile what `again` uses."""
    with state.lock:
        state.served += 1
        state.waiting.append(again)
        if state.thread is None:
            state.thread = threading.Thread(target=_work, args=(state,), name="gpuaug-compile", daemon=True)
            state.thread.start()


def _work(state: _State) -> None:
    while True:
        with state.lock:
            if not state.waiting or state.failed:
                state.waiting.clear()
                state.thread, state.served = None, 0
                return
            again = state.waiting.popleft()
        try:
            again()
        except jit.Stopped:
            return
        except Exception as error:
            if not threading.main_thread().is_alive():
                return  # the process ends, and with it the threads that share a batch
            state.failed = True
            what = " ".join(f"{type(error).__name__}: {error}".split())
            warnings.warn(
                f"gpuaug: kernels for the CPU could not be compiled ({what}); the next call tries again.", stacklevel=2
            )


def _stop() -> None:
    """At the end of the process, which must not take down the compiler's memory while it is used."""
    thread = _state.thread
    if thread is not None:
        jit.stop()
        thread.join()


atexit.register(_stop)


def _forget() -> None:
    """A forked child has none of its parent's threads; it compiles for itself."""
    global _state
    _state = _State()
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire, after_in_parent=global_compiler_lock.release, after_in_child=_forget
    )
