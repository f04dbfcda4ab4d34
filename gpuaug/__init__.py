"""gpuaug: batched image augmentation, per sample, on the device, inside an nn.Module."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# What is asked for is imported then: the command line and the profiler need no engine.
ENGINE = (
    "gpuaug.augment",
    "gpuaug.data",
    "gpuaug.data.transport.collate",
    "gpuaug.interop.torchvision",
    "gpuaug.data.loader",
    "gpuaug.ragged",
    "gpuaug.transforms.opaque",
)
PUBLIC = ("Augment", "DeviceLoader", "Draw", "Opaque", "Ragged", "collate", "from_torchvision", "ragged_collate")
MODULES = {module.name for module in iter_modules(__path__)}
PROFILER = ("profile", "stage")

if TYPE_CHECKING:
    from gpuaug import data
    from gpuaug.augment import Augment, Draw
    from gpuaug.data import ragged_collate
    from gpuaug.data.loader import DeviceLoader
    from gpuaug.data.transport.collate import collate
    from gpuaug.interop.torchvision import from_torchvision
    from gpuaug.profiler import profile, stage
    from gpuaug.ragged import Ragged
    from gpuaug.transforms import *
    from gpuaug.transforms.base import OPS
    from gpuaug.transforms.opaque import Opaque

    __all__ = [
        "Augment", "DeviceLoader", "Draw", "Opaque", "Ragged", "collate", "data", "from_torchvision", "profile",
        "ragged_collate",
        "stage",
        *(op.__name__ for op in OPS),
    ]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in PROFILER:
        from gpuaug import profiler

        return getattr(profiler, name)
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'gpuaug' has no attribute {name!r}")
    if name in MODULES:
        return import_module(f"gpuaug.{name}")
    _load()
    try:
        return globals()[name]
    except KeyError:
        raise AttributeError(f"module 'gpuaug' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    _load()
    return sorted({*globals(), *PROFILER})


def _load() -> None:
    """Import the engine, and put its names here."""
    public = globals()
    if "__all__" in public:
        return
    engine = {name: getattr(module, name) for module in map(import_module, ENGINE) for name in module.__all__}
    import_module("gpuaug.transforms")
    ops = import_module("gpuaug.transforms.base").OPS
    public.update({name: engine[name] for name in PUBLIC}, OPS=ops, **{op.__name__: op for op in ops})
    public["__all__"] = [*PUBLIC, *PROFILER, "data", *(op.__name__ for op in ops)]
