"""What the converters of Albumentations and Kornia share: a rule for each class, found by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gpuaug import checks
from gpuaug.interop.fidelity import weakest
from gpuaug.interop.lists import levels_first
from gpuaug.interop.report import Conversion, Line, Report, shortened
from gpuaug.transforms.base import Kind, Transform
from gpuaug.transforms.container import RandomApply

__all__ = ["Found", "Read", "Rule", "convert_all", "fixed", "gated", "needs"]

Found = tuple[list[Transform], str, str]  # gpuaug's steps, how equal their pixels are, and why they are not exact
Read = Callable[[Any], Found]  # converts a child of a container
Rule = Callable[[Any, Read], Found]


def convert_all(
    who: str, library: str, steps: Iterable[tuple[str, Any]], rules: Mapping[str, Rule], remedies: Mapping[str, str]
) -> Conversion:
    """The list that the converter `who` returns, for steps with their positions.

    Args:
        rules: How each class is converted, by its name.
        remedies: What to do in place of classes that cannot be converted, by name.

    Raises:
        ValueError: If steps cannot be converted; the message names all of them.
    """
    refused: list[str] = []

    def read(step: Any) -> Found:
        if isinstance(step, Transform):
            return [step], *weakest([])
        name = type(step).__name__
        if type(step).__module__.split(".")[0] != library.lower():
            raise ValueError(f"{name} is not one of {library}'s transforms")
        if name not in rules:
            raise ValueError(f"{name}: gpuaug has no such transform; {remedies.get(name, 'leave it in the worker')}")
        try:
            return rules[name](step, read)
        except AttributeError as error:
            raise ValueError(f"{name}: this version of {library} keeps other arguments ({error})") from None

    lines, found = [], []
    for place, step in steps:
        try:
            converted, fidelity, why = read(step)
        except (ValueError, TypeError) as error:
            refused.append(f"{place} {str(error).rstrip('.')}".lstrip())
            continue
        found += converted
        lines.append(Line(shortened(step), ", ".join(map(shortened, converted)), fidelity, why))
    if refused:
        expected, remedy = f"of steps that both {library} and gpuaug have", "Replace them by gpuaug's transforms."
        raise checks.argument_error(who, "transform", expected, "; ".join(refused), remedy)
    return Conversion(levels_first(found), Report(lines))


def needs(step: Any, **accepted: Any) -> None:
    """Raise an error if an argument of the step, an attribute, has another value than the one that is accepted.

    A tuple means any of its values.
    """
    for name, value in accepted.items():
        got, values = getattr(step, name), value if isinstance(value, tuple) else (value,)
        if got not in values:
            allowed = " or ".join(map(repr, values))
            raise ValueError(f"{type(step).__name__}: {name}={got!r} is not supported, only {allowed}")


def gated(step: Transform, p: float) -> list[Transform]:
    """The step with the chance `p`."""
    if p == 1:
        return [step]
    if step.kind is not Kind.PIXEL:
        raise ValueError(f"{type(step).__name__} with p={p} is not supported, only p=1: images would differ in size")
    return [RandomApply([step], p)]


def fixed(step: Any, name: str, span: Any) -> Any:
    """The only value of a range."""
    low, high = span
    if low != high:
        raise ValueError(f"{type(step).__name__}: {name}={tuple(span)!r} is a range, only one value is supported")
    return low
