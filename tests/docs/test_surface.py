"""The public surface: what `dir` shows, what has a docstring, and what that says."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gpuaug as ga
from gpuaug.transforms.base import Transform

ROOT = Path(__file__).parents[2]
MODULES = {"gpuaug": ga, "gpuaug.adapters": ga.adapters, "gpuaug.data": ga.data, "gpuaug.profiler": ga.profiler}
MODULES["gpuaug.tuning"] = importlib.import_module("gpuaug.tuning")
INTERNAL = ("engine", "kernels", "program", "philox", "checks", "transforms", "interop", "cli", "demo")
SOURCE = re.compile(r"torchvision|timm|Kornia|arXiv|ITU|libjpeg|torch's|gpuaug's own")


def public() -> Iterator[tuple[str, Any]]:
    """Each public class, function and method, with its name."""
    for prefix, module in MODULES.items():
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, (ModuleType, tuple)):
                continue
            yield f"{prefix}.{name}", thing
            if inspect.isclass(thing):
                hooks = set(dir(Transform)) if thing in ga.OPS else set()  # documented there
                for member, value in vars(thing).items():
                    if (
                        member not in hooks
                        and not member.startswith("_")
                        and (inspect.isfunction(value) or isinstance(value, property))
                    ):
                        yield f"{prefix}.{name}.{member}", value


def raises(function: Any) -> bool:
    """Whether the function itself raises, or asks for an argument error."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def section(doc: str, title: str) -> str:
    found = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)*)", doc, re.M)
    return found[1] if found else ""


def lacking(name: str, thing: Any) -> list[str]:
    """What the docstring of a public name does not say."""
    doc = inspect.getdoc(thing) or ""
    if isinstance(thing, property):
        return [] if doc else ["a docstring"]
    if len(doc.split()) < 3:
        return ["a docstring"]
    found = []
    if inspect.isclass(thing) and not issubclass(thing, BaseException):
        own = "__init__" in vars(thing) and not hasattr(thing, "__dataclass_fields__")
        parameters = inspect.signature(thing).parameters.values() if own else ()
        arguments = [one for one in parameters if not one.name.startswith("_")]
        told = section(doc, "Args") + section(doc, "Attributes")
        names = [one.name for one in arguments if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        found += [f"argument {one}" for one in names if not re.search(rf"\b{one}\b", told)]
        if own and raises(thing.__init__) and not section(doc, "Raises"):
            found.append("Raises")
        if thing in ga.OPS and not SOURCE.search(doc):
            found.append("a source (torchvision, timm, Kornia or a paper)")
    elif inspect.isfunction(thing) and raises(thing) and not section(doc, "Raises"):
        found.append("Raises")
    return found


def test_dir_shows_what_is_documented_and_nothing_else() -> None:
    for name, module in MODULES.items():
        shown = {one for one in dir(module) if not one.startswith("__")}
        assert shown == set(module.__all__), name


def test_all_is_literal_and_complete() -> None:
    tree = ast.parse(Path(str(ga.__file__)).read_text(encoding="utf-8"))
    (value,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert ast.literal_eval(value) == ga.__all__
    assert {op.__name__ for op in ga.OPS} <= set(ga.__all__)
    assert set(ga.MODULES) <= set(ga.__all__)


def test_internals_are_no_attributes() -> None:
    """Nothing uses them by accident; an import by their own name works, and is not shown."""
    code = (
        f"import gpuaug\nnames = {INTERNAL!r}\nassert not any(hasattr(gpuaug, name) for name in names)\n"
        "import gpuaug.engine.pipeline, gpuaug.program\nassert not set(names) & set(dir(gpuaug))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_old_names_work_and_warn() -> None:
    pytest.importorskip("matplotlib")
    for name in ("photographs", "preview"):
        with pytest.warns(DeprecationWarning, match=f"gpuaug.{name} is now gpuaug.demo.{name}"):
            old = importlib.import_module(f"gpuaug.{name}")
        assert getattr(old, name) is getattr(importlib.import_module(f"gpuaug.demo.{name}"), name)
        del sys.modules[f"gpuaug.{name}"]


def test_every_public_name_says_what_it_must() -> None:
    found = {name: what for name, thing in public() if (what := lacking(name, thing))}
    assert not found


def untyped() -> Iterator[tuple[str, str]]:
    """(file, name and argument) of every Any in a public signature."""
    for name, thing in public():
        if inspect.isclass(thing):
            function = vars(thing).get("__init__")
        else:
            function = thing.fget if isinstance(thing, property) else thing
        if not inspect.isfunction(function):
            continue
        file = Path(inspect.getfile(function)).resolve()
        if not file.exists() or not file.is_relative_to(ROOT):  # a dataclass's, say
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        every = [*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs, tree.args.vararg, tree.args.kwarg]
        hints = {one.arg: one.annotation for one in every if one is not None} | {"return": tree.returns}
        for argument, hint in hints.items():
            if hint is not None and any(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(hint)):
                yield file.relative_to(ROOT).as_posix(), f"{name}({argument})"


def test_public_signatures_hold_no_any() -> None:
    assert sorted(set(untyped())) == []


def test_the_check_sees_what_lacks() -> None:
    class Thing:
        """Do a thing to images."""

        def __init__(self, size: int) -> None:
            if size < 0:
                raise ValueError("Thing: `size` must be at least 0.")

    class Told:
        """Do a thing to images.

        Args:
            size: Side in pixels.

        Raises:
            ValueError: If `size` is negative.
        """

        def __init__(self, size: int) -> None:
            if size < 0:
                raise ValueError("Told: `size` must be at least 0.")

    def bare() -> None: ...

    assert lacking("Thing", Thing) == ["argument size", "Raises"]
    assert lacking("Told", Told) == []
    assert lacking("bare", bare) == ["a docstring"]
