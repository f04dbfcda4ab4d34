"""Inverse matrices of geometric ops, batched, in float64 on the host.

Frame: pixels, x right, y down; angles counter-clockwise as seen on the screen. A point is the *index* of a pixel, so
the centre of the image is ((width - 1) / 2, (height - 1) / 2). Every matrix here is an inverse, it pulls: output pixel
-> input pixel, (B, 3, 3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["affine", "perspective"]

Array = NDArray[Any]


def affine(
    size: tuple[Array | int, Array | int],
    angle: Array,
    translate: tuple[Array, Array],
    scale: Array | float,
    shear: tuple[Array, Array],
    center: tuple[Array | float, Array | float] | None = None,
) -> Array:
    """Inverse of rotate-scale-shear about `center`, then translate, as torchvision's `affine` (not its `rotate`).

    Args:
        size: (height, width) of the canvas, in pixels; (B,) each if the images differ.
        angle: (B,) degrees, clockwise on the screen, as torchvision's affine; give -angle for counter-clockwise.
        translate: (x, y), each (B,), in pixels.
        scale: Factor of the size.
        shear: (x, y), each (B,), in degrees.
        center: (x, y) in pixels from the top left corner of the top left pixel; None is the middle of the canvas.
    """
    height, width = size
    rotation, shear_x, shear_y = np.radians(angle), np.radians(shear[0]), np.radians(shear[1])
    # origin at the middle of the canvas, as torchvision's _get_inverse_affine_matrix
    cx, cy = (0.0, 0.0) if center is None else (center[0] - width * 0.5, center[1] - height * 0.5)
    cos_y, tan_x = np.cos(shear_y), np.tan(shear_x)
    a = np.cos(rotation - shear_y) / cos_y
    b = -(a * tan_x + np.sin(rotation))
    c = np.sin(rotation - shear_y) / cos_y
    d = np.cos(rotation) - c * tan_x
    m = np.zeros((*np.shape(rotation), 3, 3))
    m[..., 0, 0], m[..., 0, 1], m[..., 1, 0], m[..., 1, 1] = d / scale, -b / scale, -c / scale, a / scale
    middle_x, middle_y = (width - 1) * 0.5, (height - 1) * 0.5
    for row, (own, middle) in enumerate(((cx, middle_x), (cy, middle_y))):
        pulled = m[..., row, 0] * (cx + translate[0] + middle_x) + m[..., row, 1] * (cy + translate[1] + middle_y)
        m[..., row, 2] = own + middle - pulled
    m[..., 2, 2] = 1.0
    return m


def perspective(start: Array, end: Array) -> Array:
    """The projective matrix that pulls the corners `end` back to `start`.

    Args:
        start, end: (B, 4, 2) corners (x, y), in torchvision's order and convention (corner coordinates are measured
            from the top left of the top left pixel, and pixel (0, 0) is sampled at (0.5, 0.5)).

    Returns:
        (B, 3, 3), pixel index -> pixel index.
    """
    start, end = start.astype(np.float64), end.astype(np.float64)
    x, y = end[..., 0], end[..., 1]
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows_x = np.stack([x, y, one, zero, zero, zero, -start[..., 0] * x, -start[..., 0] * y], -1)
    rows_y = np.stack([zero, zero, zero, x, y, one, -start[..., 1] * x, -start[..., 1] * y], -1)
    system = np.stack([rows_x, rows_y], axis=-2).reshape(len(start), 8, 8)
    # corners that fall on one line have no exact answer: torchvision raises, the least-squares answer is finite
    solution = np.linalg.pinv(system) @ start.reshape(len(start), 8, 1)
    m = np.concatenate([solution[..., 0], np.ones((len(start), 1))], axis=1).reshape(-1, 3, 3)
    to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    to_index = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    return to_index @ m @ to_corner
