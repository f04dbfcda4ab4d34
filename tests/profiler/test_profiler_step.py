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
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.optim.optimizer import _global_optimizer_pre_hooks

import gpuaug as ga
from gpuaug.profiler import stage
from gpuaug.profiler.measure import step as measure_step
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.model.costs import Costs
from gpuaug.profiler.model.trace import BACKWARD, DEVICE, FORWARD, OPTIMIZER, REST, Trace
from gpuaug.profiler.report import Report
from tests.support import profiler_cases as cases
from tests.support.profiler_jobs import SLOW, Job, Slow, slow_report


@pytest.fixture(scope="module")
def report() -> Report:
    return slow_report()


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


class Outer(torch.optim.SGD):
    """Its step calls that of its parent, for which torch calls the hooks once more."""

    def step(self, closure: Any = None) -> Any:
        time.sleep(SLOW)
        found = super().step(closure)
        time.sleep(SLOW)
        return found


@pytest.mark.parametrize("closure", [False, True])
def test_a_step_inside_a_step_is_one(closure: bool) -> None:
    job = Job(closure=closure)
    torch.optim.SGD(job.network.parameters(), 0.1)  # from now on torch calls the hooks for the parent's step too
    job.optimizer = Outer(job.network.parameters(), 0.1)
    found = phases(job)
    assert found[OPTIMIZER] + (found[FORWARD] if closure else 0.0) >= 1.9 * SLOW  # forward: up to the first backward
    assert found[OPTIMIZER] >= 0.9 * SLOW
    assert found[REST] < 0.5 * SLOW


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
@pytest.mark.parametrize("nested", [False, True])
def test_phases_lie_between_events_that_nobody_waits_for(nested: bool) -> None:
    job = Job()
    if nested:
        torch.optim.SGD(job.network.parameters(), 0.1)
        job.optimizer = Outer(job.network.parameters(), 0.1)
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
    marks = [one.marks.marks() for one in seen]
    assert all(one[DEVICE][0] >= 0.9 * SLOW for one in marks)
    assert min(one[FORWARD][0] for one in marks) < 0.5 * SLOW  # on a busy machine not all
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


def test_a_wait_between_two_clocks_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread loses its core after the wall clock was read: the clocks are read again."""
    readings = iter([(10, 5, 0), (60, 5, 0), (61, 6, 49), (62, 7, 49), (70, 8, 49)])
    monkeypatch.setattr(measure_step, "clocks", lambda: next(readings))
    assert measure_step.together() == (60, 5, 0)
    assert measure_step.together() == (62, 7, 49)


def test_a_compiled_model_is_not_compiled_again() -> None:
    counter = CompileCounter()
    torch.compiler.reset()
    network = nn.Linear(2, 1)
    compiled = torch.compile(network, backend=counter)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)

    def step(batch: Any) -> None:
        compiled(batch[0].float()).sum().backward()
        optimizer.step()

    step((torch.ones(cases.BATCH, 2), 0))
    before = counter.frame_count
    assert phases(step)[BACKWARD] > 0
    assert counter.frame_count == before > 0
