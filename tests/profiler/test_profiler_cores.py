"""Waiting for a core, what receiving a batch computes, and a wrapper's own work: each has its part of the costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpuaug.profiler.judge.verdict import free
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.model.costs import Change, Costs
from gpuaug.profiler.model.replay import Load, Setting, replay
from gpuaug.profiler.model.trace import Trace
from tests.support import profiler_cases as cases
from tests.support.profiler_traces import MS, PLAIN, made

BUSY = {**PLAIN, "decode": (34.0, 0.0)}  # workers that compute most of the time


def with_(trace: Trace, **fields: Any) -> Trace:
    """The trace with other values in every batch."""
    return replace(trace, batches=[replace(batch, **fields) for batch in trace.batches])


# ---- the replay ------------------------------------------------------------------------------------------------------


def test_a_thread_waits_for_a_core_only_while_all_are_busy() -> None:
    """One worker computes until the last batch is made; during the last step its core is free."""
    loads = [Load((0.03, 0.0), step=(0.0, 0.01), late=(0.001, 0.004))] * 5
    plain = [replace(load, late=(0.0, 0.0)) for load in loads]
    for cores, late in ((1, [0.005] * 4 + [0.0]), (2, [0.0] * 5)):
        found, without = replay(loads, Setting(1, cores=cores)), replay(plain, Setting(1, cores=cores))
        assert np.subtract(found.ends, without.ends) == pytest.approx(late)
        assert found.late == pytest.approx(sum(late))


def test_time_lost_by_sharing_is_counted() -> None:
    loads = [Load((0.03, 0.0), step=(0.01, 0.0))] * 5  # a step takes twice as long beside the worker
    assert replay(loads, Setting(1, cores=1)).shared == pytest.approx(4 * 0.01)
    assert replay(loads, Setting(1, cores=2)).shared == 0.0


# ---- the costs -------------------------------------------------------------------------------------------------------


def test_the_replay_waits_as_long_as_was_measured() -> None:
    """More than an even share of the cores explains; on enough cores nothing waits."""
    trace = with_(made(BUSY, (2.0, 14.0), cores=2.0), request=(0.3 * MS, 1.0 * MS), step=(2.0 * MS, 3.0 * MS, 2.0 * MS))
    costs = Costs(trace, 2.0)
    count = len(costs.batches)
    found = replay(costs.loads(Change(), np.arange(count)), costs.setting)
    assert (found.shared + found.late) / count == pytest.approx(4.0 * MS, rel=0.05)
    assert min(found.late, found.shared) > 1.0 * MS * count  # each a part of it
    before = Costs(with_(trace, request=None), 2.0)  # as without these clocks
    assert before.late == (0.0, 0.0)
    assert all(load.late == pytest.approx(costs.late) for load in costs.loads(Change(), np.arange(count)))
    many = Costs(trace, 100.0)
    assert many.simulate(Change()) == pytest.approx(Costs(with_(trace, request=None), 100.0).simulate(Change()))


def test_without_the_step_nothing_waits_in_it() -> None:
    trace = with_(made(BUSY, (1.0, 15.0), cores=2.0), request=(0.3 * MS, 0.0), step=(1.0 * MS, 3.0 * MS, 1.0 * MS))
    costs = Costs(trace, 2.0)
    assert costs.late[0] == 0
    assert {load.late for load in costs.loads(free(["model"]), np.arange(9))} == {(0.0, 0.0)}


def test_receiving_computes_what_the_main_thread_spends_on_a_request() -> None:
    trace = made(PLAIN, receive=0.3)
    known = with_(trace, request=(0.8 * MS, 0.0), queue=0.1 * MS)
    assert Costs(known, 100.0).row("receive").seconds == pytest.approx(0.8 * MS)
    unknown = with_(trace, request=(0.8 * MS, 0.0))  # a system that does not say how long a thread waits for a core
    assert Costs(unknown, 100.0).row("receive").seconds == pytest.approx(0.3 * MS, abs=1e-6)


def test_waiting_for_a_core_is_not_waiting_for_the_worker() -> None:
    trace = made(PLAIN)
    spans = [replace(b, received=(b.given - 2.0 * MS, b.given), queued=(0.0, 1.0 * MS)) for b in trace.batches]
    row = Costs(replace(trace, batches=spans), 100.0).row("receive")
    assert float(row.waiting.mean()) == pytest.approx(0.7 * MS)


def test_the_longest_times_of_moving_are_not_usual() -> None:
    """A collection of garbage in one of 60 batches."""
    trace = made(PLAIN)
    one = trace.batches[30]
    trace.batches[30] = replace(one, received=(one.given - 0.1, one.given), moved=(0.2 * MS, 0.1))
    assert Costs(trace, 100.0).row("receive").seconds == pytest.approx(0.3 * MS, rel=0.02)


def test_the_first_use_of_memory_is_a_cost_of_moving_it() -> None:
    """The step alone has batches in memory that it has seen; not if its threads wait for one another."""
    trace = made(PLAIN, (5.0, 0.0))
    costs = Costs(trace, 100.0, 0.004, (0.004, 0.004, 0.0))
    assert costs.row("receive").seconds == pytest.approx(1.3 * MS)
    assert costs.row("model").seconds == pytest.approx(4.0 * MS)
    threads = with_(trace, step=(5.0 * MS, 0.0, 10.0 * MS))
    assert Costs(threads, 100.0, 0.004, (0.004, 0.008, 0.0)).row("receive").seconds == pytest.approx(0.3 * MS)


@pytest.mark.parametrize(("wrapped", "least"), [(0.004, 0.004), (0.0025, None), (None, None)])
def test_without_the_step_a_wrapper_takes_what_it_took(wrapped: float | None, least: float | None) -> None:
    """Two workers take 2.4 ms a batch, and half of it with twice as many; what the wrapper takes then is not known."""
    costs = Costs(made(PLAIN), 100.0, wrapped=wrapped)
    assert costs.expected(free(["model"])) == pytest.approx(least or 2.4 * MS, rel=0.05)
    assert costs.expected(replace(free(["model"]), workers=4)) == pytest.approx(1.2 * MS, rel=0.05)
    assert costs.expected(free(["model", "decode"])) < 1.5 * MS


# ---- the recorder ----------------------------------------------------------------------------------------------------


def test_a_request_has_the_clocks_of_the_main_thread() -> None:
    with Recorder(cases.make("numbers")) as recorder:
        for _ in recorder:
            pass
        trace = recorder.trace
    assert trace.batches
    for batch in trace.batches:
        assert (batch.request is None) == (batch.step is None)
        if batch.request is not None:
            assert min(batch.request) >= 0
            assert batch.request[1] <= batch.given - batch.asked
    assert trace.batches[0].request is not None
    again = Trace.fromdict(trace.asdict())
    assert [tuple(b.request or ()) for b in again.batches] == [b.request or () for b in trace.batches]


class Wrapper:
    """Computes between the batches that it yields, in the main thread."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Any:
        for batch in self.loader:
            sum(range(20_000))
            yield batch


def test_what_a_wrapper_computes_is_not_receiving() -> None:
    with Recorder(Wrapper(cases.make("numbers"))) as recorder:
        for _ in recorder:
            pass
        requests = [batch.request for batch in recorder.trace.batches]
    assert requests[0] is not None
    assert all(request is None or request[0] == 0 for request in requests)
