"""`augment.explain` says in words what the pixels show."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from tests.support.helpers import noise

FLOATS = ga.ToDtype(torch.float32, scale=True)
SIZE = r"(\d+) × (\d+)"


def numbers(pattern: str, line: str) -> list[int]:
    found = re.search(pattern, line)
    assert found, line
    return list(map(int, found.groups()))


def lines(augment: ga.Augment, draw: ga.Draw, sample: int) -> list[str]:
    return augment.explain(draw, sample).splitlines()


def test_the_words_of_a_resized_crop_and_a_flip_make_the_same_pixels() -> None:
    images = noise(8, height=60, width=80)
    augment = ga.Augment([ga.RandomResizedCrop(32), ga.RandomHorizontalFlip()], seed=3, backend="torch", exact=True)
    draw = augment.sample(images)
    result, flips = augment.render(images, draw), 0
    for sample, image in enumerate(images):
        head, crop, flip = lines(augment, draw, sample)
        assert head == f"Sample {sample} of 8, 60 × 80 pixels, training list:"
        pattern = rf"(\d+)% of the image, {SIZE} pixels at \((\d+), (\d+)\), resized to 32 × 32$"
        share, height, width, top, left = numbers(pattern, crop)
        assert abs(share - 100 * height * width / (60 * 80)) <= 0.5
        expected = F.resized_crop(image, top, left, height, width, [32, 32], antialias=True)
        flips += flip == "RandomHorizontalFlip: left and right mirrored"
        expected = expected if flip.endswith("not applied") else F.horizontal_flip(expected)
        assert torch.equal(result[sample], expected)
        assert not torch.equal(result[sample], F.horizontal_flip(expected))
    assert 0 < flips < 8


def test_the_words_of_a_cut_with_padding_make_the_same_pixels() -> None:
    images = noise(8, height=40, width=48)
    augment = ga.Augment([ga.RandomCrop(36, padding=8)], seed=1, backend="torch")
    draw = augment.sample(images)
    result, padded = augment.render(images, draw), 0
    for sample, image in enumerate(images):
        _, line = lines(augment, draw, sample)
        padded += "padded" in line
        pattern = rf"36 × 36 pixels {'from' if 'padded' in line else 'at'} \((-?\d+), (-?\d+)\)"
        top, left = numbers(pattern, line)
        assert torch.equal(result[sample], F.crop(F.pad(image, [99]), top + 99, left + 99, 36, 36))
        assert ("padded" in line) == (min(top, left) < 0 or top + 36 > 40 or left + 36 > 48)
    assert 0 < padded < 8


def test_the_words_of_a_mix_are_its_weights() -> None:
    images = torch.arange(0, 240, 30, dtype=torch.uint8).reshape(8, 1, 1, 1).expand(8, 3, 16, 16).contiguous()
    mixes = [ga.MixUp(num_classes=8, mode="elem"), ga.CutMix(num_classes=8, mode="elem")]
    augment = ga.Augment([FLOATS, ga.RandomChoice(mixes, p=[0.4, 0.4])], seed=0, backend="torch")
    draw = augment.sample(images)
    result, labels = augment.render(images, draw, torch.arange(8))
    seen = set()
    for sample in range(8):
        _, _, chosen, *words = lines(augment, draw, sample)
        kind = chosen.removeprefix("RandomChoice: ")
        seen.add(kind)
        if kind == "none of them":
            assert not words
            assert labels[sample, sample] == 1
            continue
        own, partner = labels[sample, sample], int(re.findall(r"sample (\d+)", words[0])[0])
        assert labels[sample, partner] == pytest.approx(1 - own)
        if kind == "MixUp":
            assert words == [f"    MixUp: {own:.2f} of it, {1 - own:.2f} of sample {partner}"]
            assert torch.allclose(result[sample] * 255, own * 30.0 * sample + (1 - own) * 30 * partner, atol=1)
        else:
            height, width, top, left = numbers(rf"{SIZE} pixels at \((\d+), (\d+)\) from", words[0])
            assert words[0].endswith(f"{own:.2f} of it stays")
            box = result[sample, :, top : top + height, left : left + width]
            assert torch.allclose(box * 255, torch.tensor(30.0 * partner))
            assert 1 - box[0].numel() / 256 == pytest.approx(float(own))
    assert seen == {"MixUp", "CutMix", "none of them"}


def test_policies_and_containers_name_what_ran() -> None:
    jitter = ga.RandomApply([ga.ColorJitter(0.4), ga.RandomGrayscale(p=0.5)], p=0.5)
    order = ga.RandomOrder([ga.RandomInvert(p=1), ga.GaussianBlur(3)])
    augment = ga.Augment([ga.RandAugment(), jitter, order, ga.AugMix()], seed=0, backend="torch")
    draw = augment.sample(noise(16, height=32, width=32))
    text = [augment.explain(draw, sample) for sample in range(16)]
    every = "\n".join(text)
    assert re.search(r"^RandAugment: .*Rotate -?9 degrees", every, re.M)
    assert re.search(r"^RandAugment: .*Color ×(1\.27|0\.73)", every, re.M)
    assert "°" not in every
    assert " px" not in every
    assert {"RandomInvert, GaussianBlur", "GaussianBlur, RandomInvert"} == set(
        re.findall(r"^RandomOrder: (.*)$", every, re.M)
    )
    for sample, said in enumerate(text):
        applied = draw.params[1]["applied"][sample]
        assert ("RandomApply: not applied" in said) != applied
        assert ("\n    ColorJitter: brightness ×" in said) == applied
        grey = "    RandomGrayscale: " + ("grey" if draw.params[1]["1"]["applied"][sample] else "not applied")
        assert (grey in said) == applied
        chains = re.findall(r"(0\.\d\d|1\.00) of", said.partition("AugMix: ")[2])
        assert np.allclose(sum(map(float, chains)), 1, atol=0.03)
        assert len(chains) == 4


def test_steps_of_other_libraries_evaluation_and_sizes() -> None:
    images = noise(2, height=50, width=40)
    augment = ga.Augment([ga.Resize(20), ga.Opaque(v2.RandomPosterize(4)), ga.CenterCrop(20), FLOATS], [ga.Resize(20)])
    assert augment.explain(augment.sample(images), 1).splitlines()[1:] == [
        "Resize: resized to 25 × 20",
        "Opaque: torchvision's RandomPosterize, which draws for the batch",
        "CenterCrop: 80% of it, 20 × 20 pixels at (2, 0)",
        "ToDtype: the same for every image",
    ]
    assert augment.eval().explain(augment.sample(images), 0) == (
        "Sample 0 of 2, 50 × 40 pixels, evaluation list:\nResize: resized to 25 × 20"
    )


def test_what_is_no_draw_is_refused() -> None:
    augment = ga.Augment([ga.RandomHorizontalFlip()], seed=0)
    scene = augment.sample({"front": noise(2), "back": noise(2)})
    with pytest.raises(ValueError, match=r"explain: `draw` must be .* Of a dict of draws pass one of its values"):
        augment.explain(scene, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"explain: `draw` must be what `Augment\.sample` returned, got 3"):
        augment.explain(3, 0)  # type: ignore[arg-type]
    for number in (-1, 2, 0.5):
        with pytest.raises(ValueError, match=r"explain: `sample` must be an integer in \[0, 1\]"):
            augment.explain(scene["front"], number)  # type: ignore[arg-type]
