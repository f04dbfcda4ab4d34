"""Advice, each with an id, a sign and a size: what the replay gives for it, and the exact lines to change.

Nothing is advised that was neither measured nor replayed. Where the cure's own cost is not known, what is assumed of it
stands in the sentence; checks of the code itself carry no gain.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, SequentialSampler

from gpuaug.profiler.judge.apply import Moved, Probe, owner_of
from gpuaug.profiler.judge.verdict import MATTERS, Gain, Verdict, crowded, gain, slow_worker
from gpuaug.profiler.measure.clock import Timed
from gpuaug.profiler.model.costs import Change, Costs

__all__ = ["IDS", "Advice", "advise", "check", "checks_of"]

CLOSE = 1.02  # settings within it are as good: the smaller one is advised
# What is assumed of a cure, and said with it
PACKED = 0.1  # of decoding's time for reading a packed image; README's loaders: 0.2 against 1.5 ms an image in all
STACKED = 0.25  # of a slow collate's time for one that only stacks
SHARED = 0.1  # of an array's way through a pipe for a tensor in shared memory
FEW = 4  # tensors of a batch that was packed
MANY = 64  # tensors in a batch
BIG = 1 << 20  # bytes of arrays in a batch

IDS: dict[str, str] = {
    "augment-on-device": "Move augmentation behind the loader, onto the device.",
    "num-workers": "Another number of workers.",
    "prefetch": "More batches asked for ahead of each worker.",
    "out-of-order": "Take batches in the order in which they are ready.",
    "persistent-workers": "Keep workers from one epoch to the next.",
    "pin-memory": "Pinned memory, so that copies to the device run beside its work.",
    "faster-storage": "Storage that keeps up, or files packed into few.",
    "pack-data": "Decode and shrink once, read pixels in every epoch.",
    "collate": "A collate function that stacks tensors.",
    "many-tensors": "Fewer, larger tensors in a batch.",
    "arrays-to-tensors": "Tensors in place of NumPy arrays: they travel in shared memory.",
    "uint8-on-bus": "uint8 in place of float32 between processes and to the device.",
    "worker-threads": "One thread in each worker.",
    "slow-worker": "A worker that is slower than the others.",
    "busy-machine": "Other jobs take the cores.",
    "slow-samples": "A few samples that take far longer than the rest.",
    "shared-memory": "/dev/shm too small for the batches under way.",
    "worker-seeding": "A random generator that every worker repeats.",
    "augmented-validation": "Random transforms in a loader that does not shuffle.",
    "normalize-not-last": "Steps after Normalize that expect the range before it.",
}


CORRECTNESS = ("worker-seeding", "augmented-validation", "normalize-not-last")  # whatever the clocks say


@dataclass(frozen=True)
class Advice:
    """One thing to change.

    Attributes:
        id: by which it is muted. title: one sentence.
        gain: of the whole job; None where it is a matter of correctness.
        how: the lines to change.
        change: what was replayed for it, if anything. settings: of the loader, with which a receipt can try it.
    """

    id: str
    title: str
    gain: Gain | None
    how: str
    change: Change | None = None
    settings: dict[str, Any] | None = None


def advise(
    costs: Costs,
    verdict: Verdict,
    *,
    loader: DataLoader[Any] | None = None,
    moved: Moved | None = None,
    probed: Probe | None = None,
    edge: Gain | None = None,
    busy: float = 0.0,
    ignore: Iterable[str] = (),
) -> list[Advice]:
    """What to change, the largest gain first; what brings less than a twentieth is left away.

    Args:
        costs: of the trace. verdict: on it.
        loader: the user's, for checks of its data set.
        moved, probed: the loader with augmentation moved, and what that costs.
        edge: the gain if epochs began at once.
        busy: share of the cores that other jobs take.
        ignore: ids to leave away.

    Raises:
        ValueError: if an id to ignore does not exist.
    """
    ignore = check(ignore)
    found = [*_replayed(costs, moved, probed, edge), *_observed(costs, verdict, busy)]
    worth = [one for one in found if one.gain is None or one.gain.times >= MATTERS]
    worth += checks_of(loader) if loader is not None else []
    worth = [one for one in worth if one.id not in ignore]
    return sorted(worth, key=lambda one: -(one.gain.times if one.gain else 0.0))


def check(ignore: Iterable[str]) -> set[str]:
    """The ids to leave away, all of which exist."""
    unknown = sorted(set(ignore) - IDS.keys())
    if unknown:
        raise ValueError(f"profile: `ignore` must name one of {', '.join(IDS)}, got {unknown[0]!r}.")
    return set(ignore)


def _replayed(costs: Costs, moved: Moved | None, probed: Probe | None, edge: Gain | None) -> Iterator[Advice]:
    """What the replay can try."""
    setting, trace = costs.setting, costs.trace
    augments = [row.name for row in costs.rows if row.augments]
    if moved is not None and probed is not None and augments:
        change = moved_change(costs, probed)
        title = (
            f"Move {', '.join(augments[:3])}{' and more' if len(augments) > 3 else ''} to the device ({moved.device})."
        )
        settings = {"device": str(moved.device)}
        yield Advice("augment-on-device", title, gain(costs, change), moved.code, change, settings)
    workers, change = best_workers(costs)
    if workers != setting.workers:
        more = "" if workers else " (the main process fetches)"
        more += "" if setting.workers else "; moving batches between processes was not seen, and is assumed to be free"
        yield Advice(
            "num-workers",
            f"{workers} workers in place of {setting.workers}{more}.",
            gain(costs, change),
            f"DataLoader(..., num_workers={workers})",
            change,
            {"num_workers": workers},
        )
    if setting.workers:
        for prefetch in (4, 8):
            if prefetch > setting.prefetch and (brought := gain(costs, Change(prefetch=prefetch))).times >= MATTERS:
                how = f"DataLoader(..., prefetch_factor={prefetch})"
                title = f"Ask {prefetch} batches ahead of each worker in place of {setting.prefetch}."
                yield Advice("prefetch", title, brought, how, Change(prefetch=prefetch), {"prefetch_factor": prefetch})
                break
        if setting.in_order and setting.workers > 1:
            change = Change(in_order=False)
            title = "Take batches as they are ready: a slow one then holds up nobody. Their order changes."
            how = "DataLoader(..., in_order=False)"
            yield Advice("out-of-order", title, gain(costs, change), how, change, {"in_order": False})
    if edge is not None and trace.loader.workers and not trace.loader.persistent:
        title = "Keep the workers from epoch to epoch; starting them, and the first batches, hold up each one."
        yield Advice(
            "persistent-workers",
            title,
            edge,
            "DataLoader(..., persistent_workers=True)",
            None,
            {"persistent_workers": True},
        )
    names = {row.name for row in costs.rows}
    if "storage" in names:
        title = "Storage that never waits (at most that): a local disk, a RAM disk, or files packed into few."
        change = Change(factors={"storage": 0.0})
        yield Advice("faster-storage", title, gain(costs, change), "gpuaug pack SRC DST", change)
    if "decode" in names:
        change = Change(factors={"decode": PACKED})
        how = 'gpuaug pack SRC DST  # then gpuaug.data.Packed("DST") in place of the folder'
        title = f"Decode and shrink once; every epoch then reads pixels, assumed to take {PACKED:.0%} of decoding."
        yield Advice("pack-data", title, gain(costs, change), how, change)
    batch = trace.batches[-1]
    if setting.workers and batch.float_bytes > BIG:
        share = batch.float_bytes / max(1, batch.tensor_bytes + batch.other_bytes)
        change = Change(transport=1 - 0.75 * share)
        title = "Send uint8 and convert on the device: a quarter of the bytes, assumed to take a quarter of the time."
        how = "leave ToDtype and Normalize out of the data set's transform; gpuaug.Augment does both on the device"
        yield Advice("uint8-on-bus", title, gain(costs, change), how, change)
    if setting.workers and batch.other_bytes > BIG and "receive" in names:
        change = Change(factors={name: SHARED for name in ("send", "receive") if name in names})
        title = f"Tensors in place of NumPy arrays, which go through a pipe; assumed to take {SHARED:.0%} of the time."
        yield Advice(
            "arrays-to-tensors",
            title,
            gain(costs, change),
            "torch.from_numpy(array) before the batch leaves collate_fn",
            change,
        )
    if setting.workers and batch.tensors > MANY and "receive" in names:
        change = Change(factors={name: FEW / batch.tensors for name in ("send", "receive") if name in names})
        title = (
            f"{batch.tensors} tensors in a batch, each with a file descriptor of its own: pack them, into {FEW} say."
        )
        yield Advice("many-tensors", title, gain(costs, change), "torch.stack(list) or gpuaug.ragged_collate", change)
    if "collate" in names and trace.loader.collate != "default_collate":  # which only stacks
        change = Change(factors={"collate": STACKED})
        title = f"A collate function that only stacks, assumed to take {STACKED:.0%} of {trace.loader.collate}'s time."
        how = "torch.stack in collate_fn, the rest in the data set or on the device"
        yield Advice("collate", title, gain(costs, change), how, change)


def moved_change(costs: Costs, probed: Probe) -> Change:
    """What the replay is told about augmentation on the device: each row by how the probe's parts compare."""
    augments = [row for row in costs.rows if row.augments]
    factors = {row.name: 0.0 for row in augments}
    stays = max(augments, key=lambda row: row.computing.mean())  # stands for what makes a tensor of the whole picture
    factors[stays.name] = min(1.0, probed.kept / stays.seconds)
    ratios = {"collate": probed.made, "send": probed.made, "receive": probed.received, "pin": probed.made}
    factors |= {row.name: min(20.0, ratios[row.name]) for row in costs.rows if row.name in ratios}
    if probed.device == "cpu":
        return Change(factors=factors, ahead=(probed.augment, probed.threads))
    return Change(factors=factors, added=(0.0, probed.augment))


