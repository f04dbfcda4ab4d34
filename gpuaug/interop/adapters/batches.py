"""What adapters share: the batch of a framework, and the step that augments it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.data import wrapped
from gpuaug.data.fields import Fields
from gpuaug.data.transport import pictures
from gpuaug.data.transport import targets as travel
from gpuaug.data.transport.collate import collate
from gpuaug.data.transport.encoded import Encoded
from gpuaug.engine.distributed import world

__all__ = ["Collate", "augmented", "checked_augment", "named_collate", "warn_of_ranks"]

Collate = Callable[[Sequence[object]], dict[str, object]]


def checked_augment(owner: str, augment: object) -> Augment:
    """The argument `augment` of an adapter."""
    if not isinstance(augment, Augment):
        raise checks.argument_error(owner, "augment", "a gpuaug.Augment", checks.describe(augment))
    return augment


def named_collate(fields: tuple[str, str, str | None], names: tuple[str, str]) -> Collate:
    """A collate function for dicts with these fields, which returns a dict with these names and "index"."""
    for argument, name in zip(("pixels", "targets"), names, strict=True):
        if not isinstance(name, str):
            raise checks.argument_error("trainer_collate", argument, "a name, a str", checks.describe(name))
    return _Named(collate(*fields), (*names, "index"))


@dataclass(frozen=True)
class _Named:
    """A collate function that returns a tuple, as one that returns a dict; None is left out."""

    packed: Callable[[Sequence[object]], Any]
    names: tuple[str, ...]

    def __call__(self, samples: Sequence[object]) -> dict[str, Any]:
        values = zip(self.names, self.packed(samples), strict=True)
        return {name: value for name, value in values if value is not None}


def augmented(
    owner: str, augment: Augment, batch: Any, training: bool, fields: Fields | None, device: torch.device
) -> Any:
    """A batch of a framework after the training or the evaluation list.

    Args:
        owner: Name of the adapter, for errors.
        augment: Module, whose mode is set.
        batch: A tuple, or with `fields` a mapping.
        training: Whether the training list is used.
        fields: Names of a mapping's fields.
        device: Device on which the batch is augmented.
    """
    images, labels, index, rest = wrapped.split_batch(batch, fields, owner)
    if isinstance(images, Encoded):
        images, shown = images.decode(device)
        labels, rest = travel.shown(labels, shown), travel.shown(rest, shown)
    images, labels = pictures.moved(images, device, True), travel.moved(labels, device, non_blocking=True)
    augment.train(training)
    augment.opaque.to(device)
    result = augment(images, labels, index=index)
    return result if fields is None else fields.join(result, rest)


def warn_of_ranks(owner: str, loader: Any) -> None:
    """Warn if every rank of a distributed group would train on all images of a loader."""
    ranks, _ = world()
    if ranks > 1 and wrapped.shows_all(loader):
        warnings.warn(wrapped.UNSHARDED.format(owner=owner, ranks=ranks), stacklevel=2)
