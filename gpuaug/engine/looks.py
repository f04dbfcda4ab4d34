"""How often each image was shown in an epoch, so that each look at it has a different draw."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.engine import counter
from gpuaug.engine.counter import Pending
from gpuaug.philox import LOOK, NUMBERS

__all__ = ["Looks", "ReservedLooks"]

Array = NDArray[Any]

PAGE = 16  # numbers: 64 bytes in the pool and about 100 in the dict, so that numbers far apart cost 164 bytes each
MOST = 1 << 16  # looks of an image that the module counts in an epoch
REPEATS = (
    f"Augment: an image was asked for more than {MOST:,} times in one epoch, and its draws begin to repeat. "
    "Call set_epoch at the start of each epoch, or let DeviceLoader count its passes."
)


@dataclass(eq=False)
class ReservedLooks:
    """The looks (B,) uint32 of a batch that is not handed out yet, and the entries of the pool before it."""

    number: int  # the position of this reservation among all
    looks: Array
    places: Array
    before: Array


class Looks:
    """What was shown in one epoch. An entry is (highest look the sampler numbered + 1, repeats), two uint16.

    A look that the sampler numbered higher than those before it is new. Any other look is a repeat; the module counts
    repeats in the bits above the sampler's number. So no two looks at an image are equal, and if nothing repeats, no
    look depends on what was shown before. A number takes 10 bytes where numbers are dense, and at most 164.
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}  # page of numbers -> row of the pool
        self._pool = np.zeros((64, PAGE, 2), np.uint16)
        self._last = 0  # number of the last reservation that is counted
        self._taken: Pending[ReservedLooks] = Pending()

    def reserve(self, index: Array) -> ReservedLooks:
        """Reserve the next looks at the images of a batch; `commit` or `release` must follow.

        Args:
            index: (B,) uint64, with the sampler's look from bit 48 on.
        """
        numbers, looks = index & np.uint64(NUMBERS), (index >> np.uint64(LOOK)).astype(np.uint32)
        with counter.LOCK:
            self._last += 1
            taken = ReservedLooks(self._last, looks, np.empty(0, np.int64), np.empty((0, 2), np.uint16))
            self._taken.add(taken)  # before counting: a batch that the garbage collector gives back now is not the last
            places = self._places(numbers)
            pool = self._pool.reshape(-1, 2)
            unique, inverse, counts = np.unique(places, return_inverse=True, return_counts=True)
            before = pool[unique]
            if len(unique) == len(places):
                repeats = _count(pool, places, looks)
            else:
                repeats = np.empty(len(places), np.uint32)
                for rows in _rounds(inverse, counts):
                    repeats[rows] = _count(pool, places[rows], looks[rows])
            taken.looks, taken.places, taken.before = looks | repeats << np.uint32(15), unique, before
        return taken

    def commit(self, taken: ReservedLooks) -> None:
        """Use up the looks of a batch that was handed out."""
        self._settle(taken, used=True)

    def release(self, taken: ReservedLooks) -> None:
        """Give back the looks of a batch that is not used: they are free again if they are the last."""
        self._settle(taken, used=False)

    def _settle(self, taken: ReservedLooks, used: bool) -> None:
        with counter.LOCK:
            if self._taken.settle(taken) and not used and taken.number == self._last:
                self._last -= 1
                self._pool.reshape(-1, 2)[taken.places] = taken.before

    def _places(self, numbers: Array) -> Array:
        """The positions of the entries in the pool, which grows for new pages."""
        rows, pages = self._rows, (numbers // np.uint64(PAGE)).tolist()
        found = np.array([rows.setdefault(page, len(rows)) for page in pages], np.int64)
        if len(rows) > len(self._pool):
            larger = np.zeros((max(len(rows), 2 * len(self._pool)), PAGE, 2), np.uint16)
            larger[: len(self._pool)] = self._pool
            self._pool = larger
        return found * PAGE + (numbers % np.uint64(PAGE)).astype(np.int64)

    @property
    def pages(self) -> int:
        """The largest number of pages that `save` may return."""
        return len(self._rows)

    def repeated(self) -> bool:
        """True if any image was shown again without a new number from the sampler."""
        return bool(self._pool[: len(self._rows), :, 1].any())

    def save(self) -> tuple[Array, Array]:
        """Pages (P,) int64 and entries (P, 8) int64 of looks that were handed out, without batches prepared ahead."""
        with counter.LOCK:
            pool = self._pool[: len(self._rows)].copy()
            for taken in reversed(self._taken.items()):
                pool.reshape(-1, 2)[taken.places] = taken.before
            pages = np.array(list(self._rows), np.int64)
        kept = np.flatnonzero(pool.any(axis=(1, 2)))
        kept = kept[np.argsort(pages[kept])]
        return pages[kept], pool[kept].astype("<u2").reshape(len(kept), 2 * PAGE).view("<i8").astype(np.int64)

    @classmethod
    def load(cls, pages: Array, entries: Array) -> Looks:
        """Restore what `save` returned."""
        looks = cls()
        looks._rows = {int(page): row for row, page in enumerate(pages)}
        pool = np.ascontiguousarray(entries, "<i8").view("<u2").astype(np.uint16).reshape(-1, PAGE, 2)
        looks._pool = np.concatenate([pool, np.zeros((64, PAGE, 2), np.uint16)])
        return looks

    def __getstate__(self) -> dict[str, Any]:
        """A copy does not contain the batches that are prepared ahead."""
        return {"saved": self.save()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(Looks.load(*state["saved"])))


def _count(pool: Array, places: Array, looks: Array) -> Array:
    """Record looks at different images; returns the number of each look among its image's repeats, 0 if new, uint32."""
    entries = pool[places]
    new = looks >= entries[:, 0]
    repeats = np.where(new, 0, entries[:, 1].astype(np.uint32) + 1).astype(np.uint32)
    if (repeats >= MOST).any():
        warnings.warn(REPEATS, stacklevel=2)
        repeats %= MOST
    entries[:, 0] = np.where(new, looks + 1, entries[:, 0])
    entries[:, 1] = np.where(new, entries[:, 1], repeats)
    pool[places] = entries
    return repeats


def _rounds(inverse: Array, counts: Array) -> list[Array]:
    """Positions in the batch, in rounds that contain each image at most once, in the order of the batch."""
    order = np.argsort(inverse, kind="stable")
    starts = np.cumsum(counts) - counts
    occurrence = np.empty(len(inverse), np.int64)
    occurrence[order] = np.arange(len(inverse)) - np.repeat(starts, counts)
    return [np.flatnonzero(occurrence == number) for number in range(int(counts.max()))]
