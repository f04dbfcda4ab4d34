"""From the batches of a trace to rows: the computing and waiting time of each batch in each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.profiler.model.trace import BACKWARD, DEVICE, REST, Batch, Trace

__all__ = ["MIN_BATCHES", "PLACES", "Row", "rows_of", "steady", "worker_threads"]

MIN_BATCHES = 6  # smallest number of batches after the warm-up
MAX_BATCHES = 400  # largest number of batches that are used: more add little, and take long to replay
SEVERAL = 1.2  # computing threads of a worker, from which on it counts as multithreaded
TAIL = 0.95  # quantile of the times of pickling and unpickling, above which they are not usual
ENOUGH = 3  # values for a median
READERS = ("read", "decode", "getitem")  # stages whose waiting belongs to the row storage
IN_STEP = " (step)"  # suffix of a mark in the step whose name is that of a stage in the workers
PLACES = ("worker", "feeder", "receive", "pin", "step")

Array = NDArray[Any]


@dataclass
class Row:
    """A stage: where batches spend time.

    Attributes:
        name: Name of the stage.
        place: Thread that it runs in: worker, feeder, receive, pin or step.
        augments: Whether it is one of the data set's transforms.
        computing, waiting: Seconds of each batch on a core, and not, (batches,) float64.
    """

    name: str
    place: str
    augments: bool
    computing: Array
    waiting: Array

    @property
    def seconds(self) -> float:
        """Mean time of a batch."""
        return float((self.computing + self.waiting).mean())


def steady(trace: Trace) -> tuple[int, list[tuple[Batch, float]]]:
    """(number of warm-up batches, the other batches), each with its time from the end of the step before to its end.

    The queues are empty at the start of an epoch. So as many batches as are prefetched are left out, at most half an
    epoch, and some more so that each worker made equally many of the rest. If too few would remain, only the first
    batch is left out. Of a long run the last MAX_BATCHES are used.
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
        if len(found) >= MIN_BATCHES:
            return first, found[-MAX_BATCHES:]
    return 1, found


def worker_threads(batches: Sequence[Batch]) -> float:
    """Number of threads that compute at once in a worker while it fetches, without the thread that sends."""
    spent = sum(max(batch.cpu, batch.threads - batch.moved[0]) for batch in batches)
    found = spent / max(1e-9, sum(batch.cpu for batch in batches))
    return found if found >= SEVERAL else 1.0


def rows_of(trace: Trace, batches: Sequence[Batch], alone: float | None, computing: float | None = None) -> list[Row]:
    """All rows, in the order in which a batch passes the stages.

    Args:
        trace: Trace with the settings of the loader, and the batches that were timed in detail.
        batches: Batches of the rows.
        alone: Seconds of a step alone, if measured.
        computing: Seconds of a step alone in which it computes, if measured.
    """
    found = [*_worker_rows(trace, batches), *_transport_rows(trace, batches)]
    receive = next((row for row in found if row.place == "receive"), None)
    if receive is not None and not any(batch.pinned for batch in batches):
        receive.computing = receive.computing + first_use(batches, computing)
    names = {row.name for row in found}
    for row in _step_rows(batches, alone, computing):
        row.name += IN_STEP if row.name in names else ""
        found.append(row)
    return [row for row in found if row.seconds > 1e-7 or row is found[-1]]


def _worker_rows(trace: Trace, batches: Sequence[Batch]) -> list[Row]:
    """The rows of the workers: each stage's part of the fetch. Batches without detail get the mean parts."""
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
    """(computing, waiting) of each stage of a batch that was timed in detail; the rest is `getitem`."""
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
        Row("send", "feeder", False, *_halves(sent, 0, batches, 0.0)),
        Row("receive", "receive", False, *_halves(received, 1, batches, extra)),
        Row("pin", "pin", False, pinned, nothing),
    ]


def _halves(spans: Array, side: int, batches: Sequence[Batch], extra: float) -> tuple[Array, Array]:
    """(computing, waiting) of pickling (0) or unpickling (1); the longest are cut, as of a collection of garbage.

    Waiting for a core is neither: the replay has the cores.
    """
    computing = np.minimum(np.array([b.moved[side] for b in batches]), spans)
    waiting = np.maximum(0.0, spans - computing - np.array([b.queued[side] for b in batches]))
    computing, waiting = (np.minimum(times, np.quantile(times, TAIL)) for times in (computing, waiting))
    return computing + extra, waiting


