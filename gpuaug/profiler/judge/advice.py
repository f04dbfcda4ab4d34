"""A recommendation: its id, its predicted gain with an interval, and the lines of code to change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpuaug.profiler.judge.verdict import Gain
from gpuaug.profiler.model.costs import Change

__all__ = ["CORRECTNESS", "IDS", "Advice", "check_ids"]

IDS: dict[str, str] = {
    "augment-on-device": "Move augmentation out of the loader, to the device.",
    "num-workers": "Use another number of workers.",
    "prefetch": "Prefetch more batches per worker.",
    "out-of-order": "Take batches in the order in which they are ready.",
    "persistent-workers": "Keep the workers between epochs.",
    "pin-memory": "Use pinned memory, so that the device copies and computes at the same time.",
    "faster-storage": "Use faster storage, or pack the files into few large ones.",
    "pack-data": "Decode and shrink once, and read pixels in every epoch.",
    "collate": "Use a collate function that only stacks tensors.",
    "many-tensors": "Use fewer, larger tensors in a batch.",
    "arrays-to-tensors": "Send tensors, which use shared memory, instead of NumPy arrays.",
    "uint8-on-bus": "Send uint8 instead of float32 between processes and to the device.",
    "worker-threads": "Use one thread in each worker.",
    "slow-worker": "One worker is slower than the others.",
    "busy-machine": "Other jobs use the cores.",
    "slow-samples": "A few samples take far longer than the others.",
    "shared-memory": "/dev/shm is too small for the prefetched batches.",
    "worker-seeding": "All workers draw the same random numbers.",
    "augmented-validation": "A loader that does not shuffle has random transforms.",
    "normalize-not-last": "Transforms after Normalize expect pixels that are not normalized.",
}
CORRECTNESS = ("worker-seeding", "augmented-validation", "normalize-not-last")  # ids that concern wrong results


@dataclass(frozen=True)
class Advice:
    """One recommendation.

    Attributes:
        id: Name, one of IDS, by which it can be ignored.
        title: The recommendation in one sentence.
        gain: Predicted gain of the whole job; None if it was not replayed.
        how: Python that changes the name `loader`, to be pasted below the line that makes it; comments alone where
            only the user can do it; may be empty.
        change: The change that was replayed, or None.
        settings: Arguments of the loader with which a receipt can try it, or None.
    """

    id: str
    title: str
    gain: Gain | None
    how: str
    change: Change | None = None
    settings: dict[str, Any] | None = None

    @property
    def is_code(self) -> bool:
        """Whether `how` holds a change that can be pasted, and not comments alone."""
        return any(line and not line.startswith("#") for line in self.how.splitlines())


def check_ids(ignore: Iterable[str]) -> set[str]:
    """The ids as a set.

    Raises:
        ValueError: If one does not exist.
    """
    unknown = sorted(set(ignore) - IDS.keys())
    if unknown:
        raise ValueError(f"profile: `ignore` must name one of {', '.join(IDS)}, got {unknown[0]!r}.")
    return set(ignore)
