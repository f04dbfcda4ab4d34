"""Pipelines with one known bottleneck each, and the right label (long: a table of pipelines)."""

from __future__ import annotations

from dataclasses import dataclass

from gpuaug.profiler.model.costs import Change

from .bottleneck_pipelines import Pipe

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """A pipeline, its bottleneck, and the same pipeline without it.

    Attributes:
        name: Name of the case.
        labels: Right verdicts, as kind, place or cause. A tie is right only for a case that has one.
        pipe: Pipeline with the bottleneck.
        cured: Pipeline without it; None: only the verdict is checked.
        change: The same change for the replay; None: no gain is predicted.
        hogs: Number of other processes that use the cores.
    """

    name: str
    labels: tuple[str, ...]
    pipe: Pipe
    cured: Pipe | None = None
    change: Change | None = None
    hogs: int = 0


def without(*rows: str, **factors: float) -> Change:
    return Change(factors={**dict.fromkeys(rows, 0.0), **factors})


CASES: tuple[Case, ...] = (
    Case("slow storage", ("storage",), Pipe(read=("wait", 0.004)), Pipe(read=("wait", 0.0)), without("storage")),
    Case(
        "slow storage, iterable",
        ("storage",),
        Pipe(read=("wait", 0.004), iterable=True),
        Pipe(read=("wait", 0.0), iterable=True),
        without("storage"),
    ),
    Case("cold files", ("storage",), Pipe(file=4 << 20), Pipe(read=("wait", 0.0)), without("storage")),
    Case("decoding JPEGs", ("decode",), Pipe(jpeg=512), Pipe(decode=("burn", 0.0)), without("decode")),
    Case(
        "a transform, GIL held",
        ("augmentation",),
        Pipe(augment=("burn", 0.003)),
        Pipe(augment=("burn", 0.0)),
        without("Augment"),
    ),
    Case(
        "a transform, GIL free",
        ("augmentation",),
        Pipe(augment=("crunch", 0.003)),
        Pipe(augment=("burn", 0.0)),
        without("Augment"),
    ),
    Case(
        "the data set's own code",
        ("dataset",),
        Pipe(other=("burn", 0.003)),
        Pipe(other=("burn", 0.0)),
        without("getitem"),
    ),
    Case("slow collate", ("collate",), Pipe(collate=("burn", 0.020)), Pipe(collate=("burn", 0.0)), without("collate")),
    Case(
        "large arrays",
        ("transport",),
        Pipe(form="array", shape=(6, 512, 512), step=("wait", 0.002)),
        Pipe(form="array", shape=(4, 512, 512), step=("wait", 0.002)),
        Change(factors={"getitem": 2 / 3}, transport=2 / 3),
    ),
    Case(
        "many tensors",
        ("transport",),
        Pipe(form="many", shape=(60,), step=("wait", 0.002)),
        Pipe(form="many", shape=(40,), step=("wait", 0.002)),
        Change(factors={"getitem": 2 / 3}, transport=2 / 3),
    ),
    Case(
        "epochs that start slowly",
        ("epoch",),
        Pipe(start=0.15, epoch=24),
        Pipe(start=0.15, epoch=24, options={"persistent_workers": True}),
    ),
    Case("a model that waits", ("model",), Pipe(step=("wait", 0.020)), Pipe(step=("wait", 0.0)), without("model")),
    Case(
        "a model that computes",
        ("model",),
        Pipe(step=("crunch", 0.020), workers=1),
        Pipe(step=("wait", 0.0), workers=1),
        without("model"),
    ),
    Case(
        "a wait in the step",
        ("sync",),
        Pipe(step=("wait", 0.015), mark="sync"),
        Pipe(step=("wait", 0.0)),
        without("sync"),
    ),
    Case(
        "a heavy tail", ("tail",), Pipe(read=("wait", 0.0006), tail=(0.015, 120.0)), Pipe(read=("wait", 0.0006)), None
    ),
    Case("one slow worker", ("worker",), Pipe(read=("wait", 0.002), slow=5.0), Pipe(read=("wait", 0.002)), None),
    Case(
        "more processes than cores",
        ("cores",),
        Pipe(augment=("crunch", 0.002), workers=6),
        Pipe(augment=("burn", 0.0), workers=6),
        without("Augment"),
    ),
    Case(  # forked, OpenMP may hang; spawned, workers with threads abort at their end
        "more threads than cores",
        ("threads",),
        Pipe(augment=("threaded", 0.003), threads=4, options={"multiprocessing_context": "forkserver"}),
        Pipe(augment=("threaded", 0.003), threads=1, options={"multiprocessing_context": "forkserver"}),
    ),
    Case("other jobs on the cores", ("cores",), Pipe(augment=("burn", 0.002), workers=2), hogs=4),
    Case(
        "a tie of data and model",
        ("tie",),
        Pipe(read=("wait", 0.002), decode=("wait", 0.0), augment=("wait", 0.0), step=("wait", 0.0082)),
        None,
        None,
    ),
    Case(
        "a tie of two stages",
        ("tie",),
        Pipe(decode=("burn", 0.0015), augment=("burn", 0.0015)),
        Pipe(decode=("burn", 0.0), augment=("burn", 0.0015)),
        without("decode"),
    ),
    Case(
        "no workers",
        ("augmentation",),
        Pipe(augment=("burn", 0.002), workers=0),
        Pipe(augment=("burn", 0.0), workers=0),
        without("Augment"),
    ),
    Case("nothing wrong", ("model",), Pipe(step=("wait", 0.030)), None, None),
)
