"""Threads that divide a batch: Python threads that call `nogil` kernels. Without OpenMP, a fork is safe."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import count

__all__ = ["parallel_for"]

SAMPLES_AT_ONCE = 4  # samples that a thread takes at once: few, so that all threads end at about the same time

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_threads = 0


def _forget() -> None:
    """Start a forked child without a pool, as the threads of its parent do not exist in it."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _workers(threads: int) -> ThreadPoolExecutor:
    global _pool, _threads
    with _lock:
        if _pool is None or _threads < threads:
            _pool = ThreadPoolExecutor(threads, thread_name_prefix="gpuaug")
            _threads = threads
        return _pool


def parallel_for(work: Callable[[int, int], None], size: int, threads: int, at_once: int = SAMPLES_AT_ONCE) -> None:
    """Call `work(start, stop)` for ranges of `at_once` until 0..size is done, on this thread and others."""
    helpers = min(threads, -(-size // at_once)) - 1
    if helpers < 1:
        for start in range(0, size, at_once):
            work(start, min(start + at_once, size))
        return
    starts = count(0, at_once)  # next() is atomic

    def take() -> None:
        for start in starts:
            if start >= size:
                return
            work(start, min(start + at_once, size))

    others = [_workers(threads - 1).submit(take) for _ in range(helpers)]
    try:
        take()
    finally:
        wait(others)  # no thread may still be writing when this call returns
    for other in others:
        other.result()
