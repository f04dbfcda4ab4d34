"""Reads targets in the forms that users have, and checks them against the images that they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.boxes import to_corners
from gpuaug.engine.rotated import to_quads
from gpuaug.engine.targets import ROTATED, Entry, Targets, box_format, clamping_mode
from gpuaug.transforms.base import Canvas

__all__ = ["check_name", "is_other_name", "kind_of", "parse"]

Array = NDArray[Any]

KINDS = ("boxes", "masks", "keypoints", "labels")
TYPES = {"BoundingBoxes": "boxes", "Mask": "masks", "KeyPoints": "keypoints"}  # of torchvision
FORMATS = ("XYXY", "XYWH", "CXCYWH", *ROTATED)
# names of targets in other libraries, under which a plain tensor would be carried along and not moved
OTHERS = {
    "mask": "masks", "box": "boxes", "bbox": "boxes", "bboxes": "boxes", "bounding_boxes": "boxes",
    "keypoint": "keypoints", "key_points": "keypoints", "kps": "keypoints", "landmarks": "keypoints",
    "segmentation_mask": "masks", "segmentation_masks": "masks", "gt_masks": "masks", "gt_boxes": "boxes",
    "gt_bboxes": "boxes",
}  # fmt: skip
ROOM = 1.0  # pixels that a box may reach out of its image, as annotation tools round; it is clipped


def parse(owner: object, given: Any, canvas: Canvas, frames: int = 0) -> Targets:
    """Read targets, and check them against the batch: metadata, and values only on the CPU.

    Args:
        owner: Object or name that errors begin with.
        given: What the user passed.
        canvas: Sizes of the images or clips.
        frames: Number of frames of each clip; 0 for images.

    Raises:
        ValueError: If a target has a wrong form, size, dtype or number, or lies outside its image.
    """
    if isinstance(given, (list, tuple)):
        return _of_list(owner, given, canvas, frames)
    targets = Targets(given, single=not isinstance(given, Mapping))
    rows = {str(kind_of("", given)): given} if targets.single else given
    for key, value in rows.items():
        kind = kind_of(key, value)
        check_name(owner, key, value, kind)
        if kind is None:
            continue
        name = f'labels["{key}"]'
        dense = isinstance(value, Tensor)
        if not dense and not (isinstance(value, (list, tuple)) and all(isinstance(v, Tensor) for v in value)):
            if kind != "labels":  # labels may be names
                raise _wrong_value(owner, name, value, "a tensor, or a list with one tensor for each image")
            if not isinstance(value, (list, tuple)) or len(value) == len(canvas):
                continue
        count = len(value) if not dense or value.ndim else 0
        if count != len(canvas):
            expected = f"as many as the images, {len(canvas)}"
            raise checks.argument_error(owner, name, expected, checks.describe(value) if dense else str(count))
        if kind == "labels" and dense:
            targets.labels, targets.label_key = value, key
        else:
            targets.entries.append(_checked(owner, Entry(key, kind, value, dense), canvas, frames))
    return targets


def _of_list(owner: object, given: Sequence[Mapping[str, Any]], canvas: Canvas, frames: int) -> Targets:
    """Targets as a list with a mapping for each image, torchvision's form for detection."""
    if len(given) != len(canvas):
        expected = f"as many as the images, {len(canvas)}"
        raise checks.argument_error(owner, "labels", expected, f"a list of {len(given)}")
    targets = Targets(given)
    for key in dict.fromkeys(key for row in given for key in row):
        values = [row[key] for row in given if key in row]
        kind = kind_of(key, values[0])
        check_name(owner, key, values[0], kind)
        whole = len(values) == len(given) and all(issubclass(kind_, Tensor) for kind_ in set(map(type, values)))
        if kind is None or (kind == "labels" and not whole):
            continue
        if not whole:
            wrong = [number for number, row in enumerate(given) if not isinstance(row.get(key), Tensor)]
            name = f'labels[{wrong[0]}]["{key}"]'
            if key in given[wrong[0]]:
                raise _wrong_value(owner, name, given[wrong[0]][key], "a tensor")
            remedy = "Pass a tensor without rows for an image without any."
            raise checks.argument_error(owner, name, "a tensor", "nothing", remedy)
        targets.entries.append(_checked(owner, Entry(key, kind, values, dense=False), canvas, frames))
    return targets


