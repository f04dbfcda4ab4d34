"""Conversion of torchvision's transforms to gpuaug's.

An op names its counterpart (`Transform.torchvision`) and is built from the arguments that torchvision's object stores.
So a new op needs no change here, unless torchvision stores an argument in another form; see `rules`.
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
from gpuaug.interop.fidelity import of_pillow, of_tensors, weakest
from gpuaug.interop.lists import levels_first
from gpuaug.interop.report import UNSUPPORTED, Conversion, Line, Report, shortened
from gpuaug.interop.rules import COMPOSES, MODULES, NO_BATCH, TO_TENSOR, Rule, rule_of
from gpuaug.interop.timm import TIMM, of_timm, of_timms
from gpuaug.transforms.base import Transform
from gpuaug.transforms.container import READERS, RandomApply, RandomChoice, RandomOrder
from gpuaug.transforms.opaque import Opaque, is_foreign

# the containers: who imports them from here has them with `in_a_container` among their readers
__all__ = ["RandomApply", "RandomChoice", "RandomOrder", "converted", "from_torchvision", "in_a_list", "theirs"]


def from_torchvision(transform: object, *, pillow: bool | None = None, split: bool = False) -> Conversion:
    """Convert torchvision transforms to a list of gpuaug's: `Augment(train=from_torchvision(compose))`.

    The list has a `report`, which prints as a table: what became of each step, and whether its pixels are the same.

    Steps that only make a tensor (ToImage, PILToTensor, ToPureTensor, Identity) are dropped. ToTensor becomes
    ToDtype(torch.float32, scale=True), in torch's default dtype. gpuaug's own transforms are kept. Every argument is
    converted, or the step is refused. Steps after ToTensor or ToDtype that only move pixels (flips, crops without
    resizing, Pad, warps with "nearest") are moved before it, where they give the same values. Augment raises an error
    for other steps after ToDtype.

    Of the steps for boxes, SanitizeBoundingBoxes and ClampBoundingBoxes are converted; with labels_getter=None, too,
    the labels of dropped boxes are dropped. Targets of torchvision's types come back as such, also after ToPureTensor.

    The pixels are those of v2 on tensors. v1 on tensors differs by at most one level where it resizes; with "bicubic"
    by a few levels at sharp edges, as v1 does not clamp between its two passes. Steps before ToTensor, PILToTensor or
    ToImage work on Pillow images in torchvision, and Pillow's filters differ by a few levels. Steps that differ more
    are refused: resizing of Pillow images without `antialias` (Pillow always antialiases) or with "nearest" (Pillow's
    is "nearest-exact"), and all warps with "bicubic" (torchvision has them for Pillow images only).

    Args:
        transform: A transform of torchvision.transforms or torchvision.transforms.v2, a Compose, an nn.Sequential,
            `weights.transforms()` of a classification model, a tensor step or RandomResizedCropAndInterpolation of
            timm, or a list of these, at any depth. An object of another class with an attribute `transforms`, such as
            torchvision's reference presets, is called with a test image, and accepted if its `transforms` give the
            same result. In a dict by type (`fill`, `dtype`) the entry for images is used.
        pillow: Whether the first steps get Pillow images. None: they do if ToTensor, PILToTensor or ToImage follows.
        split: Whether steps that gpuaug cannot run may stay in the worker, with all steps before them.

    Returns:
        The list of gpuaug's transforms, in order, with `report`, and with `worker`: torchvision's steps that run before
        the batch is made, such as `v2.Compose(conversion.worker)`; empty without `split`.

    Raises:
        ValueError: If steps cannot be converted exactly. The message names all of them, with their positions.
    """
    return converted("from_torchvision", transform, "torchvision", pillow, split)


def converted(who: str, transform: object, library: str, pillow: bool | None = None, split: bool = False) -> Conversion:
    """The list that the converter `who` returns.

    Raises:
        ValueError: If steps cannot be converted, and cannot stay in the worker.
    """
    leaves = list(_leaves(transform, ""))
    first = _pillow_steps([leaf for _, leaf in leaves], pillow)
    found, refused, begin = [], [], 0
    for number, (where, leaf) in enumerate(leaves):
        reasons: list[str] = []
        found.append(_convert(leaf, where, number < first, reasons))
        if reasons:
            refused += reasons
            begin = number + 1
    in_worker = leaves[:begin] if split else []
    if refused and not split:
        remedy = "Replace them by gpuaug's transforms, or leave them to the workers with split=True."
        remedy = remedy if library == "torchvision" else "Replace them by gpuaug's transforms."
        raise checks.argument_error(
            who, "transform", f"steps that gpuaug can run as {library} does", "; ".join(refused), remedy
        )
    floats = [leaf for _, leaf in in_worker if any(step.makes_floats for step in _convert(leaf, "", False, []))]
    if floats:
        expected, got = "steps that can stay in the worker before those that make floats", "; ".join(refused)
        remedy = f"Put them before {type(floats[0]).__name__}, as batches are uint8."
        raise checks.argument_error(who, "transform", expected, got, remedy)
    lines = [Line(shortened(leaf), "the worker runs it", UNSUPPORTED) for _, leaf in in_worker]
    for number in range(len(in_worker), len(leaves)):
        leaf, steps = leaves[number][1], found[number]
        fidelity, why = fidelity_of(leaf, steps, number < first)
        lines.append(Line(shortened(leaf), ", ".join(map(shortened, steps)), fidelity, why))
    steps = levels_first([step for part in found[len(in_worker) :] for step in part])
    return Conversion(steps, Report(lines), [leaf for _, leaf in in_worker])


def _pillow_steps(leaves: list[object], pillow: bool | None) -> int:
    """How many of the first steps get Pillow images: all before the first that makes tensors, if there is one."""
    found = next((number for number, leaf in enumerate(leaves) if _makes_tensors(leaf)), None)
    if pillow is False or (pillow is None and found is None):
        return 0
    return len(leaves) if found is None else found


def fidelity_of(leaf: object, steps: list[Transform], on_pillow: bool) -> tuple[str, str]:
    """How equal the pixels of a step are to those of the steps that it became, and why they are not."""
    if of_timm(leaf):
        return of_timms(leaf, steps)
    return weakest([(of_pillow if on_pillow else of_tensors)(step) for step in steps])


def theirs(transform: object) -> bool:
    """True for a transform of torchvision, v1 or v2, and for an object of a subclass of one."""
    return any(cls.__module__.startswith("torchvision.transforms") for cls in type(transform).__mro__)


def in_a_list(transform: Any, stacklevel: int) -> list[Transform]:
    """Convert a torchvision transform in a list given to Augment.

    A step that gpuaug has is converted, and draws for each sample. Another step of v2 becomes an opaque step, which
    draws once for the whole batch, with a warning.

    Raises:
        ValueError: If a step of v1, which accepts one image and no batch, cannot be converted.
    """
    steps: list[Transform] = []
    for _, leaf in _leaves(transform, ""):
        refused: list[str] = []
        converted = _convert(leaf, "", False, refused)
        if not refused:
            steps += converted
        elif is_foreign(leaf) and type(leaf) not in NO_BATCH:
            name, step = leaf.__class__.__name__, Opaque(leaf)
            warnings.warn(
                f"Augment: torchvision's {'; '.join(refused)} draws once for the whole batch. Use gpuaug's or "
                f"Kornia's transforms, which draw for each sample, or gpuaug.Opaque({name}(...)) if you want one draw.",
                stacklevel=stacklevel,
            )
            steps.append(step)
        else:
            expected, remedy = "a list of transforms that gpuaug can run", "Replace them by gpuaug's transforms."
            raise checks.argument_error("Augment", "transforms", expected, "; ".join(refused), remedy)
    return steps


def in_a_container(transform: object) -> list[Transform] | None:
    """The steps for a torchvision transform that is a child of one of gpuaug's containers; None: it is not theirs.

    Raises:
        ValueError: if a step cannot be converted.
    """
    if not theirs(transform):
        return None
    refused: list[str] = []
    steps = _read(transform, "", False, refused)
    if refused:
        raise ValueError("; ".join(refused))
    return steps


READERS.append(in_a_container)


def _read(transform: Any, place: str, on_pillow: bool, refused: list[str]) -> list[Transform]:
    """Convert `transform` to steps. Descriptions of steps that cannot be converted are added to `refused`."""
    leaves = list(_leaves(transform, place))
    first = next((number for number, (_, leaf) in enumerate(leaves) if _makes_tensors(leaf)), 0)
    return [
        step
        for number, (where, leaf) in enumerate(leaves)
        for step in _convert(leaf, where, on_pillow or number < first, refused)
    ]


def _leaves(transform: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield (position, step) for the steps in nested lists. "[2][0]": first step of the third step."""
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
    for number, child in enumerate(children.__iter__()):  # for proxy objects, which forward attributes only
        yield from _leaves(child, f"{place}[{number}]")


