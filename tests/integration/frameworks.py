"""What the tests with other libraries share: images, a network that notes what it sees, docs/frameworks.md's code."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import gpuaug as ga
from tests.support.helpers import noise

COUNT, BATCH, CLASSES, EPOCHS = 22, 4, 4, 2
STEPS = -(-COUNT // BATCH)  # of an epoch, the last batch is smaller
DOCUMENT = Path(__file__).parents[2] / "docs" / "frameworks.md"
NEEDED = os.environ.get("GPUAUG_FRAMEWORKS", "").split()  # the modules that .ci/integration has installed

# Others may warn of themselves; what this library says is an error, as everywhere.
QUIET = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings(
        "error:(Augment|DeviceLoader|lightning_callback|attach_to_trainer|Indexed|ImageFolder|NumberedSampler|ragged_collate)"
    ),
]


def framework(name: str) -> Any:
    """A module; the test file is skipped where it is not installed, but not if .ci/integration has installed it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name.partition(".")[0] in NEEDED:
            return importlib.import_module(name)
        reason = f"{name} is not installed; .ci/integration runs this"
        return pytest.importorskip(name, reason=reason, exc_type=ImportError)


def documented(title: str, **names: Any) -> dict[str, Any]:
    """What the Python of a section of docs/frameworks.md defines, run with `names` at hand."""
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text("utf-8"), re.M | re.S)
    assert section, title
    snippets = re.findall(r"^```python\n(.*?)^```", section[1], re.M | re.S)
    assert snippets, title
    names |= {"__name__": "documented"}
    for snippet in snippets:
        exec(compile(snippet, f"{DOCUMENT.name}, {title}", "exec"), names)
    return names


class Photos(Dataset[Any]):
    """(uint8 image (3, H, W) of a size of its own, label)."""

    def __init__(self, count: int = COUNT) -> None:
        self.images = [noise(1, 3, 20 + n % 5, 24 - n % 3, seed=n)[0] for n in range(count)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Any:
        return self.images[number], number % CLASSES


def module(mix: bool = True, seed: int | None = None, **options: Any) -> ga.Augment:
    steps = [ga.RandomResizedCrop(16), ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)]
    return ga.Augment([*steps, ga.MixUp(num_classes=CLASSES)] if mix else steps, seed=seed, backend="torch", **options)


class Net(nn.Module):
    """A small network that notes its mode and the digests of the pictures it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, CLASSES))
        self.seen: list[tuple[bool, list[str]]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((self.training, digests(images)))
        return self.layers(images)

    def pictures(self, training: bool = True) -> list[list[str]]:
        """Of each batch."""
        return [batch for mode, batch in self.seen if mode == training]


def digests(images: Tensor) -> list[str]:
    return [hashlib.sha1(image.detach().numpy().tobytes()).hexdigest()[:12] for image in images]


def evaluated(dataset: Any, augment: ga.Augment | None = None) -> list[str]:
    """The digests of a data set's images as the evaluation list makes them, one after another."""
    augment = (augment or module()).eval()
    return [digest for n in range(len(dataset)) for digest in digests(augment(dataset[n][0][None]))]


def flat(batches: list[list[str]]) -> list[str]:
    return [picture for batch in batches for picture in batch]


def check_training(net: Any, epochs: int = EPOCHS, count: int = COUNT) -> None:
    """Each look at an image is another picture."""
    pictures = flat(net.pictures())
    assert len(pictures) == len(set(pictures)) == epochs * count


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
