"""Loaders of other libraries: where the DataLoader inside of them is, and a copy of them around another one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader, Dataset

from gpuaug.profiler.measure.fastai import FastaiLoader, is_fastai

__all__ = ["around", "check_rebatched", "inside", "instead", "is_data_loader", "set_class", "training_loader"]


def is_data_loader(value: Any) -> bool:
    """Whether the class is torch's DataLoader or derives from it. Accelerate's loaders only say so of themselves."""
    return issubclass(type(value), DataLoader)


def training_loader(given: Any) -> Any:
    """The loader that trains: of a DataModule, a Trainer and fastai's DataLoaders; anything else as it is.

    The hooks of a DataModule are called as by a Trainer of Lightning: prepare_data, setup("fit"), train_dataloader.

    Raises:
        ValueError: If there are several.
    """
    if isinstance(given, type) or hasattr(given, "__iter__"):
        return given
    found = given
    if callable(getattr(given, "get_train_dataloader", None)):  # Hugging Face's Trainer
        found = given.get_train_dataloader()
    elif callable(getattr(given, "train_dataloader", None)):
        if callable(getattr(given, "prepare_data", None)):
            given.prepare_data()
        if callable(getattr(given, "setup", None)):
            given.setup("fit")
        found = given.train_dataloader()
    elif _of(given, "fastai") and hasattr(given, "loaders"):
        found = given.train
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        if len(found) != 1:
            raise ValueError(_several(type(given).__name__, len(found)))
        found = found[0]
    return found


def inside(wrapper: Any) -> Any:
    """The loader that a wrapper reads from; None if it has none that is known.

    Raises:
        ValueError: If it reads from several, or leaves out batches.
    """
    if _is_accelerate(wrapper):
        if wrapper.skip_batches:
            raise ValueError(
                f"profile: `loader` must read all batches, got {type(wrapper).__name__}, which skips "
                f"{wrapper.skip_batches}. Pass the loader from before skip_first_batches."
            )
        return wrapper.base_dataloader
    if _is_combined(wrapper):
        if len(wrapper.flattened) != 1:
            raise ValueError(_several(type(wrapper).__name__, len(wrapper.flattened)))
        return wrapper.flattened[0]
    if _is_web(wrapper):
        return wrapper.pipeline[0]
    if is_fastai(wrapper):
        return FastaiLoader(wrapper).loader
    return getattr(wrapper, "loader", None)


def around(wrapper: Any, inner: Any) -> Any:
    """A copy of a wrapper around another loader.

    Raises:
        ValueError: If it cannot be copied.
    """
    if _is_accelerate(wrapper):
        twin = object.__new__(type(wrapper))  # its own __reduce__ would make another DataLoader
        twin.__dict__.update(vars(wrapper), base_dataloader=inner)
        return twin
    if _is_combined(wrapper):
        twin = copy.copy(wrapper)
        twin._iterator = None
        twin.flattened = [inner]
        return twin
    if _is_web(wrapper):
        twin = copy.copy(wrapper)
        twin.pipeline = [_Source(inner), *wrapper.pipeline[1:]]
        return twin
    if is_fastai(wrapper):
        return FastaiLoader(wrapper, inner)
    twin = copy.copy(wrapper)
    try:
        twin.__dict__["loader"] = inner
    except AttributeError:
        raise ValueError(
            f"profile: `loader` must have a writable attribute `loader`, got {type(wrapper).__name__}, which has no "
            "__dict__. Pass the DataLoader that it reads from."
        ) from None
    return twin


class _Source:
    """A first stage of WebDataset that reads from a loader."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __call__(self) -> Any:
        return iter(self.loader)


def _of(value: Any, library: str) -> bool:
    """Whether the class of a value, or one that it derives from, is of a library."""
    return any(kind.__module__.partition(".")[0] == library for kind in type(value).__mro__)


def _is_accelerate(value: Any) -> bool:
    return _of(value, "accelerate") and hasattr(value, "base_dataloader")


def _is_combined(value: Any) -> bool:
    return type(value).__name__ == "CombinedLoader" and hasattr(value, "flattened")


def _is_web(value: Any) -> bool:
    stages = getattr(value, "pipeline", None) if _of(value, "webdataset") else None
    return isinstance(stages, list) and bool(stages) and is_data_loader(stages[0])


def _several(kind: str, count: int) -> str:
    return (
        f"profile: `loader` must read from one DataLoader, got {kind} with {count}. Profile each of them by itself: "
        "pass one."
    )


def instead(value: Any) -> str:
    """A sentence that says what to pass instead of something that has no DataLoader inside."""
    if isinstance(value, Dataset):
        return "Pass a DataLoader of this data set, such as DataLoader(dataset, batch_size, num_workers=...)."
    if isinstance(value, Mapping) or (isinstance(value, (list, tuple)) and value):
        return "Profile each loader by itself: pass one of them."
    if callable(getattr(value, "train_dataloader", None)) or callable(getattr(value, "get_train_dataloader", None)):
        return "Inside of a `with` block, pass the loader that you iterate over, or use `gpuaug profile FILE.py:NAME`."
    if hasattr(value, "dls"):  # a Learner of fastai
        return "Pass its dls.train."
    if _of(value, "torchdata"):
        return "Put its source into a data set, and pass a DataLoader of that."
    if hasattr(value, "__next__"):
        return "Pass the loader from which this iterator was made, or a function that makes the loader."
    return "Pass the DataLoader that it reads from."


def check_rebatched(wrapper: Any, read: int, given: int) -> None:
    """Check that a WebLoader gives the batches that its DataLoader makes, so that each has the times of one.

    Args:
        wrapper: Any wrapper.
        read: Number of samples in a batch of its DataLoader.
        given: Number of samples in a batch that it gives.

    Raises:
        ValueError: If the numbers differ.
    """
    if _is_web(wrapper) and read != given:
        raise ValueError(
            f"profile: `loader` must give the batches that its DataLoader makes, got {type(wrapper).__name__}, which "
            f"makes batches of {given} from batches of {read}. Batch in the workers: "
            f"WebLoader(dataset.batched({given}), batch_size=None)."
        )


def set_class(value: Any, kind: type) -> None:
    """Give an object another class, also where it has a property `__class__`, as Accelerate's loaders have.

    Raises:
        TypeError: If its memory has another layout.
    """
    vars(object)["__class__"].__set__(value, kind)
