"""Recipes are lists that run, on every backend and at every strength, and differ more from evaluation the stronger."""

from __future__ import annotations

import inspect
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga
from benchmarks.report import sheets
from gpuaug.data.decode import decode_file
from gpuaug.demo.photographs import photographs
from gpuaug.engine.evaluation import evaluation
from gpuaug.recipes import NAMES, at_strength
from gpuaug.recipes.strength import RULES, table
from gpuaug.transforms.base import Kind
from gpuaug.transforms.container import RandomOrder
from tests.support.backends import runnable
from tests.support.helpers import BACKENDS, call

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"
VIEWS = ("simclr", "byol", "dino")
SIZES = {"cifar": 32, "digits": 28}
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in NAMES},
    "medical, flips": ("medical", {"flips": True}),
    "satellite, 5 bands": ("satellite", {"bands": 5}),
    "satellite, 1 band": ("satellite", {"bands": 1}),
    "torchvision, all": (
        "torchvision_reference",
        {"auto_augment_policy": "ta_wide", "random_erase_prob": 0.1, "mixup_alpha": 0.2, "cutmix_alpha": 1.0},
    ),
    "torchvision, augmix": ("torchvision_reference", {"auto_augment_policy": "augmix", "hflip_prob": 0.0}),
    "torchvision, ra": ("torchvision_reference", {"auto_augment_policy": "ra", "interpolation": "bicubic"}),
    "standard, strong": ("standard", {"num_ops": 3, "magnitude": 12}),
}
every = pytest.mark.parametrize("variant", VARIANTS)


def lists(variant: str, size: int | None = None, **options: Any) -> list[list[Any]]:
    """The lists of a recipe: one, or one for each view (of DINO's small ones, one)."""
    name, own = VARIANTS[variant]
    found = NAMES[name](size or SIZES.get(name, 64), **own | options)
    return found[:3] if name in VIEWS else [found]


def batch(variant: str) -> Any:
    """Real photographs, for the recipes of images that are small already as such."""
    images = photographs()
    bands = {"satellite, 5 bands": 5, "satellite, 1 band": 1}.get(variant)
    if variant == "cifar":
        return torch.stack([v2.functional.resize(image, [32, 32]) for image in images])
    if bands is not None:
        images = [image.repeat(2, 1, 1)[:bands] for image in images]
    return ga.Ragged.from_images(images)


# ---- lists that run --------------------------------------------------------------------------------------------------


@every
def test_backends_give_the_same_bits(variant: str) -> None:
    name = VARIANTS[variant][0]
    options = {} if name in VIEWS else {"num_classes": 10}
    for steps in lists(variant, **options):
        results = [call(ga.Augment(steps, seed=1, backend=backend), batch(variant)) for backend in BACKENDS]
        assert results[0].dtype == torch.float32
        assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("name", NAMES)
def test_triton_gives_the_same_bits(name: str) -> None:
    runnable("triton")
    images = torch.stack([v2.functional.resize(image, [32, 32]) for image in photographs()[:3]])
    for steps in lists(name, size=32)[: 1 if name != "byol" else 2]:
        results = [ga.Augment(steps, seed=1, backend=backend)(images) for backend in ("torch", "triton")]
        assert torch.equal(*results)


@every
@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_weaker_lists_run(variant: str, strength: float) -> None:
    options = {} if VARIANTS[variant][0] in VIEWS else {"num_classes": 10}
    for steps, full in zip(lists(variant, strength=strength, **options), lists(variant, **options), strict=True):
        assert len(steps) == len(full), "every step keeps its place"
        assert call(ga.Augment(steps, seed=1, backend="torch"), batch(variant)).isfinite().all()


@every
def test_without_classes_there_is_no_mixing(variant: str) -> None:
    name, own = VARIANTS[variant]
    for steps in lists(variant):
        assert all(step.kind is not Kind.MIX for step in steps)
    if name not in VIEWS:
        mixed = NAMES[name](64, **own, num_classes=10)[-1]
        wants = name != "torchvision_reference" or own.get("cutmix_alpha")
        assert (mixed.kind is Kind.MIX) == bool(wants)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_when_why_and_from_where(name: str) -> None:
    function = NAMES[name]
    text, parameters = inspect.getdoc(function) or "", inspect.signature(function).parameters
    assert len(text.split("\n\n")[1].split()) > 20, "why"
    assert re.search(r"arXiv|references/|ICDAR", text), "from where"
    assert "strength" in parameters
    assert ("num_classes" in parameters) != (name in VIEWS)
    assert next(iter(parameters)) == "size"
    assert all(value.kind is value.KEYWORD_ONLY for key, value in parameters.items() if key not in ("size", "bands"))


def test_a_list_can_be_printed_changed_and_composed() -> None:
    steps = ga.recipes.standard(64)
    assert eval(repr(steps), vars(ga) | {"torch": torch}) == steps
    augment = ga.Augment([*steps[:-2], ga.GaussianBlur(5), *steps[-2:]], backend="torch")
    assert augment(batch("standard")).shape == (6, 3, 64, 64)


