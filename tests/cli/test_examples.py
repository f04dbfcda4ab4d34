"""Each example runs, on CPU, with tiny settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpuaug.demo import photographs
from tests.support.images import small_cifar

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: object, cwd: Path) -> str:
    """What the example prints; warnings are errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("augment", ["none", "strong"])
def test_train_cifar10(tmp_path: Path, augment: str) -> None:
    pytest.importorskip("matplotlib")
    settings = ["--augment", augment, "--epochs", 2, "--batch", 4, "--limit", 8, "--out", "runs"]
    printed = run("train_cifar10.py", "--data", small_cifar(tmp_path / "data"), *settings, cwd=tmp_path)
    assert "8 training and 8 test images" in printed
    assert len(re.findall(r"^ +[12] +\d+\.\d +\d+\.\d +\d+\.\d$", printed, re.M)) == 2, printed
    assert len(json.loads((tmp_path / "runs" / f"{augment}-0.json").read_text())["test"]) == 2
    assert (tmp_path / "runs" / "accuracy.png").stat().st_size > 10_000


@pytest.mark.parametrize("split", [True, False])
def test_finetune_imagefolder(tmp_path: Path, split: bool) -> None:
    for part in ("train", "val") if split else ("",):
        for number, path in enumerate(photographs.paths()[:2]):
            folder = tmp_path / "data" / part / f"class{number}"
            folder.mkdir(parents=True)
            for copy in range(4):
                shutil.copyfile(path, folder / f"{copy}.jpg")
    settings = ["--weights", "none", "--epochs", 2, "--batch", 4, "--limit", 6, "--size", 64, "--workers", int(split)]
    printed = run("finetune_imagefolder.py", "--data", "data", *settings, cwd=tmp_path)
    assert len(re.findall(r"^ +[12] +\d\.\d{3} +\d+\.\d$", printed, re.M)) == 2, printed


def test_finetune_imagefolder_with_a_recipe(tmp_path: Path) -> None:
    for number, path in enumerate(photographs.paths()[:2]):
        folder = tmp_path / "data" / f"class{number}"
        folder.mkdir(parents=True)
        for copy in range(4):
            shutil.copyfile(path, folder / f"{copy}.jpg")
    settings = ["--data", "data", "--weights", "none", "--epochs", 1, "--batch", 4, "--size", 64, "--workers", 0]
    for strength in (1, 0):
        chosen = ["--recipe", "small_data", "--strength", strength]
        printed = run("finetune_imagefolder.py", *settings, *chosen, cwd=tmp_path)
        assert len(re.findall(r"^ +1 +\d\.\d{3} +\d+\.\d$", printed, re.M)) == 1, printed
    with pytest.raises(AssertionError, match=r"from_dict: `train.recipe` must be one of small_data, standard"):
        run("finetune_imagefolder.py", *settings, "--recipe", "small", cwd=tmp_path)


