"""Result buffers that are reused after they were released.

glibc maps new memory for each large result, and the operating system then clears it page by page, which takes longer
than the augmentation (docs/decisions.md). So the storages of results are kept in a list, and a storage with no other
owner is used again. A storage that a tensor, a view or a NumPy array of the user still refers to is never reused.

Training batches, the last batch of an epoch and evaluation have different sizes, so storages of several sizes are kept.
Together they have at most `TIMES` the size of the largest one: the memory of three results of one size.
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

MOST = 16  # largest number of storages that are kept
TIMES = 3  # largest total size, as a multiple of the largest storage
_lock = threading.Lock()
_kept: list[torch.UntypedStorage] = []


def _forget() -> None:
    """Start a forked child with no storages and a new lock, as its parent's lock may have been held."""
    global _lock
    _lock = threading.Lock()
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _references(kept: list[torch.UntypedStorage], number: int) -> int:
    return sys.getrefcount(kept[number])


ALONE = _references([torch.UntypedStorage(1)], 0)  # reference count of a Python object that only a list refers to


def _is_free(number: int) -> bool:
    """True if nothing else refers to the storage: no tensor, no Python object, no other process."""
    if _references(_kept, number) != ALONE:  # `tensor.untyped_storage()` is this object
        return False
    return compat.owners(_kept[number]) == 1 and not _kept[number].is_shared()


def empty(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format) -> tuple[Tensor, bool]:
    """As torch.empty on the CPU, in a kept storage of that size if one is free; and whether one was."""
    result = torch.empty(shape, dtype=dtype, memory_format=memory_format, device="meta")
    size = math.prod(shape) * dtype.itemsize
    with _lock:
        storage = _take(size)
        was_used = storage is not None
        if storage is None:
            _make_room(size)
            storage = torch.UntypedStorage(size)
        _kept.append(storage)  # the storage that was used last is at the end
    return torch.empty(0, dtype=dtype, device="cpu").set_(storage, 0, result.shape, result.stride()), was_used


def _take(size: int) -> torch.UntypedStorage | None:
    """Remove from the list, and return, the free storage of that size that was used last; None if there is none."""
    for number in reversed(range(len(_kept))):
        if _kept[number].nbytes() == size and _is_free(number):
            return _kept.pop(number)
    return None


def _make_room(size: int) -> None:
    """Drop storages until one of that size may be added: free ones first, and the least recently used first."""
    while _kept:
        sizes = [size, *(storage.nbytes() for storage in _kept)]
        if len(sizes) <= MOST and sum(sizes) <= TIMES * max(sizes):
            return
        _kept.pop(next((number for number in range(len(_kept)) if _is_free(number)), 0))
