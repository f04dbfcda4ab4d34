"""Which place limits the job, why, and by how much: gains from the replay, with intervals, never from utilisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from gpuaug.profiler.model.costs import Change, Costs
from gpuaug.profiler.model.replay import Load, replay
from gpuaug.profiler.model.trace import Trace

__all__ = ["Gain", "Group", "Stage", "Verdict", "cause_of", "crowded", "groups", "judge", "stages"]

FINE, HIGH = 0.05, 0.20  # shares of a step: below the one nothing is wrong, above the other much is
MATTERS = 1.05  # a gain below it is not worth a change
NOTHING, LITTLE, SOME = 1.03, 1.10, 1.25  # gains of data path and step, between which they balance
SLOW_WORKER = 1.3  # times the others' median
TAIL = 1.10  # gain of even costs that makes a tail the cause
THREADS = 1.5  # of a worker that compute at once: above it, several do
CONTENDED = 0.15  # of the fetch spent waiting for a core

WORDS = {
    "storage": "storage",
    "decode": "decoding",
    "dataset": "the data set's own code",
    "augmentation": "CPU augmentation",
    "collate": "collating",
    "transport": "moving batches between processes",
    "pinning": "pinning memory",
    "model": "the model",
    "epoch": "the start of each epoch",
}


@dataclass(frozen=True)
class Gain:
    """How many times as fast the job would be: expected, and the interval's ends."""

    times: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.times:.2f}x ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Stage:
    """One row of the report, a batch's mean in seconds.

    Attributes:
        seconds: that the batch spends there; computing and waiting are its parts.
        capacity: samples a second that this place could give on its own, all of its processes together.
        exposed: seconds of the step that would be saved if this place and all before it were free, less those saved by
            the ones before it alone. The column adds up to the step.
        share: of the step. gain: if only this place took no time.
    """

    name: str
    group: str
    place: str
    seconds: float
    computing: float
    waiting: float
    capacity: float | None
    exposed: float
    share: float
    gain: Gain


@dataclass(frozen=True)
class Group:
    """Rows of one kind, and the gain if all of them took no time."""

    name: str
    rows: tuple[str, ...]
    gain: Gain


@dataclass(frozen=True)
class Verdict:
    """What limits the job.

    Attributes:
        kind: data, model, tie or epoch.
        place: the group that binds; of a tie the first one. second: the other one of a tie, or what binds next.
        cause: tail, worker, threads, cores or None: what makes the place slow, if it is not its ordinary work.
        text: one sentence. exposed: share of the step that waits for data.
        ceiling: the gain if the whole data path took no time.
    """

    kind: str
    place: str
    second: str | None
    cause: str | None
    text: str
    exposed: float
    ceiling: Gain


def group_of(name: str, augments: bool, place: str) -> str:
    """The group a row belongs to."""
    if augments:
        return "augmentation"
    if place in ("feeder", "receive"):
        return "transport"
    if place == "pin":
        return "pinning"
    if place == "step":
        return "model" if name == "model" else name
    return {"storage": "storage", "decode": "decode", "collate": "collate", "getitem": "dataset"}.get(name, name)


def free(names: Sequence[str]) -> Change:
    return Change(factors=dict.fromkeys(names, 0.0))


def gain(costs: Costs, change: Change) -> Gain:
    return Gain(*costs.gain(change))


def stages(costs: Costs) -> list[Stage]:
    """Every row, in the order of a batch's way."""
    found = []
    before = costs.pace
    gone: list[str] = []
    workers = max(1, costs.setting.workers)
    for row in costs.rows:
        gone.append(row.name)
        after = 0.0 if row is costs.rows[-1] else min(before, costs.expected(free(gone)))
        lanes = workers if row.place in ("worker", "feeder") else 1
        computing = float(row.computing.mean())
        busy = max(row.seconds / lanes, computing / min(lanes, costs.cores))
        found.append(
            Stage(
                name=row.name,
                group=group_of(row.name, row.augments, row.place),
                place=row.place,
                seconds=row.seconds,
                computing=computing,
                waiting=float(row.waiting.mean()),
                capacity=costs.samples / busy if busy > 0 else None,
                exposed=before - after,
                share=(before - after) / costs.pace,
                gain=gain(costs, free([row.name])),
            )
        )
        before = after
    return found


def groups(costs: Costs) -> list[Group]:
    """The kinds of places, each with its gain."""
    names: dict[str, list[str]] = {}
    for row in costs.rows:
        names.setdefault(group_of(row.name, row.augments, row.place), []).append(row.name)
    return [Group(name, tuple(found), gain(costs, free(found))) for name, found in names.items()]


