"""The phases of a step, its memory, and its ranks: what is slow on purpose is the row that is long."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.profiler import stage
from gpuaug.profiler.measure import step as measure_step
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.model.costs import Costs
from gpuaug.profiler.model.trace import BACKWARD, DEVICE, FORWARD, OPTIMIZER, REST, Memory, Trace
from gpuaug.profiler.ranks import Rank, own_times, spread
from gpuaug.profiler.report import Report
from gpuaug.profiler.session import measure
from gpuaug.profiler.show.html import to_html
from gpuaug.profiler.show.terminal import to_text
from tests.support import profiler_cases as cases

SLOW = 0.012  # seconds of what is slow on purpose


class Slow(torch.autograd.Function):
    """A sleep forwards and another one backwards."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, there: float, back: float) -> Tensor:
        ctx.back = back
        time.sleep(there)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        time.sleep(ctx.back)
        return grad, None, None


class Lazy(torch.optim.SGD):
    """An optimizer that sleeps."""

    seconds = 0.0

    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        time.sleep(self.seconds)
        return found


class Job:
    """A small training step with a sleep in one of its phases."""

    def __init__(self, slow: str = "", closure: bool = False) -> None:
        self.seconds = {name: SLOW if name == slow else 0.0 for name in (FORWARD, BACKWARD, OPTIMIZER, REST)}
        self.network = nn.Linear(2, 1)
        self.optimizer = Lazy(self.network.parameters(), 0.1)
        self.optimizer.seconds = self.seconds[OPTIMIZER]
        self.closure = closure

    def loss(self, values: Tensor) -> Tensor:
        values = Slow.apply(values.float().requires_grad_(), self.seconds[FORWARD], self.seconds[BACKWARD])
        return self.network(values).square().mean()

    def __call__(self, batch: Any) -> None:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.loss(batch[0])
            loss.backward()
            return loss

        if self.closure:
            self.optimizer.step(closure)
        else:
            closure()
            self.optimizer.step()
        time.sleep(self.seconds[REST])


@pytest.fixture(scope="module")
def report() -> Report:
    """Of a job whose backward pass is slow."""
    job = Job(BACKWARD)
    with ga.profile(cases.make("numbers")) as profile:
        for batch in profile.loader:
            job(batch)
    return profile.report


def phases(step: Callable[[Any], object]) -> dict[str, float]:
    """Seconds of each row of a step."""
    with Recorder(cases.make("numbers")) as recorder:
        for batch in recorder:
            step(batch)
    return {row.name: row.seconds for row in Costs(recorder.trace, 2.0).rows if row.place == "step"}


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("slow", [FORWARD, BACKWARD, OPTIMIZER, REST])
def test_the_slow_phase_is_the_long_row(slow: str, closure: bool) -> None:
    """With a closure the optimizer calls forward and backward, as in Lightning."""
    found = phases(Job(slow, closure))
    assert list(found)[:3] == [FORWARD, BACKWARD, OPTIMIZER]
    assert max(found, key=lambda name: found[name]) == slow
    assert found[slow] >= 0.9 * SLOW


def test_phases_are_the_model(report: Report) -> None:
    """They are rows of one group, which a verdict and `whatif` name; without a backward pass there is one row."""
    assert report.verdict.place == "model"
    group = next(one for one in report.groups if one.name == "model")
    assert set(group.rows) >= {FORWARD, BACKWARD, OPTIMIZER, REST}
    assert report.whatif(scale={"model": 0.5}).times > report.whatif(scale={OPTIMIZER: 0.5}).times
    assert list(phases(lambda batch: time.sleep(0.002))) == ["model"]


def test_marked_stages_keep_their_time() -> None:
    job = Job()

    def step(batch: Any) -> None:
        with stage("copy"):
            time.sleep(SLOW)
        job(batch)

    found = phases(step)
    assert found["copy"] >= 0.9 * SLOW
    assert found[FORWARD] < 0.5 * SLOW


def test_checkpointing_is_backward() -> None:
    """A backward pass inside another one, with a forward pass: all of it belongs to the outer one."""
    job = Job()

    def step(batch: Any) -> None:
        values = batch[0].float().requires_grad_()
        loss = torch.utils.checkpoint.checkpoint(lambda v: Slow.apply(v, SLOW / 2, SLOW), values, use_reentrant=True)
        loss.sum().backward()
        job.optimizer.step()

    found = phases(step)
    assert found[BACKWARD] >= 1.35 * SLOW  # the recomputed half, and the whole
    assert found[FORWARD] < SLOW


