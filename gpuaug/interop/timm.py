"""timm's transforms, by name: timm itself is not imported."""

from __future__ import annotations

from typing import Any

from gpuaug.interop.arguments import even, interpolation, plain
from gpuaug.interop.rules import Read, Rule, nothing, to_tensor
from gpuaug.transforms.base import Transform
from gpuaug.transforms.crop import RandomResizedCrop

__all__ = ["TIMM", "of_timm"]


def of_timm(step: Any) -> str | None:
    """The name of one of timm's transforms; None for another object."""
    cls = step.__class__
    return cls.__name__ if cls.__module__ == "timm.data.transforms" else None


def _timm_crop(step: Any, read: Read) -> list[Transform]:
    """RandomResizedCropAndInterpolation; several interpolations, one of which is drawn, are not one crop."""
    if isinstance(step.interpolation, (tuple, list)):
        raise ValueError("it draws the interpolation; give one")
    word = interpolation(step.interpolation)
    return [RandomResizedCrop(even(step.size), plain(step.scale), plain(step.ratio), word)]


TIMM: dict[str | None, Rule] = {
    "MaybeToTensor": to_tensor,
    "MaybePILToTensor": nothing,
    "RandomResizedCropAndInterpolation": _timm_crop,
}
