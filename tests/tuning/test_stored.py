"""The stored search on CIFAR-10 is what docs/tuning.md shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="SciPy is not installed")

from gpuaug.tuning import Result

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "results" / "tune"


def test_the_page_shows_the_stored_result() -> None:
    """The text between the marks is `print(Result.load("benchmarks/results/tune/cifar10.json"))`."""
    page = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- cifar10 -->\n```text\n(.*?)```\n<!-- end -->", page, re.S)
    assert shown
    assert shown[1].rstrip() == str(Result.load(FOLDER / "cifar10.json"))
    assert "../benchmarks/results/tune/cifar10.png" in page
    assert (FOLDER / "cifar10.png").stat().st_size < 300_000


def test_it_is_a_whole_search() -> None:
    """At least 8 settings with 2 seeds, all complete, each in at most a minute of one core."""
    stored = json.loads((FOLDER / "cifar10.json").read_text())
    result = Result.load(FOLDER / "cifar10.json")
    assert len(result.rows) >= 8
    assert all(row.states == {"complete": result.seeds} for row in result.rows)
    assert result.seeds >= 2
    assert (stored["verdict"], stored["best"]) == (result.verdict, result.best)
    assert sum(run["seconds"] for run in stored["runs"]) < 20 * 60 * 2, "on two cores in 20 minutes"
