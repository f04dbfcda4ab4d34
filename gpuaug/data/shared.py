"""Shared memory that workers write batches into, used again once the reader has let go of a batch.

A fresh segment costs a page fault for every 4 KiB of a batch, in the worker and again in the reader: half as long as
decoding (benchmarks/NOTES.md). So a worker keeps its segments. The first byte of a segment says whether somebody reads
it: the worker sets it, and the reader clears it when the last tensor over the segment is gone, views included.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

__all__ = ["empty", "lease", "segment"]

HEADER = 64  # bytes before the batch: whether it is in use, whether it was sent; keeps the batch aligned
IN_USE, SENT = 0, 1
SLACK = 1.25  # batches vary in size; pages that are never written cost nothing

_segments: list[Tensor] = []  # of this process: whole segments as uint8


def _forget() -> None:
    """A forked child writes into segments of its own."""
    _segments.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def empty(size: int) -> Tensor:
    """(size,) uint8: in a worker process in shared memory, elsewhere as torch.empty."""
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    free = [whole for whole in _segments if not whole[IN_USE]]
    fitting = [whole for whole in free if len(whole) >= HEADER + size]
    if fitting:
        whole = min(fitting, key=len)
    else:
        if free:  # too small: its memory goes back before more is taken
            largest = max(free, key=len)
            _segments[:] = [whole for whole in _segments if whole is not largest]
            del largest, free
        storage = torch.UntypedStorage._new_shared(HEADER + int(SLACK * size))  # type: ignore[no-untyped-call]
        whole = torch.empty(0, dtype=torch.uint8).set_(storage)
        _segments.append(whole)
    whole[IN_USE], whole[SENT] = 1, 0
    return whole[HEADER : HEADER + size]


def segment(data: Tensor) -> Tensor | None:
    """The whole segment that `data` from `empty` lies in, to be sent to the reader; None if it is in none.

    A segment is sent once: its second reader would find it written over when the first one is done.
    """
    address = data.untyped_storage().data_ptr()
    for whole in _segments:
        if whole.data_ptr() == address and not whole[SENT]:
            whole[SENT] = 1
            return whole
    return None


def lease(whole: Tensor, size: int) -> Tensor:
    """The (size,) uint8 of a batch in a segment that came from a worker; free again when nobody holds its memory."""
    array: NDArray[Any] = whole.numpy()[HEADER : HEADER + size]  # the tensor's storage will hold this very object
    release = weakref.finalize(array, _release, whole, os.getpid())
    release.atexit = False
    return torch.from_numpy(array)


def _release(whole: Tensor, owner: int) -> None:
    if os.getpid() == owner:  # a forked child's copy says nothing about its parent
        whole[IN_USE] = 0
