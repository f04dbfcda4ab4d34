"""The package as it is installed: built as a wheel, unpacked, and run from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling, which builds wheels, is not installed")
pytest.importorskip("typer")

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from gpuaug.benchmarks.suite import Part, run
from gpuaug.demo.photographs import ASSETS

if __name__ == "__main__":
    parts = [Part("recipes", 1, images=2, rounds="many")]  # wrong on purpose: a right one compiles for minutes
    found = run(parts, ASSETS, "cpu", "quick", lambda part, at: None)
    print(found["failed"]["recipes, 1 core"].split(":")[0], "benchmarks" in sys.modules)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like site-packages, with the wheel in it and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder where there is no clone."""
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=site.parent, env=environment, capture_output=True, text=True, check=False
    )


def test_nothing_but_gpuaug_is_installed(site: Path) -> None:
    assert sorted(path.name for path in site.iterdir() if path.suffix != ".dist-info") == ["gpuaug"]
    assert python(site, "-c", "import gpuaug; print(gpuaug.__file__)").stdout.startswith(str(site))


def test_results_charts_and_tests_are_not_installed(site: Path) -> None:
    names = [path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()]
    assert "gpuaug/benchmarks/evidence/fakecuda.c" in names
    assert not [name for name in names if "results/" in name or "test_" in name or "conftest" in name]
    assert not [name for name in names if name.endswith((".png", ".json"))]


def test_help_names_the_benchmark(site: Path) -> None:
    done = python(site, "-m", "gpuaug", "--help")
    assert done.returncode == 0, done.stderr
    assert "bench" in done.stdout
    assert "recipes" in python(site, "-m", "gpuaug", "bench", "--help").stdout


def test_a_stored_run_is_shown(site: Path) -> None:
    file = ROOT / "benchmarks" / "results" / "full.json"
    done = python(site, "-m", "gpuaug", "bench", "--show", str(file))
    assert done.returncode == 0, done.stderr
    assert "Recipes, 1 core" in done.stdout


def test_a_regime_starts_in_its_own_process(site: Path) -> None:
    script = site.parent / "script.py"
    script.write_text(RUN)
    done = python(site, str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["TypeError", "False"]


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("evidence.bounds", "needs the repository's tests"),
        ("evidence.occupancy", "needs the repository's tests"),
        ("report.docs", "the stored runs are in the repository, not in an installed package"),
    ],
)
def test_what_needs_the_repository_says_so_in_one_sentence(site: Path, module: str, says: str) -> None:
    for dependency in ("triton", "scipy", "matplotlib"):
        pytest.importorskip(dependency)
    done = python(site, "-m", f"gpuaug.benchmarks.{module}")
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
