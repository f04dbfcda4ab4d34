"""Which process of a distributed group this one is."""

from __future__ import annotations

import torch

__all__ = ["world"]


def world() -> tuple[int, int]:
    """(world size, rank) of torch.distributed, or of this process alone."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(), distributed.get_rank()
    return 1, 0
