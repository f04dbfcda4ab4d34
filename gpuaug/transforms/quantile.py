"""Quantiles of the Beta distribution, so that one uniform number is one draw, with no rejection."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["beta_quantile"]

Array = NDArray[Any]

POINTS = 4097


def _half(a: float, b: float) -> tuple[Array, Array]:
    """(y, mass): y = x**min(a, 1) on a grid over x in [0, 1/2], and the unnormalised mass of Beta(a, b) below it.

    With y = x**e the density x**(a-1) (1-x)**(b-1) dx becomes y**(a/e - 1) (1 - x)**(b-1) dy / e. For a < 1, where the
    density itself is infinite at 0, e = a makes it smooth; for a > 1 it is smooth as it is. So the trapezium rule and
    linear interpolation are accurate for every a > 0.
    """
    e = min(a, 1.0)
    y = np.linspace(0.0, 0.5**e, POINTS)
    density = y ** (a / e - 1.0) * (1.0 - y ** (1.0 / e)) ** (b - 1.0) / e
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) * 0.5 * (y[1] - y[0]))])
    return y, mass


@lru_cache(maxsize=64)
def beta_quantile(a: float, b: float) -> Callable[[Array], Array]:
    """The inverse distribution function of Beta(a, b): uniforms (n,) in [0, 1) -> draws (n,) in [0, 1]."""
    low_y, low_mass = _half(a, b)
    high_y, high_mass = _half(b, a)
    total = low_mass[-1] + high_mass[-1]

    def low(mass: Array) -> Array:
        return np.interp(mass, low_mass, low_y) ** (1.0 / min(a, 1.0))

    def high(mass: Array) -> Array:
        return 1.0 - np.interp(total - mass, high_mass, high_y) ** (1.0 / min(b, 1.0))

    def quantile(uniforms: Array) -> Array:
        mass = uniforms * total
        below = mass <= low_mass[-1]
        if len(mass) == 1:  # a batch's only draw
            return low(mass) if below[0] else high(mass)
        return np.where(below, low(mass), high(mass))

    return quantile
