"""Recommendations that follow from the loader's code alone, whatever the measured times are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from gpuaug.profiler.judge.advice import Advice
from gpuaug.profiler.judge.paste import owner_of
from gpuaug.profiler.measure.clock import Timed

__all__ = ["code_checks"]

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


def code_checks(loader: DataLoader[Any]) -> list[Advice]:
    """Mistakes in the code of a loader and its data set. They have no predicted gain."""
    found = []
    names = [name for name, _ in flat(_transform(loader.dataset))]
    generators = sorted(set(_generators(loader.dataset)))
    if generators and loader.num_workers > 1 and loader.worker_init_fn is None:
        title = f"Every worker has a copy of {generators[0]}, so all workers draw the same numbers."
        how = "# create it in worker_init_fn from torch.initial_seed(), or use torch's global generator"
        found.append(Advice("worker-seeding", title, None, how))
    drawn = [name for name in names if is_random(name)]
    if drawn and _in_order(loader):
        title = f"This loader does not shuffle, as for validation, but its data set augments: {', '.join(drawn[:3])}."
        how = "# use Resize and CenterCrop for validation; use shuffle=True for training"
        found.append(Advice("augmented-validation", title, None, how))
    if "Normalize" in names:
        after = [name for name in names[names.index("Normalize") + 1 :] if name not in AFTER_NORMALIZE]
        if after:
            title = f"{', '.join(after)} after Normalize: colour steps expect [0, 1] or [0, 255]; floats are slower."
            found.append(Advice("normalize-not-last", title, None, "# put Normalize last, only RandomErasing after it"))
    return found


def is_random(name: str) -> bool:
    """Whether a transform is random, by its class name."""
    return any(word in name for word in RANDOM)


def _in_order(loader: DataLoader[Any]) -> bool:
    """Whether a loader certainly reads its samples in order; False if another class could shuffle them."""
    batches: Any = loader.batch_sampler
    if isinstance(loader.dataset, IterableDataset) or type(batches) is not BatchSampler:
        return False
    sampler: Any = batches.sampler
    return type(sampler) is SequentialSampler or (type(sampler) is DistributedSampler and not sampler.shuffle)


def _transform(dataset: Any) -> Any:
    found = owner_of(dataset)
    return found[1] if found else None


def flat(transform: Any) -> Iterator[tuple[str, Any]]:
    """(class name, step) of each step of a composition, in order; compositions inside it are flattened."""
    if transform is None:
        return
    inner = getattr(transform, "transforms", None)
    if isinstance(inner, (list, tuple)):
        for step in inner:
            yield from flat(step)
        return
    function: Any = transform.__dict__["_function"] if isinstance(transform, Timed) else transform
    yield getattr(function, "__name__", type(function).__name__), function


def _generators(dataset: Any) -> Iterator[str]:
    """Names of the attributes of a data set and its steps that are random generators."""
    owners = [(type(dataset).__name__, dataset)]
    owners += [(name, step) for name, step in flat(_transform(dataset))]
    for name, owner in owners:
        if type(owner).__module__.partition(".")[0] in ("albumentations", "torchvision"):
            continue  # these libraries seed themselves in each worker
        for attribute, value in vars(owner).items() if hasattr(owner, "__dict__") else ():
            if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
                yield f"{name}.{attribute}"
