"""Draws that a backend may make itself, directly into its parameters: what it needs to know of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Blend", "Boxes", "Mirror", "Picks", "Straight"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Boxes:
    """RandomResizedCrop's draws: `tries` areas in `scale` of the image `size`, ratios in `ratio`, and a position."""

    size: tuple[int, int]
    tries: int
    scale: tuple[float, float]
    ratio: tuple[float, float]


@dataclass(frozen=True)
class Mirror:
    """A flip of the window with chance `p`; `axis` 0 is horizontal."""

    axis: int
    p: float


@dataclass(frozen=True)
class Picks:
    """A policy's draws: at each of `places` one of `kinds`, one of `strengths`, and a sign if the kind is `signed`.

    signed: (kinds,) bool. words: Each instruction as stored in a parameter block, numbered (kind, strength, sign).
    """

    places: int
    kinds: int
    strengths: int
    signed: Array
    words: Array


@dataclass(frozen=True)
class Blend:
    """MixUp's draw for a batch: `quantile` of the first sample's uniform; `partner` (B,) is the sample to mix in."""

    quantile: Callable[[Array], Array]
    partner: Array


Straight = Boxes | Mirror | Picks | Blend
