"""Has something become slower? `pytest benchmarks` on one core: host overhead, each pass, each recipe.

Nothing here can fail but by an error: timings are compared, by eye, with the run before.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.demo.photographs import photographs

from .cases import HOST, RECIPES, full, square
from .peers.v2 import steps
from .regimes.scaling import PASSES, parts

ROUNDS, BATCH = 15, 64
STEPS = [(recipe, name) for recipe, middle in PASSES.items() for name in ("draw", "crop + flip", *middle, "to floats")]


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    found = photographs()
    return [found[number % len(found)] for number in range(BATCH)]


@pytest.mark.parametrize("recipe", HOST)
def test_sample(benchmark: Any, images: list[Tensor], recipe: str) -> None:
    augment, batch, index = full(recipe), ga.Ragged.from_images(images), torch.arange(BATCH)
    benchmark.pedantic(lambda: augment.sample(batch, index=index), rounds=5 * ROUNDS, warmup_rounds=3)


@pytest.mark.parametrize("recipe", HOST)
def test_lower(benchmark: Any, images: list[Tensor], recipe: str) -> None:
    augment, batch = full(recipe), ga.Ragged.from_images(images)
    draw = augment.sample(batch, index=torch.arange(BATCH))

    def lower() -> Any:
        return augment.train_pipeline.lower(draw.params, draw.keys, draw.canvas, False, torch.contiguous_format)

    benchmark.pedantic(lower, rounds=5 * ROUNDS, warmup_rounds=3)


@pytest.mark.parametrize(("recipe", "upto"), STEPS, ids=lambda value: value.replace(" ", ""))
def test_pass(benchmark: Any, images: list[Tensor], recipe: str, upto: str) -> None:
    """Drawing alone, then rendering up to and with a step: the difference of two is what the step takes."""
    run = parts(PASSES[recipe], torch.stack(square(images)))[upto]
    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=2)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(benchmark: Any, images: list[Tensor], recipe: str) -> None:
    augment, batch = ga.Augment(steps(ga, recipe)), ga.Ragged.from_images(images)
    benchmark.pedantic(lambda: augment(batch), rounds=ROUNDS, warmup_rounds=2)
