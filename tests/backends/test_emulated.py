"""The PTX that Triton's compiler makes of the kernels, run by an emulator, gives the twin's bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gpuaug as ga
from benchmarks.evidence.compiled import emulate
from tests.support.bits import difference
from tests.support.images import batch, ragged
from tests.support.oracle import FLOATS, NORMALIZE

pytestmark = pytest.mark.usefixtures("one_thread")

HALF = ga.ToDtype(torch.bfloat16, scale=True)
MIXES = ga.RandomChoice([ga.MixUp(num_classes=4, mode="elem"), ga.CutMix(num_classes=4, mode="elem")])
COLORS = [ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.RandomGrayscale(0.3), ga.RandomChannelPermutation()]
CASES: dict[str, list[Any]] = {
    "crop": [ga.RandomResizedCrop((24, 33)), ga.RandomHorizontalFlip(), FLOATS, NORMALIZE],
    "crop bicubic": [ga.RandomResizedCrop((16, 16), interpolation="bicubic"), ga.RandomVerticalFlip()],
    "crop plain": [ga.Resize((20, 31), antialias=False), HALF],
    "crop nearest": [ga.RandomResizedCrop((17, 32), interpolation="nearest-exact"), HALF],
    "pad": [ga.RandomHorizontalFlip(), ga.RandomCrop(32, 4, True, padding_mode="reflect"), FLOATS],
    "randaugment": [ga.RandomResizedCrop(32), ga.RandAugment(), HALF, NORMALIZE, ga.RandomErasing(0.5), MIXES],
    "bilinear": [ga.RandAugment(1, 20, interpolation="bilinear", fill=(9, 99, 199)), FLOATS],
    "bicubic": [ga.RandomAffine(30, shear=10, interpolation="bicubic", fill=50), ga.ToDtype(torch.float16, scale=True)],
    "perspective": [ga.RandomPerspective(p=1.0, interpolation="bilinear"), ga.RandomPerspective(p=1.0)],
    "colours": [*COLORS, FLOATS],
    "tones": [ga.RandomAutocontrast(1.0), ga.RandomEqualize(1.0), ga.RandomAdjustSharpness(2.0, 1.0)],
    "noise": [ga.GaussianNoise(), FLOATS, ga.RandomErasing(1.0, value="random"), ga.MixUp(num_classes=4)],
    "filters": [ga.GaussianBlur(5), ga.MotionBlur(3, 40.0, 0.5), ga.JPEG((20, 90))],
    "elastic": [ga.ElasticTransform(40, 1), ga.ElasticTransform((30, 9), (1, 2), "bicubic", 9)],
    "augmix twice": [ga.AugMix(mixture_width=1, chain_depth=1), ga.AugMix(mixture_width=1, chain_depth=1)],
    "augmix": [ga.AugMix(mixture_width=2, chain_depth=1), FLOATS],
}


# on sm_90 other instructions store tiles, count levels and clamp; these lists have most of them
ARCHES = [(80, name) for name in CASES] + [(90, name) for name in ("crop bicubic", "randaugment", "tones", "filters")]


@pytest.mark.parametrize(("arch", "name"), ARCHES)
def test_compiled_kernels_equal_the_twin(arch: int, name: str) -> None:
    images, labels = batch("photo", 4, 3, (33, 47)), torch.tensor([1, 0, 3, 2])
    result, mixed, counts = emulate(CASES[name], images, labels, arch)
    twin = ga.Augment(CASES[name], seed=0, backend="torch")
    draw = twin.sample(images, index=torch.arange(3, 7))
    expected = twin.render(images, draw, labels)
    assert difference(result, expected[0]) == ""
    assert mixed is not None
    assert torch.equal(mixed, expected[1])
    assert all(count.instructions.total() > 0 for _, count in counts)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("channels", [1, 5])
def test_other_layouts(channels: int, memory_format: torch.memory_format) -> None:
    images = batch("noise", 3, channels, (19, 21)).contiguous(memory_format=torch.channels_last)
    steps = [ga.RandomResizedCrop(16), ga.RandomAutocontrast(1.0), ga.RandomRotation(30), HALF]
    result, _, _ = emulate(steps, images, memory_format=memory_format)
    twin = ga.Augment(steps, seed=0, backend="torch", memory_format=memory_format)
    assert difference(result, twin.render(images, twin.sample(images, index=torch.arange(3, 6)))) == ""


def test_ragged() -> None:
    images = ragged("photo", 3, [(33, 47), (48, 36), (7, 60)])
    steps = [ga.RandomResizedCrop(24), ga.RandomSolarize(99), FLOATS]
    result, _, _ = emulate(steps, images)
    twin = ga.Augment(steps, seed=0, backend="torch")
    assert difference(result, twin.render(images, twin.sample(images, index=torch.arange(3, 6)))) == ""
