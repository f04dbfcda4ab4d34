"""Masks, boxes and key points of each image, out of any form of targets, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2 import functional

from gpuaug import checks
from gpuaug.engine.boxes import to_corners
from gpuaug.engine.rotated import to_quads
from gpuaug.engine.target_checks import parse
from gpuaug.engine.targets import Entry, box_format
from gpuaug.sheet.inputs import visible
from gpuaug.transforms.base import Canvas

__all__ = ["COLOURS", "Marks", "alone", "fit", "marks_of", "overlay", "picture", "repeated"]

Array = NDArray[Any]

# of Okabe and Ito, which most people can tell apart, brightest first
COLOURS = ("#f0e442", "#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#0072b2")
OPACITY = 0.55  # of masks
DARK = "#1f2328"


@dataclass(frozen=True)
class Marks:
    """What is drawn on an image.

    boxes: (N, 4) XYXY in pixels. points: (M, 2), x and y in pixels. layers: Masks as numbers (H, W), of which 0 is
    not coloured, each with its opacity in [0, 1]. quads: Rotated boxes, (K, 8), x and y of their corners in pixels.
    """

    boxes: Array = field(default_factory=lambda: np.zeros((0, 4)))
    points: Array = field(default_factory=lambda: np.zeros((0, 2)))
    layers: Sequence[tuple[Array, float]] = ()
    quads: Array = field(default_factory=lambda: np.zeros((0, 8)))


# ---- reading ---------------------------------------------------------------------------------------------------------


def alone(targets: Any, mixes: bool) -> Any:
    """Targets of a single image, given as a mapping of it, in a form for a batch of one."""
    if not isinstance(targets, Mapping):
        return targets
    return {key: value[None] for key, value in targets.items() if isinstance(value, Tensor)} if mixes else [targets]


def repeated(targets: Any, count: int, times: int) -> Any:
    """The targets of `count` images for the same images one after another, `times` times."""
    if isinstance(targets, (list, tuple)):
        return list(targets) * times
    if isinstance(targets, Mapping):
        return {key: _repeated(value, count, times) for key, value in targets.items()}
    return _repeated(targets, count, times)


def _repeated(value: Any, count: int, times: int) -> Any:
    if isinstance(value, (list, tuple)) and len(value) == count:
        return list(value) * times
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != count:
        return value
    many = torch.cat([value] * times)
    if not checks.is_target(value):
        return many
    from torchvision import tv_tensors

    return tv_tensors.wrap(many, like=value)


def marks_of(owner: str, targets: Any, images: Sequence[Tensor], classes: int | None) -> list[Marks]:
    """The marks of each image.

    Args:
        owner: Name that errors begin with.
        targets: Targets in a form that `Augment` takes or returns.
        images: Images (C, H, W) that they belong to.
        classes: Number of classes of masks that a mix may have made soft; None: masks are numbers.
    """
    canvas = Canvas(np.array([image.shape[1:] for image in images], np.int64), len(images[0]))
    partners, weights = None, None
    if isinstance(targets, Mapping) and "masks_partner" in targets:
        partners, weights = targets["masks_partner"], targets["masks_weight"]
        targets = {key: value for key, value in targets.items() if key not in ("masks_partner", "masks_weight")}
    parsed = parse(owner, targets, canvas)
    boxes, points, quads = ([np.zeros((0, columns))] * len(images) for columns in (4, 2, 8))
    layers: list[list[tuple[Array, float]]] = [[] for _ in images]
    for entry in parsed.entries:
        if entry.kind == "boxes":
            given = entry.given if entry.dense else entry.given[0]
            if entry.rotated:
                quads = _joined(quads, _split(to_quads(entry.rows, box_format(given)).cpu().numpy(), entry))
                continue
            rows = to_corners(entry.rows, box_format(given)).cpu().numpy()
            boxes = _joined(boxes, _split(rows, entry))
        elif entry.kind == "keypoints":
            points = _joined(points, [_seen(rows) for rows in _split(entry.rows.double().cpu().numpy(), entry)])
        elif entry.kind == "masks":
            for number, mask in enumerate(entry.tensors[0] if entry.dense else entry.tensors):
                own = 1.0 if weights is None else float(weights[number])
                layers[number].append((_numbers(mask, classes), own))
                if partners is not None:
                    layers[number].append((_numbers(partners[number], classes), 1 - own))
    return [Marks(*each) for each in zip(boxes, points, layers, quads, strict=True)]


def _split(rows: Array, entry: Entry) -> list[Array]:
    return np.split(rows, np.cumsum(entry.counts)[:-1])


def _joined(first: list[Array], second: list[Array]) -> list[Array]:
    return [np.concatenate(pair) for pair in zip(first, second, strict=True)]


def _seen(rows: Array) -> Array:
    """Key points (N, K, 2 or 3) as (M, 2), without those whose visibility is 0."""
    flat = rows.reshape(-1, rows.shape[-1])
    return flat[flat[:, 2] > 0, :2] if flat.shape[1] == 3 else flat


def _numbers(mask: Tensor, classes: int | None) -> Array:
    """A mask (H, W), or (N, H, W) of objects or of weights of classes, as numbers (H, W)."""
    values = mask.detach().as_subclass(Tensor).cpu()
    if values.ndim == 2:
        return values.round().to(torch.int64).numpy() if values.is_floating_point() else values.long().numpy()
    if classes is not None and values.is_floating_point() and len(values) == classes:
        return np.where(values.amax(0) > 0, values.argmax(0), 0)
    found = np.zeros(values.shape[1:], np.int64)
    for number, plane in enumerate(values.numpy(), 1):
        found[plane > 0] = number
    return found


# ---- drawing ---------------------------------------------------------------------------------------------------------


def fit(image: Tensor, height: int, width: int) -> Tensor:
    """Resize the image (C, H, W) so that it fits into (height, width), without a crop, as (3, h, w)."""
    factor = min(height / image.shape[1], width / image.shape[2])
    size = [max(1, round(image.shape[1] * factor)), max(1, round(image.shape[2] * factor))]
    resized: Tensor = functional.resize(visible(image), size, antialias=True)
    return resized


def overlay(numbers: Array, opacity: float) -> Array:
    """A mask (H, W) as colours with opacity, (H, W, 4) uint8; 0 is transparent."""
    table = np.array([[int(colour[n : n + 2], 16) for n in (1, 3, 5)] for colour in COLOURS], np.uint8)
    alpha = np.where(numbers != 0, round(255 * OPACITY * opacity), 0).astype(np.uint8)
    return np.concatenate([table[(numbers - 1) % len(COLOURS)], alpha[..., None]], axis=2)


def picture(image: Tensor, marks: Marks, height: int, width: int) -> Image.Image:
    """The image (C, H, W), resized to fit into (height, width), with its marks drawn on it."""
    fitted = functional.to_pil_image(fit(image, height, width))
    if not (len(marks.layers) or len(marks.boxes) or len(marks.points) or len(marks.quads)):
        return fitted
    for numbers, opacity in marks.layers:
        colours = Image.fromarray(overlay(numbers, opacity)).resize(fitted.size, Image.Resampling.NEAREST)
        fitted.paste(colours, (0, 0), colours)
    across, down = fitted.width / image.shape[2], fitted.height / image.shape[1]
    pen = ImageDraw.Draw(fitted)
    for number, box in enumerate(marks.boxes):
        left, top, right, bottom = (box * [across, down, across, down]).round().astype(int).tolist()
        ends = left, top, max(right - 1, left), max(bottom - 1, top)
        pen.rectangle(ends, outline=DARK, width=4)
        pen.rectangle([ends[0] + 1, ends[1] + 1, max(ends[2] - 1, ends[0] + 1), max(ends[3] - 1, ends[1] + 1)],
                      outline=COLOURS[number % len(COLOURS)], width=2)  # fmt: skip
    for number, quad in enumerate(marks.quads, len(marks.boxes)):
        corners = [tuple(corner) for corner in (quad.reshape(4, 2) * [across, down]).tolist()]
        pen.line([*corners, *corners[:2]], fill=DARK, width=4, joint="curve")
        pen.line([*corners, *corners[:2]], fill=COLOURS[number % len(COLOURS)], width=2, joint="curve")
    for x, y in marks.points * [across, down]:
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=COLOURS[0], outline=DARK, width=1)
    return fitted
