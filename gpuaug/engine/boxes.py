"""Boxes and key points of a batch in one tensor, and back into the form of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks

if TYPE_CHECKING:
    from gpuaug.engine.targets import Entry

__all__ = ["flattened", "from_corners", "like", "split", "to_corners"]

Array = NDArray[Any]


def plain(value: Tensor) -> Tensor:
    """A tensor without torchvision's type."""
    return value.as_subclass(Tensor) if checks.is_target(value) else value


def flattened(entry: Entry) -> tuple[Tensor, Array]:
    """All boxes (M, 4) of a batch in one tensor, and the sample of each, (M,) int64."""
    if entry.dense:
        count = len(entry.values)
        flat = plain(entry.values).reshape(-1, 4)
        return flat, np.repeat(np.arange(count), len(flat) // max(count, 1))
    values = [plain(value).reshape(-1, 4) for value in entry.values]
    return torch.cat(values), np.repeat(np.arange(len(values)), [len(value) for value in values])


def to_corners(boxes: Tensor, format_: str) -> Tensor:
    """Boxes (M, 4) of a format as float64 (x1, y1, x2, y2); float32 where the device has no float64."""
    boxes = boxes.to(torch.float32 if boxes.device.type == "mps" else torch.float64)
    if format_ == "XYXY":
        return boxes
    first, last = boxes[:, :2], boxes[:, 2:]
    if format_ == "CXCYWH":
        first = first - last / 2
    return torch.cat([first, first + last], dim=1)


def from_corners(boxes: Tensor, format_: str, dtype: torch.dtype) -> Tensor:
    """The inverse of `to_corners`, in `dtype`; integers are rounded towards zero, as in torchvision."""
    if format_ != "XYXY":
        first, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        boxes = torch.cat([first + size / 2 if format_ == "CXCYWH" else first, size], dim=1)
    return boxes.to(dtype)


def split(flat: Tensor, counts: Sequence[int] | Array) -> list[Tensor]:
    """Rows of a tensor as one tensor for each image."""
    return list(flat.split(list(map(int, counts))))


def like(value: Tensor, given: Tensor, size: tuple[int, int]) -> Tensor:
    """A result with torchvision's type, format and the new canvas size, if `given` has them."""
    if not checks.is_target(given):
        return value
    from torchvision import tv_tensors

    changes: dict[str, Any] = {"canvas_size": size} if hasattr(given, "canvas_size") else {}
    wrapped: Tensor = tv_tensors.wrap(value, like=given, **changes)
    return wrapped
