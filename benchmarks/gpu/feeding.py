"""Where the batches of a training step come from: memory, `Augment` in the step, or worker processes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate
from torchvision import datasets
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.data.workers import prepare
from gpuaug.demo import photographs

from . import recipes
from .recipes import Scale

__all__ = [
    "JPEGS",
    "LOADERS",
    "PACK",
    "TORCHVISION",
    "Again",
    "Ahead",
    "Feeding",
    "Mixing",
    "as_folder",
    "shared_memory",
]

JPEGS, PACK, TORCHVISION = "DeviceLoader, JPEGs", "DeviceLoader, raw pack", "torchvision v2 in the workers, JPEGs"
LOADERS = (JPEGS, PACK, TORCHVISION)
START = "forkserver"  # its server has imported everything, so that workers start soon
PRELOAD = ["torch", "torchvision", "gpuaug.data", __name__]
PATIENCE = 60  # seconds that a worker may take for a batch
PREFETCH = 2  # batches that each worker has ready, torch's default
SUFFIXES = (".jpg", ".jpeg")


class Again(Sampler[Any]):
    """`length` places of a data set of `count` images, shuffled, each image about as often as the others.

    Args:
        copies: give (image, copy), so that each copy of an image has a draw of its own; gpuaug's data sets take that.
    """

    def __init__(self, count: int, length: int, copies: bool) -> None:
        self.count, self.length, self.copies = count, length, copies

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        order = list(range(self.length))
        random.Random(0).shuffle(order)
        for place in order:
            copy, number = divmod(place, self.count)
            yield (number, copy) if self.copies else number


class Mixing:
    """A collate_fn that mixes, as torchvision's references have it; a class, so that workers can be sent it."""

    def __init__(self, mix: Any) -> None:
        self.mix = mix

    def __call__(self, samples: list[Any]) -> Any:
        return self.mix(*default_collate(samples))


class Ahead:
    """Augments on a stream of its own, one batch ahead of the step that uses it."""

    def __init__(self, augment: Callable[..., Any], data: list[tuple[Any, Tensor]]) -> None:
        self.augment, self.data = augment, data
        self.stream = torch.cuda.Stream()
        self.stream.wait_stream(torch.cuda.current_stream())  # for the data
        self.number = 0
        self.coming = self._begin()

    def _begin(self) -> Any:
        with torch.cuda.stream(self.stream):
            result = self.augment(*self.data[self.number % len(self.data)])
        self.number += 1
        return result

    def __call__(self, number: int) -> Any:
        """The next batch. The stream goes on with the one after it beside the step."""
        current = torch.cuda.current_stream()
        current.wait_stream(self.stream)
        result = self.coming
        for tensor in result:
            tensor.record_stream(current)  # allocated on the other stream, which may not have it back before
        self.coming = self._begin()
        return result


class _OnDevice:
    """Batches of a loader whose workers did everything, copied to the device; the next one is not copied ahead."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        for images, labels in self.loader:
            images = images.to("cuda", non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield images, labels.to("cuda", non_blocking=True)


class Feeding:
    """Loaders over the same photographs, as JPEGs and as a raw pack.

    Args:
        folder: where links and the pack go.
        jpegs: photographs, in folders of classes or not; None: those that ship with gpuaug.
        batches: of an epoch.
        workers: processes of each loader; 0 is none.
        pinned: whether the loaders' batches are pinned.
    """

    def __init__(
        self,
        scale: Scale,
        folder: Path,
        jpegs: Path | None,
        batch: int,
        batches: int,
        workers: int,
        pinned: bool = True,
    ) -> None:
        self.scale, self.batch, self.batches, self.workers, self.pinned = scale, batch, batches, workers, pinned
        self.folder = folder
        self.images = as_folder(jpegs, folder / "images")
        if scale.shrink > 1:
            self.images = _shrunk(self.images, folder / "shrunk", scale.source)
        if workers:
            torch.multiprocessing.set_forkserver_preload(PRELOAD)

    def open(self, name: str, recipe: str) -> Any:
        """A loader of LOADERS, which gives bf16 or float32 images, channels_last, and labels on the device."""
        if name == TORCHVISION:
            return self._torchvision(recipe)
        if name == JPEGS:
            dataset: Any = ga.data.ImageFolder(self.images)
        else:
            pack = self.folder / "pack"
            if not pack.exists():
                ga.data.pack(self.images, pack, encoding="raw", workers=0)
            dataset = ga.data.Packed(pack)
        loader = self._loader(dataset, True, collate_fn=ga.ragged_collate)
        return ga.DeviceLoader(loader, "cuda", recipes.augment(recipe, self.scale))

    def _torchvision(self, recipe: str) -> Any:
        """float32, since NumPy and PIL have no bf16; PIL decodes and augments, as tutorials have it."""
        steps = recipes.steps(v2, recipe, self.scale.size, torch.float32)
        dataset = datasets.ImageFolder(self.images, v2.Compose([*steps[:-2], v2.PILToTensor(), *steps[-2:]]))
        mixes = recipe.endswith(recipes.MIX)
        return _OnDevice(
            self._loader(dataset, False, collate_fn=Mixing(recipes.mix(v2, self.scale.classes)) if mixes else None)
        )

    def _loader(self, dataset: Any, copies: bool, **options: Any) -> DataLoader[Any]:
        options["sampler"] = Again(len(dataset), self.batch * self.batches, copies)
        options["pin_memory"] = self.pinned
        if self.workers:
            options |= {"num_workers": self.workers, "persistent_workers": True, "prefetch_factor": PREFETCH}
            options |= {"timeout": PATIENCE, "multiprocessing_context": START, "worker_init_fn": prepare}
        return DataLoader(dataset, self.batch, drop_last=True, **options)


def as_folder(jpegs: Path | None, folder: Path) -> Path:
    """An ImageFolder: `jpegs` itself if it has folders of classes, else links to its files in two classes.

    Raises:
        ValueError: if there are no JPEGs.
    """
    if jpegs is not None and any(file.parent.parent == jpegs for file in jpegs.glob("*/*") if _is_jpeg(file)):
        return jpegs
    paths = photographs.paths() if jpegs is None else sorted(file for file in jpegs.iterdir() if _is_jpeg(file))
    if not paths:
        raise ValueError(f"benchmarks.gpu: `jpegs` must hold .jpg files, found none in {jpegs}.")
    for number, path in enumerate(paths):
        target = folder / f"class{number % 2}" / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.resolve())
    return folder


def _shrunk(images: Path, folder: Path, longest: int) -> Path:
    """Copies of an ImageFolder whose sides have at most `longest` pixels, for dry runs."""
    for file in sorted(images.glob("*/*")):
        target = folder / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            image.thumbnail((longest, longest))
            image.convert("RGB").save(target)
    return folder


def _is_jpeg(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES


def shared_memory() -> int | None:
    """Bytes that are free where workers put their batches; None where that is unknown."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return None
