"""Recommendations that follow from the loader's code alone, whatever the measured times are.

A finding that is wrong costs more trust than one that is missing: what is not certain is not said.
"""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, Subset
from torch.utils.data.distributed import DistributedSampler

from gpuaug.profiler.judge.advice import Advice
from gpuaug.profiler.judge.paste import owner_of, same_draws
from gpuaug.profiler.measure.clock import Timed

__all__ = ["code_checks", "shards"]

# Steps that take pixels in [0, 1] or [0, 255]; of torchvision, Albumentations and Kornia
COLOUR = {
    "AugMix", "AutoAugment", "CLAHE", "ColorJiggle", "ColorJitter", "Equalize", "HueSaturationValue",
    "ImageCompression", "InvertImg", "JPEG", "Posterize", "RGBShift", "RandAugment", "RandomAdjustSharpness",
    "RandomAutocontrast", "RandomBrightnessContrast", "RandomEqualize", "RandomGamma", "RandomGrayscale",
    "RandomInvert", "RandomPhotometricDistort", "RandomPosterize", "RandomSolarize", "RandomToneCurve", "Solarize",
    "ToGray", "TrivialAugmentWide",
}  # fmt: skip
LIBRARIES = ("torchvision", "albumentations", "kornia", "gpuaug")  # whose Normalize subtracts means
SEEDED = ("torchvision", "albumentations")  # libraries that seed their own generators in each worker
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
ASKS = {"get_worker_info", "initial_seed", "worker_info", "split_dataset_by_node"}  # names of a worker's own part
# Libraries whose streams have a part for each worker
SHARED = ("webdataset", "datasets", "litdata", "streaming", "torchdata", "ray")
TRIED = 3  # samples that are fetched to see whether a generator draws
Generators = (np.random.Generator, np.random.RandomState, random.Random)


def code_checks(loader: DataLoader[Any]) -> list[Advice]:
    """Mistakes in the code of a loader and its data set. They have no predicted gain."""
    found = []
    steps = list(flat(_transform(loader.dataset)))
    repeated = _repeated(loader)
    if repeated is not None:
        title = f"Every worker has a copy of {repeated}, so all workers draw the same numbers."
        how = "# create it in worker_init_fn from torch.initial_seed(), or use torch's global generator"
        found.append(Advice("worker-seeding", title, None, how))
    drawn = [name for name, step in steps if is_random(name) and getattr(step, "p", 1) != 0]
    if drawn and _in_order(loader):
        title = f"This loader does not shuffle, as for validation, but its data set augments: {', '.join(drawn[:3])}."
        how = "# use Resize and CenterCrop for validation; use shuffle=True for training"
        found.append(Advice("augmented-validation", title, None, how))
    normalized = False
    after = []
    for name, step in steps:
        after += [name] if normalized and name in COLOUR else []
        normalized |= name == "Normalize" and type(step).__module__.partition(".")[0] in LIBRARIES
    if after:
        title = f"{', '.join(after)} after Normalize: colour steps expect [0, 1] or [0, 255]; floats are slower."
        found.append(Advice("normalize-not-last", title, None, "# put Normalize last, only RandomErasing after it"))
    return found


def shards(dataset: Any) -> bool:
    """Whether a data set asks which worker it is in, to take a part of the samples or a seed of its own."""
    held = [value for value in getattr(dataset, "__dict__", {}).values() if isinstance(value, IterableDataset)]
    if type(dataset).__module__.partition(".")[0] in SHARED or any(map(shards, held)):
        return True
    return any(
        ASKS & set(function.__code__.co_names)
        for kind in type(dataset).__mro__
        for function in vars(kind).values()
        if isinstance(function, FunctionType) and kind.__module__ != "torch.utils.data.dataset"
    )


def is_random(name: str) -> bool:
    """Whether a transform is random, by its class name."""
    return any(word in name for word in RANDOM)


def _in_order(loader: DataLoader[Any]) -> bool:
    """Whether a loader certainly reads its samples in order; False if another class could shuffle them."""
    batches: Any = loader.batch_sampler
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset) or type(batches) is not BatchSampler:
        return False
    sampler: Any = batches.sampler
    if type(sampler) is not SequentialSampler and not (type(sampler) is DistributedSampler and not sampler.shuffle):
        return False
    if len(batches) < 2:
        return False
    while type(dataset) is Subset:
        if np.any(np.diff(np.asarray(dataset.indices)) < 0):  # shuffled once
            return False
        dataset = dataset.dataset
    return not hasattr(type(dataset), "set_epoch")  # which may shuffle in the data set


def _transform(dataset: Any) -> Any:
    found = owner_of(dataset)
    return found.transform if found else None


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


def _repeated(loader: DataLoader[Any]) -> str | None:
    """The name of a generator that draws whenever a sample is fetched, the same in each worker; None without one."""
    dataset: Any = loader.dataset
    if loader.num_workers < 2 or loader.worker_init_fn is not None or isinstance(dataset, IterableDataset):
        return None
    found = [] if shards(dataset) else list(_generators(dataset))
    before = [pickle.dumps(generator) for _, generator in found]
    try:
        twin = copy.copy(dataset)  # what it opens stays with the copy
        with same_draws():
            for index in range(min(TRIED, len(twin)) if found else 0):
                twin[index]
    except Exception:  # the user's code, called in another way
        return None
    finally:
        moved = [pickle.dumps(generator) for _, generator in found]
        for (_, generator), state in zip(found, before, strict=True):
            _restore(generator, pickle.loads(state))
    names = [name for (name, _), old, new in zip(found, before, moved, strict=True) if old != new]
    return min(names, default=None)


def _restore(generator: Any, before: Any) -> None:
    """Put a generator into the state of another."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = before.bit_generator.state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(before.get_state())
    else:
        generator.setstate(before.getstate())


def _generators(dataset: Any) -> Iterator[tuple[str, Any]]:
    """(name, generator) of the attributes of a data set and its steps that are random generators."""
    owners = [(type(dataset).__name__, dataset)]
    owners += [(name, step) for name, step in flat(_transform(dataset))]
    for name, owner in owners:
        if type(owner).__module__.partition(".")[0] in SEEDED:
            continue
        for attribute, value in vars(owner).items() if hasattr(owner, "__dict__") else ():
            if isinstance(value, Generators):
                yield f"{name}.{attribute}", value
