"""From torchvision's transforms to gpuaug's.

One table says what becomes of each class. An op of the same name is built from the arguments that torchvision's object
keeps, so a new op needs no row, unless torchvision keeps an argument in a form of its own.
"""

from __future__ import annotations

import functools
import inspect
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import _presets, v2

from gpuaug import checks
from gpuaug.transforms.base import OPS, Pixel, Transform
from gpuaug.transforms.container import Compose, RandomApply, RandomChoice, RandomOrder
from gpuaug.transforms.convert import Convert, Normalize, ToDtype
from gpuaug.transforms.crop import CenterCrop, Pad, RandomCrop, RandomResizedCrop, Resize
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.mix import CutMix, MixUp
from gpuaug.transforms.opaque import Opaque, is_foreign

__all__ = ["from_torchvision", "in_a_list", "theirs"]

Read = Callable[[Any, str], list[Transform]]  # a container's child, and where it stands -> gpuaug's steps
Rule = Callable[[Any, Read], list[Transform]]  # a torchvision transform -> gpuaug's steps

IMAGES = (tv_tensors.Image, Tensor, PIL.Image.Image)  # the types of an image in a dict by type


def from_torchvision(transform: Any) -> list[Transform]:
    """Convert torchvision transforms into the same list of gpuaug's: `Augment(train=from_torchvision(compose))`.

    Steps that only make a tensor (ToImage, PILToTensor, ToPureTensor, Identity) vanish; ToTensor becomes
    ToDtype(torch.float32, scale=True), in torch's default dtype. gpuaug's own transforms pass through. Every argument
    is carried over, or the step is refused. Steps after ToTensor or ToDtype that only move pixels (flips, crops without
    resizing, Pad, warps with "nearest") are put before it, where they give the same values; whether the others may
    stand in this order is for Augment to say.

    gpuaug's pixels are those of v2 on tensors (v1 resizes tensors within one level of them; "bicubic" within a few at
    sharp edges, where v1 does not clamp between its two passes). What stands before
    ToTensor, PILToTensor or ToImage works on Pillow's images in torchvision, whose filters differ by a few levels.
    Where they differ more, the step is refused: there, resizing with `antialias` off (Pillow always antialiases) or
    "nearest" (Pillow's is "nearest-exact"), and anywhere, warps with "bicubic" (torchvision has them for Pillow's
    images only).

    Args:
        transform: a transform of torchvision.transforms or torchvision.transforms.v2, a Compose, an nn.Sequential,
            `weights.transforms()` of classification models, timm's tensor steps and RandomResizedCropAndInterpolation,
            or a list of them, at any depth. An object of another class with an attribute `transforms`, as torchvision's
            reference presets are, is tried on an image, and taken if it gives what its `transforms` give. Of a dict by
            type (`fill`, `dtype`) the entry for images is taken.

    Returns:
        gpuaug's transforms, in order.

    Raises:
        ValueError: if steps cannot be converted exactly; it names all of them, with their places.
    """
    refused: list[str] = []
    steps = _read(transform, "", False, refused)
    if refused:
        expected, remedy = "steps that gpuaug can run as torchvision does", "Put gpuaug's transforms in their place."
        raise checks.argument_error("from_torchvision", "transform", expected, "; ".join(refused), remedy)
    return _levels_first(steps)


def theirs(transform: object) -> bool:
    """True for a transform of torchvision, v1 or v2, and for an object of a class that is made from one."""
    return any(cls.__module__.startswith("torchvision.transforms") for cls in type(transform).__mro__)


def in_a_list(transform: Any, stacklevel: int) -> list[Transform]:
    """What a torchvision transform becomes that stands in Augment's own list.

    Every step that gpuaug has becomes gpuaug's, with a draw for each sample. Another step of v2 runs as it is, as an
    opaque step with one draw for the whole batch, and a warning says so.

    Raises:
        ValueError: if a step of v1, which takes one image at a time, cannot be converted.
    """
    steps: list[Transform] = []
    for _, leaf in _leaves(transform, ""):
        refused: list[str] = []
        converted = _convert(leaf, "", False, refused)
        if not refused:
            steps += converted
        elif is_foreign(leaf):
            name, step = leaf.__class__.__name__, Opaque(leaf)
            warnings.warn(
                f"Augment: torchvision's {'; '.join(refused)} draws once for the whole batch. Use gpuaug's or "
                f"Kornia's transforms, which draw for each sample, or gpuaug.Opaque({name}(...)) if one draw is meant.",
                stacklevel=stacklevel,
            )
            steps.append(step)
        else:
            expected, remedy = "a list of transforms that gpuaug can run", "Put gpuaug's transforms in their place."
            raise checks.argument_error("Augment", "transforms", expected, "; ".join(refused), remedy)
    return steps


