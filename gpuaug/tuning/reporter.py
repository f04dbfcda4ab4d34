"""What a training function reports for each epoch, checked; and the call of that function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gpuaug import checks
from gpuaug.tuning.metrics import Metric, array, measured

__all__ = ["Epoch", "Reporter", "Train", "UnknownMetricError", "run"]

Epoch = dict[str, Any]  # values of an epoch: numbers, and `recall`, a list with one for each class
HIGHEST = 20  # samples with the highest losses that are kept of a run, at least; more of a data set above 2000
SHARES = ("accuracy", "clean_accuracy", "macro_f1", "pr_auc")  # numbers in [0, 1]


class UnknownMetricError(ValueError):
    """The metric by which settings are ranked is not among those reported; so it would be in every run."""


class Reporter:
    """Takes the values of each epoch from a training function.

    Args:
        metric: Name of the metric that ranks; each report must have it.
        metrics: More metrics: functions of (targets, scores), as NumPy arrays, to a number, by name.
        each: Function that is called after each report with the epoch, from 0, and its values.

    Attributes:
        curve: Values of each epoch so far.
        samples: (index, loss) of the training samples with the highest losses, of the last report that had some.
    """

    def __init__(
        self,
        metric: str = "accuracy",
        metrics: Mapping[str, Metric] | None = None,
        each: Callable[[int, Epoch], None] | None = None,
    ) -> None:
        self.metric, self.metrics, self.each = metric, dict(metrics or {}), each
        self.curve: list[Epoch] = []
        self.samples: list[tuple[int, float]] = []

    def report(self, values: Mapping[str, object] | None = None, /, **more: object) -> None:
        """Report an epoch.

        Any finite number may be reported under any name. Some names have a meaning:

        - `loss`: mean training loss of the epoch.
        - `clean_accuracy`: accuracy in [0, 1] on training images as evaluation sees them, without augmentation.
        - `accuracy`, `macro_f1`, `pr_auc`, `recall` (a list with a number for each class): on validation images, in
          [0, 1]. Or `targets` and `scores`, from which they are computed: class numbers (N,), and probabilities or
          logits (N, classes).
        - `sample_loss` (N,) and `sample_index` (N,): loss of each training sample, for `Result.review`; without
          `sample_index` samples count from 0.

        Args:
            values: Mapping of values.
            more: More values, by name.

        Raises:
            ValueError: If a value is no finite number or not in its range, or the metric that ranks is missing.
        """
        if values is not None and not isinstance(values, Mapping):
            expected = "a mapping from names to values"
            raise checks.argument_error("tune", "train", f"a function that gives {expected}", checks.describe(values))
        given: dict[str, Any] = {**(values or {}), **more}
        if ("targets" in given) != ("scores" in given):
            raise checks.argument_error("report", "targets", "given together with `scores`", "one of them")
        losses, index = given.pop("sample_loss", None), given.pop("sample_index", None)
        found: Epoch = {}
        if "targets" in given:
            found |= measured(given.pop("targets"), given.pop("scores"), self.metrics)
        found |= {name: self._value(name, value) for name, value in given.items()}
        if self.metric not in found:
            expected = f"one of the metrics that are reported: {', '.join(found) or 'none'}"
            raise UnknownMetricError(str(checks.argument_error("tune", "metric", expected, repr(self.metric))))
        if isinstance(found[self.metric], list):
            raise UnknownMetricError(
                str(checks.argument_error("tune", "metric", "a single number", f"{self.metric!r}, a list"))
            )
        if losses is not None:
            self.samples = highest(losses, index)
        self.curve.append(found)
        if self.each is not None:
            self.each(len(self.curve) - 1, found)

    def _value(self, name: str, value: Any) -> float | list[float]:
        """A number, or for `recall` a list of them."""
        if name == "recall":
            numbers = [float(one) for one in np.asarray(array(value), dtype=float).reshape(-1)]
            if not numbers or not all(math.isnan(one) or 0 <= one <= 1 for one in numbers):
                raise checks.argument_error("report", name, "a list of numbers in [0, 1]", checks.describe(value))
            return numbers
        if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) and getattr(value, "ndim", 0) == 0:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            where = f"a finite number in epoch {len(self.curve) + 1}"
            raise checks.argument_error("report", name, where, checks.describe(value))
        if name in SHARES and not 0 <= value <= 1:  # percent: each rule would be wrong by a factor of 100
            raise checks.argument_error("report", name, f"in [0, 1] in epoch {len(self.curve) + 1}", repr(value))
        return float(value)


def highest(losses: object, index: object) -> list[tuple[int, float]]:
    """(index, loss) of the samples with the highest losses: 1 % of them, at least HIGHEST."""
    values = np.asarray(array(losses), dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise checks.argument_error("report", "sample_loss", "finite numbers (N,)", checks.describe(losses))
    numbers = np.arange(len(values)) if index is None else array(index)
    if numbers.shape != values.shape or numbers.dtype.kind not in "iu":
        raise checks.argument_error("report", "sample_index", f"integers ({len(values)},)", checks.describe(index))
    order = np.argsort(-values, kind="stable")[: max(HIGHEST, len(values) // 100)]
    return [(int(numbers[place]), float(values[place])) for place in order]


Train = Callable[[Any, int, Reporter], object]


def run(train: Train, argument: object, seed: int, reporter: Reporter) -> None:
    """Call a training function, and report what it yields or returns.

    Args:
        train: Function of (list or settings, seed, reporter). It yields a mapping for each epoch; or returns a list of
            them, or one mapping; or calls `reporter.report` and returns nothing.
        argument: List of transforms, or settings.
        seed: Seed of the run.
        reporter: Reporter of the run.

    Raises:
        ValueError: If it yields or returns anything else, or reports nothing.
    """
    found = train(argument, seed, reporter)
    expected = "a function that yields, returns or reports a mapping of metrics for each epoch"
    if isinstance(found, Mapping):
        found = [found]
    if isinstance(found, Iterator):
        try:
            _reported(found, reporter, "yields")
        finally:
            close = getattr(found, "close", None)
            if close is not None:  # of a generator that is not at its end: its `finally` runs now
                close()
    elif isinstance(found, Sequence) and not isinstance(found, str):
        _reported(iter(found), reporter, "returns")
    elif found is not None:
        raise checks.argument_error("tune", "train", expected, f"one that returns {checks.describe(found)}")
    if not reporter.curve:
        raise checks.argument_error("tune", "train", expected, "one that gives nothing")


def _reported(epochs: Iterator[Any], reporter: Reporter, how: str) -> None:
    """Report the epochs of a training function that reports none itself."""
    number = 0
    for number, values in enumerate(epochs, 1):
        reporter.report(values)
        if len(reporter.curve) != number:
            break
    if number and len(reporter.curve) != number:  # epochs would count twice
        got = f"one that calls reporter.report and also {how} values"
        raise checks.argument_error("tune", "train", "a function that gives each epoch once", got, "Do one of the two.")
