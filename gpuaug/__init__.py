"""gpuaug: image augmentation for training, on whole batches, as one nn.Module on the CPU or the GPU."""

from __future__ import annotations

from importlib import import_module
from os import environ
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "JPEG",
    "OPS",
    "RGB",
    "TTA",
    "AugMix",
    "Augment",
    "AutoAugment",
    "CenterCrop",
    "ClampBoundingBoxes",
    "ColorJitter",
    "Compose",
    "Conversion",
    "CornerCrop",
    "CutMix",
    "DeviceLoader",
    "Draw",
    "ElasticTransform",
    "FiveCrop",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "Identity",
    "Lambda",
    "LinearTransformation",
    "MixUp",
    "MotionBlur",
    "MultiView",
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
    "Report",
    "Resize",
    "SanitizeBoundingBoxes",
    "ScaleJitter",
    "Schedule",
    "TenCrop",
    "TimmAugMix",
    "TimmAutoAugment",
    "TimmRandAugment",
    "ToDtype",
    "TrivialAugmentWide",
    "adapters",
    "advise",
    "collate",
    "data",
    "from_albumentations",
    "from_dict",
    "from_file",
    "from_kornia",
    "from_timm",
    "from_timm_args",
    "from_torchvision",
    "invert",
    "profile",
    "profiler",
    "ragged_collate",
    "recipes",
    "show",
    "stage",
    "tune",
]

# The module of each name, imported when the name is asked for: the command line and the profiler need no engine.
# Names that are not listed are transforms.
MODULES = {
    "OPS": "gpuaug.transforms.base",
    "Augment": "gpuaug.augment",
    "ClampBoundingBoxes": "gpuaug.transforms.targets",
    "DeviceLoader": "gpuaug.data.loader",
    "Draw": "gpuaug.augment",
    "MultiView": "gpuaug.engine.multi",
    "Opaque": "gpuaug.transforms.opaque",
    "Ragged": "gpuaug.ragged",
    "PadToLargest": "gpuaug.transforms.sizes",
    "RandomIoUCrop": "gpuaug.transforms.iou",
    "RandomResize": "gpuaug.transforms.sizes",
    "RandomShortestSize": "gpuaug.transforms.sizes",
    "RandomZoomOut": "gpuaug.transforms.sizes",
    "SanitizeBoundingBoxes": "gpuaug.transforms.targets",
    "ScaleJitter": "gpuaug.transforms.sizes",
    **dict.fromkeys(("CornerCrop", "FiveCrop", "TenCrop"), "gpuaug.transforms.corners"),
    "Schedule": "gpuaug.recipes.schedule",
    **dict.fromkeys(("RandomApply", "RandomChoice", "RandomOrder"), "gpuaug.interop.torchvision"),
    "advise": "gpuaug.advice",
    "TTA": "gpuaug.engine.tta",
    "collate": "gpuaug.data.transport.collate",
    **dict.fromkeys(("from_dict", "from_file"), "gpuaug.recipes.config"),
    **dict.fromkeys(("Conversion", "Report"), "gpuaug.interop.report"),
    "from_albumentations": "gpuaug.interop.albumentations",
    "from_kornia": "gpuaug.interop.kornia",
    **dict.fromkeys(("from_timm", "from_timm_args"), "gpuaug.interop.timm_strings"),
    "from_torchvision": "gpuaug.interop.torchvision",
    "invert": "gpuaug.engine.invert",
    "profile": "gpuaug.profiler",
    "ragged_collate": "gpuaug.data.transport.collate",
    "show": "gpuaug.sheet",
    "stage": "gpuaug.profiler",
    "tune": "gpuaug.tuning",
}
SUBMODULES = {
    "adapters": "gpuaug.interop.adapters",
    "data": "gpuaug.data",
    "profiler": "gpuaug.profiler",
    "recipes": "gpuaug.recipes",
}

if TYPE_CHECKING:
    from gpuaug import data, profiler, recipes
    from gpuaug.advice import advise
    from gpuaug.augment import Augment, Draw
    from gpuaug.data.loader import DeviceLoader
    from gpuaug.data.transport.collate import collate, ragged_collate
    from gpuaug.engine.invert import invert
    from gpuaug.engine.multi import MultiView
    from gpuaug.engine.tta import TTA
    from gpuaug.interop import adapters
    from gpuaug.interop.albumentations import from_albumentations
    from gpuaug.interop.kornia import from_kornia
    from gpuaug.interop.report import Conversion, Report
    from gpuaug.interop.timm_strings import from_timm, from_timm_args
    from gpuaug.interop.torchvision import from_torchvision
    from gpuaug.profiler import profile, stage
    from gpuaug.ragged import Ragged
    from gpuaug.recipes.config import from_dict, from_file
    from gpuaug.recipes.schedule import Schedule
    from gpuaug.sheet import show
    from gpuaug.transforms import *
    from gpuaug.transforms.base import OPS
    from gpuaug.transforms.corners import CornerCrop, FiveCrop, TenCrop
    from gpuaug.transforms.iou import RandomIoUCrop
    from gpuaug.transforms.opaque import Opaque
    from gpuaug.transforms.sizes import PadToLargest, RandomResize, RandomShortestSize, RandomZoomOut, ScaleJitter
    from gpuaug.transforms.targets import ClampBoundingBoxes, SanitizeBoundingBoxes
    from gpuaug.tuning import tune
else:  # a type checker then reports names that are not there

    def __getattr__(name: str) -> object:
        """A public name, imported now; a name that stands in no table is a transform."""
        if name in SUBMODULES:
            return import_module(SUBMODULES[name])
        if name not in __all__:
            raise AttributeError(f"module 'gpuaug' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(MODULES.get(name, "gpuaug.transforms")), name)
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


if environ.get("GPUAUG_PROFILE"):  # `GPUAUG_PROFILE=1 python train.py` reports on the loaders of a script
    import_module("gpuaug.profiler.unchanged").start(environ["GPUAUG_PROFILE"])