# ---- strength --------------------------------------------------------------------------------------------------------


@every
def test_strength_0_is_the_evaluation_list(variant: str) -> None:
    for steps, full in zip(lists(variant, strength=0), lists(variant), strict=True):
        assert steps == evaluation(full)
        images, augment = batch(variant), ga.Augment(full, seed=1, backend="torch")
        assert torch.equal(ga.Augment(steps, seed=1, backend="torch")(images), augment.eval()(images))


def distances(steps_at: Any, images: Any, full: list[Any]) -> list[float]:
    """Mean distance of pixels to the evaluation result at each strength, over five looks at each photograph."""
    expected: Tensor = ga.Augment(full, seed=4, backend=BACKENDS[-1]).eval()(images)
    found = []
    for strength in STRENGTHS:
        augment, total = ga.Augment(steps_at(strength), seed=4, backend=BACKENDS[-1]), 0.0
        for epoch in range(5):
            augment.set_epoch(epoch)
            total += float((augment(images) - expected).abs().mean())
        found.append(total / 5)
    return found


@every
def test_the_distance_to_evaluation_grows_with_strength(variant: str) -> None:
    for view, full in enumerate(lists(variant)):
        found = distances(lambda strength, n=view: lists(variant, strength=strength)[n], batch(variant), full)
        assert found[0] == 0
        assert all(lower < higher for lower, higher in itertools.pairwise(found)), found


def test_the_test_of_growth_can_fail() -> None:
    """With a strength that does nothing between 0 and 1."""
    full = ga.recipes.standard(64)
    found = distances(lambda strength: full if strength else evaluation(full), batch("standard"), full)
    assert found[1:] == [found[1]] * 4


