"""The recommendations for a trace: predicted by the replay, observed in the measured times, and found in the code.

Each recommendation was measured or replayed. Where the cost of the new way is unknown, the title says what is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from gpuaug.profiler.judge.advice import Advice, check_ids
from gpuaug.profiler.judge.apply import MovedLoader, Probe
from gpuaug.profiler.judge.code_checks import code_checks, shards
from gpuaug.profiler.judge.paste import (
    AS_TENSORS,
    late_floats,
    one_thread,
    packable,
    packed_code,
    stacks,
    with_arguments,
)
from gpuaug.profiler.judge.verdict import MATTERS, Gain, Verdict, gain, slow_worker
from gpuaug.profiler.machine import Machine
from gpuaug.profiler.model.costs import Change, Costs

__all__ = ["best_workers", "moved_change", "recommend"]

CLOSE = 1.02  # settings within 2 % of the fastest are as good: the smallest is recommended
# Assumed costs of the new way, which the title mentions
PACKED = 0.1  # time to read a packed image / time to decode it; in the loaders benchmark 0.2 and 1.5 ms an image
STACKED = 0.25  # time of a collate function that only stacks / time of the present one
SHARED = 0.1  # time of a tensor in shared memory / time of an array through a pipe
FEW = 4  # tensors in a packed batch
MANY = 64  # tensors in a batch that should be packed
BIG = 1 << 20  # bytes of arrays in a batch that should be tensors


def recommend(
    costs: Costs,
    verdict: Verdict,
    *,
    loader: DataLoader[Any] | None = None,
    moved: MovedLoader | None = None,
    probed: Probe | None = None,
    edge: Gain | None = None,
    busy: float = 0.0,
    ignore: Iterable[str] = (),
) -> list[Advice]:
    """Recommendations, the largest gain first; without those that gain less than 5 %.

    Args:
        costs: Costs of the trace.
        verdict: Verdict on the trace.
        loader: The user's loader, for checks of its code; None: no checks.
        moved: The loader with its augmentation moved to the device, or None.
        probed: Measured costs of `moved`, or None.
        edge: Gain if each epoch started without delay, or None.
        busy: Fraction of the cores that other jobs use.
        ignore: Ids of recommendations to leave out.

    Raises:
        ValueError: If an id in `ignore` does not exist.
    """
    ignore = check_ids(ignore)
    found = [*_replayed(costs, loader, moved, probed, edge), *_observed(costs, verdict, busy, loader)]
    worth = [one for one in found if one.gain is None or one.gain.times >= MATTERS]
    worth += code_checks(loader) if loader is not None else []
    worth = [one for one in worth if one.id not in ignore]
    return sorted(worth, key=lambda one: -(one.gain.times if one.gain else 0.0))


def _replayed(
    costs: Costs, loader: DataLoader[Any] | None, moved: MovedLoader | None, probed: Probe | None, edge: Gain | None
) -> Iterator[Advice]:
    """Recommendations whose gain the replay predicts."""
    if moved is not None and probed is not None:
        yield from _augmentation(costs, moved, probed)
    yield from _workers(costs, loader)
    if costs.setting.workers:
        yield from _queues(costs, loader)
    if edge is not None and costs.trace.loader.workers and not costs.trace.loader.persistent:
        title = "Keep the workers between epochs: starting them, and their first batches, delays each epoch."
        how = with_arguments(loader, persistent_workers="True")
        yield Advice("persistent-workers", title, edge, how, None, {"persistent_workers": True})
    yield from _files(costs, loader, moved, probed)
    if costs.setting.workers:
        yield from _batches(costs, loader)
    collate = costs.trace.loader.collate
    if "collate" in {row.name for row in costs.rows} and loader is not None and stacks(loader):
        change = Change(factors={"collate": STACKED})
        title = (
            f"Use torch's default_collate, which gives the same batch, assumed to take {STACKED:.0%} of the time of "
            f"{collate}."
        )
        before = "from torch.utils.data import default_collate"
        how = with_arguments(loader, before, collate_fn="default_collate")
        yield Advice("collate", title, gain(costs, change), how, change)


def _augmentation(costs: Costs, moved: MovedLoader, probed: Probe) -> Iterator[Advice]:
    augments = [row.name for row in costs.rows if row.augments]
    if augments:
        change = moved_change(costs, probed)
        names = ", ".join(augments[:3]) + (" and more" if len(augments) > 3 else "")
        title = f"Move {names} to the device ({moved.device})."
        settings = {"device": str(moved.device)}
        yield Advice("augment-on-device", title, gain(costs, change), moved.code, change, settings)


def _workers(costs: Costs, loader: DataLoader[Any] | None) -> Iterator[Advice]:
    now = costs.setting.workers
    workers, change = best_workers(costs)
    if workers != now:
        note = "" if workers else " (the main process fetches)"
        note += "" if now else "; moving batches between processes was not measured, and is assumed to take no time"
        if costs.trace.loader.iterable and now < 2 <= workers:
            if loader is not None and not (loader.worker_init_fn or shards(loader.dataset)):
                return  # each worker would give all samples again
            note += "; the data set must have a part for each worker"
        how = with_arguments(loader, num_workers=str(workers))
        title = f"Use {workers} workers instead of {now}{note}."
        yield Advice("num-workers", title, gain(costs, change), how, change, {"num_workers": workers})


def _queues(costs: Costs, loader: DataLoader[Any] | None) -> Iterator[Advice]:
    """Settings of the queues between workers and main process."""
    setting = costs.setting
    for prefetch in (4, 8):
        if prefetch > setting.prefetch and (gained := gain(costs, Change(prefetch=prefetch))).times >= MATTERS:
            how = with_arguments(loader, prefetch_factor=str(prefetch))
            title = f"Prefetch {prefetch} batches per worker instead of {setting.prefetch}."
            yield Advice("prefetch", title, gained, how, Change(prefetch=prefetch), {"prefetch_factor": prefetch})
            break
    if setting.in_order and setting.workers > 1:
        change = Change(in_order=False)
        title = "Take batches in the order in which they are ready, so that no batch waits for a slow one."
        how = with_arguments(loader, "# the order of the batches then varies", in_order="False")
        yield Advice("out-of-order", title, gain(costs, change), how, change, {"in_order": False})


def _files(
    costs: Costs, loader: DataLoader[Any] | None, moved: MovedLoader | None, probed: Probe | None
) -> Iterator[Advice]:
    """Storage and decoding."""
    names = {row.name for row in costs.rows}
    if "storage" in names:
        title = "Use faster storage: a local disk, a RAM disk, or few large files. The gain assumes no waits."
        change = Change(factors={"storage": 0.0})
        how = "# copy the data to a disk of this machine, or to a RAM disk such as /dev/shm, and read it from there"
        yield Advice("faster-storage", title, gain(costs, change), how, change)
    root = None if loader is None else packable(loader.dataset)
    if "decode" in names and loader is not None and root is not None:
        packed = packed_code(loader, root, moved)
        if packed is None:
            return
        change = moved_change(costs, probed) if moved is not None and probed is not None else Change()
        change = replace(change, factors={**change.factors, "decode": PACKED})
        also = " The transform moves to the device." if moved is not None else ""
        title = (
            "Decode and shrink once; later epochs read pixels, assumed to take "
            f"{PACKED:.0%} of the decoding time.{also}"
        )
        yield Advice("pack-data", title, gain(costs, change), packed, change)


def _batches(costs: Costs, loader: DataLoader[Any] | None) -> Iterator[Advice]:
    """The form in which batches move between processes."""
    names = {row.name for row in costs.rows}
    batch = costs.trace.batches[-1]
    late = None if loader is None else late_floats(loader)
    if batch.float_bytes > BIG and late is not None:
        share = batch.float_bytes / max(1, batch.tensor_bytes + batch.other_bytes)
        change = Change(transport=1 - 0.75 * share)
        title = "Send uint8 and convert on the device: a quarter of the bytes, assumed to take a quarter of the time."
        yield Advice("uint8-on-bus", title, gain(costs, change), late, change)
    if batch.other_bytes > BIG and "receive" in names:
        change = Change(factors={name: SHARED for name in ("send", "receive") if name in names})
        title = f"Send tensors instead of NumPy arrays, which use a pipe; assumed to take {SHARED:.0%} of the time."
        how = with_arguments(loader, AS_TENSORS, collate_fn="as_tensors")
        yield Advice("arrays-to-tensors", title, gain(costs, change), how, change)
    if batch.tensors > MANY and "receive" in names:
        change = Change(factors={name: FEW / batch.tensors for name in ("send", "receive") if name in names})
        title = f"Pack the {batch.tensors} tensors of a batch, each with its own file descriptor, into {FEW} or so."
        how = "# in collate_fn: torch.stack of images of one size, gpuaug.ragged_collate for (image, label) of any size"
        yield Advice("many-tensors", title, gain(costs, change), how, change)


def moved_change(costs: Costs, probed: Probe) -> Change:
    """The change that moves augmentation to the device: each row's factor comes from the probe's measured ratios."""
    augments = [row for row in costs.rows if row.augments]
    factors = {row.name: 0.0 for row in augments}
    largest = max(augments, key=lambda row: row.computing.mean())  # its row is used for the conversion to a tensor
    factors[largest.name] = min(1.0, probed.kept / largest.seconds)
    ratios = {"collate": probed.made, "send": probed.made, "receive": probed.received, "pin": probed.made}
    factors |= {row.name: min(20.0, ratios[row.name]) for row in costs.rows if row.name in ratios}
    if probed.device == "cpu":
        return Change(factors=factors, ahead=(probed.augment, probed.threads))
    return Change(factors=factors, added=(0.0, probed.augment))


def best_workers(costs: Costs) -> tuple[int, Change]:
    """The fewest workers within 2 % of the fastest, up to twice the cores."""
    now = costs.setting.workers
    most = max(now, 2 * max(1, round(costs.cores)) if math.isfinite(costs.cores) and costs.cores < 1e6 else 16)
    tried = sorted({now, *(n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if n <= most)})
    paces = {n: costs.simulate(Change(workers=n)) for n in tried if n}
    if not now:
        paces[0] = costs.simulate(Change())
    fastest = min(paces.values())
    if paces[now] <= CLOSE * fastest:
        return now, Change()
    best = min(n for n, pace in paces.items() if pace <= CLOSE * fastest)
    return best, Change(workers=best)


def _observed(costs: Costs, verdict: Verdict, busy: float, loader: DataLoader[Any] | None) -> Iterator[Advice]:
    """Recommendations that follow from the measured times without a replay; they have no gain."""
    trace = costs.trace
    if verdict.cause == "worker":
        worker = slow_worker(trace)
        title = f"Worker {worker} is slower than the others: check what it reads."
        yield Advice("slow-worker", title, None, "")
    if verdict.cause == "threads":
        threads = costs.setting.worker_threads
        title = f"{trace.loader.workers} workers use {threads:.1f} threads each, on {costs.cores:g} cores together."
        how = with_arguments(loader, one_thread(loader), worker_init_fn="one_thread")
        yield Advice("worker-threads", title, None, how)
    if busy > 0.15:
        title = f"Other jobs use {busy:.0%} of the cores of this job."
        yield Advice("busy-machine", title, None, "# see `top`; request exclusive cores from the scheduler")
    if verdict.cause == "tail":
        slow = sorted((s for b, _ in costs.batches if not b.together for s in b.samples), key=lambda s: -s[1])[:3]
        named = ", ".join(str(index) for index, _ in slow if index is not None)
        title = "A few samples take far longer than the others" + (f": {named} and more." if named else ".")
        yield Advice("slow-samples", title, None, "# see the slowest samples in the report; shrink or re-encode them")
    batch = trace.batches[-1]
    needed = batch.tensor_bytes * trace.loader.workers * trace.loader.prefetch
    free = _shared_memory()
    if free is not None and needed > 0.8 * free:
        title = f"Prefetched batches need {needed / 1e6:,.0f} MB of shared memory; {free / 1e6:,.0f} MB are free."
        fitting = int(0.6 * free / max(1, batch.tensor_bytes * trace.loader.workers))
        how = "# docker run --shm-size=8g ..., or fewer workers"
        if 1 <= fitting < trace.loader.prefetch:
            how = with_arguments(loader, "# or docker run --shm-size=8g ...", prefetch_factor=str(fitting))
        yield Advice("shared-memory", title, None, how)
    if any(one.device for one in trace.batches) and not trace.loader.pin_memory and batch.tensor_bytes > BIG:
        title = "Use pinned memory: the device copies while it computes. No gain is predicted: no copy was measured."
        how = with_arguments(loader, "# and copy with .to(device, non_blocking=True)", pin_memory="True")
        yield Advice("pin-memory", title, None, how)


def _shared_memory() -> int | None:
    here = Machine.here()
    return here.shared_memory_free if here.shared_memory else None
