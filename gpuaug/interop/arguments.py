"""Conversion of arguments from torchvision's transforms to the form that gpuaug's transforms accept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import numpy as np
import PIL.Image
from torch import Tensor
from torchvision import transforms as v1

from gpuaug import checks
from gpuaug.transforms import arguments

__all__ = [
    "FORMS", "edge", "even", "interpolation", "labels_getter", "level", "of_images", "padding", "plain", "value_of",
]  # fmt: skip


def plain(value: Any) -> Any:
    """Convert tensors, arrays, enums and sequences to numbers, strings and tuples."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(plain, value))
    return value


def even(value: Any) -> Any:
    """Convert a tuple of equal numbers to one number: (3, 3) becomes 3."""
    value = plain(value)
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _around_zero(value: Any) -> Any:
    """Convert (-3, 3) to 3. (3, -3) stays, so that the error shows it as the user wrote it."""
    value = plain(value)
    return value[1] if isinstance(value, tuple) and len(value) == 2 and 0 <= value[1] == -value[0] else value


def interpolation(value: Any) -> Any:
    """The name of an interpolation, from torchvision's string or enum, or from Pillow's number."""
    return PIL.Image.Resampling(value).name.lower() if checks.is_integer(value) else plain(value)


def of_images(value: Any) -> Any:
    """What a dict by type says of images."""
    return plain(arguments.of_images(value))


FORMS: dict[str, Callable[[Any], Any]] = {  # arguments by name; the others are `plain`
    "size": even,
    "padding": even,
    "kernel_size": even,
    "alpha": even,
    "sigma": even,
    "quality": even,
    "degrees": _around_zero,
    "shear": _around_zero,
    "interpolation": interpolation,
    "fill": of_images,
}


def edge(step: Any) -> Any:
    """The `size` of Resize: (256,) is the shorter edge, (256, 256) is not."""
    size = plain(step.size)
    return size[0] if isinstance(size, tuple) and len(size) == 1 else size


def padding(step: Any) -> Any:
    """The `padding` of RandomCrop: v2 stores (left, right, top, bottom), v1 the argument itself."""
    if step.padding is None or step.__class__ is v1.RandomCrop:
        return even(step.padding)
    left, right, top, bottom = step.padding
    return even((left, top, right, bottom))


def level(step: Any) -> Any:
    """The `fill` of ElasticTransform: v1 stores a number as a list of it."""
    value = of_images(step.fill)
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def value_of(step: Any) -> Any:
    """The `value` of RandomErasing: v2 stores "random" as None."""
    return "random" if step.value is None else even(step.value)


def labels_getter(step: Any) -> str:
    """The `labels_getter` of MixUp and CutMix: v2 stores a function, of which only the default one is accepted."""
    if step._labels_getter is not step.__class__()._labels_getter:
        raise checks.argument_error(
            step.__class__.__name__, "labels_getter", "'default'", checks.describe(step._labels_getter)
        )
    return "default"
