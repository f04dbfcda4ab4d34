"""Checks of what an op does: its pixels, alone and in containers, its draws, and what is left of it in evaluation."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga
from gpuaug.transforms.base import Canvas
from tests.support.chance import hoeffding
from tests.support.helpers import BACKENDS, FAST, blank, call, drawn, noise, pipeline
from tests.support.images import KINDS, batch
from tests.support.lists import channel_counts, lists_of
from tests.support.ops.drawn import Elsewhere
from tests.support.ops.row import ROWS, Drawn, Row
from tests.support.oracle import compared, differences, replay, take, wrong

__all__ = [
    "COUNT", "SIZES", "check_alone", "check_answer", "check_answers", "check_backends", "check_batch_first",
    "check_containers", "check_drawn", "check_drawn_case", "check_drawn_names", "check_evaluation", "check_gate",
    "check_neutral", "check_nudge", "check_nudges", "is_gated",
]  # fmt: skip

Op = type[Any]

SIZES = ((33, 47), (48, 31))
COUNT = 200_000  # draws
GATES = (0.0, 0.05, 0.5, 0.9, 1.0)
GATE_COUNT, GATED = 50_000, 256  # draws; comparisons of gates, at most


# --- pixels -----------------------------------------------------------------------------------------------------


def check_answer(steps: list[Any], kind: str, backend: str) -> None:
    """The last step equals the oracle, sample by sample, within its row's tolerance."""
    augment = ga.Augment(steps, backend=backend, exact=True)
    for channels in channel_counts(steps):
        for size in SIZES if channels in (1, 3) else SIZES[:1]:
            images = batch(kind, ROWS[type(steps[-1])].count, channels, size)
            draw = augment.sample(images, index=torch.arange(len(images)))
            lines = compared(augment, images, draw)
            assert lines == [], f"{channels} channels of {size}: {lines}"


def check_answers(op: Op, row: Row) -> None:
    for backend in BACKENDS:
        for steps in lists_of(row):
            for kind in KINDS:
                check_answer(steps, kind, backend)


def check_nudge(steps: list[Any], kind: str) -> None:
    """The comparison can fail: an answer to slightly different parameters is not accepted."""
    augment = ga.Augment(steps, backend="torch", exact=True)
    images = batch(kind, ROWS[type(steps[-1])].count, channel_counts(steps)[-1], SIZES[0])
    draw = augment.sample(images, index=torch.arange(len(images)))
    assert compared(augment, images, draw, wrong) != []


def check_nudges(op: Op, row: Row) -> None:
    for steps in lists_of(row):
        for kind in KINDS:
            check_nudge(steps, kind)


def check_backends(op: Op, row: Row) -> None:
    """All backends make the same bits; tests/backends/test_backends.py compares those of all ops in the package."""
    for steps in lists_of(row):
        images = batch("photo", row.count, channel_counts(steps)[-1], SIZES[0])
        augments = [ga.Augment(steps, backend=backend, seed=1) for backend in BACKENDS]
        draw = augments[0].sample(images, index=torch.arange(len(images)))
        results = [augment.render(images, draw) for augment in augments]
        assert all(torch.equal(result, results[0]) for result in results), steps


def check_alone(op: Op, row: Row) -> None:
    """The example changes pixels, in the dtype and layout it should."""
    images = noise(8)
    result = call(ga.Augment(pipeline(op), backend=FAST), images)
    assert result.dtype == (torch.float32 if row.example.kind == "convert" else torch.uint8)
    assert result.is_contiguous()
    changed = result.shape != images.shape or not torch.equal(result.float(), images.float())
    assert changed != row.idle


def check_neutral(op: Op, row: Row, backend: str = FAST, height: int = 24, width: int = 21, seed: int = 0) -> None:
    """Neutral parameters change nothing, and neither does `p=0`."""
    assert row.neutral is not None or is_gated(op, row), "say what is neutral for it"
    images = noise(3, 3, height, width, seed % 1000)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 255  # the full range
    neutral = [] if row.neutral is None or isinstance(row.neutral, str) else [row.neutral(height, width)]
    for step in [*neutral, *([row.example.replace(p=0.0)] if is_gated(op, row) else [])]:
        assert torch.equal(ga.Augment([step], seed=seed, backend=backend)(images), images)


