"""Rules about what a list does to the pixels: flips, turns, colours, crops, erasing, and the numbers of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gpuaug.advice.facts import Facts, Finding, Step, is_random
from gpuaug.advice.names import Pair, are_characters, colours, flipped_left_right, flipped_up_down, turned
from gpuaug.engine.pipeline import Pipeline
from gpuaug.transforms.base import Canvas
from gpuaug.transforms.color import ColorJitter, Grayscale, RandomChannelPermutation, RandomGrayscale, RandomInvert
from gpuaug.transforms.convert import Normalize
from gpuaug.transforms.crop import RandomResizedCrop
from gpuaug.transforms.distort import RandomPhotometricDistort
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.geometric import (
    RandomAffine,
    RandomHorizontalFlip,
    RandomRotation,
    RandomVerticalFlip,
    angles,
)
from gpuaug.transforms.policy import ops
from gpuaug.transforms.policy.policies import Policy

__all__ = ["RULES"]

WRITTEN = ("digits", "documents", "letters", "signs")  # domains in which a mirrored object is another one, or none
FINE = ("documents", "digits", "medical", "satellite")  # domains in which what matters may be small
STRONG_HUE = 0.1  # of a turn of the colour circle, either way
SMALL_CROP, FINE_CROP = 0.05, 0.2  # smallest share of an image's area that a crop may keep
LARGE_ERASE = 0.4  # largest share of an image's area that may be erased
TURN = {"digits": 45.0, "letters": 45.0, "documents": 30.0, "signs": 45.0}  # largest angle, in degrees
NEAR = 0.02  # largest difference of mean and std, in parts of 1


def random_evaluation(facts: Facts) -> Iterator[Finding]:
    """Steps that change images by chance in an evaluation list."""
    found = [step for step in facts.eval if is_random(step)]
    if facts.given_eval and found:
        reason = f"the evaluation list holds {_listed(found)}, so that the same model gets other results each time"
        yield Finding("random-evaluation", reason, "leave eval=None, which keeps resizing and normalisation only")


def flips(facts: Facts) -> Iterator[Finding]:
    """Flips that turn a class into another one, or into none."""
    names = facts.names
    for step, exchanged in (
        *((step, flipped_left_right(names)) for step in facts.trained(RandomHorizontalFlip)),
        *((step, flipped_up_down(names)) for step in facts.trained(RandomVerticalFlip)),
    ):
        if pairs := [pair for pair in exchanged if _believed(pair, facts)]:
            reason = f"{step} turns {_pairs(pairs)}, and the labels stay"
        elif facts.domain in WRITTEN:
            reason = f"{step} makes mirror writing of {facts.domain}"
        elif facts.domain is None and are_characters(names):
            reason = f"{step} makes mirror writing of the classes {', '.join(names[:4])}, ..."
        else:
            continue
        yield Finding("flip-changes-class", reason, "leave the flip out")


def turns(facts: Facts) -> Iterator[Finding]:
    """Rotations that turn a class into another one, or into none."""
    largest = TURN.get(facts.domain or "", 360.0)
    for step in facts.trained(RandomRotation, RandomAffine, Policy):
        degrees = _degrees(step)
        if pairs := [pair for pair in turned(facts.names, degrees) if _believed(pair, facts)]:
            reason = f"{step} turns images by up to {degrees:.0f} degrees, which turns {_pairs(pairs)}"
        elif degrees > largest:
            reason = f"{step} turns {facts.domain} by up to {degrees:.0f} degrees"
        else:
            continue
        fix = f"turn by at most {min(largest, 45.0):.0f} degrees"
        yield Finding("rotation-changes-class", reason, fix + _instead(step))


def hues(facts: Facts) -> Iterator[Finding]:
    """Strong changes of hue where the colour is the class."""
    coloured = colours(facts.names)
    if not coloured and facts.domain not in ("products", "medical"):
        return
    what = f"the classes {_quoted(coloured[:2])} differ in colour" if coloured else f"colour counts in {facts.domain}"
    for step in facts.trained(ColorJitter, RandomPhotometricDistort):
        low, high = _hue(step.transform)
        if max(-low, high) > STRONG_HUE:
            reason = f"{step} turns the hue by up to {max(-low, high):g} of the colour circle, and {what}"
            yield Finding("hue-is-the-class", reason, f"use hue={STRONG_HUE / 2:g} or less")
    for step in facts.trained(RandomGrayscale, Grayscale, RandomChannelPermutation, RandomInvert):
        if coloured and step.p > STRONG_HUE:
            reason = f"{step} takes the colour of {step.p:.0%} of the images, and {what}"
            yield Finding("hue-is-the-class", reason, "leave it out, or lower its p")


def lost_objects(facts: Facts) -> Iterator[Finding]:
    """Crops and erased boxes that can remove the whole object."""
    least = FINE_CROP if facts.domain in FINE else SMALL_CROP
    for step in facts.trained(RandomResizedCrop):
        low = step.transform.scale[0]  # type: ignore[attr-defined]
        if low < least:
            where = f" of {facts.domain}" if facts.domain in FINE else ""
            reason = f"{step} may keep {low:.0%} of an image{where}, which may not show the object"
            yield Finding("crop-loses-object", reason, f"use scale=({least:g}, 1) or more")
    for step in facts.trained(RandomErasing):
        high = step.transform.scale[1]  # type: ignore[attr-defined]
        if high > LARGE_ERASE:
            reason = f"{step} may erase {high:.0%} of an image, which may be the whole object"
            yield Finding("erasing-loses-object", reason, f"use scale=(0.02, {0.33:g}), or p=0.25 and less")


def normalisation(facts: Facts) -> Iterator[Finding]:
    """Mean and std unlike those of the weights, none, or two."""
    given = [step.transform for step in facts.train if isinstance(step.transform, Normalize)]
    if len(given) > 1:
        reason = f"the training list holds {len(given)} Normalize, and the second one normalises what is normal already"
        yield Finding("normalised-twice", reason, "keep one of them, after ToDtype")
    if facts.preset is None:
        return
    mean, std = (tuple(map(float, getattr(facts.preset, name))) for name in ("mean", "std"))
    right = f"Normalize(mean={_numbers(mean)}, std={_numbers(std)})"
    if not given:
        yield Finding(
            "normalize-missing", "the weights were trained on normalised images", f"add {right} after ToDtype"
        )
    elif any(_far(own, theirs) for own, theirs in ((given[-1].mean, mean), (given[-1].std, std))):
        reason = f"{given[-1]!r} is not what the weights were trained with"
        yield Finding("normalize-differs", reason, f"use {right}")


def sizes(facts: Facts) -> Iterator[Finding]:
    """Sizes of the results unlike each other's and the weights'."""
    train, evaluated = (_size(facts.augment, name) for name in ("train", "eval"))
    if facts.preset is not None and train is not None:
        crop = [*map(int, facts.preset.crop_size)] * 2
        wanted = (crop[0], crop[1])
        if min(train) < 0.5 * min(wanted) or max(train) > 1.5 * max(wanted):
            reason = f"training gives images of {_by(train)}, and the weights were trained for {_by(wanted)}"
            yield Finding("size-differs", reason, f"use the size {wanted[0]}, or train for long enough to adapt")
    if train is None or evaluated is None or not facts.given_eval:
        return
    if max(train) > 1.05 * max(evaluated) or max(evaluated) > 1.5 * max(train):
        reason = f"training gives images of {_by(train)} and evaluation of {_by(evaluated)}"
        yield Finding("size-differs", reason, "evaluate at the training size, or up to 1.3 times as large")


RULES = (random_evaluation, flips, turns, hues, lost_objects, normalisation, sizes)


# ---- what the rules read ---------------------------------------------------------------------------------------------


def _believed(pair: Pair, facts: Facts) -> bool:
    """Whether two names say what they look like: numbers as names of folders need not be digits."""
    return facts.domain in (None, *WRITTEN) or not all(len(name) == 1 for name in pair)


def _degrees(step: Step) -> float:
    """The largest angle by which a step turns an image, either way."""
    transform = step.transform
    if isinstance(transform, Policy):
        strengths = transform.strengths(224, 224)[ops.NUMBER["Rotate"]]
        return float(abs(strengths).max())
    degrees = transform.degrees  # type: ignore[attr-defined]
    return float(max(map(abs, angles(transform, "degrees", degrees))))


def _instead(step: Step) -> str:
    """What to use in place of a policy whose angle is no argument."""
    return ", such as RandAugment(magnitude=9)" if isinstance(step.transform, Policy) else ""


def _hue(transform: object) -> tuple[float, float]:
    hue = transform.hue  # type: ignore[attr-defined]
    return (-hue, hue) if isinstance(hue, (int, float)) else (0.0, 0.0) if hue is None else tuple(hue)


def _size(augment: object, name: str) -> tuple[int, int] | None:
    """(height, width) that a list gives photographs; None if it does not give all images one size."""
    pipeline: Pipeline = getattr(augment, f"{name}_pipeline")
    canvas = Canvas(np.array([(480, 640), (640, 480)]), 3)
    for step in pipeline.steps:
        if step.size_is_drawn or step.kind.value == "opaque":
            return None
        canvas = step.after(canvas)
    first, second = canvas.sizes.tolist()
    return (first[0], first[1]) if first == second else None


def _far(own: Sequence[float], theirs: Sequence[float]) -> bool:
    return len(own) != len(theirs) or any(abs(a - b) > NEAR for a, b in zip(own, theirs, strict=True))


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _listed(steps: Sequence[Step]) -> str:
    return ", ".join(type(step.transform).__name__ for step in steps)


def _pairs(pairs: Sequence[Pair]) -> str:
    shown = ", ".join(f"{_quoted([one])} into {_quoted([other])}" for one, other in pairs[:2])
    return shown + (f" and {len(pairs) - 2} more pairs" if len(pairs) > 2 else "")


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(f'"{name}"' for name in names)