def first_use(batches: Sequence[Batch], computing: float | None) -> float:
    """Seconds that a step computes longer in the loop than alone, on batches in memory that it has seen before.

    Memory that a worker has written is mapped page by page when it is read for the first time, and is in no cache.
    """
    looked = np.array([batch.step for batch in batches if batch.step is not None])
    if computing is None or not len(looked):
        return 0.0
    own, _, threads = np.median(looked, 0)
    return max(0.0, float(own) - computing) if threads <= SEVERAL * own else 0.0  # else threads wait for one another


def waits_are_known(batches: Sequence[Batch]) -> bool:
    """Whether the system says how long a thread waits for a core; only Linux does."""
    return any(batch.queue > 0 or (batch.step is not None and batch.step[1] > 0) for batch in batches)


def _receiving(batches: Sequence[Batch]) -> float:
    """Seconds that receiving takes beyond unpickling.

    The main thread's time on a core while it waits for a batch and takes it, where that was read, and where no thread
    pins. Else from batches that were ready when they were requested; if there are none: from the end of pickling to the
    start of unpickling, and from the end of that to the user.
    """
    looked = [(batch, batch.request[0]) for batch in batches if batch.request is not None and batch.received]
    if len(looked) >= ENOUGH and waits_are_known(batches) and not any(batch.pinned for batch in batches):
        return max(0.0, float(np.median([spent - batch.moved[1] for batch, spent in looked])))
    spans = [(b, b.sent, b.pinned or b.received, b.received) for b in batches if b.sent and b.received]
    ready = [
        b.given - b.asked - (r[1] - r[0]) for b, sent, _, r in spans if sent[1] <= b.asked <= r[0] and not b.pinned
    ]
    if len(ready) >= ENOUGH:
        return max(0.0, float(np.median(ready)))
    wire = [r[0] - sent[1] for b, sent, _, r in spans if b.asked < sent[1]]
    after = [b.given - last[1] for b, _, last, r in spans if b.asked < r[0]]
    return sum(float(np.median(found)) for found in (wire, after) if found)


def _step_rows(batches: Sequence[Batch], alone: float | None, computing: float | None) -> list[Row]:
    """The rows of the step: its phases, the stages that the user marked, and the rest.

    Without a backward pass there are no phases, and the rest is `model`. A device that still works when the host
    requests the next batch is a part of the rest then, else of the row of waiting for the device. The step alone tells
    how much of it computes: beside workers, its threads wait for one another too.
    """
    names = list(dict.fromkeys(name for batch in batches for name in batch.marks))
    wall = np.array([b.done - b.given for b in batches])
    looked = np.array([b.step is not None for b in batches])
    cpu = _estimated([b.step[0] if b.step else 0.0 for b in batches], wall, looked)
    queue = _estimated([b.step[1] if b.step else 0.0 for b in batches], wall, looked)
    wait = np.maximum(0.0, wall - cpu - queue)
    device = np.array([b.device[0] if b.device else 0.0 for b in batches])
    behind = np.maximum(0.0, device - cpu - wait)
    wait = wait + behind
    total = float((cpu + wait).mean())
    if alone is not None and alone > total:
        wait = wait + (alone - total)
    elif alone is not None and total > 0:
        cpu, wait, behind = cpu * alone / total, wait * alone / total, behind * alone / total
    share = computing / alone if alone and computing is not None else None
    cpu, wait = _split(cpu, wait, share)
    scale = min(1.0, alone / total) if alone is not None and total > 0 else 1.0
    phased = BACKWARD in names
    names += [DEVICE] if phased and behind.any() and DEVICE not in names else []
    found = []
    for name in names:
        marks = [b.marks.get(name, (0.0, 0.0, 0.0)) for b in batches]
        c = scale * _estimated([max(0.0, m[1]) for m in marks], wall, looked)
        w = scale * _estimated([max(0.0, m[0] - m[1] - m[2]) for m in marks], wall, looked)
        c, w = (c, w + behind) if phased and name == DEVICE else _split(c, w, share)
        cpu, wait = np.maximum(0, cpu - c), np.maximum(0, wait - w)
        found.append(Row(name, "step", False, c, w))
    return [*found, Row(REST if phased else "model", "step", False, cpu, wait)]


def _split(cpu: Array, wait: Array, share: float | None) -> tuple[Array, Array]:
    """The times of which that share computes; None: as they are."""
    return (cpu, wait) if share is None else ((cpu + wait) * share, (cpu + wait) * (1 - share))


def _estimated(seen: Sequence[float], wall: Array, looked: Array) -> Array:
    """Seconds of every step, estimated from the steps for which all clocks were read."""
    found = np.array(seen)
    total = wall[looked].sum()
    return np.where(looked, found, wall * (found[looked].sum() / total if total > 0 else 0.0))
