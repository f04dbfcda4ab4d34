"""Masks, boxes and key points move as torchvision moves them, sample by sample, and the comparison can fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

import gpuaug as ga
from tests.support.images import ragged
from tests.support.oracle import on_ties
from tests.support.targets import (
    CLOSE,
    COUNT,
    SIZE,
    SIZES,
    boxes_of,
    drawn,
    larger,
    masks_of,
    moving_lists,
    plain_lists,
    points_of,
    replayed,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread")

MOVING, PLAIN = moving_lists(), plain_lists()


def same_mask(got: Tensor, theirs: Tensor, nearby: list[Tensor]) -> bool:
    """Equal, or on a tie between pixels equal to one of the neighbours."""
    fine = got == theirs
    for other in nearby:
        fine |= got == other
    return bool(fine.all())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64], ids=str)
@pytest.mark.parametrize("steps", MOVING)
def test_masks_equal_torchvisions(steps: list[Any], dtype: torch.dtype, backend: str) -> None:
    fill = 0 if larger(steps[-1]) else 77
    augment, images, draw = drawn(steps, backend, mask_fill=fill)
    masks = masks_of([SIZE] * COUNT, dtype)
    _, targets = augment.render(images, draw, {"masks": torch.stack(masks)})
    given = [tv_tensors.Mask(mask[None]) for mask in masks]

    def theirs() -> list[Tensor]:
        return [mask[0].as_subclass(Tensor) for mask in replayed(augment, draw, given, fill)]

    exact, near = theirs(), on_ties(theirs)
    assert targets["masks"].dtype == dtype
    for number, mask in enumerate(targets["masks"]):
        assert same_mask(mask, exact[number], [answers[number] for answers in near]), number


@pytest.mark.parametrize("format_", ["XYXY", "XYWH", "CXCYWH"])
@pytest.mark.parametrize("steps", PLAIN)
def test_boxes_equal_torchvisions(steps: list[Any], format_: str) -> None:
    augment, images, draw = drawn(steps)
    boxes = boxes_of([SIZE] * COUNT, format_=format_)
    result, targets = augment.render(images, draw, [{"boxes": each} for each in boxes])
    for got, expected in zip(targets, replayed(augment, draw, boxes), strict=True):
        assert type(got["boxes"]) is tv_tensors.BoundingBoxes
        assert got["boxes"].format == expected.format
        assert got["boxes"].canvas_size == expected.canvas_size == tuple(result.shape[-2:])
        torch.testing.assert_close(got["boxes"].as_subclass(Tensor), expected.as_subclass(Tensor), **CLOSE)


@pytest.mark.parametrize("steps", PLAIN)
def test_key_points_equal_torchvisions(steps: list[Any]) -> None:
    augment, images, draw = drawn(steps)
    points = points_of([SIZE] * COUNT)
    _, targets = augment.render(images, draw, [{"keypoints": each} for each in points])
    for got, expected in zip(targets, replayed(augment, draw, points), strict=True):
        assert type(got["keypoints"]) is tv_tensors.KeyPoints
        torch.testing.assert_close(got["keypoints"].as_subclass(Tensor), expected.as_subclass(Tensor), **CLOSE)


@pytest.mark.parametrize("steps", [case for case in PLAIN if case.values[0][-1].kind == "crop"])
def test_ragged_masks_and_boxes_equal_torchvisions(steps: list[Any], backend: str) -> None:
    steps = [*steps, ga.Resize((30, 31))]
    images = ragged("photo", 3, SIZES)
    augment = ga.Augment(steps, backend=backend, exact=True, seed=0)
    draw = augment.sample(images, index=torch.arange(len(SIZES)))
    masks, boxes = masks_of(SIZES, torch.int32), boxes_of(SIZES)
    _, targets = augment.render(images, draw, [{"masks": m, "boxes": b} for m, b in zip(masks, boxes, strict=True)])
    expected = replayed(augment, draw, [tv_tensors.Mask(mask[None]) for mask in masks])
    corners = replayed(augment, draw, boxes)
    for got, mask, box in zip(targets, expected, corners, strict=True):
        assert torch.equal(got["masks"], mask[0].as_subclass(Tensor))
        torch.testing.assert_close(got["boxes"].as_subclass(Tensor), box.as_subclass(Tensor), **CLOSE)
