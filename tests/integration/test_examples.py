"""The examples for frameworks run, with tiny settings, and are short. What gpuaug warns of is an error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpuaug.demo import photographs
from tests.integration.frameworks import QUIET, framework

pytestmark = QUIET
ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("with_*.py"))
LONGEST = 60  # lines
NEEDS = {"trainer": ("transformers", "datasets", "accelerate"), "torchvision": ()}
OURS = (
    "Augment",
    "DeviceLoader",
    "Indexed",
    "ImageFolder",
    "ragged_collate",
    "lightning_callback",
    "attach_to_trainer",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four photographs, for training and validation."""
    folder = tmp_path_factory.mktemp("examples") / "photos"
    for part in ("train", "val"):
        for number, path in enumerate(photographs.paths()[:2]):
            (folder / part / f"class{number}").mkdir(parents=True)
            for copy in range(4):
                shutil.copyfile(path, folder / part / f"class{number}" / f"{copy}.jpg")
    return folder


def run(name: str, *arguments: object, cwd: Path) -> str:
    needed = NEEDS.get(name, (name,))
    for one in needed:
        framework(one)
    errors = [f"-Werror:{ours}" for ours in OURS]
    command = [sys.executable, *errors, str(ROOT / "examples" / f"with_{name}.py"), *map(str, arguments)]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_is_short_and_has_a_test() -> None:
    assert len(EXAMPLES) == 8
    for path in EXAMPLES:
        assert path.read_text("utf-8").count("\n") <= LONGEST, path.name
        assert f'"{path.stem.removeprefix("with_")}"' in Path(__file__).read_text("utf-8"), path.name


@pytest.mark.parametrize("name", ["lightning", "accelerate", "trainer", "timm", "fastai", "torchvision"])
def test_with(name: str, data: Path, tmp_path: Path) -> None:
    settings = ["--data", data, "--epochs", 2, "--batch", 3, "--size", 32]
    printed = run(name, *settings, cwd=tmp_path)
    found = re.findall(r"accuracy:? ([01]\.\d+)", printed)
    assert found, printed
    assert all(0 <= float(one) <= 1 for one in found)


def test_with_webdataset(data: Path, tmp_path: Path) -> None:
    name = "webdataset"
    wds = framework(name)
    with wds.TarWriter(str(tmp_path / "0.tar")) as writer:
        for number, path in enumerate(sorted(data.glob("train/*/*.jpg"))):
            label = int(path.parent.name.removeprefix("class"))
            writer.write({"__key__": f"{number:06d}", "jpg": path.read_bytes(), "cls": label})
    settings = ["--data", tmp_path / "0.tar", "--classes", 2, "--epochs", 2, "--batch", 3, "--size", 32]
    assert len(re.findall(r"^epoch [12]: loss \d+\.\d+$", run(name, *settings, cwd=tmp_path), re.M)) == 2


def test_with_torchdata(data: Path, tmp_path: Path) -> None:
    """Stopped in the second epoch and continued, it sees what it would have seen; losses show it."""
    name = "torchdata"
    settings = ["--data", data, "--epochs", 2, "--batch", 3, "--size", 32]
    first = run(name, *settings, "--stop", 4, cwd=tmp_path).splitlines()
    assert len(first) == 4
    rest = run(name, *settings, cwd=tmp_path).splitlines()
    assert [line.partition(":")[0] for line in first + rest] == ["epoch 1"] * 3 + ["epoch 2"] * 3
    assert run(name, *settings, cwd=tmp_path).splitlines() == rest, "again from the same checkpoint"
