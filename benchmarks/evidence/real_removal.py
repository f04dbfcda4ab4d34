"""A training step, and how a stage of a loader is really taken out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from gpuaug.profiler.measure import instrument, passes
from gpuaug.profiler.measure.clock import Timed
from gpuaug.profiler.measure.loaders import data_loader

from .real_photos import COUNT, REPEATS

__all__ = ["WHOLE", "Step", "taken_out"]

KEPT = 48  # results of a stage that are kept, for as many samples
WHOLE = ("storage", "dataset")  # groups that are taken out with all of the data set's work


# ---- a training step -------------------------------------------------------------------------------------------------


class Step:
    """Train a small network on the first tensor with at least four dimensions; then wait, as for a GPU."""

    def __init__(self, waits: float) -> None:
        self.seconds = waits / 1e3
        self.network = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten(2))
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.01)

    def __call__(self, batch: Any) -> None:
        images = next(part for part in tree_leaves(batch) if isinstance(part, Tensor) and part.dim() >= 4)
        images = images.reshape(-1, *images.shape[-3:])
        self.optimizer.zero_grad()
        self.network(images.float()).square().mean().backward()
        self.optimizer.step()
        time.sleep(self.seconds)


# ---- to take a stage out ---------------------------------------------------------------------------------------------


class Ring:
    """The first results of a function, given again and again once `given` is set."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.kept: list[Any] = []
        self.turn = 0
        self.given = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.given and self.kept:
            self.turn += 1
            return self.kept[self.turn % len(self.kept)]
        found = self.function(*args, **kwargs)
        if isinstance(found, Image.Image):  # it would decode later
            found.load()
        if len(self.kept) < KEPT:
            self.kept.append(found)
        return found


class Kept(Timed):
    """A stage as the profiler finds it, that gives kept results."""

    def __init__(self, function: Callable[..., Any], name: str, ring: Ring) -> None:
        super().__init__(function, name)
        self.__dict__["ring"] = ring

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.ring(*args, **kwargs)


@contextmanager
def taken_out(loader: Any, group: str, rows: Sequence[str]) -> Iterator[None]:
    """The stages of a group take no time inside the block."""
    inner, patches = data_loader(loader), instrument.Patches()
    own = dict(inner.__dict__)
    try:
        if group == "collate":
            inner.__dict__["collate_fn"] = Ring(inner.collate_fn)
            _fill(inner, [inner.collate_fn])
        elif group in WHOLE:
            inner.__dict__["dataset"] = _samples(inner.dataset)
        elif group != "model":
            _fill(inner, _rings(inner.dataset, set(rows), patches))
        yield
    finally:
        inner.__dict__.update(own)
        patches.restore()


def _rings(dataset: Any, rows: set[str], patches: instrument.Patches) -> list[Ring]:
    """Put a ring in the place of each function that the profiler would time under one of these names."""
    rings: list[Ring] = []

    def ring_of(function: Callable[..., Any]) -> Ring:
        rings.append(Ring(function))
        return rings[-1]

    class Put(Timed):
        """Makes a stage with a ring, or leaves the function as it is."""

        def __new__(cls, function: Any, name: str) -> Any:
            return Kept(function, name, ring_of(function)) if name in rows else function

    def decoder(function: Any, name: str) -> Any:
        if name not in rows or getattr(function, "__qualname__", "") == "ImageFile.load":  # it returns no image
            return function
        ring = ring_of(function)
        return lambda *args, **kwargs: ring(*args, **kwargs)

    before = instrument.Timed, instrument._timed
    try:
        instrument.Timed, instrument._timed = Put, decoder  # type: ignore[assignment, misc]
        instrument.transforms(dataset, patches)
        instrument.decoders(patches)
    finally:
        instrument.Timed, instrument._timed = before  # type: ignore[misc]
    return rings


def _fill(loader: Any, rings: Sequence[Any]) -> None:
    """Run the loader's own work in this process until the rings are full; the workers inherit them."""
    twin = copy.copy(loader)
    twin.__dict__.update(num_workers=0, prefetch_factor=None, persistent_workers=False, _iterator=None)
    twin.__dict__["_DataLoader__multiprocessing_context"] = None
    for number, _ in enumerate(passes.repeat(twin)):
        if number * (loader.batch_size or 1) >= KEPT:
            break
    if not any(ring.kept for ring in rings):
        raise RuntimeError("real_loaders: the stage was not called in this process.")
    for ring in rings:
        ring.given = True


class _Listed(Dataset[Any]):
    """Samples in memory, in place of the data set."""

    def __init__(self, samples: list[Any], length: int) -> None:
        self.samples, self.length = samples, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        return self.samples[int(index) % len(self.samples)]


class _Streamed(IterableDataset[Any]):
    """As `_Listed`, for loaders without a sampler; each worker gives its part."""

    def __init__(self, samples: list[Any], length: int) -> None:
        self.samples, self.length = samples, length

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        length = self.length // (info.num_workers if info else 1)
        return (self.samples[number % len(self.samples)] for number in range(length))


def _samples(dataset: Any) -> Any:
    if isinstance(dataset, IterableDataset):
        samples = [sample for _, sample in zip(range(KEPT), dataset, strict=False)]
        return _Streamed(samples, COUNT * REPEATS)
    many = getattr(dataset, "__getitems__", None)
    samples = many(list(range(KEPT))) if callable(many) else [dataset[number] for number in range(KEPT)]
    return _Listed(list(samples), len(dataset))
