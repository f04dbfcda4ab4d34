"""Each rule of `advise` finds its fault, says why and what to do, and finds nothing where nothing is wrong."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision.datasets import FakeData
from torchvision.models import ResNet50_Weights
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.advice.entry import DOMAINS, RULES
from gpuaug.advice.facts import Facts, Finding, steps_of
from gpuaug.advice.names import are_characters, colours, flipped_left_right, flipped_up_down, turned
from gpuaug.advice.training import clean_share

NORMALIZE = ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FLOATS = [ga.ToDtype(torch.float32, scale=True), NORMALIZE]
CROP, FLIP = ga.RandomResizedCrop(224), ga.RandomHorizontalFlip()
DIGITS = [str(digit) for digit in range(10)]


def ids(*args: Any, **kwargs: Any) -> list[str]:
    return [finding.id for finding in ga.advise(*args, **kwargs)]


# (id, what is wrong, the nearest thing that is right), each as arguments of `advise`
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "random-evaluation",
        {"augment": ga.Augment([CROP], [ga.Resize(256), ga.RandomCrop(224), *FLOATS], seed=0)},
        {"augment": ga.Augment([CROP], [ga.Resize(256), ga.CenterCrop(224), *FLOATS], seed=0)},
    ),
    (
        "random-evaluation",
        {"augment": ga.Augment([CROP], [ga.Resize((224, 224)), ga.GaussianNoise()], seed=0)},
        {"augment": ga.Augment([CROP], [ga.Resize((224, 224)), ga.RandomHorizontalFlip(1.0)], seed=0)},
    ),
    (
        "flip-changes-class",
        {"augment": [CROP, FLIP], "classes": ["turn left", "TurnRight", "stop"]},
        {"augment": [CROP, FLIP], "classes": ["turn left", "stop"]},
    ),
    (
        "flip-changes-class",
        {"augment": [CROP, ga.RandomVerticalFlip()], "classes": ["thumb_up", "thumb_down"]},
        {"augment": [CROP, FLIP], "classes": ["thumb_up", "thumb_down"]},
    ),
    (
        "flip-changes-class",
        {"augment": [CROP, FLIP], "classes": DIGITS},
        {"augment": [CROP, FLIP], "classes": DIGITS, "domain": "natural"},  # numbers of folders
    ),
    (
        "flip-changes-class",
        {"augment": [ga.RandomChoice([FLIP, ga.RandomInvert()])], "domain": "documents"},
        {"augment": [ga.RandomChoice([FLIP, ga.RandomInvert()], p=[0.0, 1.0])], "domain": "documents"},
    ),
    (
        "rotation-changes-class",
        {"augment": [CROP, ga.RandomRotation(180)], "classes": ["six", "nine"]},
        {"augment": [CROP, ga.RandomRotation(30)], "classes": ["six", "nine"]},
    ),
    (
        "rotation-changes-class",
        {"augment": [CROP, ga.TrivialAugmentWide()], "classes": ["arrow_left", "arrow_up"]},
        {"augment": [CROP, ga.RandAugment()], "classes": ["arrow_left", "arrow_up"]},
    ),
    (
        "rotation-changes-class",
        {"augment": [CROP, ga.RandomAffine((0, 90))], "domain": "documents"},
        {"augment": [CROP, ga.RandomAffine((-5, 5))], "domain": "documents"},
    ),
    (
        "hue-is-the-class",
        {"augment": [CROP, ga.ColorJitter(hue=0.3)], "classes": ["red apple", "green apple"]},
        {"augment": [CROP, ga.ColorJitter(hue=0.05)], "classes": ["red apple", "green apple"]},
    ),
    (
        "hue-is-the-class",
        {"augment": [CROP, ga.RandomGrayscale(0.2)], "classes": ["red", "blue"]},
        {"augment": [CROP, ga.RandomGrayscale(0.2)], "classes": ["red fox", "blue whale"]},
    ),
    (
        "hue-is-the-class",
        {"augment": [CROP, ga.ColorJitter(hue=(-0.5, 0.0))], "domain": "medical"},
        {"augment": [CROP, ga.ColorJitter(hue=(-0.5, 0.0))], "domain": "natural"},
    ),
    (
        "crop-loses-object",
        {"augment": [ga.RandomResizedCrop(224, scale=(0.01, 1))]},
        {"augment": [CROP]},
    ),
    (
        "crop-loses-object",
        {"augment": [CROP], "domain": "medical"},
        {"augment": [ga.RandomResizedCrop(224, scale=(0.5, 1))], "domain": "medical"},
    ),
    (
        "erasing-loses-object",
        {"augment": [CROP, *FLOATS, ga.RandomErasing(scale=(0.02, 0.8))]},
        {"augment": [CROP, *FLOATS, ga.RandomErasing()]},
    ),
    (
        "normalised-twice",
        {"augment": [CROP, *FLOATS, NORMALIZE]},
        {"augment": [CROP, *FLOATS]},
    ),
    (
        "normalize-missing",
        {"augment": [CROP, FLOATS[0]], "weights": ResNet50_Weights.DEFAULT},
        {"augment": [CROP, *FLOATS], "weights": ResNet50_Weights.DEFAULT},
    ),
    (
        "normalize-differs",
        {"augment": [CROP, FLOATS[0], ga.Normalize([0.5] * 3, [0.5] * 3)], "weights": ResNet50_Weights.DEFAULT},
        {"augment": [CROP, FLOATS[0], ga.Normalize([0.48] * 1 + [0.46, 0.41], [0.23, 0.22, 0.23])],
         "weights": ResNet50_Weights.DEFAULT},
    ),
    (
        "size-differs",
        {"augment": [ga.RandomResizedCrop(96), *FLOATS], "weights": ResNet50_Weights.DEFAULT},
        {"augment": [ga.RandomResizedCrop(176), *FLOATS], "weights": ResNet50_Weights.DEFAULT},
    ),
    (
        "size-differs",
        {"augment": ga.Augment([CROP], [ga.Resize(160), ga.CenterCrop(160)], seed=0)},
        {"augment": ga.Augment([ga.RandomResizedCrop(176)], [ga.Resize(232), ga.CenterCrop(224)], seed=0)},
    ),
    (
        "nothing-stays-clean",
        {"augment": [CROP, *FLOATS, ga.MixUp(num_classes=9)]},
        {"augment": [CROP, *FLOATS, ga.MixUp(alpha=0.2, num_classes=9)]},
    ),
    (
        "nothing-stays-clean",
        {"augment": [CROP, *FLOATS, ga.RandomChoice([ga.MixUp(num_classes=9), ga.CutMix(num_classes=9)])]},
        {"augment": [CROP, *FLOATS, ga.RandomChoice([ga.MixUp(num_classes=9), ga.CutMix(num_classes=9)], [0.4, 0.4])]},
    ),
    (
        "labels-smoothed-twice",
        {"augment": [CROP, *FLOATS, ga.CutMix(alpha=0.9, num_classes=9)], "label_smoothing": 0.1},
        {"augment": [CROP, *FLOATS, ga.CutMix(alpha=0.9, num_classes=9)], "label_smoothing": 0.05},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "wrong", "right"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_a_rule_finds_its_fault_and_nothing_beside_it(name: str, wrong: dict[str, Any], right: dict[str, Any]) -> None:
    assert name in ids(**wrong)
    assert name not in ids(**right)


def test_every_rule_has_a_case() -> None:
    """The table of docs/advice.md and the cases name the same rules."""
    page = (Path(__file__).parents[2] / "docs" / "advice.md").read_text(encoding="utf-8")
    tested = {name for name, _, _ in CASES} | {name for name, *_ in LOADERS}
    assert tested == set(re.findall(r"^\| `([\w-]+)`", page, re.M))


RECIPES = [
    name
    for name in ga.recipes.__all__
    if inspect.isfunction(getattr(ga.recipes, name))
    and "size" in inspect.signature(getattr(ga.recipes, name)).parameters
]


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_is_found_in_a_recipe(name: str) -> None:
    """Of its own domain, of photographs, and where nothing is known."""
    recipe = getattr(ga.recipes, name)
    more = {"num_classes": 10} if "num_classes" in inspect.signature(recipe).parameters else {}
    made = recipe(64, **more)
    views = made if isinstance(made[0], list) else [made]
    for domain in (None, name if name in DOMAINS else "natural"):
        assert [ids(view, domain=domain) for view in views] == [[]] * len(views)


# ---- loaders ---------------------------------------------------------------------------------------------------------


def photographs(transform: Callable[..., Any] | None = None) -> FakeData:
    return FakeData(8, (3, 32, 32), 3, transform)


MIXED = [ga.RandomResizedCrop(32), *FLOATS, ga.MixUp(alpha=0.2, num_classes=3)]
NOISY = v2.Compose([v2.PILToTensor(), v2.RandomApply([v2.RandomHorizontalFlip()])])
PLAIN = v2.Compose([v2.PILToTensor(), v2.Resize((40, 40))])


def seed_alike(worker: int) -> None:
    torch.manual_seed(0)


class Sent:
    """A loader whose batches go to a device that is not here."""

    def __init__(self, loader: Any, device: str) -> None:
        self.loader, self.device = loader, device


LOADERS: list[tuple[str, Any, Any]] = [
    ("no-workers", DataLoader(photographs()), DataLoader(photographs(), num_workers=2)),
    ("no-workers", DataLoader(photographs()), DataLoader(TensorDataset(torch.zeros(8, 3, 4, 4)))),
    ("not-pinned", Sent(DataLoader(photographs()), "cuda:0"), Sent(DataLoader(photographs()), "cpu")),
    ("not-pinned", Sent(DataLoader(photographs()), "cuda"), Sent(DataLoader(photographs(), pin_memory=True), "cuda")),
    ("not-shuffled", DataLoader(photographs(), 4), DataLoader(photographs(), 4, shuffle=True)),
    ("augmented-twice", DataLoader(photographs(NOISY)), DataLoader(photographs(PLAIN))),
    ("augmented-twice", DataLoader(Subset(photographs(NOISY), [0, 1])), DataLoader(Subset(photographs(PLAIN), [0]))),
    (
        "workers-seeded-alike",
        DataLoader(photographs(NOISY), worker_init_fn=seed_alike),
        DataLoader(photographs(PLAIN), worker_init_fn=seed_alike),
    ),
]


@pytest.mark.parametrize(("name", "wrong", "right"), LOADERS)
def test_a_loader_is_looked_at(name: str, wrong: Any, right: Any) -> None:
    assert name in ids(MIXED, loader=wrong)
    assert name not in ids(MIXED, loader=right)


def test_a_device_loader_is_its_loader() -> None:
    augment = ga.Augment(MIXED, seed=0)
    loader = ga.DeviceLoader(DataLoader(photographs(), 4), "cpu", augment)
    assert ids(augment, loader=loader) == ["no-workers", "not-shuffled"]


def test_names_of_the_data_set_are_used() -> None:
    data: Any = photographs()
    data.classes = ["left", "right"]
    loader = DataLoader(Subset(data, [0, 1, 2]), num_workers=1, shuffle=True)
    assert ids([CROP, FLIP], loader=loader) == ["flip-changes-class"]
    assert ids([CROP, FLIP], loader=loader, classes=["cat", "dog"]) == []


# ---- words -----------------------------------------------------------------------------------------------------------


def test_a_finding_is_one_sentence_and_the_list_prints_a_line_each() -> None:
    found = ga.advise([CROP, FLIP, ga.RandomRotation(180)], classes=["6", "9", "left", "right"])
    assert len(found) > 1
    for finding, line in zip(found, str(found).splitlines(), strict=True):
        assert line == f"{finding.id}: {finding.reason}; {finding.fix}."
        assert not finding.reason.endswith(".")
        assert "\n" not in line
    assert str(ga.advise([CROP, FLIP])) == "Nothing was found that is likely to be wrong."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"domain": "bananas"}, ["domain", "documents", "'bananas'"]),
        ({"classes": "left,right"}, ["classes", "list of names", "'left,right'"]),
        ({"classes": [1, 2]}, ["classes", "list of names"]),
        ({"weights": 3}, ["weights", "mean, std", "3"]),
        ({"label_smoothing": 2}, ["label_smoothing", "[0, 1]", "2"]),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], words: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="advise: ") as caught:
        ga.advise([CROP], **arguments)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("given", [ga.MultiView([[CROP], [CROP, FLIP]]), ga.recipes.simclr(224)])
def test_several_lists_are_refused(given: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^advise: `augment` must be .*, got (a MultiView|2 lists)\. Pass the list of one"
    ):
        ga.advise(given)
    assert ga.advise([[CROP], [FLIP]]) == ga.advise([CROP, FLIP])  # a list that is opened, as by Augment


def test_nothing_is_drawn_or_changed() -> None:
    augment = ga.Augment(MIXED, seed=5)
    images, labels = torch.zeros(4, 3, 40, 40, dtype=torch.uint8), torch.arange(4) % 3
    twin = ga.Augment(MIXED, seed=5)
    state = torch.get_rng_state()
    ga.advise(augment, loader=DataLoader(photographs(NOISY)), weights=ResNet50_Weights.DEFAULT, classes=["a", "b"])
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, augment(images, labels), twin(images, labels)))


def test_every_rule_accepts_every_step() -> None:
    """Lists that are odd: no step, steps of the user's own, images whose size depends on the draw."""
    steps: list[list[Any]] = [
        [ga.Identity()], [ga.Opaque(torch.nn.Identity())], [ga.RandomResize(20, 30), ga.PadToLargest()],
        [ga.RandomApply([ga.RandomRotation(20), ga.RandAugment()]), ga.AugMix()], [ga.AutoAugment("cifar10")],
        [ga.RandomPhotometricDistort(), ga.SanitizeBoundingBoxes()],
    ]  # fmt: skip
    for each in steps:
        facts = Facts(ga.Augment(each, seed=0), steps_of(each), steps_of(each), True, ("red", "blue", "left", "right"))
        assert all(isinstance(finding, Finding) for rule in RULES for finding in rule(facts))
        ga.advise(each, weights=ResNet50_Weights.DEFAULT, domain="documents")


