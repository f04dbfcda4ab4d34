"""The epoch of a module: set by `set_epoch` or counted by DeviceLoader, and visible to worker processes."""

from __future__ import annotations

import ctypes
import os
from multiprocessing import context
from multiprocessing.sharedctypes import RawArray
from typing import Any

__all__ = ["Epochs"]

NUMBER, FLAGS, VERSION, AGAIN = range(4)
TOLD, BEGUN, OVER, RESUMED = 1, 2, 4, 8
PASS = 8  # the bit of saved flags where `again` begins


class Epochs:
    """Four integers in memory that worker processes share, forked or spawned, persistent or not. Workers read them; the
    process that made them writes. Another process that writes gets its own memory.

    number: Number of the epoch. told: Whether set_epoch was called. version: Rises whenever an epoch or a pass begins.
    again: How many passes of a loader began in the epoch of set_epoch, after the first.
    """

    def __init__(self) -> None:
        self._own(0, 0, 0, 0)

    def _own(self, *words: int) -> None:
        self._words: Any = RawArray(ctypes.c_int64, 4)
        self._words[:] = list(words)
        self._owner = os.getpid()

    def _write(self, number: int, flags: int, again: int, new: bool = True) -> None:
        if self._owner != os.getpid():
            self._own(*self._words)
        self._words[:] = [number, flags, self._words[VERSION] + new, again]

    @property
    def number(self) -> int:
        return int(self._words[NUMBER])

    @property
    def version(self) -> int:
        return int(self._words[VERSION])

    @property
    def again(self) -> int:
        return int(self._words[AGAIN])

    @property
    def told(self) -> bool:
        return bool(self._words[FLAGS] & TOLD)

    def tell(self, number: int) -> None:
        """Set the epoch. The first call after a state was loaded continues the saved epoch if it has its number."""
        goes_on = bool(self._words[FLAGS] & RESUMED) and number == self.number
        self._write(number, TOLD, self.again if goes_on else 0, new=not goes_on)

    @property
    def coming(self) -> int:
        """The epoch of the next pass, as `begin` will set it."""
        flags = self._words[FLAGS]
        return self.number if flags & TOLD else (self.number + bool(flags & BEGUN)) & 0xFFFFFFFF

    def begin(self) -> None:
        """Begin a pass over a loader: the first or a further pass of the epoch of set_epoch, or else the next epoch."""
        flags = self._words[FLAGS]
        begun, told = bool(flags & BEGUN), flags & TOLD
        self._write(self.coming, told | BEGUN, self.again + (begun and bool(told)), new=begun)

    def end(self, version: int) -> None:
        """End a pass; if it is the one that began last, the pass after a resume is the next epoch."""
        if version == self.version:
            self._write(self.number, self._words[FLAGS] | OVER, self.again, new=False)

    def save(self) -> tuple[int, int]:
        """(number, flags). If saved in the middle of a pass, the resumed pass is the same epoch."""
        flags = self._words[FLAGS]
        return self.number, (flags & TOLD) | (BEGUN | OVER if flags & OVER else 0) | self.again << PASS

    def load(self, number: int, flags: int) -> None:
        """Restore what `save` returned."""
        self._write(number, (flags & (TOLD | BEGUN | OVER)) | RESUMED, flags >> PASS)

    def __getstate__(self) -> dict[str, Any]:
        """A spawned worker shares the memory; any other copy gets its own."""
        if context.get_spawning_popen() is not None:
            return {"_words": self._words, "_owner": self._owner}
        return {"_saved": list(self._words)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_saved" in state:
            self._own(*state["_saved"])
        else:
            vars(self).update(state)