def check_containers(op: Op, row: Row) -> None:
    """In a container the example makes the pixels that it makes alone, or none at all."""
    if row.example.kind != "pixel" or getattr(row.example, "num_output_channels", None) is not None:
        pytest.skip("pixel operations that keep the channels may stand in any container")
    sure = row.example.replace(p=1.0) if is_gated(op, row) else row.example
    images = noise(8)
    for container in (ga.RandomApply([sure]), ga.RandomChoice([sure, ga.RandomInvert(p=1.0)]), ga.RandomOrder([sure])):
        augments = [ga.Augment([container], backend=backend, seed=2, exact=True) for backend in BACKENDS]
        draw = augments[0].sample(images, index=torch.arange(8))
        results = [augment.render(images, draw) for augment in augments]
        assert all(torch.equal(result, results[0]) for result in results), container
        tolerances = [row.tolerance(sure, take(draw.params[0]["0"], number)) for number in range(8)]
        lines = differences(results[0], tolerances, partial(replay, augments[0], draw, list(images)))
        assert lines == [], f"{container}: {lines}"


# --- draws ------------------------------------------------------------------------------------------------------


def is_gated(op: Op, row: Row) -> bool:
    """Whether its argument `p` is a chance per sample."""
    return row.gated and "p" in inspect.signature(op).parameters and isinstance(row.example.p, float)


def check_gate(op: Op, row: Row) -> None:
    """It is applied with the chance `p`."""
    for p in GATES if is_gated(op, row) else ():
        frequency = drawn([row.example.replace(p=p)], GATE_COUNT)[0]["applied"].mean()
        assert abs(frequency - p) <= (hoeffding(GATE_COUNT, GATED) if 0 < p < 1 else 0.0), p


def check_drawn_case(case: Drawn) -> None:
    """Each parameter has its distribution, and does not have one that is slightly off."""
    if all(isinstance(distribution, Elsewhere) for distribution in case.params.values()):
        return
    height, width = case.size
    params = drawn([case.op], COUNT, height=height, width=width)[0]
    for name, distribution in case.params.items():
        values, other = part(params, name), distribution.nudged()
        said = distribution.misses(values, case.size)
        assert said == "", f"{case.op!r}, {name}: {said}"
        assert other is None or other.misses(values, case.size), f"{case.op!r}, {name}: {other} is not noticed"


def check_drawn(op: Op, row: Row) -> None:
    for case in row.drawn:
        check_drawn_case(case)


def part(params: dict[str, Any], name: Any) -> Any:
    """A parameter by its name, or a part of one by its name and an index."""
    if isinstance(name, str):
        return params[name]
    return params[name[0]][(slice(None), *name[1:])]


def check_drawn_names(op: Op, row: Row) -> None:
    """No parameter that it draws is left out; `sizes` are those of the images."""
    examples = [case.op for case in row.drawn] or [step for steps in lists_of(row) for step in steps[-1:]]
    names = {name if isinstance(name, str) else name[0] for case in row.drawn for name in case.params}
    for step in examples:
        if not isinstance(step, ga.Compose):  # the list opens it
            params = drawn([*row.before, step], 2, height=64, width=64)[-1]
            found = {name for name in params if name not in ("op", "applied", "sizes") and not name.isdigit()}
            assert found <= names, step


def check_batch_first(op: Op, row: Row) -> None:
    """Every parameter has a value for each sample."""

    def check(params: dict[str, Any]) -> None:
        for name, value in params.items():
            if isinstance(value, dict):
                check(value)
            elif name != "op":
                assert value.shape[0] == 5, name

    for params in ga.Augment(pipeline(op), backend=FAST, seed=0).sample(blank(5)).params:
        check(params)


# --- evaluation -------------------------------------------------------------------------------------------------


def check_evaluation(op: Op, row: Row) -> None:
    """What stays in evaluation has the shapes that the op has itself, and draws nothing."""
    canvas = Canvas(np.array([[24, 21]]), 3)
    counterpart = row.example.for_evaluation()
    assert counterpart is not None
    result = canvas
    for other in counterpart:
        assert other.draws == 0
        result = other.after(result)
    after = row.example.after(canvas)
    assert (result.sizes == after.sizes).all()
    assert result.channels == after.channels
