"""Integer taps of a resize, batched in numpy: the arithmetic of ATen's uint8 kernels (UpSampleKernel.cpp).

Weights are float64, normalised, then rounded to int16 with as many fraction bits as the largest weight of the axis
allows. An output pixel is (sum(weight * input) + half) >> precision, clamped to [0, 255].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.program import BILINEAR, CONSTANT, EDGE, NEAREST, NEAREST_EXACT, REFLECT

__all__ = ["positions", "taps"]

Array = NDArray[Any]

COPY = 14  # precision of a tap of weight one


def positions(start: Array, length: int, flip: Array, n: Array, padding_mode: int) -> tuple[Array, Array]:
    """The resampled pixel that each canvas pixel shows, of n (B,): (B, length), and whether it is inside the image."""
    p = np.arange(length)
    p = np.where(flip[:, None] != 0, length - 1 - p, p) + start[:, None].astype(np.int64)
    n = n[:, None].astype(np.int64)
    inside = (p >= 0) & (p < n)
    if padding_mode in (CONSTANT, EDGE):
        return np.clip(p, 0, n - 1), inside if padding_mode == CONSTANT else np.ones_like(inside)
    period = np.maximum(2 * n - 2, 1) if padding_mode == REFLECT else 2 * n
    p %= period
    return np.where(p < n, p, (period if padding_mode == REFLECT else period - 1) - p), np.ones_like(inside)


def taps(
    n_in: Array, n_out: Array, wanted: Array, interpolation: int, antialias: bool, small: Array
) -> tuple[Array, Array, Array]:
    """Taps of the outputs `wanted` (B, L) when n_in (B,) pixels become n_out (B,).

    `small` (B,): whether the resized height + width is at most 128: for those ATen rounds nearest-exact differently.

    Returns:
        first (B, L) int64 input of each output, weights (B, L, K) int32, precision (B,) int32.
    """
    n_in, n_out = n_in.astype(np.int64), n_out.astype(np.int64)
    copies = n_in == n_out
    if interpolation in (NEAREST, NEAREST_EXACT) or copies.all():
        first = np.where(copies[:, None], wanted, _nearest(n_in, n_out, wanted, interpolation, small[:, None]))
        return first, np.full((*wanted.shape, 1), 1 << COPY, np.int32), np.full(len(n_in), COPY, np.int32)
    outputs = np.arange(int(n_out.max()))
    scale = (n_in / n_out)[:, None]
    if antialias:
        first, weights = _antialiased(outputs, scale, n_in[:, None], interpolation)
    else:
        first, weights = _plain(outputs, scale, n_in[:, None], interpolation)
    weights = np.where((outputs < n_out[:, None])[..., None], weights, 0.0)
    largest = weights.max(axis=(1, 2))
    shifts = np.arange(1, 23)  # the largest precision at which the rounded largest weight is still an int16
    precision = ((0.5 + largest[:, None] * (1 << shifts)).astype(np.int64) < 1 << 15).cumprod(axis=1).sum(axis=1)
    fixed = weights * (1 << precision)[:, None, None]
    fixed = np.where(fixed < 0, np.trunc(fixed - 0.5), np.trunc(fixed + 0.5)).astype(np.int32)
    rows = np.arange(len(n_in))[:, None]
    first, fixed = first[rows, wanted], fixed[rows, wanted]
    one = np.zeros(fixed.shape[2], np.int32)
    one[0] = 1 << COPY
    first = np.where(copies[:, None], wanted, first)
    fixed = np.where(copies[:, None, None], one, fixed)
    return first, fixed, np.where(copies, COPY, precision).astype(np.int32)


def _nearest(n_in: Array, n_out: Array, wanted: Array, interpolation: int, small: Array) -> Array:
    scale = (n_in.astype(np.float32) / n_out.astype(np.float32))[:, None]  # float32, as ATen
    if interpolation == NEAREST:
        index = np.floor(wanted.astype(np.float32) * scale)
    else:
        center = (wanted + 0.5) * scale.astype(np.float64)
        fused = np.floor((center - 0.5).astype(np.float32) + np.float32(0.5))
        index = np.where(small, np.floor(center.astype(np.float32)), fused)
    return np.minimum(index.astype(np.int64), n_in[:, None] - 1)


def _cubic(x: Array, a: float) -> Array:
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _filter(x: Array, interpolation: int, a: float) -> Array:
    return np.maximum(1.0 - x, 0.0) if interpolation == BILINEAR else _cubic(x, a)


def _antialiased(outputs: Array, scale: Array, n_in: Array, interpolation: int) -> tuple[Array, Array]:
    """(B, N) first inputs and (B, N, K) float64 weights; the filter is as wide as the output pixel."""
    support = (1.0 if interpolation == BILINEAR else 2.0) * np.maximum(scale, 1.0)
    inverse = np.where(scale >= 1.0, 1.0 / scale, 1.0)
    center = scale * (outputs + 0.5)
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    count = np.maximum(np.minimum((center + support + 0.5).astype(np.int64), n_in) - first, 0)
    weights = np.zeros((*center.shape, int(count.max())))
    total = np.zeros_like(center)
    for j in range(weights.shape[2]):  # in this order: the rounding of the sum depends on it
        w = _filter(np.abs((j + first - center + 0.5) * inverse), interpolation, -0.5)
        weights[..., j] = np.where(j < count, w, 0.0)
        total = total + weights[..., j]
    return first, weights / np.where(total == 0.0, 1.0, total)[..., None]


def _plain(outputs: Array, scale: Array, n_in: Array, interpolation: int) -> tuple[Array, Array]:
    """As `_antialiased`, with a filter of fixed width; taps beyond the border go to the border pixel."""
    size = 2 if interpolation == BILINEAR else 4
    source = scale * (outputs + 0.5) - 0.5
    source = np.maximum(source, 0.0) if interpolation == BILINEAR else source
    index = np.minimum(np.floor(source).astype(np.int64), n_in - 1)
    part = np.clip(source - index, 0.0, 1.0)
    unbound = index - size // 2 + 1
    first = np.maximum(unbound, 0)
    count = np.maximum(np.minimum(index + size // 2 + 1, n_in) - first, 0)
    weights = np.zeros((*source.shape, size))
    column = np.zeros_like(index)
    for j in range(size):
        column = np.where(unbound + j <= 0, 0, np.where(unbound + j >= n_in - 1, count - 1, column))
        w = _filter(np.abs(float(j + 1 - size // 2) - part), interpolation, -0.75)
        weights += np.where(column[..., None] == np.arange(size), w[..., None], 0.0)
        column = column + 1
    return first, weights
