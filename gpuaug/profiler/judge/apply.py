"""Apply a recommendation to a user's loader: other settings, or augmentation moved to the device."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.reduction import ForkingPickler
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data._utils.collate import default_collate

from gpuaug.profiler.judge.paste import moved_code, owner_of
from gpuaug.profiler.judge.samples import fetch
from gpuaug.profiler.machine import cores
from gpuaug.profiler.measure.loaders import data_loader
from gpuaug.profiler.model.trace import batch_size

__all__ = ["MovedLoader", "Probe", "move", "probe", "with_settings"]


def with_settings(loader: DataLoader[Any], **settings: Any) -> DataLoader[Any]:
    """A copy of a loader with other attributes; it shares the sampler and the generator."""
    twin = copy.copy(loader)
    workers = settings.get("num_workers", loader.num_workers)
    if workers == 0:
        settings = {**settings, "prefetch_factor": None, "persistent_workers": False}
    elif (settings.get("prefetch_factor") or twin.prefetch_factor) is None:
        settings = {**settings, "prefetch_factor": 2}
    twin.__dict__.update(settings, _iterator=None)
    return twin


@dataclass
class MovedLoader:
    """A loader whose workers only decode, with an Augment that runs the data set's transform on a device.

    Iterating gives (images, labels) on the device.

    Attributes:
        loader: Loader of ragged uint8 batches.
        to_tensor: Transform that is left in its workers.
        augment: A gpuaug.Augment on `device`.
        device: Device that augments.
        code: Lines of code to change.
        samples: The first samples, now and moved.
        kept: Seconds that `to_tensor` took for them.
    """

    loader: DataLoader[Any]
    to_tensor: _ToTensor
    augment: Any
    device: torch.device
    code: str
    samples: tuple[list[Any], list[Any]]
    kept: float

    def __iter__(self) -> Iterator[Any]:
        from gpuaug.data.loader import DeviceLoader

        return iter(DeviceLoader(self.loader, self.device, self.augment))


class _ToTensor:
    """The transform that is left in the workers: an image to uint8 (C, H, W). `seconds` is its time since asked."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._made: Any = None

    def __call__(self, image: Any) -> torch.Tensor:
        from torchvision.transforms.v2.functional import pil_to_tensor

        start = time.thread_time()
        found = image if isinstance(image, torch.Tensor) else pil_to_tensor(image)
        if found.dtype != torch.uint8:
            raise ValueError(f"profile: the data set must pass uint8 images to its transform, got {found.dtype}.")
        self.seconds += time.thread_time() - start
        self._made = found
        return found

    def seconds_if_last(self, sample: Any) -> float | None:
        """`seconds`, from then on 0; None if a sample does not hold the image as this transform returned it."""
        parts = sample.values() if isinstance(sample, Mapping) else sample
        parts = parts if isinstance(sample, (Mapping, tuple, list)) else [sample]
        made, seconds = self._made, self.seconds
        self._made, self.seconds = None, 0.0
        return seconds if made is not None and any(part is made for part in parts) else None

    def __repr__(self) -> str:
        return "PILToTensor()"


def move(loader: Any, device: torch.device) -> MovedLoader:
    """Move a data set's transform out of the loader, to a device.

    Raises:
        ValueError: If it cannot be moved; the message says why.
    """
    from gpuaug.augment import Augment
    from gpuaug.data import ragged_collate
    from gpuaug.interop.torchvision import from_torchvision

    inner = data_loader(loader)
    found = owner_of(inner.dataset)
    if isinstance(inner.dataset, IterableDataset):
        raise ValueError("the data set is iterable")
    if found is None:
        raise ValueError("the data set has no `transform` to move, or several")
    if batch_size(inner) is None:
        raise ValueError("the loader makes no batches, or its batch size is unknown")
    if inner.collate_fn is not default_collate:
        raise ValueError("the loader has a custom collate_fn")
    converted = from_torchvision(found.transform)
    dataset, last = copy.copy(found.chain[-1]), found.chain[-1]
    to_tensor = dataset.__dict__["transform"] = _ToTensor()
    both = hasattr(last, "transforms") and hasattr(last.transforms, "transform")
    if both:
        dataset.__dict__["transforms"] = type(dataset.transforms)(to_tensor, dataset.transforms.target_transform)
    for outer, name in zip(reversed(found.chain[:-1]), reversed(found.names), strict=True):
        twin = copy.copy(outer)
        twin.__dict__[name] = dataset
        dataset = twin
    count = min(batch_size(inner) or 1, len(inner.dataset))  # type: ignore[arg-type]
    now, _ = fetch(inner, inner.dataset, count)
    decoded, kept = fetch(inner, dataset, count, to_tensor.seconds_if_last)
    if kept is None:
        raise ValueError("the data set changes images after its `transform`")
    changed = with_settings(inner, dataset=dataset, collate_fn=ragged_collate)
    augment = Augment(train=converted).to(device)
    code = moved_code(inner, found.path, both, str(device))
    return MovedLoader(changed, to_tensor, augment, device, code, (now, decoded), kept)


