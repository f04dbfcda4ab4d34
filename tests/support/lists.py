"""Lists of steps to test on: every op alone at every strength, recipes, and lists drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga
from tests.support.ops import FLOATS, NORMALIZE, ROWS, Row

__all__ = ["LISTS", "cases", "channel_counts", "lists_of", "random_crops", "random_pixels"]


def lists_of(row: Row) -> list[list[Any]]:
    """The lists of steps of a row, each of which ends with the op."""
    return [op if isinstance(op, list) else [op] for op in row.ops]


def cases() -> list[Any]:
    """Parameters of a test: lists of steps, each of which ends with the op it is named after."""
    return [pytest.param(steps, id=repr(steps[-1])) for row in ROWS.values() for steps in lists_of(row)]


def channel_counts(steps: list[Any]) -> list[int]:
    """What the row says, less the counts that do not fit an argument with one number per channel."""
    op = steps[-1]
    lengths = {len(value) for name in ("fill", "value", "mean") if isinstance(value := getattr(op, name, None), tuple)}
    return [count for count in ROWS[type(op)].channels if lengths <= {1, count}]


TAIL = [FLOATS, NORMALIZE, ga.RandomErasing(0.5)]
LISTS = {
    "imagenet": [ga.RandomResizedCrop(31), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4, 0.4), *TAIL],
    "cifar": [ga.RandomHorizontalFlip(), ga.RandomCrop(32, 4, padding_mode="reflect"), ga.RandomEqualize(), *TAIL],
    "evaluation": [ga.Resize(36), ga.CenterCrop(32), FLOATS, NORMALIZE],
    "grey": [
        ga.RandomVerticalFlip(),
        ga.Grayscale(1),
        ga.Resize((20, 31)),
        ga.RandomInvert(),
        ga.ToDtype(torch.float16),
    ],
    "grey to three": [ga.Grayscale(3), ga.RandomSolarize(128), ga.CenterCrop(20), ga.RandomPosterize(3)],
    "erased twice": [
        ga.RandomErasing(0.8, value=9),
        FLOATS,
        ga.RandomErasing(0.8, value=0.5),
        NORMALIZE,
        ga.RandomErasing(0.8, value="random"),
    ],
    "mixed": [ga.RandomCrop(30), *TAIL, ga.RandomChoice([ga.MixUp(num_classes=3), ga.CutMix(num_classes=3)])],
    "half": [
        ga.JPEG((30, 90)),
        ga.ToDtype(torch.bfloat16, scale=True),
        NORMALIZE,
        ga.MixUp(num_classes=3, mode="pair"),
    ],
    "noisy": [ga.GaussianNoise(), ga.RandomAutocontrast(), ga.GaussianNoise(0.1), ga.RandomChannelPermutation()],
}


def random_crops(seed: int) -> list[Any]:
    """Crops, pads, flips and point operations in any order: what the builder may fuse into one read."""
    rng = np.random.default_rng(seed)
    choices = [
        lambda: ga.RandomHorizontalFlip(),
        lambda: ga.RandomVerticalFlip(),
        lambda: ga.Pad(
            tuple(rng.integers(0, 7, 4).tolist()), 77, str(rng.choice(["constant", "edge", "reflect", "symmetric"]))
        ),
        lambda: ga.CenterCrop(tuple(rng.integers(12, 50, 2).tolist())),
        lambda: ga.RandomCrop(tuple(rng.integers(12, 40, 2).tolist()), int(rng.integers(0, 4)), True, 200),
        lambda: ga.RandomResizedCrop(
            tuple(rng.integers(12, 50, 2).tolist()), interpolation=str(rng.choice(["bilinear", "bicubic", "nearest"]))
        ),
        lambda: ga.Resize(tuple(rng.integers(12, 50, 2).tolist())),
        lambda: ga.RandomSolarize(100),
    ]
    return [
        choices[rng.choice(len(choices), p=[0.2, 0.1, 0.12, 0.12, 0.12, 0.12, 0.12, 0.1])]()
        for _ in range(rng.integers(2, 7))
    ]


def random_pixels(seed: int) -> list[Any]:
    """Pixel operations in any order, in containers too, then a dtype and an end."""
    rng = np.random.default_rng(seed)
    alone = [op for row in ROWS.values() for op in row.ops if not isinstance(op, list) and op.kind == "pixel"]
    alone = [op for op in alone if not isinstance(op, ga.Grayscale)]

    def drawn(depth: int = 0) -> Any:
        if depth == 2 or rng.random() < 0.75:
            return alone[rng.integers(len(alone))]
        inner = [drawn(depth + 1) for _ in range(rng.integers(1, 4))]
        return [ga.RandomApply, ga.RandomChoice, ga.RandomOrder][rng.integers(3)](inner)

    ends = [
        [],
        [FLOATS, NORMALIZE],
        [ga.ToDtype(torch.bfloat16)],
        [FLOATS, ga.RandomErasing(value="random"), ga.MixUp(num_classes=2)],
    ]
    return [drawn() for _ in range(rng.integers(1, 6))] + ends[rng.integers(len(ends))]
