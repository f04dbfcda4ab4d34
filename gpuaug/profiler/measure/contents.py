"""What a batch holds: the bytes of its tensors and arrays, and the number of its samples."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["count", "samples_in"]

CHANNELS = (1, 3, 4)  # first dimension of a single image (C, H, W)
DEPTH = 8  # objects inside of one another that are counted, at most
ARRAYS = (torch.Tensor, np.ndarray)
NUMBERS = (bool, int, float, complex, np.generic)


def samples_in(batch: Any) -> int:
    """Number of samples of a batch, from what it holds.

    It is the first dimension that all tensors, arrays and lists of numbers or strings have in common. An object that
    holds images and has a length, such as `gpuaug.Ragged`, counts as that many. A part without a dimension, such as the
    number of a class, says that this is one sample, unless a part has the four dimensions of a batch of images. So is
    (C, H, W) of 1, 3 or 4 channels one sample, if there is nothing else.
    """
    parts = list(_parts(batch, DEPTH, {}))
    firsts = {shape[0] for shape in parts if shape}
    if len(firsts) != 1:
        return 1
    images = any(len(shape) >= 4 for shape in parts)
    if all(len(shape) == 3 and shape[0] in CHANNELS for shape in parts):
        return 1
    if not all(parts) and not (images and sum(map(bool, parts)) > 1):
        return 1
    return max(1, firsts.pop())


def _parts(value: Any, depth: int, seen: dict[int, Any]) -> Iterator[tuple[int, ...]]:
    """The shapes of all parts; () of a number. Strings beside them say nothing, and an object is looked at once."""
    if isinstance(value, ARRAYS):
        yield tuple(value.shape)
        return
    if isinstance(value, NUMBERS):
        yield ()
        return
    if depth == 0 or value is None or isinstance(value, (str, bytes, bytearray)) or id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _parts(part, depth - 1, seen)
    elif isinstance(value, (list, tuple)):
        yield from _listed(value, depth, seen)
    elif hasattr(type(value), "__len__"):
        yield (len(value),)
    else:
        for part in getattr(value, "__dict__", {}).values():
            yield from _parts(part, depth - 1, seen)


def _listed(value: list[Any] | tuple[Any, ...], depth: int, seen: dict[int, Any]) -> Iterator[tuple[int, ...]]:
    """Of a list with one entry for each sample its length; else the shapes of its parts."""
    kinds = {type(part) for part in value}
    alike = len(kinds) == 1 and not hasattr(value, "_fields")
    first = value[0] if value else None
    if not value:
        yield (0,)
    elif alike and isinstance(first, (str, bytes, *NUMBERS)):
        yield (len(value),)
    elif alike and isinstance(value, list) and (_is_image(first) or not isinstance(first, (*ARRAYS, list))):
        yield (len(value),)  # samples that are not collated
    else:
        for part in value:
            yield from _parts(part, depth - 1, seen)


def _is_image(value: Any) -> bool:
    """Whether this is a single image (C, H, W)."""
    return isinstance(value, ARRAYS) and len(value.shape) == 3 and value.shape[0] in CHANNELS


def count(batch: Any, depth: int = DEPTH, seen: dict[int, Any] | None = None) -> tuple[int, int, int, int]:
    """(tensors, their bytes, bytes of arrays and bytes objects, bytes of float32 with at least 3 dimensions).

    What is there twice counts once, as it is sent once: objects may also lead back to what holds them.
    """
    seen = {} if seen is None else seen
    if not isinstance(batch, NUMBERS) and (depth or isinstance(batch, ARRAYS)):  # else it may be met again
        if id(batch) in seen:
            return 0, 0, 0, 0
        seen[id(batch)] = batch
    if isinstance(batch, torch.Tensor):
        size = batch.numel() * batch.element_size()
        return 1, size, 0, size if batch.dtype == torch.float32 and batch.dim() >= 3 else 0
    if isinstance(batch, np.ndarray):
        return 0, 0, batch.nbytes, batch.nbytes if batch.dtype == np.float32 and batch.ndim >= 3 else 0
    if isinstance(batch, (bytes, bytearray, str)):
        return 0, 0, len(batch), 0
    parts = _attributes(batch) if depth else None
    if parts is None:
        return 0, 0, sys.getsizeof(batch), 0
    found = [count(part, depth - 1, seen) for part in parts]
    tensors, inside, others, floats = (sum(part[k] for part in found) for k in range(4))
    return tensors, inside, others, floats


def _attributes(batch: Any) -> list[Any] | None:
    """What an object holds: values of a mapping, items of a list, attributes, also in `__slots__`; None of a number."""
    if isinstance(batch, Mapping):
        return list(batch.values())
    if isinstance(batch, (list, tuple)):
        return list(batch)
    names = [name for kind in type(batch).__mro__ for name in _slots(kind)]
    slots = [getattr(batch, name) for name in names if hasattr(batch, name)]
    if not names and not hasattr(batch, "__dict__"):
        return None
    return [*slots, *getattr(batch, "__dict__", {}).values()]


def _slots(kind: type) -> tuple[str, ...]:
    """Names of the attributes that a class keeps in slots, as they are stored."""
    given = vars(kind).get("__slots__", ())
    names = (given,) if isinstance(given, str) else tuple(given)
    private = f"_{kind.__name__.lstrip('_')}"
    hidden = (f"{private}{name}" if name.startswith("__") and not name.endswith("__") else name for name in names)
    return tuple(name for name in hidden if name not in ("__dict__", "__weakref__"))
