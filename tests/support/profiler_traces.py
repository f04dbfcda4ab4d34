"""Traces of known costs for the profiler's tests, as the replay would have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpuaug.profiler.model.replay import Load, Setting, replay
from gpuaug.profiler.model.trace import Batch, Loader, Trace

__all__ = ["MS", "PLAIN", "Stages", "made"]

MS = 1e-3
Stages = dict[str, tuple[float, float]]  # name -> (computing, waiting), milliseconds of a batch
PLAIN: Stages = {
    "read": (0.1, 1.0),
    "decode": (2.0, 0.0),
    "Flip": (1.0, 0.0),
    "getitem": (0.2, 0.0),
    "collate": (0.5, 0.0),
}


def made(
    costs: Sequence[Stages] | Stages,
    step: tuple[float, float] = (0.0, 5.0),
    workers: int = 2,
    count: int = 60,
    cores: float = 100.0,
    send: float = 0.2,
    receive: float = 0.3,
    marks: Stages | None = None,
    detailed: Callable[[int], bool] = lambda number: True,
    **more: Any,
) -> Trace:
    """A trace as the replay would have it, with known costs in milliseconds."""
    listed = [costs] * count if isinstance(costs, dict) else list(costs)
    computing = [sum(c for c, _ in one.values()) * MS for one in listed]
    waiting = [sum(w for _, w in one.values()) * MS for one in listed]
    marked = sum(sum(pair) for pair in (marks or {}).values())
    loads = [
        Load((c, w), (send * MS, 0.0), (receive * MS, 0.0), step=(step[0] * MS, (step[1] + marked) * MS))
        for c, w in zip(computing, waiting, strict=True)
    ]
    found = replay(loads, Setting(workers, cores=cores))
    batches = []
    for number, (one, load) in enumerate(zip(listed, loads, strict=True)):
        end = found.ends[number]
        given = end - sum(load.step)
        fetch = (max(0.0, given - 1.0), max(0.0, given - 1.0) + sum(load.fetch))
        timed = {name: ((c + w) * MS, c * MS, 0.0) for name, (c, w) in one.items() if name != "getitem"}
        batches.append(
            Batch(
                epoch=0, worker=number % workers if workers else -1, size=8, fetch=fetch, cpu=load.fetch[0], queue=0.0,
                threads=load.fetch[0] + send * MS,
                samples=[(8 * number + k, sum(load.fetch) / 8) for k in range(8)],
                stages=timed if detailed(number) else None,
                sent=(fetch[1], fetch[1] + send * MS) if workers else None,
                received=(given - receive * MS, given) if workers else None, pinned=None,
                moved=(send * MS, receive * MS),
                asked=given - receive * MS, given=given, done=end, step=(step[0] * MS, 0.0, step[0] * MS),
                marks={name: ((c + w) * MS, c * MS, 0.0) for name, (c, w) in (marks or {}).items()},
                device=None, tensors=2, tensor_bytes=10_000, other_bytes=0, float_bytes=0,
            )
        )  # fmt: skip
    settings: dict[str, Any] = {
        "kind": "DataLoader", "dataset": "Images", "length": count, "batch_size": 8, "workers": workers, "prefetch": 2,
        "pin_memory": False, "persistent": False, "in_order": True, "start": "fork", "iterable": False, "seeded": False,
        "collate": "mine", "transforms": ["Flip", "Jitter"],
    }  # fmt: skip
    for batch in batches:
        for name in [name for name in more if hasattr(batch, name)]:
            setattr(batch, name, more[name])
    trace = Trace(Loader(**{**settings, **{k: v for k, v in more.items() if k in settings}}), batches)
    trace.starts = [(0.0, 0.01, batches[0].given)]
    return trace
