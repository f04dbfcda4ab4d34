"""Result buffers that are used again once nobody holds them.

glibc maps a large result afresh for every batch, and the kernel then clears it page by page: that costs more than the
augmentation itself (docs/decisions.md). So result storages are remembered, and one whose only owner is this list is
handed out again. What a user still holds, a view or a NumPy array of it included, is never touched.

Training, its last batch, evaluation and other sizes take turns, so storages of several sizes are remembered: as many as
together are at most `TIMES` as large as the largest of them, which is what three of one size take.
"""

from __future__ import annotations

import math
import os
import sys
import threading

import torch
from torch import Tensor

from gpuaug import compat

__all__ = ["MOST", "TIMES", "empty"]

MOST = 16  # storages remembered at most
TIMES = 3  # what they hold together at most, as a multiple of the largest of them
_lock = threading.Lock()
_kept: list[torch.UntypedStorage] = []


def _forget() -> None:
    """A forked child starts with nothing remembered; its parent's lock may have been held."""
    global _lock
    _lock = threading.Lock()
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _references(kept: list[torch.UntypedStorage], number: int) -> int:
    return sys.getrefcount(kept[number])


ALONE = _references([torch.UntypedStorage(1)], 0)  # of a Python object that only a list holds


def _is_free(number: int) -> bool:
    """True if nobody else holds the storage: no tensor, no Python object, no other process."""
    if _references(_kept, number) != ALONE:  # `tensor.untyped_storage()` is this object
        return False
    return compat.owners(_kept[number]) == 1 and not _kept[number].is_shared()


def empty(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    """As torch.empty on the CPU, from a remembered storage of that size if one is free."""
    result = torch.empty(shape, dtype=dtype, memory_format=memory_format, device="meta")
    size = math.prod(shape) * dtype.itemsize
    with _lock:
        storage = _take(size)
        if storage is None:
            _make_room(size)
            storage = torch.UntypedStorage(size)
        _kept.append(storage)  # the last used stands last
    return torch.empty(0, dtype=dtype, device="cpu").set_(storage, 0, result.shape, result.stride())


def _take(size: int) -> torch.UntypedStorage | None:
    """The free storage of that size that was used last, no longer remembered."""
    for number in reversed(range(len(_kept))):
        if _kept[number].nbytes() == size and _is_free(number):
            return _kept.pop(number)
    return None


def _make_room(size: int) -> None:
    """Forget storages until one of that size may be added: free ones first, those used longest ago first."""
    while _kept:
        sizes = [size, *(storage.nbytes() for storage in _kept)]
        if len(sizes) <= MOST and sum(sizes) <= TIMES * max(sizes):
            return
        _kept.pop(next((number for number in range(len(_kept)) if _is_free(number)), 0))
