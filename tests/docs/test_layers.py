"""Imports only go down, nothing imports in a circle, and what is heavy is imported only where it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.imports import FLOORS, PACKAGE, ROOT, circles, floor, graph, imported, name_of, picture, upwards

# Outside libraries, and the only places that may import them at module level; None is everywhere
ALLOWED: dict[str, tuple[str, ...] | None] = {
    "torch": None,
    "torchvision": None,
    "numpy": None,
    "numba": ("kernels.numba", "compat"),
    "llvmlite": ("kernels.numba",),
    "triton": ("kernels.triton",),
    "kornia": (),
    "sklearn": (),
    "scipy": (),
    "optuna": (),
    "matplotlib": (),
    "pyarrow": (),
    "rich": ("demo",),
    "typer": ("cli",),
    "pydantic": (),
    "yaml": (),
    "jinja2": (),
}
MOST_ROOMS = 24
MODULES = sorted(PACKAGE.rglob("*.py"))
BACKENDS = [path for path in MODULES if name_of(path).split(".")[1:2] in (["torch"], ["numba"], ["triton"])]


def test_imports_only_go_down() -> None:
    found = graph()
    print(picture(found))
    assert upwards(found) == []


def test_no_files_import_in_a_circle() -> None:
    found = graph()
    assert circles({name: others - {"__init__"} for name, others in found.items()}) == []


def test_the_rooms_are_few() -> None:
    rooms = {name_of(path).split(".")[0] for path in MODULES}
    assert len(rooms) <= MOST_ROOMS, rooms


def test_every_floor_is_real() -> None:
    """The table names nothing that is gone."""
    found = graph()
    for entry in (entry for entries in FLOORS for entry in entries):
        assert any(f"{name}.".startswith(f"{entry}.") for name in found), entry


@pytest.mark.parametrize("path", BACKENDS, ids=name_of)
def test_a_backend_imports_itself_and_constants_of_the_twin(path: Path) -> None:
    backend = name_of(path).split(".")[1]
    for other in imported(ast.parse(path.read_text()), module_level=False):
        for rival in {"torch", "numba", "triton"} - {backend}:
            if other.startswith(f"gpuaug.kernels.{rival}"):
                assert backend != "torch", f"the twin imports {other}"
                assert rival == "torch", f"{backend} imports {other}"
                assert other.split(".")[-1].isupper(), f"{backend} imports {other}, which is no constant"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_outside_libraries_are_imported_where_they_are_allowed(path: Path) -> None:
    name = name_of(path)
    for outside in imported(ast.parse(path.read_text()), module_level=True):
        places = ALLOWED.get(outside.split(".")[0])
        if places is not None:
            assert name.startswith(places), f"{name} imports {outside} at module level"


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("gpuaug", ["torch", "numpy"]),
        ("gpuaug.augment", ["gpuaug.data", "gpuaug.profiler", "gpuaug.demo", "gpuaug.cli", "numba"]),
        ("gpuaug.data", ["gpuaug.augment", "gpuaug.kernels", "numba", "pyarrow"]),
        ("gpuaug.profiler", ["gpuaug.augment", "gpuaug.data", "gpuaug.engine", "gpuaug.transforms", "torchvision"]),
        ("gpuaug.cli.main", ["torch", "numpy", "gpuaug.augment"]),
    ],
)
def test_a_room_does_not_load_others(module: str, without: list[str]) -> None:
    code = f"import sys, {module}; print(*(n for n in {without!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# The only files that may change the import path
PATHS = {
    "gpuaug/cli/target.py",  # the user's script may import files beside it, as under `python FILE`
    "gpuaug/profiler/run.py",  # runs a script as `python FILE` does
    "tests/support/mutants.py",  # a process that runs the tests of a changed copy
}


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(found) > 50
    return found


def test_no_test_module_is_imported_by_another() -> None:
    for path in files("gpuaug", "benchmarks", "tests"):
        package = ".".join(path.relative_to(ROOT).parent.parts)
        for full in imported(ast.parse(path.read_text(encoding="utf-8")), module_level=False, package=package):
            module = full.rpartition(".")[0]
            assert not module.rpartition(".")[2].startswith("test_"), f"{path} imports {full}"


def test_nothing_changes_the_path() -> None:
    found = set()
    for path in files("gpuaug", "benchmarks", "tests", "examples"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "path" and ast.unparse(node.value) == "sys":
                found.add(path.relative_to(ROOT).as_posix())
    assert found == PATHS


def test_the_benchmarks_import_each_other_relatively() -> None:
    """The same files are `benchmarks` in a clone and `gpuaug.benchmarks` in an installed package."""
    for path in files("benchmarks"):
        for full in imported(ast.parse(path.read_text(encoding="utf-8")), module_level=False, package="."):
            assert not full.startswith("benchmarks"), f"{path} imports {full}"


def test_the_checks_see_an_import_upwards_and_a_circle() -> None:
    text = {
        "augment": "from gpuaug.program import Op\nif 1:\n    import kornia\ndef f():\n    import numba\n",
        "program": "def late():\n    from gpuaug.augment import Augment\n",
    }
    found = graph(text)
    assert upwards(found) == ["program imports augment"]
    assert circles(found) == [["augment", "program"]]
    tree = ast.parse(text["augment"])
    assert "kornia" in set(imported(tree, module_level=True))
    assert "numba" not in set(imported(tree, module_level=True))
    assert "numba" in set(imported(tree, module_level=False))
    assert floor("kernels.numba.crop") == floor("kernels")
    assert floor("data.loader") < floor("data.sampler")


def test_no_helper_hides_a_module_of_python() -> None:
    """A helper that runs as a program has its folder first on the path."""
    names = {path.stem for path in (ROOT / "tests" / "support").glob("*.py")} - {"__init__"}
    assert len(names) > 20
    assert not names & sys.stdlib_module_names
