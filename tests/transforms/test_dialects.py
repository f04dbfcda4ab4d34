"""What a conversion's report says is true: pixels on tensors and on Pillow images, the worker's part, the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

import gpuaug as ga
from tests.support.images import batch

pytestmark = pytest.mark.usefixtures("one_thread")

MOST = {"exact": 0, "within one level": 1, "statistically equal": 255}
BICUBIC, NEAREST = InterpolationMode.BICUBIC, InterpolationMode.NEAREST

# transforms that draw nothing, and what the report says of them on tensors and on Pillow images
CASES: list[tuple[Any, str, str]] = [
    (v2.RandomHorizontalFlip(1.0), "exact", "exact"),
    (v2.Pad(3, fill=9), "exact", "exact"),
    (v2.CenterCrop(31), "exact", "exact"),
    (v2.Resize(31), "exact", "within one level"),
    (v2.Resize((31, 43), BICUBIC), "exact", "statistically equal"),
    (v2.Resize((91, 103), BICUBIC), "exact", "statistically equal"),
    (v2.Grayscale(3), "exact", "within one level"),
    (v2.RandomGrayscale(1.0), "exact", "within one level"),
    (v2.RandomInvert(1.0), "exact", "exact"),
    (v2.RandomPosterize(3, 1.0), "exact", "exact"),
    (v2.RandomSolarize(100, 1.0), "exact", "exact"),
    (v2.RandomEqualize(1.0), "exact", "exact"),
    (v2.RandomAutocontrast(1.0), "exact", "within one level"),
    (v2.RandomAdjustSharpness(1.7, 1.0), "exact", "exact"),
    (v2.ColorJitter(brightness=(1.4, 1.4)), "exact", "exact"),
    (v2.ColorJitter(contrast=(1.4, 1.4)), "within one level", "within one level"),
    (v2.ColorJitter(saturation=(0.3, 0.3)), "exact", "within one level"),
    (v2.ColorJitter((1.4, 1.4), (1.4, 1.4), (1.4, 1.4)), "statistically equal", "statistically equal"),
    (v2.ColorJitter(hue=(0.2, 0.2)), "statistically equal", "statistically equal"),
    (v2.GaussianBlur(5, (1.5, 1.5)), "within one level", "within one level"),
    (v2.RandomRotation((20, 20)), "statistically equal", "statistically equal"),
    (v2.RandomRotation((20, 20), InterpolationMode.BILINEAR), "within one level", "statistically equal"),
    (v2.RandomAffine((20, 20), shear=(5, 5), interpolation=NEAREST), "statistically equal", "statistically equal"),
    (v2.RandomApply([v2.RandomGrayscale(1.0), v2.RandomInvert(1.0)], 1.0), "exact", "within one level"),
    (v2.RandomErasing(0.0), "exact", "exact"),
]


def farthest(steps: list[Any], image: torch.Tensor, expected: Any) -> int:
    result = ga.Augment(steps, backend="torch", exact=True)(image[None])[0].int()
    return int((result - torch.as_tensor(expected).int()).abs().max())


@pytest.mark.parametrize(("transform", "on_tensors", "on_pillow"), CASES, ids=lambda value: str(value)[:50])
def test_the_fidelity_is_true(transform: Any, on_tensors: str, on_pillow: str) -> None:
    found = ga.from_torchvision(transform)
    assert [line.fidelity for line in found.report] == [on_tensors]
    pillow = ga.from_torchvision([transform, v2.ToImage()])
    assert [line.fidelity for line in pillow.report] == [on_pillow, "exact"]
    assert ga.from_torchvision(transform, pillow=True).report[0].fidelity == on_pillow
    for kind in ("photo", "noise"):
        for image in batch(kind, 3, 3, (60, 71)):
            assert farthest(found, image, transform(image)) <= MOST[on_tensors]
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            assert farthest(pillow, image, v2.functional.pil_to_tensor(transform(picture))) <= MOST[on_pillow]


def test_pillow_is_asked_for_by_what_makes_tensors() -> None:
    for maker in (v2.ToImage(), v2.PILToTensor()):
        first, _, last = ga.from_torchvision([v2.Resize(9), maker, v2.RandomGrayscale()]).report
        assert (first.fidelity, last.fidelity) == ("within one level", "exact")
    assert ga.from_torchvision([v2.Resize(9), v2.ToImage()], pillow=False).report.fidelity == "exact"
    assert ga.from_torchvision([v2.Resize(9)]).report.fidelity == "exact"
    with pytest.raises(ValueError, match="On Pillow images, before a step that makes tensors"):
        ga.from_torchvision(v2.Resize(9, NEAREST), pillow=True)


def test_a_conversion_is_the_list_of_before() -> None:
    found = ga.from_torchvision([v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    assert isinstance(found, list)
    assert found == [ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)]
    assert isinstance(found, ga.Conversion)
    assert found.worker == []
    assert ga.Augment(train=found)(batch("noise", 2, 3, (9, 9))).dtype == torch.float32
    assert [line.ours for line in found.report] == ["RandomHorizontalFlip()", "", str(found[1])]


WIDER = v2.RandomRotation(9, expand=True)  # which gpuaug does not have


@pytest.mark.parametrize("number", [1, 2])
def test_split_leaves_what_cannot_be_converted_in_the_worker(number: int) -> None:
    before: list[Any] = [v2.RandomInvert(1.0), WIDER, v2.RandomGrayscale(), WIDER]
    steps = [*before[: 2 * number], v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    found = ga.from_torchvision(v2.Compose(steps), split=True)
    assert found.worker == steps[: 2 * number]
    assert found == [ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)]
    assert [line.fidelity for line in found.report] == ["unsupported"] * 2 * number + ["exact", "exact"]
    assert found.report.fidelity == "unsupported"
    assert "the worker runs it" in str(found.report)


def test_split_leaves_nothing_without_need() -> None:
    found = ga.from_torchvision([v2.RandomInvert(), v2.RandomHorizontalFlip()], split=True)
    assert found == [ga.RandomInvert(), ga.RandomHorizontalFlip()]
    assert found.worker == []


def test_split_refuses_floats_in_the_worker() -> None:
    steps = [v2.ToDtype(torch.float32, scale=True), WIDER, v2.RandomHorizontalFlip()]
    with pytest.raises(ValueError, match=r"before those that make floats, got .*RandomRotation.* Put them"):
        ga.from_torchvision(steps, split=True)


def test_the_report_has_eighty_columns() -> None:
    compose = v2.Compose(
        [v2.RandomResizedCrop((224, 224), (0.123456789, 0.987654321)), v2.ColorJitter(0.4, 0.4, 0.4, 0.1), v2.ToImage()]
    )
    report = ga.from_torchvision(compose).report
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["step", "becomes", "pixels"]
    assert sum("exact" in line for line in lines) == 1
    assert "nothing to do" in lines[-1]
    assert repr(report) == "<Report of 3 steps: statistically equal>"
    assert len(report) == 3
    assert report[0] != report[1]
    assert report == ga.from_torchvision(compose).report


def test_random_interpolation_is_that_of_the_draw(backend: str) -> None:
    """Each sample equals the crop with the interpolation it drew, in batches of one size and of several."""
    images = batch("photo", 12, 3, (60, 71))
    random = ga.Augment([ga.RandomResizedCrop(24, interpolation="random"), ga.RandomInvert()], backend=backend, seed=3)
    draw = random.sample(images, index=torch.arange(12))
    result, cubic = random.render(images, draw), draw.params[0]["cubic"]
    assert 0 < cubic.sum() < 12
    for word, rows in (("bilinear", ~cubic), ("bicubic", cubic)):
        crop = ga.RandomResizedCrop(24, interpolation=word)
        plain = ga.Augment([crop, ga.RandomInvert()], backend=backend, seed=3)
        same = plain.sample(images, index=torch.arange(12))
        same.params[0]["box"], same.params[1] = draw.params[0]["box"], draw.params[1]
        expected = plain.render(images, same)
        assert torch.equal(result[rows], expected[rows])
        assert not torch.equal(result[~rows], expected[~rows])


def test_random_interpolation_is_fair_and_stands_first() -> None:
    crop = ga.RandomResizedCrop(4, interpolation="random")
    draws = ga.Augment([crop]).sample(torch.zeros(20_000, 3, 8, 8, dtype=torch.uint8)).params[0]
    assert abs(draws["cubic"].mean() - 0.5) < 0.03
    assert [type(step).__name__ for step in crop.for_evaluation() or ()] == ["Resize", "CenterCrop"]
    with pytest.raises(ValueError, match=r"with RandomResizedCrop.* before other steps, got RandomInvert before"):
        ga.Augment([ga.RandomInvert(), crop])
    with pytest.raises(ValueError, match="RandomChoice: `transforms` must be crops of one interpolation"):
        ga.RandomChoice([crop, ga.RandomResizedCrop(4)])
    masks = {"masks": torch.arange(2 * 81, dtype=torch.uint8).view(2, 9, 9)}
    _, moved = ga.Augment([crop])(torch.zeros(2, 3, 9, 9, dtype=torch.uint8), masks)
    assert moved["masks"].shape == (2, 4, 4)
    assert np.isin(moved["masks"], masks["masks"]).all()
