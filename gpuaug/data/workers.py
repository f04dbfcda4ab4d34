"""Worker processes: how many there may be, and how they start and end."""

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
    """Make a worker process end when the main process ends, for whatever reason, and ignore Ctrl-C.

    Ctrl-C reaches every process of a terminal. The main process ends its workers itself, and would wait 5 s for a
    worker that has already ended. torch's workers watch their parent too, but do not notice that it ended before they
    had started, and do not end while batches of theirs have not been read.

    Args:
        worker: Number of the worker, as torch passes it to `worker_init_fn`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    atexit.register(_exit)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _exit() -> None:
    """End the process at once: C++ libraries abort if they are unloaded while a thread of theirs starts."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextlib.contextmanager
def batches(loader: DataLoader[Any]) -> Iterator[Iterator[Any]]:
    """Iterate over one epoch; afterwards the workers have ended, and the threads that feed their queues too.

    If the interpreter ends such a thread while it cleans up its queue, Python warns of leaked semaphores. The garbage
    collector would be too late: the traceback of Ctrl-C refers to the iterator.
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
    """Delay Ctrl-C until the workers have started. Workers never get it: `prepare` runs only after their imports."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    resource_tracker.ensure_running()  # started later, it would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number)) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if came:
            signal.raise_signal(signal.SIGINT)


# Arguments of a DataLoader with workers. Not fork: torch and numba have started threads by then, and a forked child
# could wait for them for ever. Not forkserver: it outlives a main process that is killed.
SPAWN: dict[str, Any] = {"multiprocessing_context": "spawn", "worker_init_fn": prepare}


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
