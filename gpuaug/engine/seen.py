"""The boxes of a batch as a step sees them whose draw depends on them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.engine.boxes import follow_boxes, to_corners
from gpuaug.engine.geometry import route
from gpuaug.engine.targets import Targets
from gpuaug.philox import uniforms
from gpuaug.program import Keys
from gpuaug.transforms.base import Canvas, Params, Transform
from gpuaug.transforms.canvas import Seen

__all__ = ["seen_by"]

Array = NDArray[Any]

WAITS = (
    "Augment: boxes are on {device}, and {name}, which chooses its crop by them, waits for the device. Keep them on "
    "the CPU: the images may be on another device."
)


def seen_by(
    step: Transform,
    targets: Targets,
    before: Sequence[Transform],
    params: Sequence[Params],
    canvas: Canvas,
    exact: bool,
    keys: Keys,
    op: int,
) -> Seen | None:
    """The boxes where the steps before have moved them; None if the targets have none.

    Args:
        step: The step that sees them.
        targets: Targets of the batch.
        before: Steps before it, with their parameters `params`.
        canvas: Images of the batch before the first step.
        exact: Whether each warp is a step by itself.
        keys: Keys of the batch; those of view 0 for a step whose draw all views share.
        op: Number of the step, for its further draws.
    """
    entries, name = targets.of_kind("boxes"), type(step).__name__
    if not entries:
        return None
    if len(entries) > 1:
        names = ", ".join(f'"{entry.key}"' for entry in entries)
        raise checks.argument_error("Augment", "labels", f"targets with one key of boxes for {name}", names)
    (entry,) = entries
    rows = entry.rows
    if rows.device.type != "cpu":
        warnings.warn(WAITS.format(device=rows.device, name=name), stacklevel=2)
        rows = rows.cpu()
    corners = to_corners(rows, entry.format)
    boxes, kept = follow_boxes(route(before, params, canvas, exact), corners, entry.counts, entry.clamping_mode)
    owners = np.repeat(np.arange(len(canvas)), entry.counts)
    present: Array = boxes.numpy()
    if kept is not None:
        owners, present = owners[kept.numpy()], present[kept.numpy()]

    def draw(samples: Array, first: int, count: int) -> Array:
        ops, blocks = np.full(count, op, np.uint64), np.arange(first, first + count, dtype=np.uint64)
        return uniforms(keys.key, keys.index[samples], keys.look[samples], ops, blocks)

    return Seen(present, owners, draw)
