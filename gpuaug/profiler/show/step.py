"""What the stages do not show of a step: its phases on the device, the memory, and the ranks."""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

from gpuaug.profiler.model.trace import BACKWARD, FORWARD, OPTIMIZER, REST
from gpuaug.profiler.ranks import MAX_SPREAD, own_times, spread
from gpuaug.profiler.report import Report
from gpuaug.profiler.show.words import ms, percent

__all__ = ["Line", "rank_rows", "sentences"]


class Line(NamedTuple):
    """A rank as text; times in ms, memory in MB."""

    rank: str
    own: str
    wait: str
    forward: str
    backward: str
    optimizer: str
    memory: str


def sentences(report: Report) -> list[str]:
    """One sentence each: phases on the device, memory, ranks; those that are known."""
    return [text for text in (_device(report), _memory(report), _ranks(report)) if text]


def _device(report: Report) -> str:
    """The phases on the device, which works while the host is ahead."""
    batches = [batch for batch in report.trace.batches if batch.phases]
    if not batches:
        return ""
    names = [name for name in (FORWARD, BACKWARD, OPTIMIZER, REST) if any(name in batch.phases for batch in batches)]
    times = ", ".join(f"{name} {ms(fmean(batch.phases.get(name, 0.0) for batch in batches))} ms" for name in names)
    idle = fmean(batch.device[1] for batch in batches if batch.device)
    return f"On the device: {times}; idle between steps {ms(idle)} ms."


def _memory(report: Report) -> str:
    found = report.memory
    if found is None:
        return ""
    parts = []
    if found.main is not None:
        highest = "" if found.peak is None else f" (highest since its start {size(found.peak)})"
        parts.append(f"main process {size(found.main)}{highest}")
    if found.workers:
        many = "1 worker" if len(found.workers) == 1 else f"{len(found.workers)} workers together"
        parts.append(f"{many} {size(sum(found.workers))}, shared pages counted in each")
    if found.device is not None:
        parts.append(f"tensors on the device at most {size(found.device)}")
    return f"Memory: {'; '.join(parts)}." if parts else ""


def _ranks(report: Report) -> str:
    if len(report.ranks) < 2:
        return ""
    times = own_times(report.ranks)
    slow = times.index(max(times))
    text = (
        f"{len(times)} ranks: rank {report.ranks[slow].rank} is the slowest, {ms(max(times))} ms a batch without "
        f"waiting for the others; the fastest takes {ms(min(times))} ms. Spread: {percent(spread(report.ranks))}."
    )
    if spread(report.ranks) < MAX_SPREAD:
        return text
    slowest, others = report.ranks[slow], [one for number, one in enumerate(report.ranks) if number != slow]
    more = {"waiting for data": slowest.wait - fmean(one.wait for one in others)}
    for name, seconds in slowest.step.items():
        if name != BACKWARD:
            more[name] = seconds - fmean(one.step.get(name, 0.0) for one in others)
    name = max(more, key=lambda name: more[name])
    return f"{text} It spends {ms(more[name])} ms more than the others on {name}." if more[name] > 0 else text


def rank_rows(report: Report) -> list[Line]:
    """A line for each rank, if there are several."""
    if len(report.ranks) < 2:
        return []
    rows = []
    for one, own in zip(report.ranks, own_times(report.ranks), strict=True):
        phases = [ms(one.step[name]) if name in one.step else "" for name in (FORWARD, BACKWARD, OPTIMIZER)]
        forward, backward, optimizer = phases
        memory = "" if one.main is None else f"{one.main / 1e6:,.0f}"
        rows.append(Line(str(one.rank), ms(own), ms(one.wait), forward, backward, optimizer, memory))
    return rows


def size(count: int) -> str:
    """Bytes as text."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
