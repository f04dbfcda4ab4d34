"""Distributions of drawn parameters, as data. Each can tell a sample of its own from one that is slightly off.

The bounds say how likely a right library would fail a test: `statistics.FALSE_ALARM`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..chance import bernstein, hoeffding, ks_distance, uniform_cdf

__all__ = [
    "Beta",
    "Box",
    "Categories",
    "Distribution",
    "Elsewhere",
    "Integers",
    "Permutation",
    "Uniform",
]  # fmt: skip

Array = NDArray[Any]
COMPARISONS = 32  # at most so many parameters of an op share the chance of a false alarm


class Distribution(Protocol):
    """How one parameter is distributed."""

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        """Empty if `values` (n, ...) may be drawn from it, else what is wrong. `size`: of the images, pixels."""

    def nudged(self) -> Distribution | None:
        """One that is slightly off, which the same values must miss; None: there is none."""


def continuous(values: Array, cdf: Callable[[Array], Array], slack: float = 0.0) -> str:
    """The Kolmogorov-Smirnov test."""
    distance, bound = ks_distance(values.ravel(), cdf), hoeffding(values.size, COMPARISONS) + slack
    return "" if distance <= bound else f"a distance of {distance:.4f}, more than {bound:.4f}"


def discrete(values: Array, chances: Sequence[float]) -> str:
    """The frequency of each category; `values` holds their numbers."""
    values = values.ravel()
    if values.min() < 0 or values.max() >= len(chances):
        return f"values from {values.min()} to {values.max()}, not {len(chances)} categories"
    counts = np.bincount(values.astype(np.int64), minlength=len(chances)) / values.size
    for category, (count, p) in enumerate(zip(counts, chances, strict=True)):
        bound = bernstein(p, values.size, len(chances) * COMPARISONS) if 0 < p < 1 else 0.0
        if abs(count - p) > bound:
            return f"category {category} in {count:.4f} of the samples, not {p:.4f}"
    return ""


@dataclass(frozen=True)
class Uniform:
    """Uniform in [low, high); `step`: rounded to its multiples."""

    low: float
    high: float
    step: float = 0.0

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        if values.min() < self.low - self.step / 2 or values.max() > self.high + self.step / 2:
            return f"values from {values.min()} to {values.max()}, not in [{self.low}, {self.high}]"
        slack = self.step / (self.high - self.low)
        return continuous(values, uniform_cdf(self.low, self.high), slack)

    def nudged(self) -> Distribution:
        return replace(self, high=self.high + 0.1 * (self.high - self.low))


@dataclass(frozen=True)
class Integers:
    """Each integer in [low, high] is equally likely."""

    low: int
    high: int

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        count = self.high - self.low + 1
        return discrete(values - self.low, [1 / count] * count)

    def nudged(self) -> Distribution:
        return replace(self, high=self.high + 1)


class Categories:
    """Category k has chance `chances[k]`."""

    def __init__(self, chances: Sequence[float]) -> None:
        self.chances = list(chances)

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        return discrete(values, self.chances)

    def nudged(self) -> Distribution:
        first, *others = self.chances
        return Categories([0.8 * first, others[0] + 0.2 * first, *others[1:]])


@dataclass(frozen=True)
class Permutation:
    """Every order of `count` things is equally likely; the values are (n, count)."""

    count: int

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        return discrete(self.numbers(values), [1 / math.factorial(self.count)] * math.factorial(self.count))

    def numbers(self, values: Array) -> Array:
        """The number of each order among all of them."""
        orders = {order: number for number, order in enumerate(itertools.permutations(range(self.count)))}
        return np.array([orders[tuple(order)] for order in values.tolist()])

    def nudged(self) -> Distribution:
        return Ordered(self.count)


class Ordered(Permutation):
    """The first order is more likely than the others."""

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        every = math.factorial(self.count)
        others = [(1 - 1.3 / every) / (every - 1)] * (every - 1)
        return discrete(self.numbers(values), [1.3 / every, *others])


@dataclass(frozen=True)
class Beta:
    """Beta(a, b)."""

    a: float
    b: float

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        from scipy import stats

        return continuous(values, stats.beta(self.a, self.b).cdf)

    def nudged(self) -> Distribution:
        return Beta(1.1 * self.a, 1.1 * self.b)


@dataclass(frozen=True)
class Box:
    """A box (top, left, height, width) whose area and the logarithm of whose ratio are uniform, at a uniform place.

    For boxes of which the first try always fits, on images so large that rounding does not show.

    Args:
        scale: range of the area, as a fraction of the image's.
        ratio: range of width / height, or with `tall` of height / width.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]
    tall: bool = False

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        top, left, height, width = values.astype(np.float64).T
        ratio = height / width if self.tall else width / height
        places = {"top": top / (size[0] - height), "left": left / (size[1] - width)}
        parts = {"area": height * width / (size[0] * size[1]), "ratio": np.log(ratio), **places}
        low, high = map(math.log, self.ratio)
        cdfs = {"area": uniform_cdf(*self.scale), "ratio": uniform_cdf(low, high)}
        for name, part in parts.items():
            if found := continuous(part, cdfs.get(name, uniform_cdf()), slack=1e-3):
                return f"{name}: {found}"
        together = np.abs(np.corrcoef(np.stack(list(parts.values()))) - np.eye(4)).max()
        return "" if together < 0.02 else f"its parts are correlated by {together:.3f}"

    def nudged(self) -> Distribution:
        return replace(self, ratio=(self.ratio[0], 1.1 * self.ratio[1]))


@dataclass(frozen=True)
class Elsewhere:
    """Its distribution is not one of these: the test of this name in tests/transforms/test_*distributions.py has it."""

    by: str

    def misses(self, values: Array, size: tuple[int, int]) -> str:
        return ""

    def nudged(self) -> Distribution | None:
        return None