def _read(transform: Any, place: str, on_pillow: bool, refused: list[str]) -> list[Transform]:
    """The steps of `transform`; what cannot be converted is added to `refused`."""
    leaves = list(_leaves(transform, place))
    first = next((number for number, (_, leaf) in enumerate(leaves) if _makes_tensors(leaf)), 0)
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
    elif _only_carries(transform):
        yield from _leaves(transform.transforms, f"{place}.transforms")
        return
    else:
        yield place, transform
        return
    for number, child in enumerate(children.__iter__()):  # an attribute: a proxy may pass on nothing else
        yield from _leaves(child, f"{place}[{number}]")


def _makes_tensors(step: Any) -> bool:
    return step.__class__ in TO_TENSOR or _of_timm(step) in ("MaybeToTensor", "MaybePILToTensor")


def _only_carries(transform: Any) -> bool:
    """True for an object of somebody's own class that gives on an image what its `transforms` give."""
    cls = transform.__class__
    known = isinstance(transform, Transform) or any(parent in TABLE or parent in COMPOSES for parent in cls.__mro__)
    inner = None if known else getattr(transform, "transforms", None)
    if not callable(transform) or not isinstance(inner, (list, tuple, nn.Module, *COMPOSES)):
        return False
    whole = v2.Compose(list(inner)) if isinstance(inner, (list, tuple)) else inner
    generator = np.random.default_rng(0)
    image = PIL.Image.fromarray(generator.integers(0, 256, (80, 64, 3), dtype=np.uint8))
    for probe in (image, v2.functional.pil_to_tensor(image)):
        try:
            own, carried = (_seeded(function, probe) for function in (transform, whole))
        except Exception:  # somebody's code, on an image it may not take
            continue
        return own is not None and carried is not None and np.array_equal(own, carried)
    return False


def _seeded(function: Any, image: Any) -> NDArray[Any] | None:
    """What it makes of an image, with the generators of torch, Python and NumPy seeded and put back afterwards."""
    state, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            result = function(image)
    finally:
        random.setstate(state)
        np.random.set_state(numbers)
    return np.asarray(result) if isinstance(result, (Tensor, np.ndarray, PIL.Image.Image)) else None


def _of_timm(step: Any) -> str | None:
    """The name of one of timm's transforms. timm itself is not imported."""
    cls = step.__class__
    return cls.__name__ if cls.__module__ == "timm.data.transforms" else None


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
        raise checks.argument_error(name, "interpolation", "another", "'nearest'", remedy)
    if not step.antialias and interpolation != "nearest-exact":
        remedy = "Before a step that makes tensors Pillow resizes, which always antialiases"
        raise checks.argument_error(name, "antialias", "True", repr(step.antialias), remedy)


def _rule(step: Any) -> Rule:
    """What the table says of exactly this class: what a subclass changes is unknown."""
    cls = step.__class__
    if cls in TABLE:
        return TABLE[cls]
    for op in OPS:  # of somebody's own, which says what it is the counterpart of
        if op.torchvision is not None and getattr(v2, op.torchvision, None) is cls:
            return partial(_same, op)
    if (name := _of_timm(step)) in TIMM:
        return TIMM[name]
    if isinstance(step, functools.partial):
        raise ValueError("a function that makes transforms; call it, as in weights.transforms()")
    if hasattr(step, "transforms"):
        raise ValueError("an object whose `transforms` do not give on an image what itself gives")
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
    """(-3, 3) is 3. Without `0 <=`, (3, -3) would be refused as -3."""
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
        raise checks.argument_error(
            step.__class__.__name__, "labels_getter", "'default'", checks.describe(step._labels_getter)
        )
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
    if issubclass(op, Pixel) and arguments.get("interpolation") == "bicubic":
        remedy = f"gpuaug.{op.__name__} has the bicubic of grid_sample"
        raise checks.argument_error(
            op.__name__, "interpolation", "what torchvision has on tensors", "'bicubic'", remedy
        )
    return [op(**arguments)]


def _nothing(step: Any, read: Read) -> list[Transform]:
    """A batch of uint8 tensors is what it makes."""
    return []


def _to_tensor(step: Any, read: Read) -> list[Transform]:
    return [ToDtype(torch.get_default_dtype(), scale=True)]


