"""Warnings while a setting trains: rules on its curve so far, beside the baseline's.

Each rule is a function of (curve, baseline, mixed share) that returns a sentence or nothing. A curve has a mapping for
each epoch, with what the training function reports: `loss`, `accuracy`, `clean_accuracy`, `recall`. The numbers are
gpuaug's own choice; docs/tuning.md lists them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gpuaug.tuning.reporter import Epoch

__all__ = ["RULES", "Warned", "average", "warned"]

LOW = 0.5  # share of the first epoch's loss below which a loss is low
WINDOW = 3  # epochs in which a validation accuracy that is stuck brings nothing new
RISE = 0.005  # accuracy that counts as a rise
GAP = 0.15  # accuracy by which knowing and validating differ when something is wrong
DROP = 0.2  # recall that a class loses when it collapses; it also loses half of it
COLLAPSED = 3  # epochs in a row in which it does, of at least FIRST: recalls vary much in the first epochs
FIRST = 5
SLOW = 0.02  # accuracy by which a run is behind the baseline after half of its epochs
SLOWEST = 5  # epochs before a run is called slow
EARLY = 3  # epochs in which a run should begin to move
MIXED = 0.5  # share of samples from which mixing may be the reason

Curve = Sequence[Epoch]


class Warned(NamedTuple):
    """A warning: the rule's name, the epoch from 1 at which it first held, and a sentence."""

    id: str
    epoch: int
    text: str


def average(curves: Sequence[Curve]) -> list[Epoch]:
    """The mean of several curves, epoch by epoch, of the values that all of them have."""
    found: list[Epoch] = []
    for epochs in zip(*curves, strict=False):
        names = set(epochs[0]).intersection(*map(set, epochs))
        found.append({name: _mean([epoch[name] for epoch in epochs]) for name in names})
    return found


def warned(curve: Curve, baseline: Curve, mixed: float, before: Sequence[Warned] = ()) -> list[Warned]:
    """The warnings of rules that hold now and that were not there before."""
    said = {one.id for one in before}
    found = []
    for rule in RULES:
        result = rule(curve, baseline, mixed)
        if result is not None and result[0] not in said:
            found.append(Warned(result[0], len(curve), result[1]))
    return found


def learns_but_does_not_validate(curve: Curve, baseline: Curve, mixed: float) -> tuple[str, str] | None:
    """A low training loss while validation is stuck or falls: too strong, or overfitting.

    exp(-loss) is a lower bound of the mean probability that the network gives to the right class of training images, as
    they are augmented; the accuracy on clean training images says whether it knows these too.
    """
    losses, values = _series(curve, "loss"), _series(curve, "accuracy")
    if len(losses) < len(curve) or len(values) < len(curve) or len(curve) <= WINDOW:
        return None
    is_low = losses[-1] <= LOW * losses[0]
    best = max(values[:-WINDOW])
    if not is_low or max(values[-WINDOW:]) > best + RISE:
        return None
    state = "falls" if values[-1] < best - RISE else "is stuck"
    fact = f"the training loss is low ({losses[-1]:.2f}) and validation {state} at {values[-1]:.3f}"
    learned, clean = math.exp(-losses[-1]), curve[-1].get("clean_accuracy")
    if clean is None:
        if learned - values[-1] < GAP:
            return None  # it has converged
        return "too-strong-or-overfitting", f"{fact}: too strong, or overfitting. Report clean_accuracy to know which"
    if clean - values[-1] >= GAP:
        remedy = "augment more, train for fewer epochs, or regularise"
        return "overfitting", f"{fact}, with {clean:.3f} on clean training images: overfitting; {remedy}"
    if learned - clean >= GAP:
        remedy = "lower the magnitude or the strength"
        return "too-strong", f"{fact}, with only {clean:.3f} on clean training images: too strong; {remedy}"
    return None


def recall_collapsed(curve: Curve, baseline: Curve, mixed: float) -> tuple[str, str] | None:
    """One class loses half of the baseline's recall in some epochs in a row, while the others do not."""
    if len(curve) < FIRST or not baseline:
        return None
    both = set.intersection(*(_collapsed(curve, baseline, epoch) for epoch in range(len(curve))[-COLLAPSED:]))
    if not both:
        return None
    now, then = curve[-1]["recall"], baseline[min(len(curve), len(baseline)) - 1]["recall"]
    words = ", ".join(f"class {number}: {now[number]:.2f} instead of {then[number]:.2f}" for number in sorted(both))
    return "recall-collapsed", f"recall has collapsed ({words}); a transform may remove what tells this class"


def _collapsed(curve: Curve, baseline: Curve, epoch: int) -> set[int]:
    """The classes whose recall has collapsed in an epoch."""
    now, then = curve[epoch].get("recall"), baseline[min(epoch, len(baseline) - 1)].get("recall")
    if now is None or then is None or len(now) != len(then):
        return set()
    lost = [before - after for before, after in zip(then, now, strict=True)]
    found = set()
    for number, loss in enumerate(lost):
        others = [one for other, one in enumerate(lost) if other != number and not math.isnan(one)]
        alone = not others or sum(others) / len(others) < loss / 2
        if loss >= DROP and now[number] <= then[number] / 2 and alone:
            found.add(number)
    return found


def slow(curve: Curve, baseline: Curve, mixed: float) -> tuple[str, str] | None:
    """In two epochs in a row it is behind what the baseline had after half as many epochs."""
    values, base = _series(curve, "accuracy"), _series(baseline, "accuracy")
    if len(values) < SLOWEST or len(base) < len(values) // 2:
        return None
    for count in (len(values) - 1, len(values)):
        if max(values[:count]) >= max(base[: count // 2]) - SLOW:
            return None
    count = len(values)
    fact = f"after {count} epochs it has {max(values):.3f}, and the baseline had {max(base[: count // 2]):.3f} after"
    return "slow", f"{fact} {count // 2}: convergence is slowed; train longer, or lower the magnitude"


def mixing_stops_learning(curve: Curve, baseline: Curve, mixed: float) -> tuple[str, str] | None:
    """Much mixing, and in its first epochs the run does not move where the baseline does."""
    values, base, losses = _series(curve, "accuracy"), _series(baseline, "accuracy"), _series(curve, "loss")
    if mixed < MIXED or len(values) < EARLY or len(base) < EARLY:
        return None
    moved = values[EARLY - 1] - values[0] >= 0.02 or (len(losses) >= EARLY and losses[EARLY - 1] < 0.95 * losses[0])
    if moved or base[EARLY - 1] - values[EARLY - 1] < 0.1:
        return None
    fact = f"{mixed:.0%} of the samples are mixed, and in {EARLY} epochs accuracy went from {values[0]:.3f} to"
    return "mixing-too-high", f"{fact} {values[EARLY - 1]:.3f}, the baseline's to {base[EARLY - 1]:.3f}; mix fewer"


RULES: tuple[Callable[[Curve, Curve, float], tuple[str, str] | None], ...] = (
    learns_but_does_not_validate, recall_collapsed, slow, mixing_stops_learning,
)  # fmt: skip


def _series(curve: Curve, name: str) -> list[float]:
    return [epoch[name] for epoch in curve if name in epoch]


def _mean(values: Sequence[float | list[float]]) -> float | list[float]:
    first = values[0]
    if isinstance(first, list):
        return [sum(column) / len(column) for column in zip(*values, strict=False)]
    return sum(values) / len(values)  # type: ignore[arg-type]
