"""How many worker processes there may be, and how they start."""

from __future__ import annotations

import multiprocessing
import os

__all__ = ["cores", "start_method"]


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_method() -> str:
    """Not fork: threads of torch and numba run by now, and a forked child would wait for them for ever."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
