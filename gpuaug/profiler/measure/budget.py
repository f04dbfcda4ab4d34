"""The wall time that a profile may take: what fits into it, and what does not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from gpuaug.profiler.measure.passes import FEWEST, Pass

__all__ = ["Budget"]

KEPT = 0.10  # fraction of the time that is kept for the conclusions
LEAST_KEPT = 1.0  # seconds that are kept for them at least
END = 0.3  # seconds that are kept for the end


class Budget:
    """Wall time from now on. Measurements take a part of it each, and are left out if they do not fit.

    Args:
        seconds: Wall time in seconds.
        clock: Function that gives the present time in seconds.

    Attributes:
        seconds: The whole wall time.
        usable: The part of it for measurements.
        least: Seconds of the shortest run over the loader: its start, its warm-up and a few batches. 0: not known yet.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds, self.clock = seconds, clock
        self.usable = seconds
        self.keep(1.0)
        self.least = 0.0
        self._begun = clock()

    def keep(self, slowness: float) -> None:
        """Keep time for the conclusions, which take so many times as long as on a machine without other programs."""
        kept = max(LEAST_KEPT, KEPT * self.seconds) * max(1.0, slowness)
        self.usable = self.seconds - min(self.seconds / 2, kept)

    @property
    def spent(self) -> float:
        """Seconds since the begin."""
        return self.clock() - self._begun

    @property
    def left(self) -> float:
        """Seconds that are left for measurements; may be below 0."""
        return self.usable - self.spent

    def release(self) -> None:
        """The conclusions are there: what is left of their time may be used."""
        self.usable = max(self.usable, self.seconds - END)

    def share(self, fraction: float) -> float:
        """Seconds of a fraction of the usable time."""
        return self.usable * fraction

    def learn(self, seconds: float, run: Pass) -> None:
        """Learn from a run over the loader, which took so many seconds in all, what the shortest one takes."""
        timed = run.pace * run.batches
        self.least = max(self.least, seconds - timed + FEWEST * run.pace)

    def fits(self, seconds: float, runs: int = 1) -> bool:
        """Whether so many runs over the loader, of so many seconds each or of the least possible, still fit."""
        return runs * max(seconds, self.least) <= self.left

    def why_not(self, fraction: float, runs: int = 1, seconds: float = 0.0) -> str:
        """Why so many runs do not fit, and how much more would do, where they have this fraction of the budget."""
        each = max(self.least, seconds)
        needed = runs * each / (fraction * (1 - KEPT)) + LEAST_KEPT
        more = math.ceil(max(needed - self.seconds, runs * each - self.left, 1.0))
        many = f"{runs} runs of {each:.1f} s" if runs > 1 else f"{each:.1f} s"
        return f"{many} did not fit the budget, of which {max(0.0, self.left):.1f} s were left; raise it by {more} s"
