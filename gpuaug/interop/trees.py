"""Targets with tensors in them, at any depth: mappings, lists and tuples."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any

from torch import Tensor, nn

__all__ = ["each", "mapping_like", "tensors", "with_type"]


def each(function: Callable[[Any], Any], value: Any, leaf: type = Tensor) -> Any:
    """The same value with `function` of every `leaf` in it; all else, such as strings and numbers, stays."""
    if isinstance(value, leaf):
        return function(value)
    if isinstance(value, Mapping):
        return mapping_like(value, {key: each(function, inner, leaf) for key, inner in value.items()})
    if isinstance(value, (list, tuple)):
        parts = [each(function, inner, leaf) for inner in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts) if isinstance(value, tuple) else parts
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(inner)


def mapping_like(given: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """A mapping of the class of `given` with other values; a dict if it is of a class that only its makers can copy."""
    if type(given) is dict or not isinstance(given, (dict, UserDict)):
        return values
    try:
        found = copy(given)
        found.update(values)
    except Exception:  # a class of the user's
        return values
    return found


def with_type(value: Tensor, given: Tensor) -> Tensor:
    """A tensor with the class of `given`, and what that says of itself, such as the format of torchvision's boxes."""
    if type(given) is Tensor or isinstance(given, nn.Parameter) or type(value) is type(given):
        return value
    found: Tensor = value.as_subclass(type(given))
    found.__dict__.update(vars(given))
    return found
