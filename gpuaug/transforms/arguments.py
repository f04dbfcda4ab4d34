"""Types of arguments that several transforms take, and how they are parsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from gpuaug import checks, program

__all__ = [
    "INTERPOLATIONS", "Fill", "Interpolation", "Level", "Range", "Size", "fill", "fill_row", "interpolation",
    "of_images", "symmetric",
]  # fmt: skip

Array = NDArray[Any]
Size = int | Sequence[int]  # one number, or (height, width)
Range = float | Sequence[float]  # (low, high), or one number
Level = float | Sequence[float] | None  # for all channels, or one for each
Fill = Level | Mapping[type | str, Level]  # a dict by type, as torchvision's
Interpolation = str | int | Enum  # torchvision's InterpolationMode, or Pillow's number

INTERPOLATIONS = {
    "nearest": program.NEAREST,
    "nearest-exact": program.NEAREST_EXACT,
    "bilinear": program.BILINEAR,
    "bicubic": program.BICUBIC,
}
PILLOW = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # its other numbers are filters that only Pillow has
IMAGES = (tv_tensors.Image, Tensor, PIL.Image.Image)  # the types of an image in a dict by type


def interpolation(owner: object, value: Interpolation, allowed: Sequence[str]) -> str:
    """torchvision's InterpolationMode, its string, or Pillow's number of it, as the string."""
    given: Any = getattr(value, "value", value)
    word = PILLOW.get(given, given) if checks.is_integer(given) else given
    return checks.one_of(owner, "interpolation", word, allowed)


def of_images(value: Any) -> Any:
    """What a dict by type says of images, by their type or as "others"; any other value as it is.

    Raises:
        ValueError: If it says nothing of images, or more than one thing.
    """
    if not isinstance(value, Mapping):
        return value
    found = [value[kind] for kind in (*IMAGES, "others") if kind in value]
    found = found[:-1] if "others" in value and len(found) > 1 else found
    if not found or any(other != found[0] for other in found):
        raise ValueError(f"a dict must say one thing of images, got {checks.describe(dict(value))}")
    return found[0]


def fill(owner: object, value: Fill) -> Level:
    """Check a fill: None, a level for all channels or one for each, in [0, 255], or a dict by type; return the level.

    Of a dict, as torchvision takes it, the entry for images counts.
    """
    try:
        level = of_images(value)
    except ValueError:
        expected = "a level, or a dict by type that says one thing of images"
        raise checks.argument_error(owner, "fill", expected, checks.describe(value)) from None
    return checks.fill(owner, level)


def fill_row(owner: object, fill: Level, channels: int) -> Array:
    """A fill argument as (C,) float32 levels; None is black."""
    values = [0.0] if fill is None else list(fill) if isinstance(fill, Sequence) else [fill]
    if len(values) not in (1, channels):
        raise checks.argument_error(owner, "fill", f"one level or {channels}, one for each channel", repr(fill))
    return np.broadcast_to(np.asarray(values, np.float32), (channels,))


def symmetric(value: Range) -> Range:
    """A range unchanged; one number x means (-x, x)."""
    return value if isinstance(value, Sequence) or not checks.is_number(value) else (-value, value)
