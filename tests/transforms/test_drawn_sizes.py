"""Steps whose result has a size that depends on the draw: each image, mask and box as torchvision makes them."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.transforms.base import Canvas
from tests.support.images import batch, ragged
from tests.support.oracle import take
from tests.support.targets import CLOSE, COUNT, SIZE, SIZES, boxes_of, masks_of

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWN = [
    ga.RandomResize(16, 40),
    ga.RandomResize(30, 31, "nearest", antialias=False),
    ga.RandomShortestSize(24),
    ga.RandomShortestSize([20, 30, 44], max_size=50, interpolation="bicubic"),
    ga.ScaleJitter((40, 30)),
    ga.ScaleJitter((20, 50), (0.5, 0.6), antialias=False),
    ga.RandomZoomOut(),
    ga.RandomZoomOut(fill=(1, 2, 200), side_range=(1.5, 2), p=0.8),
]
END = (50, 60)


def theirs(op: Any, value: Any, sample: dict[str, Any], mask_fill: float = 0) -> Any:
    """An image or a target, by torchvision's functionals with the parameters that were drawn."""
    if isinstance(op, ga.RandomZoomOut):
        height, width = F.get_size(value)
        top, left = (-sample["start"]).tolist()
        bottom, right = sample["size"][0] - height - top, sample["size"][1] - width - left
        fill = list(op.fill) if isinstance(op.fill, tuple) else op.fill
        return F.pad(value, [left, top, int(right), int(bottom)], mask_fill if type(value) is tv_tensors.Mask else fill)
    return F.resize(value, sample["size"].tolist(), InterpolationMode(op.interpolation), antialias=op.antialias)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("op", DRAWN, ids=repr)
def test_images_masks_and_boxes_equal_torchvisions(op: Any, several: bool, backend: str) -> None:
    sizes = SIZES if several else [SIZE] * COUNT
    images: Any = ragged("photo", 3, sizes) if several else batch("photo", COUNT, 3, SIZE)
    for middle in ([], [ga.RandomInvert(1.0)]):  # with a step on pixels, the images of each size run by themselves
        augment = ga.Augment([op, *middle, ga.Resize(END)], seed=0, backend=backend, exact=True, mask_fill=9)
        draw = augment.sample(images, index=torch.arange(COUNT))
        masks, boxes = masks_of(sizes), boxes_of(sizes)
        rows = [{"masks": mask, "boxes": box} for mask, box in zip(masks, boxes, strict=True)]
        result, targets = augment.render(images, draw, rows)
        assert len({tuple(size) for size in draw.params[0]["size"].tolist()}) > 1 or op in (DRAWN[1], DRAWN[2])
        for number, image in enumerate(images):
            sample = take(draw.params[0], number)
            expected = theirs(op, image.contiguous(), sample)
            expected = F.invert(expected) if middle else expected
            assert torch.equal(result[number], F.resize(expected, list(END), antialias=True)), number
            mask = theirs(op, tv_tensors.Mask(masks[number][None]), sample, mask_fill=9)
            assert torch.equal(targets[number]["masks"], F.resize(mask, list(END))[0].as_subclass(Tensor)), number
            box = F.resize(theirs(op, boxes[number], sample), list(END))
            torch.testing.assert_close(targets[number]["boxes"].as_subclass(Tensor), box.as_subclass(Tensor), **CLOSE)


def torchvisions(op: Any, number: float, place: tuple[float, float], size: tuple[int, int]) -> list[int]:
    """The parameters that torchvision makes of the numbers it draws."""
    names = {"interpolation": op.interpolation} if hasattr(op, "interpolation") else {}
    kinds = {
        ga.RandomShortestSize: lambda: v2.RandomShortestSize(op.min_size, op.max_size, **names),
        ga.ScaleJitter: lambda: v2.ScaleJitter(op.target_size, op.scale_range, **names),
        ga.RandomZoomOut: lambda: v2.RandomZoomOut(0, op.side_range, p=1),
    }
    draws = [torch.tensor([number]), torch.tensor(place)]

    def integers(high: int, shape: Any) -> Tensor:
        return torch.tensor(int(number * high))

    with mock.patch("torch.rand", side_effect=draws), mock.patch("torch.randint", integers):
        params = kinds[type(op)]().make_params([torch.zeros(3, *size)])
    return params["padding"] if "padding" in params else list(params["size"])


@pytest.mark.parametrize("op", [op for op in DRAWN if not isinstance(op, ga.RandomResize)], ids=repr)
def test_sizes_are_those_that_torchvision_makes_of_the_same_numbers(op: Any) -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        size = tuple(random.integers(5, 90, 2).tolist())
        number, across, down = (random.integers(0, 2**24, 3) / 2**24).tolist()
        canvas = Canvas(np.array([size]), 3)
        params = op.parameters(np.array([[number, across, down]])[:, : op.draws], canvas)
        expected = torchvisions(op, number, (across, down), size)
        if isinstance(op, ga.RandomZoomOut):
            top, left = (-params["start"][0]).tolist()
            bottom, right = (params["size"][0] - size - (top, left)).tolist()
            assert [left, top, right, bottom] == pytest.approx(expected, abs=1)  # theirs in float32
        else:
            assert np.abs(params["size"][0] - np.maximum(expected, 1)).max() <= 1


