"""A thread that works ahead of its consumer; nobody has to wait for it when the source of its batches is stuck."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from gpuaug import compat

__all__ = ["Ahead", "LeftError"]

T = TypeVar("T")

GRACE = 2.0  # seconds that `close` waits for a batch that is on its way

_running: weakref.WeakSet[Ahead] = weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)  # a forked child has none of its parent's threads


class LeftError(Exception):
    """The consumer left while a batch was fetched."""


class Ahead:
    """Runs one job after another in a thread of its own.

    Jobs get the next batch with `fetch`, which may take for ever; everything else that they do must end by itself. The
    thread is a daemon: the interpreter ends without it, and at its exit `close` is called for every thread there is.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._source: Iterator[Any] | None = None  # a batch of it is on its way
        self._left = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        _running.add(self)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run `job` after those before."""
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return future

    def fetch(self, source: Iterator[Any], end: object) -> Any:
        """`next(source, end)`, inside a job.

        Raises:
            LeftError: if `close` was called before it came.
        """
        with self._lock:
            if self._left:
                raise LeftError
            self._source = source
        try:
            return next(source, end)
        finally:
            with self._lock:
                self._source = None
                if self._left:
                    raise LeftError

    def close(self, wait: bool = True) -> None:
        """Start nothing more; wait for the job at hand, but not for ever for the batch that it fetches.

        torch's iterator over worker processes is interrupted, so that they end as they do when it is left. Any other
        source is let to finish its batch, which nobody will see.
        """
        with self._lock:
            self._left = True
            if compat.is_of_worker_processes(self._source):
                _interrupt(self._thread)
        self._jobs.put(None)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join(GRACE)
            with self._lock:
                stuck = self._source is not None
            if not stuck:
                self._thread.join()

    def join(self) -> None:
        """Wait for the end of the thread, if `close` was called."""
        if self._left:
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            if not self._left and future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            else:
                future.cancel()
            del future, function, job  # they hold the batch


def _interrupt(thread: threading.Thread) -> None:
    """Have a thread raise SystemExit, which ends it without a word, when it next runs Python code."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


@atexit.register
def _at_exit() -> None:
    for ahead in list(_running):
        ahead.close()
