"""Time the transforms of a data set one by one, and common decoders, while a profile is open.

Attributes of the user's data set are replaced in place and restored afterwards. The data set is not copied, so changes
that the user's code makes during the profile are kept.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from torch.utils.data import Dataset

from gpuaug.profiler.measure.clock import Timed

__all__ = ["Patches", "decoders", "steps", "transforms"]

DISPATCHED = ("apply_without_invocation", "apply_in_invocation")  # methods of a step that AlbumentationsX calls
DEPTH = 4  # nested data sets, at most
MARK = "timed_by_gpuaug"  # attribute of a function that is timed
FUNCTIONS = (FunctionType, BuiltinFunctionType)
FACTORY = 5  # position of the argument `factory` of sqlite3.connect
STORES = ("torch", "numpy", "pandas", "polars", "pyarrow", "PIL", "builtins", "collections", "h5py", "zarr", "lmdb")

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
    ("gpuaug.data.decode", "", "read", "read"),
    ("imageio.v2", "", "imread", "decode"),
    ("imageio.v3", "", "imread", "decode"),
    ("skimage.io", "", "imread", "decode"),
    ("tifffile", "", "imread", "decode"),
    ("rasterio.io", "DatasetReader", "read", "read"),
    ("h5py._hl.dataset", "Dataset", "__getitem__", "read"),
    ("zarr.core.array", "Array", "__getitem__", "read"),
    ("zipfile", "ZipFile", "read", "read"),
    ("zipfile", "ZipExtFile", "read", "read"),
    ("fsspec.spec", "AbstractBufferedFile", "read", "read"),
    ("fsspec.spec", "AbstractFileSystem", "cat_file", "read"),
    ("pathlib", "Path", "read_bytes", "read"),
    ("tarfile", "ExFileObject", "read", "read"),
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
    named: dict[Any, Any] = {}
    if "PIL.Image" in sys.modules:
        importlib.import_module("PIL.ImageFile")  # Pillow imports it when it opens its first file
    for module, kind, name, what in DECODERS:
        owner = sys.modules.get(module)
        if kind and owner is not None:
            owner = getattr(owner, kind, None)
        function = getattr(owner, name, None)
        if function is None or getattr(function, MARK, False):
            continue
        timed = _timed(function, what)
        patches.put(owner, name, timed)
        if not kind:
            named[function] = timed
    connect = getattr(sys.modules.get("sqlite3"), "connect", None)
    if connect is not None and not getattr(connect, MARK, False):
        named[connect] = _connecting(connect)
        patches.put(sys.modules["sqlite3"], "connect", named[connect])
    for module, own, function in _imported(named):
        patches.put(module, own, named[function])


def _connecting(connect: Callable[..., Any]) -> Callable[..., Any]:
    """sqlite3's `connect`, whose cursors are timed: Python does not let methods of its own classes be replaced."""
    import sqlite3
    from functools import wraps

    class Cursor(sqlite3.Cursor):
        execute = _timed(sqlite3.Cursor.execute, "read")
        fetchone = _timed(sqlite3.Cursor.fetchone, "read")
        fetchmany = _timed(sqlite3.Cursor.fetchmany, "read")
        fetchall = _timed(sqlite3.Cursor.fetchall, "read")
        __next__ = _timed(sqlite3.Cursor.__next__, "read")

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, *args: Any) -> Any:
            return self.cursor().execute(*args)

    @wraps(connect)
    def connecting(*args: Any, **kwargs: Any) -> Any:
        if len(args) <= FACTORY:
            kwargs.setdefault("factory", Connection)
        return connect(*args, **kwargs)

    setattr(connecting, MARK, True)
    return connecting


def _imported(functions: Collection[Any]) -> list[tuple[Any, str, Any]]:
    """(module, name, function) where `from module import function` has put one of the functions."""
    found = []
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if type(module) is ModuleType and names:
            own = [(name, value) for name, value in list(names.items()) if type(value) in FUNCTIONS]
            found += [(module, name, value) for name, value in own if value in functions]
    return found


def _timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, timed: a plain function, since `Timed` cannot be a method."""
    from functools import wraps

    from gpuaug.profiler.measure.clock import stage

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with stage(name):
            return function(*args, **kwargs)

    setattr(timed, MARK, True)
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
    _foreign(dataset, patches, names)
    for name, value in list(vars(dataset).items()):
        if is_dataset(value):
            _transforms(value, patches, names, depth - 1, seen)
        elif isinstance(value, (list, tuple)) and value and all(is_dataset(one) for one in value):
            for one in value:
                _transforms(one, patches, names, depth - 1, seen)
        elif name == "transforms" and hasattr(value, "target_transform"):  # torchvision's StandardTransform
            if getattr(value, "transform", None) is not None:
                patches.put(value, "transform", steps(value.transform, names, patches))
        elif callable(value) and is_transform(name, value):
            patches.put(dataset, name, steps(value, names, patches))


def is_dataset(value: Any) -> bool:
    """Whether an attribute is a data set: of torch, or an object that gives samples by their numbers or one by one."""
    if isinstance(value, Dataset):
        return True
    home = type(value).__module__.partition(".")[0]
    if isinstance(value, type) or home in STORES or callable(value) or not hasattr(value, "__dict__"):
        return False
    return hasattr(type(value), "__getitem__") and hasattr(type(value), "__len__") and not isinstance(value, Mapping)


def _foreign(dataset: Any, patches: Patches, names: list[str]) -> None:
    """Time what other libraries keep elsewhere: `with_transform` of Hugging Face, `map` of WebDataset."""
    options = getattr(dataset, "_format_kwargs", None)
    if isinstance(options, dict) and callable(options.get("transform")):
        patches.put(dataset, "_format_kwargs", {**options, "transform": steps(options["transform"], names, patches)})
    stages = getattr(dataset, "pipeline", None)
    for one in stages if isinstance(stages, list) and type(dataset).__module__.startswith("webdataset.") else ():
        given = getattr(one, "args", None)
        if not isinstance(given, tuple) or not any(map(callable, given)):
            continue
        kind = getattr(getattr(one, "f", None), "__name__", "")
        if kind in ("_map", "_map_tuple"):
            timed = (steps(f, names, patches) if callable(f) and not _decodes(f) else _decoding(f) for f in given)
            patches.put(one, "args", tuple(timed))


def _decodes(function: Any) -> bool:
    """Whether a function of WebDataset decodes a sample."""
    if type(function) is Timed:
        return bool(function._name == "decode")
    return type(function).__module__.startswith("webdataset.") and type(function).__name__ == "Decoder"


def _decoding(function: Any) -> Any:
    """WebDataset's decoder, timed; anything else that is no function stays."""
    return Timed(function, "decode") if callable(function) and type(function) is not Timed else function


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
    if type(transform) is Timed:  # by another profile, of a loader with the same data set
        names.append(transform._name)
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
    if name == "<lambda>":
        name = f"lambda of line {transform.__code__.co_firstlineno}"
    names.append(name)
    methods = [one for one in DISPATCHED if callable(getattr(transform, one, None))]
    for method in methods:
        if type(getattr(transform, method)) is not Timed:
            patches.put(transform, method, Timed(getattr(transform, method), name))
    return transform if methods else Timed(transform, name)
