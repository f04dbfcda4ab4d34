"""Conversions from Albumentations and Kornia: the pixels that the report promises, draws, and refusals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga
from tests.support.chance import FALSE_ALARM, hoeffding, ks_between
from tests.support.helpers import drawn
from tests.support.images import batch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    A = pytest.importorskip("albumentations")
    K = pytest.importorskip("kornia.augmentation")

pytestmark = pytest.mark.usefixtures("one_thread")

MOST = {"exact": 0.51, "within one level": 1.001, "statistically equal": 255.0}  # floats are rounded to levels
BILINEAR, BICUBIC, NEAREST = 1, 2, 0

# transforms that draw nothing, and what the report says
OF_ALBUMENTATIONS: list[tuple[Callable[[], Any], str]] = [
    (lambda: A.HorizontalFlip(p=1), "exact"),
    (lambda: A.VerticalFlip(p=1), "exact"),
    (lambda: A.CenterCrop(30, 31), "statistically equal"),
    (lambda: A.Resize(31, 45, interpolation=NEAREST), "exact"),
    (lambda: A.Resize(31, 45), "within one level"),
    (lambda: A.Resize(101, 145, interpolation=BICUBIC), "statistically equal"),
    (lambda: A.SmallestMaxSize(40), "statistically equal"),
    (lambda: A.LongestMaxSize(71), "statistically equal"),
    (lambda: A.Pad((1, 2, 3, 4), fill=9), "exact"),
    (lambda: A.Pad((1, 2, 3, 4), border_mode=1), "exact"),
    (lambda: A.Pad((1, 2, 3, 4), border_mode=2), "exact"),
    (lambda: A.Pad((1, 2, 3, 4), border_mode=4), "exact"),
    (lambda: A.ToGray(p=1), "within one level"),
    (lambda: A.InvertImg(p=1), "exact"),
    (lambda: A.Posterize((3, 3), p=1), "exact"),
    (lambda: A.Solarize((0.3, 0.3), p=1), "exact"),
    (lambda: A.Equalize("pil", p=1), "exact"),
    (lambda: A.AutoContrast(method="pil", p=1), "within one level"),
    (lambda: A.ColorJitter((1.3, 1.3), (1, 1), (1, 1), (0, 0), p=1), "exact"),
    (lambda: A.ColorJitter((1, 1), (1.3, 1.3), (1, 1), (0, 0), p=1), "within one level"),
    (lambda: A.ColorJitter((1, 1), (1, 1), (0.3, 0.3), (0, 0), p=1), "statistically equal"),
    (lambda: A.ColorJitter((1, 1), (1, 1), (1, 1), (0.2, 0.2), p=1), "statistically equal"),
    (lambda: A.GaussianBlur((5, 5), (1.0, 1.0), p=1), "within one level"),
    (lambda: A.Rotate((20, 20), interpolation=NEAREST, p=1), "statistically equal"),
    (lambda: A.Rotate((20, 20), p=1), "statistically equal"),
    (lambda: A.ToTensorV2(), "exact"),
    (lambda: A.NoOp(p=1), "exact"),
    (lambda: A.Sequential([A.InvertImg(p=1), A.ToGray(p=1)], p=1), "within one level"),
]
OF_KORNIA: list[tuple[Callable[[], Any], str]] = [
    (lambda: K.RandomHorizontalFlip(p=1.0), "exact"),
    (lambda: K.RandomVerticalFlip(p=1.0), "exact"),
    (lambda: K.CenterCrop((30, 30)), "statistically equal"),
    (lambda: K.Resize((31, 45), align_corners=False), "within one level"),
    (lambda: K.Resize(31, align_corners=False), "within one level"),
    (lambda: K.Resize((31, 45)), "statistically equal"),
    (lambda: K.RandomRotation((20.0, 20.0), p=1.0), "within one level"),
    (lambda: K.RandomAffine((20.0, 20.0), scale=(1.3, 1.3), p=1.0), "within one level"),
    (lambda: K.RandomAffine((20.0, 20.0), shear=(10.0, 10.0), p=1.0), "within one level"),
    (lambda: K.RandomAffine((20.0, 20.0), shear=(10.0, 10.0, 5.0, 5.0), p=1.0), "within one level"),
    (lambda: K.RandomGrayscale(p=1.0), "statistically equal"),
    (lambda: K.RandomInvert(p=1.0), "exact"),
    (lambda: K.RandomPosterize((3.0, 3.0), p=1.0), "exact"),
    (lambda: K.RandomSolarize((0.3, 0.3), (0.0, 0.0), p=1.0), "exact"),
    (lambda: K.RandomEqualize(p=1.0), "exact"),
    (lambda: K.RandomAutoContrast(p=1.0), "within one level"),
    (lambda: K.RandomSharpness((0.8, 0.8), p=1.0), "within one level"),
    (lambda: K.RandomSharpness((1.8, 1.8), p=1.0), "statistically equal"),
    (lambda: K.ColorJitter(brightness=(1.3, 1.3), p=1.0), "within one level"),
    (lambda: K.ColorJitter(contrast=(1.3, 1.3), p=1.0), "within one level"),
    (lambda: K.ColorJitter(saturation=(1.3, 1.3), p=1.0), "within one level"),
    (lambda: K.ColorJitter(hue=(0.1, 0.1), p=1.0), "within one level"),
    (lambda: K.ColorJitter((1.3, 1.3), (1.3, 1.3), (1.3, 1.3), p=1.0), "statistically equal"),
    (lambda: K.RandomHue((0.1, 0.1)), "within one level"),
    (lambda: K.RandomGaussianBlur((5, 7), (1.0, 1.0), p=1.0), "within one level"),
    (lambda: K.RandomMotionBlur(5, (20.0, 20.0), (0.5, 0.5), p=1.0), "within one level"),
]


def distance(steps: Any, image: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest distance on the part that both have, from the top left corner."""
    result = ga.Augment(list(steps), backend="torch", exact=True)(image[None])[0].float()
    height, width = (min(result.shape[axis], expected.shape[axis]) for axis in (1, 2))
    assert max(abs(result.shape[axis] - expected.shape[axis]) for axis in (1, 2)) <= 1
    return float((result[:, :height, :width] - expected[:, :height, :width]).abs().max())