def best_workers(costs: Costs) -> tuple[int, Change]:
    """The fewest workers within a fiftieth of the fastest, up to twice the cores."""
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


def _observed(costs: Costs, verdict: Verdict, busy: float) -> Iterator[Advice]:
    """What the clocks say without a replay; the gain is of the cause, if the replay can take it away."""
    trace = costs.trace
    worker = slow_worker(trace)
    if worker is not None:
        yield Advice(
            "slow-worker", f"Worker {worker} is slower than the others: look at what it alone reads.", None, ""
        )
    if crowded(costs):
        threads = costs.setting.worker_threads
        title = (
            f"{trace.loader.workers} workers compute on {threads:.1f} threads each; they share {costs.cores:g} cores."
        )
        how = "in worker_init_fn: torch.set_num_threads(1); cv2.setNumThreads(0); and OMP_NUM_THREADS=1 outside"
        yield Advice("worker-threads", title, None, how)
    if busy > 0.15:
        title = f"Other jobs take {busy:.0%} of the cores that this one may use."
        yield Advice("busy-machine", title, None, "see `top`; ask the scheduler for cores of your own")
    if verdict.cause == "tail":
        slow = sorted((s for b, _ in costs.batches for s in b.samples), key=lambda s: -s[1])[:3]
        named = ", ".join(str(index) for index, _ in slow if index is not None)
        title = "A few samples take far longer than the rest" + (f": {named} and others." if named else ".")
        yield Advice("slow-samples", title, None, "see the slowest samples in the report; shrink or re-encode them")
    batch = trace.batches[-1]
    needed = batch.tensor_bytes * trace.loader.workers * trace.loader.prefetch
    free = _shared_memory()
    if free is not None and needed > 0.8 * free:
        title = f"Batches under way need {needed / 1e6:,.0f} MB of shared memory; {free / 1e6:,.0f} MB are free."
        yield Advice("shared-memory", title, None, "docker run --shm-size=8g, or fewer batches ahead")
    if any(one.device for one in trace.batches) and not trace.loader.pin_memory:
        title = "Pinned memory lets copies run beside the device's work. Not replayed: no copy was measured."
        yield Advice("pin-memory", title, None, "DataLoader(..., pin_memory=True), and .to(device, non_blocking=True)")


