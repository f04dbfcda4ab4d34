"""Train a small network on few labels, with and without augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.data.decode import decode_file
from gpuaug.ragged import Ragged
from gpuaug.transforms.convert import Normalize, ToDtype
from gpuaug.transforms.crop import RandomCrop, Resize
from gpuaug.transforms.geometric import RandomAffine, RandomHorizontalFlip

__all__ = ["Task", "accuracies", "digits", "folder"]

BATCH = 50
STEPS = 300


@dataclass(frozen=True)
class Task:
    """A data set in memory, and the augmentation for it.

    Attributes:
        name: Name of the data set.
        images: uint8 (N, C, H, W).
        labels: Class numbers, (N,) int64.
        per_class: Number of training images of each class, chosen by the seed; the others are test images.
        augment: Transforms for training, before ToDtype and Normalize.
        words: Description of the transforms.
    """

    name: str
    images: Tensor
    labels: Tensor
    per_class: int
    augment: list[Any]
    words: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1

    def split(self, seed: int) -> tuple[Tensor, Tensor]:
        """Numbers of the training images, `per_class` of each class, and of the test images."""
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed))
        ranks = torch.zeros_like(order)
        for number in range(self.classes):
            members = order[self.labels[order] == number]
            ranks[members] = torch.arange(len(members))
        return torch.where(ranks < self.per_class)[0], torch.where(ranks >= self.per_class)[0]


def digits(per_class: int = 10) -> Task:
    """scikit-learn's 1797 handwritten digits, resized from 8x8 to 16x16, so that small rotations have an effect."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images)[:, None] / 16  # pixel values are 0 to 16
    images = F.interpolate(images, size=(16, 16), mode="bilinear")
    augment = [
        RandomAffine(degrees=12, translate=(0.1, 0.1), scale=(0.85, 1.15), shear=8, interpolation="bilinear"),
    ]
    labels = torch.from_numpy(bunch.target).long()
    words = "turned, shifted, scaled and sheared at random"
    return Task("scikit-learn's digits", (images * 255).round().to(torch.uint8), labels, per_class, augment, words)


def folder(path: Path, most_classes: int = 10, most_images: int = 200) -> Task:
    """The largest classes of a folder as 32x32 images, half of each class for training.

    Args:
        path: Folder with a folder of images for each class.
        most_classes: Number of classes, at most.
        most_images: Number of images of each class, at most.

    Raises:
        ValueError: If fewer than two classes have four images.
    """
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(str(path))
    files: dict[int, list[str]] = {}
    for file, label in dataset.samples:
        files.setdefault(label, []).append(file)
    largest = [
        group[:most_images] for group in sorted(files.values(), key=len, reverse=True)[:most_classes] if len(group) >= 4
    ]
    if len(largest) < 2:
        remedy = "Give a folder with more images for each class to compare accuracies."
        raise checks.argument_error(
            "folder", "path", "a folder with two classes of at least 4 images", str(path), remedy
        )
    resize = Augment(train=[Resize((32, 32))])
    images = [resize(Ragged.from_images([decode_file(file) for file in group])) for group in largest]
    labels = torch.repeat_interleave(torch.arange(len(largest)), torch.tensor([len(group) for group in largest]))
    half = min(len(group) for group in largest) // 2
    augment = [RandomCrop(32, padding=4, padding_mode="reflect"), RandomHorizontalFlip()]
    return Task(
        f"{len(largest)} classes of {path.name}",
        torch.cat(images),
        labels,
        half,
        augment,
        "shifted and flipped at random",
    )


def accuracies(
    task: Task, seeds: int = 5, *, backend: str = "auto", steps: int = STEPS
) -> Iterator[tuple[str, int, float]]:
    """Train without and with augmentation, on the same images for each seed.

    Yields:
        ("none" or "augmented", seed, test accuracy in percent).
    """
    for seed in range(seeds):
        for name, transforms in (("none", []), ("augmented", task.augment)):
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # the network is too small for more
            try:
                accuracy = _train(task, transforms, seed, backend, steps)
            finally:
                torch.set_num_threads(threads)
            yield name, seed, accuracy


def _train(task: Task, transforms: list[Any], seed: int, backend: str, steps: int) -> float:
    """Test accuracy in percent after training."""
    channels, side = task.images.shape[1], task.images.shape[-1]
    to_float = [ToDtype(torch.float32, scale=True), Normalize([0.5] * channels, [0.5] * channels)]
    augment = Augment(train=[*transforms, *to_float], eval=to_float, seed=seed, backend=backend)
    train, test = task.split(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network(channels, task.classes, stride=side // 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        chosen = train[torch.randperm(len(train), generator=generator)[:BATCH]]
        augment.set_epoch(step)  # new random draws in every step
        loss = F.cross_entropy(model(augment(task.images[chosen], index=chosen)), task.labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    augment.eval()
    model.eval()
    with torch.inference_mode():
        parts = [model(augment(task.images[part])).argmax(1) == task.labels[part] for part in torch.split(test, 256)]
    return 100 * float(torch.cat(parts).float().mean())


def network(channels: int, classes: int, stride: int) -> nn.Sequential:
    """Four convolutions with about 63 thousand weights. The first one's stride reduces the image to 16x16."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(channels, 16, stride), *block(16, 32, 2), *block(32, 64, 2), *block(64, 64, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, classes))
