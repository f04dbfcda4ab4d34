"""Conversion of each torchvision class: by a rule, or by the op that names the class as its counterpart."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import _presets, v2

from gpuaug import checks
from gpuaug.interop.arguments import (
    FORMS,
    edge,
    interpolation,
    labels_getter,
    level,
    of_images,
    padding,
    plain,
    value_of,
)
from gpuaug.transforms.base import OPS, Pixel, Transform
from gpuaug.transforms.container import Compose, RandomApply, RandomChoice, RandomOrder
from gpuaug.transforms.convert import Normalize, ToDtype
from gpuaug.transforms.crop import CenterCrop, RandomCrop, Resize
from gpuaug.transforms.elastic import ElasticTransform
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.function import LinearTransformation
from gpuaug.transforms.iou import OPTIONS, RandomIoUCrop
from gpuaug.transforms.mix import CutMix, MixUp
from gpuaug.transforms.sizes import RandomResize, RandomShortestSize, RandomZoomOut, ScaleJitter
from gpuaug.transforms.targets import ClampBoundingBoxes, SanitizeBoundingBoxes

__all__ = [
    "COMPOSES", "MODULES", "NO_BATCH", "TO_TENSOR", "Read", "Rule", "nothing", "rule_of", "same", "to_tensor",
]  # fmt: skip

SEVERAL = ("FiveCrop", "TenCrop")  # they make several images of one
Read = Callable[[Any, str], list[Transform]]  # a child of a container, and its position -> gpuaug's steps
Rule = Callable[[Any, Read], list[Transform]]  # a torchvision transform -> gpuaug's steps


def same(op: type[Transform], step: Any, read: Read, **forms: Callable[[Any], Any]) -> list[Transform]:
    """The op with the same arguments. `forms` read the arguments that torchvision stores in another form."""
    names = list(inspect.signature(step.__class__).parameters)
    unknown = [name for name in names if name not in inspect.signature(op).parameters]
    if unknown:
        raise ValueError(f"gpuaug has no argument `{unknown[0]}` for it")
    arguments = {
        name: forms[name](step) if name in forms else FORMS.get(name, plain)(getattr(step, name)) for name in names
    }
    if issubclass(op, Pixel) and arguments.get("interpolation") == "bicubic":
        remedy = f"gpuaug.{op.__name__} has the bicubic of grid_sample"
        raise checks.argument_error(
            op.__name__, "interpolation", "an interpolation that torchvision has on tensors", "'bicubic'", remedy
        )
    return [op(**arguments)]


def nothing(step: Any, read: Read) -> list[Transform]:
    """No step: its result is what gpuaug's steps have already, uint8 tensors."""
    return []


def _function(step: Any, read: Read) -> list[Transform]:
    raise ValueError("its function takes one image; gpuaug.Lambda takes one of the whole batch")


def _crops(step: Any, read: Read) -> list[Transform]:
    name = type(step).__name__
    raise ValueError(f"it makes several images of one; gpuaug.{name} makes the lists of a MultiView or TTA")


def _linear(step: Any, read: Read) -> list[Transform]:
    return [LinearTransformation(step.transformation_matrix, step.mean_vector)]


def to_tensor(step: Any, read: Read) -> list[Transform]:
    return [ToDtype(torch.get_default_dtype(), scale=True)]


def _to_dtype(step: Any, read: Read) -> list[Transform]:
    dtype = of_images(step.dtype)
    return [] if dtype is None else [ToDtype(dtype, getattr(step, "scale", True))]  # ConvertImageDtype always scales


def _preset(step: Any, read: Read) -> list[Transform]:
    """`weights.transforms()` of a classification model."""
    (resized,), (cropped,) = step.resize_size, step.crop_size
    resize = Resize(resized, interpolation(step.interpolation), antialias=step.antialias)
    return [resize, CenterCrop(cropped), ToDtype(torch.float32, scale=True), Normalize(step.mean, step.std)]


def _children(step: Any, read: Read) -> list[list[Transform]]:
    """The steps of each child: one, several or none."""
    return [read(child, f"[{number}]") for number, child in enumerate(step.transforms.__iter__())]


def _one(steps: list[Transform]) -> Any:
    """One step, or a list of steps, which is one child."""
    return steps[0] if len(steps) == 1 else steps


def _apply(step: Any, read: Read) -> list[Transform]:
    steps = [inner for child in _children(step, read) for inner in child]
    return [RandomApply(steps, step.p)] if steps else []


def _order(step: Any, read: Read) -> list[Transform]:
    kept = [_one(child) for child in _children(step, read) if child]
    return [RandomOrder(kept)] if kept else []


