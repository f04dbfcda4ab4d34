"""What the real loaders share: photographs of many sizes, a simple data set, usual settings."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision.transforms import v2

__all__ = ["BATCH", "COUNT", "MEAN", "STD", "TENSOR", "Samples", "files", "loader", "photographs", "small", "to_image"]

BATCH = 16
COUNT = 128  # images
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


def files(folder: Path) -> list[Path]:
    return sorted((folder / "photos").rglob("*.jpg"))


def loader(dataset: Any, **options: Any) -> DataLoader[Any]:
    """Two workers, forked; shuffled where that is possible."""
    settings: dict[str, Any] = {"num_workers": 2, "drop_last": True, "multiprocessing_context": "fork"}
    if not isinstance(dataset, IterableDataset):
        settings["shuffle"] = True
    return DataLoader(dataset, BATCH, **{**settings, **options})


class Samples(Dataset[Any]):
    """A data set of COUNT samples: what `get(number)` returns through `transform`, and a label."""

    def __init__(self, get: Callable[[int], Any], transform: Any = None) -> None:
        self.get, self.transform = get, transform

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        image = self.get(index)
        return image if self.transform is None else self.transform(image), index % 2


def to_image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def small(size: int = 128) -> v2.Compose:
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *TENSOR, v2.Normalize(MEAN, STD)])
