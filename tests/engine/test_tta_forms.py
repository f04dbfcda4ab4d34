"""What TTA takes from models and as images: the forms that its docstring names, and one sentence for others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import gpuaug as ga
from tests.support.helpers import noise

FLOATS = [ga.ToDtype(torch.float32, scale=True)]


def classes(batch: Tensor) -> Tensor:
    return batch.mean((2, 3))


@pytest.mark.parametrize(
    "form",
    [
        lambda found: {"out": found},
        lambda found: {"logits": found, "loss": None},
        lambda found: SimpleNamespace(logits=found),
    ],
    ids=["out", "logits of a mapping", "logits of an object"],
)
def test_models_that_return_more_than_the_predictions(form: Any) -> None:
    right = ga.TTA(classes, after=FLOATS, backend="torch").predict(noise(3))
    found = ga.TTA(lambda batch: form(classes(batch)), after=FLOATS, backend="torch").predict(noise(3))
    assert torch.equal(found, right)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({"left": noise(2), "right": noise(2)}, "a batch of images, or Ragged, got a mapping of several. Predict for"),
        (noise(2).float(), "uint8 (B, C, H, W), clips"),
        (noise(2)[0], "uint8 (B, C, H, W), clips"),
        (noise(2)[:0], "at least one image"),
        (None, "uint8 (B, C, H, W), clips"),
    ],
)
def test_images_of_another_form_are_refused_in_its_own_name(images: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        ga.TTA(classes, after=FLOATS, backend="torch").predict(images)
    assert str(caught.value).startswith(f"TTA: `images` must be {said}")


def test_a_size_whose_zooms_are_too_large_is_refused_in_its_own_name() -> None:
    for size in (30000, 10**400):
        with pytest.raises(ValueError, match=r"^TTA: `size` must be an integer in \[1, 25205\], got "):
            ga.TTA(classes, "resized crops", size=size)
    ga.TTA(classes, "resized crops", size=25205)