def _shared_memory() -> int | None:
    from gpuaug.profiler.machine import Machine

    here = Machine.here()
    return here.shared_memory_free if here.shared_memory else None


# ---- checks of the code ----------------------------------------------------------------------------------------------


def checks_of(loader: DataLoader[Any]) -> list[Advice]:
    """What is wrong whatever the clocks say."""
    found = []
    names = [name for name, _ in flat(_transform(loader.dataset))]
    generators = sorted(set(_generators(loader.dataset)))
    if generators and loader.num_workers > 1 and loader.worker_init_fn is None:
        title = f"{generators[0]} is copied into every worker, so all of them draw the same numbers."
        how = "make it in worker_init_fn from torch.initial_seed(), or use torch's global generator"
        found.append(Advice("worker-seeding", title, None, how))
    shuffles = not isinstance(loader.sampler, SequentialSampler)
    drawn = [name for name in names if is_random(name)]
    if drawn and not shuffles and loader.batch_sampler is not None and not _is_iterable(loader):
        title = f"This loader does not shuffle, as one for validation, but its data set draws: {', '.join(drawn[:3])}."
        found.append(
            Advice(
                "augmented-validation", title, None, "Resize and CenterCrop for validation; shuffle=True for training"
            )
        )
    if "Normalize" in names:
        after = [name for name in names[names.index("Normalize") + 1 :] if name not in AFTER_NORMALIZE]
        if after:
            title = f"{', '.join(after)} after Normalize: colour steps expect [0, 1] or [0, 255]; floats are slower."
            found.append(Advice("normalize-not-last", title, None, "put Normalize last, but for RandomErasing"))
    return found


