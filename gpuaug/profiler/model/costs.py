"""From a trace to costs: a row for each place where a batch spends time, and what the loader gives without it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gpuaug.profiler.model.replay import Load, Setting, replay
from gpuaug.profiler.model.trace import Batch, Trace

__all__ = ["Change", "Costs", "Row"]

MOST = 400  # batches that are replayed: more tell little, and take long
RESAMPLES = 24  # of blocks of batches, for an interval
LEAST_WAIT = 0.05  # quantile of the waits for a worker's lock that no computing explains
SEVERAL = 1.2  # threads; what is less is one, and what else the process does
ENOUGH = 3  # batches that a median is taken of
COVER = (0.05, 0.95)  # of the resamples lie in an interval
READERS = ("read", "decode", "getitem")  # stages whose waiting is called storage
IN_STEP = " (step)"  # of a mark in the step that is called as a stage of the workers is
PLACES = ("worker", "feeder", "receive", "pin", "step")


@dataclass
class Row:
    """A place where batches spend time.

    Attributes:
        name: of the stage.
        place: worker, feeder, receive, pin or step: which thread it occupies.
        augments: it is one of the data set's transforms.
        computing, waiting: (batches,) float64 seconds.
    """

    name: str
    place: str
    augments: bool
    computing: np.ndarray
    waiting: np.ndarray

    @property
    def seconds(self) -> float:
        """Mean of a batch."""
        return float((self.computing + self.waiting).mean())


@dataclass(frozen=True)
class Change:
    """Another setting, or other costs. What is None stays as it is.

    Attributes:
        workers, prefetch, pinning, in_order: of the loader.
        factors: row name -> what its time is multiplied by; 0 is without it.
        transport: what sending, receiving and pinning are multiplied by.
        added: (computing, waiting) seconds a batch that the step takes longer.
        ahead: (seconds, threads) a batch of computing in a thread that works ahead of the step.
    """

    workers: int | None = None
    prefetch: int | None = None
    pinning: bool | None = None
    in_order: bool | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    transport: float = 1.0
    added: tuple[float, float] = (0.0, 0.0)
    ahead: tuple[float, float] = (0.0, 1.0)


class Costs:
    """What the batches of a trace cost, row by row.

    Args:
        trace: of one or more epochs.
        cores: that the job may use at once.
        alone: seconds of a step when no worker runs, if that was measured.

    Attributes:
        rows: in the order of a batch's way.
        pace: measured seconds a batch, warm-up left out.
        samples: mean samples of a batch.

    Raises:
        ValueError: if the trace has too few batches.
    """

    LEAST = 6  # batches after the warm-up

    def __init__(self, trace: Trace, cores: float, alone: float | None = None) -> None:
        self.trace, self.cores = trace, cores
        self.setting = Setting(
            trace.loader.workers,
            trace.loader.prefetch,
            any(b.pinned for b in trace.batches),
            trace.loader.in_order,
            cores,
        )
        self.warm, batches = steady(trace)
        if len(batches) < self.LEAST:
            raise ValueError(
                f"profile: the trace must have at least {self.LEAST} batches after the first one of each epoch, "
                f"got {len(batches)}. Let it run longer, over epochs of several batches."
            )
        self.batches = batches
        paces = np.array([pace for _, pace in batches])
        self.paces = paces
        self.pace = float(paces.mean())
        self.samples = float(np.mean([batch.size for batch, _ in batches])) or 1.0
        self.rows = rows(trace, [batch for batch, _ in batches], alone)
        looked = [batch.step for batch, _ in batches if batch.step is not None]
        main, spent = sum(step[0] for step in looked), sum(step[2] for step in looked)
        threads = spent / main if main > 0.001 * len(looked) else 1.0
        self.setting = replace(
            self.setting,
            threads=min(max(1.0, threads), max(1.0, cores)),
            worker_threads=worker_threads([batch for batch, _ in batches]),
        )
        self._base: dict[bytes, float] = {}

    def row(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(f"whatif: `factors` must name one of {', '.join(r.name for r in self.rows)}, got {name!r}.")

    def loads(self, change: Change, order: np.ndarray) -> list[Load]:
        """The batches as the change makes them, in some order."""
        sums = {place: np.zeros((2, len(order))) for place in PLACES}
        for row in self.rows:
            factor = change.factors.get(row.name, 1.0)
            if row.place in ("feeder", "receive", "pin"):
                factor *= change.transport
            sums[row.place] += factor * np.stack([row.computing[order], row.waiting[order]])
        self._with_the_lock(sums, order)
        worker, send, receive, step = (sums[place].T.tolist() for place in ("worker", "feeder", "receive", "step"))
        pin = sums["pin"].sum(0).tolist()
        more = change.added
        return [
            Load((w[0], w[1]), (s[0], s[1]), (r[0], r[1]), p, change.ahead[0], (m[0] + more[0], m[1] + more[1]))
            for w, s, r, p, m in zip(worker, send, receive, pin, step, strict=True)
        ]

    def _with_the_lock(self, sums: dict[str, np.ndarray], order: np.ndarray) -> None:
        """Pickling and unpickling wait for the interpreter's lock of the worker while it computes.

        Unpickling asks a thread of the worker for the memory's descriptor. Half the computing is met half as often, and
        is over in half the time: hence the square.
        """
        before = sum(row.computing[order].sum() for row in self.rows if row.place == "worker")
        share = float(sums["worker"][0].sum() / before) if before > 0 else 1.0
        for place in ("feeder", "receive"):
            waiting = sums[place][1]
            least = np.minimum(waiting, np.quantile(waiting, LEAST_WAIT))
            sums[place][1] = least + (waiting - least) * min(share, 2.0) ** 2

    def simulate(self, change: Change, order: np.ndarray | None = None) -> float:
        """Seconds a batch under a change, in a steady state, as the replay alone sees it."""
        for name in change.factors:
            self.row(name)
        setting = replace(
            self.setting,
            workers=self.setting.workers if change.workers is None else change.workers,
            prefetch=change.prefetch or self.setting.prefetch,
            pinning=(self.setting.pinning if change.pinning is None else change.pinning) or change.ahead[0] > 0,
            in_order=self.setting.in_order if change.in_order is None else change.in_order,
            ahead_threads=change.ahead[1],
        )
        order = np.arange(len(self.batches)) if order is None else order
        thread = change.ahead[0] > 0 and not setting.workers  # it fetches, too
        if thread:
            setting = replace(setting, workers=1, prefetch=1, pinning=False)
        ahead = setting.workers * setting.prefetch  # the first ones fill the queues, the last ones empty them
        times = math.ceil((4 * ahead + 16) / len(order)) if ahead + 8 > len(order) // 3 else 1
        loads = self.loads(change, np.tile(order, times))
        if thread:
            loads = [replace(load, fetch=(load.fetch[0] + load.ahead, load.fetch[1]), ahead=0.0) for load in loads]
        ends = replay(loads, setting).ends
        first, last = ahead, len(ends) - 1 - ahead
        return (ends[last] - ends[first]) / (last - first)

    def predict(self, change: Change) -> tuple[float, float, float]:
        """Seconds a batch under a change: (expected, low, high), in proportion to what was measured.

        The interval is over resampled blocks of batches, and as much wider as the replay of the trace itself misses.
        """
        expected, least = self.expected(change), self._least(change)
        rng = np.random.default_rng(0)
        drawn = sorted(self.pace * self._ratio(change, order) for order in self._orders(rng))
        low, high = (drawn[round(q * (len(drawn) - 1))] for q in COVER)
        miss = math.exp(abs(self.residual * math.log(expected / self.pace)))
        return expected, max(least, min(low, expected) / miss), max(high, expected) * miss

    def gain(self, change: Change) -> tuple[float, float, float]:
        """How many times as fast: (expected, low, high)."""
        expected, low, high = self.predict(change)
        return self.pace / expected, self.pace / high, self.pace / low

    def expected(self, change: Change) -> float:
        """Seconds a batch under a change, in proportion to what was measured."""
        found = max(self._least(change), self.pace * self._ratio(change, None))
        if found <= 0:
            raise ValueError("whatif: nothing that takes time would be left. Let one stage be.")
        return found

    def _least(self, change: Change) -> float:
        """Seconds of the step alone under a change: no setting of a loader makes batches come faster."""
        rows = [row for row in self.rows if row.place == "step"]
        step = sum(change.factors.get(row.name, 1.0) * row.seconds for row in rows) + sum(change.added)
        return min(self.pace, step)

    @property
    def residual(self) -> float:
        """What the replay of the trace as it was gives, against what was measured: a fraction."""
        return self.simulate(Change()) / self.pace - 1

    def _ratio(self, change: Change, order: np.ndarray | None) -> float:
        key = b"" if order is None else order.tobytes()
        if key not in self._base:
            self._base[key] = self.simulate(Change(), order)
        return self.simulate(change, order) / self._base[key]

    def _orders(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Blocks of consecutive batches, drawn with replacement: neighbours share what the machine did meanwhile."""
        count = len(self.batches)
        block = max(2, min(count // 4, 2 * max(1, self.setting.workers)))
        found = []
        for _ in range(RESAMPLES):
            starts = rng.integers(0, max(1, count - block + 1), math.ceil(count / block))
            found.append(np.concatenate([np.arange(s, s + block) for s in starts])[:count])
        return found


def steady(trace: Trace) -> tuple[int, list[tuple[Batch, float]]]:
    """The batches after the warm-up of each epoch, and the time each took: from the step before it to its own end.

    The first ones of an epoch find empty queues; as many as are asked for ahead are left out, half an epoch at most,
    and so many more that each worker has made as many of the rest: their batches come together. If too few would be
    left, only the first one is. Of a long run the last `MOST` are taken.
    """
    workers = max(1, trace.loader.workers)
    epochs: dict[int, list[Batch]] = {}
    for batch in trace.batches:
        epochs.setdefault(batch.epoch, []).append(batch)
    ahead = workers * trace.loader.prefetch + 1 if trace.loader.workers else 1
    for first in (ahead, 1):
        found = []
        for batches in epochs.values():
            skip = max(1, min(first, len(batches) // 2))
            rest = len(batches) - skip
            skip += rest % workers if first > 1 and rest > 2 * workers else 0
            found += [(b, b.done - a.done) for a, b in zip(batches[skip - 1 :], batches[skip:], strict=False)]
        if len(found) >= Costs.LEAST:
            return first, found[-MOST:]
    return 1, found


def worker_threads(batches: Sequence[Batch]) -> float:
    """Threads of a worker that compute at once while it fetches; sending has a thread of its own."""
    spent = sum(max(batch.cpu, batch.threads - batch.moved[0]) for batch in batches)
    found = spent / max(1e-9, sum(batch.cpu for batch in batches))
    return found if found >= SEVERAL else 1.0


def rows(trace: Trace, batches: Sequence[Batch], alone: float | None) -> list[Row]:
    """Every place, in the order of a batch's way."""
    found = [*_worker_rows(trace, batches), *_transport_rows(trace, batches)]
    taken = {row.name for row in found}
    for row in _step_rows(batches, alone):
        row.name += IN_STEP if row.name in taken else ""
        found.append(row)
    return [row for row in found if row.seconds > 1e-7 or row.name == "model"]


def _worker_rows(trace: Trace, batches: Sequence[Batch]) -> list[Row]:
    """Of each stage, its share of the fetch's computing and waiting; of batches without detail, the mean share."""
    detailed = [batch for batch in trace.batches if batch.stages is not None]
    names = list(dict.fromkeys(name for batch in detailed for name in batch.stages or ()))
    names = [name for name in names if name != "collate"]
    order = [n for n in ("read", "decode") if n in names] + [n for n in names if n not in ("read", "decode")]
    order += ["getitem", "collate"]
    cpu = dict.fromkeys(order, 0.0)
    wait = dict.fromkeys(order, 0.0)
    for batch in detailed:
        for name, (c, w) in parts(batch).items():
            cpu[name] += c
            wait[name] += w
    all_cpu, all_wait = sum(cpu.values()) or 1.0, sum(wait.values()) or 1.0
    count = len(batches)
    computing = {name: np.zeros(count) for name in order}
    waiting = {name: np.zeros(count) for name in order}
    for k, batch in enumerate(batches):
        if batch.stages is not None:
            for name, (c, w) in parts(batch).items():
                computing[name][k], waiting[name][k] = c, w
        else:
            for name in order:
                computing[name][k] = batch.cpu * cpu[name] / all_cpu
                waiting[name][k] = batch.blocked * wait[name] / all_wait
    storage = sum((waiting.pop(name) for name in READERS if name in waiting), np.zeros(count))
    storage_cpu = computing.pop("read", np.zeros(count))
    names = [name for name in order if name != "read"]
    return [
        Row("storage", "worker", False, storage_cpu, storage),
        *(
            Row(name, "worker", name in trace.loader.transforms, computing[name], waiting.get(name, np.zeros(count)))
            for name in names
        ),
    ]


def parts(batch: Batch) -> dict[str, tuple[float, float]]:
    """(computing, waiting) of each stage of a batch that was timed in detail; what no stage took is `getitem`."""
    assert batch.stages is not None
    found = {name: (max(c, 0.0), max(w - c - q, 0.0)) for name, (w, c, q) in batch.stages.items()}
    left = max(0.0, batch.cpu - sum(c for c, _ in found.values()))
    waited = max(0.0, batch.blocked - sum(w for _, w in found.values()))
    return {"getitem": (left, waited), "collate": (0.0, 0.0), **found}


def _transport_rows(trace: Trace, batches: Sequence[Batch]) -> list[Row]:
    count = len(batches)
    nothing = np.zeros(count)
    if not trace.loader.workers:
        pin = np.array([b.pinned[1] - b.pinned[0] if b.pinned else 0.0 for b in batches])
        return [Row("pin", "pin", False, pin, nothing)]
    sent = np.array([b.sent[1] - b.sent[0] if b.sent else 0.0 for b in batches])
    received = np.array([b.received[1] - b.received[0] if b.received else 0.0 for b in batches])
    pinned = np.array([b.pinned[1] - b.pinned[0] if b.pinned else 0.0 for b in batches])
    extra = _receiving(batches)
    return [
        Row("send", "feeder", False, *_halves(sent, [b.moved[0] for b in batches], 0.0)),
        Row("receive", "receive", False, *_halves(received, [b.moved[1] for b in batches], extra)),
        Row("pin", "pin", False, pinned, nothing),
    ]


def _halves(spans: np.ndarray, computed: Sequence[float], extra: float) -> tuple[np.ndarray, np.ndarray]:
    """(computing, waiting) of spans of which so much was on a core; a preempted one counts as the usual ones do."""
    computing = np.minimum(np.array(computed), spans)
    waiting = spans - computing
    return computing + extra, np.minimum(waiting, 4 * np.median(waiting) + 1e-3)


def _receiving(batches: Sequence[Batch]) -> float:
    """Seconds that receiving takes beyond unpickling: seen where a batch was there when it was asked for.

    Where none ever was: from the end of pickling to the start of unpickling, and from its end to the user.
    """
    spans = [(b, b.sent, b.pinned or b.received, b.received) for b in batches if b.sent and b.received]
    there = [
        b.given - b.asked - (r[1] - r[0]) for b, sent, _, r in spans if sent[1] <= b.asked <= r[0] and not b.pinned
    ]
    if len(there) >= ENOUGH:
        return max(0.0, float(np.median(there)))
    wire = [r[0] - sent[1] for b, sent, _, r in spans if b.asked < sent[1]]
    after = [b.given - last[1] for b, _, last, r in spans if b.asked < r[0]]
    return sum(float(np.median(found)) for found in (wire, after) if found)


def _step_rows(batches: Sequence[Batch], alone: float | None) -> list[Row]:
    """What the user marked, and the rest, which is the model's."""
    names = list(dict.fromkeys(name for batch in batches for name in batch.marks))
    wall = np.array([b.done - b.given for b in batches])
    looked = np.array([b.step is not None for b in batches])
    cpu = _all([b.step[0] if b.step else 0.0 for b in batches], wall, looked)
    queue = _all([b.step[1] if b.step else 0.0 for b in batches], wall, looked)
    wait = np.maximum(0.0, wall - cpu - queue)
    device = np.array([b.device[0] if b.device else 0.0 for b in batches])
    wait = np.maximum(wait, device - cpu)  # a device goes on working when the host has asked for the next batch
    total = float((cpu + wait).mean())
    if alone is not None and alone > total:
        wait = wait + (alone - total)
    elif alone is not None and total > 0:
        cpu, wait = cpu * alone / total, wait * alone / total
    scale = min(1.0, alone / total) if alone is not None and total > 0 else 1.0
    found = []
    for name in names:
        marks = [b.marks.get(name, (0.0, 0.0, 0.0)) for b in batches]
        c = scale * _all([max(0.0, m[1]) for m in marks], wall, looked)
        w = scale * _all([max(0.0, m[0] - m[1] - m[2]) for m in marks], wall, looked)
        cpu, wait = np.maximum(0, cpu - c), np.maximum(0, wait - w)
        found.append(Row(name, "step", False, c, w))
    return [*found, Row("model", "step", False, cpu, wait)]


def _all(seen: Sequence[float], wall: np.ndarray, looked: np.ndarray) -> np.ndarray:
    """Seconds of every step, from those that all clocks were read for: the same share of the others."""
    found = np.array(seen)
    total = wall[looked].sum()
    return np.where(looked, found, wall * (found[looked].sum() / total if total > 0 else 0.0))
