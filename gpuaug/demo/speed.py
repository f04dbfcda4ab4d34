"""Images per second that a training loop receives, with transforms in the workers and with `Augment` after them."""

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

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # channel statistics of ImageNet, for pixels in [0, 1]
DECODE, TORCHVISION, GPUAUG = "decode only", "torchvision v2 in the workers", "decode in the workers, gpuaug after"
BATCH = 32


def standard() -> list[Any]:
    """The transforms of the demo: ImageNet's crop and flip, RandAugment, normalised floats."""
    return [
        RandomResizedCrop(224),
        RandomHorizontalFlip(),
        RandAugment(num_ops=2, magnitude=9),
        ToDtype(torch.float32, scale=True),
        Normalize(MEAN, STD),
    ]


def standard_torchvision() -> v2.Compose:
    """The same transforms of torchvision, for one image."""
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
    """Write a folder with one class of `count` files, copies of `files` in turn."""
    (folder / "all").mkdir()
    for number in range(count):
        source = files[number % len(files)]
        shutil.copyfile(source, folder / "all" / f"{number:05d}{source.suffix}")
    return folder


def _folder(folder: Path) -> ImageFolder:
    """The files that torchvision's ImageFolder finds."""
    return ImageFolder(folder, extensions=datasets.folder.IMG_EXTENSIONS)


def _loader(folder: Path, transform: Any, batch: int, workers: int) -> DataLoader[Any]:
    """A DataLoader: torchvision's with a transform, else gpuaug's. Both decode with the same function."""
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
    """Measure three data paths in turns: decoding alone, torchvision in the workers, gpuaug after the loader.

    All decode with the same function and have the same batch size and number of worker processes, each with one thread.
    gpuaug augments in the main process, on as many threads as torch uses, while the workers run. The time is that from
    the request of the first batch to the last batch, which is float32 (B, 3, 224, 224).

    Args:
        folder: Folder with a folder of images for each class.
        backend: Backend of Augment.
        repeats: Number of rounds after the first, at most.
        seconds: Duration after which no new round begins.
        workers: Number of worker processes. None: one for each core.

    Yields:
        (name of the data path, images per second); None instead of the speed in the first round, which warms up.
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
    """Images per second of a loader, from the request of the first batch on."""
    start, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch[0])
    return count / (time.perf_counter() - start)


def _fits(workers: int) -> int:
    """The largest batch size whose prefetched batches fit into shared memory, which is small in some containers."""
    shared = Path("/dev/shm")
    if not shared.exists():
        return BATCH
    image = 4 * 3 * 224 * 224 * 2  # bytes: twice the size of a float32 image
    return max(1, shutil.disk_usage(shared).free // (image * 3 * workers))
