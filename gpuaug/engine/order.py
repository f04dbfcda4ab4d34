"""The order of a list: levels first, then floats, then at most one mix."""

from __future__ import annotations

from collections.abc import Sequence

from gpuaug import checks
from gpuaug.transforms.base import Kind, Transform

__all__ = ["check_order"]


def check_order(steps: Sequence[Transform], argument: str) -> None:
    """Raise an error if a step is in a wrong place. `argument`: name of Augment's argument that holds the list."""
    floats = mixed = False
    for step in steps:
        name = type(step).__name__
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
        floats = floats or step.makes_floats