def kind_of(key: object, value: object) -> str | None:
    """What a key holds, by torchvision's type or by its name; None for what is carried along."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if type(first) is not Tensor and checks.is_target(first):
        names = (cls.__name__ for cls in type(first).__mro__)
        return next((TYPES[name] for name in names if name in TYPES), None)
    return key if isinstance(key, str) and key in KINDS else None


def check_name(owner: object, key: object, value: object, kind: str | None) -> None:
    """Raise an error if a key that is carried along holds something that has to move."""
    if kind is not None:
        return
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if type(first) is not Tensor and checks.is_target(first):
        remedy = f'Pass pictures that belong together as augment({{"image": images, "{key}": ...}}).'
        expected = "a mask, boxes or key points, as it would not be moved with the pixels"
        raise checks.argument_error(owner, f'labels["{key}"]', expected, type(first).__name__, remedy)
    if is_other_name(key, value):
        name = OTHERS[str(key).lower()]
        remedy = f'It would not be moved with the pixels. Rename it to "{name}", or use torchvision\'s tv_tensors.'
        expected = "under a name that says what it is"
        raise checks.argument_error(owner, f'labels["{key}"]', expected, checks.describe(value), remedy)
    inner = _hidden(value) if isinstance(value, Mapping) else None
    if inner is not None:
        remedy = f'Put "{inner}" beside "{key}": what is in a mapping inside it is not moved with the pixels.'
        raise checks.argument_error(owner, f'labels["{key}"]', "without targets in it", f'"{inner}" in it', remedy)


def is_other_name(key: object, value: object) -> bool:
    """Whether a key is a name of targets in other libraries, and holds numbers."""
    return str(key).lower() in OTHERS and _has_numbers(value)


def _has_numbers(value: object) -> bool:
    """Whether a value is a tensor or array with axes, or lists of lists of numbers."""
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and (isinstance(value[0], (list, tuple)) or _has_numbers(value[0]))
    return isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0


def _hidden(value: Mapping[Any, Any]) -> str | None:
    """The key of a target inside a mapping that is carried along."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found = _hidden(inner)
            if found is not None:
                return found
        elif kind_of(key, inner) not in (None, "labels") and _has_numbers(inner):
            return str(key)
    return None


def _wrong_value(owner: object, name: str, value: object, expected: str) -> ValueError:
    """The error for a target that is no tensor."""
    if isinstance(value, np.ndarray) or (isinstance(value, (list, tuple)) and len(value)):
        remedy = "Convert it with torch.as_tensor; ga.ragged_collate does that with arrays."
    else:
        remedy = "Pass a tensor without rows for an image without any."
    return checks.argument_error(owner, name, expected, checks.describe(value), remedy)


def _checked(owner: object, entry: Entry, canvas: Canvas, frames: int) -> Entry:
    """Raise an error if a target does not fit its image."""
    if entry.typed and entry.kind in ("boxes", "keypoints"):
        _check_typed(owner, entry, canvas)
    first: dict[tuple[Any, ...], int] = {}  # the first place of each shape and type: the others need no look
    for place, (value, shape) in enumerate(zip(entry.tensors, entry.shapes, strict=True)):
        first.setdefault((value.device, value.dtype, value.layout, shape), place)
    several = entry.kind == "masks" and canvas.several
    for place in range(len(entry.tensors)) if several else first.values():
        value, shape = entry.tensors[place], entry.shapes[place]
        if frames > 0 and entry.kind != "labels" and len(shape) - entry.dense >= 3:
            expected = _of_frames(entry, canvas.sizes[place], shape, frames)
        else:
            expected = _expected(entry, canvas, place, shape)
        if expected is None and entry.kind != "labels" and not _is_real(value, entry.kind):
            expected = "a dense tensor of real numbers" if not value.is_meta else "a tensor with data, not on meta"
        if expected is not None:
            remedy = ""
            if entry.kind == "boxes" and not entry.typed and shape[-1:] in ((5,), (8,)):
                remedy = "Pass rotated boxes as torchvision's tv_tensors.BoundingBoxes, which say their format."
            raise checks.argument_error(owner, _name(entry, place), expected, checks.describe(value), remedy)
    for number, name in enumerate(("device", "dtype")):
        found = {str(key[number]) for key in first}
        if len(found) > 1 and not entry.dense:
            got = " and ".join(sorted(found))
            raise checks.argument_error(owner, f'labels["{entry.key}"]', f"of one {name} for all images", got)
    if entry.kind == "boxes":
        (_check_rotated if entry.rotated else _check_boxes)(owner, entry, canvas)
    elif entry.kind == "masks" and canvas.several and entry.dense:
        remedy = "Pass a list with one mask for each image."
        got = checks.describe(entry.given)
        raise checks.argument_error(owner, _name(entry, 0), "a list, as the images differ in size", got, remedy)
    elif entry.kind == "keypoints":
        _check_points(owner, entry)
    return entry


