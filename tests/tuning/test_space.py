"""What is searched: the lists of the default settings, and errors of wrong spaces."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

import gpuaug as ga
from gpuaug.tuning.space import BASELINE, DEFAULT, label, mixed_share, search

BASE = [ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True), ga.Normalize([0.5] * 3, [0.5] * 3)]


def test_the_default_order_is_baseline_policy_mixing() -> None:
    assert list(search(BASE, None, 10).stages) == [BASELINE, "randaugment", "mixing"]
    assert list(search(BASE, None, None).stages) == [BASELINE, "randaugment"], "mixes need the number of classes"
    assert len(list(search(BASE, None, 10).points())) == 1 + 6 + 4


def test_settings_are_added_to_a_list() -> None:
    found = search(BASE, None, 10)
    assert found.argument({}) == BASE
    steps: Any = found.argument({"num_ops": 1, "magnitude": 5, "mix_p": 0.4, "mix_alpha": 0.2})
    assert steps[1] == ga.RandAugment(1, 5, interpolation="bilinear")
    mixes = [ga.MixUp(alpha=0.2, num_classes=10), ga.CutMix(alpha=0.2, num_classes=10)]
    assert steps[-1] == ga.RandomChoice(mixes, p=[0.2, 0.2])
    assert mixed_share(steps) == pytest.approx(0.4)
    images, targets = ga.Augment(steps, seed=0)(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
    assert (images.dtype, targets.shape) == (torch.float32, (4, 10))
    assert search(BASE, {"a": {"mix_p": [0]}}, 10).argument({"mix_p": 0}) == BASE


def test_a_recipe_may_be_a_function_or_left_out() -> None:
    space = {"strength": {"strength": [0.5, 1.0]}}
    found = search(partial(ga.recipes.standard, 32, num_classes=10), space, None)
    assert found.argument({"strength": 0.5}) == ga.recipes.standard(32, num_classes=10, strength=0.5)
    assert mixed_share(found.argument({})) == pytest.approx(0.8)
    assert search(None, space, None).argument({"strength": 0.5}) == {"strength": 0.5}
    assert mixed_share({"mix_p": 0.7}) == 0.7


def test_addresses_are_no_part_of_a_search() -> None:
    """Each process has others, and would not go on with its own storage."""

    def found() -> dict[str, object]:
        return search([partial(lambda images: images)], {"a": {"num_ops": [1]}}, None).words()

    assert found() == found()
    assert "lambda" in str(found()["recipe"])


def test_labels_are_sorted() -> None:
    assert label({}) == "baseline"
    assert label({"num_ops": 2, "magnitude": 9}) == "magnitude=9, num_ops=2"


@pytest.mark.parametrize(
    ("recipe", "space", "classes", "words"),
    [
        (BASE, {}, None, "`space` must be a mapping from stages to grids"),
        (BASE, {"magnitude": [5, 9]}, None, "`space` must be a mapping from stages to grids, .* got 'magnitude'"),
        (BASE, {"a": {}}, None, r"`space\['a'\]` must be a grid with at least one setting"),
        (BASE, {"a": {"magnitude": []}}, None, r"`space\['a'\]\['magnitude'\]` must be a list of at least one"),
        (BASE, {"a": {"magnitude": 9}}, None, "must be a list of at least one value, got 9"),
        (BASE, {"a": {"magnitude": [9, 9.0]}}, None, "values of which no two are equal"),
        (None, {"a": {"x": [1, "1"]}}, None, "values of which no two are equal"),
        (BASE, {"a": {"magnitude": [(1, 2)]}}, None, "a list of numbers, strings, .* Give such a value a name"),
        (BASE, {"a": {"magnitude": [float("nan")]}}, None, "a list of numbers, strings"),
        (BASE, {"a": {"seed": [1]}}, None, "names of settings, .* Seeds are the argument `seeds`"),
        (BASE, {"a": {"magnitud": [1]}}, None, "Did you mean `magnitude`?"),
        (BASE, {"a": {"strength": [1]}}, None, "let `recipe` be a function of them"),
        (BASE, {"a": {"magnitude": [99]}}, None, r"`magnitude` must be an integer in \[0, 30\], got 99"),
        (BASE, {"a": {"mix_p": [0.5]}}, None, "`num_classes` must be given, since mix_p and mix_alpha need it"),
        (BASE, {"a": {"mix_p": [1.5]}}, 10, r"`mix_p` must be a probability in \[0, 1\], got 1.5"),
        (BASE, {"baseline": {"magnitude": [1]}}, None, 'without values for "baseline"'),
        ([*BASE[:1], ga.RandAugment(), *BASE[1:]], None, None, "`recipe` must be a list without RandAugment"),
        (ga.recipes.standard(32, num_classes=9), {"a": {"mix_p": [0.5]}}, 9, "`recipe` must be a list without Mix"),
        (lambda magnitude=9: 3, None, None, "a function that returns a list of transforms, got 3"),
        (lambda: BASE, {"a": {"magnitude": [1]}}, None, "a function that takes magnitude=1, got TypeError"),
        (lambda magnitude: BASE, {"a": {"magnitude": [1]}}, None, "a function with defaults, got TypeError"),
        ("standard", None, None, "`recipe` must be a list of transforms, a function"),
        (BASE, None, 1, "`num_classes` must be an integer of at least 2, got 1"),
    ],
)
def test_wrong_spaces(recipe: Any, space: Any, classes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        search(recipe, space, classes)


def test_the_documented_default_is_small() -> None:
    assert {stage: {name: len(values) for name, values in grid.items()} for stage, grid in DEFAULT.items()} == {
        "randaugment": {"num_ops": 2, "magnitude": 3},
        "mixing": {"mix_p": 2, "mix_alpha": 2},
    }
