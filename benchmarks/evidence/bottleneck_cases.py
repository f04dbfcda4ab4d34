"""Pipelines with one planted cost each, and the right label (long: a table of pipelines)."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gpuaug.profiler import stage
from gpuaug.profiler.model.costs import Change

__all__ = ["CASES", "Pipe", "Planted", "loader_of", "step_of"]

BATCH = 8
SIDE = 64  # pixels of what travels


# ---- costs -----------------------------------------------------------------------------------------------------------


def wait(seconds: float) -> None:
    """Not on a core: storage, the network, a device."""
    if seconds > 0:
        time.sleep(seconds)


def burn(seconds: float) -> None:
    """On a core, holding the interpreter's lock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


_MATRIX = torch.rand(128, 128)


def crunch(seconds: float) -> None:
    """On a core, outside the interpreter's lock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        torch.mm(_MATRIX, _MATRIX)


def threaded(seconds: float) -> None:
    """About as much work as one thread does in that time, on as many threads as torch may take."""
    for _ in range(round(seconds / PASS)):
        torch.sin(_LARGE, out=_RESULT)


_LARGE, _RESULT = torch.rand(2, 1 << 17)
PASS = 0.00014  # seconds of one pass

COSTS: dict[str, Callable[[float], None]] = {"wait": wait, "burn": burn, "crunch": crunch, "threaded": threaded}


@dataclass
class Pipe:
    """A pipeline of planted costs, in seconds: of a sample, but for `collate` and `step`, which are of a batch.

    Attributes:
        read, decode, augment, other, collate, step: (kind, seconds), a kind of COSTS.
        tail: (share of samples, times as long) in reading. slow: worker 0 takes so many times as long.
        start: seconds that each worker takes to begin. threads: of torch in each worker.
        shape, dtype: of a sample. form: tensor, array, or many (a list of small tensors).
        jpeg: pixels of a side of a real JPEG that is decoded; 0 for none. file: bytes read from disk, cold.
        mark: the step's cost stands under that name.
    """

    read: tuple[str, float] = ("wait", 0.0002)
    decode: tuple[str, float] = ("burn", 0.0002)
    augment: tuple[str, float] = ("burn", 0.0002)
    other: tuple[str, float] = ("burn", 0.0)
    collate: tuple[str, float] = ("burn", 0.0003)
    step: tuple[str, float] = ("wait", 0.004)
    tail: tuple[float, float] = (0.0, 1.0)
    slow: float = 1.0
    start: float = 0.0
    threads: int = 1
    shape: tuple[int, ...] = (3, SIDE, SIDE)
    dtype: str = "uint8"
    form: str = "tensor"
    jpeg: int = 0
    file: int = 0
    mark: str = ""
    workers: int = 2
    iterable: bool = False
    epoch: int = 10_000  # batches
    options: dict[str, Any] = field(default_factory=dict)


class Augment:
    """A transform with a cost."""

    def __init__(self, cost: tuple[str, float]) -> None:
        self.cost = cost

    def __call__(self, image: Any) -> Any:
        COSTS[self.cost[0]](self.cost[1])
        return image


class Samples(Dataset[Any]):
    """Samples of a pipe; every cost is under the name it has in the report."""

    def __init__(self, pipe: Pipe, folder: str = "") -> None:
        self.pipe, self.folder = pipe, folder
        self.transform = Augment(pipe.augment)
        self.jpeg = jpeg(pipe.jpeg) if pipe.jpeg else b""
        rng = np.random.default_rng(3)
        self.slow = rng.random(4096) < pipe.tail[0]

    def __len__(self) -> int:
        return self.pipe.epoch * BATCH

    def __getitem__(self, index: int) -> Any:
        return self.make(index)

    def make(self, index: int) -> Any:
        pipe = self.pipe
        info = torch.utils.data.get_worker_info()
        times = pipe.slow if info is not None and info.id == 0 else 1.0
        with stage("read"):
            COSTS[pipe.read[0]](pipe.read[1] * times * (pipe.tail[1] if self.slow[index % 4096] else 1.0))
            if pipe.file:
                cold(Path(self.folder) / f"{index % 16}.bin")
        with stage("decode"):
            COSTS[pipe.decode[0]](pipe.decode[1])
            if self.jpeg:
                np.asarray(Image.open(io.BytesIO(self.jpeg)).convert("RGB"))
        COSTS[pipe.other[0]](pipe.other[1])
        return self.transform(content(pipe))


class Stream(IterableDataset[Any]):
    """The same, one after the other."""

    def __init__(self, pipe: Pipe, folder: str = "") -> None:
        self.samples = Samples(pipe, folder)
        self.transform = self.samples.transform

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        first, step = (info.id, info.num_workers) if info is not None else (0, 1)
        self.samples.transform = self.transform
        for index in range(first, len(self.samples), step):
            yield self.samples.make(index)


def jpeg(side: int) -> bytes:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def cold(path: Path) -> None:
    """Read a file that is not in the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        while os.read(descriptor, 1 << 20):
            pass
    finally:
        os.close(descriptor)


