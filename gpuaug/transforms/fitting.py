"""Boxes of random area and aspect ratio that fit into an image, as RandomResizedCrop and RandomErasing draw them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TRIES", "box_shapes", "first_fit"]

Array = NDArray[Any]
Span = tuple[float, float]

TRIES = 10  # tries to find a box, as in torchvision


def first_fit(
    uniforms: Array,
    height: Array,
    width: Array,
    fits: Callable[..., Array],
    scale: Span,
    ratio: Span,
    parts: Array | None = None,
) -> tuple[Array, Array, Array]:
    """The first of TRIES boxes that fits, otherwise the very first: height, width, and whether it fits, each (B,).

    Most first tries fit, so the others are computed only for the samples that need them.

    Args:
        uniforms: Uniforms of the areas, then of the ratios, (B, 2 * TRIES or more).
        height, width: Size of each image in pixels, (B,).
        fits: Function of a box's height and width and the image's, in shapes that broadcast.
        scale: Range of the box's area, as a fraction of the image's area.
        ratio: Range of the box's width / height.
        parts: Number of boxes that share the area of each image, (B,); None: one.
    """
    area = height * width if parts is None else height * width / parts
    h, w = box_shapes(uniforms[:, 0], uniforms[:, TRIES], area, scale, ratio)
    found = fits(h, w, height, width)
    if not found.all():
        (rows,) = (~found).nonzero()
        numbers = uniforms[rows]
        tall, wide = box_shapes(numbers[:, :TRIES], numbers[:, TRIES : 2 * TRIES], area[rows, None], scale, ratio)
        fit = fits(tall, wide, height[rows, None], width[rows, None])
        at, first = np.arange(len(rows)), fit.argmax(axis=1)
        h[rows], w[rows], found[rows] = tall[at, first], wide[at, first], fit[at, first]
    return h, w, found


def box_shapes(areas: Array, ratios: Array, area: Array, scale: Span, ratio: Span) -> tuple[Array, Array]:
    """Rounded heights and widths of boxes, from uniforms of the area and of the logarithm of width / height."""
    areas = area * (scale[0] + areas * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = np.exp(low + ratios * (high - low))
    return np.rint(np.sqrt(areas / ratios)), np.rint(np.sqrt(areas * ratios))
