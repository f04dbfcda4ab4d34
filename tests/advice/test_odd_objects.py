"""Loaders, data sets and weights of users that answer in unusual ways: no finding about what they do not say."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

import gpuaug as ga

FLIP = [ga.RandomHorizontalFlip()]
SIDES = ["left", "right"]


class Data(Dataset[int]):
    """A data set with an attribute `classes`."""

    def __init__(self, classes: Any) -> None:
        self.classes = classes

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return index


class Unprepared(Data):
    """A data set that knows its classes after a download only."""

    def __init__(self) -> None:
        pass

    @property
    def classes(self) -> list[str]:
        raise RuntimeError("call prepare() first")

    @classes.setter
    def classes(self, value: Any) -> None:
        raise AssertionError


class Itself(Data):
    """A wrapper around itself, as one that forwards attributes may be."""

    @property
    def dataset(self) -> Itself:
        return self


class Lazy:
    """An object whose every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Stream(IterableDataset[int]):
    """A data set without a length."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(4))


@pytest.mark.parametrize("classes", [SIDES, tuple(SIDES), {"left": 0, "right": 1}, dict.fromkeys(SIDES).keys()])
def test_names_in_any_collection(classes: Any) -> None:
    for data in (Data(classes), Subset(Data(classes), [0])):
        assert ga.advise(FLIP, loader=DataLoader(data))[0].id == "flip-changes-class"


@pytest.mark.parametrize("classes", [10, None, "left", [0, 1], lambda: SIDES, torch.arange(3), iter(SIDES), object()])
def test_classes_that_are_no_names(classes: Any) -> None:
    assert [finding.id for finding in ga.advise(FLIP, loader=DataLoader(Data(classes)))] == ["no-workers"]


def test_an_iterator_of_names_is_not_used_up() -> None:
    names = iter(SIDES)
    ga.advise(FLIP, loader=DataLoader(Data(names)))
    assert list(names) == SIDES


@pytest.mark.parametrize("data", [Unprepared(), Itself(3), Stream()], ids=["raises", "itself", "stream"])
def test_data_sets_that_do_not_say_their_classes(data: Any) -> None:
    assert [finding.id for finding in ga.advise(FLIP, loader=DataLoader(data))] == ["no-workers"]


@pytest.mark.parametrize("loader", [Lazy(), [1, 2], 3, "train", SimpleNamespace(dataset=None)], ids=range(5))
def test_loaders_that_are_none_of_torch(loader: Any) -> None:
    assert ga.advise(FLIP, loader=loader) == []


@pytest.mark.parametrize("wrong", [{"mean": 1}, {"std": ["a"]}, {"crop_size": 224}, {"crop_size": []}, {"mean": None}])
def test_weights_without_numbers(wrong: dict[str, Any]) -> None:
    weights = SimpleNamespace(**{"mean": [0.5], "std": [0.5], "crop_size": [224]} | wrong)
    with pytest.raises(ValueError, match=r"^advise: `weights` must be weights of a classification model"):
        ga.advise(FLIP, weights=weights)


def test_a_multi_view_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        ValueError, match=r"^advise: `augment` must be .*, got a MultiView\. Pass the list of one view\."
    ):
        ga.advise(ga.MultiView([FLIP, FLIP]))  # type: ignore[arg-type]