@pytest.mark.parametrize(("build", "fidelity"), OF_ALBUMENTATIONS, ids=range(len(OF_ALBUMENTATIONS)))
def test_albumentations_pixels(build: Callable[[], Any], fidelity: str) -> None:
    found = ga.from_albumentations(build())
    assert found.report.fidelity == fidelity
    for image in batch("photo", 2, 3, (60, 71)):
        levels = A.Compose([build()])(image=image.permute(1, 2, 0).contiguous().numpy())["image"]
        expected = levels if isinstance(levels, torch.Tensor) else torch.as_tensor(np.array(levels))
        expected = expected if expected.shape[0] == 3 else expected.permute(2, 0, 1)
        assert distance(found or [ga.Identity()], image, expected.float()) <= MOST[fidelity]


@pytest.mark.parametrize(("build", "fidelity"), OF_KORNIA, ids=range(len(OF_KORNIA)))
def test_kornia_pixels(build: Callable[[], Any], fidelity: str) -> None:
    found = ga.from_kornia(build())
    assert found.report.fidelity == fidelity
    for image in batch("photo", 2, 3, (60, 71)):
        with torch.random.fork_rng():
            expected = build()(image[None].float() / 255)[0] * 255
        assert distance(found, image, expected) <= MOST[fidelity]


