"""Recommendations as code: lines that a user pastes below the one that makes `loader`, and that change that loader."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import random
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data._utils.collate import default_collate, default_convert

from gpuaug.profiler.measure.instrument import is_dataset

__all__ = [
    "AS_TENSORS", "Owner", "is_plain", "late_floats", "moved_code", "one_thread", "owner_of", "packable", "packed_code",
    "rebuilt", "same_draws", "stacks", "with_arguments",
]  # fmt: skip

IMPORT = "from torch.utils.data import DataLoader"
AS_TENSORS = """import numpy as np
import torch
from torch.utils._pytree import tree_map

collate = loader.collate_fn

def as_tensors(samples):
    return tree_map(lambda part: torch.from_numpy(part) if isinstance(part, np.ndarray) else part, collate(samples))
"""
FLOATS = ("ToDtype", "Normalize", "ConvertImageDtype", "ToPureTensor")  # steps that a device can do as well
DEPTH = 4  # nested data sets that are searched, at most
WIDTH = 88  # characters of a line of code

# Arguments of DataLoader that are shown where they are not the default, in this order
DEFAULTS: dict[str, Any] = {
    "num_workers": 0,
    "collate_fn": default_collate,
    "pin_memory": False,
    "drop_last": False,
    "timeout": 0,
    "worker_init_fn": None,
    "multiprocessing_context": None,
    "generator": None,
    "prefetch_factor": None,
    "persistent_workers": False,
    "pin_memory_device": "",
    "in_order": True,
}
WORKERS_ONLY = ("prefetch_factor", "persistent_workers", "timeout", "multiprocessing_context", "in_order")


def is_plain(loader: Any) -> bool:
    """Whether a loader is a DataLoader of torch or torchdata, which its arguments describe fully."""
    return type(loader) is DataLoader or type(loader).__module__.startswith("torchdata.stateful_dataloader")


def rebuilt(loader: DataLoader[Any], dataset: str = "loader.dataset", **changes: str) -> str:
    """Lines that make a loader again with other arguments.

    Args:
        loader: The loader; what cannot be written down is taken from the name `loader`.
        dataset: Expression for its data set.
        changes: Expressions for arguments, by name.
    """
    workers = int(changes.get("num_workers", str(loader.num_workers)))
    arguments = {**_batches(loader), **_others(loader)}
    if not workers:
        arguments = {name: value for name, value in arguments.items() if name not in WORKERS_ONLY}
    given = {name: value for name, value in changes.items() if (name, value) != ("num_workers", "0")}
    arguments = {name: value for name, value in arguments.items() if name not in changes} | given
    kind = type(loader).__name__
    where = IMPORT if type(loader) is DataLoader else f"from torchdata.stateful_dataloader import {kind}"
    listed = [dataset, *(f"{name}={value}" for name, value in arguments.items())]
    return f"{where}\n\n{_call(f'loader = {kind}', listed)}"


def with_arguments(loader: DataLoader[Any] | None, before: str = "", **changes: str) -> str:
    """Lines that give a loader other arguments; where its class may need more, a comment that says which.

    Args:
        loader: The loader; None if it is not known.
        before: Lines that come first, such as a function that an argument names.
        changes: Expressions for the arguments, by name.
    """
    if loader is not None and is_plain(loader):
        return "\n".join(filter(None, [before, rebuilt(loader, **changes)]))
    listed = ", ".join(f"{name}={value}" for name, value in changes.items())
    return "\n".join(filter(None, [before, f"# where the loader is made: DataLoader(..., {listed})"]))


def _batches(loader: DataLoader[Any]) -> dict[str, str]:
    """The arguments that say which samples make a batch."""
    batches: Any = loader.batch_sampler
    if batches is not None and (type(batches) is not BatchSampler or loader.batch_size is None):
        return {"batch_sampler": "loader.batch_sampler"}
    found = {"batch_size": repr(loader.batch_size)}
    if not isinstance(loader.dataset, IterableDataset):
        sampler = loader.sampler
        if type(sampler) is RandomSampler and _is_shuffle(sampler, loader):
            found["shuffle"] = "True"
        elif type(sampler) is not SequentialSampler:
            found["sampler"] = "loader.sampler"
    return found | ({"drop_last": "True"} if loader.drop_last else {})


def _is_shuffle(sampler: Any, loader: DataLoader[Any]) -> bool:
    """Whether `shuffle=True` makes the same sampler."""
    whole = sampler._num_samples is None and not sampler.replacement
    return whole and sampler.generator is loader.generator and sampler.data_source is loader.dataset


def _others(loader: DataLoader[Any]) -> dict[str, str]:
    """The other arguments that are not the default."""
    found = {}
    for name, default in DEFAULTS.items():
        value = getattr(loader, name, default)
        usual = value == default or (name, value) == ("prefetch_factor", 2) or value is default_convert
        if name == "drop_last" or usual:
            continue
        plain = isinstance(value, (bool, int, float, str))
        found[name] = repr(value) if plain else f"loader.{name}"
    return found


def _call(name: str, arguments: list[str]) -> str:
    """A call, on one line if it fits."""
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), ")"])


# ---- single recommendations ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Owner:
    """Where a data set keeps its transform.

    Attributes:
        chain: The data sets, from the outermost one to the one with the transform.
        names: Attribute of each data set that holds the next one.
        transform: The transform.
    """

    chain: tuple[Any, ...]
    names: tuple[str, ...]
    transform: Any

    @property
    def path(self) -> str:
        """Expression for the data set with the transform."""
        return ".".join(("loader.dataset", *self.names))


def owner_of(dataset: Any) -> Owner | None:
    """The data set with a `transform`, in any attribute of those around it; None without one, or with several.

    Only attributes that are stored are read: no property of the user is called.
    """
    found = list(_owners(dataset, (), (), set()))
    return found[0] if len(found) == 1 else None


def _owners(dataset: Any, chain: tuple[Any, ...], names: tuple[str, ...], seen: set[int]) -> Iterator[Owner]:
    if len(chain) == DEPTH or id(dataset) in seen:
        return
    seen.add(id(dataset))
    chain = (*chain, dataset)
    own = getattr(dataset, "__dict__", {})
    transform = own["transform"] if "transform" in own else inspect.getattr_static(type(dataset), "transform", None)
    if callable(transform) and ("transform" in own or not hasattr(transform, "__get__")):  # no method and no property
        yield Owner(chain, names, transform)
        return
    for name, value in list(own.items()):
        if name.isidentifier() and is_dataset(value):
            yield from _owners(value, chain, (*names, name), seen)


def stacks(loader: DataLoader[Any], count: int = 8) -> bool:
    """Whether default_collate gives the same batch of a few samples as the loader's own function, and is another."""
    own: Any = loader.collate_fn
    if own in (default_collate, default_convert) or isinstance(loader.dataset, IterableDataset):
        return False
    try:
        with same_draws():
            data = copy.copy(loader.dataset)  # what it opens stays with the copy
            length = len(data)  # type: ignore[arg-type]
            samples = [data[number] for number in range(0, length, max(1, length // count))][:count]
            return len(samples) > 1 and same(own(list(samples)), default_collate(list(samples)))  # type: ignore[no-untyped-call]
    except Exception:  # the user's code, called in another way
        return False


@contextlib.contextmanager
def same_draws() -> Iterator[None]:
    """Draw numbers without a change to the global generators of Python, NumPy and torch: the job goes on with them."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def same(one: Any, other: Any) -> bool:
    """Whether two batches hold the same values in the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.all(one == other))


def one_thread(loader: DataLoader[Any] | None) -> str:
    """A worker_init_fn that gives each worker one thread, and calls the present one."""
    lines = ["import torch", ""]
    own = loader is not None and loader.worker_init_fn is not None
    if own:
        lines += ["own_init_fn = loader.worker_init_fn", ""]
    lines += ["def one_thread(worker):"]
    lines += ["    own_init_fn(worker)"] if own else []
    lines += ["    torch.set_num_threads(1)"]
    if "cv2" in sys.modules:
        lines.insert(1, "import cv2")
        lines += ["    cv2.setNumThreads(0)"]
    return "\n".join([*lines, ""])


def late_floats(loader: DataLoader[Any]) -> str | None:
    """Lines that move a transform's last ToDtype and Normalize to the device; None if it does not end with them."""
    found = owner_of(loader.dataset)
    if found is None or not is_plain(loader) or loader.collate_fn is not default_collate:
        return None
    steps = getattr(found.transform, "transforms", None)
    if not isinstance(steps, list):
        return None
    count = 0
    while count < len(steps) and type(steps[-1 - count]).__name__ in FLOATS:
        count += 1
    pixels = {type(step).__name__ for step in steps[: len(steps) - count]}
    if not count or not pixels & {"PILToTensor", "ToImage"} or pixels & {"ToTensor", "ToDtype", "ConvertImageDtype"}:
        return None
    place = f"{found.path}.transform.transforms"
    return (
        "import gpuaug as ga\n\n"
        f"augment = ga.Augment(ga.from_torchvision({place}[-{count}:]))\n"
        f"del {place}[-{count}:]  # workers send uint8\n"
        f'loader = ga.DeviceLoader(loader, "{_device()}", augment)'
    )


def moved_code(loader: DataLoader[Any], place: str, both: bool, device: str) -> str:
    """Lines that move the transform of a data set to a device.

    Args:
        loader: The loader.
        place: Expression for the data set with the transform.
        both: Whether that data set keeps its transform in `transforms` too, as torchvision's do.
        device: Device that augments.
    """
    lines = [
        "import gpuaug as ga",
        "from torchvision.transforms import v2",
        "",
        f"augment = ga.Augment(ga.from_torchvision({place}.transform))",
        f"{place}.transform = v2.ToImage()  # workers only decode",
        *([f"{place}.transforms.transform = v2.ToImage()"] if both else []),
        with_arguments(loader, collate_fn="ga.ragged_collate"),
        f'loader = ga.DeviceLoader(loader, "{device}", augment)',
    ]
    return "\n".join(lines)


def packable(dataset: Any) -> str | None:
    """The folder of a data set that `gpuaug pack` can pack: torchvision's or gpuaug's ImageFolder; None of others."""
    kind = type(dataset)
    known = kind.__name__ == "ImageFolder" and kind.__module__ in ("torchvision.datasets.folder", "gpuaug.data.dataset")
    root = getattr(dataset, "root", None)
    return os.fspath(root) if known and isinstance(root, (str, os.PathLike)) else None


def packed_code(loader: DataLoader[Any], root: str, moved: Any) -> str | None:
    """Lines that read a packed folder in place of the folder; None if what follows the data set would not fit.

    Args:
        loader: The loader of the folder.
        root: The folder.
        moved: What `move` made of the loader, or None.
    """
    own = type(loader.dataset).__module__.startswith("gpuaug.")
    if not is_plain(loader) or (moved is None and not own):
        return None
    target = root.rstrip("/\\") + "-packed"
    lines = ["import gpuaug as ga", "", f"# once, in a shell: gpuaug pack {shlex.quote(root)} {shlex.quote(target)}"]
    if not own:
        lines.append("augment = ga.Augment(ga.from_torchvision(loader.dataset.transform))")
    packed = f"ga.data.Packed({target!r})"
    lines.append(rebuilt(loader, packed, **({} if own else {"collate_fn": "ga.ragged_collate"})))
    if not own:
        lines.append(f'loader = ga.DeviceLoader(loader, "{moved.device}", augment)')
    return "\n".join(lines)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
