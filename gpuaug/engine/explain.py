"""A draw in words: what it does to one sample, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from gpuaug import checks, program
from gpuaug.engine.call import Draw
from gpuaug.transforms.base import BETWEEN, Builder, Canvas, Kind, Params, Placement, Transform
from gpuaug.transforms.container import Container, Lowered

__all__ = ["drawn_mix", "explain"]

INDENT = "    "


def explain(draw: Draw, sample: int) -> str:
    """What a draw does to one sample, in words, a line for each step.

    Sizes are height × width and positions (top, left), in pixels of the image as it reaches the step.

    Args:
        draw: What `sample` or `example_draw` returned.
        sample: Number of the sample in the batch, from 0.

    Raises:
        ValueError: If the draw is something else, such as the dict of draws of several pictures, or holds no such
            sample.
    """
    if not isinstance(draw, Draw) or draw.pipeline is None:
        remedy = "Of a dict of draws pass one of its values." if isinstance(draw, dict) else ""
        raise checks.argument_error("explain", "draw", "what `Augment.sample` returned", checks.describe(draw), remedy)
    number = checks.integer("explain", "sample", sample, 0, len(draw.canvas) - 1)
    height, width = draw.canvas.sizes[number]
    name = "training" if draw.training else "evaluation"
    lines = [f"Sample {number} of {len(draw.canvas)}, {height} × {width} pixels, {name} list:"]
    canvas = draw.canvas
    for step, params in zip(draw.pipeline.steps, draw.params, strict=True):
        lines += _lines(step, params, canvas, number)
        canvas = step.after(canvas, params)
    return "\n".join(lines)


def drawn_mix(draw: Draw) -> program.Mix | None:
    """Partners, weights and boxes of a draw's mix; None if its list does not mix."""
    assert draw.pipeline is not None
    canvas = draw.canvas
    for step, params in zip(draw.pipeline.steps, draw.params, strict=True):
        if step.kind is Kind.MIX:
            return _lowered(step, params, canvas).mixing
        canvas = step.after(canvas, params)
    return None


def _lowered(step: Transform, params: Params, canvas: Canvas) -> Lowered:
    """What a crop or a mix lowers to."""
    found = Lowered(canvas)
    step.lower(params, cast(Builder, found))
    return found


def _lines(step: Transform, params: Params, canvas: Canvas, sample: int) -> Iterator[str]:
    """The line of a step, and those of its children below it."""
    name = type(step).__name__
    applied = params.get("applied")
    if applied is not None and not applied[sample]:
        yield f"{name}: not applied"
        return
    if not isinstance(step, Container):
        yield f"{name}: {_words(step, params, canvas, sample)}"
        return
    ran = step.ran(params, sample)
    yield f"{name}: {', '.join(type(step.transforms[number]).__name__ for number in ran) or 'none of them'}"
    for number in ran:
        for line in _lines(step.transforms[number], params[str(number)], canvas, sample):
            yield INDENT + line


def _words(step: Transform, params: Params, canvas: Canvas, sample: int) -> str:
    if step.kind is Kind.CROP:
        placement = _lowered(step, params, canvas).placement
        assert placement is not None
        return _of_crop(placement, canvas, sample)
    if step.kind is Kind.MIX:
        mix = _lowered(step, params, canvas).mixing
        assert mix is not None
        return _of_mix(mix, sample)
    said = step.detail(params, sample) or "no change"
    if said == type(step).__name__.removeprefix("Random"):
        return "applied"
    return said.replace(BETWEEN, ", ").replace("°", " degrees").replace(" px", " pixels")


def _of_crop(placement: Placement, canvas: Canvas, sample: int) -> str:
    """What a crop reads of the image, and what it makes of it."""
    fields = placement.box, placement.resized, placement.start, placement.size, canvas.sizes
    box, resized, start, size, whole = (tuple(map(int, field[sample])) for field in fields)
    corner, read = box[:2], box[2:]
    parts = []
    if read != whole:
        share = 100 * read[0] * read[1] / (whole[0] * whole[1])
        parts.append(f"{share:.0f}% of the image, {_size(read)} pixels at {corner}")
    if resized != read:
        parts.append(f"resized to {_size(resized)}")
    ends = [first + length for first, length in zip(start, size, strict=True)]
    if min(start) >= 0 and all(end <= side for end, side in zip(ends, resized, strict=True)):
        if size != resized:
            share = 100 * size[0] * size[1] / (resized[0] * resized[1])
            parts.append(f"{share:.0f}% of it, {_size(size)} pixels at {start}")
    else:
        parts.append(f"{_size(size)} pixels from {start} on, padded where no image is")
    return ", ".join(parts) or "no change, it has this size already"


def _of_mix(mix: program.Mix, sample: int) -> str:
    """How much of a sample stays, and what takes the place of the rest."""
    partner, weight, share = int(mix.partner[sample]), mix.weight[sample], mix.share[sample]
    other = f"sample {partner}" if partner != sample else "the same sample"
    top, left, height, width = map(int, mix.box[sample])
    parts = [f"{weight:.2f} of it, {1 - weight:.2f} of {other}"] if weight < 1 else []
    if height * width:
        parts.append(f"{height} × {width} pixels at ({top}, {left}) from {other}, {share:.2f} of it stays")
    return ", ".join(parts) or "not mixed"


def _size(pair: tuple[int, ...]) -> str:
    return f"{pair[0]} × {pair[1]}"