def test_profile_imagefolder(tmp_path: Path) -> None:
    """The profiler on a stock pipeline: augmentation is found, its move is predicted, done and measured."""
    pytest.importorskip("pydantic")
    script = EXAMPLES / "profile_imagefolder.py"
    arguments = ["--model", f"{script}:make_step", "--budget", "30s", "--json", "report.json", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "gpuaug", "profile", f"{script}:make_loader", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "STEP_MS": "5", "PYTHONPATH": str(EXAMPLES.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    assert {"decode", "RandomResizedCrop", "RandAugment", "Normalize"} <= {one["name"] for one in found["stages"]}
    moved = "augment-on-device" in {one["id"] for one in found["advice"]}
    if not moved:  # other programs used the cores that it would need: then it is said
        why = found["skipped"]["augment on the device"]
        assert why.startswith("no gain, as a batch takes ") or "did not fit the budget" in why, done.stdout
    assert (found["receipt"] is None) == ("receipt" in found["skipped"]), done.stdout


GRIDS = ("flip_left_right", "flip_up_down", "crop", "brightness", "hue", "jitter", "combined", "others")


TWO_PROCESSES = pytest.param(
    2,
    marks=pytest.mark.skipif(
        torch.__version__.startswith("2.11."),
        reason="as test_train_ddp: with Gloo, the end of a process may hang (torch 2.11)",
    ),
)


@pytest.mark.parametrize("processes", [1, TWO_PROCESSES])
def test_book_augmentation(tmp_path: Path, processes: int) -> None:
    """Grids, table, file and curves, on one process and on two, which see the same images with the same draws."""
    pytest.importorskip("matplotlib")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
    settings = ["--data", str(small_cifar(tmp_path / "data")), "--epochs", "2", "--images", "12", "--batch", "4"]
    done = subprocess.run(
        [sys.executable, *launcher, str(EXAMPLES / "book_augmentation.py"), *settings, "--out", "book"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"processes: {processes}, 12 training and 12 test images, on " in done.stdout
    found = json.loads((tmp_path / "book" / "book.json").read_text())
    lists = [one["list"] for one in found["runs"]]
    assert lists[0] == "none"
    assert len(set(lists)) == len(lists) == 5
    for name in lists:  # while it trains, and at the end
        assert len(re.findall(rf"^ +0   {name} +\d+\.\d +\d+\.\d$", done.stdout, re.M)) == 1, done.stdout
        assert len(re.findall(rf"^{name} +\d+\.\d +\d+\.\d +-?\d+ +[+-]\d+\.\d$", done.stdout, re.M)) == 1, done.stdout
    assert all(len(one["curve"]) == 2 and one["curve"][-1] == one["test"] for one in found["runs"])
    for name in (*GRIDS, "cifar10", "curves"):
        with Image.open(tmp_path / "book" / f"{name}.jpg") as picture:
            assert picture.width > 250, name


def losses(printed: str) -> list[float]:
    return [float(found) for found in re.findall(r"^step +\d+  loss (\d+\.\d+)$", printed, re.M)]


def test_segmentation(tmp_path: Path) -> None:
    """The loss falls to less than half, and every class is found on images that the network has not seen."""
    printed = run("segmentation.py", "--steps", 41, cwd=tmp_path)
    found = losses(printed)
    assert found[-1] < 0.5 * found[0], printed
    scores = dict(re.findall(r"^IoU (\w+): (\d\.\d\d)$", printed, re.M))
    assert list(scores) == ["background", "disc", "square"], printed
    assert float(scores["background"]) > 0.8, printed


def test_detection(tmp_path: Path) -> None:
    printed = run("detection.py", "--steps", 31, cwd=tmp_path)
    found = losses(printed)
    assert found[-1] < 0.7 * found[0], printed
    assert re.search(r"^found \d+ of \d+ objects$", printed, re.M), printed


def test_keypoints(tmp_path: Path) -> None:
    """The network finds points better than a guess at the centre does."""
    printed = run("keypoints.py", "--steps", 80, cwd=tmp_path)
    found = losses(printed)
    assert found[-1] < 0.5 * found[0], printed
    away = dict(re.findall(r"^mean distance of the (\w+): (\d+\.\d) pixels$", printed, re.M))
    assert float(away["network"]) < 0.9 * float(away["centre"]), printed


def test_clips(tmp_path: Path) -> None:
    """The loss falls, and the network tells how unseen windows move better than a guess, 1 of 3, does."""
    printed = run("clips.py", "--epochs", 6, cwd=tmp_path)
    found = [float(loss) for loss in re.findall(r"^epoch \d+  loss (\d+\.\d+)$", printed, re.M)]
    assert len(found) == 6
    assert found[-1] < 0.8 * found[0], printed
    (right,) = re.findall(r"^right answers: (\d\.\d\d)$", printed, re.M)
    assert float(right) > 0.5, printed


def test_tune_cifar10(tmp_path: Path) -> None:
    """A search of 9 settings with one seed; the second call reads it from the storage."""
    pytest.importorskip("optuna", reason="Optuna is not installed")
    settings = ["--data", small_cifar(tmp_path / "data"), "--per-class", 2, "--validation", 2, "--epochs", 1]
    printed = run("tune_cifar10.py", *settings, "--batch", 3, "--seeds", 1, cwd=tmp_path)
    assert len(re.findall(r"1 of 1$", printed, re.M)) == 9, printed
    assert "One seed, so that any difference may be chance." in printed
    assert len(json.loads((tmp_path / "runs" / "cifar10.json").read_text())["runs"]) == 9
    assert (tmp_path / "runs" / "cifar10.png").stat().st_size > 20_000
    assert run("tune_cifar10.py", *settings, "--batch", 3, "--seeds", 1, cwd=tmp_path) == printed
