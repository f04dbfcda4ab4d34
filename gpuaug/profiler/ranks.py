"""The ranks of a distributed job: each measures its own loop, and all of them get the times of all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from gpuaug.profiler.model.trace import BACKWARD

__all__ = ["Rank", "check_group", "gather", "own_times", "spread", "world"]

MAX_SPREAD = 0.10  # of the ranks' own times; from here on the slowest rank is worth a look


@dataclass(frozen=True)
class Rank:
    """The times of one rank, in seconds a batch, and its memory in bytes.

    Attributes:
        rank: Number of the rank.
        pace: Time of a batch.
        wait: Time that the loop waits for data.
        step: {row of the step: time}.
        main: Resident memory of its main process; None if unknown.
        device: Memory of tensors on its device; None without one.
    """

    rank: int
    pace: float
    wait: float
    step: dict[str, float] = field(default_factory=dict)
    main: int | None = None
    device: int | None = None


def world() -> int:
    """Number of ranks of this job, from torch's process group or the variable that torchrun sets."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    given = os.environ.get("WORLD_SIZE", "1")
    return int(given) if given.isdigit() else 1


def check_group() -> None:
    """Check that the ranks of this job can exchange their times.

    Raises:
        RuntimeError: If torch.distributed is not initialized.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "profile: `ranks` needs a process group, and torch.distributed is not initialized. Call "
            "torch.distributed.init_process_group before the block."
        )


def gather(own: Rank | None) -> list[Rank]:
    """The times of all ranks, on every rank. All ranks must call it.

    Args:
        own: Times of this rank; None if it has too few batches for a report.

    Raises:
        ValueError: If a rank has none.
    """
    import torch.distributed as dist

    found: list[Rank | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    missing = [number for number, one in enumerate(found) if one is None]
    if missing:
        raise ValueError(f"profile: every rank must have enough batches for a report, got too few on ranks {missing}.")
    return [one for one in found if one is not None]


def own_times(ranks: Sequence[Rank]) -> list[float]:
    """Seconds a batch that each rank needs itself.

    Ranks wait for one another in the backward pass, where gradients are exchanged. So the time by which a rank's
    backward pass is longer than the shortest one counts as waiting for others.
    """
    shortest = min(one.step.get(BACKWARD, 0.0) for one in ranks)
    return [one.pace - max(0.0, one.step.get(BACKWARD, 0.0) - shortest) for one in ranks]


def spread(ranks: Sequence[Rank]) -> float:
    """How much longer the slowest rank takes than the fastest one, a fraction."""
    times = own_times(ranks)
    return max(times) / max(min(times), 1e-9) - 1
