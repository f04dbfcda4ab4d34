"""A picture of the effect of a pipeline: in each row a photograph and some augmented versions, with captions."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.engine.pipeline import Pipeline
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Convert, Params, Transform
from gpuaug.transforms.mix import Mix

__all__ = ["captions", "preview"]

WIDTH, MARGIN, GAP, CAPTION, HEADER = 1200, 16, 10, 46, 46  # pixels
ORIGINAL = 1.5  # width of the first column, in tiles: a 3:2 photograph has the height of a tile
DPI = 100
INK, FAINT = "#1f2328", "#656d76"
LINE = 34  # characters that fit in a line under a tile


def preview(
    augment: Augment, images: Sequence[Tensor], path: str | Path, *, columns: int = 4, epoch: int | None = None
) -> Path:
    """Draw `columns` augmented versions of each image, and write a picture 1200 pixels wide.

    Args:
        augment: Module whose training list is shown, without Normalize. Its counter and mode do not change.
        images: uint8 (3, H, W) or (1, H, W); of any sizes if the list starts with a crop or a resize.
        path: Path of the picture; its ending, .png or .jpg, is the format.
        columns: Number of versions of each image, in [1, 8].
        epoch: Epoch of the draws. None: the module's current epoch.

    Returns:
        `path`.
    """
    columns = checks.integer("preview", "columns", columns, 1, 8)
    if len(images) == 0:
        raise checks.argument_error("preview", "images", "at least one image", "none")
    count = len(images)
    same = len({tuple(image.shape) for image in images}) == 1
    repeated = [*images] * columns  # neighbours differ, so that a mix is visible
    batch = torch.stack(repeated) if same else Ragged.from_images(repeated)
    draw = augment.example_draw(batch, epoch=epoch)
    pixels = levels(augment.train_pipeline, augment.render(batch, draw, _labels(augment, len(repeated))))
    words = captions(augment.train_pipeline.steps, draw.params, len(repeated))
    rows = [
        [
            (image, f"{image.shape[2]} × {image.shape[1]}"),
            *((pixels[n], words[n]) for n in range(number, len(repeated), count)),
        ]
        for number, image in enumerate(images)
    ]
    return _write(rows, _title(augment), Path(path))


def _labels(augment: Augment, size: int) -> Tensor | None:
    mix = augment.train_pipeline.mix
    return None if mix is None else torch.eye(mix.num_classes or 2)[torch.zeros(size, dtype=torch.int64)]


def levels(pipeline: Pipeline, result: Any) -> Tensor:
    """The result of a render as uint8 (B, C, H, W): ToDtype and Normalize undone, labels dropped."""
    images: Tensor = result[0] if isinstance(result, tuple) else result
    if images.dtype == torch.uint8:
        return images
    ends = torch.tensor([0, 255], dtype=torch.uint8, device="cpu").expand(images.shape[1], 1, 2)
    for step in pipeline.steps:
        if isinstance(step, Convert):
            ends = step.convert(ends)
    black, white = (end[:, None] for end in ends.unbind(-1))  # (C, 1, 1)
    return ((images.float() - black) / (white - black) * 255).round().clamp(0, 255).to(torch.uint8)


# ---- captions --------------------------------------------------------------------------------------------------------


def captions(steps: Sequence[Transform], params: Sequence[Params], samples: int) -> list[str]:
    """For each sample of a draw, e.g. "crop 43% · flip · Rotate 9° · Color ×1.27".

    Args:
        steps: Transforms of the draw.
        params: `Draw.params`.
        samples: Number of samples.
    """
    drawn = list(zip(steps, params, strict=True))
    said = (filter(None, (step.caption(own, sample) for step, own in drawn)) for sample in range(samples))
    return [" · ".join(words).replace("-", "−") or "unchanged" for words in said]


# ---- picture ---------------------------------------------------------------------------------------------------------


def _title(augment: Augment) -> str:
    steps = (step for step in augment.train_pipeline.steps if not isinstance(step, Convert))
    return "  ·  ".join(f"{step!r}" if not isinstance(step, Mix) else type(step).__name__ for step in steps)


def _wrap(caption: str) -> str:
    """Break a caption into lines of at most LINE characters, between two transforms."""
    lines = [""]
    for word in caption.split(" · "):
        longer = f"{lines[-1]} · {word}" if lines[-1] else word
        if len(longer) <= LINE or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _write(rows: Sequence[Sequence[tuple[Tensor, str]]], title: str, path: Path) -> Path:
    """Draw rows of (image (C, H, W), caption), with a wider first column, at whole pixels, and save the picture."""
    from matplotlib.figure import Figure
    from PIL import Image

    columns = len(rows[0]) - 1
    tile = int((WIDTH - 2 * MARGIN - GAP * columns) / (columns + ORIGINAL))
    wide = WIDTH - 2 * MARGIN - columns * (tile + GAP)
    height = HEADER + len(rows) * (tile + CAPTION) + MARGIN // 2
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / WIDTH, 1 - y / height, text, va="top", **style)

    write(MARGIN, 16, "original", fontsize=9.5, color=FAINT)
    write(MARGIN + wide + GAP, 16, title, fontsize=9.5, color=FAINT)
    sheet: list[tuple[int, int, Tensor]] = []
    for number, row in enumerate(rows):
        top = HEADER + number * (tile + CAPTION)
        for column, (image, caption) in enumerate(row):
            left = MARGIN if column == 0 else MARGIN + wide + GAP + (column - 1) * (tile + GAP)
            fitted = fit(image, tile, wide if column == 0 else tile)
            sheet.append((left, top, fitted))
            write(left, top + tile + 6, _wrap(caption), fontsize=7.8, color=INK if column else FAINT, linespacing=1.35)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    picture = Image.open(drawn).convert("RGB")
    for left, top, fitted in sheet:
        picture.paste(functional.to_pil_image(fitted), (left, top))
    picture.save(path, optimize=True, quality=90)
    return path


def fit(image: Tensor, height: int, width: int) -> Tensor:
    """Resize the image so that it fits into (height, width), without a crop."""
    factor = min(height / image.shape[1], width / image.shape[2])
    size = [max(1, round(image.shape[1] * factor)), max(1, round(image.shape[2] * factor))]
    resized: Tensor = functional.resize(image.expand(3, -1, -1), size, antialias=True)
    return resized
