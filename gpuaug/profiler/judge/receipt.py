"""The receipt: what was advised is done, and before and after are run in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from gpuaug.profiler.judge.advice import Advice
from gpuaug.profiler.judge.apply import Moved, reloaded
from gpuaug.profiler.judge.verdict import Gain
from gpuaug.profiler.machine import Drift
from gpuaug.profiler.measure import passes as ladder
from gpuaug.profiler.measure.passes import Pass

__all__ = ["Receipt", "prove"]

TURNS = 3  # of before and after


@dataclass(frozen=True)
class Receipt:
    """What an advice promised, and what it brought.

    Attributes:
        id: of the advice. predicted: the replay's gain. measured: of the runs; its ends are the worst and best pairs.
        error: predicted against measured, a fraction. reliable: the cores kept their speed meanwhile.
        before, after: seconds a batch of each run.
    """

    id: str
    predicted: Gain
    measured: Gain
    error: float
    reliable: bool
    drift: float
    before: list[float]
    after: list[float]


def changed(loader: Any, advice: Advice, moved: Moved | None) -> Any:
    """The loader with an advice applied; None if only the user can apply it."""
    if advice.id == "augment-on-device":
        return moved
    return reloaded(loader, **advice.settings) if advice.settings else None


def prove(
    loader: Any,
    after: Any,
    advice: Advice,
    step: Callable[[Any], Any] | None,
    seconds: float,
    warm: tuple[int, int],
    drift: Drift,
) -> Receipt:
    """Run the loader as it is and as advised, in turns, and compare.

    Args:
        loader, after: before and after.
        advice: with its predicted gain.
        step: of the training loop, the same for both.
        seconds: of all runs together. warm: batches left out of each run, before and after.
        drift: looks at the cores' speed between the runs.
    """
    assert advice.gain is not None
    each = seconds / (2 * TURNS)
    runs: tuple[list[Pass], list[Pass]] = ([], [])
    drift.look()
    for turn in range(TURNS):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):  # before after, after before, before after
            source = (loader, after)[which]
            runs[which].append(ladder.timed(("before", "after")[which], source, step, each, warm[which]))
        drift.look()
    before, later = ([run.pace for run in some] for some in runs)
    ratios = sorted(b / a for b, a in zip(before, later, strict=True))
    measured = Gain(median(before) / median(later), ratios[0], ratios[-1])
    error = advice.gain.times / measured.times - 1
    return Receipt(advice.id, advice.gain, measured, error, drift.reliable, drift.change, before, later)
