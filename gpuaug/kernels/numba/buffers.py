"""Result buffers that are used again once nobody holds them.

glibc maps a large result afresh for every batch, and the kernel then clears it page by page: that costs more than the
augmentation itself (see benchmarks/NOTES.md). So the last few result storages are remembered, and one whose only owner
is this list is handed out again. What a user still holds, a view or a NumPy array of it included, is never touched.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

__all__ = ["KEPT", "empty"]

KEPT = 3  # storages remembered at most, of all sizes together
_lock = threading.Lock()
_kept: list[torch.UntypedStorage] = []
_owners = getattr(torch._C, "_storage_Use_Count", None)  # how many hold a storage; torch's own CUDA graphs rely on it


def _is_free(storage: torch.UntypedStorage) -> bool:
    # moved to shared memory: another process may be reading it
    return bool(_owners is not None and _owners(storage._cdata) == 1 and not storage.is_shared())


def empty(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    """As torch.empty on the CPU, from a remembered storage of that size if one is free."""
    result = torch.empty(shape, dtype=dtype, memory_format=memory_format, device="meta")
    size = math.prod(shape) * dtype.itemsize
    with _lock:
        storage = next((s for s in _kept if s.nbytes() == size and _is_free(s)), None)
        if storage is None:
            storage = torch.UntypedStorage(size)
            _kept[:] = [*(s for s in _kept if s.nbytes() == size or not _is_free(s)), storage][-KEPT:]
        return torch.empty(0, dtype=dtype).set_(storage, 0, result.shape, result.stride())
