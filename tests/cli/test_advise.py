"""`gpuaug advise` prints a sentence for each finding, and exits as asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("typer")
from typer.testing import CliRunner

from gpuaug.cli.errors import FAILED
from gpuaug.cli.main import app

SCRIPT = """
import gpuaug as ga
from torch.utils.data import DataLoader
from torchvision.datasets import FakeData
steps = [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip()]
def made():
    return ga.Augment(steps, seed=0)
def loader():
    return DataLoader(FakeData(4), num_workers=0)
"""


def run(*arguments: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app(), ["advise", *arguments])
    return result.exit_code, result.output.splitlines()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "lists_to_advise.py"
    path.write_text(SCRIPT)
    return path


def test_findings_are_printed(script: Path, tmp_path: Path) -> None:
    assert run(f"{script}:steps") == (0, ["Nothing was found that is likely to be wrong."])
    status, lines = run(f"{script}:made", "--classes", "left, right", "--loader", f"{script}:loader")
    assert status == 0
    assert [line.split(":")[0] for line in lines] == ["flip-changes-class", "no-workers"]
    for name in ("left", "right"):
        (tmp_path / "data" / name).mkdir(parents=True)
    weights = ["--weights", "ResNet50_Weights.DEFAULT", "--strict"]
    status, lines = run(f"{script}:steps", "--classes", str(tmp_path / "data"), *weights)
    assert status == FAILED
    assert [line.split(":")[0] for line in lines] == ["flip-changes-class", "normalize-missing"]


def test_a_configuration_is_read(tmp_path: Path) -> None:
    steps = [{"RandomResizedCrop": {"size": 224}}, "RandomHorizontalFlip", {"ToDtype": {"dtype": "float32"}}]
    weights = ["--weights", "ResNet50_Weights.DEFAULT", "--strict"]
    (tmp_path / "list.json").write_text(json.dumps({"train": steps}), encoding="utf-8")
    status, lines = run(str(tmp_path / "list.json"), *weights)
    assert (status, [line.split(":")[0] for line in lines]) == (FAILED, ["normalize-missing"])
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    recipe = "train: {recipe: standard, size: 224, num_classes: 1000}"
    (tmp_path / "list.yaml").write_text(recipe, encoding="utf-8")
    assert run(str(tmp_path / "list.yaml"), *weights) == (0, ["Nothing was found that is likely to be wrong."])


def test_wrong_targets(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"train": ["RandomFlip"]}', encoding="utf-8")
    (tmp_path / "broken_list_to_advise.py").write_text("import no_such_module", encoding="utf-8")
    for target, words in (
        ("wrong.json", "from_dict: `train[0]` must be"),
        ("none.yaml", "advise: `target` must name a file, and there is no file"),
        ("list.toml", "advise: `target` must be FILE.py:NAME, or a configuration (.json, .yaml or .yml), got"),
        ("broken_list_to_advise.py:steps", f"advise: {tmp_path}"),
    ):
        status, lines = run(str(tmp_path / target))
        assert status == 1
        assert lines[-1].startswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--weights", "ResNet51"], "advise: `--weights` must be weights of torchvision"),
        (["--weights", "ResNet50_Weights.NONE"], "advise: `--weights` must be weights of torchvision"),
        (["--domain", "moon"], "advise: `domain` must be one of"),
        (["--label-smoothing", "3"], "advise: `label_smoothing` must be a number in [0, 1], got 3"),
    ],
)
def test_wrong_options(script: Path, arguments: list[str], words: str) -> None:
    status, lines = run(f"{script}:steps", *arguments)
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith(words)