def content(pipe: Pipe) -> Any:
    """What a sample is."""
    if pipe.form == "array":
        return np.zeros(pipe.shape, pipe.dtype)
    if pipe.form == "many":
        return [torch.zeros(16) for _ in range(pipe.shape[0])]
    return torch.zeros(pipe.shape, dtype=getattr(torch, pipe.dtype))


class Collate:
    """Stack, at a cost."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def __call__(self, samples: list[Any]) -> Any:
        COSTS[self.pipe.collate[0]](self.pipe.collate[1])
        return torch.stack(samples) if self.pipe.form == "tensor" else samples


class Begin:
    """What a worker does first."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def __call__(self, worker: int) -> None:
        wait(self.pipe.start)
        torch.set_num_threads(self.pipe.threads)


def loader_of(pipe: Pipe, folder: str = "") -> DataLoader[Any]:
    """A stock loader of a pipe."""
    dataset = Stream(pipe, folder) if pipe.iterable else Samples(pipe, folder)
    return DataLoader(
        dataset,
        BATCH,
        num_workers=pipe.workers,
        collate_fn=Collate(pipe),
        worker_init_fn=Begin(pipe) if pipe.workers else None,
        **pipe.options,
    )


def step_of(pipe: Pipe) -> Callable[[Any], None]:
    """The step of a pipe."""

    def step(batch: Any) -> None:
        if pipe.mark:
            with stage(pipe.mark):
                COSTS[pipe.step[0]](pipe.step[1])
        else:
            COSTS[pipe.step[0]](pipe.step[1])

    return step


