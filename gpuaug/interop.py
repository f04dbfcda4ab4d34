"""From torchvision's transforms to gpuaug's.

One table says what becomes of each class. An op of the same name is built from the arguments that torchvision's object
keeps, so a new op needs no row, unless torchvision keeps an argument in a form of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

from gpuaug import checks
from gpuaug.transform import OPS, Transform
from gpuaug.transforms.container import Compose, RandomApply, RandomChoice, RandomOrder
from gpuaug.transforms.convert import ToDtype
from gpuaug.transforms.crop import RandomCrop, Resize
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.mix import CutMix, MixUp

__all__ = ["from_torchvision"]

Read = Callable[[Any, str], list[Transform]]  # a container's child, and where it stands -> gpuaug's steps
Rule = Callable[[Any, Read], list[Transform]]  # a torchvision transform -> gpuaug's steps

IMAGES = (tv_tensors.Image, Tensor, PIL.Image.Image)  # the types of an image in a dict by type


def from_torchvision(transform: Any) -> list[Transform]:
    """Convert torchvision transforms into the same list of gpuaug's: `Augment(train=from_torchvision(compose))`.

    Steps that only make a tensor (ToImage, PILToTensor, ToPureTensor, Identity) vanish; ToTensor becomes
    ToDtype(torch.float32, scale=True), in torch's default dtype. gpuaug's own transforms pass through. Every argument
    is carried over, or the step is refused; whether the steps may stand in this order is for Augment to say.

    gpuaug's pixels are those of v2 on tensors (v1 resizes tensors within one level of them). What stands before
    ToTensor, PILToTensor or ToImage works on Pillow's images in torchvision, whose filters differ by a few levels.
    Where they differ more, the step is refused: there, resizing with `antialias` off (Pillow always antialiases) or
    "nearest" (Pillow's is "nearest-exact"), and anywhere, warps with "bicubic" (torchvision has them for Pillow's
    images only).

    Args:
        transform: a transform of torchvision.transforms or torchvision.transforms.v2, a Compose, an nn.Sequential, or
            a list of them, at any depth. Of a dict by type (`fill`, `dtype`) the entry for images is taken.

    Returns:
        gpuaug's transforms, in order.

    Raises:
        ValueError: if steps cannot be converted exactly; it names all of them, with their places.
    """
    refused: list[str] = []
    steps = _read(transform, "", False, refused)
    if refused:
        expected, remedy = "steps that gpuaug can run as torchvision does", "Put gpuaug's transforms in their place."
        raise checks.bad("from_torchvision", "transform", expected, "; ".join(refused), remedy)
    return steps


def _read(transform: Any, place: str, on_pillow: bool, refused: list[str]) -> list[Transform]:
    """The steps of `transform`; what cannot be converted is added to `refused`."""
    leaves = list(_leaves(transform, place))
    first = next((number for number, (_, leaf) in enumerate(leaves) if leaf.__class__ in TO_TENSOR), 0)
    return [
        step
        for number, (where, leaf) in enumerate(leaves)
        for step in _convert(leaf, where, on_pillow or number < first, refused)
    ]


def _leaves(transform: Any, place: str) -> Iterator[tuple[str, Any]]:
    """(place, step), every list opened; places are indices: "[2][0]" is the first step of the third."""
    cls: Any = transform.__class__
    children: Any
    if cls in COMPOSES:
        children = transform.transforms
    elif isinstance(transform, (list, tuple)) or cls in MODULES:
        children = transform
    else:
        yield place, transform
        return
    for number, child in enumerate(children.__iter__()):  # an attribute: a proxy may pass on nothing else
        yield from _leaves(child, f"{place}[{number}]")


def _convert(step: Any, place: str, on_pillow: bool, refused: list[str]) -> list[Transform]:
    if isinstance(step, Transform):
        return [step]
    name, before = step.__class__.__name__, len(refused)
    try:
        rule = _rule(step)
        if on_pillow and hasattr(step, "antialias"):
            _check_pillow(step)
        return rule(step, lambda child, where: _read(child, place + where, on_pillow, refused))
    except (ValueError, TypeError, AttributeError) as error:
        if len(refused) == before:  # else it is a child's fault
            refused.append(f"{place} {name} ({str(error).removeprefix(f'{name}: ').rstrip('.')})".lstrip())
        return []


def _check_pillow(step: Any) -> None:
    """Of Resize and RandomResizedCrop on Pillow's images: arguments that mean something else on tensors."""
    name, interpolation = step.__class__.__name__, _interpolation(step.interpolation)
    if interpolation == "nearest":
        remedy = 'Before a step that makes tensors, where it is Pillow\'s, it is the "nearest-exact" of tensors'
        raise checks.bad(name, "interpolation", "another", "'nearest'", remedy)
    if not step.antialias and interpolation != "nearest-exact":
        remedy = "Before a step that makes tensors Pillow resizes, which always antialiases"
        raise checks.bad(name, "antialias", "True", repr(step.antialias), remedy)


