"""From torchvision's transforms to gpuaug's.

An op names its counterpart (`Transform.torchvision`) and is built from the arguments that torchvision's object keeps,
so a new op needs nothing here, unless torchvision stores an argument in another form; see `rules`.
"""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

from gpuaug import checks
from gpuaug.interop.arguments import interpolation
from gpuaug.interop.lists import levels_first
from gpuaug.interop.rules import COMPOSES, MODULES, TARGETS_ONLY, TO_TENSOR, Rule, rule_of
from gpuaug.interop.timm import TIMM, of_timm
from gpuaug.transforms.base import Transform
from gpuaug.transforms.opaque import Opaque, is_foreign

__all__ = ["from_torchvision", "in_a_list", "theirs"]


def from_torchvision(transform: object) -> list[Transform]:
    """Convert torchvision transforms into the same list of gpuaug's: `Augment(train=from_torchvision(compose))`.

    Steps that only make a tensor (ToImage, PILToTensor, ToPureTensor, Identity) vanish; ToTensor becomes
    ToDtype(torch.float32, scale=True), in torch's default dtype. gpuaug's own transforms pass through. Every argument
    is carried over, or the step is refused. Steps after ToTensor or ToDtype that only move pixels (flips, crops without
    resizing, Pad, warps with "nearest") are put before it, where they give the same values; whether the others may
    stand in this order is for Augment to say.

    Of the steps for boxes, SanitizeBoundingBoxes and ClampBoundingBoxes become gpuaug's; with labels_getter=None, too,
    the labels of dropped boxes are dropped. Targets of torchvision's types come back as such, also after ToPureTensor.

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
    return levels_first(steps)


def theirs(transform: object) -> bool:
    """True for a transform of torchvision, v1 or v2, and for an object of a class that is made from one."""
    return any(cls.__module__.startswith("torchvision.transforms") for cls in type(transform).__mro__)


def in_a_list(transform: Any, stacklevel: int) -> list[Transform]:
    """The steps for a torchvision transform that is in Augment's own list.

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
        elif is_foreign(leaf) and type(leaf) not in TARGETS_ONLY:
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
    return step.__class__ in TO_TENSOR or of_timm(step) in ("MaybeToTensor", "MaybePILToTensor")


def _only_carries(transform: Any) -> bool:
    """True for an object of a user's class that gives the same result on an image as its `transforms`."""
    cls = transform.__class__
    known = isinstance(transform, Transform) or any(rule_of(parent) or parent in COMPOSES for parent in cls.__mro__)
    inner = None if known else getattr(transform, "transforms", None)
    if not callable(transform) or not isinstance(inner, (list, tuple, nn.Module, *COMPOSES)):
        return False
    whole = v2.Compose(list(inner)) if isinstance(inner, (list, tuple)) else inner
    generator = np.random.default_rng(0)
    image = PIL.Image.fromarray(generator.integers(0, 256, (80, 64, 3), dtype=np.uint8))
    for probe in (image, v2.functional.pil_to_tensor(image)):
        try:
            own, carried = (_seeded(function, probe) for function in (transform, whole))
        except Exception:  # a user's code, on an image that it may not accept
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
    name, word = step.__class__.__name__, interpolation(step.interpolation)
    if word == "nearest":
        remedy = 'Before a step that makes tensors, where it is Pillow\'s, it is the "nearest-exact" of tensors'
        raise checks.argument_error(name, "interpolation", "another", "'nearest'", remedy)
    if not step.antialias and word != "nearest-exact":
        remedy = "Before a step that makes tensors Pillow resizes, which always antialiases"
        raise checks.argument_error(name, "antialias", "True", repr(step.antialias), remedy)


def _rule(step: Any) -> Rule:
    """The table's rule for exactly this class: it is unknown what a subclass changes."""
    cls = step.__class__
    if (rule := rule_of(cls)) is not None:
        return rule
    if (name := of_timm(step)) in TIMM:
        return TIMM[name]
    if isinstance(step, functools.partial):
        raise ValueError("a function that makes transforms; call it, as in weights.transforms()")
    if hasattr(step, "transforms"):
        raise ValueError("an object whose `transforms` do not give on an image what itself gives")
    parent = next((parent for parent in cls.__mro__ if rule_of(parent)), None)
    if parent is not None:
        raise ValueError(f"a subclass of {parent.__name__}, what it does is unknown")
    theirs = cls.__module__.startswith("torchvision.transforms")
    raise ValueError("gpuaug has no such transform" if theirs else "not one of torchvision's transforms")
