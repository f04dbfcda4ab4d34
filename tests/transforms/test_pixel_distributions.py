"""Pixels are distributed as torchvision's, and the comparison can fail: see benchmarks/evidence/distribution.py.

Draws are seeded, so each test gives the same answer every time; an equal library fails one of them with a chance of
`distribution.FALSE_ALARM`.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

import gpuaug as ga
from benchmarks.evidence import distribution
from benchmarks.evidence.distribution import CASES, DRAWS, EXCLUDED, MORE, Numbers
from tests.support.ops import NO_DRAWS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_thread")

LIMIT = distribution.bound(DRAWS)


@cache
def theirs(name: str) -> Numbers:
    return distribution.theirs(name, DRAWS)


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_distributed_as_torchvisions(name: str) -> None:
    distances = distribution.compare(distribution.ours(name, MORE * DRAWS), theirs(name))
    assert {"mean", "variance", "histogram", "pixels"} <= set(distances)
    assert max(distances.values()) <= LIMIT, distances


FAULTS = [
    pytest.param(name, fault, id=f"{name}: {distribution.words(fault)}")
    for name, (_, faults) in CASES.items()
    for fault in faults
]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_a_fault_is_seen(name: str, fault: dict[str, object]) -> None:
    distances = distribution.compare(distribution.ours(name, MORE * DRAWS, fault), theirs(name))
    assert max(distances.values()) > LIMIT, distances


def test_one_draw_for_a_batch_is_seen() -> None:
    """What torchvision does with a batch, here of 1000: each image is as it may be, but there are few of them."""
    transform, image = v2.RandAugment(), distribution.pair()[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.cat([transform(image.expand(1000, -1, -1, -1)) for _ in range(MORE * DRAWS // 1000)])
    distances = distribution.compare(distribution.describe(images), theirs("RandAugment"))
    assert max(distances.values()) > LIMIT


def test_every_transform_has_a_case_or_a_reason() -> None:
    names = {op.__name__ for op in ga.OPS}
    covered = {name.split(",")[0] for name in CASES} & names
    assert covered | set(EXCLUDED) == names
    assert not covered & set(EXCLUDED)
    assert all(faults for _, faults in CASES.values())


def test_what_is_excluded_draws_nothing_or_is_not_torchvisions() -> None:
    for name, reason in EXCLUDED.items():
        op = getattr(ga, name)
        assert (reason == NO_DRAWS) == hasattr(v2, name)
        assert not hasattr(v2, name) or op.draws == 0, name


def test_the_distance_is_kolmogorovs_and_its_bound_holds() -> None:
    first, second = np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0])
    assert distribution.distance(first, second) == 0.25  # at 2: three quarters, and one
    assert distribution.distance(first, first) == 0
    assert distribution.distance(first, first + 5) == 1
    rng, draws = np.random.default_rng(0), 500
    found = [distribution.distance(rng.random(draws), rng.random(MORE * draws)) for _ in range(300)]
    assert max(found) <= distribution.bound(draws)


def test_what_is_said_of_an_image() -> None:
    image = torch.tensor([[[0, 255], [16, 15]], [[100, 100], [100, 100]]], dtype=torch.uint8)[None]
    numbers = distribution.describe(image)
    assert numbers["mean"].tolist() == [[85.75, 71.5, 100.0]]
    levels = image.double()
    expected = [levels.var(correction=0), *(channel.var(correction=0) for channel in levels[0])]
    np.testing.assert_allclose(numbers["variance"][0], expected, atol=1e-5)
    assert (8 * numbers["histogram"][0]).tolist() == [2, 1, 0, 0, 0, 0, 4] + [0] * 8 + [1]
    assert set(numbers["pixels"][0]) <= {0, 15, 16, 100, 255}


def test_the_command_prints_a_table() -> None:
    command = [sys.executable, "-m", "benchmarks.evidence.distribution", "--only", "flip", "--draws", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "RandomHorizontalFlip" in done.stdout
    assert "Chance may be behind every distance." in done.stdout
    assert "Faults that were not seen: RandomHorizontalFlip (p=0.4)" in done.stdout.replace("\n", " ")
