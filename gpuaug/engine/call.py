"""One call of an Augment: a batch that was checked, with the keys of its draws."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor

from gpuaug.engine.batch import Images, canvas_of
from gpuaug.engine.builder import Item
from gpuaug.engine.numbering import Reservation
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.render import drawn, render
from gpuaug.program import Keys
from gpuaug.transforms.base import Canvas, Params

__all__ = ["Call", "Draw", "Output", "render_draw"]


@dataclass(frozen=True)
class Draw:
    """The result of `Augment.sample`: keys, a dict of parameters for each step, and whether it is for training."""

    keys: Keys
    params: list[Params]
    training: bool
    canvas: Canvas  # sizes and channels of the images it was drawn for


class Output(NamedTuple):
    """How a module renders. dtype: the dtype of ToDtype("auto")."""

    exact: bool
    memory_format: torch.memory_format
    dtype: torch.dtype
    backend: str


@dataclass(frozen=True, init=False)
class Call:
    """The result of `Augment.prepare`. It never changes, and `run` returns the same result each time.

    After the last `run`, `commit` uses up the draws, or `release` gives them back. As a context manager it commits at
    the end of the block, and releases if the block raises.

    images, labels: The batch. canvas: Sizes and channels of the images. training: Whether the training list runs.
    reservation: The keys, which can be committed or released without keeping the batch.
    """

    pipeline: Pipeline
    output: Output
    images: Images
    labels: Tensor | None
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
    ) -> None:
        # all at once: a frozen dataclass sets its attributes one by one, which would slow down every training step
        self.__dict__.update(
            pipeline=pipeline, output=output, images=images, labels=labels, canvas=canvas_of(images),
            training=training, reservation=reservation,
        )  # fmt: skip

    def run(self) -> Tensor | tuple[Tensor, Tensor]:
        """Render the batch: the augmented images; with labels, (images, labels)."""
        keys, (exact, memory_format, dtype, backend) = self.reservation.keys, self.output
        alike = self.pipeline.alike(self.canvas, exact, memory_format, dtype)
        if alike is not None:
            done = drawn(alike, keys, self.images, backend, self.labels, self.pipeline.mix)
            if done is not None:
                images, labels = done
                return images if labels is None else (images, labels)
        return render_draw(self.pipeline, self.output, self.images, self.draw(), self.labels)

    def draw(self) -> Draw:
        """The parameters of every step."""
        keys = self.reservation.keys
        return Draw(keys, self.pipeline.sample(keys, self.canvas), self.training, self.canvas)

    def items(self) -> list[Item]:
        """The programs that `run` renders."""
        return lower_draw(self.pipeline, self.output, self.draw())

    def commit(self) -> None:
        """Use up the draws, when the result is handed out."""
        self.reservation.commit()

    def release(self) -> None:
        """Give the draws back, if the result is not used: they are free again if no later call has draws."""
        self.reservation.release()

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.reservation.commit()
        else:
            self.reservation.release()


def lower_draw(pipeline: Pipeline, output: Output, draw: Draw) -> list[Item]:
    """The programs of a draw."""
    return pipeline.lower(draw.params, draw.keys, draw.canvas, output.exact, output.memory_format, output.dtype)


def render_draw(
    pipeline: Pipeline, output: Output, images: Images, draw: Draw, labels: Tensor | None
) -> Tensor | tuple[Tensor, Tensor]:
    """The images of a draw; with labels, (images, labels)."""
    items = lower_draw(pipeline, output, draw)
    result, mixed = render(items, images, output.backend, labels, pipeline.num_classes)
    return result if mixed is None else (result, mixed)
