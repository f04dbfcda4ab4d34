"""Reads targets in the forms that users have, and checks them against the images that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.boxes import to_corners
from gpuaug.engine.targets import Entry, Targets, box_format
from gpuaug.transforms.base import Canvas

__all__ = ["parse"]

Array = NDArray[Any]

KINDS = ("boxes", "masks", "keypoints", "labels")
TYPES = {"BoundingBoxes": "boxes", "Mask": "masks", "KeyPoints": "keypoints"}  # of torchvision
FORMATS = ("XYXY", "XYWH", "CXCYWH")
# names of targets in other libraries, under which a plain tensor would be carried along and not moved
OTHERS = {
    "mask": "masks", "box": "boxes", "bbox": "boxes", "bboxes": "boxes", "bounding_boxes": "boxes",
    "keypoint": "keypoints", "key_points": "keypoints", "kps": "keypoints", "landmarks": "keypoints",
}  # fmt: skip
ROOM = 1.0  # pixels that a box may reach out of its image, as annotation tools round; it is clipped


def parse(owner: object, given: Any, canvas: Canvas) -> Targets:
    """Read targets, and check them against the batch: metadata, and values only on the CPU.

    Raises:
        ValueError: If a target has a wrong form, size, dtype or number, or lies outside its image.
    """
    if isinstance(given, (list, tuple)):
        return _of_list(owner, given, canvas)
    targets = Targets(given, single=not isinstance(given, Mapping))
    rows = {str(kind_of("", given)): given} if targets.single else given
    for key, value in rows.items():
        kind = kind_of(key, value)
        _check_name(owner, key, value, kind)
        if kind is None:
            continue
        name = f'labels["{key}"]'
        dense = isinstance(value, Tensor)
        if not dense and not (isinstance(value, (list, tuple)) and all(isinstance(v, Tensor) for v in value)):
            if kind != "labels":  # labels may be names
                expected = "a tensor, or a list with one tensor for each image"
                raise checks.argument_error(owner, name, expected, checks.describe(value))
            continue
        count = len(value) if not dense or value.ndim else 0
        if count != len(canvas):
            expected = f"as many as the images, {len(canvas)}"
            raise checks.argument_error(owner, name, expected, checks.describe(value) if dense else str(count))
        if kind == "labels" and dense:
            targets.labels, targets.label_key = value, key
        else:
            targets.entries.append(_checked(owner, Entry(key, kind, value, dense), canvas))
    return targets


def _of_list(owner: object, given: Sequence[Mapping[str, Any]], canvas: Canvas) -> Targets:
    """Targets as a list with a mapping for each image, torchvision's form for detection."""
    if len(given) != len(canvas):
        expected = f"as many as the images, {len(canvas)}"
        raise checks.argument_error(owner, "labels", expected, f"a list of {len(given)}")
    targets = Targets(given)
    for key in dict.fromkeys(key for row in given for key in row):
        values = [row[key] for row in given if key in row]
        kind = kind_of(key, values[0])
        _check_name(owner, key, values[0], kind)
        whole = len(values) == len(given) and all(issubclass(kind_, Tensor) for kind_ in set(map(type, values)))
        if kind is None or (kind == "labels" and not whole):
            continue
        if not whole:
            wrong = [number for number, row in enumerate(given) if not isinstance(row.get(key), Tensor)]
            got = checks.describe(given[wrong[0]][key]) if key in given[wrong[0]] else "nothing"
            remedy = "Pass a tensor without rows for an image without any."
            raise checks.argument_error(owner, f'labels[{wrong[0]}]["{key}"]', "a tensor", got, remedy)
        targets.entries.append(_checked(owner, Entry(key, kind, values, dense=False), canvas))
    return targets


def kind_of(key: object, value: object) -> str | None:
    """What a key holds, by torchvision's type or by its name; None for what is carried along."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if type(first) is not Tensor and checks.is_target(first):
        names = (cls.__name__ for cls in type(first).__mro__)
        return next((TYPES[name] for name in names if name in TYPES), None)
    return key if isinstance(key, str) and key in KINDS else None


def _check_name(owner: object, key: object, value: object, kind: str | None) -> None:
    """Raise an error if a key that is carried along has the name of something that has to move."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    name = OTHERS.get(str(key).lower())
    if kind is None and name is not None and isinstance(first, Tensor) and first.ndim > 0:
        remedy = f'It would not be moved with the pixels. Rename it to "{name}", or use torchvision\'s tv_tensors.'
        expected = "under a name that says what it is"
        raise checks.argument_error(owner, f'labels["{key}"]', expected, checks.describe(value), remedy)


