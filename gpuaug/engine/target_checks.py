"""Checks of masks, boxes and key points against the images that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.transforms.base import Canvas

if TYPE_CHECKING:
    from gpuaug.engine.targets import Entry

__all__ = ["KINDS", "check_entry", "kind_of", "unknown_name"]

KINDS = ("boxes", "masks", "keypoints", "labels")
TYPES = {"BoundingBoxes": "boxes", "Mask": "masks", "KeyPoints": "keypoints"}  # of torchvision
FORMATS = ("XYXY", "XYWH", "CXCYWH")
# names of targets in other libraries, under which a plain tensor would be carried along and not moved
OTHERS = {
    "mask": "masks", "box": "boxes", "bbox": "boxes", "bboxes": "boxes", "bounding_boxes": "boxes",
    "keypoint": "keypoints", "key_points": "keypoints", "kps": "keypoints", "landmarks": "keypoints",
}  # fmt: skip
ROOM = 1.0  # pixels that a box may reach out of its image, as the tools for annotation round; it is clipped


def kind_of(key: str, value: object) -> str | None:
    """What a key holds, by torchvision's type or by its name; None for what is carried along."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if checks.is_target(first):
        names = (cls.__name__ for cls in type(first).__mro__)
        return next((TYPES[name] for name in names if name in TYPES), None)
    return key if key in KINDS else None


def unknown_name(owner: object, key: object, value: object, kind: str | None) -> None:
    """Raise an error if a key that is carried along has the name of something that has to move."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if kind is None and isinstance(first, Tensor) and first.ndim > 0 and str(key).lower() in OTHERS:
        name = OTHERS[str(key).lower()]
        raise checks.argument_error(
            owner, f'labels["{key}"]', "under a name that says what it is", checks.describe(value),
            f'It would not be moved with the pixels. Rename it to "{name}", or use torchvision\'s tv_tensors.',
        )  # fmt: skip


def check_entry(owner: object, entry: Entry, canvas: Canvas) -> Entry:
    """Raise an error if a target does not fit its image."""
    check = {"boxes": _boxes, "masks": _masks, "keypoints": _points, "labels": _nothing}[entry.kind]
    check(owner, entry, canvas)
    if not entry.dense:
        for name in ("device", "dtype"):
            found = {getattr(value, name) for value in entry.values}
            if len(found) > 1:
                got = " and ".join(sorted(map(str, found)))
                raise checks.argument_error(owner, f'labels["{entry.key}"]', f"of one {name} for all images", got)
    return entry


def _nothing(owner: object, entry: Entry, canvas: Canvas) -> None:
    """Labels of objects may have any form."""


def _tensors(entry: Entry) -> Iterator[tuple[str, Tensor]]:
    """The tensors to check, each with its place in words."""
    if entry.dense:
        yield f'labels["{entry.key}"]', entry.values
    else:
        for number, value in enumerate(entry.values):
            yield f'labels[{number}]["{entry.key}"]', value


def _real(value: Tensor) -> bool:
    return not value.is_complex() and value.dtype is not torch.bool and not value.is_quantized


def _boxes(owner: object, entry: Entry, canvas: Canvas) -> None:
    for name, value in _tensors(entry):
        format_ = box_format(value)
        if format_ not in FORMATS:
            remedy = "Pass the four corners as key points."
            raise checks.argument_error(owner, name, f"in one of the formats {', '.join(FORMATS)}", format_, remedy)
        least = 2 if entry.dense or len(value) else 1
        if value.ndim > 3 or value.ndim < least or (value.shape[-1] != 4 and value.numel()) or not _real(value):
            expected = "numbers (B, N, 4)" if entry.dense else "numbers (N, 4)"
            raise checks.argument_error(owner, name, expected, checks.describe(value))
        if not entry.dense and value.ndim > 2:
            raise checks.argument_error(owner, name, "numbers (N, 4)", checks.describe(value))
    if entry.kind == "boxes" and all(value.device.type == "cpu" for _, value in _tensors(entry)):
        _inside(owner, entry, canvas)


def box_format(value: Tensor) -> str:
    """The format of boxes: that of torchvision's BoundingBoxes, otherwise XYXY."""
    format_ = getattr(value, "format", None)
    return "XYXY" if format_ is None else str(getattr(format_, "value", format_))


