"""A thread that prepares batches ahead of its consumer, and can be closed while the source of its batches hangs."""

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

__all__ = ["ClosedError", "FetchThread"]

T = TypeVar("T")

GRACE = 2.0  # seconds that `close` waits for a batch that is being fetched

_running: weakref.WeakSet[FetchThread] = weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)  # a forked child has none of its parent's threads


class ClosedError(Exception):
    """`FetchThread.close` was called while a batch was fetched."""


class FetchThread:
    """Run jobs one after another in a thread.

    A job gets the next batch with `fetch`, which may hang; the rest of a job must end in finite time. The thread is a
    daemon, so the interpreter does not wait for it. At the interpreter's exit every FetchThread is closed.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._source: Iterator[Any] | None = None  # the source that a batch is being fetched from
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        _running.add(self)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run a job after all earlier ones."""
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return future

    def fetch(self, source: Iterator[Any], end: object) -> Any:
        """The next batch of a source, or `end` after its last; for use inside a job.

        Raises:
            ClosedError: If `close` was called before the batch arrived.
        """
        with self._lock:
            if self._closed:
                raise ClosedError
            self._source = source
        try:
            return next(source, end)
        finally:
            with self._lock:
                self._source = None
                if self._closed:
                    raise ClosedError

    def close(self, wait: bool = True) -> None:
        """Start no more jobs, and end the thread after the present one.

        If the present job is fetching a batch from torch's iterator over worker processes, it is interrupted, and the
        workers end as after the loss of that iterator. Another source may finish its batch, which is dropped.

        Args:
            wait: Whether to wait for the present job; for a batch that it fetches at most GRACE seconds.
        """
        with self._lock:
            self._closed = True
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
        """Wait until the thread has ended, if `close` was called."""
        if self._closed:
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            if not self._closed and future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            else:
                future.cancel()
            del future, function, job  # they refer to the batch


def _interrupt(thread: threading.Thread) -> None:
    """Make a thread raise SystemExit when it next runs Python code; that ends it without a message."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


@atexit.register
def _at_exit() -> None:
    for thread in list(_running):
        thread.close()
