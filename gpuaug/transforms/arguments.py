"""Types of arguments that several transforms take, and how they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks, program

__all__ = ["INTERPOLATIONS", "Fill", "Interpolation", "Range", "Size", "fill_row", "interpolation", "symmetric"]

Array = NDArray[Any]
Size = int | Sequence[int]  # one number, or (height, width)
Range = float | Sequence[float]  # (low, high), or one number
Fill = float | Sequence[float] | None
Interpolation = str | Enum  # torchvision's InterpolationMode

INTERPOLATIONS = {
    "nearest": program.NEAREST,
    "nearest-exact": program.NEAREST_EXACT,
    "bilinear": program.BILINEAR,
    "bicubic": program.BICUBIC,
}


def interpolation(owner: object, value: Interpolation, allowed: Sequence[str]) -> str:
    """torchvision's InterpolationMode or its string, as the string."""
    return checks.one_of(owner, "interpolation", getattr(value, "value", value), allowed)


def fill_row(owner: object, fill: Fill, channels: int) -> Array:
    """A fill argument as (C,) float32 levels; None is black."""
    values = [0.0] if fill is None else list(fill) if isinstance(fill, Sequence) else [fill]
    if len(values) not in (1, channels):
        raise checks.argument_error(owner, "fill", f"one level or {channels}, one for each channel", repr(fill))
    return np.broadcast_to(np.asarray(values, np.float32), (channels,))


def symmetric(value: Range) -> Range:
    """A range unchanged; one number x means (-x, x)."""
    return value if isinstance(value, Sequence) or not checks.is_number(value) else (-value, value)
