"""The accuracy benchmark: what it says follows from its records; its contestants differ only in who augments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

import gpuaug as ga
from benchmarks.evidence import accuracy
from benchmarks.evidence.accuracy import CONTESTANTS, GPUAUG, TORCHVISION
from tests.support.helpers import bernstein
from tests.support.images import small_cifar

ROOT = Path(__file__).parents[2]
VERDICTS = {
    "equal within ±1 points (95 %)": [0.2, -0.1, 0.3, 0.0, -0.2],
    "equal within ±1 points (95 %), though not zero": [0.2, 0.3, 0.3, 0.4, 0.2],
    "different (95 %)": [3.1, 2.0, 2.5, 4.0, 3.3],
    "cannot tell, run more seeds": [3.0, -2.0, 1.0, 0.0, -1.5],
}


@pytest.mark.parametrize("words", VERDICTS)
def test_verdicts(words: str) -> None:
    for sign in (1, -1):
        found = accuracy.difference([sign * value for value in VERDICTS[words]], margin=1.0)
        assert accuracy.verdict(found, 1.0) == words


def test_intervals_and_margins_are_those_of_t_tests() -> None:
    values = [0.3, -0.9, 1.4, 0.8, 0.1, 0.7]
    found = accuracy.difference(values, margin=1.0)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    below = stats.ttest_1samp(values, found["within"], alternative="less").pvalue
    above = stats.ttest_1samp(values, -found["within"], alternative="greater").pvalue
    assert max(below, above) == pytest.approx(0.05)


def test_without_variance_the_difference_decides() -> None:
    assert accuracy.verdict(accuracy.difference([0.5, 0.5], 1.0), 1.0).startswith("equal")
    assert accuracy.verdict(accuracy.difference([1.5, 1.5], 1.0), 1.0) == "different (95 %)"


def test_errors_of_either_kind_are_as_rare_as_is_said() -> None:
    """One in twenty of those that differ by the margin is called equal, one in twenty of the same different."""
    rng, count = np.random.default_rng(0), 4000
    for true, key in ((1.0, "equal"), (0.0, "different")):
        wrong = [accuracy.difference(rng.normal(true, 0.3, 8).tolist(), 1.0)[key] for _ in range(count)]
        assert abs(np.mean(wrong) - 0.05) <= bernstein(0.05, count, 2)


def records(**scores: list[float]) -> list[dict[str, Any]]:
    return [
        {"who": who, "seed": seed, "accuracy": value, "seconds": 2.0}
        for who in CONTESTANTS
        for seed, value in enumerate(scores.get(who, [50.0, 51.0, 50.4]))
    ]


def test_the_summary_pairs_seeds_in_whatever_order_they_come() -> None:
    runs = records(gpuaug=[60.0, 61.0, 60.4])
    result = accuracy.summary([*runs[2::-1], *runs[3:]])
    assert result["difference"][GPUAUG]["mean"] == pytest.approx(10.0)
    assert result["difference"][GPUAUG]["error"] == pytest.approx(0.0, abs=1e-9)
    assert TORCHVISION not in result["difference"]
    assert result["accuracy"][TORCHVISION]["mean"] == pytest.approx(50.4666667)


def split(count: int, seed: int) -> accuracy.Split:
    """Grey levels that give the class away, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    noise = torch.randint(0, 120, (count, 3, 32, 32), generator=generator)
    return (noise + 30 * labels[:, None, None, None]).to(torch.uint8), labels


def test_without_draws_both_libraries_train_the_same_network(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Weights, batches and floats are the same, so the accuracies are, to the last image."""
    for name, lib in (("ours", ga), ("theirs", v2)):
        monkeypatch.setitem(CONTESTANTS, name, (lib, lambda _: []))
    training, testing = split(300, 0), split(1000, 1)

    def percent(who: str, seed: int) -> float:
        return float(accuracy.train((seed, who), training, testing, epochs=2)["accuracy"])

    first = percent("ours", 0)
    assert 25 < first < 100
    assert percent("theirs", 0) == first
    assert percent("ours", 1) != first
    assert percent(GPUAUG, 0) != first


def test_torchvision_draws_for_each_image_and_starts_with_the_seed() -> None:
    images = split(1, 0)[0].expand(16, -1, -1, -1)
    pipeline = accuracy.pipeline(TORCHVISION, seed=0)
    with torch.random.fork_rng(devices=[]):
        results = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            results.append(pipeline(images))
    assert len({image.numpy().tobytes() for image in results[0]}) > 8
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(pipeline.eval()(images), accuracy.pipeline(GPUAUG, seed=0).eval()(images))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "benchmarks.evidence.accuracy", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_command_prints_a_table_and_writes_its_records(tmp_path: Path) -> None:
    data, file = small_cifar(tmp_path / "data"), tmp_path / "accuracy.json"
    done = run("--data", data, "--quick", "--images", 12, "--workers", 1, "--json", file)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "gpuaug and torchvision: " in done.stdout
    written = json.loads(file.read_text())
    assert len(written["records"]) == 3 * len(CONTESTANTS)
    assert {record["seed"] for record in written["records"]} == {0, 1, 2}
    assert set(written["accuracy"]) == set(CONTESTANTS)
    assert written["settings"] == {"seeds": 3, "images": 12, "epochs": 2, "margin": 1.0}


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    for arguments, words in (
        (["--seeds", "1"], "accuracy: `seeds` must be an integer of at least 2, got 1"),
        (["--images", "13"], r"accuracy: `images` must be an integer in \[2, 12\], got 13"),
    ):
        with pytest.raises(ValueError, match=words):
            accuracy.main(["--data", str(small_cifar(tmp_path / words[-2:])), *arguments])
