"""Time the transforms of a data set one by one, and common decoders, while a profile is open.

Attributes of the user's data set are replaced in place and restored afterwards. The data set is not copied, so changes
that the user's code makes during the profile are kept.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset

from gpuaug.profiler.measure.clock import Timed

__all__ = ["Patches", "decoders", "steps", "transforms"]

DISPATCHED = ("apply_without_invocation", "apply_in_invocation")  # methods of a step that AlbumentationsX calls
DEPTH = 4  # nested data sets, at most

# (module, class or "", function, name of the stage)
DECODERS = (
    ("PIL.Image", "", "open", "decode"),
    ("PIL.ImageFile", "ImageFile", "load", "decode"),
    ("cv2", "", "imread", "decode"),
    ("cv2", "", "imdecode", "decode"),
    ("simplejpeg", "", "decode_jpeg", "decode"),
    ("torchvision.io", "", "decode_image", "decode"),
    ("torchvision.io", "", "decode_jpeg", "decode"),
    ("torchvision.io", "", "decode_png", "decode"),
    ("torchvision.io", "", "read_image", "decode"),
    ("torchvision.io", "", "read_file", "read"),
    ("gpuaug.data.decode", "", "decode", "decode"),
    ("numpy", "", "load", "read"),
    ("numpy", "", "fromfile", "read"),
)


class Patches:
    """Attributes that were replaced, and their former values."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, Any, bool]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, if the owner allows it."""
        before = getattr(owner, name)
        own = name in getattr(owner, "__dict__", ()) or not hasattr(type(owner), name)
        try:
            setattr(owner, name, value)
        except (AttributeError, TypeError):
            return
        self._undo.append((owner, name, before, value, own))

    def put_all(self, owner: list[Any], values: list[Any]) -> None:
        """Set the elements of a list in place."""
        for position, (before, value) in enumerate(zip(owner, values, strict=True)):
            if value is not before:
                owner[position] = value
                self._undo.append((owner, "", before, value, True))

    def restore(self) -> None:
        """Restore the former values, except where other code has set a new one since."""
        while self._undo:
            owner, name, before, value, own = self._undo.pop()
            if isinstance(owner, list):
                owner[:] = [before if one is value else one for one in owner]
            elif getattr(owner, name, None) is value:
                if own:
                    setattr(owner, name, before)
                else:  # a method of its class
                    delattr(owner, name)


def decoders(patches: Patches | None = None) -> None:
    """Time the decoders that this process has imported. Without `patches` they are timed until the process ends."""
    patches = patches or Patches()
    if "PIL.Image" in sys.modules:
        importlib.import_module("PIL.ImageFile")  # Pillow imports it when it opens its first file
    for module, kind, name, what in DECODERS:
        owner = sys.modules.get(module)
        if kind and owner is not None:
            owner = getattr(owner, kind, None)
        function = getattr(owner, name, None)
        if function is not None and not hasattr(function, "__wrapped__"):
            patches.put(owner, name, _timed(function, what))


def _timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, timed: a plain function, since `Timed` cannot be a method."""
    from functools import wraps

    from gpuaug.profiler.measure.clock import stage

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with stage(name):
            return function(*args, **kwargs)

    return timed


def transforms(dataset: Any, patches: Patches) -> list[str]:
    """Time the transforms of a data set and of its nested data sets. Returns their names."""
    names: list[str] = []
    _transforms(dataset, patches, names, DEPTH, set())
    return names


def _transforms(dataset: Any, patches: Patches, names: list[str], depth: int, seen: set[int]) -> None:
    if depth == 0 or id(dataset) in seen or not hasattr(dataset, "__dict__"):
        return
    seen.add(id(dataset))
    for name, value in list(vars(dataset).items()):
        if isinstance(value, Dataset):
            _transforms(value, patches, names, depth - 1, seen)
        elif isinstance(value, (list, tuple)) and value and all(isinstance(one, Dataset) for one in value):
            for one in value:
                _transforms(one, patches, names, depth - 1, seen)
        elif name == "transforms" and hasattr(value, "target_transform"):  # torchvision's StandardTransform
            if getattr(value, "transform", None) is not None:
                patches.put(value, "transform", steps(value.transform, names, patches))
        elif callable(value) and is_transform(name, value):
            patches.put(dataset, name, steps(value, names, patches))


def is_transform(name: str, value: Any) -> bool:
    """Whether an attribute is a transform, by its name or by the library of its class."""
    home = type(value).__module__.partition(".")[0]
    known = any(word in name.lower() for word in ("transform", "augment", "preprocess", "tfm"))
    return (
        not isinstance(value, type)
        and "target" not in name.lower()
        and (known or home in ("albumentations", "kornia") or "transforms" in type(value).__module__)
    )


def steps(transform: Any, names: list[str], patches: Patches) -> Any:
    """Time a transform under its class name; of a composition, time each step.

    A composition is changed in place, so that changes by the user's code are kept.
    """
    if isinstance(transform, Timed) or type(transform) is Timed:
        return transform
    inner = getattr(transform, "transforms", None)
    if isinstance(inner, (list, tuple)) and inner and all(callable(step) for step in inner):
        timed = [steps(step, names, patches) for step in inner]
        if isinstance(inner, list):
            patches.put_all(inner, timed)
        else:
            patches.put(transform, "transforms", type(inner)(timed))
        return transform
    name = getattr(transform, "__name__", type(transform).__name__)
    names.append(name)
    methods = [one for one in DISPATCHED if callable(getattr(transform, one, None))]
    for method in methods:
        patches.put(transform, method, Timed(getattr(transform, method), name))
    return transform if methods else Timed(transform, name)
