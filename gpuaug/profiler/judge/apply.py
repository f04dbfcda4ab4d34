"""Changes to a user's loader: the same loader with other settings, or with augmentation moved to the device."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.reduction import ForkingPickler
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data._utils.collate import default_collate

from gpuaug.profiler.measure.recorder import data_loader
from gpuaug.profiler.model.trace import batch_size

__all__ = ["Moved", "Probe", "move", "probe", "reloaded"]

DEPTH = 4  # of data sets within data sets


def reloaded(loader: DataLoader[Any], **settings: Any) -> DataLoader[Any]:
    """A copy of a loader with other settings; it shares the sampler and the generator."""
    twin = copy.copy(loader)
    workers = settings.get("num_workers", loader.num_workers)
    if workers == 0:
        settings = {**settings, "prefetch_factor": None, "persistent_workers": False}
    elif (settings.get("prefetch_factor") or twin.prefetch_factor) is None:
        settings = {**settings, "prefetch_factor": 2}
    twin.__dict__.update(settings, _iterator=None)
    return twin


@dataclass
class Moved:
    """A loader whose workers only decode, and the module that augments what they give.

    Attributes:
        loader: of ragged uint8 batches. decoded: what is left in its workers. augment: a gpuaug.Augment on `device`.
        code: the lines to change.
    """

    loader: DataLoader[Any]
    decoded: _Decoded
    augment: Any
    device: torch.device
    code: str

    def __iter__(self) -> Iterator[Any]:
        from gpuaug.data.loader import DeviceLoader

        return iter(DeviceLoader(self.loader, self.device, self.augment))


class _Decoded:
    """What is left of a transform in the workers: the picture as uint8 (C, H, W). Attribute `taken`: seconds so far."""

    def __init__(self) -> None:
        self.taken = 0.0

    def __call__(self, image: Any) -> torch.Tensor:
        start = time.perf_counter()
        found = self._tensor(image)
        self.taken += time.perf_counter() - start
        return found

    def _tensor(self, image: Any) -> torch.Tensor:
        from torchvision.transforms.v2.functional import pil_to_tensor

        found = image if isinstance(image, torch.Tensor) else pil_to_tensor(image)
        if found.dtype != torch.uint8:
            raise ValueError(f"profile: the data set must give uint8 images to its transform, got {found.dtype}.")
        return found

    def __repr__(self) -> str:
        return "PILToTensor()"


def owner_of(dataset: Any) -> tuple[list[Any], Any] | None:
    """The data sets from the outer one to the one whose `transform` is set; None if there is none."""
    chain, found = [], dataset
    for _ in range(DEPTH):
        chain.append(found)
        if callable(getattr(found, "transform", None)):
            return chain, found.transform
        found = getattr(found, "dataset", None)
        if not isinstance(found, Dataset):
            return None
    return None


def move(loader: Any, device: torch.device) -> Moved:
    """Move a data set's transform behind the loader.

    Raises:
        ValueError: if it cannot be moved; the text says why.
    """
    from gpuaug.augment import Augment
    from gpuaug.data import ragged_collate
    from gpuaug.interop.torchvision import from_torchvision

    inner = data_loader(loader)
    found = owner_of(inner.dataset)
    if isinstance(inner.dataset, IterableDataset):
        raise ValueError("the data set is iterable")
    if found is None:
        raise ValueError("the data set has no `transform` that could be moved")
    if batch_size(inner) is None:
        raise ValueError("the loader does not batch, or its sampler does not say how much")
    if inner.collate_fn is not default_collate:
        raise ValueError("the loader has a collate_fn of its own")
    chain, transform = found
    converted = from_torchvision(transform)
    dataset = copy.copy(chain[-1])
    decoded = dataset.__dict__["transform"] = _Decoded()
    if hasattr(dataset, "transforms") and hasattr(dataset.transforms, "transform"):
        dataset.__dict__["transforms"] = type(dataset.transforms)(decoded, dataset.transforms.target_transform)
    for outer in reversed(chain[:-1]):
        twin = copy.copy(outer)
        twin.__dict__["dataset"] = dataset
        dataset = twin
    changed = reloaded(inner, dataset=dataset, collate_fn=ragged_collate)
    augment = Augment(train=converted).to(device)
    steps = "\n".join(f"    ga.{step!r}," for step in converted)
    code = (
        "import gpuaug as ga\n"
        "import torch\n"
        "from torchvision.transforms import v2\n\n"
        f"augment = ga.Augment(train=[\n{steps}\n])  # or ga.from_torchvision(your transform)\n"
        "dataset.transform = v2.PILToTensor()  # workers only decode\n"
        "loader = DataLoader(dataset, ..., collate_fn=ga.ragged_collate)\n"
        f'for images, labels in ga.DeviceLoader(loader, "{device}", augment):'
    )
    return Moved(changed, decoded, augment, device, code)


@dataclass(frozen=True)
class Probe:
    """What a batch costs once augmentation has moved: measured on real samples in this process.

    Attributes:
        made: collating and pickling a decoded batch, against the batch as it is now: a ratio.
        received: unpickling, in the same way.
        kept: seconds of a batch that making tensors of whole pictures takes, which stays in the workers.
        augment: seconds of augmenting a batch on the device. threads: that it takes, if the device is the CPU.
        device: its type.
    """

    made: float
    received: float
    kept: float
    augment: float
    threads: float
    device: str


def probe(loader: Any, moved: Moved, repeats: int = 3) -> Probe:
    """Measure a moved batch's parts, each `repeats` times, the median."""
    inner = data_loader(loader)
    size = batch_size(inner) or 1
    count = min(size, len(inner.dataset))  # type: ignore[arg-type]
    places = list(range(count))
    now = [inner.dataset[k] for k in places]
    start = moved.decoded.taken
    decoded = [moved.loader.dataset[k] for k in places]
    kept = (moved.decoded.taken - start) * size / count
    assert inner.collate_fn is not None
    assert moved.loader.collate_fn is not None
    before = _transport(inner.collate_fn, now, repeats)
    after = _transport(moved.loader.collate_fn, decoded, repeats)
    batch = moved.loader.collate_fn(decoded)
    taken, used = [], []
    for turn in range(repeats + 2):
        start, spent = time.perf_counter(), time.process_time()
        images = batch.images.to(moved.device) if moved.device.type != "cpu" else batch.images
        moved.augment(images, batch.labels)
        if moved.device.type == "cuda":
            torch.cuda.synchronize(moved.device)
        if turn >= 2:  # the first calls compile
            taken.append(time.perf_counter() - start)
            used.append(time.process_time() - spent)
    seconds = median(taken)
    threads = max(1.0, median(used) / seconds)
    made, received = (then / now for then, now in zip(after, before, strict=True))
    return Probe(made, received, kept, seconds * size / count, threads, moved.device.type)


