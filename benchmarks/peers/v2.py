"""gpuaug and torchvision, whose vocabulary is one: the same code builds the ops of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.transforms.mix import Mix

from ..cases import CLASSES, MEAN, PARITY, RECIPES, SIZE, STD, timed
from .peer import Batches, Peer, PeerError, check_fixed

# of recipes: (vocabulary) -> step; the ops are in benchmarks.cases.timed()
PARTS: dict[str, Callable[[Any], Any]] = {
    "SimCLR jitter": lambda v: v.RandomApply([v.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
    "SimCLR grayscale": lambda v: v.RandomGrayscale(p=0.2),
    "SimCLR blur": lambda v: v.RandomApply([v.GaussianBlur(23, (0.1, 2.0))], p=0.5),
}


def floats(v: Any) -> list[Any]:
    return [v.ToDtype(torch.float32, scale=True), v.Normalize(MEAN, STD)]


def steps(v: Any, case: str) -> list[Any]:
    """A recipe's list."""
    if case == PARITY:
        head = [v.Resize(256), v.CenterCrop(SIZE), v.RandomHorizontalFlip(p=1.0)]
        return [*head, v.ColorJitter(brightness=(1.2, 1.2)), *floats(v)]
    head = [v.RandomResizedCrop(SIZE), v.RandomHorizontalFlip()]
    return [*head, *(part(v, name) for name in RECIPES[case]), *floats(v)]


def part(v: Any, name: str) -> Any:
    """A step of a recipe: an op, or one of PARTS."""
    return PARTS[name](v) if name in PARTS else step(v, name, False)


def step(v: Any, case: str, fixed: bool) -> Any:
    """An op, or raise PeerError if its parameters cannot be fixed."""
    _, entry = timed()[case]
    check_fixed(case, fixed, [case] if entry.fixed else [])
    return entry.fixed(v) if fixed and callable(entry.fixed) else entry.random(v)


def mixes(case: str) -> bool:
    return issubclass(timed()[case][0], Mix)


def labels(count: int) -> Tensor:
    return torch.arange(count) % CLASSES


class Gpuaug(Batches):
    uniform = False
    work = "each image its own draw; its images lie in one buffer, as its loader gives them (packing: regime loaders)"

    def prepare(self, images: list[Tensor], batch: int) -> Any:
        parts = [images[start : start + batch] for start in range(0, len(images), batch)]
        uniform = len({image.shape for image in images}) == 1
        return [(torch.stack(p) if uniform else ga.Ragged.from_images(p)).to(self.device) for p in parts]

    def op(self, case: str, fixed: bool) -> Any:
        own = step(ga, case, fixed)
        if mixes(case):
            augment = ga.Augment([ga.ToDtype(torch.float32, scale=True), own])
            return lambda batch: augment(batch, labels(len(batch)).to(self.device))[0]
        return ga.Augment([own])

    def recipe(self, case: str) -> Any:
        return ga.Augment(steps(ga, case))


class _One(Peer):
    """An image at a time."""

    alone = True

    def op(self, case: str, fixed: bool) -> Any:
        if mixes(case):
            raise PeerError("mixes work on batches")
        return self.compose([step(v2, case, fixed)])

    def recipe(self, case: str) -> Any:
        return self.compose(steps(v2, case))

    def compose(self, chain: list[Any]) -> Any:
        return v2.Compose(chain)

    def run(self, transform: Any, prepared: Any) -> Iterator[Any]:
        return (transform(image) for image in prepared)


class TorchvisionTensors(_One):
    work = "one image at a time"

    def prepare(self, images: list[Tensor], batch: int) -> Any:
        return images

    def tensors(self, result: Any) -> list[Tensor]:
        return list(result)


class TorchvisionPil(_One):
    work = "one image at a time; Pillow's filters"

    def prepare(self, images: list[Tensor], batch: int) -> Any:
        return [v2.functional.to_pil_image(image) for image in images]

    def compose(self, chain: list[Any]) -> Any:
        """PIL's images become tensors where floats are asked for, or before an op that only takes tensors."""
        early = any(isinstance(op, v2.GaussianNoise) for op in chain)
        place = 0 if early else next((i for i, op in enumerate(chain) if isinstance(op, v2.ToDtype)), len(chain))
        last = place == len(chain)
        return v2.Compose(chain if last else [*chain[:place], v2.PILToTensor(), *chain[place:]])

    def tensors(self, result: Any) -> list[Tensor]:
        return [image if isinstance(image, Tensor) else v2.functional.pil_to_tensor(image) for image in result]


class TorchvisionBatch(Batches):
    less = True
    work = "one draw for the whole batch: less work"

    def op(self, case: str, fixed: bool) -> Any:
        own = step(v2, case, fixed)
        if mixes(case):
            mix = v2.Compose([v2.ToDtype(torch.float32, scale=True), own])
            return lambda batch: mix(batch, labels(len(batch)).to(self.device))[0]
        return v2.Compose([own])

    def recipe(self, case: str) -> Any:
        return v2.Compose(steps(v2, case))
