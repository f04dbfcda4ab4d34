"""gpuaug and torchvision, whose vocabulary is one: the same tables build the ops of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

import gpuaug as ga

from ..cases import CLASSES, JITTER, MEAN, PARITY, RECIPES, SIZE, STD
from .peer import Batches, Peer, PeerError, check_fixed

LINEAR = InterpolationMode.BILINEAR

# (vocabulary) -> op
RANDOM: dict[str, Callable[[Any], Any]] = {
    "RandomHorizontalFlip": lambda v: v.RandomHorizontalFlip(p=1.0),
    "RandomCrop": lambda v: v.RandomCrop(SIZE),
    "RandomResizedCrop": lambda v: v.RandomResizedCrop(SIZE),
    "RandomRotation": lambda v: v.RandomRotation(30, interpolation=LINEAR),
    "RandomAffine": lambda v: v.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), 10, interpolation=LINEAR),
    "RandomPerspective": lambda v: v.RandomPerspective(0.5, p=1.0),
    "Brightness": lambda v: v.ColorJitter(brightness=0.4),
    "Contrast": lambda v: v.ColorJitter(contrast=0.4),
    "Saturation": lambda v: v.ColorJitter(saturation=0.4),
    "Hue": lambda v: v.ColorJitter(hue=0.1),
    "ColorJitter": lambda v: v.ColorJitter(*JITTER),
    "RandomGrayscale": lambda v: v.RandomGrayscale(p=1.0),
    "RandomInvert": lambda v: v.RandomInvert(p=1.0),
    "RandomPosterize": lambda v: v.RandomPosterize(4, p=1.0),
    "RandomSolarize": lambda v: v.RandomSolarize(128, p=1.0),
    "RandomAutocontrast": lambda v: v.RandomAutocontrast(p=1.0),
    "RandomEqualize": lambda v: v.RandomEqualize(p=1.0),
    "RandomAdjustSharpness": lambda v: v.RandomAdjustSharpness(2.0, p=1.0),
    "GaussianBlur": lambda v: v.GaussianBlur(9, (0.1, 2.0)),
    "GaussianNoise": lambda v: v.GaussianNoise(0.0, 0.1),
    "JPEG": lambda v: v.JPEG((50, 95)),
    "RandomErasing": lambda v: v.RandomErasing(p=1.0),
    "Normalize": lambda v: v.Compose(floats(v)),
    "RandAugment": lambda v: v.RandAugment(2, 9),
    "TrivialAugmentWide": lambda v: v.TrivialAugmentWide(),
    "AutoAugment": lambda v: v.AutoAugment(),
    "AugMix": lambda v: v.AugMix(),
    "SimCLR jitter": lambda v: v.RandomApply([v.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
    "SimCLR grayscale": lambda v: v.RandomGrayscale(p=0.2),
    "SimCLR blur": lambda v: v.RandomApply([v.GaussianBlur(23, (0.1, 2.0))], p=0.5),
}
FIXED: dict[str, Callable[[Any], Any]] = {
    "RandomResizedCrop": lambda v: v.RandomResizedCrop(SIZE, scale=(1.0, 1.0), ratio=(1.0, 1.0)),
    "RandomRotation": lambda v: v.RandomRotation((30, 30), interpolation=LINEAR),
    "RandomAffine": lambda v: v.RandomAffine((15, 15), None, (1.1, 1.1), interpolation=LINEAR),
    "Brightness": lambda v: v.ColorJitter(brightness=(1.4, 1.4)),
    "Contrast": lambda v: v.ColorJitter(contrast=(1.4, 1.4)),
    "Saturation": lambda v: v.ColorJitter(saturation=(1.4, 1.4)),
    "Hue": lambda v: v.ColorJitter(hue=(0.1, 0.1)),
    "GaussianBlur": lambda v: v.GaussianBlur(9, (1.0, 1.0)),
    "JPEG": lambda v: v.JPEG((75, 75)),
    **{
        name: RANDOM[name]
        for name in (
            "RandomHorizontalFlip", "RandomGrayscale", "RandomInvert", "RandomPosterize", "RandomSolarize",
            "RandomAutocontrast", "RandomEqualize", "RandomAdjustSharpness", "Normalize",
        )
    },
}  # fmt: skip
MIXES = {"MixUp": lambda v: v.MixUp(num_classes=CLASSES), "CutMix": lambda v: v.CutMix(num_classes=CLASSES)}


def floats(v: Any) -> list[Any]:
    return [v.ToDtype(torch.float32, scale=True), v.Normalize(MEAN, STD)]


def steps(v: Any, case: str) -> list[Any]:
    """A recipe's list."""
    if case == PARITY:
        head = [v.Resize(256), v.CenterCrop(SIZE), v.RandomHorizontalFlip(p=1.0)]
        return [*head, v.ColorJitter(brightness=(1.2, 1.2)), *floats(v)]
    head = [v.RandomResizedCrop(SIZE), v.RandomHorizontalFlip()]
    return [*head, *(RANDOM[name](v) for name in RECIPES[case]), *floats(v)]


def step(v: Any, case: str, fixed: bool) -> list[Any]:
    """An op's list."""
    return [(FIXED if fixed else RANDOM)[case](v)]


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
        check_fixed(case, fixed, FIXED)
        if case in MIXES:
            augment = ga.Augment([ga.ToDtype(torch.float32, scale=True), MIXES[case](ga)])
            return lambda batch: augment(batch, labels(len(batch)).to(self.device))[0]
        return ga.Augment(step(ga, case, fixed))

    def recipe(self, case: str) -> Any:
        return ga.Augment(steps(ga, case))


class _One(Peer):
    """An image at a time."""

    alone = True

    def op(self, case: str, fixed: bool) -> Any:
        if case in MIXES:
            raise PeerError("mixes work on batches")
        check_fixed(case, fixed, FIXED)
        return self.compose(step(v2, case, fixed))

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
        check_fixed(case, fixed, FIXED)
        if case in MIXES:
            mix = v2.Compose([v2.ToDtype(torch.float32, scale=True), MIXES[case](v2)])
            return lambda batch: mix(batch, labels(len(batch)).to(self.device))[0]
        return v2.Compose(step(v2, case, fixed))

    def recipe(self, case: str) -> Any:
        return v2.Compose(steps(v2, case))
