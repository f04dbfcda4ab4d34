"""How many canvases a call allocates, beyond the batch it is given and the result.

Torch's allocations are seen by its profiler, numpy's by tracemalloc; both count the highest level during the call.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import gpuaug as ga
from tests.support.helpers import BACKENDS, CLASSES, labels, noise
from tests.support.memory import peak_of_numpy, peak_of_torch

COUNT, SIDE = 12, 96
CANVAS = COUNT * 3 * SIDE * SIDE  # bytes of a uint8 canvas of the batch
FLOATS = ga.ToDtype(torch.float16, scale=True)
COLOUR = [ga.RandomResizedCrop(SIDE), ga.RandomHorizontalFlip(), ga.RandAugment(), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]
MIX = ga.CutMix(num_classes=CLASSES)

RECIPES: dict[str, list[Any]] = {
    "plain": [ga.RandomResizedCrop(SIDE), FLOATS],
    "colour": [*COLOUR, FLOATS],
    "filters": [ga.GaussianBlur(5), ga.RandomAffine(20, shear=5), ga.RandomAdjustSharpness(2), FLOATS],
    "mix": [*COLOUR, FLOATS, MIX],
    "augmix": [ga.RandomResizedCrop(SIDE), ga.AugMix(), FLOATS],
}

# Most uint8 canvases beyond input and result. The twin works in chunks, which the test makes small.
LIMITS: dict[str, dict[str, float]] = {
    "numba": {"plain": 0, "colour": 0, "filters": 0, "mix": 1, "augmix": 0},
    "torch": {"plain": 1, "colour": 1, "filters": 1, "mix": 1, "augmix": 1},
}
PROGRAM = 0.4  # canvases of this small size: tables, kernels and matrices
CHUNK = 1 << 14  # pixels, of the twin


def peak(augment: ga.Augment, count: int) -> int:
    """Highest level of a call on `count` images beyond input and result, in bytes."""
    images = noise(count, 3, SIDE, SIDE)
    # warm up; the results are held, and are more than a backend remembers to use again
    results = [augment(images, labels(count)) for _ in range(5 if augment.backend == "numba" else 1)]

    def run() -> None:
        results.append(augment(images, labels(count)))

    of_numpy = peak_of_numpy(run) if augment.backend == "numba" else 0  # the twin's canvases are torch's
    return peak_of_torch(run) + of_numpy - int(results[0][0].nbytes)


def canvases(augment: ga.Augment) -> float:
    """How many uint8 canvases of the batch a call needs: what twice the batch needs more, so without fixed scratch."""
    return (peak(augment, 2 * COUNT) - peak(augment, COUNT)) / CANVAS


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_canvases_beyond_input_and_result(
    backend: str, name: str, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    for module in ("common", "crop"):
        monkeypatch.setattr(importlib.import_module(f"gpuaug.kernels.torch.{module}"), "PIXELS_AT_ONCE", CHUNK)
    augment = ga.Augment(RECIPES[name], backend=backend)
    used = canvases(augment)
    record_property("canvases", round(used, 2))
    assert used <= LIMITS[backend][name] + PROGRAM


def test_the_measure_sees_canvases() -> None:
    held = []

    def hold(canvas: Tensor) -> Tensor:
        held.extend(canvas.clone() for _ in range(3))
        return canvas

    from torchvision.transforms import v2

    augment = ga.Augment([ga.Opaque(v2.Lambda(hold))], backend="torch")
    assert canvases(augment) >= 3
