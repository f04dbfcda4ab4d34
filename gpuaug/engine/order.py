"""The order of a list: levels first, then floats, then at most one mix, then functions of floats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpuaug import checks
from gpuaug.transforms.base import Kind, Transform
from gpuaug.transforms.function import Identity

__all__ = ["check_order"]

TWO_SIZES = np.array([[211, 307], [419, 103]])


def check_order(steps: Sequence[Transform], argument: str) -> None:
    """Raise an error if a step is in a wrong place. `argument`: name of Augment's argument that holds the list."""
    floats = mixed = False
    before = ""  # a step before the others
    late = ""  # the function of floats, which runs after the last pass
    for step in steps:
        if isinstance(step, Identity):
            continue
        name = type(step).__name__
        if floats and step.kind is Kind.OPAQUE:
            late = name
            step.check_order(argument, floats)
            continue
        if late:
            remedy = f"Put {name} before it."
            raise checks.argument_error(
                "Augment", argument, f"with {late} as the last step", f"{name} after it", remedy
            )
        if step.kind is Kind.MIX:
            if mixed:
                remedy = "Put them into one RandomChoice."
                raise checks.argument_error(
                    "Augment", argument, "with at most one mix", f"a second one, {name}", remedy
                )
            mixed = True
            continue
        if mixed and step.kind not in (Kind.CONVERT, Kind.TARGET):
            remedy = f"Put {name} before it."
            raise checks.argument_error(
                "Augment", argument, "with the mix after all pixel work", f"{name} after it", remedy
            )
        step.check_order(argument, floats)
        if step.must_be_first and before:
            expected, remedy = f"with {step!r} before other steps", 'Put it first, or use "bilinear" or "bicubic".'
            raise checks.argument_error("Augment", argument, expected, f"{before} before it", remedy)
        before = before or (name if step.kind is not Kind.TARGET else "")
        floats = floats or step.makes_floats
    _check_sizes(steps, argument)


def _check_sizes(steps: Sequence[Transform], argument: str) -> None:
    """Raise an error if the images of a batch end with sizes that depend on their draws."""
    drawn: Transform | None = None
    for step in steps:
        if step.size_is_drawn:
            drawn = step
        elif step.kind is Kind.CROP and drawn is not None:
            first, second = step.sizes(TWO_SIZES)
            drawn = drawn if (first != second).any() else None
    if drawn is not None:
        name = type(drawn).__name__
        expected, got = f"with a step that gives all images one size after {name}", "none"
        remedy = "Put RandomCrop(size, pad_if_needed=True), Resize((height, width)) or PadToLargest() behind it."
        raise checks.argument_error("Augment", argument, expected, got, remedy)
