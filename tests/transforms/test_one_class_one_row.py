"""An op is one class and one row: two ops of docs/adding-an-op.md pass every check, with no other file touched."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.demo.preview import captions
from gpuaug.engine.evaluation import evaluation
from tests.support.helpers import BACKENDS, noise
from tests.support.ops import ROWS, added
from tests.support.ops.checks import CHECKS

pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-op.md"


def page() -> Any:
    """A module of the page's code, so that its classes can be pickled."""
    module = ModuleType("adding_an_op")
    sys.modules[module.__name__] = module
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S):
        exec(compile(block, str(PAGE), "exec"), vars(module))
    return module


TOYS = page()
OPS = {TOYS.RandomGamma: TOYS.GAMMA, TOYS.RandomShear: TOYS.SHEAR}


class TheirGamma(v2.Transform):
    """The counterpart that torchvision does not have."""

    def __init__(self, gamma: Any = (0.5, 2.0), p: float = 0.5) -> None:
        super().__init__()
        self.gamma, self.p = gamma, p

    def forward(self, image: Any) -> Any:
        gamma = float(torch.empty(1).uniform_(*self.gamma))
        return F.adjust_gamma(image, gamma) if torch.rand(1) < self.p else image


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The ops are where the package and torchvision would have them, for as long as a test runs."""
    for op in OPS:
        monkeypatch.setattr(ga, op.__name__, op, raising=False)
    monkeypatch.setattr(v2, "RandomGamma", TheirGamma, raising=False)
    with added(OPS):
        yield


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("check", CHECKS)
def test_every_check_passes(check: str, op: Any) -> None:
    CHECKS[check](op, ROWS[op])


def test_the_preview_says_what_was_drawn() -> None:
    augment = ga.Augment([TOYS.RandomGamma(), TOYS.RandomShear(30)], backend="torch")
    params = augment.sample(noise(16)).params
    for sample, caption in enumerate(captions(augment.train_pipeline.steps, params, 16)):
        gamma, shear = params[0]["gamma"][sample], params[1]["degrees"][sample]
        assert (f"gamma {gamma:.2f}" in caption) == params[0]["applied"][sample]
        assert f"Shear degrees {shear:.3g}".replace("-", "−") in caption


def test_they_are_left_out_in_evaluation() -> None:
    keep = ga.CenterCrop(8)
    assert evaluation([TOYS.RandomGamma(), keep, TOYS.RandomShear(30)]) == [keep]


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbouring_warps_are_composed(backend: str) -> None:
    """Shears there and back, resampled once, are the image itself."""
    images = noise(4)
    there, back = TOYS.RandomShear((20, 20)), TOYS.RandomShear((-20, -20))
    augment = ga.Augment([there, back], backend=backend)
    inside = (slice(None), slice(None), slice(9, 15), slice(8, 13))
    assert (augment(images)[inside].int() - images[inside].int()).abs().max() <= 1


def test_a_check_can_fail() -> None:
    """A row that is wrong in one thing is noticed."""
    from dataclasses import replace

    from tests.support.ops.drawn import Uniform
    from tests.support.ops.row import Drawn

    op, row = TOYS.RandomGamma, TOYS.GAMMA
    wrong: dict[str, Any] = {
        "bad numbers are refused": {"bad_numbers": {"gamma": [(1.0, 2.0)]}},
        "every argument is tried": {"bad_numbers": {}},
        "every parameter has a distribution": {"drawn": [Drawn(op(), {})]},
        "parameters have their distributions": {"drawn": [Drawn(op(), {"gamma": Uniform(0.5, 2.1)})]},
        "neutral parameters change nothing": {"neutral": lambda height, width: op((0.5, 0.5), p=1)},
        "no argument of torchvision's is left out": {"same": [{}]},
        "its example changes pixels": {"example": op((1, 1))},
        "it stands in containers": {"answer": lambda op, image, sample: image},
    }
    for check, fields in wrong.items():
        other = replace(row, **fields)
        with added({op: other}), pytest.raises((AssertionError, pytest.fail.Exception)):  # type: ignore[type-var]
            CHECKS[check](op, other)
    assert ROWS.get(op) in (None, row)


def test_the_page_names_the_files_of_an_opcode() -> None:
    rows = re.findall(r"^\| `(gpuaug/\S+\.py)` \| .+ \| `(.+)` \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(rows) == 9
    for file, text in rows:
        assert text in (PAGE.parents[1] / file).read_text(encoding="utf-8"), f"{text} is not in {file}"


def test_nothing_stays_behind() -> None:
    inside = len(ga.OPS), len(ROWS)
    with added({}):
        assert (len(ga.OPS), len(ROWS)) == inside
    assert inside == (len(set(ga.OPS)), len(ROWS))
