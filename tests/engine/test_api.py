"""Over the registry: every op is exported, documented, spelled as torchvision spells it, and can be rebuilt."""

from __future__ import annotations

import inspect

import pytest
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.transforms.base import Transform
from tests.support.ops import ROWS
from tests.support.ops.arguments import check_equality, check_pickle, check_repr
from tests.support.ops.behaviour import check_alone, check_batch_first
from tests.support.ops.surface import check_annotated, check_caption, check_documented, check_spelled, check_tables

OPS = pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)


@OPS
def test_exported(op: type[Transform]) -> None:
    assert op.__name__ in ga.__all__
    assert getattr(ga, op.__name__) is op


def test_all_is_what_it_says() -> None:
    assert len(set(ga.__all__)) == len(ga.__all__)
    assert all(hasattr(ga, name) for name in ga.__all__)
    assert {"Augment", "Ragged"} <= set(ga.__all__)
    assert len({op.__name__ for op in ga.OPS}) == len(ga.OPS)


@pytest.mark.parametrize("thing", [*ga.OPS, ga.Augment, ga.Ragged], ids=lambda thing: thing.__name__)
def test_documented(thing: type) -> None:
    check_documented(thing, deed=thing is not ga.Ragged)


@OPS
def test_spelled_as_torchvision(op: type[Transform]) -> None:
    check_spelled(op, ROWS[op])


@OPS
def test_annotated(op: type[Transform]) -> None:
    check_annotated(op, ROWS[op])


@OPS
def test_repr_rebuilds(op: type[Transform]) -> None:
    check_repr(op, ROWS[op])


@OPS
def test_pickles_and_copies(op: type[Transform]) -> None:
    check_pickle(op, ROWS[op])


@OPS
def test_equality_sees_the_arguments(op: type[Transform]) -> None:
    check_equality(op, ROWS[op])


@OPS
def test_runs_on_its_own(op: type[Transform]) -> None:
    check_alone(op, ROWS[op])


@OPS
def test_parameters_have_the_batch_first(op: type[Transform]) -> None:
    check_batch_first(op, ROWS[op])


@OPS
def test_the_preview_has_a_caption(op: type[Transform]) -> None:
    check_caption(op, ROWS[op])


@OPS
def test_the_tables_name_it(op: type[Transform]) -> None:
    check_tables(op, ROWS[op])


ENUMS = [
    (ga.Resize(9, v2.InterpolationMode.BICUBIC), ga.Resize(9, "bicubic")),
    (ga.RandAugment(interpolation=v2.InterpolationMode.BILINEAR), ga.RandAugment(interpolation="bilinear")),
    (ga.RandomRotation(9, v2.InterpolationMode.NEAREST), ga.RandomRotation(9)),
    (ga.AutoAugment(v2.AutoAugmentPolicy.CIFAR10), ga.AutoAugment("cifar10")),
    (ga.AutoAugment(v2.AutoAugmentPolicy.SVHN), ga.AutoAugment("svhn")),
]


@pytest.mark.parametrize(("theirs", "ours"), ENUMS, ids=repr)
def test_torchvisions_enums_are_their_words(theirs: Transform, ours: Transform) -> None:
    assert theirs == ours
    assert repr(theirs) == repr(ours)


def test_the_registry_holds_final_classes_only() -> None:
    for op in ga.OPS:
        assert not any(issubclass(other, op) for other in ga.OPS if other is not op)
        assert not inspect.isabstract(op)
