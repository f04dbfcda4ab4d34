"""Lists, images and labels for what runs on a device, or on what claims to be one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga
from tests.support.helpers import CLASSES, noise, photographs

__all__ = ["BATCHES", "CAPTURED", "CASES", "RECIPES", "Case", "bits", "place", "same"]

COUNT = 4
SHAPE = (40, 36)  # height, width of the images


@dataclass(frozen=True)
class Case:
    """A list, and what it is called with."""

    steps: list[Any]
    labels: str = ""  # "", "numbers" or "soft"
    ragged: bool = False
    training: bool = True
    options: dict[str, Any] = field(default_factory=dict)  # of Augment

    def augment(self, backend: str, seed: int = 3) -> ga.Augment:
        return ga.Augment(self.steps, seed=seed, backend=backend, **self.options).train(self.training)

    def batch(self, seed: int = 0) -> list[Any]:
        """Images, and labels where there are some, on the CPU."""
        images: Any = noise(COUNT, 3, *SHAPE, seed=seed)
        if self.ragged:
            images = ga.Ragged.from_images(photographs(COUNT))
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randint(0, CLASSES, (COUNT,), generator=generator)
        soft = torch.rand(COUNT, CLASSES, generator=generator)
        return [images, *{"numbers": [numbers], "soft": [soft]}.get(self.labels, [])]


def tail(dtype: torch.dtype = torch.bfloat16) -> list[Any]:
    return [ga.ToDtype(dtype, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]


def recipes(size: int) -> dict[str, Case]:
    """The rows of the audit."""
    head = [ga.RandomResizedCrop(size), ga.RandomHorizontalFlip()]
    policy, mix = ga.RandAugment(2, 9), ga.MixUp(num_classes=CLASSES)
    return {
        "crop, flip": Case([*head, *tail()]),
        "RandAugment": Case([*head, policy, *tail()]),
        "RandAugment, MixUp": Case([*head, policy, *tail(), mix], "numbers"),
        "ColorJitter": Case([*head, ga.ColorJitter(0.4, 0.4, 0.4, 0.1), *tail()]),
    }


RECIPES: Callable[[int], dict[str, Case]] = recipes
ROTATE = ga.RandomRotation(20, interpolation="bilinear", fill=9)
PIXELS = [ga.RandomInvert(), ga.RandomEqualize(), ga.RandomSolarize(100), ga.RandomAutocontrast()]
CHANNELS_LAST = {"memory_format": torch.channels_last}

CASES: dict[str, Case] = {
    **recipes(24),
    "CIFAR": Case([ga.RandomHorizontalFlip(), ga.RandomCrop(32, padding=4), *tail()]),
    "AutoAugment": Case([ga.RandomCrop(32, padding=4), ga.AutoAugment(), *tail(torch.float16)]),
    "TrivialAugmentWide": Case([ga.TrivialAugmentWide(), *tail(torch.float32)], options=CHANNELS_LAST),
    "AugMix": Case([ga.AugMix(), *tail()]),
    "RandomChoice of crops": Case(
        [
            ga.RandomChoice([ga.RandomResizedCrop(20), ga.CenterCrop(20), ga.Resize((20, 20))], p=[0.1, 0.8, 0.1]),
            *tail(),
        ]
    ),
    "RandomChoice": Case([ga.RandomChoice([ga.GaussianBlur(3), ga.RandomInvert(1.0), ga.RandomRotation(30)]), *tail()]),
    "RandomApply": Case([ga.RandomApply([ga.ColorJitter(0.4, 0.4), ga.GaussianBlur(5)], p=0.6), *tail()]),
    "RandomOrder": Case([ga.RandomOrder([*PIXELS, ga.RandomAdjustSharpness(2.0)]), *tail()]),
    "GaussianBlur": Case([ga.GaussianBlur(7, (0.1, 2.0))]),
    "JPEG": Case([ga.RandomApply([ga.JPEG((20, 90))]), *tail()], options=CHANNELS_LAST),
    "GaussianNoise": Case([ga.GaussianNoise(), ga.RandomInvert(), *tail()]),
    "MotionBlur": Case([ga.MotionBlur(5, angle=40.0, direction=(-1.0, 1.0), p=0.7), *tail()]),
    "RandomErasing": Case([ga.RandomErasing(0.7, value=9), *tail(), ga.RandomErasing(0.7, value="random")]),
    "warps": Case([ROTATE, ga.RandomAffine(9, (0.1, 0.2), interpolation="bilinear", fill=9), *tail()]),
    "perspective": Case([ga.RandomPerspective(0.4, 0.6), ga.RandomAffine(9, interpolation="bicubic"), *tail()]),
    "elastic": Case([ga.RandomApply([ga.ElasticTransform(30, 2)], p=0.6), ga.RandomInvert(), *tail()]),
    "two segments": Case([ga.Resize(30), ga.Pad(3, padding_mode="reflect"), ga.RandomResizedCrop(20), *tail()]),
    "segments and filters": Case([ga.GaussianBlur(3), ga.RandomCrop(30), ga.RandAugment(1), ga.Resize(20), *tail()]),
    "evaluation": Case([ga.RandomResizedCrop(24), ga.RandAugment(), *tail()], training=False),
    "CutMix": Case([ga.RandomCrop(32, padding=4), *tail(), ga.CutMix(num_classes=CLASSES)], "soft"),
    "AugMix, MixUp": Case([ga.AugMix(), *tail(), ga.MixUp(num_classes=CLASSES)], "numbers", options=CHANNELS_LAST),
    "a mix or another": Case(
        [*tail(torch.float16), ga.RandomChoice([ga.MixUp(num_classes=CLASSES), ga.CutMix(num_classes=CLASSES)])], "soft"
    ),
    "levels only": Case([ga.RandomPosterize(3), ga.RandomChannelPermutation()]),
    "grey": Case([ga.RandomVerticalFlip(), ga.Grayscale(1), ga.Resize(20), ga.ToDtype(torch.float16)]),
    "ragged": Case([ga.RandomResizedCrop(24), ga.RandAugment(), *tail()], ragged=True),
}

BATCHES = 3  # that a captured graph is given
CAPTURED = ["crop, flip", "RandAugment", "RandAugment, MixUp", "GaussianBlur", "JPEG", "RandomErasing", "evaluation"]
CAPTURED += ["RandomChoice of crops", "CutMix", "AugMix, MixUp", "a mix or another", "segments and filters", "warps"]


def bits(tensor: Tensor) -> Tensor:
    """As integers, so that equality is of bits."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(kinds[tensor.element_size()]) if tensor.is_floating_point() else tensor


def same(got: Any, expected: Any) -> bool:
    """Whether both results, images or (images, labels), are the same bits in the same layout."""
    pairs = [(got, expected)] if isinstance(got, Tensor) else list(zip(got, expected, strict=True))
    return all(
        (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride()) and torch.equal(bits(a), bits(b))
        for a, b in pairs
    )


def place(batch: list[Any], to: Callable[[Tensor], Tensor]) -> list[Any]:
    """Images and labels on a device."""
    return [
        ga.Ragged(to(one.data), one.sizes, one.channels) if isinstance(one, ga.Ragged) else to(one) for one in batch
    ]
