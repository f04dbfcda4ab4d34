"""Over the registry: every op is exported, documented, spelled as torchvision spells it, and can be rebuilt."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.transforms.base import Transform
from tests.support.helpers import FAST, blank, build, call, noise, pipeline

OPS = pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)

# Where the signature differs from torchvision's on purpose
DIFFERENT: dict[str, tuple[set[str], str]] = {
    "MixUp": ({"mode"}, "timm's modes: one draw for the batch, the pair or the sample"),
    "CutMix": ({"mode"}, "timm's modes: one draw for the batch, the pair or the sample"),
}
OURS = {"MotionBlur": "as Kornia's RandomMotionBlur"}  # torchvision has none


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
    doc = inspect.getdoc(thing)
    assert doc is not None
    assert doc != inspect.getdoc(Transform)
    first = doc.split(".")[0].split("\n\n")[0]
    verb = first.split()[0]
    if thing is not ga.Ragged:  # a thing, not a deed
        assert verb[0].isupper()
        third_person = verb.endswith("s") and not verb.endswith("ss")
        assert not third_person, f"not an imperative: {first}"
        assert not verb.endswith(("ing", "ed")), f"not an imperative: {first}"
    arguments = list(inspect.signature(thing).parameters)
    section = doc.partition("Args:")[2]
    for name in arguments:
        lines = [line.split(":")[0] for line in section.splitlines()]
        assert any(name in line.replace(",", " ").split() for line in lines), f"`{name}` is not in Args"


@OPS
def test_spelled_as_torchvision(op: type[Transform]) -> None:
    theirs = getattr(v2, op.__name__, None)
    if theirs is None:
        assert op.__name__ in OURS
        return
    extra, _ = DIFFERENT.get(op.__name__, (set(), ""))
    ours, oracle = (dict(inspect.signature(cls).parameters) for cls in (op, theirs))
    assert extra <= set(ours) - set(oracle)
    assert [name for name in ours if name not in extra] == list(oracle)
    for name, argument in oracle.items():
        assert ours[name].kind == argument.kind, name
        assert getattr(ours[name].default, "value", ours[name].default) == getattr(
            argument.default, "value", argument.default
        ), name


@OPS
def test_annotated(op: type[Transform]) -> None:
    for name, argument in inspect.signature(op).parameters.items():
        assert argument.annotation is not inspect.Parameter.empty, name


@OPS
def test_repr_rebuilds(op: type[Transform]) -> None:
    namespace = vars(ga) | {"torch": torch}
    for example in (build(op), *defaults(op)):
        again = eval(repr(example), namespace)
        assert type(again) is op
        assert again == example
        assert hash(again) == hash(example)
        assert repr(again) == repr(example)


def defaults(op: type[Transform]) -> list[Transform]:
    """The op without arguments, if it needs none."""
    needed = any(argument.default is argument.empty for argument in inspect.signature(op).parameters.values())
    return [] if needed else [op()]


@OPS
def test_pickles_and_copies(op: type[Transform]) -> None:
    example = build(op)
    for again in (pickle.loads(pickle.dumps(example)), copy.deepcopy(example), copy.copy(example)):
        assert again == example
        assert again is not example


@OPS
def test_equality_sees_the_arguments(op: type[Transform]) -> None:
    example = build(op)
    assert example != object()
    assert all(example != build(other) for other in ga.OPS if other is not op)
    for name in inspect.signature(op).parameters:
        other = copy.deepcopy(example)
        vars(other)[name] = "another"
        assert other != example, name


@OPS
def test_runs_on_its_own(op: type[Transform]) -> None:
    """The example of every op changes pixels, in the dtype and layout it should."""
    images = noise(8)
    result = call(ga.Augment(pipeline(op), backend=FAST), images)
    assert result.dtype == (torch.float32 if op in (ga.ToDtype, ga.Normalize) else torch.uint8)
    assert result.is_contiguous()
    assert result.shape != images.shape or not torch.equal(result.float(), images.float())


@OPS
def test_parameters_have_the_batch_first(op: type[Transform]) -> None:
    def check(params: dict[str, Any]) -> None:
        for name, value in params.items():
            if isinstance(value, dict):
                check(value)
            elif name != "op":
                assert value.shape[0] == 5, name

    for params in ga.Augment(pipeline(op), backend=FAST, seed=0).sample(blank(5)).params:
        check(params)


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
