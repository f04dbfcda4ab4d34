"""A call as an object: what is checked and reserved, used up or given back; and that nobody reaches inside a module."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch

import gpuaug as ga
from tests.support.helpers import noise, used
from tests.support.imports import ROOT

PRIVATE = re.compile(r"\b(augment|module|numbering)\._(?!_)[a-z]\w*|\._numbering\b")
OUTSIDE = [ROOT / "gpuaug/data/loader.py", ROOT / "gpuaug/engine/capture.py", *(ROOT / "gpuaug/demo").rglob("*.py")]


def augment() -> ga.Augment:
    return ga.Augment([ga.RandomHorizontalFlip(), ga.RandomInvert()], seed=3, backend="torch")


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.name)
def test_no_private_member_of_a_module_is_used_outside(path: Path) -> None:
    assert PRIVATE.findall(path.read_text(encoding="utf-8")) == []


def test_the_check_sees_a_private_member() -> None:
    assert PRIVATE.search("keys = self.augment._keys(3)")
    assert PRIVATE.search("module._numbering.epochs")


def test_a_call_renders_what_forward_renders_and_uses_up_draws_once_it_is_committed() -> None:
    module, images = augment(), noise(6)
    call = module.prepare(images)
    first = call.run()
    assert torch.equal(first, call.run())
    call.release()
    assert used(module)["counter"] == 0
    assert torch.equal(first, module(images))
    assert used(module)["counter"] == 6
    with module.prepare(images) as call:
        call.run()
    assert used(module)["counter"] == 12
    with pytest.raises(ZeroDivisionError), module.prepare(images):
        raise ZeroDivisionError
    assert used(module)["counter"] == 12


def test_a_call_cannot_be_changed() -> None:
    call = augment().prepare(noise(2))
    with pytest.raises(FrozenInstanceError):
        call.training = False  # type: ignore[misc]


def test_an_example_uses_up_nothing() -> None:
    module, images = augment(), noise(4)
    draw = module.eval().example_draw(images, epoch=2)
    assert (draw.keys.epoch, draw.training) == (2, True)
    assert used(module) == {"epoch": 0, "counter": 0}


TYPES = """
from typing_extensions import assert_type
import torch
from torch import Tensor
import gpuaug as ga

augment = ga.Augment([ga.RandomInvert()])
images, labels = torch.zeros(1), torch.zeros(1)
assert_type(augment(images), Tensor)
assert_type(augment(images, labels), tuple[Tensor, Tensor])
assert_type(augment.forward(images), Tensor)
assert_type(augment.render(images, augment.sample(images)), Tensor)
"""


def test_types_say_what_a_call_returns(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "case.py").write_text(TYPES)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(tmp_path / "case.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
