"""fastai's DataLoader, which runs torch's workers by itself, with a DataLoader of torch inside: the same batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from gpuaug.profiler.measure.clock import Timed

__all__ = ["FastaiLoader", "is_fastai"]


def is_fastai(value: Any) -> bool:
    """Whether this is a DataLoader of fastai."""
    home = any(kind.__module__.startswith("fastai.data.") for kind in type(value).__mro__)
    return home and hasattr(value, "fake_l")


class FastaiLoader:
    """A loader of fastai's batches, made from samples in torch's workers as fastai makes them.

    The given loader is not changed; its data set and its transforms are shared.

    Args:
        given: A DataLoader of fastai.
        loader: Loader to read batches from. None: a DataLoader with the same settings. Else a copy of that one, or
            what shows its attributes.

    Attributes:
        loader: DataLoader of whole batches, before they go to the device and through `after_batch`.
    """

    def __init__(self, given: Any, loader: Any = None) -> None:
        self.batches = _Batches(given) if loader is None else _batches_of(loader)
        self.loader = loader
        if loader is None:
            settings = given.fake_l
            self.loader = DataLoader(
                self.batches,
                batch_size=None,
                num_workers=settings.num_workers,
                collate_fn=_unchanged,
                pin_memory=settings.pin_memory,
                timeout=settings.timeout,
                persistent_workers=settings.persistent_workers,
                worker_init_fn=settings.worker_init_fn,
            )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        """One epoch, as in fastai's own `__iter__`."""
        own = self.batches.d
        own.randomize()
        own.before_iter()
        own._DataLoader__idxs = own.get_idxs()  # read by `sample`, in the workers too
        for batch in self.loader:
            found = tuple(batch) if own.pin_memory and type(batch) is list else batch
            if own.device is not None:
                found = _to_device(found, own.device)
            yield own.after_batch(found)
        own.after_iter()


class _Batches(IterableDataset[Any]):
    """The batches of a copy of a loader of fastai. Each worker makes its part of them.

    Attributes:
        d: The copy, under the name by which fastai's worker_init_fn finds it.
        transform: Its transforms of a sample, under the name by which the profiler finds them.
    """

    def __init__(self, given: Any) -> None:
        self.d = copy.copy(given)
        self.d.create_batch = Timed(given.create_batch, "collate")
        steps = getattr(getattr(given.after_item, "fs", None), "items", None)
        self.transform = _Steps(steps) if isinstance(steps, list) else None

    def __len__(self) -> int:
        return len(self.d)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.d.create_batches(self.d.sample()))


def _batches_of(loader: Any) -> _Batches:
    """The batches that a copy of `FastaiLoader(given).loader` reads."""
    found = loader.dataset
    while not isinstance(found, _Batches):
        found = found.dataset
    return found


class _Steps:
    """The list of steps of a Pipeline of fastai, which is changed in place while the steps are timed."""

    def __init__(self, steps: list[Callable[[Any], Any]]) -> None:
        self.transforms = steps

    def __call__(self, sample: Any) -> Any:
        raise NotImplementedError("fastai calls the steps itself")


def _unchanged(batch: Any) -> Any:
    return batch


def _to_device(batch: Any, device: Any) -> Any:
    from fastai.torch_core import to_device

    return to_device(batch, device)
