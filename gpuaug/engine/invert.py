"""Puts predictions on augmented images back onto the images they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.call import Draw, route_of
from gpuaug.engine.follow import move_boxes, move_points
from gpuaug.engine.geometry import Move, Route, inverted
from gpuaug.engine.target_checks import parse
from gpuaug.engine.targets import Entry, following_of, is_structured, like
from gpuaug.kernels.torch.common import PIXELS_AT_ONCE, upload
from gpuaug.transforms.base import Canvas

__all__ = ["invert", "maps_back"]

Array = NDArray[Any]
Keyed = TypeVar("Keyed", bound=Mapping[str, object] | Sequence[Mapping[str, object]])


def invert(
    draw: Draw,
    targets: Keyed,
    *,
    mask_fill: float = 0,
    flip_pairs: Sequence[tuple[int, int]] | None = None,
) -> Keyed:
    """Put boxes, key points and masks of augmented images back onto the images they came from.

    For predictions on augmented images, such as those of test-time augmentation. A box becomes the box around its moved
    corners, clipped to the image. Masks, also weights of classes (B, C, h, w), take the nearest pixel; what a crop cut
    off gets `mask_fill`. Key points that fall outside the image get visibility 0.

    Args:
        draw: The draw that the images were rendered with, as `Augment.sample` returns it.
        targets: Predictions in one of the forms that `Augment` takes, in pixels of the augmented images.
        mask_fill: Number that masks get where the augmented image shows nothing.
        flip_pairs: As of Augment: numbers (left, right) of key points to exchange where an image was mirrored.

    Returns:
        The targets in the form that was given, in pixels of the input images.

    Raises:
        ValueError: If a step moves pixels otherwise than by a matrix, or a target does not fit the augmented images.
    """
    if not isinstance(draw, Draw):
        raise checks.argument_error("invert", "draw", "what `Augment.sample` returned", checks.describe(draw))
    if not is_structured(targets):
        expected = 'a mapping with "boxes", "masks" or "keypoints", or a list of mappings'
        raise checks.argument_error("invert", "targets", expected, checks.describe(targets))
    following = following_of("invert", mask_fill, False, flip_pairs)
    forth = route_of(draw)
    total = forth.total()
    back = Move(
        inverted(total.matrix), inverted(total.points), forth.before, clips=True, projective=True, mirrors=True,
        squares=np.ones(len(forth.size), bool),
    )  # fmt: skip
    way = Route([back], forth.size, forth.before)
    parsed = parse("invert", targets, Canvas(forth.size, draw.canvas.channels))
    changed: dict[str, Any] = {} if parsed.label_key is None else {parsed.label_key: parsed.labels}
    for entry in parsed.entries:
        if entry.kind == "boxes":
            changed[entry.key], _ = move_boxes(entry, way)
        elif entry.kind == "keypoints":
            changed[entry.key] = move_points(entry, way, following)
        elif entry.kind == "masks":
            changed[entry.key] = _masks(entry, total.matrix, forth.before, following.mask_fill)
    found: Keyed = parsed.put_back(changed)
    return found


def _masks(entry: Entry, matrices: Array, sizes: Array, fill: float) -> Any:
    """Masks of an entry, looked up where the draw put each pixel of the input."""
    if entry.dense:
        size = tuple(map(int, sizes[0]))
        if (sizes != sizes[0]).any():
            remedy = "Pass a list with one mask for each image."
            raise checks.argument_error("invert", f'targets["{entry.key}"]', "a list, as images differ in size",
                                        checks.describe(entry.given), remedy)  # fmt: skip
        return like(_looked_up(entry.tensors[0], matrices, size, fill), entry.given, sizes[0])
    found = []
    for mask, given, matrix, size in zip(entry.tensors, entry.given, matrices, sizes, strict=True):
        planes = mask if mask.ndim == 3 else mask[None]
        value = _looked_up(planes[None], matrix[None], tuple(map(int, size)), fill)[0]
        found.append(like(value if mask.ndim == 3 else value[0], given, size))
    return found


def _looked_up(masks: Tensor, matrices: Array, size: tuple[int, ...], fill: float) -> Tensor:
    """(B, ..., H, W) of `size`: the nearest pixel of masks (B, ..., h, w) where `matrices` (B, 3, 3) put each pixel."""
    height, width = masks.shape[-2:]
    device, planes = masks.device, masks.reshape(len(masks), -1, height * width)
    out = torch.full((len(masks), planes.shape[1], size[0] * size[1]), fill, dtype=masks.dtype, device=device)
    x = torch.arange(size[1], device=device) + 0.5
    y = torch.arange(size[0], device=device)[:, None] + 0.5
    step = max(1, PIXELS_AT_ONCE // max(1, out[0].numel()))  # an image may have no masks
    table = upload(matrices.reshape(-1, 9).astype(np.float32), device)[:, :, None, None].unbind(1)
    for start in range(0, len(masks), step):
        a, b, c, d, e, f, g, h, i = (column[start : start + step] for column in table)
        depth = g * x + (h * y + i)
        column, row = ((a * x + (b * y + c)) / depth).floor(), ((d * x + (e * y + f)) / depth).floor()
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (depth > 0)
        row, column = (torch.where(inside, each, 0).long() for each in (row, column))  # float32 counts to 2**24 only
        index = (row * width + column).flatten(1)[:, None]
        picked = planes[start : start + step].gather(2, index.expand(-1, planes.shape[1], -1))
        part = slice(start, start + step)
        out[part] = torch.where(inside.flatten(1)[:, None], picked, out[part])
    return out.reshape(*masks.shape[:-2], *size)


def maps_back(draw: Draw, maps: Tensor) -> Tensor | list[Tensor]:
    """Class maps (B, classes, h, w), floats, of augmented images on the images they came from: the nearest pixel.

    Returns:
        (B, classes, H, W), NaN where an augmented image does not show a pixel; a list with (classes, H, W) for each
        image if they differ in size.
    """
    total, sizes = route_of(draw).total(), draw.canvas.sizes
    fill = float("nan")
    if (sizes == sizes[0]).all():
        return _looked_up(maps, total.matrix, tuple(map(int, sizes[0])), fill)
    parts = zip(torch.split(maps, 1), total.matrix, sizes, strict=True)
    return [_looked_up(part, matrix[None], tuple(map(int, size)), fill)[0] for part, matrix, size in parts]
