"""One rule for the strength of a list: what each argument becomes at a strength between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gpuaug import checks
from gpuaug.engine.evaluation import evaluation
from gpuaug.transforms.base import Convert, Crop, Transform
from gpuaug.transforms.blur import GaussianBlur, MotionBlur
from gpuaug.transforms.color import (
    RGB,
    ColorJitter,
    Grayscale,
    RandomAdjustSharpness,
    RandomAutocontrast,
    RandomChannelPermutation,
    RandomEqualize,
    RandomGrayscale,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from gpuaug.transforms.container import RandomApply, RandomChoice, RandomOrder, flatten
from gpuaug.transforms.crop import RandomCrop, RandomResizedCrop
from gpuaug.transforms.degrade import JPEG, GaussianNoise
from gpuaug.transforms.distort import RandomPhotometricDistort
from gpuaug.transforms.elastic import ElasticTransform
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.function import Identity
from gpuaug.transforms.geometric import (
    RandomAffine,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomRotation,
    RandomVerticalFlip,
)
from gpuaug.transforms.mix import CutMix, MixUp
from gpuaug.transforms.policy import AugMix, AutoAugment, RandAugment, TrivialAugmentWide
from gpuaug.transforms.policy.timm import TimmAugMix, TimmAutoAugment, TimmRandAugment

__all__ = ["RULES", "at_strength", "table"]

Value = Any


class Rule(NamedTuple):
    """What an argument becomes: a formula of s, for the table in the docs, and the function that computes it."""

    formula: str
    value: Callable[[Value, float], Value]


def _each(function: Callable[[float, float], float]) -> Callable[[Value, float], Value]:
    """The function of a single number, or of each number of a sequence; None stays."""

    def apply(value: Value, s: float) -> Value:
        if value is None:
            return None
        return tuple(function(number, s) for number in value) if isinstance(value, Sequence) else function(value, s)

    return apply


def _factor(value: Value, s: float) -> Value:
    """A jitter around 1: a number is its half width, a range holds the factors themselves."""
    return FACTOR.value(value, s) if isinstance(value, Sequence) else TIMES.value(value, s)


def _angle(value: Value, s: float) -> Value:
    """A range of one angle is an exact turn, which stays."""
    exact = isinstance(value, Sequence) and len(set(value)) == 1 < len(value)
    return value if exact else TIMES.value(value, s)


TIMES = Rule("s · value", _each(lambda number, s: s * number))
CHANCE = Rule("s · p", _each(lambda number, s: s * number))
FACTOR = Rule("1 + s · (value - 1)", _each(lambda number, s: 1 + s * (number - 1)))
JITTER = Rule("s · value; a range (low, high): 1 + s · (value - 1)", _factor)
ANGLE = Rule("s · value; (a, a) stays", _angle)
POWER = Rule("value to the power s", _each(lambda number, s: float(number**s)))
ROUNDED = Rule("s · value, rounded", _each(lambda number, s: round(s * number)))
ALPHA = Rule("s · alpha, at least 0.01", _each(lambda number, s: max(0.01, s * number)))
THRESHOLD = Rule("255 - s · (255 - value)", _each(lambda number, s: 255 - s * (255 - number)))
BITS = Rule("8 - s · (8 - value), rounded", _each(lambda number, s: round(8 - s * (8 - number))))
QUALITY = Rule("100 - s · (100 - value), rounded", _each(lambda number, s: round(100 - s * (100 - number))))

# For each transform what its arguments become; those that are not named stay
RULES: dict[type[Transform], dict[str, Rule]] = {
    RandomResizedCrop: {"scale": FACTOR, "ratio": POWER},
    RandomCrop: {"padding": ROUNDED},
    RandomRotation: {"degrees": ANGLE},
    RandomAffine: {"degrees": ANGLE, "translate": TIMES, "shear": TIMES, "scale": FACTOR},
    RandomPerspective: {"distortion_scale": TIMES, "p": CHANCE},
    ElasticTransform: {"alpha": TIMES},
    RandomHorizontalFlip: {"p": CHANCE},
    RandomVerticalFlip: {"p": CHANCE},
    RandomGrayscale: {"p": CHANCE},
    RandomInvert: {"p": CHANCE},
    RandomAutocontrast: {"p": CHANCE},
    RandomEqualize: {"p": CHANCE},
    MotionBlur: {"p": CHANCE},
    RandomSolarize: {"threshold": THRESHOLD, "p": CHANCE},
    RandomPosterize: {"bits": BITS, "p": CHANCE},
    RandomAdjustSharpness: {"sharpness_factor": FACTOR, "p": CHANCE},
    ColorJitter: {"brightness": JITTER, "contrast": JITTER, "saturation": JITTER, "hue": TIMES},
    RandomPhotometricDistort: dict.fromkeys(("brightness", "contrast", "saturation"), FACTOR)
    | {"hue": TIMES, "p": CHANCE},
    GaussianBlur: {"sigma": TIMES},
    GaussianNoise: {"sigma": TIMES},
    JPEG: {"quality": QUALITY},
    RandAugment: {"magnitude": ROUNDED},
    RandomErasing: {"p": CHANCE, "scale": TIMES},
    MixUp: {"alpha": ALPHA},
    CutMix: {"alpha": ALPHA},
}
GATED = (  # their magnitudes cannot be scaled, or, as some of timm's, are stronger the smaller they are
    TrivialAugmentWide, AutoAugment, AugMix, TimmRandAugment, TimmAutoAugment, TimmAugMix, RandomChannelPermutation,
)  # fmt: skip
CONTAINERS = (RandomApply, RandomOrder, RandomChoice)
FIXED = (Identity, Grayscale, RGB)  # at every strength, besides conversions and crops such as Resize


def at_strength(transforms: Sequence[object], strength: float) -> list[Transform]:
    """A list at a lower strength, by the one rule of docs/recipes.md.

    Every step stays at its place, with smaller magnitudes and chances, so that draws stay the same and what they do
    becomes smaller. Lists inside are scaled too.

    Args:
        transforms: List of transforms at full strength; each has a rule (docs/recipes.md).
        strength: In [0, 1]. 1 returns the list as it is, 0 its evaluation list: crops become Resize and CenterCrop,
            random steps are left out.

    Raises:
        ValueError: If `strength` is out of range, or a step has no rule, such as a Lambda.
    """
    s = checks.number("recipes", "strength", strength, 0, 1)
    steps = flatten(transforms)
    for step in steps:
        _check(step)
    if s == 1:
        return steps
    if s == 0:
        return evaluation(steps)
    return [_weaker(step, s) for step in steps]


def _check(step: Any) -> None:
    for child in step.children if isinstance(step, CONTAINERS) else ():
        _check(child)
    known = isinstance(step, (*CONTAINERS, *GATED, *FIXED, Convert)) or type(step) in RULES
    if not known and not (isinstance(step, Crop) and step.for_evaluation() == (step,)):
        remedy = "Scale the others, and put it into the list after that."
        expected = "of transforms that have a rule for strength (docs/recipes.md)"
        raise checks.argument_error("recipes", "transforms", expected, checks.describe(step), remedy)


def _weaker(step: Transform, s: float) -> Transform:
    if isinstance(step, GATED):
        return RandomApply([step], p=s)
    if isinstance(step, CONTAINERS):
        return _container(step, s)
    return step.replace(
        **{name: rule.value(getattr(step, name), s) for name, rule in RULES.get(type(step), {}).items()}
    )


def _container(step: Any, s: float) -> Transform:
    changes: dict[str, Any] = {"transforms": [_weaker(child, s) for child in step.transforms]}
    if isinstance(step, RandomApply):
        changes["p"] = s * step.p
    elif isinstance(step, RandomChoice) and not isinstance(step.transforms[0], Crop):  # an image needs one of the crops
        p: Any = step.p or [1.0] * len(step.transforms)
        total = sum(p) if step.p is None else max(1.0, sum(p))  # as RandomChoice scales chances
        changes["p"] = [s * chance / total for chance in p]
    return step.replace(**changes)


def table() -> str:
    """The rules as a Markdown table, as docs/recipes.md shows it."""
    rows: dict[tuple[str, str], list[str]] = {}
    for kind, rules in RULES.items():
        arguments: dict[str, list[str]] = {}
        for name, rule in rules.items():
            arguments.setdefault(rule.formula, []).append(f"`{name}`")
        for formula, names in arguments.items():
            rows.setdefault((", ".join(names), formula), []).append(kind.__name__)
    rows[("all", "as it is, inside `RandomApply(p=s)`")] = [kind.__name__ for kind in GATED]
    rows[("`p`, `transforms`", "s · p, and each transform by its own rule")] = ["RandomApply", "RandomChoice"]
    rows[("`transforms`", "each by its own rule")] = ["RandomOrder"]
    stay = ["Resize", "CenterCrop", "Pad", *(kind.__name__ for kind in FIXED), "ToDtype", "Normalize"]
    rows[("all", "as they are")] = stay
    lines = [
        f"| {', '.join(f'`{name}`' for name in names)} | {arguments} | {formula} |"
        for (arguments, formula), names in rows.items()
    ]
    return "\n".join(["| transform | argument | at strength s |", "|---|---|---|", *lines]) + "\n"
