"""Putting back what a model found: images in which it found nothing, and masks of very many pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import gpuaug as ga

SIZE = (44, 60)
IMAGES = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)


def test_images_without_masks() -> None:
    draw = ga.Augment([ga.Resize((60, 70))], seed=0).sample(IMAGES)
    rows = [{"masks": torch.ones(count, 60, 70), "boxes": torch.zeros(count, 4)} for count in (0, 2)]
    assert [row["masks"].shape for row in ga.invert(draw, rows)] == [(0, *SIZE), (2, *SIZE)]


def test_an_image_in_which_nothing_is_found() -> None:
    def finder(batch: Tensor) -> list[dict[str, Tensor]]:
        """Two objects in the second image of each forward pass, and none in the first; masks as of Mask R-CNN."""
        return [
            {"boxes": torch.ones(count, 4), "masks": torch.ones(count, 1, *SIZE), "scores": torch.ones(count)}
            for count in (0, 2)
        ]

    floats = [ga.ToDtype(torch.float32, scale=True)]
    found: Any = ga.TTA(finder, "flips", after=floats, merge="join", max_images=2).predict(IMAGES)
    assert [len(each["boxes"]) for each in found] == [0, 4]
    assert found[0]["masks"].shape == (0, 1, *SIZE)
    assert found[0]["views"].tolist() == []


def test_a_mask_of_more_pixels_than_float32_counts() -> None:
    images = torch.zeros(1, 1, 64, 520, dtype=torch.uint8)
    draw = ga.Augment([ga.Resize((32767, 520))], seed=0).sample(images)
    columns = (torch.arange(520) % 251).to(torch.uint8)
    mask = ga.invert(draw, {"masks": columns.expand(1, 32767, 520)})["masks"]
    assert torch.equal(mask, columns.expand(1, 64, 520))