def test_torch_is_as_before() -> None:
    before = torch.autograd.backward
    with Recorder(cases.make("main")), Recorder(cases.make("main")):
        assert torch.autograd.backward is not before
    assert torch.autograd.backward is before
    assert not _global_optimizer_pre_hooks
    with pytest.raises(ValueError, match="must be a torch DataLoader"):
        Recorder([1, 2]).__enter__()
    assert torch.autograd.backward is before


# ---- a device --------------------------------------------------------------------------------------------------------


class Event:
    """A CUDA event whose clock goes on by 10 ms with each; it notes who waits for it."""

    clock = 0
    waits: ClassVar[list[int]] = []

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.clock += 10
        self.at = Event.clock

    def synchronize(self) -> None:
        Event.waits.append(self.at)

    def elapsed_time(self, other: Event) -> float:
        return other.at - self.at


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends a CUDA device: events are ours, and waiting for it takes a while."""
    Event.waits.clear()
    Event.clock = 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: time.sleep(SLOW))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 123_000_000)


@pytest.mark.usefixtures("device")
def test_phases_lie_between_events_that_nobody_waits_for() -> None:
    job = Job()
    with Recorder(cases.make("main")) as recorder:
        for batch in recorder:
            job((batch[1], 0))
            assert Event.waits == []
        trace = recorder.trace
    assert Event.waits
    first = trace.batches[0]
    # five cuts: begin and end of the backward pass and of the optimizer, and the end of the step
    assert first.phases == pytest.approx({FORWARD: 0.01, BACKWARD: 0.01, REST: 0.02, OPTIMIZER: 0.01})
    assert first.device == (pytest.approx(0.05), 0.0)
    assert trace.memory is not None
    assert trace.memory.device == 123_000_000


@pytest.mark.usefixtures("device")
def test_waiting_for_the_device_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in the middle of a forward pass is not counted as computing there."""
    job = Job()
    plain = torch.Tensor.__dict__.get("item")

    class OnDevice(torch.Tensor):
        is_cuda = True
        __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def step(batch: Any) -> None:
        torch.cuda.synchronize()
        torch.ones(1).as_subclass(OnDevice).item()
        torch.ones(1).item()
        job(batch)

    with Recorder(cases.make("numbers")) as recorder:
        for batch in recorder:
            step(batch)
        seen = [one for one in recorder._seen if one.marks is not None]
    assert all(one.marks.stages[DEVICE][3] == 2 for one in seen)
    assert all(one.marks.marks()[DEVICE][0] >= 0.9 * SLOW > one.marks.marks()[FORWARD][0] for one in seen[1:])
    assert torch.Tensor.__dict__.get("item") is plain
    Event.clock = 0
    assert phases(step)[DEVICE] >= 0.9 * SLOW


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_memory_of_processes() -> None:
    with Recorder(cases.make("numbers")) as recorder:
        list(recorder)
        list(recorder)
    memory = recorder.trace.memory
    assert memory is not None
    assert memory.main is not None
    assert memory.peak is not None
    assert 50e6 < memory.main <= memory.peak
    assert len(memory.workers) == 2
    assert all(20e6 < one < 4e9 for one in memory.workers)
    assert memory.device is None
    trace = recorder.trace
    assert Trace.fromdict(json.loads(json.dumps(trace.asdict()))).memory == memory
    larger = replace(memory, main=memory.main + 1, workers=[1])
    assert memory.joined(larger) == replace(memory, main=memory.main + 1)


def test_a_report_without_them_can_be_read(report: Report, tmp_path: Path) -> None:
    """Version 0.1 wrote neither memory nor phases nor ranks."""
    report.save(tmp_path / "new.json")
    given = json.loads((tmp_path / "new.json").read_text())
    assert given["trace"]["memory"]["main"] > 50e6
    del given["ranks"], given["trace"]["memory"]
    for batch in given["trace"]["batches"]:
        del batch["phases"]
    (tmp_path / "old.json").write_text(json.dumps(given))
    found = ga.profiler.load(tmp_path / "old.json")
    assert found.memory is None
    assert found.stages == report.stages


# ---- ranks -----------------------------------------------------------------------------------------------------------


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


def test_a_wait_between_two_clocks_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread loses its core after the wall clock was read: the clocks are read again."""
    readings = iter([(10, 5, 0), (60, 5, 0), (61, 6, 49), (62, 7, 49), (70, 8, 49)])
    monkeypatch.setattr(measure_step, "clocks", lambda: next(readings))
    assert measure_step.together() == (60, 5, 0)
    assert measure_step.together() == (62, 7, 49)
