"""Which settings differ: one least difference for all pairs, from all runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["CONFIDENCE", "least_difference", "ranks"]

CONFIDENCE = 0.95
EXACT = 1e-9  # share of the values below which a rest is rounding


def least_difference(table: Sequence[Sequence[float]]) -> float | None:
    """The difference of two means from which on two settings differ: Tukey's honest significant difference.

    All settings have the same seeds, so what a seed adds to all of them is taken out (a two-way table without
    repetitions), and the rest is the spread, common to all settings. Among k settings without any difference, the
    largest difference of two is below this in 95 % of all searches, so the choice of the best one is allowed for.

    Args:
        table: For each setting the values of all seeds, in the same order.

    Returns:
        The difference; None for fewer than two settings or seeds, and where all seeds show the same differences,
        as with a function that does not use its seed: then there is no spread to judge by.
    """
    from scipy.stats import studentized_range

    values = np.asarray(table, dtype=float)
    if values.ndim != 2 or min(values.shape) < 2:
        return None
    settings, seeds = values.shape
    rest = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    if np.abs(rest).max() <= EXACT * np.abs(values).max():
        return None
    freedom = (settings - 1) * (seeds - 1)
    error = math.sqrt(float((rest**2).sum()) / freedom / seeds)
    return float(studentized_range.ppf(CONFIDENCE, settings, freedom)) * error


def ranks(means: Sequence[float], least: float | None) -> list[int]:
    """1 + the number of settings that are better by more than `least`; equal ranks may be chance. Higher is better."""
    return [1 + sum(other - mean > (least or 0.0) for other in means) for mean in means]
