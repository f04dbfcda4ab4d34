"""What is measured: five recipes, with and without a mix, and the batches that they are given."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.data.decode import decode_file
from gpuaug.demo import photographs

from ..cases import MEAN, RECIPES, STD, files
from ..peers.v2 import part

__all__ = [
    "DRY", "FULL", "MIX", "PLAIN", "SIZES", "Scale", "augment", "batches", "least_bytes", "mix", "names", "photos",
    "pixels_read", "ragged_batches", "steps", "tail",
]  # fmt: skip

PLAIN = "crop + flip"  # and normalise
MIX = " + MixUp/CutMix"  # one of the two, drawn for each batch
CHANNELS = 3
MOST = 64  # photographs that are decoded; batches repeat them

# (height, width) of images and how often they occur, where no photographs are given. It resembles ImageNet, whose
# images mostly have a longer side of 500 pixels, in landscape more often than not; the last row stands for others.
SIZES: tuple[tuple[tuple[int, int], float], ...] = (
    ((375, 500), 0.50), ((500, 375), 0.20), ((333, 500), 0.15), ((500, 333), 0.05), ((768, 1024), 0.05),
    ((240, 320), 0.05),
)  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    source: int = 256  # height and width of images that are of one size
    size: int = 224  # of what a network gets
    batches: tuple[int, ...] = (256, 64, 1024)  # in the order of their worth
    classes: int = 1000
    rotation: int = 400 << 20  # bytes of images in rotation: several times an L2 of 60 MB
    copied: int = 2 << 30  # bytes that a copy moves to find the bandwidth
    shrink: int = 1  # of images of different sizes
    rounds: int = 5  # of each measurement
    seconds: float = 0.15  # that each takes
    recipes: tuple[str, ...] = ()  # those that are run; all, if none is named


FULL = Scale()
DRY = Scale(
    source=20, size=16, batches=(2,), classes=10, rotation=1, copied=1 << 16, shrink=16, rounds=1, seconds=0.0,
    recipes=(PLAIN, f"RandAugment{MIX}"),
)  # fmt: skip


def names() -> list[str]:
    """The recipes, each without and with a mix, in the order of their worth."""
    found = [PLAIN, "RandAugment", f"RandAugment{MIX}", "ColorJitter", "SimCLR", "TrivialAugment"]
    return found + [recipe + MIX for recipe in RECIPES if recipe + MIX not in found]


def tail(v: Any, dtype: torch.dtype) -> list[Any]:
    return [v.ToDtype(dtype, scale=True), v.Normalize(MEAN, STD)]


def steps(v: Any, recipe: str, size: int, dtype: torch.dtype) -> list[Any]:
    """A recipe's list without its mix; `v` is gpuaug or torchvision.transforms.v2, whose vocabulary is one."""
    head = [v.RandomResizedCrop(size, antialias=True), v.RandomHorizontalFlip()]
    return [*head, *(part(v, name) for name in RECIPES[recipe.removesuffix(MIX)]), *tail(v, dtype)]


def mix(v: Any, classes: int) -> Any:
    return v.RandomChoice([v.MixUp(num_classes=classes), v.CutMix(num_classes=classes)])


def augment(recipe: str, scale: Scale, backend: str = "auto", dtype: torch.dtype = torch.bfloat16) -> ga.Augment:
    """Ours: bf16, channels_last."""
    given = steps(ga, recipe, scale.size, dtype) + ([mix(ga, scale.classes)] if recipe.endswith(MIX) else [])
    return ga.Augment(given, seed=0, backend=backend, memory_format=torch.channels_last)


@cache
def photos(folder: Path | None) -> list[Tensor]:
    """Decoded photographs, at most MOST: those below a folder, or the six that ship with gpuaug."""
    if folder is None:
        return photographs.photographs()
    paths = files(folder)
    random.Random(0).shuffle(paths)
    return [decode_file(path) for path in paths[:MOST]]


def batches(scale: Scale, batch: int, folder: Path | None) -> list[tuple[Tensor, Tensor]]:
    """Images uint8 (B, 3, source, source) and labels (B,) on the device, as many as do not fit its L2."""
    resize = v2.Compose([v2.Resize(scale.source), v2.CenterCrop(scale.source)])
    base = torch.stack([resize(photo) for photo in photos(folder)]).to("cuda")
    each = batch * CHANNELS * scale.source**2
    found = []
    for number in range(_count(scale, each)):
        chosen = (torch.arange(batch) * 7 + number) % len(base)
        found.append((base[chosen.to("cuda")].contiguous(), _labels(scale, batch, number)))
    return found


def ragged_batches(scale: Scale, batch: int, folder: Path | None) -> list[tuple[ga.Ragged, Tensor]]:
    """Images of their own sizes: the photographs of a folder, or photographs at sizes drawn from SIZES."""
    images = [image.to("cuda") for image in (photos(folder) if folder else _sized(batch))]
    if scale.shrink > 1:
        images = [image[:, :: scale.shrink, :: scale.shrink] for image in images]
    each = batch * sum(image.numel() for image in images) // len(images)
    found = []
    for number in range(_count(scale, each)):
        chosen = [images[(place * 7 + number) % len(images)] for place in range(batch)]
        found.append((ga.Ragged.from_images(chosen), _labels(scale, batch, number)))
    return found


def _sized(count: int, most: int = MOST) -> list[Tensor]:
    """Photographs at sizes drawn from SIZES, the same each time."""
    draw = np.random.default_rng(0).choice(len(SIZES), min(count, most), p=[share for _, share in SIZES])
    shown = photos(None)
    return [v2.functional.resize(shown[number % len(shown)], list(SIZES[kind][0])) for number, kind in enumerate(draw)]


def _count(scale: Scale, each: int) -> int:
    return min(40, max(3, -(-scale.rotation // each)))


def _labels(scale: Scale, batch: int, number: int) -> Tensor:
    return (torch.arange(batch) * 3 + number).remainder(scale.classes).to("cuda")


def pixels_read(augment: ga.Augment, images: Any, draws: int = 4) -> float:
    """Pixels of the source that the crops of a batch cover, the mean over a few draws."""
    sizes = images.sizes if isinstance(images, ga.Ragged) else np.array([images.shape[-2:]] * len(images))
    total = 0.0
    for number in range(draws):
        keys = torch.arange(len(images)) + number * len(images)
        params = augment.sample(images, index=keys).params[0]  # of RandomResizedCrop: (top, left, height, width)
        boxes = np.where(params["applied"][:, None], params["box"][:, 2:], sizes)
        total += float(np.prod(boxes.astype(np.float64), axis=1).sum())
    return total / draws


def least_bytes(augment: ga.Augment, images: Any, size: int, itemsize: int = 2) -> tuple[int, int]:
    """Bytes of a batch that must be read and written at least: what the crops cover, once, and the result, once."""
    return round(pixels_read(augment, images)) * CHANNELS, len(images) * CHANNELS * size**2 * itemsize
