"""Ranks of a distributed job, and how a report shows them, the device and the memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.profiler.model.trace import BACKWARD, FORWARD, OPTIMIZER, Memory
from gpuaug.profiler.ranks import Rank, own_times, spread
from gpuaug.profiler.report import Report
from gpuaug.profiler.session import measure
from gpuaug.profiler.show.html import to_html
from gpuaug.profiler.show.terminal import to_text
from tests.support import profiler_cases as cases
from tests.support.profiler_jobs import slow_report


@pytest.fixture(scope="module")
def report() -> Report:
    return slow_report()


RANKS = [
    Rank(0, 0.100, 0.002, {FORWARD: 0.020, BACKWARD: 0.070, OPTIMIZER: 0.005}, 400_000_000),
    Rank(1, 0.100, 0.032, {FORWARD: 0.020, BACKWARD: 0.040, OPTIMIZER: 0.005}, 400_000_000),
]


def test_ranks_wait_for_the_slowest() -> None:
    assert own_times(RANKS) == pytest.approx([0.070, 0.100])
    assert spread(RANKS) == pytest.approx(3 / 7)


@pytest.mark.parametrize("width", [60, 80])
def test_ranks_are_shown(report: Report, width: int) -> None:
    report = replace(report, ranks=RANKS)
    shown = to_text(report, width)
    assert max(map(len, shown.splitlines())) <= width
    flat = " ".join(shown.split())
    text = "2 ranks: rank 1 is the slowest, 100 ms a batch without waiting for the others; the fastest takes 70.00 ms."
    more = "It spends 30.00 ms more than the others on waiting for data."
    page = to_html(report)
    for sentence in (text, more, "Memory: main process"):
        assert sentence in flat
        assert sentence in page
    assert "ranks" not in to_text(replace(report, ranks=[]), width)


def test_two_ranks_measure_and_know_of_each_other(tmp_path: Path) -> None:
    from tests.support import ranks
    from tests.support.profiler_ranks import profiled

    found = ranks.launch(profiled, 2, tmp_path)
    assert found[0] == found[1]  # both have the times of both
    times = own_times(found[0])
    assert times[1] > 1.5 * times[0]
    assert [one.rank for one in found[0]] == [0, 1]
    assert all(one.step[BACKWARD] > 0 for one in found[0])


def test_ranks_need_a_group() -> None:
    with pytest.raises(RuntimeError, match="init_process_group"), ga.profile(cases.make("main"), ranks=True):
        pass
    assert type(cases.make("main")) is DataLoader


def test_measure_is_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its passes end by the clock, so ranks would wait for one another for ever."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="ranks=True"):
        measure(cases.make("main"), budget=1.0)


def test_the_device_is_shown(report: Report) -> None:
    batches = [
        replace(one, phases={FORWARD: 0.02, BACKWARD: 0.03}, device=(0.05, 0.004)) for one in report.trace.batches
    ]
    memory = Memory(None, None, [1_500_000_000], 2_000_000)
    shown = " ".join(to_text(replace(report, trace=replace(report.trace, batches=batches, memory=memory))).split())
    assert "On the device: forward 20.00 ms, backward 30.00 ms; idle between steps 4.00 ms." in shown
    assert "Memory: 1 worker 1.50 GB, shared pages counted in each; tensors on the device at most 2 MB." in shown