def _rule(step: Any) -> Rule:
    """What the table says of exactly this class: what a subclass changes is unknown."""
    cls = step.__class__
    if cls in TABLE:
        return TABLE[cls]
    parent = next((parent for parent in cls.__mro__ if parent in TABLE), None)
    if parent is not None:
        raise ValueError(f"a subclass of {parent.__name__}, what it does is unknown")
    theirs = cls.__module__.startswith("torchvision.transforms")
    raise ValueError("gpuaug has no such transform" if theirs else "not one of torchvision's transforms")


# --- arguments --------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Numbers, words and tuples, whatever they were kept in."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_plain, value))
    return value


def _even(value: Any) -> Any:
    """(3, 3) is 3."""
    value = _plain(value)
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _around_zero(value: Any) -> Any:
    """(-3, 3) is 3."""
    value = _plain(value)
    return value[1] if isinstance(value, tuple) and len(value) == 2 and 0 <= value[1] == -value[0] else value


def _interpolation(value: Any) -> Any:
    """torchvision's word, enum, or Pillow's number."""
    return PIL.Image.Resampling(value).name.lower() if checks.is_integer(value) else _plain(value)


def _of_images(value: Any) -> Any:
    """A dict by type says it once for images, by their type or as "others"."""
    if not isinstance(value, Mapping):
        return _plain(value)
    found = [_plain(value[kind]) for kind in (*IMAGES, "others") if kind in value]
    found = found[:-1] if "others" in value and len(found) > 1 else found
    if not found or any(other != found[0] for other in found):
        raise ValueError(f"a dict must say one thing of images, got {checks.describe(dict(value))}")
    return found[0]


FORMS: dict[str, Callable[[Any], Any]] = {  # arguments by name; the others are `_plain`
    "size": _even,
    "padding": _even,
    "kernel_size": _even,
    "sigma": _even,
    "quality": _even,
    "degrees": _around_zero,
    "shear": _around_zero,
    "interpolation": _interpolation,
    "fill": _of_images,
}


def _edge(step: Any) -> Any:
    """Of Resize: (256,) is the shorter edge, (256, 256) is not."""
    size = _plain(step.size)
    return size[0] if isinstance(size, tuple) and len(size) == 1 else size


def _padding(step: Any) -> Any:
    """Of RandomCrop: v2 keeps (left, right, top, bottom), v1 what it was given."""
    if step.padding is None or step.__class__ is v1.RandomCrop:
        return _even(step.padding)
    left, right, top, bottom = step.padding
    return _even((left, top, right, bottom))


def _value(step: Any) -> Any:
    """Of RandomErasing: v2 keeps "random" as None."""
    return "random" if step.value is None else _even(step.value)


def _labels_getter(step: Any) -> str:
    """Of a mix: v2 keeps the function alone."""
    if step._labels_getter is not step.__class__()._labels_getter:
        raise checks.bad(step.__class__.__name__, "labels_getter", "'default'", checks.describe(step._labels_getter))
    return "default"


# --- rules ------------------------------------------------------------------------------------------------------