def test_floats_are_theirs() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = batch("photo", 1, 3, (60, 71))
    theirs = K.Normalize(torch.tensor(mean), torch.tensor(std))(image.float() / 255)
    for found in (ga.from_kornia(K.Normalize(mean, std)), ga.from_albumentations(A.Normalize(mean, std))):
        assert torch.allclose(ga.Augment(found)(image), theirs, atol=2e-6)
    assert ga.from_albumentations(A.ToFloat(255)) == [ga.ToDtype(torch.float32, scale=True)]


# ---- draws -----------------------------------------------------------------------------------------------------------


def test_crops_are_distributed_as_theirs() -> None:
    """The boxes of RandomResizedCrop: heights and widths, against draws of the other library's own."""
    size, count = (60, 71), 4_000
    ours = drawn(ga.from_albumentations(A.RandomResizedCrop((9, 9))), 50_000, height=size[0], width=size[1])[0]["box"]
    seen: list[Any] = []
    pixels = np.zeros((*size, 3), np.uint8)
    pipe = A.Compose([A.RandomResizedCrop((9, 9))], save_applied_params=True, seed=0)
    for _ in range(count):
        given = pipe(image=pixels)["applied_transforms"][0][1]
        seen.append((given["scale"][0], given["ratio"][0]))
    area, ratio = np.array(seen).T
    bound = hoeffding(count, 12) + hoeffding(len(ours), 12)
    assert ks_between(ours[:, 2] * ours[:, 3] / (size[0] * size[1]), area) <= bound
    assert ks_between(ours[:, 3] / ours[:, 2], ratio) <= bound


