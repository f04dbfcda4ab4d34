"""Images per second that reach a training loop: transforms in the loader's workers, against `Augment` after it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

from gpuaug.augment import Augment
from gpuaug.data import ImageFolder, ragged_collate
from gpuaug.data.decode import decode_file
from gpuaug.data.loader import DeviceLoader
from gpuaug.data.workers import SPAWN, cores
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


def write_files(files: Sequence[Path], folder: Path, count: int) -> Path:
    """An ImageFolder of one class: copies of `files` in turn until there are `count`, each a file of its own."""
    (folder / "all").mkdir()
    for number in range(count):
        source = files[number % len(files)]
        shutil.copyfile(source, folder / "all" / f"{number:05d}{source.suffix}")
    return folder


def _folder(folder: Path) -> ImageFolder:
    """The files that torchvision's takes."""
    return ImageFolder(folder, extensions=datasets.folder.IMG_EXTENSIONS)


def _loader(folder: Path, transform: Any, batch: int, workers: int) -> DataLoader[Any]:
    """Both kinds decode alike."""
    plain = transform is None
    return DataLoader(
        _folder(folder) if plain else datasets.ImageFolder(folder, transform, loader=decode_file),
        batch,
        shuffle=True,
        num_workers=workers,
        collate_fn=ragged_collate if plain else None,
        persistent_workers=True,
        **SPAWN,
    )


def rounds(
    folder: Path, *, backend: str = "auto", repeats: int = 5, seconds: float = 60, workers: int | None = None
) -> Iterator[tuple[str, float | None]]:
    """Read all files three ways in turn; yield (way, images per second), None for the first round, which warms up.

    All three decode alike, use the same batch size and as many worker processes as there are cores, which work on one
    thread each. gpuaug augments in the main process, on as many threads as torch uses, next to the workers. The clock
    runs from asking for the first batch to having the last one as float32 (B, 3, 224, 224).

    Args:
        folder: an ImageFolder.
        backend: of Augment.
        repeats: rounds after the first, at most.
        seconds: no new round begins after that long.
        workers: worker processes; None is one for each core.
    """
    workers = workers or cores()
    count = len(_folder(folder))
    batch = min(BATCH, max(1, count // (2 * workers)), _fits(workers))
    augment = Augment(train=standard(), backend=backend)
    plain, transformed = (_loader(folder, transform, batch, workers) for transform in (None, standard_torchvision()))
    ways = {TORCHVISION: transformed, GPUAUG: DeviceLoader(plain, "cpu", augment), DECODE: plain}
    begin = time.perf_counter()
    for number in range(repeats + 1):
        if number > 1 and time.perf_counter() - begin > seconds:
            return
        augment.set_epoch(number)
        for name, way in ways.items():
            speed = read_all(way)
            yield name, None if number == 0 else speed


def read_all(loader: Any) -> float:
    """Images a second that a loader gives, from asking for the first batch on."""
    start, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch[0])
    return count / (time.perf_counter() - start)


def _fits(workers: int) -> int:
    """The largest batch whose prefetched copies fit into shared memory, which is small in some containers."""
    shared = Path("/dev/shm")
    if not shared.exists():
        return BATCH
    image = 4 * 3 * 224 * 224 * 2  # bytes, twice what a float32 image takes
    return max(1, shutil.disk_usage(shared).free // (image * 3 * workers))
