"""`gpuaug show` prints what a configuration says, with defaults, on 80 columns; a mistake is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpuaug as ga
from gpuaug.recipes import NAMES

pytest.importorskip("typer")
pytest.importorskip("yaml", reason="PyYAML is not installed")

from gpuaug.cli.show import WIDTH, lines
from tests.support.ops import ROWS

CONFIG = """
train:
  - RandomResizedCrop: {size: 24, scale: [0.2, 1.0]}
  - RandomApply: {transforms: [RandomInvert, {ColorJitter: {brightness: 0.4}}]}
  - ToDtype: {dtype: float32, scale: true}
memory_format: channels_last
"""
SHOWN = """\
train
   0  RandomResizedCrop  size = 24, scale = (0.2, 1.0)
        defaults: ratio = (0.75, 1.3333333333333333),
          interpolation = 'bilinear', antialias = True
   1  RandomApply
        defaults: p = 0.5
      - RandomInvert
          defaults: p = 0.5
      - ColorJitter  brightness = 0.4
          defaults: contrast = None, saturation = None, hue = None
   2  ToDtype  dtype = torch.float32, scale = True

eval, derived from train
   0  Resize  size = 27
        defaults: interpolation = 'bilinear', max_size = None, antialias = True
   1  CenterCrop  size = 24
   2  ToDtype  dtype = torch.float32, scale = True

settings
      seed = drawn when the module is made, backend = auto,
      memory_format = torch.channels_last, exact = False, mask_fill = 0,
      erase_masks = False, flip_pairs = (), same = ()
"""


def show(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpuaug", "show", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_shows_lists_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    done = show(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == SHOWN


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"train": [{"RandomResizedCrop": {"size": 24, "scael": 1}}]}), encoding="utf-8")
    for wrong, text in (
        (path, "from_dict: `train[0].scael` must be an argument of"),
        (tmp_path / "no.yaml", "No such file"),
    ):
        done = show(wrong)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        assert text in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_recipes_fit_into_80_columns(name: str) -> None:
    found = NAMES[name](224)
    for steps in found if isinstance(found[0], list) else [found]:
        shown = list(lines(ga.Augment(steps, seed=2**64 - 1, memory_format=torch.channels_last)))
        assert max(map(len, shown)) <= WIDTH
        for step in steps:
            assert any(f"  {type(step).__name__}" in line for line in shown)


def test_every_op_is_shown_with_every_argument() -> None:
    for kind, row in ROWS.items():
        shown = list(lines(ga.Augment([*row.before, row.example], eval=[])))
        assert max(map(len, shown)) <= WIDTH, kind
        assert "      nothing" in shown


def test_long_values_are_broken() -> None:
    mean = tuple(0.123456789 + number / 1000 for number in range(12))
    steps = [ga.ToDtype(torch.float32), ga.Normalize(mean, mean)]
    shown = list(lines(ga.Augment(steps, seed=1)))
    assert max(map(len, shown)) <= WIDTH
    assert all(str(value) in "".join(shown) for value in mean)