def _same(op: type[Transform], step: Any, read: Read, **forms: Callable[[Any], Any]) -> list[Transform]:
    """The op of the same name with the same arguments; `forms` read those that torchvision keeps differently."""
    names = list(inspect.signature(step.__class__).parameters)
    unknown = [name for name in names if name not in inspect.signature(op).parameters]
    if unknown:
        raise ValueError(f"gpuaug does not know its argument `{unknown[0]}`")
    arguments = {
        name: forms[name](step) if name in forms else FORMS.get(name, _plain)(getattr(step, name)) for name in names
    }
    if op.kind == "pixel" and arguments.get("interpolation") == "bicubic":
        remedy = f"gpuaug.{op.__name__} has the bicubic of grid_sample"
        raise checks.bad(op.__name__, "interpolation", "what torchvision has on tensors", "'bicubic'", remedy)
    return [op(**arguments)]


def _nothing(step: Any, read: Read) -> list[Transform]:
    """A batch of uint8 tensors is what it makes."""
    return []


def _to_tensor(step: Any, read: Read) -> list[Transform]:
    return [ToDtype(torch.get_default_dtype(), scale=True)]


def _to_dtype(step: Any, read: Read) -> list[Transform]:
    dtype = _of_images(step.dtype)
    return [] if dtype is None else [ToDtype(dtype, getattr(step, "scale", True))]  # ConvertImageDtype always scales


def _children(step: Any, read: Read) -> list[list[Transform]]:
    """What each child becomes: one step, several or none."""
    return [read(child, f"[{number}]") for number, child in enumerate(step.transforms.__iter__())]


def _one(steps: list[Transform]) -> Any:
    """Several steps stay one child."""
    return steps[0] if len(steps) == 1 else steps


def _apply(step: Any, read: Read) -> list[Transform]:
    steps = [inner for child in _children(step, read) for inner in child]
    return [RandomApply(steps, step.p)] if steps else []


def _order(step: Any, read: Read) -> list[Transform]:
    kept = [_one(child) for child in _children(step, read) if child]
    return [RandomOrder(kept)] if kept else []


def _choice(step: Any, read: Read) -> list[Transform]:
    """torchvision scales `p` up to a sum of 1; here what is missing leaves the image as it is, as an Identity does."""
    children = _children(step, read)
    p = [1.0] * len(children) if step.p is None else list(step.p)
    if len(p) != len(children):
        raise checks.bad("RandomChoice", "p", f"{len(children)} numbers, one for each transform", repr(step.p))
    total = sum(p)
    kept = [
        (_one(child), value / total if total > 0 else 0.0) for child, value in zip(children, p, strict=True) if child
    ]
    if not kept:
        return []
    even = len(kept) == len(children) and len(set(p)) == 1 and total > 0
    return [RandomChoice([child for child, _ in kept], None if even else [value for _, value in kept])]


RULES: dict[str, Rule] = {op.__name__: partial(_same, op) for op in OPS if op is not Compose} | {
    "ToImage": _nothing,
    "PILToTensor": _nothing,
    "ToPureTensor": _nothing,
    "Identity": _nothing,
    "ToTensor": _to_tensor,
    "ToDtype": _to_dtype,
    "ConvertImageDtype": _to_dtype,
    "Resize": partial(_same, Resize, size=_edge),
    "RandomCrop": partial(_same, RandomCrop, padding=_padding),
    "RandomErasing": partial(_same, RandomErasing, value=_value),
    "MixUp": partial(_same, MixUp, labels_getter=_labels_getter),
    "CutMix": partial(_same, CutMix, labels_getter=_labels_getter),
    "RandomApply": _apply,
    "RandomOrder": _order,
    "RandomChoice": _choice,
}


def _classes(*names: str) -> dict[type, str]:
    """torchvision's classes of these names, v1 and v2, as far as this version has them."""
    return {getattr(module, name): name for name in names for module in (v1, v2) if hasattr(module, name)}


TABLE: dict[type, Rule] = {cls: RULES[name] for cls, name in _classes(*RULES).items()}
TO_TENSOR = _classes("ToTensor", "PILToTensor", "ToImage")  # what comes before the first of them is Pillow's
COMPOSES = {Compose, *_classes("Compose")}
MODULES = {nn.Sequential, nn.ModuleList}