# ---- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """A pipe, what is wrong with it, and the cure.

    Attributes:
        labels: verdicts that are right, as kind, place or cause; a tie is right only where it is planted.
        pipe: with the cost. cured: without it.
        change: what the replay is told for the cure; a name alone is that row without cost.
        hogs: processes that take cores beside it; the cure sends them away, so nothing is predicted.
    """

    name: str
    labels: tuple[str, ...]
    pipe: Pipe
    cured: Pipe | None = None
    change: Change | None = None
    hogs: int = 0


def without(*rows: str, **factors: float) -> Change:
    return Change(factors={**dict.fromkeys(rows, 0.0), **factors})


CASES: tuple[Planted, ...] = (
    Planted("slow storage", ("storage",), Pipe(read=("wait", 0.004)), Pipe(read=("wait", 0.0)), without("storage")),
    Planted(
        "slow storage, iterable",
        ("storage",),
        Pipe(read=("wait", 0.004), iterable=True),
        Pipe(read=("wait", 0.0), iterable=True),
        without("storage"),
    ),
    Planted("cold files", ("storage",), Pipe(file=4 << 20), Pipe(read=("wait", 0.0)), without("storage")),
    Planted("decoding JPEGs", ("decode",), Pipe(jpeg=512), Pipe(decode=("burn", 0.0)), without("decode")),
    Planted(
        "a transform, GIL held",
        ("augmentation",),
        Pipe(augment=("burn", 0.003)),
        Pipe(augment=("burn", 0.0)),
        without("Augment"),
    ),
    Planted(
        "a transform, GIL free",
        ("augmentation",),
        Pipe(augment=("crunch", 0.003)),
        Pipe(augment=("burn", 0.0)),
        without("Augment"),
    ),
    Planted(
        "the data set's own code",
        ("dataset",),
        Pipe(other=("burn", 0.003)),
        Pipe(other=("burn", 0.0)),
        without("getitem"),
    ),
    Planted(
        "slow collate", ("collate",), Pipe(collate=("burn", 0.020)), Pipe(collate=("burn", 0.0)), without("collate")
    ),
    Planted(
        "large arrays",
        ("transport",),
        Pipe(form="array", shape=(6, 512, 512), step=("wait", 0.002)),
        Pipe(form="array", shape=(4, 512, 512), step=("wait", 0.002)),
        Change(factors={"getitem": 2 / 3}, transport=2 / 3),
    ),
    Planted(
        "many tensors",
        ("transport",),
        Pipe(form="many", shape=(60,), step=("wait", 0.002)),
        Pipe(form="many", shape=(40,), step=("wait", 0.002)),
        Change(factors={"getitem": 2 / 3}, transport=2 / 3),
    ),
    Planted(
        "epochs that start slowly",
        ("epoch",),
        Pipe(start=0.15, epoch=24),
        Pipe(start=0.15, epoch=24, options={"persistent_workers": True}),
    ),
    Planted("a model that waits", ("model",), Pipe(step=("wait", 0.020)), Pipe(step=("wait", 0.0)), without("model")),
    Planted(
        "a model that computes",
        ("model",),
        Pipe(step=("crunch", 0.020), workers=1),
        Pipe(step=("wait", 0.0), workers=1),
        without("model"),
    ),
    Planted(
        "a wait in the step",
        ("sync",),
        Pipe(step=("wait", 0.015), mark="sync"),
        Pipe(step=("wait", 0.0)),
        without("sync"),
    ),
    Planted(
        "a heavy tail", ("tail",), Pipe(read=("wait", 0.0006), tail=(0.015, 120.0)), Pipe(read=("wait", 0.0006)), None
    ),
    Planted("one slow worker", ("worker",), Pipe(read=("wait", 0.002), slow=5.0), Pipe(read=("wait", 0.002)), None),
    Planted(
        "more processes than cores",
        ("cores",),
        Pipe(augment=("crunch", 0.002), workers=6),
        Pipe(augment=("burn", 0.0), workers=6),
        without("Augment"),
    ),
    Planted(  # forked, OpenMP may hang; spawned, workers with threads abort at their end
        "more threads than cores",
        ("threads",),
        Pipe(augment=("threaded", 0.003), threads=4, options={"multiprocessing_context": "forkserver"}),
        Pipe(augment=("threaded", 0.003), threads=1, options={"multiprocessing_context": "forkserver"}),
    ),
    Planted("other jobs on the cores", ("cores",), Pipe(augment=("burn", 0.002), workers=2), hogs=4),
    Planted(
        "a tie of data and model",
        ("tie",),
        Pipe(read=("wait", 0.002), decode=("wait", 0.0), augment=("wait", 0.0), step=("wait", 0.0082)),
        None,
        None,
    ),
    Planted(
        "a tie of two stages",
        ("tie",),
        Pipe(decode=("burn", 0.0015), augment=("burn", 0.0015)),
        Pipe(decode=("burn", 0.0), augment=("burn", 0.0015)),
        without("decode"),
    ),
    Planted(
        "no workers",
        ("augmentation",),
        Pipe(augment=("burn", 0.002), workers=0),
        Pipe(augment=("burn", 0.0), workers=0),
        without("Augment"),
    ),
    Planted("nothing wrong", ("model",), Pipe(step=("wait", 0.030)), None, None),
)
