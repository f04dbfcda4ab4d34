"""The epoch of a module: told by `set_epoch`, counted by DeviceLoader, and seen by worker processes."""

from __future__ import annotations

import ctypes
import os
from multiprocessing import context
from multiprocessing.sharedctypes import RawArray
from typing import Any

__all__ = ["Epochs"]

NUMBER, FLAGS, VERSION = range(3)
TOLD, BEGUN, OVER, RESUMED = 1, 2, 4, 8


class Epochs:
    """Three integers in memory that workers share, forked or spawned, persistent or not; they read and it is written
    by the process that made it. Another one that writes gets a memory of its own.

    number: of the epoch. told: set_epoch was called. version: rises whenever an epoch begins.
    """

    def __init__(self, number: int = 0, flags: int = 0) -> None:
        self._own(number, flags, 0)

    def _own(self, number: int, flags: int, version: int) -> None:
        self._words: Any = RawArray(ctypes.c_int64, 3)
        self._words[:] = [number, flags, version]
        self._owner = os.getpid()

    def _write(self, number: int, flags: int, new: bool = True) -> None:
        if self._owner != os.getpid():
            self._own(*self._words)
        self._words[:] = [number, flags, self._words[VERSION] + new]

    @property
    def number(self) -> int:
        return int(self._words[NUMBER])

    @property
    def version(self) -> int:
        return int(self._words[VERSION])

    @property
    def told(self) -> bool:
        return bool(self._words[FLAGS] & TOLD)

    def tell(self, number: int) -> None:
        """`set_epoch`. The first one after a state was loaded that names its epoch goes on in it."""
        goes_on = bool(self._words[FLAGS] & RESUMED) and number == self.number
        self._write(number, TOLD, new=not goes_on)

    def begin(self) -> None:
        """A pass over a loader begins: the epoch that was told and has not begun, or the next one."""
        flags = self._words[FLAGS]
        if flags & BEGUN:
            self._write((self.number + 1) & 0xFFFFFFFF, (flags & TOLD) | BEGUN)
        else:
            self._write(self.number, (flags & TOLD) | BEGUN, new=False)

    def end(self, version: int) -> None:
        """A pass came to its end; if it is the last one that began, the next one after a resume is the next epoch."""
        if version == self.version:
            self._write(self.number, self._words[FLAGS] | OVER, new=False)

    def save(self) -> tuple[int, int]:
        """(number, flags): in the middle of a pass, a resumed one is the same epoch."""
        flags = self._words[FLAGS]
        return self.number, (flags & TOLD) | (BEGUN | OVER if flags & OVER else 0)

    def load(self, number: int, flags: int) -> None:
        """What `save` gave."""
        self._write(number, (flags & (TOLD | BEGUN | OVER)) | RESUMED)

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