# every transform that has a rule, at full strength and at a half
HALVES: list[tuple[Any, Any]] = [
    (ga.RandomResizedCrop(9, (0.2, 1.0), (0.25, 4.0)), ga.RandomResizedCrop(9, (0.6, 1.0), (0.5, 2.0))),
    (ga.RandomCrop(9, padding=5), ga.RandomCrop(9, padding=2)),
    (ga.RandomCrop(9, padding=(4, 4)), ga.RandomCrop(9, padding=(2, 2))),
    (ga.RandomCrop(9), ga.RandomCrop(9)),
    (ga.RandomRotation(30), ga.RandomRotation(15)),
    (ga.RandomRotation((-10, 30)), ga.RandomRotation((-5, 15))),
    (ga.RandomRotation((90, 90)), ga.RandomRotation((90, 90))),
    (
        ga.RandomAffine(30, (0.2, 0.2), (0.8, 1.2), (-8, 8, 4, 4)),
        ga.RandomAffine(15, (0.1, 0.1), (0.9, 1.1), (-4, 4, 2, 2)),
    ),
    (ga.RandomAffine(30), ga.RandomAffine(15)),
    (ga.RandomPerspective(0.5, 0.8), ga.RandomPerspective(0.25, 0.4)),
    *((kind(p=0.5), kind(p=0.25)) for kind in (
        ga.RandomHorizontalFlip, ga.RandomVerticalFlip, ga.RandomGrayscale, ga.RandomInvert, ga.RandomAutocontrast,
        ga.RandomEqualize,
    )),
    (ga.MotionBlur(5, 30.0, 0.0), ga.MotionBlur(5, 30.0, 0.0, p=0.25)),
    (ga.RandomSolarize(128), ga.RandomSolarize(191.5, 0.25)),
    (ga.RandomPosterize(4), ga.RandomPosterize(6, 0.25)),
    (ga.RandomAdjustSharpness(2.0), ga.RandomAdjustSharpness(1.5, 0.25)),
    (ga.ColorJitter(0.4, (0.5, 1.5), None, 0.1), ga.ColorJitter(0.2, (0.75, 1.25), None, 0.05)),
    (ga.RandomPhotometricDistort(), ga.RandomPhotometricDistort(
        (0.9375, 1.0625), (0.75, 1.25), (0.75, 1.25), (-0.025, 0.025), 0.25)),
    (ga.GaussianBlur(3, (0.2, 2.0)), ga.GaussianBlur(3, (0.1, 1.0))),
    (ga.GaussianNoise(sigma=0.1), ga.GaussianNoise(sigma=0.05)),
    (ga.JPEG((20, 90)), ga.JPEG((60, 95))),
    (ga.RandAugment(3, 9), ga.RandAugment(3, 4)),
    *((step, ga.RandomApply([step], 0.5)) for step in (
        ga.TrivialAugmentWide(), ga.AutoAugment(), ga.AugMix(), ga.RandomChannelPermutation(),
        ga.TimmRandAugment(), ga.TimmAutoAugment(), ga.TimmAugMix(),
    )),
    (ga.ElasticTransform(40, 4), ga.ElasticTransform(20, 4)),
    (ga.ElasticTransform((40, 8)), ga.ElasticTransform((20, 4))),
    (ga.RandomErasing(0.5, (0.1, 0.2)), ga.RandomErasing(0.25, (0.05, 0.1))),
    (ga.MixUp(alpha=0.2, num_classes=3), ga.MixUp(alpha=0.1, num_classes=3)),
    (ga.CutMix(alpha=0.01, num_classes=3), ga.CutMix(alpha=0.01, num_classes=3)),
    (ga.RandomApply([ga.RandomInvert()], 0.8), ga.RandomApply([ga.RandomInvert(0.25)], 0.4)),
    (RandomOrder([ga.RandomInvert()]), RandomOrder([ga.RandomInvert(0.25)])),
    (ga.RandomChoice([ga.RandomInvert(), ga.Identity()]), ga.RandomChoice(
        [ga.RandomInvert(0.25), ga.Identity()], [0.25, 0.25])),
    (ga.RandomChoice([ga.Identity(), ga.Identity()], [3, 1]), ga.RandomChoice(
        [ga.Identity(), ga.Identity()], [0.375, 0.125])),
    (ga.RandomChoice([ga.RandomCrop(9, 2), ga.CenterCrop(9)], [0.5, 0.5]), ga.RandomChoice(
        [ga.RandomCrop(9, 1), ga.CenterCrop(9)], [0.5, 0.5])),
    *((step, step) for step in (
        ga.Resize(9), ga.CenterCrop(9), ga.Pad(2), ga.Grayscale(3), ga.RGB(), ga.Identity(), ga.ToDtype(torch.float32),
        ga.Normalize((0.5,), (0.5,)),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("full", "half"), HALVES, ids=lambda step: re.sub(r"\W+", " ", repr(step))[:40])
def test_half_the_strength(full: Any, half: Any) -> None:
    assert at_strength([full], 0.5) == [half]
    assert at_strength([full], 1.0) == [full]


def test_every_rule_is_tested() -> None:
    assert set(RULES) <= {type(full) for full, _ in HALVES}


def test_the_table_in_the_docs_is_the_code() -> None:
    assert table() in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_show_every_recipe(name: str) -> None:
    text = DOCS.read_text(encoding="utf-8")
    (picture,) = re.findall(rf"!\[[^]]+\]\((recipes/{name}\.jpg)\)", text)
    assert 10_000 < (DOCS.parent / picture).stat().st_size <= 150_000


@pytest.mark.parametrize("name", ["cifar", "dino"])
def test_a_picture_can_be_drawn_again(name: str, tmp_path: Path) -> None:
    sheets.draw(name, tmp_path / "sheet.jpg")
    drawn, kept = (decode_file(path).float() for path in (tmp_path / "sheet.jpg", DOCS.parent / f"recipes/{name}.jpg"))
    assert drawn.shape == kept.shape
    assert (drawn - kept).abs().mean() < 2, "python -m benchmarks.report.sheets draws it"


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "text"),
    [
        (lambda: ga.recipes.standard(64, strength=1.5), "recipes: `strength` must be a number in [0, 1], got 1.5"),
        (lambda: ga.recipes.cifar(strength="1"), "recipes: `strength` must be a number in [0, 1], got '1'"),  # type: ignore[arg-type]
        (lambda: ga.recipes.standard(0), "RandomResizedCrop: `size` must be an int or (height, width), in pixels"),
        (lambda: ga.recipes.standard(64, num_classes=0), "recipes: `num_classes` must be an integer of at least 1"),
        (lambda: ga.recipes.satellite(64, bands=0), "recipes: `bands` must be an integer of at least 1, got 0"),
        (lambda: ga.recipes.dino(local_views=-1), "recipes: `local_views` must be an integer of at least 0, got -1"),
        (
            lambda: ga.recipes.torchvision_reference(64, auto_augment_policy="rand"),
            "recipes: `auto_augment_policy` must be one of 'ra', 'ta_wide', 'augmix'",
        ),
        (
            lambda: ga.recipes.torchvision_reference(64, random_erase_prob=None),  # type: ignore[arg-type]
            "recipes: `random_erase_prob` must be a probability in [0, 1], got None",
        ),
        (
            lambda: ga.recipes.torchvision_reference(64, hflip_prob=-0.5),  # not silently no flip
            "recipes: `hflip_prob` must be a probability in [0, 1], got -0.5",
        ),
        (
            lambda: ga.recipes.torchvision_reference(64, mixup_alpha=-1),
            "recipes: `mixup_alpha` must be a number of at least 0, got -1",
        ),
        (
            lambda: at_strength([ga.RandomChoice([ga.RandomInvert()]), ga.Lambda(abs)], 0.5),
            "recipes: `transforms` must be of transforms that have a rule for strength (docs/recipes.md), got Lambda(",
        ),
        (lambda: at_strength(["flip"], 0.5), "recipes: `transforms` must be of transforms that have a rule"),
    ],
)
def test_wrong_arguments(attempt: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        attempt()
    assert str(caught.value).startswith(text)
