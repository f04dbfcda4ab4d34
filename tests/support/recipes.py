"""What people run, for tests and counts of the compiled kernels."""

from __future__ import annotations

from typing import Any

import torch

import gpuaug as ga

__all__ = ["RECIPES"]

FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.45,), (0.225,))]
HALF = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize((0.45,), (0.225,))]
START = [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip()]
MIX = ga.RandomChoice([ga.MixUp(num_classes=1000), ga.CutMix(num_classes=1000)])

# what people run: name -> list, (height, width) of the images
RECIPES: dict[str, tuple[list[Any], tuple[int, int]]] = {
    "imagenet": ([*START, *HALF], (256, 256)),
    "randaugment": ([*START, ga.RandAugment(), *HALF, ga.RandomErasing(0.1), MIX], (256, 256)),
    "randaugment bilinear": ([*START, ga.RandAugment(interpolation="bilinear", fill=128), *FLOATS], (256, 256)),
    "jitter": ([*START, ga.ColorJitter(0.4, 0.4, 0.4, 0.1), *FLOATS], (256, 256)),
    "autoaugment": ([*START, ga.AutoAugment(), *HALF], (256, 256)),
    "trivial": ([*START, ga.TrivialAugmentWide(), *HALF, ga.RandomErasing(value="random")], (256, 256)),
    "augmix": ([*START, ga.AugMix(), *FLOATS], (256, 256)),
    "cifar": ([ga.RandomHorizontalFlip(), ga.RandomCrop(32, 4), *FLOATS], (32, 32)),
    "cifar randaugment": ([ga.RandomCrop(32, 4, padding_mode="reflect"), ga.RandAugment(), *HALF, MIX], (32, 32)),
    "simclr": (
        [
            *START,
            ga.RandomApply([ga.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            ga.RandomGrayscale(0.2),
            ga.GaussianBlur(23),
            *HALF,
        ],
        (256, 256),
    ),
    "bicubic": (
        [ga.RandomAffine(20, interpolation="bicubic"), ga.RandomPerspective(interpolation="bicubic")],
        (224, 224),
    ),
    "levels": ([*START, ga.RandAugment()], (256, 256)),
    "rough": ([ga.GaussianNoise(), ga.JPEG((20, 90)), ga.MotionBlur(5, 40.0, 0.0), *HALF], (224, 224)),
    "evaluation": ([ga.Resize(256), ga.CenterCrop(224), *HALF], (300, 400)),
}
