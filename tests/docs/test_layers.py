"""Imports only go down, and what is heavy is imported only where it is used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpuaug

ROOT = Path(gpuaug.__file__).parent

# Lowest first. A module may import from lower layers, and from its own layer only within one package.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("checks", "philox", "matrix", "tone", "ahead"),
    ("ragged",),
    ("data",),
    ("photographs", "counter", "epochs", "state"),
    ("program", "looks"),
    ("recompute",),
    ("resample",),
    ("kernels",),
    ("render",),
    ("transform",),
    ("transforms", "builder"),
    ("interop",),
    ("pipeline", "numbering"),
    ("capture", "export"),
    ("augment",),
    ("loader", "preview"),
    ("speed", "learning"),
    ("demo",),
    ("profiler",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# Outside libraries, and the only places that may import them at module level; None is everywhere
ALLOWED: dict[str, tuple[str, ...] | None] = {
    "torch": None,
    "torchvision": None,
    "numpy": None,
    "numba": ("kernels.numba",),
    "llvmlite": ("kernels.numba",),
    "triton": ("kernels.triton",),
    "kornia": (),
    "sklearn": (),
    "matplotlib": (),
    "pyarrow": (),
    "rich": ("demo",),
    "typer": ("profiler.commands",),
    "pydantic": (),
    "jinja2": (),
}

MODULES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """`kernels.torch.step` for gpuaug/kernels/torch/step.py; a package is its own name, the root `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(tree: ast.AST, module_level: bool) -> Iterator[str]:
    """Full names of what is imported, at module level or anywhere."""
    nodes = list(ast.walk(tree))
    if module_level:
        inside = {
            child
            for node in nodes
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_type_checking(node)
            for child in ast.walk(node)
        }
        nodes = [node for node in nodes if node not in inside]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def part(name: str) -> str:
    """The part of the package `gpuaug.a.b` belongs to: `a`; of `gpuaug` itself, or a name in it, `__init__`."""
    first = [*name.split("."), ""][1]
    return first if first in LAYER else "__init__"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_go_down(path: Path) -> None:
    own = name_of(path).split(".")[0]
    assert own in LAYER, f"{own} has no place in LAYERS"
    for name in imported(ast.parse(path.read_text()), module_level=False):
        if name.split(".")[0] == "gpuaug":
            other = part(name)
            assert LAYER[other] < LAYER[own] or (other == own), f"{name_of(path)} imports {name}"


BACKENDS = [path for path in MODULES if name_of(path).startswith("kernels.")]


@pytest.mark.parametrize("path", BACKENDS, ids=name_of)
def test_a_backend_imports_itself_and_constants_of_the_twin(path: Path) -> None:
    backend = name_of(path).split(".")[1]
    for other in imported(ast.parse(path.read_text()), module_level=False):
        if other.startswith("gpuaug.kernels.") and not other.startswith(f"gpuaug.kernels.{backend}"):
            assert backend != "torch", f"the twin imports {other}"
            assert other.startswith("gpuaug.kernels.torch."), f"{backend} imports {other}"
            assert other.split(".")[-1].isupper(), f"{backend} imports {other}, which is no constant"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_outside_libraries_are_imported_where_they_are_allowed(path: Path) -> None:
    name = name_of(path)
    for outside in imported(ast.parse(path.read_text()), module_level=True):
        places = ALLOWED.get(outside.split(".")[0])
        if places is not None:
            assert name.startswith(places), f"{name} imports {outside} at module level"


def test_every_layer_is_real() -> None:
    """The table names no module that is gone."""
    present = {name_of(path).split(".")[0] for path in MODULES}
    assert present <= set(LAYER)


def test_the_check_sees_an_import_upwards() -> None:
    tree = ast.parse("from gpuaug.augment import Augment\nif 1:\n    import kornia\ndef f():\n    import numba\n")
    assert [part(name) for name in imported(tree, module_level=True)][:1] == ["augment"]
    assert LAYER["augment"] > LAYER["program"]
    assert "kornia" in set(imported(tree, module_level=True))
    assert "numba" not in set(imported(tree, module_level=True))
    assert "numba" in set(imported(tree, module_level=False))
