"""What a list compiles: the kernels that it needs, and not the large ones that it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("numba")

CODE = """
import importlib, pkgutil, torch
import gpuaug as ga
import gpuaug.kernels.numba as package
from numba.core.dispatcher import Dispatcher

floats = [ga.ToDtype(torch.float32, scale=True)]
augment = ga.Augment({steps}, seed=0, backend="numba")
for count in (1, 7):
    augment(torch.zeros(count, 3, 40, 36, dtype=torch.uint8))
for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    for name, value in vars(importlib.import_module(info.name)).items():
        if isinstance(value, Dispatcher) and value.__module__ == info.name and value.overloads:
            print(name)
"""
CUT = {"cut_group", "cut_window", "cut", "place", "_source"}
LARGE = {"crop_group", "run_group", "finish_group", "run_instructions", "crop", "finish"}


@pytest.mark.parametrize(
    ("steps", "needs", "not_needed"),
    [
        ("[ga.RandomHorizontalFlip()]", {"cut_group"}, LARGE | {"finish_group_by_table"}),
        ("[ga.RandomCrop(20)]", {"cut_group"}, LARGE | {"finish_group_by_table"}),
        ("[ga.RandomInvert(), ga.RandomPosterize(3), *floats]", {"finish_group_by_table"}, LARGE | CUT),
        ("[ga.CenterCrop(20), ga.RandomSolarize(9.0), *floats]", {"cut_group", "finish_group_by_table"}, LARGE),
        ("[ga.RandomResizedCrop(20), *floats]", {"crop_group", "finish_group_by_table"}, {"run_group", "finish_group"}),
        ("[ga.RandomResizedCrop(20), ga.ColorJitter(0.4, hue=0.1)]", {"crop_group", "run_group"}, {"finish_group"}),
    ],
)
def test_what_a_list_compiles(steps: str, needs: set[str], not_needed: set[str]) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(steps=steps)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled = set(done.stdout.split())
    assert needs <= compiled
    assert not compiled & not_needed
