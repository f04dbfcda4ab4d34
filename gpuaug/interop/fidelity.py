"""How equal gpuaug's pixels are to those of torchvision, for the same draw: on tensors, and on Pillow images."""

from __future__ import annotations

from typing import Any

from gpuaug.interop.report import ALIKE, EXACT, WITHIN
from gpuaug.transforms.base import Transform
from gpuaug.transforms.blur import GaussianBlur
from gpuaug.transforms.color import ColorJitter, Grayscale, RandomAutocontrast, RandomGrayscale
from gpuaug.transforms.container import RandomApply, RandomChoice, RandomOrder
from gpuaug.transforms.crop import RandomResizedCrop, Resize
from gpuaug.transforms.degrade import GaussianNoise
from gpuaug.transforms.distort import RandomPhotometricDistort
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.geometric import RandomAffine, RandomPerspective, RandomRotation
from gpuaug.transforms.policy.policies import Policy
from gpuaug.transforms.sizes import RandomResize, RandomShortestSize, ScaleJitter

__all__ = ["ORDER", "of_pillow", "of_tensors", "weakest"]

ORDER = (EXACT, WITHIN, ALIKE)
Found = tuple[str, str]  # fidelity, and why it is not exact

WARPS = (RandomRotation, RandomAffine, RandomPerspective)
RESIZES = (Resize, RandomResizedCrop, RandomResize, RandomShortestSize, ScaleJitter)
HUE = "hue is within one level, which contrast or saturation after it may stretch"
TIES = "at ties between two pixels nearest may take the other one"
GREY = "Pillow's grey is rounded differently, by one level"
MEAN = "torchvision rounds the contrast of the last pixels by processor, by one level, which others may stretch"
NOISE = "normal noise for each pixel, by other random numbers"


def weakest(found: list[Found]) -> Found:
    """The fidelity of several steps, and every reason of that one."""
    level = max((fidelity for fidelity, _ in found), key=ORDER.index, default=EXACT)
    return level, "; ".join(dict.fromkeys(why for fidelity, why in found if fidelity == level and why))


def of_tensors(step: Transform) -> Found:
    """The fidelity of a step where torchvision works on tensors."""
    if isinstance(step, (RandomApply, RandomChoice, RandomOrder)):
        return weakest([of_tensors(child) for child in step.children])
    if isinstance(step, Policy):
        return ALIKE, "warps round differently, and the ops after them may stretch it"
    if isinstance(step, RandomPhotometricDistort):
        return ALIKE, HUE
    if isinstance(step, ColorJitter):
        if step.hue is not None:
            return ALIKE, HUE
        if step.contrast is None:
            return EXACT, ""
        return WITHIN if (step.brightness, step.saturation) == (None, None) else ALIKE, MEAN
    if isinstance(step, GaussianBlur):
        return WITHIN, "weights have 14 bits"
    if isinstance(step, WARPS):
        return (ALIKE, TIES) if step.interpolation == "nearest" else (WITHIN, "positions are rounded differently")
    if isinstance(step, GaussianNoise) or (isinstance(step, RandomErasing) and step.value == "random"):
        return ALIKE, NOISE
    return EXACT, ""


def of_pillow(step: Any) -> Found:
    """The fidelity of a step where torchvision works on Pillow images, as before ToTensor, PILToTensor and ToImage."""
    if isinstance(step, (RandomApply, RandomChoice, RandomOrder)):
        return weakest([of_pillow(child) for child in step.children])
    if isinstance(step, RESIZES):
        if step.interpolation.startswith("nearest"):
            return ALIKE, TIES
        if step.interpolation != "bilinear":
            return ALIKE, "Pillow's bicubic is rounded differently, by up to two levels"
        return WITHIN, "Pillow rounds its weights differently"
    if isinstance(step, Policy):
        return ALIKE, "Pillow's warps, contrast and saturation round differently"
    if isinstance(step, WARPS):
        if step.interpolation == "nearest":
            return ALIKE, TIES
        return ALIKE, "Pillow's border is hard; inside pixels are within one level"
    if isinstance(step, ColorJitter):
        if step.hue is not None:
            return ALIKE, "Pillow's hue has 256 steps"
        spans = [span for name, span in step._spans.items() if span is not None]
        if step.contrast is None and step.saturation is None:
            return EXACT, ""
        if len(spans) == 1 and spans[0][1] <= 2:
            return WITHIN, GREY
        return ALIKE, f"{GREY}, which other changes may stretch"
    if isinstance(step, (RandomGrayscale, Grayscale)):
        return WITHIN, GREY
    if isinstance(step, RandomAutocontrast):
        return WITHIN, "Pillow's table is rounded differently"
    return of_tensors(step)
