"""The public names of gpuaug.data and gpuaug.profiler: `dir` shows them alone; each has a docstring and exact types."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import gpuaug.data
import gpuaug.profiler

ROOMS = (gpuaug.data, gpuaug.profiler)
NAMES = [(room, name) for room in ROOMS for name in room.__all__]
ANY = {("Index", "__getitem__", "samples")}  # whatever a tensor accepts


def functions(value: Any) -> Iterator[tuple[str, Any]]:
    """(name, function) of a function, or of the public methods and the constructor of a class."""
    if not inspect.isclass(value):
        yield value.__name__, value
        return
    for name, part in vars(value).items():
        function = part.fget if isinstance(part, property) else getattr(part, "__func__", part)
        if inspect.isfunction(function) and (not name.startswith("_") or name in ("__init__", "__getitem__")):
            yield name, function


@pytest.mark.parametrize("room", ROOMS)
def test_dir_shows_the_public_names(room: ModuleType) -> None:
    assert [name for name in dir(room) if not name.startswith("__")] == sorted(room.__all__)
    importlib.import_module("gpuaug.data.transport")


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_a_public_name_has_docstrings_and_exact_types(room: ModuleType, name: str) -> None:
    value = getattr(room, name)
    assert inspect.getdoc(value)
    for method, function in functions(value):
        assert method.startswith("_") or inspect.getdoc(function), method
        for argument, kind in function.__annotations__.items():
            assert "Any" not in str(kind) or (name, method, argument) in ANY, f"{method}: {argument}"