def _transport(collate: Callable[[Any], Any], samples: list[Any], repeats: int) -> tuple[float, float]:
    """Seconds of collating and pickling as for a queue, and of unpickling."""
    made, received = [], []
    for _ in range(repeats + 1):  # the first one warms up
        start = time.perf_counter()
        buffer = BytesIO()
        ForkingPickler(buffer, 2).dump(collate(samples))
        sent = time.perf_counter()
        ForkingPickler.loads(buffer.getvalue())
        made.append(sent - start)
        received.append(time.perf_counter() - sent)
    return median(made[1:]), median(received[1:])


def tuned_source(module: str, name: str, advice_id: str, settings: dict[str, Any]) -> str:
    """The text of a module whose loader is a script's, with an advice applied."""
    head = f'"""`{module}.{name}` with `{advice_id}` applied, as gpuaug profile advised."""\n\n'
    if advice_id == "augment-on-device":
        return (
            f"{head}import torch\n\nfrom gpuaug.profiler.judge.apply import move\n"
            f"from {module} import {name} as original\n\n\n"
            f"def {name}():\n"
            f"    device = torch.device({settings.get('device', 'cpu')!r})\n"
            f"    return move(original(), device)  # iterates over (images, labels) on the device\n"
        )
    listed = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return (
        f"{head}from gpuaug.profiler.judge.apply import reloaded\nfrom {module} import {name} as original\n\n\n"
        f"def {name}():\n    return reloaded(original(), {listed})\n"
    )