def _checked(owner: object, entry: Entry, canvas: Canvas) -> Entry:
    """Raise an error if a target does not fit its image."""
    first: dict[tuple[Any, ...], int] = {}  # the first place of each shape and type: the others need no look
    for place, (value, shape) in enumerate(zip(entry.tensors, entry.shapes, strict=True)):
        first.setdefault((value.device, value.dtype, value.layout, shape), place)
    several = entry.kind == "masks" and canvas.several
    for place in range(len(entry.tensors)) if several else first.values():
        value = entry.tensors[place]
        expected = _expected(entry, canvas, place, entry.shapes[place])
        if expected is None and entry.kind != "labels" and not _is_real(value, entry.kind):
            expected = "a dense tensor of real numbers"
        if expected is not None:
            raise checks.argument_error(owner, _name(entry, place), expected, checks.describe(value))
    for number, name in enumerate(("device", "dtype")):
        found = {str(key[number]) for key in first}
        if len(found) > 1 and not entry.dense:
            got = " and ".join(sorted(found))
            raise checks.argument_error(owner, f'labels["{entry.key}"]', f"of one {name} for all images", got)
    if entry.kind == "boxes":
        _check_boxes(owner, entry, canvas)
    elif entry.kind == "masks" and canvas.several and entry.dense:
        remedy = "Pass a list with one mask for each image."
        got = checks.describe(entry.given)
        raise checks.argument_error(owner, _name(entry, 0), "a list, as the images differ in size", got, remedy)
    elif entry.kind == "keypoints":
        _check_points(owner, entry)
    return entry


def _name(entry: Entry, place: int) -> str:
    return f'labels["{entry.key}"]' if entry.dense else f'labels[{place}]["{entry.key}"]'


def _expected(entry: Entry, canvas: Canvas, place: int, shape: torch.Size) -> str | None:
    """What a target should have been, if its shape is wrong."""
    count, batch = len(shape) - entry.dense, "B, " if entry.dense else ""
    if entry.kind == "boxes":
        good = count in (1, 2) and shape[-1] == 4 if entry.dense else count == 2 and shape[1] == 4
        return None if good or shape.numel() == 0 == count - 1 else f"numbers ({batch}N, 4)"
    if entry.kind == "keypoints":
        good = count >= 1 and shape[-1] in (2, 3)
        return None if good else f"numbers ({batch}N, K, 2), or ({batch}N, K, 3) with visibilities"
    if entry.kind == "masks":
        height, width = canvas.sizes[place].tolist()
        good = count in (2, 3) and tuple(shape[-2:]) == (height, width)
        more = "C" if entry.dense else "N"
        return None if good else f"({batch}{height}, {width}) or ({batch}{more}, {height}, {width}), as its image"
    return None


def _is_real(value: Tensor, kind: str) -> bool:
    plain = value.layout == torch.strided and not value.is_complex() and not value.is_quantized
    return plain and (kind == "masks" or value.dtype is not torch.bool)


def _check_boxes(owner: object, entry: Entry, canvas: Canvas) -> None:
    """Check the format; on the CPU also that boxes are finite, in order, and inside their images."""
    given = [entry.given] if entry.dense else entry.given
    formats = {box_format(value) for value in given} if entry.typed else {"XYXY"}
    if not formats <= set(FORMATS) or len(formats) > 1:
        remedy = "Pass the corners of rotated boxes as key points."
        expected, got = f"in one of the formats {', '.join(FORMATS)}", " and ".join(sorted(formats))
        raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, got, remedy)
    flat = entry.rows
    if flat.device.type != "cpu" or not len(flat):
        return
    corners = to_corners(flat, *formats).numpy()
    x1, y1, x2, y2 = corners.T
    if not canvas.several:  # comparisons with nan are False
        height, width = canvas.sizes[0].tolist()
        low, high = min(x1.min(), y1.min()), max(x2.max() - width, y2.max() - height)
        if low >= -ROOM and high <= ROOM and (x2 - x1).min() >= 0 and (y2 - y1).min() >= 0:
            return
    owners = np.repeat(np.arange(len(canvas)), entry.counts)
    limit = canvas.sizes[owners][:, [1, 0, 1, 0]]
    good = (corners >= -ROOM) & (corners <= limit + ROOM)
    good[:, :2] &= corners[:, :2] <= corners[:, 2:]
    if not good.all():
        first = int((~good.all(axis=1)).argmax())
        sample = int(owners[first])
        height, width = canvas.sizes[sample].tolist()
        got = "({})".format(", ".join(f"{value:g}" for value in corners[first]))
        expected = f"boxes with x1 <= x2 and y1 <= y2 inside its image of height {height} and width {width}"
        number = first - int(np.searchsorted(owners, sample))
        raise checks.argument_error(owner, f'labels[{sample}]["{entry.key}"]', expected, f"{got} for box {number}")


def _check_points(owner: object, entry: Entry) -> None:
    if len({tuple(_row(shape)) for shape in entry.shapes}) > 1:
        got = " and ".join(sorted({str(tuple(_row(shape))) for shape in entry.shapes}))
        expected = "groups (N, K, 2 or 3) with one K for all images"
        raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, got)
    flat = entry.rows
    if flat.device.type == "cpu" and flat.is_floating_point() and not bool(flat.isfinite().all()):
        bad = int((~flat.isfinite().flatten(1).all(dim=1)).int().argmax())
        sample = int(np.searchsorted(np.cumsum(entry.counts), bad, side="right"))
        raise checks.argument_error(
            owner, f'labels[{sample}]["{entry.key}"]', "finite numbers", "nan or inf"
        )  # fmt: skip


def _row(shape: torch.Size) -> Sequence[int]:
    return shape[-2:] if len(shape) > 1 else (1, *shape)