def _to_dtype(step: Any, read: Read) -> list[Transform]:
    dtype = _of_images(step.dtype)
    return [] if dtype is None else [ToDtype(dtype, getattr(step, "scale", True))]  # ConvertImageDtype always scales


def _preset(step: Any, read: Read) -> list[Transform]:
    """`weights.transforms()` of a classification model."""
    (resized,), (cropped,) = step.resize_size, step.crop_size
    resize = Resize(resized, _interpolation(step.interpolation), antialias=step.antialias)
    return [resize, CenterCrop(cropped), ToDtype(torch.float32, scale=True), Normalize(step.mean, step.std)]


def _timm_crop(step: Any, read: Read) -> list[Transform]:
    """RandomResizedCropAndInterpolation; several interpolations, one of which is drawn, are not one crop."""
    if isinstance(step.interpolation, (tuple, list)):
        raise ValueError("it draws the interpolation; give one")
    word = _interpolation(step.interpolation)
    return [RandomResizedCrop(_even(step.size), _plain(step.scale), _plain(step.ratio), word)]


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


RULES: dict[str, Rule] = {op.torchvision: partial(_same, op) for op in OPS if op.torchvision and op is not Compose} | {
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
TIMM: dict[str | None, Rule] = {
    "MaybeToTensor": _to_tensor,
    "MaybePILToTensor": _nothing,
    "RandomResizedCropAndInterpolation": _timm_crop,
}


def _classes(*names: str) -> dict[type, str]:
    """torchvision's classes of these names, v1 and v2, as far as this version has them."""
    return {getattr(module, name): name for name in names for module in (v1, v2) if hasattr(module, name)}


TABLE: dict[type, Rule] = {cls: RULES[name] for cls, name in _classes(*RULES).items()}
TABLE[_presets.ImageClassification] = _preset
TO_TENSOR = _classes("ToTensor", "PILToTensor", "ToImage")  # what comes before the first of them is Pillow's
COMPOSES = {Compose, *_classes("Compose")}
MODULES = {nn.Sequential, nn.ModuleList}


# --- steps after ToTensor ---------------------------------------------------------------------------------------

MOVES = ("RandomHorizontalFlip", "RandomVerticalFlip", "RandomCrop", "CenterCrop", "Pad")  # pixels, as they are
WARPS = ("RandomRotation", "RandomAffine", "RandomPerspective")  # with "nearest"


def _levels_first(steps: list[Transform]) -> list[Transform]:
    """The steps, those after ToDtype that only move pixels put before it.

    What else works on floats in torchvision (and would be rounded to levels here) stays where it is, as do those after
    it; Augment says what is wrong with them.
    """
    first = next((n for n, step in enumerate(steps) if step.makes_floats), None)
    if first is None:
        return steps
    before, converts = steps[:first], steps[first : first + 1]
    for number, step in enumerate(steps[first + 1 :], first + 1):
        moved = _on_levels(step, converts)
        if isinstance(step, Convert):
            converts.append(step)
        elif moved is not None:
            before.append(moved)
        else:
            return [*before, *converts, *steps[number:]]
    return [*before, *converts]


def _on_levels(step: Transform, converts: Sequence[Any]) -> Transform | None:
    """The step as it is on levels, if it gives there what it gives after `converts`; else None."""
    name = type(step).__name__
    if isinstance(step, (RandomApply, RandomOrder, RandomChoice)):
        children = [_on_levels(child, converts) for child in step.transforms]
        return step if children == list(step.transforms) else None
    if name not in MOVES and not (name in WARPS and getattr(step, "interpolation", "") == "nearest"):
        return None
    if isinstance(step, RandomCrop) and step.padding is None and not step.pad_if_needed:
        return step
    if name in MOVES[:2] or (isinstance(step, (Pad, RandomCrop)) and step.padding_mode != "constant"):
        return step
    return _filled(step, converts)


def _filled(step: Any, converts: Sequence[Any]) -> Transform | None:
    """A step that puts in a constant: the level that becomes it, if there is one."""
    if any(isinstance(convert, Normalize) for convert in converts):
        return None  # its constant is one of normalised values
    given = getattr(step, "fill", None)
    values = np.float32(0.0 if given is None else given)
    table = converts[0].convert(torch.arange(256, dtype=torch.uint8, device="cpu")).numpy()
    levels = np.minimum(np.searchsorted(table, values), 255)
    if (table[levels] != values).any():
        return None
    if not levels.any():
        return step
    arguments = {name: getattr(step, name) for name in inspect.signature(type(step)).parameters}
    return type(step)(**arguments | {"fill": _plain(levels.astype(float))})
