"""One call of an Augment: a batch that was checked, with the keys of its draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.batch import Images, canvas_of, frames_of
from gpuaug.engine.builder import Item
from gpuaug.engine.clips import render_clips
from gpuaug.engine.follow import follow
from gpuaug.engine.geometry import Route, route
from gpuaug.engine.numbering import Reservation
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.render import Output, drawn, mix_of, render
from gpuaug.engine.targets import Targets
from gpuaug.program import Keys
from gpuaug.transforms.base import Canvas, Kind, Params

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Call", "Draw", "Draws", "Output", "Reserved", "check_drawn", "render_draw", "route_of"]


@dataclass(frozen=True)
class Draw:
    """The result of `Augment.sample`: keys, a dict of parameters for each step, and whether it is for training.

    Its matrices say where it moves pixels, for targets of any kind; `gpuaug.invert` goes the other way.
    """

    keys: Keys
    params: list[Params]
    training: bool
    canvas: Canvas  # sizes and channels of the images it was drawn for
    pipeline: Pipeline | None = None
    exact: bool = False

    @property
    def matrices(self) -> NDArray[np.float64]:
        """(B, 3, 3) float64: from the pixels of each input image to those of its output, (x, y, 1) as a column.

        Coordinates are continuous: the top left pixel covers [0, 1] x [0, 1]. After a RandomPerspective divide by the
        third component. What a crop cuts off lies outside the output.

        Raises:
            ValueError: If a step moves pixels otherwise than by a matrix: AugMix, ElasticTransform, or an opaque step.
        """
        return route_of(self).matrices()


Draws = dict[str, Draw]  # of a mapping of several pictures, by their names


def check_drawn(owner: object, draw: Draw, images: Images) -> None:
    """Raise an error if images have other sizes or channels than those a draw was made for."""
    canvas, own = canvas_of(images), draw.canvas
    if len(canvas) != len(own):
        raise checks.argument_error(owner, "images", f"as many as the draw's samples, {len(own)}", len(canvas))
    if canvas.channels != own.channels or (canvas.sizes != own.sizes).any():
        expected = "of the sizes and channels the draw was made for"
        remedy = "Call sample(images) for these images."
        raise checks.argument_error(owner, "images", expected, checks.describe(images), remedy)


def route_of(draw: Draw) -> Route:
    """The moves of a draw, one after another."""
    if draw.pipeline is None:
        raise checks.argument_error("Draw", "pipeline", "the list it was drawn for", "none", "Use Augment.sample.")
    for step in draw.pipeline.steps:
        if step.kind is Kind.OPAQUE and step.moves:
            raise checks.argument_error("Draw", "pipeline", "of steps that move pixels by a matrix", step.title)
    way = route(draw.pipeline.steps, draw.params, draw.canvas, draw.exact)
    if way.bends:
        raise checks.argument_error("Draw", "pipeline", "of steps that move pixels by a matrix", "ElasticTransform")
    return way


class Reserved:
    """A batch whose draws are reserved.

    After the last `run`, `commit` uses up the draws, or `release` gives them back. As a context manager it commits at
    the end of the block, and releases if the block raises.
    """

    reservation: Reservation

    def commit(self) -> None:
        """Use up the draws, when the result is handed out."""
        self.reservation.commit()

    def release(self) -> None:
        """Give the draws back, if the result is not used: they are free again if no later call has draws."""
        self.reservation.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.reservation.commit()
        else:
            self.reservation.release()


@dataclass(frozen=True, init=False)
class Call(Reserved):
    """The result of `Augment.prepare`. It never changes, and `run` returns the same result each time.

    images, labels: The batch. targets: Its masks, boxes and key points, or None. canvas: Sizes and channels of the
    images. training: Whether the training list runs. reservation: The keys, which can be committed or released without
    keeping the batch.
    """

    pipeline: Pipeline
    output: Output
    images: Images
    labels: Tensor | None
    targets: Targets | None
    canvas: Canvas
    training: bool
    reservation: Reservation

    def __init__(
        self,
        pipeline: Pipeline,
        output: Output,
        images: Images,
        labels: Tensor | None,
        training: bool,
        reservation: Reservation,
        targets: Targets | None = None,
    ) -> None:
        # all at once: a frozen dataclass sets its attributes one by one, which would slow down every training step
        self.__dict__.update(
            pipeline=pipeline, output=output, images=images, labels=labels, canvas=canvas_of(images),
            training=training, reservation=reservation, targets=targets,
        )  # fmt: skip

    def run(self) -> Tensor | tuple[Tensor, Any]:
        """Render the batch: the augmented images; with labels or targets, (images, labels)."""
        keys, (exact, memory_format, dtype, backend) = self.reservation.keys, self.output[:4]
        images = self.images
        single = (type(images) is Tensor and images.ndim == 4) or not frames_of(images)  # the usual case calls nothing
        plain = single and self.targets is None
        alike = self.pipeline.alike(self.canvas, exact, memory_format, dtype) if plain else None
        if alike is not None:
            done = drawn(alike, keys, images, backend, self.labels, self.pipeline.mix)
            if done is not None:
                result, labels = done
                return result if labels is None else (result, labels)
        return render_draw(self.pipeline, self.output, self.images, self.draw(), self.labels, self.targets)

    def draw(self) -> Draw:
        """The parameters of every step."""
        keys = self.reservation.keys
        params = self.pipeline.sample(keys, self.canvas, self.targets, self.output.exact)
        return Draw(keys, params, self.training, self.canvas, self.pipeline, self.output.exact)

    def items(self) -> list[Item]:
        """The programs that `run` renders."""
        return lower_draw(self.pipeline, self.output, self.draw())


def lower_draw(pipeline: Pipeline, output: Output, draw: Draw) -> list[Item]:
    """The programs of a draw."""
    return pipeline.lower(draw.params, draw.keys, draw.canvas, output.exact, output.memory_format, output.dtype)


def render_draw(
    pipeline: Pipeline,
    output: Output,
    images: Images,
    draw: Draw,
    labels: Tensor | None,
    targets: Targets | None = None,
) -> Tensor | tuple[Tensor, Any]:
    """The images of a draw; with labels or targets, (images, labels)."""
    if draw.exact != output.exact:  # the draw of another module: targets move as these images do
        draw = replace(draw, exact=output.exact)
    if frames_of(images):
        return render_clips(pipeline, output, images, draw, labels, targets)
    items = lower_draw(pipeline, output, draw)
    result, mixed = render(items, images, output.backend, labels, pipeline.num_classes)
    if targets is not None:
        return result, follow(pipeline, targets, draw, output.backend, output.following, mixed, mix_of(items))
    return result if mixed is None else (result, mixed)
