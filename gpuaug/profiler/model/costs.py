"""The costs of a trace's batches, and the time per batch that the replay predicts after a change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gpuaug.profiler.model.replay import Load, Setting, replay
from gpuaug.profiler.model.rows import MIN_BATCHES, PLACES, Row, rows_of, steady, worker_threads
from gpuaug.profiler.model.trace import Trace

__all__ = ["Change", "Costs"]

RESAMPLES = 24  # random orders of the batches, for an interval
COVER = (0.05, 0.95)  # quantiles of the resamples that are the ends of an interval
ROUNDS = 3  # replays to find how late the main thread gets a core
MOST_LATE = 4.0  # longest wait for a core / its measured mean
OWN = 1.25  # time of a wrapper / predicted time of the loader in it, from which on the rest is the wrapper's own work
BASE_WAIT = 0.05  # quantile of the waits in pickling and unpickling that does not come from the worker's lock

Order = NDArray[np.intp]  # numbers of batches


@dataclass(frozen=True)
class Change:
    """Other settings of the loader, or other costs. None means unchanged.

    Attributes:
        workers, prefetch, pinning, in_order: Settings of the loader.
        factors: {row name: factor of its time}; 0 removes the row.
        transport: Factor of sending, receiving and pinning.
        added: (computing, waiting) seconds per batch that are added to the step.
        ahead: (seconds, threads) of computing per batch in a thread that works ahead of the step.
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
    """The costs of a trace's batches, row by row.

    Args:
        trace: Trace of one or more epochs.
        cores: Number of cores that the job can use at once.
        alone: Seconds of a step while no worker runs, if measured.
        busy: Seconds of such a step that (its thread computed, all threads of its process computed, its thread waited
            for a core), if measured.
        wrapped: Seconds per batch of a wrapper that nothing waits for, if the loader is one and this was measured.

    Attributes:
        rows: Rows in the order in which a batch passes the stages.
        pace: Measured seconds per batch, without the warm-up.
        samples: Mean number of samples in a batch.

    Raises:
        ValueError: If the trace has too few batches.
    """

    def __init__(
        self,
        trace: Trace,
        cores: float,
        alone: float | None = None,
        busy: tuple[float, float, float] | None = None,
        wrapped: float | None = None,
    ) -> None:
        self.trace, self.cores = trace, cores
        self.setting = Setting(
            trace.loader.workers,
            trace.loader.prefetch,
            any(b.pinned for b in trace.batches),
            trace.loader.in_order,
            cores,
        )
        self.warm, batches = steady(trace)
        if len(batches) < MIN_BATCHES:
            raise ValueError(
                f"profile: the trace must have at least {MIN_BATCHES} batches after the first one of each epoch, "
                f"got {len(batches)}. Let it run longer, over epochs of several batches."
            )
        self.batches = batches
        paces = np.array([pace for _, pace in batches])
        self.paces = paces
        self.pace = float(paces.mean())
        self.samples = float(np.mean([batch.size for batch, _ in batches])) or 1.0
        alone, computing, threads = self._step(alone, busy)
        self.rows = rows_of(trace, [batch for batch, _ in batches], alone, computing)
        self.setting = replace(
            self.setting,
            threads=threads,
            worker_threads=worker_threads([batch for batch, _ in batches]),
        )
        self._base: dict[bytes, float] = {}
        self.late = (0.0, 0.0)
        self._find_late()
        self._wrapper = self._own_time(wrapped)

    def _step(
        self, alone: float | None, busy: tuple[float, float, float] | None
    ) -> tuple[float | None, float | None, float]:
        """(seconds of a step alone, those in which it computes, its threads that do so at once), as far as known.

        A step that waits for a core, since other jobs use them, is measured too long; the replay has them in its cores.
        """
        most = max(1.0, self.cores)
        if alone and busy is not None:
            own, process, queued = busy
            alone = max(alone - queued, own)
            computing = min(alone, max(own, process / most))  # its thread may wait for others that compute
            return alone, computing, min(max(1.0, process / computing if computing > 0 else 1.0), most)
        looked = [batch.step for batch, _ in self.batches if batch.step is not None]
        main, spent = sum(step[0] for step in looked), sum(step[2] for step in looked)
        threads = spent / main if main > 0.001 * len(looked) else 1.0
        return alone, None, min(max(1.0, threads), most)

    def _find_late(self) -> None:
        """Set `late`, at a request and in the step, so that the main thread waits for cores as long as was measured.

        A thread that wakes up while all cores are busy, or wakes another one, waits until a core is given up. That
        takes longer than an even share of the cores would; see `Load.late`.
        """
        looked = [(b.request[1], b.step[1]) for b, _ in self.batches if b.request is not None and b.step is not None]
        waits = np.mean(looked, 0) if looked else np.zeros(2)
        total = float(waits.sum())
        if not self.setting.workers or total <= 0:
            return
        order = np.arange(len(self.batches))
        self.late = (float(waits[0]), float(waits[1]))
        part = 1.0
        for _ in range(ROUNDS):
            found = replay(self.loads(Change(), order), self.setting)
            shared, late = found.shared / len(order), found.late / len(order)
            if late <= 0:
                return
            part = min(MOST_LATE, part * max(0.0, total - shared) / late)
            self.late = (float(part * waits[0]), float(part * waits[1]))

    def _own_time(self, wrapped: float | None) -> float:
        """Seconds per batch of a wrapper's own work, which has no row; 0 if its loader takes as long."""
        if wrapped is None:
            return 0.0
        steps = [row.name for row in self.rows if row.place == "step"]
        return wrapped if wrapped > OWN * self.simulate(Change(factors=dict.fromkeys(steps, 0.0))) else 0.0

    def row(self, name: str) -> Row:
        """The row of this name; ValueError if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(f"whatif: `factors` must name one of {', '.join(r.name for r in self.rows)}, got {name!r}.")

    def loads(self, change: Change, order: Order) -> list[Load]:
        """The costs of the batches after a change, in an order."""
        sums = {place: np.zeros((2, len(order))) for place in PLACES}
        before = dict.fromkeys(PLACES, 0.0)
        for row in self.rows:
            before[row.place] += float(row.computing[order].sum() + row.waiting[order].sum())
            factor = change.factors.get(row.name, 1.0)
            if row.place in ("feeder", "receive", "pin"):
                factor *= change.transport
            sums[row.place] += factor * np.stack([row.computing[order], row.waiting[order]])
        late = tuple(
            wait * min(1.0, float(sums[place].sum()) / before[place]) if before[place] > 0 else 0.0
            for wait, place in zip(self.late, ("receive", "step"), strict=True)
        )
        self._scale_lock_waits(sums, order)
        worker, send, receive, step = (sums[place].T.tolist() for place in ("worker", "feeder", "receive", "step"))
        pin = sums["pin"].sum(0).tolist()
        more = change.added
        return [
            Load(
                (w[0], w[1]),
                (s[0], s[1]),
                (r[0], r[1]),
                p,
                change.ahead[0],
                (m[0] + more[0], m[1] + more[1]),
                (late[0], late[1]),
            )
            for w, s, r, p, m in zip(worker, send, receive, pin, step, strict=True)
        ]

    def _scale_lock_waits(self, sums: dict[str, NDArray[np.float64]], order: Order) -> None:
        """Scale the waits in pickling and unpickling with the worker's computing.

        Both wait for the worker's interpreter lock while it computes: unpickling asks a thread of the worker for the
        memory's file descriptor. With half the computing, such a wait is half as frequent and half as long: hence the
        square.
        """
        before = sum(row.computing[order].sum() for row in self.rows if row.place == "worker")
        share = float(sums["worker"][0].sum() / before) if before > 0 else 1.0
        for place in ("feeder", "receive"):
            waiting = sums[place][1]
            base = np.minimum(waiting, np.quantile(waiting, BASE_WAIT))
            sums[place][1] = base + (waiting - base) * min(share, 2.0) ** 2

    def simulate(self, change: Change, order: Order | None = None) -> float:
        """Seconds per batch after a change, in a steady state, in the replay alone."""
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
        thread = change.ahead[0] > 0 and not setting.workers  # the thread that works ahead fetches too
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
        """Seconds per batch after a change: (expected, low, high), scaled by the measured time.

        The interval comes from resampled blocks of batches, and is wider if the replay of the trace itself differs from
        the measured time.
        """
        expected, minimum = self.expected(change), self._minimum(change)
        rng = np.random.default_rng(0)
        drawn = sorted(self.pace * self._ratio(change, order) for order in self._orders(rng))
        low, high = (drawn[round(q * (len(drawn) - 1))] for q in COVER)
        miss = math.exp(abs(self.residual * math.log(expected / self.pace)))
        return expected, max(minimum, min(low, expected) / miss), max(high, expected) * miss

    def gain(self, change: Change) -> tuple[float, float, float]:
        """How many times as fast the job is after a change: (expected, low, high)."""
        expected, low, high = self.predict(change)
        return self.pace / expected, self.pace / high, self.pace / low

    def expected(self, change: Change) -> float:
        """Seconds per batch after a change, scaled by the measured time.

        Raises:
            ValueError: If nothing takes time after the change.
        """
        found = max(self._minimum(change), self.pace * self._ratio(change, None))
        if found <= 0:
            raise ValueError("whatif: nothing that takes time would be left. Keep at least one stage.")
        return found

    def _minimum(self, change: Change) -> float:
        """Seconds of the step alone after a change: no setting of a loader is faster. Without a step, of a wrapper."""
        rows = [row for row in self.rows if row.place == "step"]
        step = sum(change.factors.get(row.name, 1.0) * row.seconds for row in rows) + sum(change.added)
        loader = replace(change, factors={}, added=(0.0, 0.0))
        alone = step == 0 and loader == Change() and set(change.factors) <= {row.name for row in rows}
        return min(self.pace, max(step, self._wrapper if alone else 0.0))

    @property
    def residual(self) -> float:
        """Time of the replayed trace / measured time - 1."""
        return self.simulate(Change()) / self.pace - 1

    def _ratio(self, change: Change, order: Order | None) -> float:
        key = b"" if order is None else order.tobytes()
        if key not in self._base:
            self._base[key] = self.simulate(Change(), order)
        return self.simulate(change, order) / self._base[key]

    def _orders(self, rng: np.random.Generator) -> list[Order]:
        """Orders of blocks of consecutive batches, drawn with replacement: neighbours were made in like conditions."""
        count = len(self.batches)
        block = max(2, min(count // 4, 2 * max(1, self.setting.workers)))
        found = []
        for _ in range(RESAMPLES):
            starts = rng.integers(0, max(1, count - block + 1), math.ceil(count / block))
            found.append(np.concatenate([np.arange(s, s + block) for s in starts])[:count])
        return found
