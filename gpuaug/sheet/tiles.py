"""What is shown of a list: images before and after it, with captions, shares of mixes, masks, boxes and key points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.augment import Augment, Draw
from gpuaug.engine.explain import drawn_mix
from gpuaug.engine.multi import MultiView
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.views import is_nested
from gpuaug.ragged import Ragged
from gpuaug.sheet.marks import Marks, marks_of, repeated
from gpuaug.transforms.base import BETWEEN, Convert, Params, Transform

__all__ = ["Share", "Tile", "captions", "described", "levels", "tiles"]


@dataclass(frozen=True)
class Share:
    """How much of a mixed sample is its own, in [0, 1], and the number of the image that the rest is of."""

    own: float
    other: int


@dataclass(frozen=True)
class Tile:
    """One image with what is said and drawn on it.

    image: uint8 (C, H, W). words: Parts of its caption. share: Of a mixed sample; None: not mixed.
    """

    image: Tensor
    words: Sequence[str]
    share: Share | None = None
    marks: Marks = field(default_factory=Marks)


def tiles(
    owner: str,
    augment: Augment,
    images: Sequence[Tensor],
    columns: int,
    *,
    targets: Any = None,
    epoch: int | None = None,
    names: Sequence[str] = (),
) -> list[list[Tile]]:
    """For each image a row: the image as it is, and `columns` versions of it. No draw of the module is used up.

    A column is a batch, as in training: a mix takes its partners from it. The versions of a single image are one batch
    if the list mixes, so that there is a partner.

    Args:
        owner: Name that errors begin with.
        augment: Module whose training list is shown, without ToDtype and Normalize.
        images: uint8 (C, H, W), of any sizes if the list makes them one.
        columns: Number of versions.
        targets: Masks, boxes and key points of the images, in a form that `Augment` takes.
        epoch: Epoch of the draws. None: the module's current epoch.
        names: A name for each image.

    Raises:
        ValueError: If the list cannot take the images or targets.
    """
    times = columns if len(images) == 1 and augment.train_pipeline.mix is not None else 1
    before = [Marks()] * len(images) if targets is None else marks_of(owner, targets, images, None)
    rows = []
    for number, image in enumerate(images):
        said = [*names[number : number + 1], f"{image.shape[2]} × {image.shape[1]}"]
        rows.append([Tile(image, said, marks=before[number])])
    many = [*images] * times
    batch = torch.stack(many) if len({tuple(image.shape) for image in images}) == 1 else Ragged.from_images(many)
    beside = None if targets is None else repeated(targets, len(images), times)
    for number in range(columns // times):
        draw = augment.example_draw(batch, beside, epoch=epoch, first=number * len(batch))
        for sample, tile in enumerate(_versions(owner, augment, batch, draw, beside, len(images))):
            rows[sample % len(images)].append(tile)
    return rows


def _versions(
    owner: str, augment: Augment, batch: Tensor | Ragged, draw: Draw, targets: Any, count: int
) -> Iterator[Tile]:
    """A tile of each sample of a batch, which shows `count` images in turn."""
    pipeline, marks = augment.train_pipeline, [Marks()] * len(batch)
    if targets is None:
        pixels = levels(pipeline, augment.render(batch, draw))
    else:
        result, moved = augment.render(batch, draw, targets)
        pixels = levels(pipeline, result)
        marks = marks_of(owner, moved, list(pixels), pipeline.num_classes)
    words, mix = captions(pipeline.steps, draw.params, len(batch)), drawn_mix(draw)
    for sample, said in enumerate(words):
        share = None
        if mix is not None and mix.share[sample] < 1:
            share = Share(float(mix.share[sample]), int(mix.partner[sample]) % count)
        yield Tile(pixels[sample], said.split(BETWEEN), share, marks[sample])


def levels(pipeline: Pipeline, result: Any) -> Tensor:
    """The result of a render as uint8 (B, C, H, W): ToDtype and Normalize undone, labels dropped."""
    images: Tensor = result[0] if isinstance(result, tuple) else result
    if images.dtype == torch.uint8:
        return images
    ends = torch.tensor([0, 255], dtype=torch.uint8, device="cpu").expand(images.shape[1], 1, 2)
    for step in pipeline.steps:
        if isinstance(step, Convert):
            ends = step.convert(ends)
    black, white = (end[:, None].to(images.device) for end in ends.unbind(-1))  # (C, 1, 1)
    return ((images.float() - black) / (white - black) * 255).round().clamp(0, 255).to(torch.uint8)


def captions(steps: Sequence[Transform], params: Sequence[Params], samples: int) -> list[str]:
    """For each sample of a draw, e.g. "crop 43% · flip · Rotate 9° · Color ×1.27".

    Args:
        steps: Transforms of the draw.
        params: `Draw.params`.
        samples: Number of samples.
    """
    drawn = list(zip(steps, params, strict=True))
    said = (filter(None, (step.caption(own, sample) for step, own in drawn)) for sample in range(samples))
    return [BETWEEN.join(words).replace("-", "−") or "unchanged" for words in said]


def described(owner: str, name: str, value: object) -> Augment:
    """An Augment: the one given, or one of a list of transforms, with seed 0.

    Raises:
        ValueError: If it is neither, or the list cannot run.
    """
    if isinstance(value, Augment):
        return value
    if isinstance(value, Transform):
        value = [value]
    expected, remedy = "an Augment or a list of transforms", "Pass the list of one view."
    if isinstance(value, MultiView):
        raise checks.argument_error(owner, name, expected, "a MultiView", remedy)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise checks.argument_error(owner, name, expected, checks.describe(value))
    try:
        return Augment(value, seed=0, backend="torch")  # the same pixels as on every backend, and nothing to compile
    except ValueError:
        if len(value) < 2 or not is_nested(value):
            raise
    raise checks.argument_error(owner, name, expected, f"{len(value)} lists", remedy)
