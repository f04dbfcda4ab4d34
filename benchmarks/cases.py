"""What is measured: the ops, the recipes and their parameters, named as torchvision v2 names them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.data.decode import decode_file

if TYPE_CHECKING:
    from tests.support.ops import Timed

# The rows of the ops: with the tests in a clone, beside this file when installed
ROWS: dict[type, Any] = import_module(
    "tests.support.ops" if __package__ == "benchmarks" else f"{__package__}.support.ops"
).ROWS

__all__ = [
    "BATCH", "CLASSES", "HOST", "JITTER", "MEAN", "OPS", "PARITY", "RECIPES", "SIZE", "SOURCE", "STD", "files",
    "full", "load", "square", "timed",
]  # fmt: skip

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SOURCE, SIZE = 256, 224  # of a batch that already is of one size; of what a network gets
BATCH, CLASSES = 64, 10
JITTER = (0.4, 0.4, 0.4, 0.1)


def timed() -> dict[str, tuple[type, Timed]]:
    """The entries of the ops' rows, with the op that each times: applied to every image, each with parameters of its
    own."""
    entries = [(op, entry) for op, row in ROWS.items() if not isinstance(row.timed, str) for entry in row.timed]
    return {entry.name or op.__name__: (op, entry) for op, entry in entries}


OPS = tuple(timed())

# Between RandomResizedCrop(224) with RandomHorizontalFlip and ToDtype(float32) with Normalize.
RECIPES: dict[str, tuple[str, ...]] = {
    "crop + flip": (),
    "RandAugment": ("RandAugment",),
    "TrivialAugment": ("TrivialAugmentWide",),
    "ColorJitter": ("ColorJitter",),
    "SimCLR": ("SimCLR jitter", "SimCLR grayscale", "SimCLR blur"),
}
PARITY = (
    "deterministic"  # Resize(256), CenterCrop(224), a flip, brightness 1.2, normalise: the same pixels for everyone
)


def files(data: Path) -> list[Path]:
    """The image files below a folder, in order."""
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    if not paths:
        raise ValueError(f"benchmarks: `data` must hold {', '.join(IMG_EXTENSIONS)} files, found none in {data}.")
    return paths


def load(data: Path, count: int) -> list[Tensor]:
    """`count` decoded RGB images from the files below a folder, again from the first when there are fewer."""
    images = [decode_file(path) for path in files(data)[:count]]
    return [images[number % len(images)] for number in range(count)]


def square(images: list[Tensor]) -> list[Tensor]:
    """The images at 256 x 256, for contestants that take one size only, and for ops alone."""
    resize = v2.Compose([v2.Resize(SOURCE), v2.CenterCrop(SOURCE)])
    return [resize(image) for image in images]


MIX = ga.RandomChoice([ga.MixUp(alpha=0.2, num_classes=10), ga.CutMix(num_classes=10)], p=[0.4, 0.4])


HOST: dict[str, list[Any]] = {
    "crop + flip": [],
    "RandAugment": [ga.RandAugment()],
    "ColorJitter": [ga.ColorJitter(0.4, 0.4, 0.4, 0.1)],
    "AugMix": [ga.AugMix()],
}


def full(recipe: str) -> ga.Augment:
    """A recipe with erasing and a mix, as they are trained with."""
    head = [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip()]
    floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(MEAN, STD)]
    return ga.Augment([*head, *HOST[recipe], *floats, ga.RandomErasing(p=0.1), MIX])
