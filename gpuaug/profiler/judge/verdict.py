"""Which stage limits the job, why, and by how much. Gains come from the replay, not from utilisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from gpuaug.profiler.model.costs import Change, Costs
from gpuaug.profiler.model.replay import Load, replay
from gpuaug.profiler.model.trace import BACKWARD, DEVICE, FORWARD, OPTIMIZER, REST, Trace

__all__ = ["Gain", "Group", "Stage", "Verdict", "cause_of", "crowded", "groups", "judge", "stages"]

FINE, HIGH = 0.05, 0.20  # fractions of a step that wait for data: low below the first, high above the second
SMALLEST = 0.002  # part of a step, below which a stage takes too little time to have a limit of its own
MATTERS = 1.05  # the smallest gain that is worth a change
NOTHING, LITTLE, SOME = 1.03, 1.10, 1.25  # limits of the gains for which data path and step balance, see `balanced`
SLOW_WORKER = 1.3  # time of a slow worker / median of the others, at least
TAIL = 1.10  # gain of equal batches, from which on the cause is a tail
THREADS = 1.5  # threads of a worker that compute at once, from which on it counts as multithreaded
PAIRS = ("fetch", "send", "receive", "step", "late")  # parts of a Load with two times
CONTENDED = 0.15  # fraction of the fetch that waits for a core, from which on the cause is cores

MODEL = ("model", FORWARD, BACKWARD, OPTIMIZER, DEVICE, REST)  # rows of the step that the user did not mark

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
    """How many times as fast the job would be.

    Attributes:
        times: Expected ratio; 1 is no change.
        low, high: Ends of the interval.
    """

    times: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.times:.2f}x ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Stage:
    """One row of the report; times are the mean of a batch in seconds.

    Attributes:
        name: Name of the stage.
        group: Kind of the stage, a key of WORDS or the stage's name.
        place: Thread that the stage runs in: worker, feeder, receive, pin or step.
        seconds: Time of a batch in this stage.
        computing, waiting: Parts of `seconds`: on a core, and not.
        capacity: Samples per second that this stage could handle alone, with all of its processes; None if it takes too
            small a part of the step to be measured.
        exposed: Time that a step would save if this stage and all before it took no time, minus the time it would save
            if only those before it did. The sum over all rows is the step.
        share: exposed / step.
        gain: Gain if only this stage took no time.
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
    """The stages of one kind.

    Attributes:
        name: Kind of the stages.
        rows: Names of the stages.
        gain: Gain if all of them took no time.
    """

    name: str
    rows: tuple[str, ...]
    gain: Gain


@dataclass(frozen=True)
class Verdict:
    """What limits the job.

    Attributes:
        kind: data, model, tie or epoch.
        place: Group that limits the job; of a tie the first one.
        second: The other group of a tie, or the next limit; None if there is none.
        cause: Why the place is slow, if not for its ordinary work: tail, worker, threads, cores or None.
        text: The verdict in one sentence.
        exposed: Fraction of the step that waits for data.
        ceiling: Gain if the whole data path took no time.
    """

    kind: str
    place: str
    second: str | None
    cause: str | None
    text: str
    exposed: float
    ceiling: Gain


def group_of(name: str, augments: bool, place: str) -> str:
    """The group of a row."""
    if augments:
        return "augmentation"
    if place in ("feeder", "receive"):
        return "transport"
    if place == "pin":
        return "pinning"
    if place == "step":
        return "model" if name in MODEL else name
    return {"storage": "storage", "decode": "decode", "collate": "collate", "getitem": "dataset"}.get(name, name)


def free(names: Sequence[str]) -> Change:
    """The change after which these rows take no time."""
    return Change(factors=dict.fromkeys(names, 0.0))


def gain(costs: Costs, change: Change) -> Gain:
    """The predicted gain of a change."""
    return Gain(*costs.gain(change))


