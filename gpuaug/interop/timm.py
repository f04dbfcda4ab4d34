"""Conversion of timm's transforms, strings and arguments, found by name, without an import of timm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gpuaug import checks
from gpuaug.interop.arguments import even, interpolation, plain
from gpuaug.interop.fidelity import of_pillow
from gpuaug.interop.report import ALIKE, EXACT, WITHIN
from gpuaug.interop.rules import Read, Rule, nothing, to_tensor
from gpuaug.transforms.base import Transform
from gpuaug.transforms.container import RandomChoice
from gpuaug.transforms.crop import RandomResizedCrop
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.mix import CutMix, MixUp
from gpuaug.transforms.policy.timm import TimmAugMix, TimmAutoAugment, TimmPolicy, TimmRandAugment
from gpuaug.transforms.policy.timm_ops import BLURS, WARPS
from gpuaug.transforms.policy.timm_tables import AUGMIX_OPS, AUTO_POLICIES, OP_SETS

__all__ = ["BLENDED", "DEVICE_MODES", "TIMM", "mixes", "of_timm", "of_timms", "policy_fidelity", "resampling"]

MODULES = ("timm.data.transforms", "timm.data.auto_augment", "timm.data.random_erasing", "timm.data.mixup")
DEVICE_MODES: dict[str, Any] = {"const": 0.0, "": 0.0, "pixel": "random"}  # of timm's RandomErasing: the value
FILL = (128, 128, 128)  # timm's, where it is not given the mean
BLENDED = "; b1 truncates after each chain in timm, once here"


def of_timm(step: Any) -> str | None:
    """The name of the class, for a transform of timm; None for other objects."""
    cls = step.__class__
    return cls.__name__ if cls.__module__ in MODULES else None


# --- fidelity -----------------------------------------------------------------------------------------------------


def policy_fidelity(step: TimmPolicy) -> tuple[str, str]:
    """How equal the pixels of a policy are to those of timm's on Pillow images."""
    names = step.names
    moved, blurred = any(name in WARPS for name in names), any(name in BLURS for name in names)
    if not moved and not blurred:
        reason = "ops on levels are within one level, and ops after them may stretch that"
        one = isinstance(step, TimmRandAugment) and step.num_ops <= 1
        return (WITHIN, "Pillow rounds grey differently") if one else (ALIKE, reason)
    parts = ["ops on levels are within one level"]
    if moved:
        cubic = step.interpolation in ("bicubic", "random")
        parts.append("warps blend at the border" + (", bicubic is a = -0.75, Pillow's -0.5" if cubic else ""))
    if blurred:
        parts.append("the blur reflects the border, Pillow's repeats it")
    return ALIKE, "; ".join(parts)


def of_timms(leaf: object, steps: Sequence[Transform]) -> tuple[str, str]:
    """How equal the pixels of timm's step are to those of the steps that it became, and why they are not."""
    for step in steps:
        if isinstance(step, TimmPolicy):
            level, why = policy_fidelity(step)
            return level, why + (BLENDED if getattr(leaf, "blended", False) else "")
        if isinstance(step, RandomResizedCrop):
            return of_pillow(step)
        if isinstance(step, RandomErasing):
            return (ALIKE, "normal noise by other random numbers") if step.value == "random" else (EXACT, "")
        if isinstance(step, (MixUp, CutMix, RandomChoice)):
            return mix_fidelity(step)
    return EXACT, ""


def mix_fidelity(step: Any) -> tuple[str, str]:
    mix: Any = step.children[0] if isinstance(step, RandomChoice) else step
    if mix.mode == "pair":
        return WITHIN, "sums are rounded differently"
    return ALIKE, "the partner is the sample before; timm's is number B - 1 - i"


# --- steps --------------------------------------------------------------------------------------------------------


def resampling(value: Any) -> str:
    """The interpolation of a crop, from timm's word, Pillow's number, torchvision's enum, or the pair of "random"."""
    if isinstance(value, (tuple, list)):
        words = sorted(interpolation(one) for one in value)
        if words != ["bicubic", "bilinear"]:
            raise ValueError(f"it draws one of {' and '.join(words)}; gpuaug draws bilinear or bicubic")
        return "random"
    word = str(interpolation(value))
    return "nearest-exact" if word == "nearest" else word  # Pillow's


def _timm_crop(step: Any, read: Read) -> list[Transform]:
    word = resampling(step.interpolation)
    return [RandomResizedCrop(even(step.size), plain(step.scale), plain(step.ratio), word)]


def _resample(kwargs: Mapping[str, Any]) -> str:
    """The interpolation of a policy's warps, from what timm keeps for its ops."""
    return resampling(kwargs["resample"]).removesuffix("-exact")


def _shared(op: Any) -> dict[str, Any]:
    """The arguments of a policy that all of its ops have."""
    std = op.magnitude_std
    return {
        "magnitude_std": "uniform" if std == float("inf") else std,
        "magnitude_max": op.magnitude_max or 10.0,
        "interpolation": _resample(op.kwargs),
        "fill": plain(op.kwargs["fillcolor"]),
        "translate": op.hparams.get("translate_pct", 0.45),
    }


def _one(values: Sequence[Any], what: str) -> Any:
    """The value that all ops have."""
    if any(value != values[0] for value in values):
        raise ValueError(f"its ops differ in {what}; gpuaug's have one")
    return values[0]


