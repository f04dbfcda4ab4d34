"""A picture of what a pipeline does: one photograph per row, the original and a few draws, each with what was done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.engine.pipeline import Pipeline
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Crop, Params, Transform
from gpuaug.transforms.container import RandomChoice, RandomOrder
from gpuaug.transforms.convert import Convert
from gpuaug.transforms.mix import Mix
from gpuaug.transforms.opaque import Opaque
from gpuaug.transforms.policy import NAMES, AugMix, Policy

__all__ = ["captions", "preview"]

Array = NDArray[Any]

WIDTH, MARGIN, GAP, CAPTION, HEADER = 1200, 16, 10, 46, 46  # pixels
ORIGINAL = 1.5  # width of the first column, in tiles, so that a 3:2 photograph is as high as the rest
DPI = 100
INK, FAINT = "#1f2328", "#656d76"
LINE = 34  # characters that fit under a tile


def preview(
    augment: Augment, images: Sequence[Tensor], path: str | Path, *, columns: int = 4, epoch: int | None = None
) -> Path:
    """Draw `columns` versions of each image with the training list, and write a picture 1200 pixels wide.

    Args:
        augment: whose training list is shown; neither its counter nor its mode changes. Normalize is undone.
        images: uint8 (3, H, W) or (1, H, W); of any sizes when the list starts with a crop or a resize.
        path: of the picture; its ending is the format, .png or .jpg.
        columns: versions of each image, in [1, 8].
        epoch: of the draws; None is the module's own.

    Returns:
        `path`.
    """
    columns = checks.integer("preview", "columns", columns, 1, 8)
    if len(images) == 0:
        raise checks.argument_error("preview", "images", "at least one image", "none")
    count = len(images)
    same = len({tuple(image.shape) for image in images}) == 1
    repeated = [*images] * columns  # neighbours differ, so that a mix has something to mix
    batch = torch.stack(repeated) if same else Ragged.from_images(repeated)
    draw = augment.example_draw(batch, epoch=epoch)
    pixels = levels(augment.train_pipeline, augment.render(batch, draw, _labels(augment, len(repeated))))
    words = captions(augment.train_pipeline.steps, draw.params, [tuple(image.shape[-2:]) for image in repeated])
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


# ---- what was done, in words -----------------------------------------------------------------------------------------


def captions(steps: Sequence[Transform], params: Sequence[Params], sizes: Sequence[tuple[int, ...]]) -> list[str]:
    """For each sample of a draw, e.g. "crop 43% · flip · Rotate 9° · Color ×1.27".

    Args:
        steps: the list that drew.
        params: `Draw.params`.
        sizes: (height, width) of each image before the first step, pixels.
    """
    result = []
    for sample, size in enumerate(sizes):
        words = [word for step, drawn in zip(steps, params, strict=True) for word in _words(step, drawn, sample, size)]
        result.append(" · ".join(words).replace("-", "−") or "unchanged")
    return result


def _words(step: Transform, params: Params, sample: int, size: tuple[int, ...]) -> Iterator[str]:
    """What a step did to a sample."""
    applied = params.get("applied")
    if applied is not None and not applied[sample]:
        return
    if step.children:
        numbers: Sequence[int] = range(len(step.children))
        if isinstance(step, RandomChoice):
            numbers = range(params["chosen"][sample], min(params["chosen"][sample] + 1, len(step.children)))
        elif isinstance(step, RandomOrder):
            numbers = params["order"][sample]
        for number in numbers:
            yield from _words(step.children[number], params[str(number)], sample, size)
    elif isinstance(step, AugMix):
        yield f"AugMix, {step.mixture_width} chains"
    elif isinstance(step, Policy):
        for op, magnitude in zip(params["ops"][sample], params["magnitude"][sample], strict=True):
            if NAMES[op] != "Identity":
                yield MAGNITUDES.get(NAMES[op], "{name}").format(name=NAMES[op], **_magnitude(float(magnitude)))
    elif (name := type(step).__name__) in WORDS:
        own = {key: value[sample] for key, value in params.items() if hasattr(value, "__len__")}
        yield from WORDS[name](own, math.prod(size))
    elif isinstance(step, Opaque):
        yield type(step.module).__name__
    elif not isinstance(step, (Convert, Crop)):
        yield name.removeprefix("Random")


MAGNITUDES = {
    **dict.fromkeys(("Rotate",), "{name} {number:.0f}°"),
    **dict.fromkeys(("ShearX", "ShearY"), "{name} {slope:.0f}°"),
    **dict.fromkeys(("TranslateX", "TranslateY"), "{name} {number:.0f} px"),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), "{name} ×{factor:.2f}"),
    "Posterize": "{name} {number:.0f} bits",
    "Solarize": "{name} {level:.0f}",
}


def _magnitude(number: float) -> dict[str, float]:
    """A policy's magnitude in the units that MAGNITUDES shows."""
    slope = math.degrees(math.atan(number))
    return {"number": number, "slope": slope, "factor": 1 + number, "level": 255 * number}


