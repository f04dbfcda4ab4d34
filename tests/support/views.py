"""Lists of views, as SimCLR and DINO have them, and the images that they are made from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import gpuaug as ga
from tests.support.helpers import noise

__all__ = ["FLOATS", "GLOBAL", "HEAD", "INDEX", "LOCAL", "SIZE", "B", "dino", "images", "ragged", "same"]

B, SIZE = 6, (40, 52)
INDEX = torch.tensor([3, 90, 14, 2**40, 7, 0])
FLOATS = ga.ToDtype(torch.float32, scale=True)
HEAD = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()]
GLOBAL = [*HEAD, ga.ColorJitter(0.3), ga.GaussianNoise(sigma=0.02), FLOATS]
LOCAL = [ga.RandomResizedCrop(12, (0.05, 0.4)), ga.RandomHorizontalFlip(), ga.GaussianBlur(3), FLOATS]


def images() -> Tensor:
    return noise(B, 3, *SIZE)


def ragged() -> ga.Ragged:
    return ga.Ragged.from_images([noise(1, 3, 30 + n, 40, seed=n)[0] for n in range(B)])


def dino(**arguments: Any) -> ga.MultiView:
    return ga.MultiView([GLOBAL] * 2 + [LOCAL] * 8, **({"seed": 4} | arguments))


def same(got: list[Any], expected: list[Any]) -> bool:
    return len(got) == len(expected) and all(map(torch.equal, got, expected))
