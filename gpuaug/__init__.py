"""gpuaug: image augmentation for training, on whole batches, as one nn.Module on the CPU or the GPU."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "JPEG",
    "OPS",
    "RGB",
    "AugMix",
    "Augment",
    "AutoAugment",
    "CenterCrop",
    "ClampBoundingBoxes",
    "ColorJitter",
    "Compose",
    "CutMix",
    "DeviceLoader",
    "Draw",
    "ElasticTransform",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "Identity",
    "Lambda",
    "LinearTransformation",
    "MixUp",
    "MotionBlur",
    "Normalize",
    "Opaque",
    "Pad",
    "PadToLargest",
    "Ragged",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomChoice",
    "RandomCrop",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomIoUCrop",
    "RandomOrder",
    "RandomPerspective",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomResize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShortestSize",
    "RandomSolarize",
    "RandomVerticalFlip",
    "RandomZoomOut",
    "Resize",
    "SanitizeBoundingBoxes",
    "ScaleJitter",
    "ToDtype",
    "TrivialAugmentWide",
    "collate",
    "data",
    "from_torchvision",
    "invert",
    "profile",
    "profiler",
    "ragged_collate",
    "stage",
]

# The module of each name, imported when the name is asked for: the command line and the profiler need no engine.
# Names that are not listed are transforms.
MODULES = {
    "OPS": "gpuaug.transforms.base",
    "Augment": "gpuaug.augment",
    "ClampBoundingBoxes": "gpuaug.transforms.targets",
    "DeviceLoader": "gpuaug.data.loader",
    "Draw": "gpuaug.augment",
    "Opaque": "gpuaug.transforms.opaque",
    "Ragged": "gpuaug.ragged",
    "PadToLargest": "gpuaug.transforms.sizes",
    "RandomIoUCrop": "gpuaug.transforms.iou",
    "RandomResize": "gpuaug.transforms.sizes",
    "RandomShortestSize": "gpuaug.transforms.sizes",
    "RandomZoomOut": "gpuaug.transforms.sizes",
    "SanitizeBoundingBoxes": "gpuaug.transforms.targets",
    "ScaleJitter": "gpuaug.transforms.sizes",
    **dict.fromkeys(("RandomApply", "RandomChoice", "RandomOrder"), "gpuaug.interop.torchvision"),
    "collate": "gpuaug.data.transport.collate",
    "from_torchvision": "gpuaug.interop.torchvision",
    "invert": "gpuaug.engine.invert",
    "profile": "gpuaug.profiler",
    "ragged_collate": "gpuaug.data.transport.collate",
    "stage": "gpuaug.profiler",
}
SUBMODULES = ("data", "profiler")

if TYPE_CHECKING:
    from gpuaug import data, profiler
    from gpuaug.augment import Augment, Draw
    from gpuaug.data.loader import DeviceLoader
    from gpuaug.data.transport.collate import collate, ragged_collate
    from gpuaug.engine.invert import invert
    from gpuaug.interop.torchvision import from_torchvision
    from gpuaug.profiler import profile, stage
    from gpuaug.ragged import Ragged
    from gpuaug.transforms import *
    from gpuaug.transforms.base import OPS
    from gpuaug.transforms.iou import RandomIoUCrop
    from gpuaug.transforms.opaque import Opaque
    from gpuaug.transforms.sizes import PadToLargest, RandomResize, RandomShortestSize, RandomZoomOut, ScaleJitter
    from gpuaug.transforms.targets import ClampBoundingBoxes, SanitizeBoundingBoxes
else:  # a type checker then reports names that are not there

    def __getattr__(name: str) -> object:
        """A public name, imported now; a name that stands in no table is a transform."""
        if name in SUBMODULES:
            return import_module(f"gpuaug.{name}")
        if name not in __all__:
            raise AttributeError(f"module 'gpuaug' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(MODULES.get(name, "gpuaug.transforms")), name)
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
