"""Files, lists and loops for tests of decoding only what a draw reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data import parts
from tests.support.files import encode, with_orientation

MARKS = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not parts.is_installed(), reason="nvImageCodec, which decodes parts, is not installed"),
]

FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
LISTS: dict[str, list[Any]] = {
    "resized crop": [ga.RandomResizedCrop(48), ga.RandomHorizontalFlip(), *FLOATS],
    "flips before": [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip(), ga.RandomResizedCrop((40, 56)), *FLOATS],
    "bicubic, policy": [ga.RandomResizedCrop(48, interpolation="bicubic"), ga.RandAugment(), *FLOATS],
    "nearest": [ga.RandomResizedCrop(48, interpolation="nearest")],
    "crop, edge": [ga.RandomCrop(90, padding=20, padding_mode="edge", pad_if_needed=True)],
    "crop, fill": [ga.RandomCrop(90, padding=(0, 30), fill=7, pad_if_needed=True), ga.RandomHorizontalFlip()],
    "resize, crop": [ga.Resize(80), ga.RandomCrop(48), ga.RandomHorizontalFlip(), *FLOATS],
    "resize, crop bicubic": [ga.Resize(20, interpolation="bicubic"), ga.CenterCrop(16)],
    "no antialias": [ga.Resize(40, antialias=False), ga.RandomCrop(20)],
    "choice of crops": [ga.RandomChoice([ga.RandomResizedCrop(48), ga.RandomResizedCrop(48, scale=(0.01, 0.02))])],
    "center": [ga.Resize(56), ga.CenterCrop(48), *FLOATS],
    "crop of a crop": [ga.RandomResizedCrop(70), ga.RandomCrop(48), *FLOATS],
    "colours between": [ga.RandomResizedCrop((70, 60)), ga.ColorJitter(0.4, 0.4), ga.RandomCrop(48)],
}


def scene(height: int, width: int, seed: int) -> Image.Image:
    """Smooth and noisy quarters, so that a pixel too few at an edge shows."""
    generator = np.random.default_rng(seed)
    levels = generator.integers(0, 256, (height // 4 + 1, width // 6 + 1, 3), np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)


def files() -> dict[str, bytes]:
    """One of every kind that matters to what a part is."""
    found = {}
    for orientation in range(1, 9):
        for subsampling in (0, 2):
            image = scene(97 + orientation, 131 - 5 * subsampling, orientation)
            found[f"exif {orientation}, {subsampling}"] = with_orientation(
                "JPEG", orientation, image, quality=85, subsampling=subsampling
            )
    image = scene(120, 163, 20)
    found |= {
        "4:2:2": encode(image, "JPEG", subsampling=1),
        "grey": encode(image.convert("L"), "JPEG"),
        "cmyk": encode(image.convert("CMYK"), "JPEG"),
        "progressive": encode(image, "JPEG", progressive=True),
        "restarts": encode(image, "JPEG", restart_marker_blocks=3),
        "trailing": encode(image, "JPEG") + b"junk",
        "png": encode(image, "PNG"),
        "webp": encode(image, "WEBP"),
        "large": encode(scene(400, 300, 21), "JPEG", quality=92),
        "wide": encode(scene(60, 500, 22), "JPEG"),
        "tiny": encode(scene(9, 7, 23), "JPEG"),
        "one pixel": encode(scene(1, 1, 24), "JPEG"),
    }
    return found


def module(name: str = "resized crop", **options: Any) -> ga.Augment:
    return ga.Augment(LISTS[name], seed=5, **options)


class Counting:
    """A DataLoader that counts the bytes of what it yields, and images of which a part came."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.bytes, self.parts = loader, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            self.bytes += len(batch.images.data)
            if batch.images.parts is not None:
                self.parts += int((batch.images.sizes != batch.images.whole).any(axis=1).sum())
            yield batch


def show(
    augment: ga.Augment, dataset: Any, epochs: int = 2, train: bool = True, **options: Any
) -> tuple[list[Tensor], Counting]:
    """Every batch of the epochs."""
    options = {"batch_size": 6, "collate_fn": ga.ragged_collate} | options
    counting = Counting(DataLoader(dataset, **options))
    loader = ga.DeviceLoader(counting, "cpu", augment, train=train)
    return [images.clone() for _ in range(epochs) for images, _ in loader], counting


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def write_files(folder: Path) -> Path:
    """An ImageFolder of three classes."""
    folder.mkdir(exist_ok=True)
    for number, (name, data) in enumerate(files().items()):
        place = folder / f"class{number % 3}"
        place.mkdir(exist_ok=True)
        ending = name if name in ("png", "webp") else "jpg"
        (place / f"{number:02} {re.sub('[,:]', '', name)}.{ending}").write_bytes(data)
    return folder
