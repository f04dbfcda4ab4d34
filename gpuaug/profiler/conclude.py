"""From measured traces to a report: costs, verdict, recommendations."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from torch.utils.data import DataLoader

from gpuaug.profiler.judge.apply import MovedLoader, Probe
from gpuaug.profiler.judge.recommend import recommend
from gpuaug.profiler.judge.verdict import Gain, groups, judge, stages
from gpuaug.profiler.machine import Drift, Machine
from gpuaug.profiler.measure.names import files_of
from gpuaug.profiler.measure.passes import Pass
from gpuaug.profiler.model.costs import Costs
from gpuaug.profiler.model.functions import Key, Times, functions_of
from gpuaug.profiler.model.trace import Trace
from gpuaug.profiler.report import Report

__all__ = ["conclude", "epoch_start", "join"]

BUSY = 0.05  # fraction of the cores that other jobs use; less is ignored


def conclude(
    trace: Trace,
    loader: DataLoader[Any] | None = None,
    *,
    cores: float,
    drift: Drift,
    passes: Iterable[Pass] = (),
    skipped: dict[str, str] | None = None,
    alone: float | None = None,
    busy: tuple[float, float, float] | None = None,
    wrapped: float | None = None,
    functions: Mapping[Key, Times] | None = None,
    overhead: float | None = None,
    moved: MovedLoader | None = None,
    probed: Probe | None = None,
    ignore: Iterable[str] = (),
) -> Report:
    """Make a report of what was measured.

    Args:
        trace, loader: Batches of one or more epochs, and the user's loader, for checks of its code.
        cores: Number of cores that the job can use, without those that other jobs use.
        drift: Measured speeds of the cores.
        passes: Measured passes.
        skipped: {pass: reason why it was not run}.
        alone: Seconds of a step alone, if measured.
        busy: Of a step alone, see `Pass.busy`, if measured.
        wrapped: Seconds per batch of a wrapper without a step, if there is one and it was measured.
        functions: What was seen of the workers' functions, if they were looked at.
        overhead: Cost of tracing, a fraction of the time, if measured.
        moved, probed: The loader with its augmentation moved to the device, and its costs, if that is possible.
        ignore: Ids of recommendations to leave out.

    Raises:
        ValueError: If the trace has too few batches, or an id in `ignore` does not exist.
    """
    machine = Machine.here()
    costs = Costs(trace, cores, alone, busy, wrapped)
    edge_seconds, edge_gain = epoch_start(costs)
    found = groups(costs)
    verdict = judge(costs, found, edge_gain)
    others = max(0.0, 1 - cores / machine.cores)
    advice = recommend(
        costs,
        verdict,
        loader=loader,
        moved=moved,
        probed=probed,
        edge=edge_gain,
        busy=others if others > BUSY else 0.0,
        ignore=ignore,
    )
    report = Report(
        machine=machine.asdict(),
        cores=cores,
        trace=trace,
        passes=list(passes),
        skipped=skipped or {},
        pace=costs.pace,
        samples=costs.samples,
        residual=costs.residual,
        overhead=overhead,
        alone=alone,
        busy=busy,
        wrapped=wrapped,
        edge=edge_seconds,
        verdict=verdict,
        stages=stages(costs),
        groups=found,
        advice=advice,
        receipt=None,
        drift=drift.change,
        reliable=drift.reliable,
        functions=functions_of(functions or {}, costs.rows),
    )
    if loader is not None:
        report.files = files_of(loader.dataset, (index for index, _ in report.slowest()))
    if any(batch.together for batch in trace.batches):
        report.skipped["slowest samples"] = "the data set gives whole batches, so the time of one sample is not known"
    return report


def epoch_start(costs: Costs) -> tuple[float, Gain | None]:
    """(extra seconds of the first step of an epoch, the gain without them), from the epochs after the first.

    The gain is None if it is unknown, or if the workers are kept between epochs.
    """
    trace = costs.trace
    length = trace.loader.length
    later = trace.starts[1:] or trace.starts
    if not later or not length or not trace.loader.workers:
        return 0.0, None
    ends = statistics.median(trace.ends) if trace.ends else 0.0
    starts = [first - begun + ends for begun, _, first in later]
    firsts = {batch.epoch: batch for batch in reversed(trace.batches)}
    fetch = statistics.median(batch.fetch[1] - batch.fetch[0] for batch in firsts.values())
    step = statistics.median(batch.done - batch.given for batch in firsts.values())
    receive = sum(row.seconds for row in costs.rows if row.place in ("feeder", "receive", "pin"))
    needed = min(fetch + receive, *starts)  # even persistent workers have to fetch the first batch
    seconds = max(0.0, statistics.median(starts) - needed)
    if trace.loader.persistent or len(trace.starts) < 2:
        return seconds, None
    rest = costs.pace * (length - 1) + needed + step
    middle = statistics.median(starts)
    times, low, high = (1 + max(0.0, start - needed) / rest for start in (middle, min(starts), max(starts)))
    return seconds, Gain(times, low, high)


def join(traces: list[Trace]) -> Trace:
    """Join the traces of several runs: their epochs become epochs of one trace."""
    first = traces[0]
    for trace in traces[1:]:
        epochs = max((batch.epoch for batch in first.batches), default=-1) + 1
        for batch in trace.batches:
            batch.epoch += epochs
        first.batches += trace.batches
        first.starts += trace.starts
        first.ends += trace.ends
        first.memory = trace.memory if first.memory is None else first.memory.joined(trace.memory)
    return first
