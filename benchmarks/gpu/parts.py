"""The parts in the order of their worth, and how a budget of seconds is shared out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..locations import PACKAGE

__all__ = ["FULL", "PARTS", "RESERVE", "SHORT", "Part", "dry_share", "share", "size"]

FULL, SHORT = 480, 200  # seconds: the two budgets that are planned; others are scaled
DRY = 400.0  # seconds for a part of a dry run, whatever its share
RESERVE = 8.0  # seconds kept for the charts and the summary


@dataclass(frozen=True)
class Part:
    """One process, and one file of results."""

    name: str
    full: float  # seconds of FULL
    short: float  # seconds of SHORT; 0: only in time that others leave
    least: float  # seconds below which it is not worth a start
    most: float  # seconds that it can use
    module: str = ""

    @property
    def runs(self) -> str:
        """The module that is run with -m."""
        return self.module or f"{PACKAGE}.gpu.{self.name}"


# What a part is expected to take on 16 cores and one H200. A kernel costs about 0.5 s of one core to compile, and a
# process about 8 s until torch, its libraries and a context are there. Correctness has 263 kernels: 135 s of compiling
# and 60 to 90 s of tests and twins, on 8 cores 35 to 45 s with the start. Speed compiles some 60 kernels in its own
# process (five recipes, with and without a mix, two kinds of batches: 30 s) and training 10 (5 s). Each tool of the
# sanitizer runs 10 kernels from the compile cache at a hundredth of their speed: 8 to 15 s. Tuning compiles 3 to 8
# variants of 4 kernels, in parallel: 10 s, and times them in 5.
PARTS = (
    Part("environment", full=15, short=12, least=3, most=25),
    Part("correctness", full=115, short=75, least=25, most=240),
    Part("speed", full=150, short=65, least=20, most=400),
    Part("training", full=110, short=40, least=25, most=300),
    Part("sanitizer", full=48, short=0, least=15, most=120),
    Part("tuning", full=34, short=0, least=12, most=90),
)


def size(budget: float) -> str:
    """Which of the two sizes of a part a budget is for."""
    return "full" if budget >= (FULL + SHORT) / 2 else "short"


def dry_share(left: float) -> float:
    """Of a dry run, in which nothing takes the time that it has on a device."""
    return min(left - RESERVE, DRY) if left > RESERVE else 0.0


def share(parts: Sequence[Part], left: float, budget: float) -> float:
    """Seconds for the first of `parts`, those not yet run, of the `left` ones; 0 if it does not fit.

    What earlier parts left goes to all that follow; what a part does not fit into its share, those after it give.
    """
    weights = [part.full if size(budget) == "full" else part.short for part in parts]
    if not any(weights):
        weights = [part.full for part in parts]
    first, free = parts[0], left - RESERVE
    if free < first.least or not weights[0]:
        return 0.0
    return min(max(free * weights[0] / sum(weights), first.least), first.most)
