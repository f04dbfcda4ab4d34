"""Default implementations of the optional parts of `gpuaug.engine.backends.Backend`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from gpuaug.program import Alike, Keys
from gpuaug.ragged import Ragged

__all__ = ["drawn", "each"]


def drawn(alike: Alike, keys: Keys, source: Tensor | Ragged) -> None:
    """None: this backend has no shortcut, so the list is sampled and lowered."""


def each(work: Callable[[int], None], counts: Sequence[int]) -> None:
    """Call `work` with the number of each part, one after another. `counts`: the number of images of each part."""
    for number in range(len(counts)):
        work(number)
