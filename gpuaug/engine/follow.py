"""Moves the targets of a call as its draw moves the images."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.batch import Images, canvas_of, frames_of
from gpuaug.engine.boxes import follow_boxes, follow_points, from_corners, to_corners
from gpuaug.engine.builder import Item
from gpuaug.engine.geometry import Route, route
from gpuaug.engine.list_checks import belonging, blends, check_clips, check_list
from gpuaug.engine.masks import mask_items, mixed_masks, moved_masks, take
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.rotated import follow_rotated
from gpuaug.engine.target_checks import parse
from gpuaug.engine.targets import Entry, Following, Targets, is_structured, like
from gpuaug.kernels.torch.common import upload
from gpuaug.program import Keys, Mix
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Canvas, Params
from gpuaug.transforms.mix import check_labels

__all__ = ["follow", "move_boxes", "move_points", "understood"]

Array = NDArray[Any]


class Drawn(Protocol):
    """What is read of a draw, `gpuaug.engine.call.Draw`."""

    @property
    def keys(self) -> Keys: ...
    @property
    def params(self) -> list[Params]: ...
    @property
    def canvas(self) -> Canvas: ...
    @property
    def exact(self) -> bool: ...


def understood(
    owner: Any, pipeline: Pipeline, images: Images, labels: Any, mixes: bool
) -> tuple[Tensor | None, Targets | None]:
    """Class labels, and the targets that follow the images or None; raises an error if the list cannot serve them.

    Args:
        owner: The Augment.
        pipeline: List of the call.
        images: Images of the call.
        labels: What the user passed beside them.
        mixes: Whether labels are required if the list mixes.
    """
    targets = None
    frames = 0 if type(images) is Tensor and images.ndim == 4 else frames_of(images)  # the usual case calls nothing
    if frames:
        check_clips(owner, pipeline)
    if labels is not None and type(labels) is not Tensor and is_structured(labels):
        targets = parse(owner, labels, canvas_of(images), frames)
        check_list(owner, pipeline, targets, Following(owner.mask_fill, owner.erase_masks, owner.flip_pairs))
        labels, mixes = targets.labels, mixes and not targets.of_kind("masks")
    if pipeline.mix is not None and (mixes or (targets is not None and labels is not None)):
        check_labels(owner, pipeline.mix, labels, len(images))
    if labels is not None and pipeline.moving is not None:
        checks.labels_beside(owner, pipeline.moving, labels, len(images), pipeline.mix is not None)
    return labels, targets


def follow(
    pipeline: Pipeline,
    targets: Targets,
    draw: Drawn,
    backend: str,
    following: Following,
    labels: Tensor | None,
    mix: Mix | None,
) -> Any:
    """The targets where a draw has moved them, in the form that was given.

    Args:
        pipeline: List of the draw.
        targets: Targets of the batch.
        draw: Parameters, keys, canvas, and whether the module is exact.
        backend: Name of the backend.
        following: How targets follow.
        labels: Labels of the images after a mix, or None.
        mix: The mix of the images, or None.
    """
    changed: dict[str, Any] = {} if targets.label_key is None else {targets.label_key: labels}
    kept: Tensor | None = None
    entries = [entry for entry in targets.entries if entry.kind != "labels"]
    if not entries:
        return targets.put_back(changed)
    way = route(pipeline.steps, draw.params, draw.canvas, draw.exact)
    for entry in entries:
        if entry.kind == "boxes":
            own = route(pipeline.steps, draw.params, draw.canvas, draw.exact, apart=True) if entry.rotated else way
            changed[entry.key], kept = move_boxes(entry, own)
        elif entry.kind == "keypoints":
            changed[entry.key] = move_points(entry, way, following)
        elif entry.kind == "masks":
            moved = _masks(entry, pipeline, draw, backend, following)
            if mix is not None:
                changed |= _mixed(entry, moved, mix, pipeline, way.size)
            else:
                if moved.ndim == 4:  # planes of a batch; objects of clips have two axes of them
                    moved = moved.reshape(len(moved), *entry.shapes[0][1:-2], *moved.shape[2:])
                    changed[entry.key] = like(moved, entry.given, way.size[0])
                else:
                    changed[entry.key] = entry.put_back(moved, way.size)
    if kept is not None:
        _drop(pipeline, targets, changed, kept)
    return targets.put_back(changed)


def move_boxes(entry: Entry, way: Route) -> tuple[Any, Tensor | None]:
    """Boxes in the form that was given, and which of their rows are kept; None: all."""
    flat, format_, mode = entry.rows, entry.format, entry.clamping_mode
    if entry.rotated:
        turned, kept = follow_rotated(way, flat, entry.counts, format_, mode)
        return entry.put_back(turned, way.size), kept
    moved, kept = follow_boxes(way, to_corners(flat, format_), entry.counts, mode)
    return entry.put_back(from_corners(moved, format_, flat.dtype), way.size), kept


def move_points(entry: Entry, way: Route, following: Following) -> Any:
    """Key points, with visibility 0 outside, left and right exchanged by a mirror."""
    flat = entry.rows
    double = torch.float32 if flat.device.type == "mps" else torch.float64
    points, inside, mirrored = follow_points(way, flat[..., :2].to(double), entry.counts)
    moved = points.to(flat.dtype)
    if flat.shape[-1] == 3:
        moved = torch.cat([moved, flat[..., 2:] * inside[..., None].to(flat.dtype)], dim=-1)
    if following.flip_pairs:
        order = np.arange(flat.shape[1])
        for left, right in following.flip_pairs:
            order[left], order[right] = right, left
        moved = torch.where(mirrored[:, None, None], moved[:, upload(order, moved.device)], moved)
    return entry.put_back(moved, way.size)


def _masks(entry: Entry, pipeline: Pipeline, draw: Drawn, backend: str, following: Following) -> Tensor:
    """The moved masks: (R, H, W), all of a batch, or (B, C, H, W)."""
    whole = entry.dense and len(entry.shapes[0]) > 3
    rows: Array | None = None
    source: Tensor | Ragged
    if entry.dense:
        source = entry.tensors[0].flatten(1, -3) if whole else entry.tensors[0]
    else:
        counts = entry.counts
        rows = None if counts == [1] * len(counts) else np.repeat(np.arange(len(counts)), counts)
        source = _together(entry.tensors, entry.dtype)
    params, keys, canvas = draw.params, draw.keys, draw.canvas
    if rows is not None:
        if not len(rows):
            return entry.tensors[0].new_zeros((0, *route(pipeline.steps, params, canvas, draw.exact).size[0]))
        params, keys = [take(each, rows) for each in params], keys.take(rows)
        canvas = Canvas(canvas.sizes[rows], canvas.channels)

    def programs(fill: Array, layout: torch.memory_format) -> list[Item]:
        return mask_items(pipeline.steps, params, keys, canvas, draw.exact, layout, fill, following.erase_masks)

    return moved_masks(source, entry.dtype, backend, programs, following.mask_fill, planes=whole)


def _together(masks: list[Tensor], dtype: torch.dtype) -> Tensor | Ragged:
    """Masks of all images as one tensor (R, H, W); as Ragged of their bytes if the images differ in size."""
    planes = [mask if mask.ndim == 3 else mask.reshape(-1, *mask.shape[-2:]) for mask in masks]
    if len({plane.shape[1:] for plane in planes}) == 1:
        return torch.cat(planes)
    data = torch.cat([plane.contiguous().view(torch.uint8).reshape(-1) for plane in planes if plane.numel()])
    sizes = [shape[1:] for shape in (plane.shape for plane in planes) for _ in range(shape[0])]
    return Ragged(data, np.array(sizes, np.int32), dtype.itemsize)


def _mixed(entry: Entry, moved: Tensor, mix: Mix, pipeline: Pipeline, size: Array) -> dict[str, Any]:
    masks, partner, weight = mixed_masks(moved, mix, pipeline.num_classes, blends(pipeline))
    soft = masks.ndim != moved.ndim or masks.dtype != moved.dtype
    if not entry.dense:
        changed: dict[str, Any] = {entry.key: list(masks) if soft else entry.put_back(masks, size)}
        if partner is not None and weight is not None:
            changed |= {f"{entry.key}_partner": entry.put_back(partner, size), f"{entry.key}_weight": list(weight)}
        return changed
    changed = {entry.key: masks if soft else like(masks, entry.given, size[0])}
    if partner is not None:
        changed |= {f"{entry.key}_partner": like(partner, entry.given, size[0]), f"{entry.key}_weight": weight}
    return changed


def _drop(pipeline: Pipeline, targets: Targets, changed: dict[str, Any], kept: Tensor) -> None:
    """Leave out the rows of dropped boxes, in every key that belongs to boxes."""
    (boxes,) = targets.of_kind("boxes")
    flags = np.split(kept.cpu().numpy(), np.cumsum(boxes.counts)[:-1])  # the host looks once, not once for each image
    rows, counts = np.concatenate([np.flatnonzero(own) for own in flags]), [int(own.sum()) for own in flags]
    for entry in [boxes, *belonging("Augment", pipeline, targets)]:
        values = changed.get(entry.key, entry.given)
        on = torch.split(upload(rows, values[0].device), counts)
        parts = [value.index_select(0, own) for value, own in zip(values, on, strict=True)]
        if entry.typed:
            sizes = [np.array(getattr(value, "canvas_size", (0, 0))) for value in values]
            parts = [like(*each) for each in zip(parts, values, sizes, strict=True)]
        changed[entry.key] = parts
