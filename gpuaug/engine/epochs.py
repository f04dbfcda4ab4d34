"""The epoch of a module: told by `set_epoch`, counted by DeviceLoader, and seen by worker processes."""

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
    """Four integers in memory that workers share, forked or spawned, persistent or not; they read and it is written
    by the process that made it. Another one that writes gets a memory of its own.

    number: of the epoch. told: set_epoch was called. version: rises whenever an epoch or a pass begins.
    again: passes of a loader that began in the epoch that was told, after the first.
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
        """`set_epoch`. The first one after a state was loaded that names its epoch goes on in it."""
        goes_on = bool(self._words[FLAGS] & RESUMED) and number == self.number
        self._write(number, TOLD, self.again if goes_on else 0, new=not goes_on)

    def begin(self) -> None:
        """A pass over a loader begins: the epoch that was told, or another pass of it; the next epoch if none was."""
        flags = self._words[FLAGS]
        begun, told = bool(flags & BEGUN), flags & TOLD
        number = self.number if told else (self.number + begun) & 0xFFFFFFFF
        self._write(number, told | BEGUN, self.again + (begun and bool(told)), new=begun)

    def end(self, version: int) -> None:
        """A pass came to its end; if it is the last one that began, the next one after a resume is the next epoch."""
        if version == self.version:
            self._write(self.number, self._words[FLAGS] | OVER, self.again, new=False)

    def save(self) -> tuple[int, int]:
        """(number, flags): in the middle of a pass, a resumed one is the same epoch."""
        flags = self._words[FLAGS]
        return self.number, (flags & TOLD) | (BEGUN | OVER if flags & OVER else 0) | self.again << PASS

    def load(self, number: int, flags: int) -> None:
        """What `save` gave."""
        self._write(number, (flags & (TOLD | BEGUN | OVER)) | RESUMED, flags >> PASS)

    def __getstate__(self) -> dict[str, Any]:
        """A worker that is spawned shares the memory; any other copy has one of its own."""
        if context.get_spawning_popen() is not None:
            return {"_words": self._words, "_owner": self._owner}
        return {"_saved": list(self._words)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_saved" in state:
            self._own(*state["_saved"])
        else:
            vars(self).update(state)