def _makes_tensors(step: Any) -> bool:
    return step.__class__ in TO_TENSOR or of_timm(step) in ("MaybeToTensor", "MaybePILToTensor")


def _only_carries(transform: Any) -> bool:
    """True for an object of a user's class whose result on an image is that of its `transforms`."""
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
        except Exception:  # code of the user, which may not accept this image
            continue
        return own is not None and carried is not None and np.array_equal(own, carried)
    return False


def _seeded(function: Any, image: Any) -> NDArray[Any] | None:
    """The result on an image, with seeded generators of torch, Python and NumPy, which are restored afterwards."""
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
        if len(refused) == before:  # else the error is in a child, which is already named
            refused.append(f"{place} {name} ({str(error).removeprefix(f'{name}: ').rstrip('.')})".lstrip())
        return []


def _check_pillow(step: Any) -> None:
    """Raise for arguments of Resize and RandomResizedCrop that mean something else on Pillow images than on tensors."""
    name, word = step.__class__.__name__, interpolation(step.interpolation)
    if word == "nearest":
        remedy = 'On Pillow images, before a step that makes tensors, it is the "nearest-exact" of tensors'
        raise checks.argument_error(
            name, "interpolation", "'nearest-exact', 'bilinear' or 'bicubic'", "'nearest'", remedy
        )
    if not step.antialias and word != "nearest-exact":
        remedy = "On Pillow images, before a step that makes tensors, resizing always antialiases"
        raise checks.argument_error(name, "antialias", "True", repr(step.antialias), remedy)


def _rule(step: Any) -> Rule:
    """The rule for exactly this class. Subclasses are refused, as they may change anything."""
    cls = step.__class__
    if (rule := rule_of(cls)) is not None:
        return rule
    if (name := of_timm(step)) in TIMM:
        return TIMM[name]
    if isinstance(step, functools.partial):
        raise ValueError("a function that returns transforms; call it, as in weights.transforms()")
    if hasattr(step, "transforms"):
        raise ValueError("an object whose result on an image is not that of its `transforms`")
    parent = next((parent for parent in cls.__mro__ if rule_of(parent)), None)
    if parent is not None:
        raise ValueError(f"a subclass of {parent.__name__}, whose behaviour is unknown")
    theirs = cls.__module__.startswith("torchvision.transforms")
    raise ValueError("gpuaug has no such transform" if theirs else "not one of torchvision's transforms")
