"""What the behavioural tests share: the backends at hand, an example of every op, images, and bounds on chance."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.transforms.base import Canvas, Transform
from tests.support.chance import (
    FALSE_ALARM,
    assert_frequencies,
    bernstein,
    hoeffding,
    ks_between,
    ks_distance,
    uniform_cdf,
)
from tests.support.ops import ROWS
from tests.support.ops.mix import CLASSES

__all__ = [
    "BACKENDS", "CLASSES", "FALSE_ALARM", "FAST", "PIXEL_OPS", "anew", "assert_frequencies", "bernstein", "blank",
    "build", "call", "drawn", "hoeffding", "ks_between", "ks_distance", "labels", "noise", "photographs", "pipeline",
    "recipe", "smooth", "twin", "uniform_cdf", "until", "used",
]  # fmt: skip


@cache
def _runs(name: str) -> bool:
    if name == "numba" and importlib.util.find_spec("numba") is None:
        return False
    return hasattr(importlib.import_module(f"gpuaug.kernels.{name}"), "render")


BACKENDS = [name for name in ("torch", "numba") if _runs(name)]
FAST = BACKENDS[-1]


def build(op: type[Transform]) -> Any:
    """An example of `op` that changes pixels; a copy, since some tests write to what they build."""
    return copy.deepcopy(ROWS[op].example)


def pipeline(op: type[Transform], ragged: bool = False) -> list[Transform]:
    """A list in which the example of `op` may stand; with `ragged`, one that takes images of different sizes."""
    example = build(op)
    steps = [*ROWS[op].before, example]
    if not ragged:
        return steps
    if example.kind != "crop":
        return [ga.Resize((19, 17)), *steps]
    several = example.after(Canvas(np.array([[20, 30], [24, 21]]), 3)).several
    return [*steps, ga.CenterCrop(20)] if several else steps


PIXEL_OPS = [op for op in ga.OPS if build(op).kind != "mix"]  # a mix depends on the batch, and says so


def recipe(mix: bool = False) -> list[Transform]:
    """A full training list."""
    steps: list[Transform] = [
        ga.RandomResizedCrop(24),
        ga.RandomHorizontalFlip(),
        ga.ColorJitter(0.4, 0.4, 0.4, 0.1),
        ga.RandAugment(),
        ga.RandomChoice([ga.GaussianBlur(3), ga.GaussianNoise(), ga.RandomRotation(30)], p=[0.3, 0.3, 0.3]),
        ga.ToDtype(torch.float32, scale=True),
        ga.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ga.RandomErasing(p=0.5, value="random"),
    ]
    mixes = [ga.MixUp(alpha=0.2, num_classes=CLASSES), ga.CutMix(alpha=1.0, num_classes=CLASSES)]
    return [*steps, ga.RandomChoice(mixes, p=[0.4, 0.4])] if mix else steps


def noise(count: int = 4, channels: int = 3, height: int = 24, width: int = 21, seed: int = 0) -> Tensor:
    """(count, channels, height, width) uint8, levels from 16 to 239, so that autocontrast has something to do."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(16, 240, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def smooth(count: int = 4, height: int = 48, width: int = 48) -> Tensor:
    """(count, 3, height, width) uint8 slow waves, so that resampling twice is almost resampling once."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    waves = [torch.sin(2.0 * x + 3.0 * y * (c + 1) / 3 + n) for n in range(count) for c in range(3)]
    return ((torch.stack(waves).view(count, 3, height, width) + 1) * 110 + 10).to(torch.uint8)


def photographs(count: int = 6) -> list[Tensor]:
    """Uint8 (3, H, W) images of different sizes."""
    sizes = [(24, 31), (40, 22), (17, 17), (33, 29), (21, 50), (28, 28)]
    return [noise(1, 3, *sizes[n % len(sizes)], seed=n)[0] for n in range(count)]


def blank(count: int, height: int = 32, width: int = 32, channels: int = 3) -> Tensor:
    """A batch of any length that takes no memory: enough to sample parameters."""
    return torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(count, channels, height, width)


def labels(count: int) -> Tensor:
    return torch.arange(count) % CLASSES


def call(augment: Any, images: Any, **arguments: Any) -> Tensor:
    """The images of a call, with labels where the list mixes."""
    mixes = augment.train_pipeline.mix is not None and augment.training
    result = augment(images, labels(len(images)), **arguments) if mixes else augment(images, **arguments)
    return result[0] if mixes else result


def anew(augment: Any, *batch: Any, **arguments: Any) -> Any:
    """A call as the first of its epoch, in which each image has its looks anew."""
    augment.set_epoch(augment.epoch)
    return augment(*batch, **arguments)


def twin(module: Any) -> Any:
    """A copy that draws what the module draws, which a mere copy does not."""
    copied = copy.deepcopy(module)
    copied.load_state_dict(module.state_dict())
    return copied


def used(augment: Any) -> dict[str, int]:
    """How far a module has come: its epoch, and how many numbers of its counter are used up."""
    return {"epoch": augment.epoch, "counter": augment._counter.value()}


def drawn(steps: list[Transform], count: int, seed: int = 0, **size: int) -> list[dict[str, Any]]:
    """The parameters of each step for `count` samples."""
    return ga.Augment(steps, seed=seed, backend="torch").sample(blank(count, **size)).params


def until(condition: Callable[[], object]) -> bool:
    """Wait for something, for two minutes: a busy machine takes ten times as long as an idle one."""
    end = time.monotonic() + 120
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return bool(condition())