@dataclass(frozen=True)
class Probe:
    """Costs of a batch after augmentation has moved, measured on real samples.

    Attributes:
        made: Time to collate and pickle a decoded batch / the same time now.
        received: Time to unpickle a decoded batch / the same time now.
        kept: Seconds per batch to convert images to tensors, which the workers still do.
        augment: Seconds to augment a batch on the device.
        threads: Number of threads that augmenting uses, if the device is the CPU.
        device: Type of the device.
    """

    made: float
    received: float
    kept: float
    augment: float
    threads: float
    device: str


def probe(loader: Any, moved: MovedLoader, repeats: int = 3) -> Probe:
    """Measure the costs of a moved batch: of each part the median of `repeats` runs."""
    inner = data_loader(loader)
    size = batch_size(inner) or 1
    now, decoded = moved.samples
    count = len(decoded)
    kept = moved.kept * size / count
    assert inner.collate_fn is not None
    assert moved.loader.collate_fn is not None
    before = _transport(inner.collate_fn, now, repeats)
    after = _transport(moved.loader.collate_fn, decoded, repeats)
    batch = moved.loader.collate_fn(decoded)
    times = []
    for turn in range(repeats + 2):
        start, own, spent = time.perf_counter(), time.thread_time(), time.process_time()
        images = batch.images.to(moved.device) if moved.device.type != "cpu" else batch.images
        moved.augment(images, batch.labels)
        if moved.device.type == "cuda":
            torch.cuda.synchronize(moved.device)
        if turn >= 2:  # the first calls compile
            times.append((time.perf_counter() - start, time.thread_time() - own, time.process_time() - spent))
    wall, own, spent = (median(column) for column in zip(*times, strict=True))
    seconds, threads = wall, 1.0
    if moved.device.type == "cpu":  # on cores, whoever else uses them
        seconds = max(own, spent / cores())
        threads = max(1.0, spent / seconds)
    made, received = (new / old for new, old in zip(after, before, strict=True))
    return Probe(made, received, kept, seconds * size / count, threads, moved.device.type)


def _transport(collate: Callable[[Any], Any], samples: list[Any], repeats: int) -> tuple[float, float]:
    """Seconds to collate and pickle a batch as for a worker's queue, and seconds to unpickle it."""
    made, received = [], []
    for _ in range(repeats + 1):  # the first one warms up
        start = time.thread_time()
        buffer = BytesIO()
        ForkingPickler(buffer, 2).dump(collate(samples))
        sent = time.thread_time()
        ForkingPickler.loads(buffer.getvalue())
        made.append(sent - start)
        received.append(time.thread_time() - sent)
    return median(made[1:]), median(received[1:])


def tuned_source(module: str, name: str, advice_id: str, how: str) -> str:
    """The source of a module that returns a script's loader with a recommendation's lines applied."""
    lines = "\n".join(f"    {line}" if line else "" for line in how.splitlines())
    return (
        f'"""`{module}.{name}` with `{advice_id}` applied, as gpuaug profile recommended."""\n\n'
        f"from {module} import {name} as original\n\n\n"
        f"def {name}():\n    loader = original()\n{lines}\n    return loader\n"
    )
