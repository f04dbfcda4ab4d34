"""What can be found out about a loader that DeviceLoader wraps, and about the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from gpuaug import checks
from gpuaug.data.fields import Fields
from gpuaug.data.sampler import NumberingSampler
from gpuaug.data.transport.encoded import Encoded
from gpuaug.data.transport.pictures import are_pictures
from gpuaug.data.transport.targets import are_targets
from gpuaug.ragged import Ragged

__all__ = [
    "TWO_LOADERS",
    "UNSHARDED",
    "checked_device",
    "counting",
    "described",
    "may_run_ahead",
    "parts_of",
    "present",
    "shared_draws",
    "shows_all",
    "split_batch",
    "stateless",
    "unequal",
]

UNSHARDED = (
    "{owner}: the loader has no distributed sampler, so each of the {ranks} ranks trains on all of its images. Pass "
    "sampler=torch.utils.data.distributed.DistributedSampler(dataset) to the DataLoader, unless each rank has its own "
    "data set."
)

TWO_LOADERS = (
    "DeviceLoader: one module runs its training list for two loaders. If one is for evaluation, pass train=False to "
    "its DeviceLoader; if both are for training, pass train=True."
)

# Samplers of torch that do not know about ranks: each rank shows all images, and needs different draws.
ALONE = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)

# Attributes with inner loaders, samplers and data sets, which may have a set_epoch: of torch, Accelerate, torchdata.
INSIDE = ("batch_sampler", "sampler", "dataset", "datasets", "base_dataloader", "dataloader")


def checked_device(device: torch.device | str) -> torch.device:
    """The device that an argument names; raises an error if this machine does not have it."""
    try:
        found = torch.device(device)
    except (TypeError, RuntimeError):
        found = torch.device("meta")
    if found.type == "meta" or not present(found):
        remedy = "" if found.type == "meta" else 'Pass "cpu".'
        expected = "one that this machine has"
        raise checks.argument_error("DeviceLoader", "device", expected, checks.describe(device), remedy)
    if found.type == "cuda" and found.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return found


def shared_draws(loader: Any) -> bool | None:
    """Whether an image's draw is the same on every rank and worker, since no two of them show the same look.

    True with a sampler that knows about ranks, False with a sampler of torch that does not; None if it is unknown.
    """
    if any(isinstance(part, (NumberingSampler, DistributedSampler)) for part in parts_of(loader)):
        return True
    batches: Any = getattr(loader, "batch_sampler", None)
    return False if is_plain(batches) and is_sampler(batches.sampler, *ALONE) else None


def shows_all(loader: Any) -> bool:
    """Whether each rank of a distributed group would show all images of an epoch."""
    batches: Any = getattr(loader, "batch_sampler", None)
    sampler = batches.sampler if is_plain(batches) else None
    alone = is_sampler(sampler, SequentialSampler, RandomSampler, SubsetRandomSampler)
    return alone and not getattr(sampler, "replacement", False)


def may_run_ahead(loader: Any) -> bool:
    """Whether the next batch may be fetched during the consumer's step.

    Not from a loader that Accelerate prepared: `gather_for_metrics` and `accumulate` ask it whether its batch is the
    last one, and mean the consumer's batch.
    """
    return not any(hasattr(part, "end_of_dataloader") for part in parts_of(loader))


def present(device: torch.device) -> bool:
    """Whether this machine has devices of the type, as far as torch can tell without starting one."""
    module: Any = torch.backends.mps if device.type == "mps" else getattr(torch, device.type, None)
    return bool(module.is_available()) if hasattr(module, "is_available") else True


def parts_of(part: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """A loader and its parts: samplers, data sets and loaders."""
    seen = set() if seen is None else seen
    if part is None or id(part) in seen:
        return
    seen.add(id(part))
    yield part
    for name in INSIDE:
        inner = getattr(part, name, None)
        for each in inner if isinstance(inner, (list, tuple)) else [inner]:
            yield from parts_of(each, seen)


def is_sampler(part: Any, *kinds: type) -> bool:
    """Whether a sampler is one of torch's, or the replacement that torchdata's StatefulDataLoader makes."""
    cls = type(part)
    stateful = cls.__module__.startswith("torchdata.") and cls.__name__ in {kind.__name__ for kind in kinds}
    return stateful or isinstance(part, kinds)


def is_plain(batches: Any) -> bool:
    """Whether a batch sampler takes numbers as its sampler yields them: it must be torch's own, not a subclass."""
    return type(batches) is BatchSampler or (
        type(batches).__name__ == "BatchSampler" and is_sampler(batches, BatchSampler)
    )


def described(loader: Any) -> str:
    if not isinstance(loader, DataLoader):
        return repr(loader)
    given = f"batch_size={loader.batch_size}, num_workers={loader.num_workers}"
    return f"{type(loader).__name__}({loader.dataset!r}, {given})"


def counting(dataset: Any) -> Iterator[Any]:
    """The data sets that count skips: this one, and those inside a Subset or a ConcatDataset."""
    if hasattr(dataset, "skipped"):
        yield dataset
    for part in (*getattr(dataset, "datasets", ()), getattr(dataset, "dataset", None)):
        if part is not None:
            yield from counting(part)


def split_batch(
    batch: object, fields: Fields | None = None, owner: str = "DeviceLoader"
) -> tuple[Any, Any, Tensor | None, Any]:
    """Images, labels or targets, and index of a batch that a loader yields; the other fields of a mapping."""
    if fields is not None:
        return (*fields.split(owner, batch), fields.rest(owner, batch))
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    good = 1 <= len(parts) <= 3 and (isinstance(parts[0], (Tensor, Ragged, Encoded)) or are_pictures(parts[0]))
    targets = len(parts) > 1 and are_targets(parts[1])
    if not good or not all(part is None or isinstance(part, Tensor) for part in parts[2 if targets else 1 :]):
        expected = "one that yields (images, labels, index), (images, labels) or images, as tensors or Ragged"
        got = f"({', '.join(type(part).__name__ for part in parts)})"
        remedy = "Make such tuples in the loader's collate_fn; ga.ragged_collate does, and ga.collate of dicts."
        if isinstance(batch, Mapping):
            got = f"mappings with {', '.join(map(repr, batch))}"
            remedy = f'Name their fields: {owner}(..., fields={{"image": "image", "label": "label"}}).'
        raise checks.argument_error(owner, "loader", expected, got, remedy)
    return (*(*parts, None, None)[:3], {})


def unequal() -> ValueError:
    """The error for images that cannot be stacked."""
    got, remedy = "the default collate_fn", "Pass collate_fn=ga.ragged_collate to the DataLoader."
    return checks.argument_error("DeviceLoader", "loader", "one that packs images of different sizes", got, remedy)


def stateless(name: str, got: str) -> ValueError:
    """The error for a loader that does not keep its state."""
    remedy = "Use torchdata.stateful_dataloader.StatefulDataLoader."
    expected = "a loader with state_dict() and load_state_dict()"
    return checks.argument_error(f"DeviceLoader.{name}", "loader", expected, got, remedy)
