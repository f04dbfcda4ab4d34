"""A call as an object: what is checked and reserved, used up or given back; and that nobody reaches inside a module."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
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


@pytest.mark.parametrize("index", [None, torch.arange(6)], ids=["counter", "index"])
def test_a_dropped_call_has_used_up_its_draws(index: torch.Tensor | None) -> None:
    """Kept as pending for ever, it would keep the saved state at its start, and each resume would repeat draws."""
    module, images, shown = augment(), noise(6), []
    for number in range(40):
        call = module.prepare(images, index=index)
        shown.append(call.draw().keys)
        if number % 2:
            call.commit()
        del call
    again = augment()
    again.load_state_dict(module.state_dict())
    following = module.prepare(images, index=index).draw().keys
    resumed = again.prepare(images, index=index).draw().keys
    for name in ("index", "look"):
        assert np.array_equal(getattr(resumed, name), getattr(following, name))
    assert len({(str(keys.index), str(keys.look)) for keys in [*shown, resumed]}) == 41


def test_a_call_given_back_after_a_later_one_was_used() -> None:
    """Two calls with the same images: the looks of the later one stay used up."""
    module, images, index = augment(), noise(6), torch.arange(6)
    first, second = module.prepare(images, index=index), module.prepare(images, index=index)
    seen = second.draw().keys.look
    second.commit()
    first.release()
    for _ in range(3):
        with module.prepare(images, index=index) as call:
            assert not (call.draw().keys.look == seen).any()


def test_calls_given_back_from_the_last_on_leave_nothing() -> None:
    module, images, index = augment(), noise(6), torch.arange(6)
    calls = [module.prepare(images, index=index) for _ in range(4)]
    looks = calls[0].draw().keys.look
    for call in reversed(calls):
        call.release()
    assert np.array_equal(module.prepare(images, index=index).draw().keys.look, looks)


@pytest.mark.parametrize("index", [None, torch.tensor([40, 3, 700, 3])], ids=["counter", "index"])
def test_a_state_counts_none_of_many_calls_ahead(index: torch.Tensor | None) -> None:
    """More of them than are looked through at once, with the same images, whose pages come in no order."""
    module, again, images = augment(), augment(), noise(4)
    calls = [module.prepare(images, index=index) for _ in range(40)]
    again.load_state_dict(module.state_dict())
    first, resumed = calls[0].draw().keys, again.prepare(images, index=index).draw().keys
    assert np.array_equal(resumed.index, first.index)
    assert np.array_equal(resumed.look, first.look)
    calls[0].commit()
    again.load_state_dict(module.state_dict())
    second, resumed = calls[1].draw().keys, again.prepare(images, index=index).draw().keys
    assert np.array_equal(resumed.index, second.index)
    assert np.array_equal(resumed.look, second.look)


def test_in_what_order_images_were_shown_is_not_in_the_state() -> None:
    module, other, index = augment(), augment(), torch.tensor([700, 40, 3])
    module(noise(3), index=index)
    other(noise(3), index=index.flip(0))
    assert torch.equal(module.state_dict()["_extra_state"], other.state_dict()["_extra_state"])


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
