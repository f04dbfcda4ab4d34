"""Numbers for samples that come without an index: in turn, each once, also for batches that are made ahead."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpuaug.engine.distributed import world

__all__ = ["Pending", "Reservation", "SampleNumbers"]

T = TypeVar("T")

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
class Reservation:
    """The numbers of a batch that is not handed out yet; equal to itself alone."""

    start: int
    size: int

    def index(self) -> NDArray[np.uint64]:
        """(size,), what keys the draws; no two ranks have one in common."""
        ranks, rank = world()
        return (np.arange(self.start, self.start + self.size, dtype=np.uint64) * ranks + rank).astype(np.uint64)


class Pending(Generic[T]):
    """What is reserved and not settled yet, in order.

    References are weak: what is dropped unsettled counts as used from then on. If it were kept, a saved state would
    stay at its start for good, and every resume would repeat draws.
    """

    def __init__(self) -> None:
        self._references: list[weakref.ref[T]] = []

    def add(self, item: T) -> None:
        if len(self._references) > 16:
            self._references = [weakref.ref(other) for other in self.items()]
        self._references.append(weakref.ref(item))

    def items(self) -> list[T]:
        return [item for reference in self._references if (item := reference()) is not None]

    def settle(self, item: T) -> bool:
        """Whether it was pending; no longer."""
        reference = weakref.ref(item)
        if reference not in self._references:
            return False
        self._references.remove(reference)
        return True


class SampleNumbers:
    """The numbers from `next` on are free; batches that are not handed out yet have those `taken`."""

    def __init__(self, value: int = 0) -> None:
        self.next = value
        self.taken: Pending[Reservation] = Pending()

    def value(self) -> int:
        """How many numbers are used up. A batch made ahead uses up none until it is handed out."""
        with LOCK:
            return min([self.next, *(reservation.start for reservation in self.taken.items())])

    def reserve(self, size: int) -> Reservation:
        """The next numbers; `commit` or `release` must follow."""
        with LOCK:
            start, self.next = self.next, self.next + size  # before the collector may come
            reservation = Reservation(start, size)
            self.taken.add(reservation)
        return reservation

    def commit(self, reservation: Reservation) -> None:
        """The batch was handed out."""
        self._settle(reservation, used=True)

    def release(self, reservation: Reservation) -> None:
        """Nobody will see the batch: its numbers, if they are the last, are free again."""
        self._settle(reservation, used=False)

    def _settle(self, reservation: Reservation, used: bool) -> None:
        with LOCK:
            if not self.taken.settle(reservation):  # it is of the numbers before load_state_dict, which makes new ones
                return
            if not used and self.next == reservation.start + reservation.size:
                self.next = reservation.start

    def __getstate__(self) -> dict[str, object]:
        """A copy hands out none of the batches that are made ahead."""
        return {"next": self.value(), "taken": Pending()}