def judge(costs: Costs, found: Sequence[Group], edge: Gain | None = None) -> Verdict:
    """Name what limits the job, or say that two places tie, or that nothing in the data path is worth changing.

    Args:
        costs: of the trace.
        found: its groups.
        edge: the gain if epochs began at once.
    """
    steps = {row.name for row in costs.rows if row.place == "step"}
    data = [group for group in found if not steps.issuperset(group.rows)]
    consumer = [group for group in found if steps.issuperset(group.rows)]
    ceiling = gain(costs, free([row for group in data for row in group.rows]))
    model = gain(costs, free(sorted(steps)))
    exposed = 1 - 1 / ceiling.times if ceiling.times > 1 else 0.0
    ranked = sorted(data, key=lambda group: -group.gain.times)
    first, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    cause = cause_of(costs)

    def say(kind: str, place: str, other: str | None, text: str) -> Verdict:
        return Verdict(kind, place, other, cause if kind in ("data", "tie") else None, text, exposed, ceiling)

    if edge is not None and edge.times >= MATTERS and edge.times > first.gain.times:
        return say("epoch", "epoch", first.name, f"The start of each epoch limits the job: without it {edge}.")
    top = max(consumer, key=lambda group: group.gain.times)
    what = WORDS.get(top.name, top.name)
    if balanced(ceiling.times, model.times):
        text = f"A tie: without the data path {ceiling}, without {what} {top.gain}; only both together give more."
        return say("tie", first.name, top.name, text)
    if model.times >= ceiling.times:
        rest = "the data path comes next"
        if ceiling.times < LITTLE:
            small = ceiling.times < MATTERS
            rest = "nothing in the data path is worth changing" if small else "the data path adds a little"
        return say(
            "model", top.name, first.name, f"{what[0].upper() + what[1:]} is the limit: {rest} ({ceiling} at most)."
        )
    word = WORDS.get(first.name, first.name)
    if second is not None and second.gain.high >= first.gain.low and near(first, second):
        other = WORDS.get(second.name, second.name)
        text = f"A tie of {word} and {other}: without the one {first.gain}, the other {second.gain}, both {ceiling}."
        return say("tie", first.name, second.name, text)
    text = f"{word[0].upper() + word[1:]} limits the job: without it {first.gain}, without all data work {ceiling}."
    return say("data", first.name, second.name if second else "model", text)


def balanced(data: float, model: float) -> bool:
    """Whether the data path and the step take about the same time, so that neither alone limits the job."""
    low, high = sorted((data, model))
    return high < LITTLE or (low > NOTHING and high < SOME and high / low < LITTLE)


def near(a: Group, b: Group) -> bool:
    """Gains that differ by less than a tenth of what the larger one brings."""
    return math.log(max(b.gain.times, 1e-9)) > 0.9 * math.log(max(a.gain.times, 1 + 1e-9))


def cause_of(costs: Costs) -> str | None:
    """Why a place is slow, if not for its ordinary work."""
    if slow_worker(costs.trace) is not None:
        return "worker"
    if crowded(costs):
        return "threads"
    batches = [batch for batch, _ in costs.batches]
    fetch = sum(b.fetch[1] - b.fetch[0] for b in batches)
    if fetch and sum(b.queue for b in batches) / fetch > CONTENDED:
        return "cores"
    if costs.setting.workers and tail_gain(costs) > TAIL:
        return "tail"
    return None


def crowded(costs: Costs) -> bool:
    """Whether the workers' threads are more than the cores, and more than the workers."""
    threads = costs.setting.worker_threads
    return threads > THREADS and costs.setting.workers * threads > costs.cores


def slow_worker(trace: Trace) -> int | None:
    """A worker whose samples take longer than the others', by far; None if there is none."""
    times: dict[int, list[float]] = {}
    for batch in trace.batches:
        if batch.size and batch.worker >= 0:
            times.setdefault(batch.worker, []).append((batch.fetch[1] - batch.fetch[0]) / batch.size)
    if len(times) < 2 or min(len(found) for found in times.values()) < 4:
        return None
    middles = {worker: median(found) for worker, found in times.items()}
    worst = max(middles, key=lambda worker: middles[worker])
    others = [middle for worker, middle in middles.items() if worker != worst]
    fastest = float(np.quantile(times[worst], 0.1))
    return worst if middles[worst] > SLOW_WORKER * max(others) and fastest > max(others) else None


def tail_gain(costs: Costs) -> float:
    """How much faster the job would be if every batch cost the mean."""
    order = np.arange(len(costs.batches))
    loads = costs.loads(Change(), order)
    means = {name: np.mean([getattr(load, name) for load in loads], 0) for name in ("fetch", "send", "receive", "step")}
    fetch, send, receive, step = ((float(pair[0]), float(pair[1])) for pair in means.values())
    mean = Load(fetch, send, receive, float(np.mean([load.pin for load in loads])), 0.0, step)
    ahead = costs.setting.workers * costs.setting.prefetch
    times = math.ceil((4 * ahead + 16) / len(order))
    real = replay(loads * times, costs.setting).ends
    even = replay([mean] * len(real), costs.setting).ends
    last = len(real) - 1 - ahead
    return (real[last] - real[ahead]) / (even[last] - even[ahead])
