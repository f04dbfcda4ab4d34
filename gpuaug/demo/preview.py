"""A picture of the effect of a pipeline: in each row a photograph and some augmented versions, with captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.sheet.inputs import as_images
from gpuaug.sheet.marks import fit
from gpuaug.sheet.png import write
from gpuaug.sheet.tiles import captions, levels, tiles
from gpuaug.sheet.words import title_of

__all__ = ["captions", "fit", "levels", "preview"]


def preview(
    augment: Augment, images: Sequence[Tensor], path: str | Path, *, columns: int = 4, epoch: int | None = None
) -> Path:
    """Draw `columns` augmented versions of each image, and write a picture 1200 pixels wide.

    Args:
        augment: Module whose training list is shown, without Normalize. Its counter and mode do not change.
        images: uint8 (C, H, W); of any sizes if the list starts with a crop or a resize.
        path: Path of the picture; its ending, .png or .jpg, is the format.
        columns: Number of versions of each image, in [1, 8].
        epoch: Epoch of the draws. None: the module's current epoch.

    Returns:
        `path`.
    """
    columns = checks.integer("preview", "columns", columns, 1, 8)
    rows = tiles("preview", augment, as_images("preview", images), columns, epoch=epoch)
    return write(rows, title_of(augment.train_pipeline), Path(path))
