"""A run that is killed in the middle of an epoch goes on with the very batches it would have had."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parents[1] / "support" / "resumed.py"
STEPS = 14  # two epochs of seven batches
KINDS = ["indexed", "counted", "own"]


def run(kind: str, checkpoint: Path, kill_after: int = STEPS) -> dict[int, str]:
    """Digests by step; the process is killed once it has printed `kill_after` of them."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    digests: dict[int, str] = {}
    command = [sys.executable, str(PROGRAM), kind, str(checkpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            step, digest = line.split()
            digests[int(step)] = digest
            if len(digests) == kill_after < STEPS:
                process.send_signal(signal.SIGKILL)
        code = process.wait()
    assert code == (0 if kill_after == STEPS else -signal.SIGKILL)
    return digests


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    if kind != "own" and importlib.util.find_spec("torchdata") is None:
        pytest.skip("torchdata is not installed")
    whole = run(kind, tmp_path / "whole.pt")
    assert sorted(whole) == list(range(1, STEPS + 1))
    assert len(set(whole.values())) == STEPS
    checkpoint = tmp_path / "killed.pt"
    killed = run(kind, checkpoint, kill_after=3)
    second = run(kind, checkpoint, kill_after=6)  # twice, and over the end of an epoch
    saved = torch.load(checkpoint)["step"]
    third = run(kind, checkpoint)
    assert 3 < min(second) <= len(killed) + 2, "the second run starts where the first one was killed"
    assert min(third) == saved + 1
    assert killed | second | third == whole


def test_a_lost_state_is_seen(tmp_path: Path) -> None:
    """The test above can fail: without the loader's place the epoch starts again."""
    checkpoint = tmp_path / "killed.pt"
    run("own", checkpoint, kill_after=3)
    state = torch.load(checkpoint)
    torch.save(state | {"loader": {"done": 0}}, checkpoint)
    whole = run("own", tmp_path / "whole.pt")
    again = run("own", checkpoint, kill_after=2)
    assert again[min(again)] != whole[min(again)]
