"""Argument checks. They read Python values, tensor metadata and folders only, so they never wait for a device."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = [
    "argument_error",
    "fill",
    "folder",
    "interval",
    "labels_beside",
    "number",
    "one_of",
    "path",
    "probability",
    "size",
]

LARGEST = 1e30  # limit of numbers: float32 ends at 3e38, and factors are multiplied by levels


def argument_error(owner: object, argument: str, expected: str, got: object, remedy: str = "") -> ValueError:
    """The error for a wrong argument: "Owner: `argument` must be expected, got value. Remedy."

    Args:
        owner: Object whose class is named, or a name.
        argument: Name of the argument.
        expected: What the argument must be.
        got: What it is.
        remedy: A sentence that says what to do; may be empty.
    """
    name = owner if isinstance(owner, str) else type(owner).__name__
    return ValueError(f"{name}: `{argument}` must be {expected}, got {got}. {remedy}".rstrip())


def describe(value: object) -> str:
    """A value in one line: a tensor as `float32 (8, 3, 32, 32)`, anything else as its repr, shortened."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."


def is_number(value: object) -> bool:
    """Whether a value is a real number of at most LARGEST, and not a bool."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return abs(float(value)) <= LARGEST
    except OverflowError:  # an integer of more than 308 digits
        return False


def is_integer(value: object) -> bool:
    """Whether a value is an integer, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def number(
    owner: object, argument: str, value: Any, low: float, high: float, what: str = "a number", why: str = ""
) -> float:
    """Check that a value is a finite number in [low, high]; return it as float. `why`: a sentence about the range."""
    if not is_number(value) or not low <= value <= high:
        span = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"of at least {low:g}"
        raise argument_error(owner, argument, f"{what} {span}", repr(value), why if is_number(value) else "")
    return float(value)


def integer(owner: object, argument: str, value: Any, low: int, high: int | None = None, why: str = "") -> int:
    """Check that a value is an integer in [low, high]; return it as int. `why`: a sentence about the range."""
    if not is_integer(value) or value < low or (high is not None and value > high):
        span = f"in [{low}, {high}]" if high is not None else f"of at least {low}"
        raise argument_error(owner, argument, f"an integer {span}", repr(value), why if is_integer(value) else "")
    return int(value)


def probability(owner: object, p: Any) -> float:
    """Check that `p` is a number in [0, 1]; return it as float."""
    return number(owner, "p", p, 0, 1, "a probability")


def interval(
    owner: object, argument: str, value: Any, low: float = -math.inf, high: float = math.inf, what: str = ""
) -> tuple[float, float]:
    """Check that a value is a pair of finite numbers in [low, high], in order; return it as floats."""
    expected = f"(low, high){' ' + what if what else ''} with low <= high"
    if math.isfinite(low) or math.isfinite(high):
        expected += f", inside [{low:g}, {high:g}]"
    if not isinstance(value, Sequence) or len(value) != 2 or not all(map(is_number, value)):
        raise argument_error(owner, argument, expected, repr(value))
    if not low <= value[0] <= value[1] <= high:
        raise argument_error(owner, argument, expected, repr(value))
    return float(value[0]), float(value[1])


def size(owner: object, value: Any, argument: str = "size") -> tuple[int, int]:
    """Check an image size in pixels: an int, (int,), or (height, width); return (height, width)."""
    pair = [value, value] if isinstance(value, numbers.Integral) else list(value) if isinstance(value, Sequence) else []
    pair = pair * 2 if len(pair) == 1 else pair
    if len(pair) != 2 or not all(is_integer(v) and 1 <= int(v) <= 32767 for v in pair):
        raise argument_error(owner, argument, "an int or (height, width), in pixels, in [1, 32767]", repr(value))
    return int(pair[0]), int(pair[1])


def fill(owner: object, value: Any) -> float | tuple[float, ...] | None:
    """Check a fill: None, one level for all channels, or one level per channel, in [0, 255]."""
    if value is None:
        return None
    values = value if isinstance(value, Sequence) else [value]
    if not values or isinstance(value, str) or not all(is_number(v) and 0 <= v <= 255 for v in values):
        # torchvision raises in its padding, and wraps around in its warps
        remedy = "Pixels are uint8." if all(map(is_number, values)) and values else ""
        raise argument_error(owner, "fill", "None, a level in [0, 255], or one for each channel", repr(value), remedy)
    return tuple(float(v) for v in values) if isinstance(value, Sequence) else value


def one_of(owner: object, argument: str, value: Any, choices: Sequence[str]) -> str:
    """Check that a value is one of the choices; return it."""
    if value not in choices:
        raise argument_error(owner, argument, "one of " + ", ".join(map(repr, choices)), repr(value))
    return str(value)


def path(owner: object, argument: str, value: Any) -> Path:
    """Check that a value is a path; return it, with `~` as the user's home."""
    try:
        return Path(os.path.expanduser(value))
    except TypeError:
        raise argument_error(owner, argument, "a path, str or pathlib.Path", describe(value)) from None


def folder(owner: object, argument: str, value: Any) -> Path:
    """Check that a value is the path of a folder; return it.

    Raises:
        ValueError: If it is not a path.
        FileNotFoundError: If it does not exist.
        NotADirectoryError: If it is a file.
    """
    found = path(owner, argument, value)
    if not found.is_dir():
        kind, got = (NotADirectoryError, "a file") if found.exists() else (FileNotFoundError, "which does not exist")
        raise kind(str(argument_error(owner, argument, "a folder", f"{found}, {got}")))
    return found


def labels_beside(owner: object, step: object, labels: Any, size: int, mixed: bool) -> None:
    """Check that labels are (size,) or (size, classes) if a step moves pixels.

    Masks, boxes and key points without a name would not be moved with the pixels. Floats (size, n) are accepted as
    class weights: they cannot be distinguished from boxes. Integers (size, n) are accepted only if a mix converts them
    to weights, and on the CPU only zeros and ones.

    Raises:
        ValueError: If the labels have another form.
    """
    if _is_label(labels, size, mixed):
        return
    name = type(step).__name__
    expected = f"({size},), or ({size}, classes) of floats or bool, with {name}, which moves pixels"
    remedy = (
        'Pass masks, boxes and key points with their names, {"masks": ...}, or a list with such a mapping for each '
        "image, and multi-hot labels as labels.float()."
    )
    got = type(labels).__name__ + " " + describe(labels) if is_target(labels) else describe(labels)
    raise argument_error(owner, "labels", expected, got, remedy)


def is_target(labels: Any) -> bool:
    """Whether labels are torchvision's masks, boxes or key points."""
    return any(cls.__module__.startswith("torchvision.tv_tensors") for cls in type(labels).__mro__)


def _is_label(labels: Any, size: int, mixed: bool) -> bool:
    if isinstance(labels, (list, tuple)):
        return len(labels) == size and all(isinstance(label, (numbers.Number, str, bytes)) for label in labels)
    if is_target(labels) or not isinstance(labels, (torch.Tensor, np.ndarray)) or labels.shape[:1] != (size,):
        return False
    if labels.ndim != 2:
        return labels.ndim == 1
    if isinstance(labels, np.ndarray):
        return labels.dtype.kind in "bf"
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return True
    return mixed and (labels.device.type != "cpu" or bool(((labels == 0) | (labels == 1)).all()))
