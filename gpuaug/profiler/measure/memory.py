"""The memory of the main process, of the workers, and of the device."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from gpuaug.profiler.model.trace import Memory

__all__ = ["Peaks", "resident"]


def resident(process: int | None = None) -> int | None:
    """Bytes of a process that are in memory, of this one if None; None where the system does not say (not Linux)."""
    try:
        pages = Path(f"/proc/{process or 'self'}/statm").read_text().split()[1]
    except (OSError, IndexError):  # not Linux, or the process has ended
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int | None:
    """Largest number of bytes of this process in memory so far; None where the system does not say (Windows)."""
    try:  # ru_maxrss below would have the peak of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


class Peaks:
    """The largest memory that was seen of the main process and of each worker."""

    def __init__(self) -> None:
        self._main: int | None = None
        self._workers: dict[int, int] = {}
        self._largest: list[int] = []  # of an earlier epoch, whose workers have ended

    def look(self, workers: Iterable[int]) -> None:
        """Look at the main process and at workers, by their process ids."""
        found = resident()
        if found is not None:
            self._main = max(found, self._main or 0)
        for worker in workers:
            found = resident(worker)
            if found:  # 0 of a process that has ended
                self._workers[worker] = max(found, self._workers.get(worker, 0))

    def end_epoch(self) -> None:
        """The workers may end now: those of the next epoch are others."""
        self._largest = max(self._largest, list(self._workers.values()), key=sum)
        self._workers = {}

    def result(self) -> Memory:
        """The largest memory so far."""
        device = None
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            device = int(torch.cuda.max_memory_allocated())
        workers = max(self._largest, list(self._workers.values()), key=sum)
        peak = _peak()
        if peak is not None:  # it is counted in another way than the rest
            peak = max(peak, self._main or 0)
        return Memory(self._main, peak, workers, device)
