"""Conversion of timm's transforms, found by name, without an import of timm."""

from __future__ import annotations

from typing import Any

from gpuaug.interop.arguments import even, interpolation, plain
from gpuaug.interop.rules import Read, Rule, nothing, to_tensor
from gpuaug.transforms.base import Transform
from gpuaug.transforms.crop import RandomResizedCrop

__all__ = ["TIMM", "of_timm"]


def of_timm(step: Any) -> str | None:
    """The name of the class, for a transform of timm; None for other objects."""
    cls = step.__class__
    return cls.__name__ if cls.__module__ == "timm.data.transforms" else None


def _timm_crop(step: Any, read: Read) -> list[Transform]:
    """RandomResizedCropAndInterpolation with one interpolation. With several, timm draws one for each image."""
    if isinstance(step.interpolation, (tuple, list)):
        raise ValueError("it draws one of several interpolations; give one interpolation")
    word = interpolation(step.interpolation)
    return [RandomResizedCrop(even(step.size), plain(step.scale), plain(step.ratio), word)]


TIMM: dict[str | None, Rule] = {
    "MaybeToTensor": to_tensor,
    "MaybePILToTensor": nothing,
    "RandomResizedCropAndInterpolation": _timm_crop,
}