def _common(ops: Sequence[Any]) -> dict[str, Any]:
    return dict(_one([_shared(op) for op in ops], "noise, bounds or resampling"))


def _rand_augment(step: Any, read: Read) -> list[Transform]:
    ops = list(step.ops)
    weights = None if step.choice_weights is None else [float(weight) for weight in step.choice_weights]
    magnitude, prob = (_one([getattr(op, name) for op in ops], name) for name in ("magnitude", "prob"))
    names: Any = [op.name for op in ops]
    for known, members in OP_SETS.items():  # by its name, if it is one of timm's sets
        own = list(members.values()) if isinstance(members, dict) else None
        if list(members) == names and _same_shares(own, weights):
            names, weights = known, None
            break
    return [TimmRandAugment(magnitude, int(step.num_layers), prob, ops=names, weights=weights, **_common(ops))]


def _same_shares(own: list[float] | None, weights: list[float] | None) -> bool:
    if own is None or weights is None:
        return own is weights
    return all(abs(one / sum(own) - other) < 1e-9 for one, other in zip(own, weights, strict=True))


def _auto_augment(step: Any, read: Read) -> list[Transform]:
    pairs = [tuple((op.name, op.prob, op.magnitude) for op in pair) for pair in step.policy]
    for name, known in AUTO_POLICIES.items():
        if [[op[:2] for op in pair] for pair in known] == [[op[:2] for op in pair] for pair in pairs]:
            return [TimmAutoAugment(name, **_common([op for pair in step.policy for op in pair]))]
    raise ValueError(f"its sub-policies are none of {', '.join(AUTO_POLICIES)}")


def _augmix(step: Any, read: Read) -> list[Transform]:
    ops = list(step.ops)
    if [op.name for op in ops] != AUGMIX_OPS or any(op.prob != 1.0 for op in ops):
        raise ValueError("its ops are not those of timm's augmix strings")
    magnitude = _one([op.magnitude for op in ops], "magnitude")
    return [TimmAugMix(magnitude, step.width, step.depth, float(step.alpha), **_common(ops))]


def _erasing(step: Any, read: Read) -> list[Transform]:
    if step.mode not in DEVICE_MODES:
        raise ValueError(f"mode={step.mode!r} is not supported; use 'const' or 'pixel'")
    if step.min_count != 1 or step.num_splits > 1:
        raise ValueError("min_count above 1 and num_splits are not supported; leave them out")
    low, high = (math.exp(value) for value in step.log_aspect_ratio)
    scale = (step.min_area, step.max_area)
    return [RandomErasing(step.probability, scale, (low, high), DEVICE_MODES[step.mode], max_count=step.max_count)]


def mixes(given: Mapping[str, Any]) -> list[Transform]:
    """The steps of timm's Mixup with these arguments.

    Raises:
        ValueError: If an argument is out of range, or nothing would be mixed.
    """
    who = "Mixup"
    mode = checks.one_of(who, "mode", given["mode"], ("batch", "pair", "elem"))
    prob = checks.number(who, "prob", given["prob"], 1e-6, 1, "a probability")
    switch = checks.number(who, "switch_prob", given["switch_prob"], 0, 1, "a probability")
    minmax, smoothing = given["cutmix_minmax"], given["label_smoothing"]
    if given["multi_label"] and smoothing:
        remedy = "timm smooths each multi-hot label towards 0.5, gpuaug towards 1 / num_classes."
        raise checks.argument_error(who, "label_smoothing", "0 with multi_label=True", repr(smoothing), remedy)
    common: dict[str, Any] = {"num_classes": given["num_classes"], "mode": mode, "label_smoothing": smoothing}
    mixup, cutmix = given["mixup_alpha"], 1.0 if minmax is not None else given["cutmix_alpha"]
    found: list[Transform] = [MixUp(alpha=mixup, **common)] if mixup > 0 else []
    if cutmix > 0:
        box: dict[str, Any] = {"minmax": minmax, "correct_lam": given["correct_lam"], "even_sides": False}
        found.append(CutMix(alpha=cutmix, **common, **box))
    if not found:
        remedy = "To smooth labels without mixing, use the loss."
        raise checks.argument_error(who, "mixup_alpha", "or `cutmix_alpha` greater than 0", f"{mixup}", remedy)
    if len(found) == 2:
        return [RandomChoice(found, [prob * (1 - switch), prob * switch])]
    return found if prob == 1 else [RandomChoice(found, [prob])]


def _mixup(step: Any, read: Read) -> list[Transform]:
    if not step.mixup_enabled:
        raise ValueError("mixing is switched off (mixup_enabled=False); leave it out")
    names = ("mixup_alpha", "cutmix_alpha", "cutmix_minmax", "switch_prob", "mode", "correct_lam", "label_smoothing")
    more = ("num_classes", "multi_label")
    return mixes({name: getattr(step, name) for name in (*names, *more)} | {"prob": step.mix_prob})


TIMM: dict[str | None, Rule] = {
    "MaybeToTensor": to_tensor,
    "MaybePILToTensor": nothing,
    "RandomResizedCropAndInterpolation": _timm_crop,
    "RandAugment": _rand_augment,
    "AutoAugment": _auto_augment,
    "AugMixAugment": _augmix,
    "RandomErasing": _erasing,
    "Mixup": _mixup,
}