# ---- what the rules read ---------------------------------------------------------------------------------------------


def test_pairs_of_names() -> None:
    assert flipped_left_right(["LeftHand", "right_hand", "foot"]) == [("LeftHand", "right_hand")]
    assert flipped_left_right(["b", "d", "c"]) == [("b", "d")]
    assert flipped_left_right(["<", ">"]) == [("<", ">")]
    assert flipped_left_right(["brightness", "blight", "leftover"]) == []
    assert flipped_up_down(["upper jaw", "lower jaw"]) == [("lower jaw", "upper jaw")]
    assert turned(["6", "9"], 180) == [("6", "9")]
    assert turned(["6", "9"], 100) == []
    assert turned(["left", "up"], 90) == [("left", "up")]
    assert turned(["left", "right"], 90) == []


def test_names_with_colours_and_characters() -> None:
    assert colours(["red apple", "green apple", "blue whale"]) == ["red apple", "green apple"]
    assert colours(["white wolf", "red fox"]) == []
    assert are_characters(list("ABCDE"))
    assert are_characters(["zero", "one", "two", "three", "four"])
    assert not are_characters(["A", "B"])
    assert not are_characters(["cat", "dog", "owl", "fox", "bee"])


def test_shares_of_containers() -> None:
    jitter, flip = ga.ColorJitter(0.1), ga.RandomHorizontalFlip(0.5)
    nested = ga.RandomApply([ga.RandomChoice([jitter, ga.RandomOrder([flip])], p=[0.25, 0.5])], p=0.5)
    assert [(step.transform, step.p) for step in steps_of([nested])] == [(jitter, 0.125), (flip, 0.125)]


def test_the_share_that_looks_like_one_image() -> None:
    """Uniform weights are within a tenth of an end for a fifth of the samples; the rest is by arithmetic."""

    def share(*steps: Any) -> tuple[float, float]:
        listed = steps_of(steps)
        return clean_share(Facts(ga.Augment([CROP], seed=0), listed, [], False))

    assert share() == (0.0, 1.0)
    assert share(ga.MixUp()) == pytest.approx((1.0, 0.2), abs=1e-3)
    assert share(ga.RandomChoice([ga.MixUp(), ga.CutMix()], p=[0.3, 0.2])) == pytest.approx((0.5, 0.6), abs=1e-3)
    assert share(ga.MixUp(alpha=0.2))[1] > 0.6