def _check_typed(owner: object, entry: Entry, canvas: Canvas) -> None:
    """Check what torchvision's boxes and key points say of themselves: their format, and the size of their image."""
    given = [entry.given] if entry.dense else entry.given
    formats = sorted({box_format(value) for value in given}) if entry.kind == "boxes" else ["XYXY"]
    if len(formats) > 1 or not set(formats) <= set(FORMATS):
        expected, got = f"in one of the formats {', '.join(FORMATS)} for all images", " and ".join(formats)
        raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, got)
    modes = sorted({str(clamping_mode(value)) for value in given}) if entry.kind == "boxes" else []
    if len(modes) > 1:
        expected = "of one clamping_mode for all images"
        raise checks.argument_error(owner, f'labels["{entry.key}"]', expected, " and ".join(modes))
    if entry.dense and canvas.several:
        return
    sizes = canvas.sizes[: len(given)].tolist()
    for place, (value, (height, width)) in enumerate(zip(given, sizes, strict=True)):
        own = getattr(value, "canvas_size", None)
        if own is not None and tuple(own) != (height, width):
            expected, got = f"of a canvas_size of ({height}, {width}), as its image", f"canvas_size {tuple(own)}"
            raise checks.argument_error(owner, _name(entry, place), expected, got, "Resize it with its image.")


def _name(entry: Entry, place: int) -> str:
    return f'labels["{entry.key}"]' if entry.dense else f'labels[{place}]["{entry.key}"]'


def _expected(entry: Entry, canvas: Canvas, place: int, shape: torch.Size) -> str | None:
    """What a target should have been, if its shape is wrong."""
    count, batch = len(shape) - entry.dense, "B, " if entry.dense else ""
    if entry.kind == "boxes":
        numbers = ROTATED[entry.format] if entry.rotated else 4
        good = count in (1, 2) and shape[-1] == numbers if entry.dense else count == 2 and shape[1] == numbers
        return None if good or shape.numel() == 0 == count - 1 else f"numbers ({batch}N, {numbers})"
    if entry.kind == "keypoints":
        good = count >= 1 + entry.dense and shape[-1] in (2, 3)
        return None if good else f"numbers ({batch}N, K, 2), or ({batch}N, K, 3) with visibilities"
    if entry.kind == "masks":
        height, width = canvas.sizes[place].tolist()
        good = count in (2, 3) and tuple(shape[-2:]) == (height, width)
        more = "C" if entry.dense else "N"
        good = good and (not entry.dense or 0 not in shape)
        return None if good else f"({batch}{height}, {width}) or ({batch}{more}, {height}, {width}), as its image"
    return None


def _of_frames(entry: Entry, image: Array, shape: torch.Size, frames: int) -> str | None:
    """As `_expected`, for a target of a clip that has an axis of frames."""
    batch, sizes = "B, " if entry.dense else "", {"boxes": (4,), "masks": tuple(image.tolist())}
    count, good = len(shape) - entry.dense, shape[int(entry.dense)] == frames
    if entry.kind == "keypoints":
        good = good and count <= 4 and shape[-1] in (2, 3)
        return None if good else f"numbers ({batch}{frames}, K, 2 or 3), for each of the {frames} frames"
    size = sizes[entry.kind]
    several = entry.kind == "masks"  # of objects: (T, N, H, W)
    good = good and count in (3, 3 + several) and tuple(shape[len(shape) - len(size) :]) == size
    rest = f"N, {size[0]}, {size[1]}) or ({batch}{frames}, {size[0]}, {size[1]}" if several else "N, 4"
    good = good and not (several and 0 in shape)
    return None if good else f"({batch}{frames}, {rest}), for each of the {frames} frames"