def _choice(step: Any, read: Read) -> list[Transform]:
    """Scale `p` to a sum of 1, as torchvision does. The share of children without steps leaves the image unchanged."""
    children = _children(step, read)
    p = [1.0] * len(children) if step.p is None else list(step.p)
    if len(p) != len(children):
        raise checks.argument_error(
            "RandomChoice", "p", f"{len(children)} numbers, one for each transform", repr(step.p)
        )
    total = sum(p)
    kept = [
        (_one(child), value / total if total > 0 else 0.0) for child, value in zip(children, p, strict=True) if child
    ]
    if not kept:
        return []
    even = len(kept) == len(children) and len(set(p)) == 1 and total > 0
    return [RandomChoice([child for child, _ in kept], None if even else [value for _, value in kept])]


def _sanitize(step: Any, read: Read) -> list[Transform]:
    if step.labels_getter not in ("default", None):
        remedy = 'Call the key "labels", or name it in gpuaug.SanitizeBoundingBoxes(follow=[...])'
        got = checks.describe(step.labels_getter)
        raise checks.argument_error("SanitizeBoundingBoxes", "labels_getter", "'default' or None", got, remedy)
    return [SanitizeBoundingBoxes(step.min_size, step.min_area)]


def _clamp(step: Any, read: Read) -> list[Transform]:
    """None clips nothing."""
    mode = getattr(step, "clamping_mode", "auto")
    return [] if mode in (None, "none") else [ClampBoundingBoxes(mode)]


def _options(step: Any) -> Any:
    """The `sampler_options` of RandomIoUCrop, which v2 calls `options`."""
    options = plain(step.options)
    return None if options == OPTIONS else options


def _refused(reason: str, step: Any, read: Read) -> list[Transform]:
    raise ValueError(reason)


# steps for targets that gpuaug does not have, and what to do
OF_TARGETS = {
    "ClampKeyPoints": "key points outside the image keep their place and get visibility 0; leave it out",
    "SanitizeKeyPoints": "key points outside the image get visibility 0; leave it out, and drop them after the call",
    "ConvertBoundingBoxFormat": "boxes come back in the format they had; leave it out, and convert them after the call",
    "SetClampingMode": "boxes are clipped as their own clamping_mode says; leave it out, and set that of the boxes",
}

# classes that are not simply an op of the same name with the same arguments; see `rule_of`
RULES: dict[str, Rule] = {
    "ToImage": nothing,
    "PILToTensor": nothing,
    "ToPureTensor": nothing,
    "Identity": nothing,
    "Lambda": _function,
    "LinearTransformation": _linear,
    "ToTensor": to_tensor,
    "ToDtype": _to_dtype,
    "ConvertImageDtype": _to_dtype,
    "Resize": partial(same, Resize, size=edge),
    "RandomCrop": partial(same, RandomCrop, padding=padding),
    "RandomErasing": partial(same, RandomErasing, value=value_of),
    "ElasticTransform": partial(same, ElasticTransform, fill=level),
    "RandomIoUCrop": partial(same, RandomIoUCrop, sampler_options=_options),
    "MixUp": partial(same, MixUp, labels_getter=labels_getter),
    "CutMix": partial(same, CutMix, labels_getter=labels_getter),
    "SanitizeBoundingBoxes": _sanitize,
    "ClampBoundingBoxes": _clamp,
    **{name: partial(_refused, reason) for name, reason in OF_TARGETS.items()},
    **dict.fromkeys(SEVERAL, _crops),
    "RandomApply": _apply,
    "RandomOrder": _order,
    "RandomChoice": _choice,
    **{op.__name__: partial(same, op) for op in (RandomResize, RandomShortestSize, RandomZoomOut, ScaleJitter)},
}


def _classes(*names: str) -> dict[type, str]:
    """torchvision's classes of these names, v1 and v2, if the installed version has them."""
    return {getattr(module, name): name for name in names for module in (v1, v2) if hasattr(module, name)}


TABLE: dict[type, Rule] = {cls: RULES[name] for cls, name in _classes(*RULES).items()}
TABLE[_presets.ImageClassification] = _preset
TO_TENSOR = _classes("ToTensor", "PILToTensor", "ToImage")  # steps before the first of these get Pillow images
COMPOSES = {Compose, *_classes("Compose")}
# They would do nothing to a batch of images, or make no batch of it
NO_BATCH = _classes(*OF_TARGETS, *SEVERAL, "ToPILImage")
MODULES = {nn.Sequential, nn.ModuleList}


def rule_of(cls: type) -> Rule | None:
    """The rule for exactly this class: from TABLE, or the op that names the class as its counterpart; else None."""
    if cls in TABLE or cls in COMPOSES:
        return TABLE.get(cls)
    op = next((op for op in OPS if op.torchvision is not None and cls in _classes(op.torchvision)), None)
    return None if op is None else partial(same, op)
