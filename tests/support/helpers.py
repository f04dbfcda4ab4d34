"""What the behavioural tests share: the backends at hand, an example of every op, images, and bounds on chance."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import gpuaug as ga
from gpuaug.transforms.base import Transform

Array = NDArray[Any]

CLASSES = 7
FALSE_ALARM = 1e-9  # chance that a right library fails a statistical test


@cache
def _runs(name: str) -> bool:
    if name == "numba" and importlib.util.find_spec("numba") is None:
        return False
    return hasattr(importlib.import_module(f"gpuaug.kernels.{name}"), "render")


BACKENDS = [name for name in ("torch", "numba") if _runs(name)]
FAST = BACKENDS[-1]

# How to build each op: those with required arguments or whose defaults do nothing. The rest is built without arguments.
BUILD: dict[str, Callable[[], Transform]] = {
    "GaussianBlur": lambda: ga.GaussianBlur(5, sigma=(0.1, 2.0)),
    "MotionBlur": lambda: ga.MotionBlur(5, angle=40.0, direction=(-1.0, 1.0), p=0.7),
    "JPEG": lambda: ga.JPEG((20, 90)),
    "ColorJitter": lambda: ga.ColorJitter(0.4, (0.5, 1.5), 0.4, 0.1),
    "Grayscale": lambda: ga.Grayscale(3),
    "RandomGrayscale": lambda: ga.RandomGrayscale(p=0.5),
    "RandomPosterize": lambda: ga.RandomPosterize(3),
    "RandomSolarize": lambda: ga.RandomSolarize(128.0),
    "RandomAdjustSharpness": lambda: ga.RandomAdjustSharpness(2.0),
    "MixUp": lambda: ga.MixUp(alpha=0.4, num_classes=CLASSES),
    "CutMix": lambda: ga.CutMix(alpha=1.0, num_classes=CLASSES, mode="elem"),
    "Compose": lambda: ga.Compose([ga.RandomInvert(), ga.RandomRotation(20.0)]),
    "RandomApply": lambda: ga.RandomApply([ga.RandomInvert(), ga.GaussianBlur(3)], p=0.6),
    "RandomOrder": lambda: ga.RandomOrder([ga.RandomInvert(), ga.RandomSolarize(100), ga.RandomPosterize(2)]),
    "RandomChoice": lambda: ga.RandomChoice([ga.RandomInvert(p=1.0), ga.RandomRotation((10, 20))], p=[0.3, 0.5]),
    "ToDtype": lambda: ga.ToDtype(torch.float32, scale=True),
    "Normalize": lambda: ga.Normalize(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "Resize": lambda: ga.Resize((18, 15)),
    "CenterCrop": lambda: ga.CenterCrop(16),
    "Pad": lambda: ga.Pad((1, 2, 3, 4), fill=(9, 8, 7), padding_mode="constant"),
    "RandomCrop": lambda: ga.RandomCrop(16, padding=3, padding_mode="reflect"),
    "RandomResizedCrop": lambda: ga.RandomResizedCrop((16, 14)),
    "RandomErasing": lambda: ga.RandomErasing(p=0.8, value=77.0),
    "RandomRotation": lambda: ga.RandomRotation(45.0, fill=(1, 2, 3)),
    "RandomAffine": lambda: ga.RandomAffine(30, (0.1, 0.2), (0.8, 1.2), (-5, 5, -3, 3), "bilinear", fill=50),
    "RandAugment": lambda: ga.RandAugment(3, 12),
}


def build(op: type[Transform]) -> Transform:
    """An example of `op` that changes pixels."""
    return BUILD[op.__name__]() if op.__name__ in BUILD else op()


def pipeline(op: type[Transform], ragged: bool = False) -> list[Transform]:
    """A list in which the example of `op` may stand; with `ragged`, one that takes images of different sizes."""
    example = build(op)
    if op is ga.Normalize:
        steps: list[Transform] = [ga.ToDtype(torch.float32, scale=True), example]
    elif op is ga.Pad and ragged:
        return [example, ga.CenterCrop(20)]
    else:
        steps = [example]
    return [ga.Resize((19, 17)), *steps] if ragged and example.kind != "crop" else steps


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


def hoeffding(count: int, comparisons: int = 1) -> float:
    """How far the mean of `count` draws in [0, 1], or their distribution (Dvoretzky, Kiefer, Wolfowitz), may stray."""
    return math.sqrt(math.log(2 * comparisons / FALSE_ALARM) / (2 * count))


def bernstein(p: float, count: int, comparisons: int = 1) -> float:
    """How far a frequency of chance p may stray: sharper than Hoeffding's bound for rare events."""
    log = math.log(2 * comparisons / FALSE_ALARM) / count
    return log / 3 + math.sqrt((log / 3) ** 2 + 2 * p * (1 - p) * log)


def ks_distance(values: Array, cdf: Callable[[Array], Array]) -> float:
    """The Kolmogorov-Smirnov distance of a sample from a distribution function."""
    values = np.sort(values)
    expected, steps = cdf(values), np.arange(len(values) + 1) / len(values)
    return float(max((steps[1:] - expected).max(), (expected - steps[:-1]).max()))


def ks_between(first: Array, second: Array) -> float:
    """The Kolmogorov-Smirnov distance of two samples."""
    points = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def uniform_cdf(low: float = 0.0, high: float = 1.0) -> Callable[[Array], Array]:
    return lambda values: np.clip((values - low) / (high - low), 0.0, 1.0)


def assert_frequencies(chosen: Array, expected: list[float]) -> None:
    """`chosen` holds category numbers; each category is as frequent as expected, and there are no others."""
    counts = np.bincount(chosen.ravel(), minlength=len(expected)) / chosen.size
    assert len(counts) == len(expected)
    for category, p in enumerate(expected):
        assert abs(counts[category] - p) <= bernstein(p, chosen.size, len(expected)), (category, counts[category], p)


def until(condition: Callable[[], object]) -> bool:
    """Wait for something, for two minutes: a busy machine takes ten times as long as an idle one."""
    end = time.monotonic() + 120
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return bool(condition())
