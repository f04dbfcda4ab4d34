"""Which part of each image a window reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import BILINEAR, CONSTANT, EDGE, NEAREST, NEAREST_EXACT
from gpuaug.kernels.resample import positions
from gpuaug.program import Program, Window
from gpuaug.ragged import Ragged

__all__ = ["check_inside", "read_by"]

Array = NDArray[Any]

# The kernels of a CPU read the taps of a row in fours; a weight of zero does not keep them from the byte
MARGIN = 9
OUTSIDE = "Augment: `images` must hold all that the draw reads, got a part of image {row} of the batch that does not."


def read_by(window: Window) -> Array:
    """(B, 4) int64 (top, left, height, width): what a window reads of each image, on any backend."""
    box = window.box.astype(np.int64)
    if not window.start.any() and (window.resized == window.size).all():
        return box
    copies = (box[:, 2:] == window.resized).all(axis=1)
    for axis in (0, 1):
        n_in, n_out = box[:, 2 + axis].copy(), window.resized[:, axis].astype(np.int64)
        start, length = window.start[:, axis].astype(np.int64), window.size[axis]
        if window.padding_mode in (CONSTANT, EDGE):
            low, high = np.clip(start, 0, n_out - 1), np.clip(start + length - 1, 0, n_out - 1)
        else:
            shown, _ = positions(start, length, window.flip[:, 1 - axis], n_out, window.padding_mode)
            low, high = shown.min(axis=1), shown.max(axis=1)
        scale = n_in / n_out
        support = (1 if window.interpolation in (NEAREST, NEAREST_EXACT, BILINEAR) else 2) * np.maximum(scale, 1.0)
        # twice: near the far end of an axis Triton's kernel begins earlier, so that all rows have as many taps
        first = np.maximum(np.floor(scale * (low + 0.5) - 2 * support - MARGIN), 0)
        end = np.minimum(np.ceil(scale * (high + 0.5) + 2 * support + MARGIN), n_in)
        first, end = np.where(copies, low, first).astype(np.int64), np.where(copies, high + 1, end).astype(np.int64)
        box[:, axis] += first
        box[:, 2 + axis] = end - first
    return box


def check_inside(first: object, source: Ragged) -> None:
    """Raise if the first item of a batch of parts reads outside them: there are other bytes."""
    if source.parts is None:
        return
    window = first.window if isinstance(first, Program) else None
    whole = np.concatenate([np.zeros_like(source.whole), source.whole], axis=1)
    read, origins = whole if window is None else read_by(window), source.parts.origins
    outside = (read[:, :2] < origins) | (read[:, :2] + read[:, 2:] > origins + source.sizes)
    if outside.any():
        raise ValueError(OUTSIDE.format(row=int(outside.any(axis=1).argmax())))
