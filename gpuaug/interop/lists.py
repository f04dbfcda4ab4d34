"""The order of a converted list: steps after ToTensor that only move pixels are moved before it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gpuaug.interop.arguments import plain
from gpuaug.transforms.base import Transform
from gpuaug.transforms.color import RGB
from gpuaug.transforms.container import RandomApply, RandomChoice, RandomOrder
from gpuaug.transforms.convert import Convert, Normalize
from gpuaug.transforms.crop import Pad, RandomCrop
from gpuaug.transforms.targets import TargetStep

__all__ = ["levels_first"]

MOVES = ("RandomHorizontalFlip", "RandomVerticalFlip", "RandomCrop", "CenterCrop", "Pad")  # without a new value
WARPS = ("RandomRotation", "RandomAffine", "RandomPerspective")  # with "nearest"


def levels_first(steps: list[Transform]) -> list[Transform]:
    """Move steps after ToDtype that only move pixels before it.

    The first other step, which works on floats in torchvision and would be rounded to levels here, keeps its position,
    and so do all steps after it. Augment raises the error for them.
    """
    first = next((n for n, step in enumerate(steps) if step.makes_floats), None)
    if first is None:
        return steps
    before, converts = steps[:first], steps[first : first + 1]
    for number, step in enumerate(steps[first + 1 :], first + 1):
        moved = _on_levels(step, converts)
        if isinstance(step, TargetStep):
            before.append(step)  # it asks where boxes are, whatever pixels are
        elif isinstance(step, Convert):
            converts.append(step)
        elif moved is not None:
            before.append(moved)
        else:
            return [*before, *converts, *steps[number:]]
    return [*before, *converts]


def _on_levels(step: Transform, converts: Sequence[Any]) -> Transform | None:
    """The step that gives the same result on levels, before `converts`; None if there is none."""
    name = type(step).__name__
    if isinstance(step, (RandomApply, RandomOrder, RandomChoice)):
        children = [_on_levels(child, converts) for child in step.transforms]
        return step if children == list(step.transforms) else None
    if isinstance(step, RGB):
        return step
    if name not in MOVES and not (name in WARPS and getattr(step, "interpolation", "") == "nearest"):
        return None
    if isinstance(step, RandomCrop) and step.padding is None and not step.pad_if_needed:
        return step
    if name in MOVES[:2] or (isinstance(step, (Pad, RandomCrop)) and step.padding_mode != "constant"):
        return step
    return _filled(step, converts)


def _filled(step: Any, converts: Sequence[Any]) -> Transform | None:
    """The step with the level as fill that `converts` maps to its constant; None if there is no such level."""
    if any(isinstance(convert, Normalize) for convert in converts):
        return None  # its constant is a normalised value
    given = getattr(step, "fill", None)
    values = np.float32(0.0 if given is None else given)
    table = converts[0].convert(torch.arange(256, dtype=torch.uint8, device="cpu")).numpy()
    levels = np.minimum(np.searchsorted(table, values), 255)
    if (table[levels] != values).any():
        return None
    if not levels.any():
        return step
    arguments = {name: getattr(step, name) for name in inspect.signature(type(step)).parameters}
    return type(step)(**arguments | {"fill": plain(levels.astype(float))})
