"""Importing gpuaug, and running a plain pipeline, brings in only what they need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "kornia",
    "numba",
    "llvmlite",
    "sklearn",
    "scipy",
    "matplotlib",
    "rich",
    "typer",
    "pandas",
    "triton",
    "pyarrow",
)

PLAIN = """
import torch
import gpuaug as ga
steps = [ga.RandomResizedCrop(8), ga.RandAugment(), ga.AugMix(), ga.GaussianBlur(3), ga.ToDtype(torch.float32)]
ga.Augment(steps, backend="torch")(torch.zeros(2, 3, 9, 9, dtype=torch.uint8))
"""


def loaded_after(code: str) -> set[str]:
    """Which heavy libraries `code` imports, beyond those that torch and torchvision import themselves."""
    base = "import torch, torchvision.transforms.v2, sys; before = set(sys.modules)\n"
    ask = f"\nprint(' '.join(n for n in {HEAVY!r} if n in sys.modules and n not in before))"
    run = subprocess.run([sys.executable, "-c", base + code + ask], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize(("code", "expected"), [("import gpuaug", set()), (PLAIN, set())], ids=["import", "plain"])
def test_heavy_libraries_stay_out(code: str, expected: set[str]) -> None:
    assert loaded_after(code) == expected


def test_kornia_comes_with_the_op_that_needs_it() -> None:
    code = PLAIN + "ga.Augment([ga.MotionBlur(3, 0, 0)], backend='torch')(torch.zeros(2, 3, 9, 9, dtype=torch.uint8))"
    assert "kornia" in loaded_after(code)


LATE = ("torch", "numpy", "torchvision", "gpuaug.engine", "gpuaug.data", "gpuaug.profiler", "gpuaug.demo")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["bench", "--help"], ["profile", "--help"]], ids=" ".join)
def test_help_imports_nothing_that_is_slow(words: list[str]) -> None:
    """It answers in under half a second; modules are counted, since time depends on the machine."""
    pytest.importorskip("typer")
    code = (
        "import sys\nfrom gpuaug.cli.main import main\n"
        f"sys.argv = ['gpuaug', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('late:', *(name for name in {LATE!r} if name in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1].split() == ["late:"]
