"""Bounds on chance, and distances of distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FALSE_ALARM", "assert_frequencies", "bernstein", "hoeffding", "ks_between", "ks_distance", "uniform_cdf",
]  # fmt: skip

Array = NDArray[Any]
FALSE_ALARM = 1e-9  # chance that a right library fails a statistical test


def hoeffding(count: int, comparisons: int = 1) -> float:
    """How far the mean of `count` draws in [0, 1], or their distribution (Dvoretzky, Kiefer, Wolfowitz), may stray."""
    return math.sqrt(math.log(2 * comparisons / FALSE_ALARM) / (2 * count))


def bernstein(p: float, count: int, comparisons: int = 1) -> float:
    """How far a frequency of chance p may stray: sharper than Hoeffding's bound for rare events."""
    log = math.log(2 * comparisons / FALSE_ALARM) / count
    return log / 3 + math.sqrt((log / 3) ** 2 + 2 * p * (1 - p) * log)


def ks_distance(values: Array, cdf: Callable[[Array], Array]) -> float:
    """The Kolmogorov-Smirnov distance of a sample from a distribution function."""
    values = np.sort(values)
    expected, steps = cdf(values), np.arange(len(values) + 1) / len(values)
    return float(max((steps[1:] - expected).max(), (expected - steps[:-1]).max()))


def ks_between(first: Array, second: Array) -> float:
    """The Kolmogorov-Smirnov distance of two samples."""
    points = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def uniform_cdf(low: float = 0.0, high: float = 1.0) -> Callable[[Array], Array]:
    return lambda values: np.clip((values - low) / (high - low), 0.0, 1.0)


def assert_frequencies(chosen: Array, expected: list[float]) -> None:
    """`chosen` holds category numbers; each category is as frequent as expected, and there are no others."""
    counts = np.bincount(chosen.ravel(), minlength=len(expected)) / chosen.size
    assert len(counts) == len(expected)
    for category, p in enumerate(expected):
        assert abs(counts[category] - p) <= bernstein(p, chosen.size, len(expected)), (category, counts[category], p)
