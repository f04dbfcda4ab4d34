"""What recipes share: the end of a list, and the checks of their arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gpuaug import checks
from gpuaug.recipes.strength import at_strength
from gpuaug.transforms.base import Transform
from gpuaug.transforms.container import RandomChoice
from gpuaug.transforms.convert import Normalize, ToDtype
from gpuaug.transforms.mix import CutMix, MixUp

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Size", "Values", "blur_kernel", "finished", "mixing"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Size = int | Sequence[int]
Values = Sequence[float]


def finished(
    steps: Sequence[Transform],
    mean: Values,
    std: Values,
    strength: float,
    after: Sequence[Transform] = (),
    mixes: Sequence[Transform] = (),
) -> list[Transform]:
    """A whole list: pixels, floats, what comes after Normalize, mixes; then at its strength."""
    floats = [ToDtype(torch.float32, scale=True), Normalize(mean, std)]
    return at_strength([*steps, *floats, *after, *mixes], strength)


def mixing(
    num_classes: int | None, mixup: float = 0.2, cutmix: float = 1.0, p: tuple[float, float] = (0.5, 0.5)
) -> list[Transform]:
    """MixUp and CutMix with their `alpha` and their chances; nothing without `num_classes`."""
    if num_classes is None:
        return []
    classes = checks.integer("recipes", "num_classes", num_classes, 1)
    mixes = [MixUp(alpha=mixup, num_classes=classes), CutMix(alpha=cutmix, num_classes=classes)]
    return [RandomChoice(mixes, p=list(p))]


def blur_kernel(size: Size) -> int:
    """The side of a blur's kernel, a tenth of the image's and odd, as in SimCLR."""
    shorter = min(checks.size("recipes", size))
    return max(3, shorter // 10 // 2 * 2 + 1)
