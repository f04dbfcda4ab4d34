"""A module as plain data: dicts, lists, strings and numbers, for JSON and YAML. `gpuaug.from_dict` reads it."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

import torch

from gpuaug import checks
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.settings import DEFAULTS
from gpuaug.transforms.base import Transform

__all__ = ["TARGET", "is_own", "to_dict"]

TARGET = "_target_"  # Hydra's key for the class


def to_dict(augment: Any, evaluation: bool, seed: bool) -> dict[str, Any]:
    """The arguments of an Augment like this one; with its evaluation list and seed if those are true.

    Raises:
        ValueError: If a step cannot be written, of which it names all, or the module has a schedule.
    """
    if augment._schedule is not None:
        remedy = "Write the module before it gets the schedule, or call the schedule's remove()."
        raise checks.argument_error("Augment.to_dict", "schedule", "none, since it is a function", "one", remedy)
    train, eval = augment.train_pipeline, augment.eval_pipeline
    first = {"train": train.root} | ({"eval": eval.root} if evaluation else {})
    replaced = {"train": train} if train is not train.root else {}
    if eval is not eval.root and not augment.derives_eval:
        replaced["eval"] = eval
    _check([*first.items(), *((f"replace.{name}", listed) for name, listed in replaced.items())])
    found: dict[str, Any] = {TARGET: "gpuaug.Augment"} | _lists(first)
    if seed:
        found["seed"] = augment.seed
    for name, default in DEFAULTS.items():
        value = getattr(augment, name)
        if value != default:
            found[name] = _plain(value)
    return found | ({"replace": _lists(replaced)} if replaced else {})


def _lists(lists: dict[str, Pipeline]) -> dict[str, Any]:
    return {name: [_step(step) for step in pipeline.steps] for name, pipeline in lists.items()}


def _check(lists: list[tuple[str, Pipeline]]) -> None:
    found = [
        f"{place} {why}"
        for name, pipeline in lists
        for number, step in enumerate(pipeline.steps)
        for place, why in _unwritable(step, f"{name}[{number}]")
    ]
    if found:
        remedy = "Leave them out of the configuration, and put them in by `replace` where it is read."
        expected = "of steps that can be written as text"
        raise checks.argument_error("Augment.to_dict", "train", expected, "; ".join(found), remedy)


def is_own(step: object) -> bool:
    """Whether it is one of gpuaug's transforms, not of a user's class."""
    return type(step).__module__.startswith("gpuaug.")


def _unwritable(step: Transform, path: str) -> Iterator[tuple[str, str]]:
    """(path, reason) of a step, or of its children or arguments, that cannot be written."""
    if not is_own(step):
        yield path, f"is a {type(step).__name__}, which is not gpuaug's"
        return
    for name in inspect.signature(type(step)).parameters:
        value = getattr(step, name)
        if name == "transforms":
            for number, child in enumerate(value):
                yield from _unwritable(child, f"{path}.transforms[{number}]")
        elif not _is_plain(value):
            yield f"{path}.{name}", f"is {checks.describe(value)}, of {type(step).__name__}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, str, numbers.Real, torch.dtype, torch.memory_format, Enum))


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, (torch.dtype, torch.memory_format)):
        return str(value).removeprefix("torch.")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _step(step: Transform) -> dict[str, Any]:
    """A step with the arguments that are not the default."""
    found: dict[str, Any] = {TARGET: f"gpuaug.{type(step).__name__}"}
    for name, argument in inspect.signature(type(step)).parameters.items():
        value = getattr(step, name)
        if name == "transforms":
            found[name] = [_step(child) for child in value]
        elif argument.default is inspect.Parameter.empty or value != argument.default:
            found[name] = _plain(value)
    return found
