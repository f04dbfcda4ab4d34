"""Processes: how many workers there may be and how they start, and which of a distributed group this one is."""

from __future__ import annotations

import os

import torch

__all__ = ["START_METHOD", "cores", "world"]

# Not fork: threads of torch and numba run by now, and a forked child would wait for them for ever. Not forkserver: it
# and its workers outlive a main process that is killed.
START_METHOD = "spawn"


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def world() -> tuple[int, int]:
    """(world size, rank) of torch.distributed, or of this process alone."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(), distributed.get_rank()
    return 1, 0