def _is_real(value: Tensor, kind: str) -> bool:
    plain = value.layout == torch.strided and not (value.is_complex() or value.is_quantized or value.is_meta)
    return plain and (kind == "masks" or value.dtype is not torch.bool)


def _room(entry: Entry) -> float:
    """Pixels that boxes may reach out of their image; those that are never clipped may be anywhere."""
    return ROOM if entry.clamping_mode is not None else math.inf


def _check_boxes(owner: object, entry: Entry, canvas: Canvas) -> None:
    """On the CPU, check that boxes are finite, in order, and inside their images."""
    flat, room = entry.rows, _room(entry)
    if flat.device.type != "cpu" or not len(flat):
        return
    corners = to_corners(flat, entry.format).numpy()
    x1, y1, x2, y2 = corners.T
    if not canvas.several:  # comparisons with nan are False
        height, width = canvas.sizes[0].tolist()
        low, high = min(x1.min(), y1.min()), max(x2.max() - width, y2.max() - height)
        if low >= -room and high <= room and (x2 - x1).min() >= 0 and (y2 - y1).min() >= 0:
            return
    owners = np.repeat(np.arange(len(canvas)), entry.counts)
    limit = canvas.sizes[owners][:, [1, 0, 1, 0]]
    good = (corners >= -room) & (corners <= limit + room) & np.isfinite(corners)
    good[:, :2] &= corners[:, :2] <= corners[:, 2:]
    if not good.all():
        first = int((~good.all(axis=1)).argmax())
        expected = "boxes with x1 <= x2 and y1 <= y2 inside its image of height {} and width {}"
        raise _wrong_box(owner, entry, canvas, owners, first, expected, corners[first])


def _wrong_box(
    owner: object, entry: Entry, canvas: Canvas, owners: Array, first: int, expected: str, values: Array
) -> ValueError:
    """The error for row `first`; owners: the sample of each row. `expected` has places for height and width."""
    sample = int(owners[first])
    got = "({})".format(", ".join(f"{value:g}" for value in values))
    number = first - int(np.searchsorted(owners, sample))
    expected = expected.format(*canvas.sizes[sample].tolist())
    return checks.argument_error(owner, f'labels[{sample}]["{entry.key}"]', expected, f"{got} for box {number}")


def _check_rotated(owner: object, entry: Entry, canvas: Canvas) -> None:
    """On the CPU, check that rotated boxes are finite, with their centres inside their images and corners in order."""
    flat, room, format_ = entry.rows, _room(entry), entry.format
    if flat.device.type != "cpu" or not len(flat):
        return
    quads = to_quads(flat, format_).numpy().reshape(-1, 4, 2)
    owners = np.repeat(np.arange(len(canvas)), entry.counts)
    centre, limit = (quads[:, 0] + quads[:, 2]) / 2, canvas.sizes[owners][:, ::-1] + room
    good = ((centre >= -room) & (centre <= limit)).all(axis=1) & np.isfinite(quads).all(axis=(1, 2))
    if format_ == "XYXYXYXY":
        (ax, ay), (bx, by) = (quads[:, 2] - quads[:, 0]).T, (quads[:, 3] - quads[:, 1]).T
        good &= ax * by - ay * bx >= -2 * ROOM  # twice the area, clockwise with y down
        expected = "boxes with corners clockwise on the screen and the centre"
    else:
        good &= (flat.numpy()[:, 2:4] >= 0).all(axis=1)
        expected = "boxes with width and height of at least 0 and the centre"
    if not good.all():
        first = int((~good).argmax())
        expected += " inside its image of height {} and width {}"
        raise _wrong_box(owner, entry, canvas, owners, first, expected, flat[first].numpy())


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
