"""Images with targets for tests of loaders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from tests.support.targets import boxes_of, masks_of, points_of

__all__ = ["COUNT", "Scenes", "same", "size", "target"]

COUNT = 10


def size(number: int) -> tuple[int, int]:
    return 60 + 5 * number, 90 - 4 * number


def target(number: int, typed: bool = False) -> dict[str, Any]:
    """What is in image `number`: number % 3 objects, an image's number, its name, and more."""
    few = number % 3
    boxes, points = boxes_of([size(number)], 3, seed=number)[0][:few], points_of([size(number)], 3, seed=number)[0]
    masks = torch.stack(masks_of([size(number)] * 3, torch.int64, seed=number))[:few]
    box = boxes_of([size(number)], 3, "XYWH", seed=number)[0]
    plain = boxes.as_subclass(Tensor)
    return {
        "boxes": tv_tensors.wrap(box[:few].as_subclass(Tensor), like=box) if typed else plain,
        "labels": torch.arange(few),
        "masks": tv_tensors.Mask(masks) if typed else masks,
        "keypoints": points.as_subclass(Tensor)[:few],
        "image_id": number, "name": f"image {number}", "more": {"ratio": 0.5, "values": [torch.tensor(number)]},
    }  # fmt: skip


class Scenes(torch.utils.data.Dataset[Any]):
    """Images of different sizes, their targets, and their numbers."""

    def __init__(self, typed: bool = False) -> None:
        self.typed = typed

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> tuple[Tensor, dict[str, Any], int]:
        generator = torch.Generator().manual_seed(number)
        image = torch.randint(256, (3, *size(number)), generator=generator, dtype=torch.uint8)
        return image, target(number, self.typed), number


def same(one: Any, other: Any) -> bool:
    """Whether two results are of the same types, and have the same bits."""
    if isinstance(one, Tensor):
        fine = type(one) is type(other) and one.dtype == other.dtype
        return fine and getattr(one, "format", 0) == getattr(other, "format", 0) and torch.equal(one, other)
    if isinstance(one, dict):
        return type(one) is type(other) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)
