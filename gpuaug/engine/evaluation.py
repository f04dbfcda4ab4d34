"""The default evaluation list, derived from a training list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpuaug import checks
from gpuaug.transforms.base import Canvas, Kind, Transform

__all__ = ["DefaultEvaluation", "evaluation"]


def evaluation(steps: Sequence[Transform]) -> list[Transform]:
    """The deterministic counterpart of a training list, from `for_evaluation` of each step.

    RandomResizedCrop(size) becomes Resize(round(1.14 * size)) and CenterCrop(size), RandomCrop(size) becomes
    CenterCrop(size); Resize, CenterCrop, Pad, Grayscale, RGB, ToDtype and Normalize stay; all others are left out. A
    step that changes the shape and has no counterpart is left out too, but then `DefaultEvaluation.check` raises an
    error.
    """
    return [counterpart for step in steps for counterpart in step.for_evaluation() or ()]


class DefaultEvaluation:
    """The default evaluation list of a training list, and whether it can be used for given images."""

    def __init__(self, steps: Sequence[Transform]) -> None:
        self.steps, self._train = evaluation(steps), tuple(steps)
        self._unanswered = next((step for step in steps if step.for_evaluation() is None), None)
        self._unknown = any(step.kind is Kind.OPAQUE for step in steps)  # whether the resulting shape is unknown

    def check(self, canvas: Canvas) -> None:
        """Raise an error if a step that changes the shape of such images is left out.

        An opaque step is run once on a black image to find out.
        """
        if self._unanswered is not None:
            raise _no_counterpart(self._unanswered)
        if not self._unknown:
            return
        canvas = replace(canvas, sizes=canvas.sizes[:1])
        for step in self._train:
            before = canvas
            try:
                canvas = step.after(before)
            except Exception as error:
                raise _no_counterpart(step) from error
            changed = canvas.channels != before.channels or (canvas.sizes != before.sizes).any()
            if changed and not step.for_evaluation():
                raise _no_counterpart(step)


def _no_counterpart(step: Transform) -> ValueError:
    expected = f"given, since {step.title} of `train` {step.no_counterpart}"
    return checks.argument_error(
        "Augment", "eval", expected, "None", "Pass eval=[...] with the steps that give images their size."
    )
