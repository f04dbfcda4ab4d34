"""Processes: how many workers there may be and how they start, and which of a distributed group this one is."""

from __future__ import annotations

import multiprocessing
import os

import torch

__all__ = ["cores", "start_method", "world"]


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_method() -> str:
    """Not fork: threads of torch and numba run by now, and a forked child would wait for them for ever."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def world() -> tuple[int, int]:
    """(world size, rank) of torch.distributed, or of this process alone."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(), distributed.get_rank()
    return 1, 0