def test_kornias_crops_have_the_shares_of_ours() -> None:
    size, count = (60, 71), 20_000
    found = ga.from_kornia(K.RandomResizedCrop((9, 9), align_corners=False))
    ours = drawn(found, 50_000, height=size[0], width=size[1])[0]["box"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        corners = K.RandomResizedCrop((9, 9)).forward_parameters(torch.Size((count, 3, *size)))["src"]
    width, height = (corners[:, 2] - corners[:, 0] + 1).numpy().T
    bound = hoeffding(count, 12) + hoeffding(len(ours), 12)
    # Kornia rounds sides down, so its area is a little less; a pixel is 1 / 60 of a side
    area = height * width / (size[0] * size[1])
    assert ks_between(ours[:, 2] * ours[:, 3] / (size[0] * size[1]), area) <= bound + 0.05


def test_one_of_chooses_by_the_shares_of_its_chances() -> None:
    transform = A.OneOf([A.InvertImg(p=0.6), A.ToGray(p=0.2), A.NoOp(p=0.2)], p=0.7)
    (choice,) = ga.from_albumentations(transform)
    assert choice.p == pytest.approx((0.7 * 0.6, 0.7 * 0.2))
    assert [child.p for child in choice.transforms] == [1.0, 1.0]
    count = 6_000
    image = np.zeros((2, 2, 3), np.uint8)
    pipe = A.Compose([transform], seed=0)
    inverted = np.mean([pipe(image=image)["image"][0, 0, 0] == 255 for _ in range(count)])
    assert abs(inverted - 0.42) <= np.sqrt(np.log(2 / FALSE_ALARM) / (2 * count))


def test_chances_are_kept() -> None:
    for step, gate in (
        (ga.from_albumentations(A.ToGray(p=0.3))[0], 0.3),
        (ga.from_albumentations(A.Rotate(p=0.3))[0], 0.3),
        (ga.from_kornia(K.RandomMotionBlur(3, 5.0, 0.5, p=0.3))[0], 0.3),
        (ga.from_kornia(K.ColorJitter(0.1, p=0.3))[0], 0.3),
        (ga.from_albumentations(A.Sequential([A.InvertImg(p=1)], p=0.3))[0], 0.3),
    ):
        assert step.p == gate
    (turn,) = ga.from_albumentations(A.Rotate((-30, 20), p=1))
    assert turn == ga.RandomRotation((-30, 20), "bilinear", fill=0)
    assert ga.from_kornia(K.RandomAffine(15.0, p=1.0))[0].degrees == (-15.0, 15.0)


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_everything_that_cannot_be_converted_is_named_at_once() -> None:
    compose = A.Compose(
        [A.HorizontalFlip(), A.RandomBrightnessContrast(), A.Resize(9, 9, interpolation=3), A.Posterize((2, 4)), A.D4()]
    )
    with pytest.raises(ValueError) as error:
        ga.from_albumentations(compose)
    text = str(error.value)
    assert text.startswith(
        "from_albumentations: `transform` must be of steps that both Albumentations and gpuaug have, got [1] RandomB"
    )
    for part in ("use gpuaug.ColorJitter", "[2] Resize: interpolation=3", "[3] Posterize: num_bits=(2, 4) is a range"):
        assert part in text, part
    assert "[4] D4: gpuaug has no such transform; leave it in the worker" in text
    sequence = K.AugmentationSequential(K.ColorJiggle(0.1), K.RandomInvert(same_on_batch=True), K.RandomPosterize(3))
    with pytest.raises(ValueError) as error:
        ga.from_kornia(sequence)
    text = str(error.value)
    for part in ("[0] ColorJiggle: gpuaug has no such", "[1] RandomInvert: same_on_batch=True", "[2] RandomPosterize"):
        assert part in text, part


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: ga.from_albumentations(A.Equalize(p=1)), "mode='cv' is not supported, only 'pil'"),
        (lambda: ga.from_albumentations(A.Resize(9, 9, p=0.5)), "p=0.5 is not supported, only 1"),
        (lambda: ga.from_albumentations(A.GaussNoise(p=1)), "per_channel=False is not supported"),
        (lambda: ga.from_albumentations(A.GaussianBlur(p=1)), "a size of 0 depends on sigma"),
        (lambda: ga.from_albumentations(A.Compose([A.NoOp()], p=0.5)), "must be a Compose with p=1, got p=0.5"),
        (lambda: ga.from_albumentations(A.Normalize(normalization="image")), "normalization='image'"),
        (
            lambda: ga.from_albumentations(A.Rotate(fill_mask=255)),
            "Rotate: fill_mask=255.0 is not supported; leave it out",
        ),
        (lambda: ga.from_albumentations(A.Pad(3, fill_mask=255)), "Pad: fill_mask=255.0 is not supported"),
        (lambda: ga.from_albumentations(A.Resize(9, 9, mask_interpolation=1)), "mask_interpolation=1 is not supported"),
        (lambda: ga.from_albumentations(A.Rotate(rotate_method="ellipse")), "rotate_method='ellipse' is not supported"),
        (lambda: ga.from_albumentations([torch.nn.ReLU()]), "ReLU is not one of Albumentations's transforms"),
        (lambda: ga.from_kornia(K.RandomSolarize(p=1.0)), "additions are not supported"),
        (lambda: ga.from_kornia(K.RandomAffine(9.0, translate=(0.1, 0.1))), "translate is not supported"),
        (lambda: ga.from_kornia(K.Resize((9, 9), antialias=True)), "only antialias=False"),
        (
            lambda: ga.from_kornia(K.RandomResizedCrop((9, 9), align_corners=False, cropping_mode="resample")),
            "cropping_mode='resample' is supported with align_corners=True only",
        ),
        (lambda: ga.from_kornia(K.RandomCrop((9, 9), p=0.5)), "p_batch=0.5 is not supported"),
        (lambda: ga.from_kornia(K.ImageSequential(K.RandomInvert(), random_apply=True)), "without random_apply"),
        (lambda: ga.from_kornia(torch.nn.Sequential(torch.nn.ReLU())), "ReLU is not one of Kornia's transforms"),
    ],
)
def test_what_has_no_counterpart_is_refused(build: Callable[[], Any], why: str) -> None:
    with pytest.raises(ValueError) as error:
        build()
    assert why in str(error.value)
