"""Images per second that reach a training loop: transforms in the loader's workers, against `Augment` after it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.data.workers import cores, start_method
from gpuaug.photographs import decode
from gpuaug.ragged import Ragged
from gpuaug.transforms.convert import Normalize, ToDtype
from gpuaug.transforms.crop import RandomResizedCrop
from gpuaug.transforms.geometric import RandomHorizontalFlip
from gpuaug.transforms.policy import RandAugment

__all__ = ["DECODE", "GPUAUG", "TORCHVISION", "cores", "rounds", "standard", "write_files"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
DECODE, TORCHVISION, GPUAUG = "decode only", "torchvision v2 in the workers", "decode in the workers, gpuaug after"
BATCH = 32


def standard() -> list[Any]:
    """The recipe that is measured and shown: ImageNet's crop and flip, RandAugment, floats."""
    return [
        RandomResizedCrop(224),
        RandomHorizontalFlip(),
        RandAugment(num_ops=2, magnitude=9),
        ToDtype(torch.float32, scale=True),
        Normalize(MEAN, STD),
    ]


def standard_torchvision() -> v2.Compose:
    """The same with torchvision's classes, for one image."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(num_ops=2, magnitude=9),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def write_files(files: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """Copies of `files` in turn until there are `count`, so that each is a file of its own."""
    paths = []
    for number in range(count):
        source = files[number % len(files)]
        path = folder / f"{number:05d}{source.suffix}"
        shutil.copyfile(source, path)
        paths.append(path)
    return paths


class Files(Dataset[tuple[Tensor, int]]):
    """Decodes file `number`, transforms it if there is a transform, and says its number."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Tensor], Tensor] | None = None) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image = decode(self.paths[number])
        return (image if self.transform is None else self.transform(image)), number


def collate(samples: Sequence[tuple[Tensor, int]]) -> tuple[Ragged, Tensor]:
    """Images of any sizes and their numbers, as one batch."""
    images, numbers = zip(*samples, strict=True)
    return Ragged.from_images(images), torch.tensor(numbers)


def _loader(paths: Sequence[Path], transform: Any, batch: int, workers: int) -> DataLoader[Any]:
    return DataLoader(
        Files(paths, transform),
        batch,
        shuffle=True,
        num_workers=workers,
        collate_fn=collate if transform is None else None,
        persistent_workers=True,
        multiprocessing_context=start_method(),
    )


def rounds(
    paths: Sequence[Path], *, backend: str = "auto", repeats: int = 5, seconds: float = 60, workers: int | None = None
) -> Iterator[tuple[str, float | None]]:
    """Read all files three ways in turn; yield (way, images per second), None for the first round, which warms up.

    All three decode with Pillow, use the same batch size and as many worker processes as there are cores, which work
    on one thread each. gpuaug augments in the main process, on as many threads as torch uses, next to the workers. The
    clock runs from asking for the first batch to having the last one as float32 (B, 3, 224, 224).

    Args:
        paths: image files.
        backend: of Augment.
        repeats: rounds after the first, at most.
        seconds: no new round begins after that long.
        workers: worker processes; None is one for each core.

    Raises:
        ValueError: if there are no files.
    """
    if not paths:
        raise checks.bad("rounds", "paths", "at least one file", "none")
    workers = workers or cores()
    batch = min(BATCH, max(1, len(paths) // (2 * workers)), _fits(workers))
    augment = Augment(train=standard(), backend=backend)
    plain, transformed = (_loader(paths, transform, batch, workers) for transform in (None, standard_torchvision()))

    def read(loader: DataLoader[Any], finish: Callable[[Any, Tensor], Any]) -> float:
        start, count = time.perf_counter(), 0
        for images, numbers in loader:
            count += len(finish(images, numbers))
        return count / (time.perf_counter() - start)

    ways: dict[str, Callable[[], float]] = {
        TORCHVISION: lambda: read(transformed, lambda images, numbers: images),
        GPUAUG: lambda: read(plain, lambda images, numbers: augment(images, index=numbers)),
        DECODE: lambda: read(plain, lambda images, numbers: images),
    }
    begin = time.perf_counter()
    for number in range(repeats + 1):
        if number > 1 and time.perf_counter() - begin > seconds:
            return
        augment.set_epoch(number)
        for name, way in ways.items():
            speed = way()
            yield name, None if number == 0 else speed


def _fits(workers: int) -> int:
    """The largest batch whose prefetched copies fit into shared memory, which is small in some containers."""
    shared = Path("/dev/shm")
    if not shared.exists():
        return BATCH
    image = 4 * 3 * 224 * 224 * 2  # bytes, twice what a float32 image takes
    return max(1, shutil.disk_usage(shared).free // (image * 3 * workers))
