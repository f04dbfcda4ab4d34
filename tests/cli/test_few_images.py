"""The benchmark of recipes on a few images a class: which images it takes, and the table it prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report.few_images import subset
from gpuaug.demo import photographs

ROOT = Path(__file__).parents[2]


def write(folder: Path) -> Path:
    for part, count in (("train", 5), ("test", 3)):
        for number, path in enumerate(photographs.paths()[:2]):
            place = folder / part / f"class{number}"
            place.mkdir(parents=True)
            for copy in range(count):
                shutil.copyfile(path, place / f"{copy}.jpg")
    return folder


def test_it_takes_the_first_images_of_each_class(tmp_path: Path) -> None:
    data, folder = write(tmp_path / "data"), tmp_path / "subset"
    subset(data, 2, folder)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    assert [name for name in found if name.startswith("train")] == [
        f"train/class{number}/{copy}.jpg" for number in (0, 1) for copy in (0, 1)
    ]
    assert len([name for name in found if name.startswith("val")]) == 6
    with pytest.raises(SystemExit, match="must hold train/ and val/ or test/"):
        subset(folder / "train", 2, tmp_path / "other")


def test_it_prints_a_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.report.few_images", "--data", str(write(tmp_path))]
    command += ["--per-class", "2", "--epochs", "1", "--seeds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, rule, none, recipe = done.stdout.splitlines()
    assert (first, rule) == ("| augmentation | seed 0 | mean |", "|---|---|---|")
    assert none.startswith("| none (the evaluation list) | ")
    assert recipe.startswith("| `small_data` | ")
