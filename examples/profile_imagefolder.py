"""What limits a stock torchvision pipeline, and what would moving its augmentation behind the loader gain?

    IMAGES=photos/train gpuaug profile examples/profile_imagefolder.py:make_loader \\
        --model examples/profile_imagefolder.py:make_step --html report.html

IMAGES is a folder with a folder of images for each class; without it, the photographs that ship are used. The step
stands for a network on a GPU: it waits for as long as one takes, so that the CPU is left to the data path.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

BATCH = 64
STEP_MS = float(os.environ.get("STEP_MS", "60"))  # of a batch: about a thousand images a second
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_loader() -> DataLoader[Any]:
    """torchvision's ImageFolder as its tutorials write it."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    dataset = datasets.ImageFolder(images(), transform)
    return DataLoader(dataset, min(BATCH, len(dataset)), shuffle=True, num_workers=2, persistent_workers=True)


def make_step() -> Callable[[Any], None]:
    """A training step that waits, as for a GPU."""

    def step(batch: Any) -> None:
        time.sleep(STEP_MS / 1e3)

    return step


def images() -> str:
    """The folder that IMAGES names, or one that is made of the photographs that ship."""
    if "IMAGES" in os.environ:
        return os.environ["IMAGES"]
    import tempfile
    from pathlib import Path

    from gpuaug.demo.photographs import paths

    root = Path(tempfile.mkdtemp())
    for number, path in enumerate(paths()):
        folder = root / f"class{number % 2}"
        folder.mkdir(exist_ok=True)
        for copy in range(16):
            (folder / f"{path.stem}-{copy}{path.suffix}").symlink_to(path)
    return str(root)
