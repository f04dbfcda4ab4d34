"""Pipelines whose stages have known costs."""

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

__all__ = ["Pipe", "loader_of", "step_of"]

BATCH = 8
SIDE = 64  # pixels of a side of a sample


# ---- costs -----------------------------------------------------------------------------------------------------------


def wait(seconds: float) -> None:
    """Wait, as for storage, the network or a device."""
    if seconds > 0:
        time.sleep(seconds)


def burn(seconds: float) -> None:
    """Compute while holding the interpreter's lock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


_MATRIX = torch.rand(128, 128)


def crunch(seconds: float) -> None:
    """Compute without the interpreter's lock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        torch.mm(_MATRIX, _MATRIX)


def threaded(seconds: float) -> None:
    """Compute about as much as one thread does in this time, on all threads of torch."""
    for _ in range(round(seconds / PASS)):
        torch.sin(_LARGE, out=_RESULT)


_LARGE, _RESULT = torch.rand(2, 1 << 17)
PASS = 0.00014  # seconds of one pass

COSTS: dict[str, Callable[[float], None]] = {"wait": wait, "burn": burn, "crunch": crunch, "threaded": threaded}


@dataclass
class Pipe:
    """A pipeline with known costs in seconds: per sample, but `collate` and `step` per batch.

    Attributes:
        read, decode, augment, other, collate, step: (kind, seconds); the kind is a key of COSTS.
        tail: (fraction of slow samples, factor of their reading time).
        slow: Factor of the reading time in worker 0.
        start: Seconds that each worker takes to start.
        threads: Number of torch threads in each worker.
        shape, dtype: Shape and dtype of a sample.
        form: tensor, array, or many (a list of small tensors).
        jpeg: Side in pixels of a JPEG that is decoded; 0: none.
        file: Bytes that are read from a file outside of the page cache; 0: none.
        mark: Name of the stage in the step; empty: none.
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