def _inside(owner: object, entry: Entry, canvas: Canvas) -> None:
    """Check on the CPU that boxes are finite, in order, and inside their images."""
    from gpuaug.engine.boxes import flattened, to_corners

    flat, rows = flattened(entry)
    if not len(flat):
        return
    corners = to_corners(flat, box_format(next(_tensors(entry))[1])).numpy()
    limit = canvas.sizes[rows][:, [1, 0]]
    bad = ~np.isfinite(corners).all(axis=1) | (corners[:, 2:] < corners[:, :2]).any(axis=1)
    bad |= (corners[:, :2] < -ROOM).any(axis=1) | (corners[:, 2:] > limit + ROOM).any(axis=1)
    if bad.any():
        first = int(bad.argmax())
        sample = int(rows[first])
        number = first - int(np.searchsorted(rows, sample))
        height, width = canvas.sizes[sample].tolist()
        got = "({})".format(", ".join(f"{value:g}" for value in corners[first]))
        expected = f"boxes with x1 <= x2 and y1 <= y2 inside its image of height {height} and width {width}"
        raise checks.argument_error(owner, f'labels[{sample}]["{entry.key}"]', expected, f"{got} for box {number}")


def _masks(owner: object, entry: Entry, canvas: Canvas) -> None:
    if entry.dense:
        value, (height, width) = entry.values, canvas.sizes[0].tolist()
        if canvas.several:
            remedy = "Pass a list with one mask for each image."
            raise checks.argument_error(
                owner, f'labels["{entry.key}"]', "a list, since the images differ in size", checks.describe(value), remedy
            )
        if value.ndim not in (3, 4) or tuple(value.shape[-2:]) != (height, width):
            expected = f"(B, {height}, {width}) or (B, C, {height}, {width}), as the images"
            raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, checks.describe(value))
        _mask_dtype(owner, f'labels["{entry.key}"]', value)
        return
    for number, (name, value) in enumerate(_tensors(entry)):
        height, width = canvas.sizes[number].tolist()
        if value.ndim not in (2, 3) or tuple(value.shape[-2:]) != (height, width):
            expected = f"({height}, {width}) or (N, {height}, {width}), as its image"
            raise checks.argument_error(owner, name, expected, checks.describe(value))
        _mask_dtype(owner, name, value)
    if len({value.ndim for value in entry.values}) > 1:
        got = "both"
        raise checks.argument_error(owner, f'labels["{entry.key}"]', "all (H, W) or all (N, H, W)", got)


def _mask_dtype(owner: object, name: str, value: Tensor) -> None:
    if value.is_complex() or value.is_quantized or value.layout != torch.strided:
        raise checks.argument_error(owner, name, "a dense tensor of integers, bool or floats", checks.describe(value))


def _points(owner: object, entry: Entry, canvas: Canvas) -> None:
    for name, value in _tensors(entry):
        least = 2 if not entry.dense else 3
        typed = checks.is_target(value)
        if value.ndim < (1 if typed else least) or value.shape[-1] not in (2, 3) or not _real(value):
            expected = "numbers (N, K, 2) or (N, K, 3)" if not entry.dense else "numbers (B, K, 2 or 3) or (B, N, K, 2 or 3)"
            raise checks.argument_error(owner, name, expected, checks.describe(value))
        if value.device.type == "cpu" and value.is_floating_point() and not bool(value.isfinite().all()):
            raise checks.argument_error(owner, name, "finite numbers", "nan or inf")
