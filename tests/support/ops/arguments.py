"""Checks of an op's arguments: bad ones are refused, good ones can be shown, copied, compared, and not changed."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

import gpuaug as ga
from tests.support.errors import assert_form
from tests.support.ops.row import ROWS, Row

__all__ = [
    "bad_numbers", "bad_words", "check_argument_is_covered", "check_bad_numbers", "check_bad_word", "check_bad_words",
    "check_equality", "check_fixed", "check_pickle", "check_refused_number", "check_repr",
]  # fmt: skip

Op = type[Any]

NOT_NUMBERS = [float("nan"), float("inf"), -float("inf"), "1", True, None, 1e40, 1j, [], (1.0, 2.0, 3.0, 4.0, 5.0)]
PROBABILITIES = [-0.1, 1.1, (0.5,), "0.5"]  # what every `p` must refuse
# one number for each channel: five are refused when the images are seen, which have three
PER_CHANNEL = ("fill", "value")
# arguments that are not numbers, and what they must refuse wherever they stand
WORDS: dict[str, list[Any]] = {
    "interpolation": ["cubic", 7, 1, True, None, "lanczos", v2.InterpolationMode.LANCZOS],
    "padding_mode": ["wrap", None, 3],
    "border_type": ["zero", None],
    "resample": ["bicubic", None],
    "policy": ["mnist", None, 3],
    "mode": ["half", None],
    "labels_getter": ["other", None],
    "dtype": [torch.int64, torch.float64, "float32", None],
    "expand": [True],
}
FLAGS = {
    "antialias",
    "pad_if_needed",
    "inplace",
    "clip",
    "scale",
    "all_ops",
    "correct_lam",
    "even_sides",
}  # anything that is true or false


def good(op: Op, row: Row) -> dict[str, Any]:
    """Arguments that `op` accepts."""
    return {name: getattr(row.example, name) for name in inspect.signature(op).parameters}


def defaults(op: Op) -> list[Any]:
    """The op without arguments, if it needs none."""
    needed = any(argument.default is argument.empty for argument in inspect.signature(op).parameters.values())
    return [] if needed else [op()]


def bad_numbers(op: Op, row: Row) -> list[tuple[str, Any]]:
    """(argument, value) for all arguments that hold a number or a few."""
    parameters, table = inspect.signature(op).parameters, dict(row.bad_numbers)
    if "p" in parameters:
        table.setdefault("p", PROBABILITIES)
    cases = []
    for name, values in table.items():
        optional = name == "fill" or parameters[name].default is None
        for value in [*values, *NOT_NUMBERS]:
            accepted = value is None and optional
            if not accepted and not (name in PER_CHANNEL and isinstance(value, tuple) and len(value) == 5):
                cases.append((name, value))
    return cases


def bad_words(op: Op, row: Row) -> dict[str, Any]:
    """What each argument that is not a number must refuse."""
    known = {**WORDS, **row.bad_words}
    return {name: known[name] for name in inspect.signature(op).parameters if name in known}


def check_refused_number(op: Op, row: Row, name: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        op(**good(op, row) | row.given.get(name, {}) | {name: value})
    assert_form(error, op.__name__)


def check_bad_numbers(op: Op, row: Row) -> None:
    for name, value in bad_numbers(op, row):
        check_refused_number(op, row, name, value)


def check_bad_word(op: Op, row: Row, name: str) -> None:
    for value in bad_words(op, row)[name]:
        with pytest.raises(ValueError) as error:
            op(**good(op, row) | {name: value})
        assert_form(error, op.__name__, name)


def check_bad_words(op: Op, row: Row) -> None:
    for name in bad_words(op, row):
        check_bad_word(op, row, name)


def check_argument_is_covered(op: Op, row: Row) -> None:
    """Every argument is tried with bad values, unless it is anything that is true or false."""
    parameters = set(inspect.signature(op).parameters)
    assert set(row.bad_numbers) | set(row.bad_words) | set(row.given) <= parameters
    assert parameters <= {name for name, _ in bad_numbers(op, row)} | set(bad_words(op, row)) | FLAGS


def check_fixed(op: Op, row: Row) -> None:
    """Arguments cannot be changed but replaced."""
    example = row.example
    before = repr(example)
    for name in inspect.signature(op).parameters:
        with pytest.raises(
            AttributeError, match=rf"{op.__name__}: `{name}` cannot be changed .* Use replace\({name}=7\)"
        ):
            setattr(example, name, 7)
        with pytest.raises(AttributeError, match="cannot be deleted"):
            delattr(example, name)
        assert type(getattr(example, name)) is not list  # whose items could be changed
    with pytest.raises(AttributeError, match=rf"{op.__name__}: `strength` is not an argument, only"):
        example.strength = 7
    with pytest.raises(TypeError, match=rf"{op.__name__}: `strength` is not an argument, only"):
        example.replace(strength=7)
    assert repr(example) == before
    for again in (example.replace(), copy.copy(example), copy.deepcopy(example), pickle.loads(pickle.dumps(example))):
        assert again == example
        assert repr(again) == before
        with pytest.raises(AttributeError):
            again.p = 0.5


def check_repr(op: Op, row: Row) -> None:
    """`repr` is code that builds the same."""
    namespace = {name: getattr(ga, name) for name in ga.__all__} | {"torch": torch, op.__name__: op}
    for example in (row.example, *defaults(op)):
        again = eval(repr(example), namespace)
        assert type(again) is op
        assert again == example
        assert hash(again) == hash(example)
        assert repr(again) == repr(example)


def check_pickle(op: Op, row: Row) -> None:
    for again in (pickle.loads(pickle.dumps(row.example)), copy.deepcopy(row.example), copy.copy(row.example)):
        assert again == row.example
        assert again is not row.example


def check_equality(op: Op, row: Row) -> None:
    """It sees the class and every argument."""
    assert row.example != object()
    assert all(row.example != other.example for kind, other in ROWS.items() if kind is not op)
    for name in inspect.signature(op).parameters:
        other = copy.deepcopy(row.example)
        vars(other)[name] = "another"
        assert other != row.example, name
