"""The receipt: apply a recommendation, and run the loop before and after the change in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from gpuaug.profiler.judge.advice import Advice
from gpuaug.profiler.judge.apply import MovedLoader, with_settings
from gpuaug.profiler.judge.verdict import Gain
from gpuaug.profiler.machine import Drift
from gpuaug.profiler.measure.budget import Budget
from gpuaug.profiler.measure.passes import Pass, timed

__all__ = ["Receipt", "prove"]

TURNS = 3  # runs of before, and of after


@dataclass(frozen=True)
class Receipt:
    """The predicted and the measured gain of a recommendation.

    Attributes:
        id: Id of the recommendation.
        predicted: Gain that the replay predicted.
        measured: Measured gain; its interval is that of the worst and the best pair of runs.
        error: predicted / measured - 1.
        reliable: Whether the speed of the cores changed by at most 15 % during the runs.
        drift: Change of the cores' speed, a fraction.
        before, after: Seconds per batch of each run.
    """

    id: str
    predicted: Gain
    measured: Gain
    error: float
    reliable: bool
    drift: float
    before: list[float]
    after: list[float]


def changed(loader: Any, advice: Advice, moved: MovedLoader | None) -> Any:
    """The loader with a recommendation applied; None if only the user can apply it."""
    if advice.id == "augment-on-device":
        return moved
    return with_settings(loader, **advice.settings) if advice.settings else None


def prove(
    loader: Any,
    after: Any,
    advice: Advice,
    step: Callable[[Any], Any] | None,
    seconds: float,
    warm: tuple[int, int],
    drift: Drift,
    budget: Budget,
) -> Receipt:
    """Run the loader and the changed loader in turns, and compare. There are fewer turns if the budget ends before.

    Args:
        loader: Loader before the change.
        after: Loader after the change.
        advice: Recommendation, with its predicted gain.
        step: Training step for both; None: only iterate.
        seconds: Duration of all runs together.
        warm: Number of first batches that are left out of each run: (before, after).
        drift: Measures the speed of the cores between the runs.
        budget: Wall time that is left.
    """
    assert advice.gain is not None
    each = seconds / (2 * TURNS)
    runs: tuple[list[Pass], list[Pass]] = ([], [])
    drift.look()
    for turn in range(TURNS):
        if turn and not budget.fits(each, 2):
            break
        for which in (0, 1) if turn % 2 == 0 else (1, 0):  # before after, after before, before after
            source, begun = (loader, after)[which], budget.spent
            run = timed(("before", "after")[which], source, step, each, warm[which], wall=True)
            runs[which].append(run)
            budget.learn(budget.spent - begun, run)
        drift.look()
    before, later = ([one.pace for one in some] for some in runs)
    ratios = sorted(b / a for b, a in zip(before, later, strict=True))
    measured = Gain(median(before) / median(later), ratios[0], ratios[-1])
    error = advice.gain.times / measured.times - 1
    return Receipt(advice.id, advice.gain, measured, error, drift.reliable, drift.change, before, later)
