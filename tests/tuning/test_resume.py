"""A search that is killed and goes on, in two processes at once, ends as one that was not disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="Optuna is not installed")

import gpuaug as ga
from tests.tuning.task import SPACE, train

ROOT = Path(__file__).parents[2]
RUNS = 2 * (1 + 3 + 2)
SCRIPT = """
import sys
import gpuaug as ga
from gpuaug.tuning import studies
from tests.tuning.task import SPACE, train
studies.HEARTBEAT, studies.GRACE, studies.POLL = 1, 3, 0.2
ga.tune(train, space=SPACE, seeds=2, storage="tune.db").save(sys.argv[1])
"""


def started(folder: Path, out: str, pause: float) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "STARTS": str(folder / "starts.txt"), "PAUSE": str(pause), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with (folder / "printed.txt").open("a") as printed:
        return subprocess.Popen([sys.executable, "-c", SCRIPT, out], cwd=folder, env=environment, stderr=printed)


def starts(folder: Path) -> list[str]:
    file = folder / "starts.txt"
    return file.read_text().splitlines() if file.exists() else []


def compared(found: dict[str, Any]) -> dict[str, Any]:
    """A result without durations and without the order of runs."""
    runs = [{name: value for name, value in run.items() if name != "seconds"} for run in found["runs"]]
    return found | {"runs": sorted(runs, key=lambda run: json.dumps([run["stage"], run["settings"], run["seed"]]))}


def test_killed_and_continued_by_two_processes(tmp_path: Path) -> None:
    process = started(tmp_path, "never.json", pause=0.2)
    deadline = time.monotonic() + 120
    while len(starts(tmp_path)) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # into the sixth run, which takes at least 0.8 s
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = starts(tmp_path)
    assert 6 <= len(before) <= 7
    assert not (tmp_path / "never.json").exists()

    both = [started(tmp_path, f"{number}.json", pause=0.1) for number in range(2)]
    for process in both:
        assert process.wait(timeout=240) == 0, (tmp_path / "printed.txt").read_text()
    after = starts(tmp_path)[len(before) :]
    assert set(before[:-1]).isdisjoint(after), "what was complete is not run again"
    assert before[-1] in after, "what was killed is"
    assert len(set(before + after)) == RUNS
    assert len(after) <= RUNS - len(before) + 1 + 2, "at the end of a stage, two may begin the same run"

    undisturbed = compared(ga.tune(train, space=SPACE, seeds=2, quiet=True).to_dict())
    for number in range(2):
        assert compared(json.loads((tmp_path / f"{number}.json").read_text())) == undisturbed