AFTER_NORMALIZE = {"RandomErasing", "ToPureTensor", "ToTensorV2", "Identity", "Cutout", "ToDtype"}
RANDOM = (
    "Random",
    "Rand",
    "Jitter",
    "AutoAugment",
    "TrivialAugment",
    "AugMix",
    "Mixup",
    "MixUp",
    "CutMix",
    "Erasing",
    "ScaleJitter",
)


def is_random(name: str) -> bool:
    return any(word in name for word in RANDOM)


def _is_iterable(loader: DataLoader[Any]) -> bool:
    return isinstance(loader.dataset, torch.utils.data.IterableDataset)


def _transform(dataset: Any) -> Any:
    found = owner_of(dataset)
    return found[1] if found else None


def flat(transform: Any) -> Iterator[tuple[str, Any]]:
    """(class name, step) of each step of a composition, in order."""
    if transform is None:
        return
    inner = getattr(transform, "transforms", None)
    if isinstance(inner, (list, tuple)):
        for step in inner:
            yield from flat(step)
        return
    function: Callable[..., Any] = transform.__dict__["_function"] if isinstance(transform, Timed) else transform
    yield getattr(function, "__name__", type(function).__name__), function


def _generators(dataset: Any) -> Iterator[str]:
    """Where a data set or its steps keep a generator of their own."""
    places = [(type(dataset).__name__, dataset)]
    places += [(name, step) for name, step in flat(_transform(dataset))]
    for name, owner in places:
        if type(owner).__module__.partition(".")[0] in ("albumentations", "torchvision"):
            continue  # they seed themselves in each worker
        for attribute, value in vars(owner).items() if hasattr(owner, "__dict__") else ():
            if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
                yield f"{name}.{attribute}"
