"""Data sets and loaders for the profiler's tests; in a module, so that spawned workers find them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision.transforms import v2

from gpuaug.profiler import stage

COUNT = 48
BATCH = 4


class Images(Dataset[Any]):
    """Images that a transform draws on, with every kind of randomness that torch seeds in workers."""

    def __init__(self, transform: Any = None, count: int = COUNT) -> None:
        self.transform, self.count = transform, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        with stage("read"):
            image = torch.full((3, 8, 8), index, dtype=torch.uint8)
        if self.transform is not None:
            image = self.transform(image)
        return image, torch.rand(2), np.random.rand(2), random.random(), index


class Numbers(Dataset[Any]):
    """Each sample is its number; nothing is drawn."""

    def __init__(self, count: int = COUNT) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        return torch.full((2,), int(index)), 0


class Lists(Numbers):
    """Asked for several at once."""

    def __getitem__(self, index: Any) -> Any:
        return torch.tensor(index)


class Holder(Numbers):
    """Holds a function, which travels with it to workers."""

    def __init__(self, function: Any) -> None:
        super().__init__(4)
        self.function = function


class Batches(Images):
    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


class Stream(IterableDataset[Any]):
    def __init__(self, count: int = COUNT + 1) -> None:
        self.count, self.first = count, 0

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        step = info.num_workers if info else 1
        for index in range(self.first, self.count, step):
            yield torch.full((3,), index), torch.rand(2)


def shard(worker: int) -> None:
    """As torch's documentation has it: an attribute is set on the worker's data set."""
    torch.utils.data.get_worker_info().dataset.first = worker


class Pair(NamedTuple):
    images: Any
    labels: Any


def named(samples: list[Any]) -> Pair:
    return Pair(torch.stack([s[0] for s in samples]), [s[4] for s in samples])


def mapping(samples: list[Any]) -> dict[str, Any]:
    return {"image": torch.stack([s[0] for s in samples]), "noise": [s[2] for s in samples]}


TRANSFORM = v2.Compose(
    [v2.RandomHorizontalFlip(), v2.RandomApply([v2.ColorJitter(0.5)]), v2.ToDtype(torch.float32, scale=True)]
)


def make(kind: str) -> DataLoader[Any]:
    """A loader of a kind; new, and seeded."""
    generator = torch.Generator().manual_seed(5)
    shuffled: dict[str, Any] = {"shuffle": True, "generator": generator}
    if kind == "map":
        return DataLoader(Images(TRANSFORM), BATCH, num_workers=2, **shuffled)
    if kind == "numbers":
        return DataLoader(Numbers(), BATCH, num_workers=2)
    if kind == "main":
        return DataLoader(Images(TRANSFORM), BATCH, **shuffled)
    if kind == "batches":
        return DataLoader(Batches(TRANSFORM), BATCH, num_workers=2, **shuffled)
    if kind == "iterable":
        return DataLoader(Stream(), BATCH, num_workers=2, generator=generator, worker_init_fn=shard)
    if kind == "iterable, main":
        return DataLoader(Stream(), BATCH, generator=generator)
    if kind == "iterable, dropping":
        return DataLoader(Stream(), BATCH, drop_last=True, generator=generator)
    if kind == "persistent":
        return DataLoader(Images(TRANSFORM), BATCH, num_workers=2, persistent_workers=True, **shuffled)
    if kind == "spawn":
        return DataLoader(Images(TRANSFORM, 16), BATCH, num_workers=1, multiprocessing_context="spawn", **shuffled)
    if kind == "forkserver":
        return DataLoader(Images(TRANSFORM, 16), BATCH, num_workers=1, multiprocessing_context="forkserver", **shuffled)
    if kind == "named tuple":
        return DataLoader(Images(TRANSFORM), BATCH, num_workers=2, collate_fn=named, **shuffled)
    if kind == "dict":
        return DataLoader(Images(TRANSFORM), BATCH, num_workers=2, collate_fn=mapping, **shuffled)
    if kind == "single samples":
        return DataLoader(Images(TRANSFORM), None, num_workers=2)
    if kind == "out of order":
        return DataLoader(Images(), BATCH, num_workers=1, in_order=False)
    if kind == "subset":
        return DataLoader(torch.utils.data.Subset(Images(TRANSFORM), range(20)), BATCH, num_workers=2, **shuffled)
    if kind == "concat":
        return DataLoader(torch.utils.data.ConcatDataset([Images(TRANSFORM, 10), Images(None, 10)]), 1, num_workers=1)
    if kind == "batch sampler":
        sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(range(COUNT)), 5, drop_last=True)
        return DataLoader(Images(TRANSFORM), batch_sampler=sampler, num_workers=2)
    raise ValueError(kind)


KINDS = (
    "map", "main", "batches", "iterable", "iterable, main", "iterable, dropping", "persistent", "spawn", "forkserver",
    "named tuple", "dict", "single samples", "out of order", "subset", "concat", "batch sampler",
)  # fmt: skip


class Failing(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        if index == 9:
            raise KeyError("nine")
        return torch.zeros(2)


def make_loader() -> DataLoader[Any]:
    return make("map")


def make_step() -> Any:
    return step


def step(batch: Any) -> None:
    torch.mm(torch.rand(64, 64), torch.rand(64, 64))


HOSTILE = "<b class=hostile>"


class Hostile:
    """A transform whose name would be a tag."""

    __name__ = HOSTILE

    def __call__(self, image: Any) -> Any:
        return image
