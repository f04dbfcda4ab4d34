"""Numbers for samples that come without an index: in order, each once, also for batches that are prepared ahead."""

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

# Two threads may share a module. The lock is not an attribute of the counter, so that the counter can be pickled. It is
# reentrant: the garbage collector may end an iteration, and so give a batch back, while this thread holds the lock.
LOCK = threading.RLock()


def _renew() -> None:
    """A forked child starts with a free lock; its parent's may have been held."""
    global LOCK
    LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@dataclass(eq=False)
class Reservation:
    """The numbers of a batch that is not handed out yet; equal only to itself."""

    start: int
    size: int

    def index(self) -> NDArray[np.uint64]:
        """(size,) numbers that key the draws; no two ranks have one in common."""
        ranks, rank = world()
        return (np.arange(self.start, self.start + self.size, dtype=np.uint64) * ranks + rank).astype(np.uint64)


class Pending(Generic[T]):
    """Reservations that were neither committed nor released yet, in order.

    References are weak: a reservation that is dropped counts as used from then on. If it were kept, every saved state
    would stay at its start, and every resume would repeat draws.
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
        """Remove an item; False if it was not pending."""
        reference = weakref.ref(item)
        if reference not in self._references:
            return False
        self._references.remove(reference)
        return True


class SampleNumbers:
    """The numbers from `next` on are free; `taken` are those of batches that are not handed out yet."""

    def __init__(self, value: int = 0) -> None:
        self.next = value
        self.taken: Pending[Reservation] = Pending()

    def value(self) -> int:
        """How many numbers are used up. A batch prepared ahead uses up none until it is handed out."""
        with LOCK:
            return min([self.next, *(reservation.start for reservation in self.taken.items())])

    def reserve(self, size: int) -> Reservation:
        """Reserve the next numbers; `commit` or `release` must follow."""
        with LOCK:
            start, self.next = self.next, self.next + size  # before the garbage collector can run
            reservation = Reservation(start, size)
            self.taken.add(reservation)
        return reservation

    def commit(self, reservation: Reservation) -> None:
        """Use up the numbers of a batch that was handed out."""
        self._settle(reservation, used=True)

    def release(self, reservation: Reservation) -> None:
        """Give back the numbers of a batch that is not used: they are free again if they are the last."""
        self._settle(reservation, used=False)

    def _settle(self, reservation: Reservation, used: bool) -> None:
        with LOCK:
            if not self.taken.settle(reservation):  # it belongs to a counter that load_state_dict has replaced
                return
            if not used and self.next == reservation.start + reservation.size:
                self.next = reservation.start

    def __getstate__(self) -> dict[str, object]:
        """A copy does not contain the batches that are prepared ahead."""
        return {"next": self.value(), "taken": Pending()}
