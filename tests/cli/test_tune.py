"""`gpuaug tune` runs a search by names and files, and says what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("optuna", reason="Optuna is not installed")
from typer.testing import CliRunner

from gpuaug.cli.errors import FAILED
from gpuaug.cli.main import app

SCRIPT = """
import torch
import gpuaug as ga
steps = [ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32)]
def train(steps, seed, reporter):
    magnitude = steps[1].magnitude if len(steps) == 3 else 0
    for epoch in range(2):
        yield {"targets": [0, 1, 1], "scores": [0, 1, magnitude % 2]}
def cost(targets, scores):
    return float((targets != scores).sum())
def broken(steps, seed, reporter):
    if len(steps) == 3:
        raise OSError("disk")
    return {"accuracy": 1.0}
"""


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app(), ["tune", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "search_by_command.py").write_text(SCRIPT)
    (tmp_path / "space.json").write_text('{"randaugment": {"magnitude": [5, 10]}}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_search_by_files(folder: Path) -> None:
    given = ["--recipe", "search_by_command.py:steps", "--space", "space.json", "--seeds", 2, "--quiet"]
    command = ["search_by_command.py:train", *given, "--metric", "search_by_command.py:cost", "--minimize"]
    status, out, _ = run(*command, "--json", "found.json", "--plot", "found.png")
    assert status == 0
    assert out.splitlines()[0].split()[:3] == ["rank", "settings", "cost"]
    assert out.splitlines()[1].split()[:2] == ["1", "magnitude=5"]
    assert json.loads((folder / "found.json").read_text())["best"] == {"magnitude": 5}
    assert (folder / "found.png").exists()
    assert (folder / "gpuaug-tune.db").exists()
    assert run(*command)[1] == out, "from the storage"


def test_a_run_that_fails_is_said(folder: Path) -> None:
    given = ["--recipe", "search_by_command.py:steps", "--space", "space.json", "--seeds", 1]
    status, out, err = run("search_by_command:broken", *given)  # as a module
    assert status == FAILED
    assert "FAILED in epoch 1, OSError: disk" in err
    assert "Failed runs:" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search_by_command.py"], "tune: `target` must be MODULE:FUNCTION or FILE.py:FUNCTION, got"),
        (["none.py:train"], "tune: `target` must name a file, and there is no file none.py."),
        (["no_such_module_here:train"], "tune: no_such_module_here could not be imported: ModuleNotFoundError"),
        (["search_by_command.py:trian"], "tune: `target` must be a name in search_by_command.py"),
        (["search_by_command.py:train", "--space", "none.json"], "tune: `--space` must name a file"),
        (["search_by_command.py:train", "--space", "search_by_command.py"], "tune: `--space` must be a .json, .yaml"),
        (["search_by_command.py:train", "--plot", "found.gif"], "tune: `--plot` must name a .png, .svg or .pdf file"),
        (["search_by_command.py:train", "--json", "none/found.json"], "tune: a file must lie in a folder that exists"),
        (["search_by_command.py:train", "--recipe", "search_by_command.py:cost"], "tune: `recipe` must be a function"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder: Path, arguments: list[str], words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith(words)
