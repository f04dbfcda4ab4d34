"""`gpuaug.show`: augmented versions of images as a figure of matplotlib, for notebooks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from gpuaug import checks
from gpuaug.sheet.inputs import Pictures, as_images, visible
from gpuaug.sheet.marks import COLOURS, DARK, alone, overlay
from gpuaug.sheet.tiles import Tile, described, tiles
from gpuaug.sheet.words import INK, OTHER, OWN, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gpuaug.augment import Augment
    from gpuaug.transforms.base import Transform

__all__ = ["show"]

MOST = 64  # rows, columns
INCHES, LINE = 2.3, 36  # width of a tile, and characters that fit under it


def show(
    augment: Augment | Transform | Sequence[object],
    images: Pictures,
    rows: int = 2,
    columns: int = 4,
    *,
    targets: object = None,
    epoch: int | None = None,
    captions: bool = True,
) -> Figure:
    """Augmented versions of images as a figure, which a notebook displays; captions say what was done.

    One image is shown `rows` times `columns` times. Several images have a row each, and each column is a batch: a mix
    takes its partners from it. With one image, a mix takes another version of it. A bar shows the own share of a mixed
    image in blue. The module's counter, mode and epoch do not change, and pyplot is not used.

    Args:
        augment: Module whose training list is shown, without ToDtype and Normalize; or a list of transforms, which is
            drawn with seed 0.
        images: uint8 (C, H, W) or (B, C, H, W), Ragged, a Pillow image or a path, or several of these in a list. Of
            more than three channels the first three are shown.
        rows: Number of rows for one image, in [1, 64].
        columns: Number of columns, in [1, 64].
        targets: Masks, boxes and key points in a form that `Augment` takes, drawn where the draw moves them. Of one
            image also a mapping of its own, such as {"boxes": (N, 4), "masks": (H, W)}.
        epoch: Epoch of the draws, in [0, 2**32 - 1]. None: the module's current epoch. The list is the present one,
            also with a Schedule; `set_epoch` puts in another.
        captions: Whether to write under each image what was done to it.

    Returns:
        A matplotlib Figure, to be displayed or saved with `savefig`.

    Raises:
        ValueError: If an argument is out of range, or the list cannot take these images or targets.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    rows = checks.integer("show", "rows", rows, 1, MOST)
    columns = checks.integer("show", "columns", columns, 1, MOST)
    module, found = described("show", "augment", augment), as_images("show", images)
    if isinstance(images, (str, os.PathLike, Image.Image)) or (isinstance(images, Tensor) and images.ndim == 3):
        targets = alone(targets, module.train_pipeline.mix is not None)
    versions = rows * columns if len(found) == 1 else columns
    made = [row[1:] for row in tiles("show", module, found, versions, targets=targets, epoch=epoch)]
    if len(found) == 1:
        made = [made[0][first : first + columns] for first in range(0, versions, columns)]
    return _figure(made, captions)


def _figure(rows: Sequence[Sequence[Tile]], captions: bool) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('show: it needs matplotlib. Run pip install "gpuaug[demo]".') from error
    heights = [max(tile.image.shape[1] / tile.image.shape[2] for tile in row) for row in rows]
    said = [max(wrapped(tile.words, LINE).count("\n") for tile in row) + 1 if captions else 0 for row in rows]
    tall = [INCHES * height + 0.14 * lines + 0.25 for height, lines in zip(heights, said, strict=True)]
    figure = Figure(figsize=(INCHES * len(rows[0]), sum(tall)), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False, height_ratios=tall)
    for row, places in zip(rows, axes, strict=True):
        for tile, place in zip(row, places, strict=True):
            _draw(place, tile, captions)
    vars(figure)["_repr_png_"] = partial(_png, figure)  # a notebook asks for it, also without pyplot
    return figure


def _draw(place: Any, tile: Tile, captions: bool) -> None:
    """Draw a tile on axes, whose coordinates are pixels of the image."""
    from matplotlib.patches import Polygon, Rectangle

    height, width = tile.image.shape[1:]
    extent = (0, width, height, 0)
    place.imshow(visible(tile.image).permute(1, 2, 0).numpy(), extent=extent)
    for numbers, opacity in tile.marks.layers:
        place.imshow(overlay(numbers, opacity), extent=extent, interpolation="nearest")
    for number, (left, top, right, bottom) in enumerate(tile.marks.boxes):
        for colour, line in ((DARK, 3.0), (COLOURS[number % len(COLOURS)], 1.5)):
            box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=line)
            place.add_patch(box)
    for number, quad in enumerate(tile.marks.quads, len(tile.marks.boxes)):
        for colour, line in ((DARK, 3.0), (COLOURS[number % len(COLOURS)], 1.5)):
            place.add_patch(Polygon(quad.reshape(4, 2), fill=False, edgecolor=colour, linewidth=line))
    if len(tile.marks.points):
        x, y = tile.marks.points.T
        place.scatter(x, y, s=18, color=COLOURS[0], edgecolors=DARK, linewidths=0.6)
    place.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], anchor="N")
    place.spines[:].set_visible(False)
    if tile.share is not None:
        for left, right, colour in ((0.0, tile.share.own, OWN), (tile.share.own, 1.0, OTHER)):
            bar = Rectangle((left, -0.035), right - left, 0.02, transform=place.transAxes, color=colour, linewidth=0)
            bar.set_clip_on(False)
            place.add_patch(bar)
    if captions:
        place.set_xlabel(wrapped(tile.words, LINE), fontsize=7.5, color=INK, loc="left", labelpad=7)


def _png(figure: Figure) -> bytes:
    written = BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()
