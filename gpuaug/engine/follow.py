"""Moves the targets of a call as its draw moves the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.batch import Images, canvas_of
from gpuaug.engine.boxes import flattened, from_corners, like, plain, split, to_corners
from gpuaug.engine.builder import Item
from gpuaug.engine.geometry import Route, follow_boxes, follow_points, route
from gpuaug.engine.masks import mask_items, mixed_masks, moved_masks, take
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.target_checks import box_format
from gpuaug.engine.targets import Entry, Following, Targets, is_structured, parse
from gpuaug.kernels.torch.common import upload
from gpuaug.program import Keys, Mix, Program
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Canvas, Kind, Params
from gpuaug.transforms.mix import MixUp, check_labels
from gpuaug.transforms.targets import TargetStep

__all__ = ["follow", "understood"]

Array = NDArray[Any]


def understood(
    owner: object, pipeline: Pipeline, images: Images, labels: Any, mixes: bool, following: Following
) -> tuple[Tensor | None, Targets | None]:
    """Class labels, and the targets that follow the images or None; raises an error if the list cannot serve them.

    Args:
        owner: Object that errors name.
        pipeline: List of the call.
        images: Images of the call.
        labels: What the user passed beside them.
        mixes: Whether labels are required if the list mixes.
        following: How targets follow.
    """
    targets = None
    if labels is not None and type(labels) is not Tensor and is_structured(labels):
        targets = parse(owner, labels, canvas_of(images))
        check_list(owner, pipeline, targets, following)
        labels, mixes = targets.labels, mixes and not targets.of_kind("masks")
    if pipeline.mix is not None and (mixes or (targets is not None and labels is not None)):
        check_labels(owner, pipeline.mix, labels, len(images))
    if labels is not None and pipeline.moving is not None:
        checks.labels_beside(owner, pipeline.moving, labels, len(images), pipeline.mix is not None)
    return labels, targets


def check_list(owner: object, pipeline: Pipeline, targets: Targets, following: Following) -> None:
    """Raise an error if a list cannot move these targets."""
    kinds = {entry.kind for entry in targets.entries} - {"labels"}
    if not kinds:
        return
    names = ", ".join(f'"{entry.key}"' for entry in targets.entries if entry.kind in kinds)
    for step in pipeline.steps:
        if step.kind is Kind.OPAQUE and step.moves:
            remedy = "Use gpuaug's own transform in its place, or pass Opaque(..., moves=False) if it moves nothing."
            expected = f"class labels with {step.title}, which moves pixels unseen"
            raise checks.argument_error(owner, "labels", expected, names, remedy)
    if pipeline.mix is not None:
        _check_mix(owner, pipeline, targets)
    for entry in targets.of_kind("masks"):
        dtype = (entry.values if entry.dense else entry.values[0]).dtype
        if torch.tensor(following.mask_fill).to(dtype).item() != following.mask_fill:
            remedy = "Pass masks of another type, or another mask_fill to Augment."
            expected = f"a number that masks of {str(dtype).removeprefix('torch.')} can hold"
            raise checks.argument_error(owner, "mask_fill", expected, following.mask_fill, remedy)
    _check_drops(owner, pipeline, targets)
    pairs = following.flip_pairs
    for entry in targets.of_kind("keypoints") if pairs else []:
        for value in [entry.values] if entry.dense else entry.values:
            if value.ndim < 2 or max(map(max, pairs)) >= value.shape[-2]:
                expected = f"(..., K, 2 or 3) with K > {max(map(max, pairs))}, as flip_pairs says"
                raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, checks.describe(value))


def _check_mix(owner: object, pipeline: Pipeline, targets: Targets) -> None:
    """Raise an error if a list mixes samples whose targets cannot be mixed."""
    name = type(pipeline.mix).__name__
    for entry in targets.entries:
        whole = entry.kind == "masks" and (entry.dense or (entry.values[0].ndim == 2))
        if entry.kind != "labels" and not whole:
            expected = f"class labels and masks of whole images with {name}"
            remedy = f"Leave {name} out: the objects of two images cannot be averaged."
            raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, entry.kind + " of objects", remedy)
    if isinstance(targets.given, (list, tuple)) and targets.of_kind("masks"):
        remedy = 'Pass one mapping for the batch, {"masks": (B, H, W), ...}.'
        raise checks.argument_error(owner, "labels", f"a mapping with {name}", "a list", remedy)


def _check_drops(owner: object, pipeline: Pipeline, targets: Targets) -> None:
    """Raise an error if boxes may be dropped and what belongs to them cannot be."""
    steps = [step for step in pipeline.steps if isinstance(step, TargetStep) and step.drops]
    boxes = targets.of_kind("boxes")
    if not steps or not boxes:
        return
    name = type(steps[0]).__name__
    if len(boxes) > 1:
        keys = ", ".join(f'"{entry.key}"' for entry in boxes)
        raise checks.argument_error(owner, "labels", f"targets with one key of boxes for {name}", keys)
    if boxes[0].dense:
        remedy = "Pass a list with one tensor (N, 4) for each image."
        raise checks.argument_error(
            owner, f'labels["{boxes[0].key}"]', f"a list with {name}, which drops boxes", "one tensor", remedy
        )
    counts = boxes[0].counts
    for entry in _belonging(targets, [key for step in steps for key in step.follow]):
        for number, (rows, count) in enumerate(zip(entry.counts, counts, strict=True)):
            if rows != count:
                expected = f"as many as the boxes, {count}"
                raise checks.argument_error(owner, f'labels[{number}]["{entry.key}"]', expected, str(rows))


def _belonging(targets: Targets, keys: list[str]) -> list[Entry]:
    """What loses the rows of dropped boxes."""
    found = [
        entry
        for entry in targets.entries
        if not entry.dense and entry.kind != "boxes" and (entry.kind != "masks" or entry.values[0].ndim == 3)
        and all(value.ndim for value in entry.values)
    ]  # fmt: skip
    known = {entry.key for entry in found}
    rows = targets.given if isinstance(targets.given, (list, tuple)) else None
    for key in keys:
        values = [row.get(key) for row in rows] if rows is not None else targets.given.get(key)
        if key not in known and values is not None:
            if not isinstance(values, (list, tuple)) or not all(isinstance(v, Tensor) and v.ndim for v in values):
                expected = "a tensor for each image, as SanitizeBoundingBoxes(follow=...) names it"
                raise checks.argument_error("Augment", f'labels["{key}"]', expected, checks.describe(values))
            found.append(Entry(key, "labels", list(values), dense=False))
    return found


def follow(
    pipeline: Pipeline,
    targets: Targets,
    params: list[Params],
    keys: Keys,
    canvas: Canvas,
    exact: bool,
    backend: str,
    following: Following,
    labels: Tensor | None,
    items: list[Item],
) -> Any:
    """The targets where a draw has moved them, in the form that was given.

    Args:
        pipeline, params, keys, canvas: List and draw.
        targets: Targets of the batch.
        exact, backend, following: How the module renders.
        labels: Labels of the images after a mix, or None.
        items: Programs of the images, of which the last holds the mix.
    """
    changed: dict[str, Any] = {}
    if targets.label_key is not None:
        changed[targets.label_key] = labels
    if targets.of_kind("boxes") or targets.of_kind("keypoints") or any(
        checks.is_target(entry.values if entry.dense else entry.values[0]) for entry in targets.entries
    ):  # fmt: skip
        way = route(pipeline.steps, params, canvas, exact)
    else:
        way = Route([], canvas.sizes)
    kept: tuple[Tensor, Array] | None = None
    for entry in targets.of_kind("boxes"):
        changed[entry.key], alive, owner = _boxes(entry, way, canvas)
        if alive is not None:
            kept = alive, owner
    for entry in targets.of_kind("keypoints"):
        changed[entry.key] = _points(entry, way, following)
    for entry in targets.of_kind("masks"):

        def programs(rows: Array | None) -> Callable[[Array, torch.memory_format], list[Item]]:
            def lowered(fill: Array, layout: torch.memory_format) -> list[Item]:
                drawn, own, sizes = params, keys, canvas
                if rows is not None:
                    drawn, own = [take(each, rows) for each in params], keys.take(rows)
                    sizes = Canvas(canvas.sizes[rows], canvas.channels)
                return mask_items(pipeline.steps, drawn, own, sizes, exact, layout, fill, following.erase_masks)

            return lowered

        changed |= _masks(entry, programs, backend, following, way, _mix_of(items), pipeline)
    if kept is not None:
        _drop(pipeline, targets, changed, *kept)
    return targets.put_back(changed)


def _mix_of(items: list[Item]) -> Mix | None:
    last = items[-1]
    return last.finish.mix if isinstance(last, Program) and last.finish is not None else None


def _sizes(way: Route) -> list[tuple[int, int]]:
    return [(int(height), int(width)) for height, width in way.size.tolist()]


def _boxes(entry: Entry, way: Route, canvas: Canvas) -> tuple[Any, Tensor | None, Array]:
    flat, owner = flattened(entry)
    first = entry.values if entry.dense else entry.values[0]
    format_ = box_format(first)
    rows = upload(owner, flat.device)
    moved, kept = follow_boxes(way, to_corners(flat, format_), rows, canvas.sizes)
    moved = from_corners(moved, format_, flat.dtype)
    if entry.dense:
        return like(moved.reshape(entry.values.shape), entry.values, _sizes(way)[0]), kept, owner
    parts = split(moved, [len(value) for value in entry.values])
    return [like(*each) for each in zip(parts, entry.values, _sizes(way), strict=True)], kept, owner


def _points(entry: Entry, way: Route, following: Following) -> Any:
    """Key points, with visibility 0 outside, left and right exchanged by a mirror."""
    given = [entry.values] if entry.dense else entry.values
    values = [plain(value) for value in given]
    widths = {value.shape[-1] for value in values}
    shapes = [value.shape for value in values]
    if entry.dense:
        objects = [int(np.prod(shapes[0][1:-2])) * shapes[0][0]]
        per = shapes[0][-2] if len(shapes[0]) > 2 else 1
        owner = np.repeat(np.arange(shapes[0][0]), max(objects[0] // max(shapes[0][0], 1), 0))
        flat = values[0].reshape(objects[0], per, shapes[0][-1])
    else:
        pairs = following.flip_pairs
        per = shapes[0][-2] if pairs or all(len(s) >= 2 and s[-2] == shapes[0][-2] for s in shapes) else 1
        if any(len(shape) < 2 or shape[-2] != per for shape in shapes):
            per = 1
        objects = [value.numel() // (per * value.shape[-1]) if value.numel() else 0 for value in values]
        owner = np.repeat(np.arange(len(values)), objects)
        if len(widths) > 1:
            raise checks.argument_error("Augment", f'labels["{entry.key}"]', "all with 2 or all with 3 columns", "both")
        flat = torch.cat([value.reshape(-1, per, value.shape[-1]) if value.numel() else value.new_zeros((0, per, value.shape[-1])) for value in values])
    double = torch.float32 if flat.device.type == "mps" else torch.float64
    points, inside, mirrored = follow_points(way, flat[..., :2].to(double), upload(owner, flat.device))
    moved = torch.cat([points.to(flat.dtype), flat[..., 2:] * inside[..., None].to(flat.dtype)], dim=-1)
    if following.flip_pairs and per > 1:
        order = np.arange(per)
        for left, right in following.flip_pairs:
            order[left], order[right] = right, left
        moved = torch.where(mirrored[:, None, None], moved[:, upload(order, moved.device)], moved)
    sizes = _sizes(way)
    if entry.dense:
        return like(moved.reshape(shapes[0]), entry.values, sizes[0])
    parts = [part.reshape(shape) for part, shape in zip(split(moved, objects), shapes, strict=True)]
    return [like(*each) for each in zip(parts, entry.values, sizes, strict=True)]


def _masks(
    entry: Entry, programs: Any, backend: str, following: Following, way: Route, mix: Mix | None, pipeline: Pipeline
) -> dict[str, Any]:
    fill = following.mask_fill
    if entry.dense:
        masks = plain(entry.values)
        moved = moved_masks(masks, masks.dtype, backend, programs(None), fill)
        if mix is None:
            return {entry.key: like(moved, entry.values, _sizes(way)[0])}
        blends = any(isinstance(node, MixUp) for node in pipeline.mixes)
        mixed, partner, weight = mixed_masks(moved, mix, pipeline.num_classes, blends)
        changed = {entry.key: mixed if mixed.dtype != moved.dtype else like(mixed, entry.values, _sizes(way)[0])}
        if partner is not None:
            changed |= {f"{entry.key}_partner": partner, f"{entry.key}_weight": weight}
        return changed
    values = [plain(value) for value in entry.values]
    counts = [len(value) if value.ndim == 3 else 1 for value in values]
    rows = np.repeat(np.arange(len(values)), counts)
    planes = [value.reshape(-1, *value.shape[-2:]) for value in values]
    if not len(rows):
        heights = _sizes(way)
        parts = [value.new_zeros((0, *size)) for value, size in zip(values, heights, strict=True)]
    else:
        dtype = values[0].dtype
        whole = None if counts == [1] * len(values) else rows
        moved = moved_masks(_together(planes, dtype), dtype, backend, programs(whole), fill)
        parts = split(moved, counts)
    parts = [part if value.ndim == 3 else part[0] for part, value in zip(parts, values, strict=True)]
    return {entry.key: [like(*each) for each in zip(parts, entry.values, _sizes(way), strict=True)]}


def _together(planes: list[Tensor], dtype: torch.dtype) -> Tensor | Ragged:
    """Masks (N, H, W) of all images as one tensor (R, H, W); as Ragged of their bytes if the images differ in size."""
    filled = [plane for plane in planes if len(plane)]
    if len({plane.shape[1:] for plane in filled}) == 1:
        return torch.cat(filled)
    single = [mask for plane in filled for mask in plane]
    data = torch.cat([mask.contiguous().reshape(-1).view(torch.uint8) for mask in single])
    sizes = np.array([mask.shape for mask in single], np.int32)
    return Ragged(data, sizes, dtype.itemsize)


def _drop(pipeline: Pipeline, targets: Targets, changed: dict[str, Any], kept: Tensor, owner: Array) -> None:
    """Leave out the rows of dropped boxes, in every key that belongs to boxes."""
    steps = [step for step in pipeline.steps if isinstance(step, TargetStep) and step.drops]
    (boxes,) = targets.of_kind("boxes")
    alive = kept.cpu()
    counts = np.bincount(owner[alive.numpy()], minlength=len(boxes.values))
    for entry in [boxes, *_belonging(targets, [key for step in steps for key in step.follow])]:
        values = changed.get(entry.key, entry.values)
        flat = torch.cat([plain(value) for value in values])
        parts = split(flat[alive.to(flat.device)], counts)
        changed[entry.key] = [
            like(part, value, tuple(getattr(value, "canvas_size", (0, 0)))) for part, value in zip(parts, values, strict=True)
        ]
