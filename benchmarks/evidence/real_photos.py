"""What the real loaders share: photographs of many sizes, a simple data set, usual settings."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision.transforms import v2

__all__ = [
    "BATCH", "COUNT", "MEAN", "REPEATS", "STD", "TENSOR", "PerProcess", "Samples", "files", "loader", "photographs",
    "small", "to_image",
]  # fmt: skip

BATCH = 16
COUNT = 128  # images
REPEATS = 40  # of each in an epoch
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TENSOR = (v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True))


def photographs(folder: Path, sources: list[Path]) -> None:
    """Write COUNT JPEGs of about 400 x 300 pixels into folders of two classes: crops of the sources, of many sizes."""
    draw = np.random.default_rng(0)
    for number in range(COUNT):
        image = Image.open(sources[number % len(sources)]).convert("RGB")
        width, height = int(draw.integers(320, 480)), int(draw.integers(240, 360))
        scale = max(width / image.width, height / image.height) * draw.uniform(1.0, 1.4)
        image = image.resize((max(width, round(image.width * scale)), max(height, round(image.height * scale))))
        image = image.crop((0, 0, width, height))
        place = folder / "photos" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:04}.jpg", quality=90)
        for copy in range(1, REPEATS):
            (place / f"{number:04}-{copy}.jpg").symlink_to(place / f"{number:04}.jpg")


def files(folder: Path) -> list[Path]:
    """The images, each once."""
    return sorted(one for one in (folder / "photos").rglob("*.jpg") if not one.is_symlink())


def loader(dataset: Any, **options: Any) -> DataLoader[Any]:
    """Two workers, forked; shuffled where that is possible."""
    settings: dict[str, Any] = {"num_workers": 2, "drop_last": True, "multiprocessing_context": "fork"}
    if not isinstance(dataset, IterableDataset):
        settings["shuffle"] = True
    return DataLoader(dataset, BATCH, **{**settings, **options})


class PerProcess:
    """An open file or connection; each process opens its own, and closes it before it forks."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.opened: Any = None
        os.register_at_fork(before=self.close)

    def __call__(self) -> Any:
        if self.opened is None:
            self.opened = self.make()
        return self.opened

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
            self.opened = None


class Samples(Dataset[Any]):
    """What `get(number)` returns for number in [0, COUNT), through `transform`, and a label; each REPEATS times."""

    def __init__(self, get: Callable[[int], Any], transform: Any = None) -> None:
        self.get, self.transform = get, transform

    def __len__(self) -> int:
        return COUNT * REPEATS

    def __getitem__(self, index: int) -> Any:
        image = self.get(index % COUNT)
        return image if self.transform is None else self.transform(image), index % 2


def to_image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def small(size: int = 128) -> v2.Compose:
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *TENSOR, v2.Normalize(MEAN, STD)])
