"""Rules about the training around a list: mixing and its labels, and the loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, SequentialSampler

from gpuaug.advice.facts import Facts, Finding, asked, dataset_of
from gpuaug.interop.torchvision import theirs
from gpuaug.transforms.mix import Mix
from gpuaug.transforms.quantile import beta_quantile

__all__ = ["RULES", "clean_share"]

OWN = 0.9  # share of a mixed sample that comes from one image, from which on it looks like that image
CLEAN = 0.21  # smallest share of samples that should look like one image: MixUp(alpha=1) of every sample leaves 0.2
GRID = 4096  # points at which a distribution is looked at


def clean_share(facts: Facts) -> tuple[float, float]:
    """(share of samples that are mixed, share of all samples of which at least OWN comes from one image)."""
    mixed = clean = 0.0
    for step in facts.trained(Mix):
        mix: Any = step.transform
        middle = (np.arange(GRID) + 0.5) / GRID
        weight = beta_quantile(mix.alpha, mix.alpha)(middle)
        alone = np.maximum(weight, 1 - weight) >= OWN
        mixed, clean = mixed + step.p, clean + step.p * float(alone.mean())
    return mixed, clean + max(0.0, 1.0 - mixed)


def nothing_clean(facts: Facts) -> Iterator[Finding]:
    """MixUp and CutMix of so many samples that few look like one image."""
    mixed, clean = clean_share(facts)
    if mixed and clean < CLEAN:
        reason = f"{mixed:.0%} of the samples are mixed, and only {clean:.0%} of all look like one image"
        fix = "wrap it: RandomChoice([MixUp(...), CutMix(...)], p=[0.25, 0.25]), or use MixUp(alpha=0.2)"
        yield Finding("nothing-stays-clean", reason, fix)


def smoothed_twice(facts: Facts) -> Iterator[Finding]:
    """Labels that are smoothed by the loss and by mixing."""
    mixed, clean = clean_share(facts)
    smoothing = max(
        [facts.label_smoothing, *(getattr(s.transform, "label_smoothing", 0.0) for s in facts.trained(Mix))]
    )
    if smoothing >= 0.1 and mixed >= 0.5 and clean < 0.5:
        reason = f"{mixed:.0%} of the labels are mixed, and label smoothing of {smoothing:g} flattens them once more"
        yield Finding("labels-smoothed-twice", reason, "use label_smoothing=0.05 or less, or mix fewer samples")


def loader(facts: Facts) -> Iterator[Finding]:
    """A loader that is slow, or whose order or steps spoil the draws."""
    given: Any = facts.loader
    given = asked(given, "loader", given)  # of a DeviceLoader
    if given is None:
        return
    if asked(given, "num_workers") == 0 and _decodes(given):
        reason = "num_workers=0 decodes images in the process that trains, which waits for them"
        yield Finding("no-workers", reason, "use num_workers=4, or as many as there are cores for each device")
    elsewhere = str(asked(facts.loader, "device", "cpu"))
    if elsewhere.startswith("cuda") and asked(given, "pin_memory", True) is False:
        yield Finding("not-pinned", "the copy of a batch to the device waits for it", "use pin_memory=True")
    sampler, batches = asked(given, "sampler"), asked(given, "batch_sampler")
    if isinstance(batches, BatchSampler):
        sampler = batches.sampler
    if isinstance(sampler, SequentialSampler) and any(facts.trained(Mix)):
        reason = "the loader does not shuffle, so that MixUp and CutMix mix neighbours, which folders sort by class"
        yield Finding("not-shuffled", reason, "use shuffle=True")
    for name, transform in _random_in_workers(given):
        reason = f"the data set's `{name}` augments too ({transform}), on the CPU and before the list does"
        yield Finding("augmented-twice", reason, "leave decoding to the workers: ga.data.ImageFolder, or PILToTensor")
    if asked(given, "worker_init_fn") is not None and _random_in_workers(given):
        reason = "worker_init_fn may give all workers and epochs the same seed"
        yield Finding("workers-seeded-alike", reason, "leave it out: torch seeds each worker, and the list needs none")


RULES = (nothing_clean, smoothed_twice, loader)


# ---- what the rules read ---------------------------------------------------------------------------------------------


def _decodes(loader: Any) -> bool:
    """Whether a data set reads files: one of tensors in memory needs no workers."""
    dataset = asked(loader, "dataset")
    return not isinstance(dataset, torch.utils.data.TensorDataset) and asked(dataset, "__getitem__") is not None


def _random_in_workers(loader: Any) -> list[tuple[str, str]]:
    """The random transforms of a data set of torchvision's kind: (attribute, name of the transform)."""
    found = []
    for name in ("transform", "transforms"):
        given = asked(dataset_of(loader, name), name)
        found += [(name, type(leaf).__name__) for leaf in _leaves(given) if _is_random(leaf)]
    return list(dict.fromkeys(found))


def _leaves(transform: Any) -> Iterator[Any]:
    inner = asked(transform, "transforms")
    if isinstance(transform, (list, tuple)) or isinstance(inner, (list, tuple, torch.nn.Module)):
        for child in transform if inner is None else inner:
            yield from _leaves(child)
    elif transform is not None:
        yield transform


RANDOM = ("Random", "ColorJitter", "AutoAugment", "TrivialAugment", "AugMix", "RandAugment", "ElasticTransform")


def _is_random(leaf: Any) -> bool:
    return theirs(leaf) and type(leaf).__name__.startswith(RANDOM)
