"""Whether a list can move the targets of a call: what is refused, with the reason, before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.pipeline import Pipeline, walk
from gpuaug.engine.targets import Entry, Following, Targets
from gpuaug.transforms.base import Kind
from gpuaug.transforms.elastic import ElasticTransform
from gpuaug.transforms.mix import MixUp
from gpuaug.transforms.opaque import Opaque
from gpuaug.transforms.policy import AugMix, TimmAugMix
from gpuaug.transforms.targets import TargetStep

__all__ = ["belonging", "blends", "check_clips", "check_list"]


def check_clips(owner: object, pipeline: Pipeline) -> None:
    """Raise an error if a step would draw for each frame anew."""
    for step in pipeline.steps:
        if isinstance(step, Opaque) and step.library == "kornia" and not getattr(step.module, "same_on_batch", False):
            remedy = "Use gpuaug's own transform in its place, or give it same_on_batch=True."
            expected = f"single images with {step.title}, which draws for each frame"
            raise checks.argument_error(owner, "images", expected, "clips", remedy)


def _check_rotated(owner: object, pipeline: Pipeline) -> None:
    """Raise an error if a step cannot move rotated boxes."""
    for step in pipeline.steps:
        if any(isinstance(one, ElasticTransform) or one.sees_boxes for one in walk([step])):
            remedy = "Pass key points of the corners, or leave the step out."
            expected = f"boxes with sides along the axes with {step.title}"
            raise checks.argument_error(owner, "labels", expected, "rotated boxes", remedy)


def check_list(owner: object, pipeline: Pipeline, targets: Targets, following: Following) -> None:
    """Raise an error if a list cannot move these targets."""
    if pipeline.mix is not None and isinstance(targets.given, (list, tuple)):
        remedy, name = 'Pass one mapping for the batch, {"masks": (B, H, W), ...}.', type(pipeline.mix).__name__
        raise checks.argument_error(owner, "labels", f"a mapping with {name}", "a list", remedy)
    kinds = {entry.kind for entry in targets.entries} - {"labels"}
    if not kinds:
        return
    names = ", ".join(f'"{entry.key}"' for entry in targets.entries if entry.kind in kinds)
    if any(entry.rotated for entry in targets.entries):
        _check_rotated(owner, pipeline)
    for step in pipeline.steps:
        if step.kind is Kind.OPAQUE and step.moves:
            remedy = "Use gpuaug's own transform in its place, or give it moves=False if it moves nothing."
            expected = f"class labels with {step.title}, which may move pixels"
            raise checks.argument_error(owner, "labels", expected, names, remedy)
        mixed = next((type(node).__name__ for node in walk([step]) if isinstance(node, (AugMix, TimmAugMix))), None)
        if mixed is not None:
            remedy = f"Leave {mixed} out: it averages copies of an image that are moved differently."
            raise checks.argument_error(owner, "labels", f"class labels with {mixed}", names, remedy)
    if pipeline.mix is not None:
        _check_mix(owner, pipeline, targets)
    for entry in targets.of_kind("masks"):
        held = torch.tensor(
            following.mask_fill, dtype=torch.float64 if entry.dtype.is_floating_point else None, device="cpu"
        )
        held = held.to(entry.dtype)  # floats are rounded
        if not held.isfinite() or (not entry.dtype.is_floating_point and held.item() != following.mask_fill):
            remedy = "Pass masks of another type, or another mask_fill to Augment."
            expected = f"a number that masks of {str(entry.dtype).removeprefix('torch.')} can hold"
            raise checks.argument_error(owner, "mask_fill", expected, following.mask_fill, remedy)
    _check_drops(owner, pipeline, targets)
    most = max((max(pair) for pair in following.flip_pairs), default=-1)
    for entry in targets.of_kind("keypoints"):
        number = entry.rows.shape[1]
        if most >= number:
            expected = f"(..., K, 2 or 3) with K > {most}, as flip_pairs says"
            raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, f"K = {number}")


def _check_mix(owner: object, pipeline: Pipeline, targets: Targets) -> None:
    """Raise an error if a list mixes samples whose targets cannot be mixed."""
    name = type(pipeline.mix).__name__
    for entry in targets.entries:
        axes = len(entry.shapes[0])
        whole = entry.kind == "masks" and (axes < 5 if entry.dense else axes == 2)
        if entry.kind != "labels" and not whole:
            expected = f"class labels and masks of whole images with {name}"
            remedy = f"Leave {name} out: the objects of two images cannot be averaged."
            raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, entry.kind + " of objects", remedy)
    if targets.single and pipeline.num_classes is None and blends(pipeline):
        expected = f"a mapping, as {name} gives two masks and a weight"
        raise checks.argument_error(owner, "labels", expected, "a Mask", 'Pass {"masks": masks}.')


def blends(pipeline: Pipeline) -> bool:
    """Whether any draw of the list blends images, as MixUp does."""
    return any(isinstance(node, MixUp) for node in pipeline.mixes)


def _check_drops(owner: object, pipeline: Pipeline, targets: Targets) -> None:
    """Raise an error if boxes may be dropped and what belongs to them cannot be."""
    steps, boxes = dropping(pipeline), targets.of_kind("boxes")
    if not steps or not boxes:
        return
    name = type(steps[0]).__name__
    if len(boxes) > 1:
        keys = ", ".join(f'"{entry.key}"' for entry in boxes)
        raise checks.argument_error(owner, "labels", f"targets with one key of boxes for {name}", keys)
    framed = next((shape for shape in boxes[0].shapes if len(shape) > 2), None)
    if framed is not None and not boxes[0].dense:
        expected = f"(N, 4) with {name}, which drops boxes: those of a clip (T, N, 4) are one tensor"
        remedy = f"Leave {name} out, and give the boxes that are gone no weight in the loss."
        got = str(tuple(framed))
        raise checks.argument_error(owner, f'labels[0]["{boxes[0].key}"]', expected, got, remedy)
    if boxes[0].dense:
        remedy = "Pass a list with one tensor (N, 4) for each image."
        expected = f"a list with {name}, which drops boxes"
        raise checks.argument_error(owner, f'labels["{boxes[0].key}"]', expected, "one tensor", remedy)
    counts = boxes[0].counts
    _check_rows_are_tensors(owner, name, targets)
    for entry in targets.of_kind("keypoints") + targets.of_kind("masks"):
        shape = entry.shapes[0]
        if entry.dense and len(shape) == 4 and (entry.kind == "keypoints" or set(counts) == {shape[1]}):
            expected, remedy = f"a list, as its boxes are, with {name}", "Pass a list with one tensor for each image."
            raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, checks.describe(entry.given), remedy)
    for entry in belonging(owner, pipeline, targets):
        found = [shape[0] if shape else None for shape in entry.shapes]
        if found != counts:
            number = next(n for n, (own, count) in enumerate(zip(found, counts, strict=True)) if own != count)
            expected = f"as many as the boxes, {counts[number]}"
            got = checks.describe(entry.tensors[number])
            raise checks.argument_error(owner, f'labels[{number}]["{entry.key}"]', expected, got)


def _check_rows_are_tensors(owner: object, name: str, targets: Targets) -> None:
    """Raise an error if objects have labels in lists or arrays, which would keep those of dropped boxes."""
    rows = targets.given
    if isinstance(rows, Mapping):
        values = rows.get("labels")
        rows = [{"labels": value} for value in values] if isinstance(values, (list, tuple)) else []
    for number, row in enumerate(rows):
        value = row.get("labels")
        if value is not None and not isinstance(value, (Tensor, str, bytes)) and hasattr(value, "__len__"):
            expected = f"a tensor with {name}, which drops those of dropped boxes"
            raise checks.argument_error(owner, f'labels[{number}]["labels"]', expected, checks.describe(value))


def dropping(pipeline: Pipeline) -> list[TargetStep]:
    return [step for step in pipeline.steps if isinstance(step, TargetStep) and step.drops]


def belonging(owner: object, pipeline: Pipeline, targets: Targets) -> list[Entry]:
    """What loses the rows of dropped boxes: all that has a row for each box, and the keys that steps name."""
    found = [entry for entry in targets.entries if not entry.dense and entry.kind != "boxes" and of_objects(entry)]
    known = {entry.key for entry in found}
    for key in dict.fromkeys(key for step in dropping(pipeline) for key in step.follow):
        rows = targets.given
        values = rows.get(key) if isinstance(rows, Mapping) else [row.get(key) for row in rows]
        if key in known:
            continue
        if not isinstance(values, (list, tuple)) or not all(isinstance(v, Tensor) and v.ndim for v in values):
            expected = "a tensor for each image, as `follow` of SanitizeBoundingBoxes names it"
            got = checks.describe(values)
            raise checks.argument_error(owner, f'labels["{key}"]', expected, got)
        found.append(Entry(key, "labels", list(values), dense=False))
    return found


def of_objects(entry: Entry) -> bool:
    """Whether it has rows: key points and labels of objects, and masks (N, H, W)."""
    least = 3 if entry.kind == "masks" else 1
    return any(len(shape) >= least for shape in entry.shapes)