def stages(costs: Costs) -> list[Stage]:
    """All stages, in the order in which a batch passes them."""
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
                capacity=costs.samples / busy if busy > SMALLEST * costs.pace else None,
                exposed=before - after,
                share=(before - after) / costs.pace,
                gain=gain(costs, free([row.name])),
            )
        )
        before = after
    return found


def groups(costs: Costs) -> list[Group]:
    """The stages by kind, each group with its gain."""
    names: dict[str, list[str]] = {}
    for row in costs.rows:
        names.setdefault(group_of(row.name, row.augments, row.place), []).append(row.name)
    return [Group(name, tuple(found), gain(costs, free(found))) for name, found in names.items()]


def judge(costs: Costs, found: Sequence[Group], edge: Gain | None = None) -> Verdict:
    """Find what limits the job: one group, a tie of two, the start of epochs, or the model.

    Args:
        costs: Costs of the trace.
        found: Groups of the trace.
        edge: Gain if each epoch started without delay; None if that is not known.
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
        return say("epoch", "epoch", first.name, f"The start of each epoch limits the job. Without it: {edge}.")
    top = max(consumer, key=lambda group: group.gain.times)
    what = WORDS.get(top.name, top.name)
    if balanced(ceiling.times, model.times):
        text = f"A tie of the data path and {what}. Without the first: {ceiling}; without the second: {top.gain}."
        return say("tie", first.name, top.name, text)
    if model.times >= ceiling.times:
        rest = "the data path is the next limit"
        if ceiling.times < LITTLE:
            small = ceiling.times < MATTERS
            rest = "nothing in the data path is worth changing" if small else "the data path costs little"
        text = f"{what[0].upper() + what[1:]} limits the job: {rest} (at most {ceiling})."
        return say("model", top.name, first.name, text)
    word = WORDS.get(first.name, first.name)
    if second is not None and second.gain.high >= first.gain.low and near(first, second):
        other = WORDS.get(second.name, second.name)
        text = (
            f"A tie of {word} and {other}. Without the first: {first.gain}; without the second: {second.gain}; "
            f"without all data work: {ceiling}."
        )
        return say("tie", first.name, second.name, text)
    text = f"{word[0].upper() + word[1:]} limits the job. Without it: {first.gain}; without all data work: {ceiling}."
    return say("data", first.name, second.name if second else "model", text)


def balanced(data: float, model: float) -> bool:
    """Whether data path and step take about the same time, by the gains without each: neither alone limits the job."""
    low, high = sorted((data, model))
    return high < LITTLE or (low > NOTHING and high < SOME and high / low < LITTLE)


def near(a: Group, b: Group) -> bool:
    """Whether the logarithm of b's gain is more than 90 % of that of a's gain."""
    return math.log(max(b.gain.times, 1e-9)) > 0.9 * math.log(max(a.gain.times, 1 + 1e-9))


def cause_of(costs: Costs) -> str | None:
    """Why a stage is slow, if not for its ordinary work: worker, threads, cores, tail or None."""
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
    """Whether a worker computes on several threads, and all workers together have more threads than cores."""
    threads = costs.setting.worker_threads
    return threads > THREADS and costs.setting.workers * threads > costs.cores


def slow_worker(trace: Trace) -> int | None:
    """A worker whose samples take far longer than the others'; None if there is none."""
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
    """How many times as fast the job would be if every batch had the mean costs."""
    order = np.arange(len(costs.batches))
    loads = costs.loads(Change(), order)
    means = {name: np.mean([getattr(load, name) for load in loads], 0) for name in PAIRS}
    fetch, send, receive, step, late = ((float(pair[0]), float(pair[1])) for pair in means.values())
    mean = Load(fetch, send, receive, float(np.mean([load.pin for load in loads])), 0.0, step, late)
    ahead = costs.setting.workers * costs.setting.prefetch
    times = math.ceil((4 * ahead + 16) / len(order))
    real = replay(loads * times, costs.setting).ends
    even = replay([mean] * len(real), costs.setting).ends
    last = len(real) - 1 - ahead
    return (real[last] - real[ahead]) / (even[last] - even[ahead])
