"""Numbers for samples that come without an index: in turn, each once, also for batches that are made ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuaug.engine.distributed import world

__all__ = ["Counter", "Taken"]

# Two threads may share a module; not on the counter, so that it pickles. The garbage collector may end an iteration,
# and so give a batch back, while this thread holds it.
LOCK = threading.RLock()


def _renew() -> None:
    """A forked child starts with a free lock; its parent's may have been held."""
    global LOCK
    LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@dataclass(eq=False)
class Taken:
    """The numbers of a batch that is not handed out yet; equal to itself alone."""

    start: int
    size: int

    def index(self) -> NDArray[np.uint64]:
        """(size,), what keys the draws; no two ranks have one in common."""
        ranks, rank = world()
        return (np.arange(self.start, self.start + self.size, dtype=np.uint64) * ranks + rank).astype(np.uint64)


class Counter:
    """The numbers from `next` on are free; batches that are not handed out yet have those `taken`."""

    def __init__(self, value: int = 0) -> None:
        self.next = value
        self.taken: list[Taken] = []

    def value(self) -> int:
        """How many numbers are used up. A batch made ahead uses up none until it is handed out."""
        with LOCK:
            return min([self.next, *(taken.start for taken in self.taken)])

    def take(self, size: int) -> Taken:
        """The next numbers; `settle` must follow."""
        with LOCK:
            start, self.next = self.next, self.next + size  # before the collector may come
            taken = Taken(start, size)
            self.taken.append(taken)
        return taken

    def settle(self, taken: Taken, used: bool) -> None:
        """The batch was handed out, or nobody will see it, and its numbers, if they are the last, are free again."""
        with LOCK:
            if taken not in self.taken:  # by a counter before load_state_dict, which makes a new one
                return
            self.taken.remove(taken)
            if not used and self.next == taken.start + taken.size:
                self.next = taken.start

    @contextmanager
    def taking(self, size: int) -> Iterator[Taken]:
        """The next numbers, for a batch that is made and handed out at once; an error gives them back."""
        taken = self.take(size)
        try:
            yield taken
        except BaseException:
            self.settle(taken, used=False)
            raise
        self.settle(taken, used=True)

    def __getstate__(self) -> dict[str, object]:
        """A copy hands out none of the batches that are made ahead."""
        return {"next": self.value(), "taken": []}
