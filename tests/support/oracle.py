"""The oracle: torchvision's answer for ONE image with ONE sample's parameters, and the comparison with ours.

The rows in tests/support/ops say `answer(op, image, sample)`; `sample` is one row of the params dict that
`Augment.sample` drew. Bicubic warps come from grid_sample, MotionBlur from Kornia; torchvision has neither. `wrong` is
the answer to a slightly different question, which the comparison must tell from the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import _geometry as geometry

import gpuaug as ga
from tests.support.answers import EXACT, TIE, Answer, Sample, Tolerance
from tests.support.ops import FLOATS, NORMALIZE, ROWS, Row, answer, wrong

__all__ = [
    "FLOATS", "NORMALIZE", "ROWS", "Row", "answer", "compared", "differences", "differs", "integer", "on_ties",
    "replay", "take", "wrong",
]  # fmt: skip


def differs(got: Tensor, expected: Tensor, tolerance: Tolerance) -> str:
    """Empty if `got` is the oracle's answer, else what is wrong."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return f"{got.dtype} {tuple(got.shape)} is not {expected.dtype} {tuple(expected.shape)}"
    if tolerance == EXACT and got.dtype.is_floating_point:
        same = got.view(integer(got.dtype)) == expected.view(integer(got.dtype))
        gap = (got.double() - expected.double()).abs()
    else:
        gap = (got.double() - expected.double()).abs()
        same = gap <= tolerance.levels
    missed = int((~same).sum())
    if missed == 0:
        return ""
    return f"{missed} of {same.numel()} values differ, by up to {float(gap.max()):g}; {tolerance} is allowed"


def on_ties(respond: Callable[[], list[Tensor]]) -> list[list[Tensor]]:
    """What `respond` says when torchvision's warps look a little to the left or right, and up or down."""
    original, answers = geometry._apply_grid_transform, []
    for x, y in ((-TIE, -TIE), (-TIE, TIE), (TIE, -TIE), (TIE, TIE)):

        def near(
            image: Tensor, grid: Tensor, *arguments: Any, step: tuple[float, float] = (x, y), **named: Any
        ) -> Tensor:
            height, width = image.shape[-2:]
            shift = torch.tensor([2 * step[0] / width, 2 * step[1] / height])
            return original(image, grid + shift, *arguments, **named)

        with mock.patch.object(geometry, "_apply_grid_transform", near):
            answers.append(respond())
    return answers


def integer(dtype: torch.dtype) -> torch.dtype:
    """The integer dtype to look at the bits of a float dtype with."""
    return {2: torch.int16, 4: torch.int32}[dtype.itemsize]


def take(params: dict[str, Any], number: int) -> Sample:
    """The parameters of one sample; "op" belongs to all."""
    row: Sample = {}
    for name, value in params.items():
        row[name] = take(value, number) if isinstance(value, dict) else value if name == "op" else value[number]
    return row


def replay(augment: ga.Augment, draw: ga.Draw, images: Sequence[Tensor], last: Answer = answer) -> list[Tensor]:
    """The oracle's batch: the list's steps one after another, sample by sample; `last` answers the last step."""
    pipeline = augment.train_pipeline if draw.training else augment.eval_pipeline
    results = [image.contiguous() for image in images]
    for place, (op, params) in enumerate(zip(pipeline.steps, draw.params, strict=True)):
        respond = last if place == len(pipeline.steps) - 1 else answer
        keys = [{"keys": draw.keys.take(np.array([b]))} for b in range(len(results))]
        samples = [take(params, b) | keys[b] | {"batch": results, "number": b} for b in range(len(results))]
        results = [respond(op, image, sample) for image, sample in zip(results, samples, strict=True)]
    dtype = torch.float32 if isinstance(pipeline.dtype, str) else pipeline.dtype
    return [result.to(dtype) if result.is_floating_point() else result for result in results]


def compared(augment: ga.Augment, images: Any, draw: ga.Draw, respond: Any = answer, place: int = -1) -> list[str]:
    """How the result differs from the oracle's, by the tolerance of the step at `place`."""
    result = augment.render(images, draw)
    op, params = augment.train_pipeline.steps[place], draw.params[place]
    samples = [take(params, number) for number in range(len(result))]
    gates = [sample.get("applied", True) for sample in samples]
    tolerances = [ROWS[type(op)].tolerance(op, s) if gate else EXACT for s, gate in zip(samples, gates, strict=True)]
    return differences(result, tolerances, lambda: replay(augment, draw, list(images), respond))


def differences(
    result: Tensor, tolerances: Sequence[Tolerance | None], respond: Callable[[], list[Tensor]]
) -> list[str]:
    """A line for each sample that is not what `respond` says; empty is good. A tolerance of None skips."""
    lines, nearby = [], None
    for number, (got, theirs, tolerance) in enumerate(zip(result, respond(), tolerances, strict=True)):
        expected = theirs
        if tolerance is not None and tolerance.ties and differs(got, theirs, tolerance):
            nearby = nearby or on_ties(respond)
            for answers in nearby:
                expected = torch.where(got == answers[number], got, expected)
        if tolerance is not None and (line := differs(got, expected, tolerance)):
            lines.append(f"sample {number}: {line}")
    return lines
