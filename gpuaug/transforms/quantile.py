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
    """(y, mass): y = x**a on a grid over x in [0, 1/2], and the unnormalised mass of Beta(a, b) below it.

    With y = x**a the density x**(a-1) (1-x)**(b-1) dx becomes (1 - y**(1/a))**(b-1) dy / a, which is smooth for every
    a > 0, so the trapezium rule and linear interpolation are accurate where the density itself is infinite.
    """
    y = np.linspace(0.0, 0.5**a, POINTS)
    density = (1.0 - y ** (1.0 / a)) ** (b - 1.0) / a
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) * 0.5 * (y[1] - y[0]))])
    return y, mass


@lru_cache(maxsize=64)
def beta_quantile(a: float, b: float) -> Callable[[Array], Array]:
    """The inverse distribution function of Beta(a, b): uniforms (n,) in [0, 1) -> draws (n,) in [0, 1]."""
    low_y, low_mass = _half(a, b)
    high_y, high_mass = _half(b, a)
    total = low_mass[-1] + high_mass[-1]

    def quantile(uniforms: Array) -> Array:
        mass = uniforms * total
        low = np.interp(mass, low_mass, low_y) ** (1.0 / a)
        high = 1.0 - np.interp(total - mass, high_mass, high_y) ** (1.0 / b)
        return np.where(mass <= low_mass[-1], low, high)

    return quantile
