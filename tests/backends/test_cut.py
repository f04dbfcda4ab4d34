"""A window that keeps its scale is copied (kernels/numba/cut.py): any width, side, layout and padding, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga

pytest.importorskip("numba")

LAYOUTS = ("planar", "interleaved", "ragged", "strided")
WIDTHS = (1, 2, 15, 16, 17, 31, 33, 48, 70)


def source(layout: str, channels: int, height: int, width: int) -> Tensor | ga.Ragged:
    generator = torch.Generator().manual_seed(width)
    images = torch.randint(0, 256, (4, channels, height, 2 * width), dtype=torch.uint8, generator=generator)
    if layout == "strided":  # every other column
        return images[..., ::2]
    images = images[..., :width].contiguous()
    if layout == "interleaved":
        return images.contiguous(memory_format=torch.channels_last)
    return ga.Ragged.from_images(list(images)) if layout == "ragged" else images


def dense(images: Tensor | ga.Ragged) -> Tensor:
    return images if isinstance(images, Tensor) else torch.stack(list(images))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("width", WIDTHS)
def test_flips_and_whole_images(layout: str, channels: int, width: int) -> None:
    images = source(layout, channels, 5, width)
    expected = dense(images)
    for steps, flipped in (
        ([ga.CenterCrop((5, width))], expected),
        ([ga.RandomHorizontalFlip(1.0)], expected.flip(-1)),
        ([ga.RandomVerticalFlip(1.0)], expected.flip(-2)),
        ([ga.RandomHorizontalFlip(1.0), ga.RandomVerticalFlip(1.0)], expected.flip(-1, -2)),
    ):
        size = [] if isinstance(images, Tensor) else [ga.CenterCrop((5, width))]
        assert torch.equal(ga.Augment([*size, *steps], backend="numba", seed=0)(images), flipped)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("width", WIDTHS)
def test_padded_crops(layout: str, mode: str, width: int) -> None:
    images = source(layout, 3, 20, width)
    pad = {"reflect": min(7, width - 1), "symmetric": min(7, width)}.get(mode, 7)
    crop = ga.RandomCrop((20, width), padding=[pad, 5], fill=9, padding_mode=mode)
    augment = ga.Augment([crop, ga.RandomHorizontalFlip(0.5)], seed=5, backend="numba")
    index = torch.arange(4)
    result = augment(images, index=index)
    twin = ga.Augment([crop, ga.RandomHorizontalFlip(0.5)], seed=5, backend="torch")
    assert torch.equal(result, twin(images, index=index))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_window_larger_than_the_image(layout: str) -> None:
    images = source(layout, 3, 6, 20)
    result = ga.Augment([ga.CenterCrop((11, 37))], backend="numba")(images)
    assert torch.equal(result, v2.CenterCrop((11, 37))(dense(images)))
