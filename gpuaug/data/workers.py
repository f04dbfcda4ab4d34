"""Processes: how many workers there may be, and how they start and end."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

from torch.utils.data import DataLoader

__all__ = ["SPAWN", "batches", "cores", "prepare"]


def prepare(worker: int) -> None:
    """Have a worker end when the main process does, in whatever way, and not at Ctrl-C.

    Ctrl-C reaches every process of a terminal; the main one ends its workers, and waits 5 s for one that is gone.
    torch's workers look out for their parent too, but miss one that was gone before they had started, and do not end
    while batches of theirs wait to be read.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    atexit.register(_leave)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _leave() -> None:
    """Leave a worker that is done at once: libraries in C++ abort if they end while a thread of theirs starts."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextlib.contextmanager
def batches(loader: DataLoader[Any]) -> Iterator[Iterator[Any]]:
    """An epoch, at whose end the workers have ended, and the threads that feed their queues.

    A thread that the interpreter ends while it clears its queue away makes Python warn of leaked semaphores. It is not
    left to the garbage collector, since the traceback of Ctrl-C holds the iterator.
    """
    others = threading.enumerate()
    with _uninterrupted():
        iterator = iter(loader)
    try:
        yield iterator
    finally:
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
        for thread in threading.enumerate():
            if thread.name == "QueueFeederThread" and thread not in others:
                thread.join(timeout=1)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until workers have been started, and never reaches one: `prepare` comes after its imports."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    resource_tracker.ensure_running()  # it would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit it; other threads do not
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number)) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if came:
            signal.raise_signal(signal.SIGINT)


# Arguments of a DataLoader with workers. Not fork: threads of torch and numba run by now, and a forked child would wait
# for them for ever. Not forkserver: it outlives a main process that is killed.
SPAWN: dict[str, Any] = {"multiprocessing_context": "spawn", "worker_init_fn": prepare}


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