def test_the_shorter_edge_is_uniform_below_its_end() -> None:
    op = ga.RandomResize(10, 14)
    images = torch.zeros(4000, 1, 10, 20, dtype=torch.uint8)
    draw = ga.Augment([op, ga.PadToLargest()], seed=0).sample(images)
    edges = draw.params[0]["size"].min(axis=1)
    assert np.bincount(edges, minlength=15)[10:].tolist() == pytest.approx([1000] * 4 + [0], abs=120)
    assert (draw.params[0]["size"][:, 1] == edges * 2).all()


def test_pad_to_largest_keeps_images_in_the_top_left_corner(backend: str) -> None:
    images = ragged("photo", 3, SIZES)
    augment = ga.Augment([ga.PadToLargest(32, fill=7)], seed=0, backend=backend)
    boxes = boxes_of(SIZES)
    result, targets = augment(images, [{"boxes": box} for box in boxes])
    assert result.shape == (COUNT, 3, 64, 96)
    for image, padded, row, box in zip(images, result, targets, boxes, strict=True):
        height, width = image.shape[-2:]
        assert torch.equal(padded[:, :height, :width], image)
        assert (padded[:, height:] == 7).all()
        assert (padded[:, :, width:] == 7).all()
        torch.testing.assert_close(row["boxes"].as_subclass(Tensor), box.as_subclass(Tensor), **CLOSE)
    assert augment.eval()(images).shape == result.shape


def test_masks_of_objects_are_padded_as_all_images_are() -> None:
    """Also where the largest image of the batch has no object."""
    images = ragged("photo", 3, SIZES)
    counts = [1, 2, 0, 0, 1, 3]
    assert max(SIZES) == SIZES[counts.index(0, 3)]
    rows = [{"masks": torch.ones(n, *size, dtype=torch.uint8)} for n, size in zip(counts, SIZES, strict=True)]
    result, targets = ga.Augment([ga.PadToLargest()], seed=0)(images, rows)
    for row, count, size in zip(targets, counts, SIZES, strict=True):
        assert row["masks"].shape == (count, *result.shape[-2:])
        assert int(row["masks"].sum()) == count * size[0] * size[1]


def test_a_list_must_end_with_one_size() -> None:
    for op in DRAWN:
        with pytest.raises(ValueError, match=f"one size after {type(op).__name__}, got none. Put RandomCrop"):
            ga.Augment([op, ga.RandomHorizontalFlip(), ga.Pad(3), ga.Resize(20)])
        with pytest.raises(ValueError, match="must be crops to one size"):
            ga.RandomChoice([op, ga.CenterCrop(20)])
    ga.Augment([ga.ScaleJitter((30, 30)), ga.RandomCrop(30, pad_if_needed=True), ga.RandomHorizontalFlip()])


def test_evaluation_has_to_be_given_but_for_zoom_out() -> None:
    images = torch.zeros(2, 3, 20, 30, dtype=torch.uint8)
    for op in (ga.RandomResize(10, 20), ga.RandomShortestSize(10), ga.ScaleJitter((20, 20))):
        with pytest.raises(ValueError, match=f"{type(op).__name__} of `train` changes the shape"):
            ga.Augment([op, ga.CenterCrop(20)]).eval()(images)
    assert ga.Augment([ga.RandomZoomOut(), ga.Resize((8, 9))]).eval()(images).shape == (2, 3, 8, 9)


BAD = [
    (ga.RandomResize, {"min_size": 0, "max_size": 5}, "min_size"),
    (ga.RandomResize, {"min_size": 5, "max_size": 5}, "max_size"),
    (ga.RandomResize, {"min_size": 5, "max_size": 9, "interpolation": "area"}, "interpolation"),
    (ga.RandomShortestSize, {"min_size": []}, "min_size"),
    (ga.RandomShortestSize, {"min_size": [8, 0]}, "min_size"),
    (ga.RandomShortestSize, {"min_size": 8, "max_size": 0}, "max_size"),
    (ga.ScaleJitter, {"target_size": 8}, "target_size"),
    (ga.ScaleJitter, {"target_size": (8, 8), "scale_range": (2, 1)}, "scale_range"),
    (ga.RandomZoomOut, {"side_range": (0.5, 2)}, "side_range"),
    (ga.RandomZoomOut, {"fill": -1}, "fill"),
    (ga.RandomZoomOut, {"p": 2}, "p"),
    (ga.PadToLargest, {"multiple": 0}, "multiple"),
]


@pytest.mark.parametrize(("op", "arguments", "name"), BAD)
def test_bad_arguments(op: Any, arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{op.__name__}: `{name}` must be "):
        op(**arguments)
