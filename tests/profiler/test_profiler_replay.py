"""The replay of torch's queue rules: against a closed form, an independent recurrence, and a real DataLoader."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from gpuaug.profiler.model.replay import Load, Setting, replay
from gpuaug.profiler.model.rows import rows_of
from tests.support.profiler_traces import PLAIN, made

SECONDS = st.floats(0, 0.05)
BOTH = st.tuples(SECONDS, SECONDS)
LOADS = st.lists(
    st.builds(Load, BOTH, BOTH, BOTH, SECONDS, st.just(0.0), BOTH),
    min_size=1,
    max_size=20,
)
WORKERS = st.integers(1, 5)
PREFETCH = st.integers(1, 3)


def recurrence(loads: list[Load], workers: int, prefetch: int) -> list[float]:
    """Ends of the steps where nothing shares cores, no pinning and no sending: each line is a rule of torch's."""
    free = [0.0] * workers
    made: dict[int, float] = {}

    def ask(number: int, moment: float) -> None:
        if number < len(loads):
            worker = number % workers
            free[worker] = max(free[worker], moment) + sum(loads[number].fetch)
            made[number] = free[worker]

    for number in range(workers * prefetch):
        ask(number, 0.0)
    clock, ends = 0.0, []
    for number, load in enumerate(loads):
        clock = max(clock, made[number])
        ask(number + workers * prefetch, clock)
        clock += sum(load.step)
        ends.append(clock)
    return ends


@settings(deadline=None)
@given(LOADS, WORKERS, PREFETCH)
def test_it_follows_the_rules(loads: list[Load], workers: int, prefetch: int) -> None:
    plain = [Load(load.fetch, step=load.step) for load in loads]
    found = replay(plain, Setting(workers, prefetch)).ends
    assert found == pytest.approx(recurrence(plain, workers, prefetch), abs=1e-9)


@settings(deadline=None)
@given(LOADS, WORKERS, PREFETCH, st.booleans(), st.booleans(), st.floats(0.5, 8))
def test_no_batch_is_lost_and_no_bound_is_beaten(
    loads: list[Load], workers: int, prefetch: int, pinning: bool, in_order: bool, cores: float
) -> None:
    setting = Setting(workers, prefetch, pinning, in_order, cores)
    found = replay(loads, setting)
    assert len(found.ends) == len(found.waits) == len(loads)
    assert found.ends == sorted(found.ends)
    assert min(found.waits) >= 0
    pin = sum(load.pin for load in loads) if pinning else 0.0
    computing = sum(load.fetch[0] + load.send[0] + load.receive[0] + load.step[0] for load in loads) + pin
    fetching = sum(map(sum, (load.fetch for load in loads)))
    stepping = sum(map(sum, (load.step for load in loads)))
    for bound in (computing / cores, fetching / workers, stepping):
        assert found.ends[-1] >= bound - 1e-9


@settings(deadline=None)
@given(LOADS, WORKERS, PREFETCH, st.integers(0, 19), st.sampled_from(["fetch", "step", "send", "receive"]))
def test_a_higher_cost_is_never_faster(loads: list[Load], workers: int, prefetch: int, place: int, what: str) -> None:
    """Where nothing shares cores, and no batch is received out of turn."""
    setting = Setting(workers, prefetch)
    loads = [Load(load.fetch, load.send, step=load.step) for load in loads] if what != "receive" else loads
    if what == "receive":
        setting = Setting(1, prefetch)
    before = replay(loads, setting).ends[-1]
    one = loads[place % len(loads)]
    computing, waiting = getattr(one, what)
    loads[place % len(loads)] = replace(one, **{what: (computing + 0.01, waiting)})
    assert replay(loads, setting).ends[-1] >= before - 1e-9


@pytest.mark.parametrize(
    ("workers", "fetch", "step"), list(itertools.product([1, 2, 4, 8], [0.002, 0.01, 0.1], [0.0, 0.005, 0.05]))
)
def test_constant_costs_have_a_closed_form(workers: int, fetch: float, step: float) -> None:
    ends = replay([Load((fetch, 0.0), step=(0.0, step))] * 400, Setting(workers)).ends
    pace = (ends[299] - ends[99]) / 200
    assert pace == pytest.approx(max(fetch / workers, step), rel=0.02)


def test_computing_shares_the_cores() -> None:
    ends = replay([Load((0.01, 0.0))] * 400, Setting(4, cores=2)).ends
    assert (ends[299] - ends[99]) / 200 == pytest.approx(0.005, rel=0.02)
    ends = replay([Load((0.0, 0.01))] * 400, Setting(4, cores=2)).ends  # waiting does not
    assert (ends[299] - ends[99]) / 200 == pytest.approx(0.0025, rel=0.02)


def test_a_step_of_many_threads_takes_their_cores() -> None:
    loads = [Load((0.01, 0.0), step=(0.01, 0.0))] * 200
    alone = replay(loads, Setting(1, cores=2, threads=1)).ends[-1]
    both = replay(loads, Setting(1, cores=2, threads=2)).ends[-1]
    assert both > 1.3 * alone


def test_a_fetch_of_many_threads_takes_their_cores() -> None:
    ends = replay([Load((0.01, 0.0))] * 400, Setting(2, cores=2, worker_threads=4)).ends
    assert (ends[299] - ends[99]) / 200 == pytest.approx(0.02, rel=0.02)