def _share(box: Array, area: int) -> str:
    return f"{100 * int(box[2]) * int(box[3]) / area:.0f}%"


def _jitter(own: Params, area: int) -> list[str]:
    names = [("brightness", "contrast", "saturation", "hue")[number] for number in own["order"]]
    named = [(name, own[f"{name}_factor"]) for name in names if f"{name}_factor" in own]
    return [f"{name} {value:+.2f}" if name == "hue" else f"{name} ×{value:.2f}" for name, value in named]


WORDS: dict[str, Callable[[Params, int], Sequence[str]]] = {
    "RandomResizedCrop": lambda own, area: [f"crop {_share(own['box'], area)}"],
    "RandomCrop": lambda own, area: ["crop ({}, {})".format(*own["start"])],
    "RandomHorizontalFlip": lambda own, area: ["flip"],
    "RandomVerticalFlip": lambda own, area: ["upside down"],
    "RandomRotation": lambda own, area: [f"rotate {own['degrees']:.0f}°"],
    "RandomAffine": lambda own, area: [f"affine {own['degrees']:.0f}°, ×{own['scale']:.2f}"],
    "RandomGrayscale": lambda own, area: ["grey"],
    "RandomErasing": lambda own, area: ["erase"],
    "ColorJitter": _jitter,
    "GaussianBlur": lambda own, area: [f"blur {own['sigma']:.1f} px"],
    "GaussianNoise": lambda own, area: ["noise"],
    "MotionBlur": lambda own, area: [f"motion blur {own['degrees']:.0f}°"],
    "JPEG": lambda own, area: [f"JPEG quality {own['quality']}"],
    "MixUp": lambda own, area: [f"MixUp {own['weight']:.2f}"],
    "CutMix": lambda own, area: ["CutMix"],
}


# ---- the sheet -------------------------------------------------------------------------------------------------------


def _title(augment: Augment) -> str:
    steps = (step for step in augment.train_pipeline.steps if not isinstance(step, Convert))
    return "  ·  ".join(f"{step!r}" if not isinstance(step, Mix) else type(step).__name__ for step in steps)


def _wrap(caption: str) -> str:
    """A caption in lines of at most LINE characters, broken between words of the list only."""
    lines = [""]
    for word in caption.split(" · "):
        longer = f"{lines[-1]} · {word}" if lines[-1] else word
        if len(longer) <= LINE or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _write(rows: Sequence[Sequence[tuple[Tensor, str]]], title: str, path: Path) -> Path:
    """Draw rows of (image (C, H, W), caption) with the wide first column, in whole pixels, and save."""
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
    """The whole image, as large as it fits into (height, width)."""
    factor = min(height / image.shape[1], width / image.shape[2])
    size = [max(1, round(image.shape[1] * factor)), max(1, round(image.shape[2] * factor))]
    resized: Tensor = functional.resize(image.expand(3, -1, -1), size, antialias=True)
    return resized
