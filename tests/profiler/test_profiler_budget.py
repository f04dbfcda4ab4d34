"""A budget is wall time: what is measured, what is left out, and when it ends, with a clock that the test moves."""

from __future__ import annotations

import contextlib
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader

from gpuaug.profiler import runs
from gpuaug.profiler.judge import receipt
from gpuaug.profiler.judge.verdict import Gain
from gpuaug.profiler.measure.budget import Budget
from gpuaug.profiler.measure.passes import FEWEST, Pass
from gpuaug.profiler.model.rows import MIN_BATCHES
from tests.support import profiler_cases as cases

CONCLUSIONS = 0.8  # seconds


class Machine:
    """A loader that takes `start` seconds to start and `pace` seconds a batch, on a clock of its own."""

    def __init__(self, start: float, pace: float) -> None:
        self.start, self.pace, self.now = start, pace, 100.0
        self.ran: list[str] = []

    def clock(self) -> float:
        return self.now

    def run(self, name: str, seconds: float, start: float | None = None) -> Pass:
        """As `passes.run` with `wall`: the start, and then what is left of the time, but a few batches at least."""
        start = self.start if start is None else start
        timed = max(FEWEST * self.pace, seconds - start)
        self.now += start + timed
        self.ran.append(name)
        count = max(FEWEST, round(timed / self.pace))
        return Pass(name, timed / count, self.pace, self.pace, count)

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the passes of `measure` on a machine: (machine, what was skipped, seconds)."""

    def go(budget: float, start: float, pace: float, after: float | None = None) -> tuple[Machine, Any, float]:
        machine = Machine(start, pace)
        batch = SimpleNamespace(fetch=(0.0, 0.01), epoch=0)

        def recorded(name: str, loader: Any, step: Any, seconds: float, *more: Any, wall: bool) -> Any:
            assert wall
            found = machine.run(name, seconds)
            return found, SimpleNamespace(batches=[batch] * (found.batches + 1), ends=[], starts=[])

        def timed(name: str, loader: Any, step: Any, seconds: float, *more: Any, wall: bool, **others: Any) -> Pass:
            assert wall
            return machine.run(name, seconds, after if name == "after" else None)

        def alone(step: Any, batches: Any, seconds: float) -> Pass:
            machine.advance(seconds)
            machine.ran.append("model alone")
            return Pass("model alone", 0.01, 0.01, 0.01, 10)

        monkeypatch.setattr(runs.passes, "recorded", recorded)
        monkeypatch.setattr(runs.passes, "timed", timed)
        monkeypatch.setattr(receipt, "timed", timed)
        monkeypatch.setattr(runs.passes, "alone", alone)
        monkeypatch.setattr(runs.passes, "batches_of", lambda loader: machine.advance(start + 4 * pace))
        joined = lambda traces: SimpleNamespace(batches=[b for t in traces for b in t.batches])  # noqa: E731
        monkeypatch.setattr(runs, "join", joined)
        monkeypatch.setattr(runs, "steady", lambda trace: (1, trace.batches[1:]))
        monkeypatch.setattr(runs, "cores", lambda: 2.0)
        monkeypatch.setattr(runs, "effective_cores", lambda: machine.advance(0.5) or 2.0)
        monkeypatch.setattr(runs.Drift, "look", lambda self: machine.advance(0.1))
        budget_ = Budget(budget, machine.clock)
        run = runs.Runs(cases.make("numbers"), cases.step, budget_, lambda what: None)
        overhead, trace = run.whole_loop()
        run.parts()
        machine.advance(CONCLUSIONS)
        budget_.release()
        advice = SimpleNamespace(id="num-workers", gain=Gain(1.5, 1.4, 1.6), settings={"num_workers": 4})
        result = SimpleNamespace(advice=[advice], receipt=None, skipped=run.skipped, epoch_seconds=1.0)
        run.prove(result, None)  # type: ignore[arg-type]
        assert (overhead is None) == ("whole, untraced" not in machine.ran)
        assert len(trace.batches) > MIN_BATCHES
        return machine, result, machine.now - 100.0

    return go


@pytest.mark.parametrize("budget", [10, 15, 30, 60, 180])
@pytest.mark.parametrize("start", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("pace", [0.001, 0.05])
def test_a_budget_is_kept(profile: Any, budget: float, start: float, pace: float) -> None:
    machine, _, seconds = profile(budget, start, pace)
    assert seconds <= 1.05 * budget
    if machine.ran.count("before") == receipt.TURNS:
        assert seconds > 0.8 * budget  # what the receipt and the others left out is used
    assert machine.ran.count("whole, traced") in (1, 2)


def test_with_time_for_all_nothing_is_left_out(profile: Any) -> None:
    machine, result, _ = profile(60, 0.1, 0.01)
    assert not result.skipped
    assert result.receipt is not None
    assert machine.ran.count("whole, untraced") == machine.ran.count("whole, traced") == 2
    assert machine.ran.count("before") == machine.ran.count("after") == 3


def test_what_does_not_fit_is_said_with_a_budget_that_does(profile: Any) -> None:
    """Workers take 3 s to start, and 15 s are given: there is a verdict, but no receipt."""
    _, result, seconds = profile(15, 3.0, 0.05)
    assert seconds <= 15
    assert result.receipt is None
    assert "did not fit the budget" in result.skipped["receipt"]
    more = 15 + int(result.skipped["receipt"].rpartition("raise it by ")[2].rstrip("s "))
    _, result, seconds = profile(more, 3.0, 0.05)
    assert result.receipt is not None
    assert seconds <= 1.05 * more


def test_a_verdict_is_measured_in_any_case(profile: Any) -> None:
    machine, result, _ = profile(5, 8.0, 0.5)
    assert machine.ran == ["whole, traced"]
    assert set(result.skipped) == {"cost of tracing", "model alone", "loader alone", "receipt"}


def test_a_receipt_ends_with_the_budget(profile: Any) -> None:
    """The changed loader takes 5 s to start, which was not known before."""
    machine, result, seconds = profile(40, 0.5, 0.01, after=5.0)
    turns = machine.ran.count("after")
    assert 1 <= turns < receipt.TURNS
    assert result.skipped["receipt, all turns"].startswith(f"{turns} of 3")
    assert seconds <= 1.2 * 40


def test_the_shortest_run_is_learnt() -> None:
    machine = Machine(2.0, 0.1)
    budget = Budget(20, machine.clock)
    assert budget.usable == 18
    budget.keep(3.0)  # other programs have two thirds of the cores
    assert budget.usable == 14
    budget.keep(1.0)
    assert budget.fits(18)
    begun = budget.spent
    found = machine.run("", 4.0)
    budget.learn(budget.spent - begun, found)
    assert budget.least == pytest.approx(2.0 + FEWEST * 0.1)
    assert budget.left == 14
    assert budget.fits(0.1, 5)
    assert not budget.fits(0.1, 6)
    assert "6 runs of 2.6 s" in budget.why_not(0.3, 6)


def test_a_receipt_may_take_all_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on between the look at what is left and the question whether it fits."""
    ticks = itertools.count()
    budget = Budget(100.0, clock=lambda: next(ticks) * 0.01)
    budget.usable = 8.0  # less than the receipt's fraction of a whole budget
    budget.least = 0.5
    proved: list[float] = []
    monkeypatch.setattr(receipt, "changed", lambda *_: DataLoader([0]))
    monkeypatch.setattr(receipt, "prove", lambda *given: proved.append(given[4]))
    run: Any = runs.Runs.__new__(runs.Runs)
    run.given = run.own = run.loader = run.inner = DataLoader([0])
    run.budget, run.skipped, run.step, run.warm, run.drift = budget, {}, None, 2, None
    run.report = lambda text: None
    monkeypatch.setattr(runs, "PROOF", 1.5)  # so that what is left is the smaller one
    one = SimpleNamespace(id="num-workers", gain=1.5, settings={"num_workers": 1})
    with contextlib.suppress(AttributeError):  # the stand-in of a receipt has no turns
        run.prove(SimpleNamespace(advice=[one], receipt=None), None)
    assert len(proved) == 1, run.skipped