def test_one_slow_batch_holds_up_the_line() -> None:
    loads = [Load((0.0, 0.5 if number == 20 else 0.01), step=(0.0, 0.005)) for number in range(60)]
    ordered = replay(loads, Setting(4)).ends[-1]
    free = replay(loads, Setting(4, in_order=False)).ends[-1]
    assert ordered > free + 0.1


def test_work_ahead_runs_beside_the_step() -> None:
    loads = [Load((0.0, 0.001), ahead=0.01, step=(0.0, 0.01))] * 100
    assert replay(loads, Setting(1, pinning=True)).ends[-1] == pytest.approx(1.02, rel=0.05)


def test_no_workers_is_a_sum() -> None:
    loads = [Load((0.01, 0.02), pin=0.001, step=(0.003, 0.004))] * 7
    assert replay(loads, Setting(0)).ends[-1] == pytest.approx(7 * 0.038)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("workers", [0, 1, 7])
def test_few_batches(count: int, workers: int) -> None:
    assert len(replay([Load((0.01, 0.0), step=(0.01, 0.0))] * count, Setting(workers)).ends) == count


@pytest.mark.parametrize("setting", [Setting(-1), Setting(1, 0), Setting(1, cores=0), Setting(1, threads=0)])
def test_settings_are_checked(setting: Setting) -> None:
    with pytest.raises(ValueError, match="must have workers >= 0"):
        replay([Load((0.0, 0.0))], setting)


def test_costs_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 0 seconds"):
        replay([Load((0.0, -1.0))], Setting(1))


class Sleeping(Dataset[Any]):
    def __init__(self, costs: list[float]) -> None:
        self.costs = costs

    def __len__(self) -> int:
        return len(self.costs)

    def __getitem__(self, index: int) -> Any:
        time.sleep(self.costs[index])
        return torch.zeros(4)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("in_order", [True, False])
def test_a_real_loader_takes_as_long(in_order: bool) -> None:
    """Of a heavy tail, so that a mean's error would fail.

    Whoever uses the machine can but slow a wake-up, by milliseconds: of longer sleeps that is less."""
    tries = []
    for longer in (1, 1, 2, 4, 8):
        costs = [longer * (0.3 if number % 13 == 5 else 0.02) for number in range(40)]
        step = 0.01 * longer
        measured = after_the_first(DataLoader(Sleeping(costs), 1, num_workers=3, in_order=in_order), step)
        loads = [Load((0.0, cost), receive=(0.0003, 0.0), step=(0.0, step)) for cost in costs]
        ends = replay(loads, Setting(3, in_order=in_order)).ends
        assert measured > 0.97 * (ends[-1] - ends[0])
        assert not in_order or ends[-1] - ends[0] > 1.3 * sum(costs) / 3
        tries.append(measured / (ends[-1] - ends[0]))
        if tries[-1] < 1.25:
            return
    pytest.fail(f"the loader took {tries} times as long")


def after_the_first(loader: Any, step: float) -> float:
    """Seconds from the first batch to the end, with steps of `step` seconds."""
    batches = iter(loader)
    next(batches)
    first = time.perf_counter()
    for _ in batches:
        time.sleep(step)
    return time.perf_counter() - first


# ---- shared cores --------------------------------------------------------------------------------------------------


def pace_of(load: Load, setting: Setting) -> float:
    """Milliseconds per batch in a steady state."""
    ends = replay([load] * 400, setting).ends
    return 1e3 * (ends[299] - ends[99]) / 200


@pytest.mark.parametrize(
    ("step", "threads", "before", "moved", "removed"),
    [
        # A step on a GPU waits 4 ms: two workers on two cores need 10 / 2 ms a batch, then it is the step
        ((0.0, 4.0), 1.0, 5.0, 5.0, 4.0),
        # A step of one thread computes 4 ms: (10 + 4) / 2; moved work is the same work; (5 + 4) / 2
        ((4.0, 0.0), 1.0, 7.0, 7.0, 4.5),
        # A step of two threads computes 4 ms on each: (10 + 8) / 2; (5 + 8) / 2
        ((4.0, 0.0), 2.0, 9.0, 9.0, 6.5),
    ],
)
def test_moved_work_stays_on_shared_cores(
    step: tuple[float, float], threads: float, before: float, moved: float, removed: float
) -> None:
    """Two workers and a step on two cores: whoever computes, the cores have as much to do."""
    computing, waiting = step[0] * 1e-3, step[1] * 1e-3
    setting = Setting(2, pinning=True, cores=2, threads=threads)

    def pace(fetch: float, ahead: float) -> float:
        return pace_of(Load((fetch * 1e-3, 0.0), ahead=ahead * 1e-3, step=(computing, waiting)), setting)

    assert pace(10.0, 0.0) == pytest.approx(before, rel=0.03)
    assert pace(5.0, 5.0) == pytest.approx(moved, rel=0.03)
    assert pace(5.0, 0.0) == pytest.approx(removed, rel=0.03)


def test_the_phases_of_a_step_compute_as_much_as_the_step_alone() -> None:
    """Beside workers the threads of a step wait for one another; the step alone says how much of it computes."""
    phases = {"forward": (1.0, 1.0), "backward": (3.0, 0.0)}
    trace = made(PLAIN, step=(4.5, 0.5), marks=phases)
    alone = statistics.mean(batch.done - batch.given for batch in trace.batches)
    found = [row for row in rows_of(trace, trace.batches, alone, 0.6 * alone) if row.place == "step"]
    assert [row.name for row in found][:2] == ["forward", "backward"]
    for row in found:
        assert row.computing.sum() == pytest.approx(0.6 * (row.computing + row.waiting).sum())
