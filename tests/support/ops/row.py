"""A row: what the tests, the tables and the benchmarks have to be told of one op. The rest follows from its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga

from ..answers import EXACT, Answer, Sample, Tolerance
from .drawn import Distribution

__all__ = [
    "FLOATS", "NO_DRAWS", "ROWS", "Drawn", "Pixels", "Row", "Timed", "added", "answer", "instead", "moved",
    "other_gate", "shifted", "wrong",
]  # fmt: skip

Build = Callable[[Any], Any]  # (gpuaug or torchvision.transforms.v2) -> a transform of that library
FLOATS = ga.ToDtype(torch.float32, scale=True)
NO_DRAWS = "draws nothing, so tests/transforms/test_oracle.py compares it pixel by pixel"


# --- answers ----------------------------------------------------------------------------------------------------


def answer(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """torchvision's answer, or the image where the op's gate said no."""
    return ROWS[type(op)].answer(op, image, sample) if sample.get("applied", True) else image


def wrong(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """An answer that is slightly off."""
    return ROWS[type(op)].wrong(op, image, sample)


def other_gate(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """Applied where it was not, and the other way round."""
    return answer(op, image, {**sample, "applied": not sample["applied"]})


def moved(**amounts: float) -> Answer:
    """The sample's parameters, each moved by an amount."""

    def respond(op: Any, image: Tensor, sample: Sample) -> Tensor:
        near = {name: sample[name] + amount for name, amount in amounts.items() if name in sample}
        return answer(op, image, {**sample, **near})

    return respond


def instead(change: Callable[[Any], Any]) -> Answer:
    """Another op than the one that ran."""
    return lambda op, image, sample: answer(change(op), image, sample)


def shifted(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """The right answer for an image one pixel further right."""
    return answer(op, image.roll(1, -1), sample)


# --- rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """How the parameters of `op` are distributed.

    Args:
        op: the transform that draws.
        params: the distribution of each parameter, by its name, or by its name and the index of a part of it.
        size: (height, width) of the images, pixels.
    """

    op: Any
    params: Mapping[Any, Distribution]
    size: tuple[int, int] = (32, 32)


@dataclass(frozen=True)
class Timed:
    """An entry of the benchmarks.

    Args:
        random: the transform with parameters drawn for every image.
        fixed: the transform with parameters that do not depend on chance; True: `random` has none that do.
        name: the name of the entry, the op's by default.
    """

    random: Build
    fixed: Build | bool = False
    name: str = ""


@dataclass(frozen=True)
class Pixels:
    """A comparison of the distribution of pixels with torchvision's, in benchmarks/evidence/distribution.py.

    Args:
        build: (library, **arguments to change) -> its transforms.
        faults: arguments that are slightly off; the comparison must notice each.
        name: what tells it from the op's other ones.
    """

    build: Callable[..., list[Any]]
    faults: Sequence[dict[str, Any]]
    name: str = ""

    @classmethod
    def of(cls, op: str, *faults: dict[str, Any], name: str = "", floats: bool = False, **arguments: Any) -> Pixels:
        """One transform; both libraries name it and its arguments alike. `floats`: it stands after ToDtype."""

        def build(library: Any, **changed: Any) -> list[Any]:
            before = [library.ToDtype(torch.float32, scale=True)] if floats else []
            return [*before, getattr(library, op)(**arguments | changed)]

        return cls(build, faults, name)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One op. Fields without a default have to be given, so that nothing is forgotten in silence.

    Args:
        group: line of the README's table that names the op.
        example: a transform that changes pixels, and has no argument that its default would not do without.
        before: steps that have to stand before the example.
        ops: transforms at several strengths, or lists of steps that end with one.
        answer: torchvision's answer for one image and one sample of the drawn parameters.
        wrong: an answer that is slightly off; the comparison must notice it.
        tolerance: how far off an answer may be.
        channels: channel counts that are compared.
        count: samples in a batch.
        idle: whether the example leaves every image as it is.
        gated: whether an argument `p` is the chance that it is applied to a sample.
        neutral: (height, width) -> a transform that changes nothing, for an op without `p`; a text says why there is
            none.
        bad_numbers: argument -> values it must refuse, besides those that are no numbers.
        bad_words: likewise of arguments that are not numbers.
        given: argument -> other arguments that its bad values are tried with.
        drawn: distributions of the parameters.
        same: arguments that mean the same in torchvision, in the form in which gpuaug shows them; all that are not
            `refused` appear in one of them, with another value than the default. A text says why there are none.
        refused: arguments that accept their default only.
        only_v2: those of `same` that torchvision's first version does not know.
        more: arguments that torchvision does not have.
        timed: entries of the benchmarks, or why there is none.
        pixels: comparisons of the distribution of pixels, or why there is none.
    """

    group: str
    example: Any
    before: Sequence[Any] = ()
    ops: Sequence[Any]
    answer: Answer
    wrong: Answer = other_gate
    tolerance: Callable[[Any, Sample], Tolerance | None] = lambda op, sample: EXACT
    channels: Sequence[int] = (1, 2, 3, 4, 5)
    count: int = 7
    idle: bool = False
    gated: bool = True
    neutral: Callable[[int, int], Any] | str | None = None
    bad_numbers: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    bad_words: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    drawn: Sequence[Drawn] = ()
    same: Sequence[Mapping[str, Any]] | str
    refused: Sequence[str] = ()
    only_v2: Sequence[Mapping[str, Any]] = ()
    more: Sequence[str] = ()
    timed: Sequence[Timed] | str
    pixels: Sequence[Pixels] | str


ROWS: dict[type, Row] = {}


@contextmanager
def added(rows: Mapping[type, Row]) -> Iterator[None]:
    """Further ops, in the registry and with their rows, for as long as the block runs."""
    registered, before = list(ga.OPS), dict(ROWS)
    ga.OPS.extend(op for op in rows if op not in registered)
    ROWS.update(rows)
    try:
        yield
    finally:
        ga.OPS[:] = registered
        ROWS.clear()
        ROWS.update(before)
