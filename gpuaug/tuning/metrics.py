"""Metrics of a classifier on validation images, by scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpuaug import checks

__all__ = ["Metric", "array", "measured"]

Array = NDArray[Any]
Metric = Callable[[Array, Array], float]


def measured(targets: object, scores: object, own: Mapping[str, Metric]) -> dict[str, Any]:
    """Accuracy, macro-F1, PR-AUC, the recall of each class, and metrics of one's own.

    PR-AUC is average precision, each class against the others, averaged over the classes that occur. Classes that
    occur neither in targets nor in predictions do not count in macro-F1; the recall of a class that does not occur in
    `targets` is nan.

    Args:
        targets: Class numbers (N,), of integers.
        scores: Probabilities or logits (N, classes), or predicted class numbers (N,), for which there is no PR-AUC.
        own: More metrics: functions of (targets, scores), as NumPy arrays, to a number.

    Raises:
        ValueError: If shapes or types are others.
    """
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score, recall_score

    true, given = array(targets), array(scores)
    if true.ndim != 1 or not len(true) or true.dtype.kind not in "iu" or true.min() < 0:
        raise checks.argument_error("report", "targets", "class numbers (N,), of integers from 0", _words(true))
    kinds = "iu" if given.ndim == 1 else "f"
    if given.ndim not in (1, 2) or len(given) != len(true) or given.dtype.kind not in kinds:
        expected = f"floats ({len(true)}, classes), or class numbers ({len(true)},)"
        raise checks.argument_error("report", "scores", expected, _words(given))
    if given.ndim == 2 and (not np.isfinite(given).all() or true.max() >= given.shape[1]):
        expected = f"finite, with a column for each class, of which targets has {true.max() + 1}"
        got = f"{_words(given)}, {'finite' if np.isfinite(given).all() else 'not finite'}"
        raise checks.argument_error("report", "scores", expected, got)
    predicted = given.argmax(1) if given.ndim == 2 else given
    classes = given.shape[1] if given.ndim == 2 else int(max(true.max(), predicted.max())) + 1
    options = {"labels": range(classes), "zero_division": np.nan}
    found: dict[str, Any] = {
        "accuracy": float(accuracy_score(true, predicted)),
        "macro_f1": float(f1_score(true, predicted, average="macro", **options)),
        "recall": [float(one) for one in recall_score(true, predicted, average=None, **options)],
    }
    if given.ndim == 2:
        precisions = [average_precision_score(true == number, given[:, number]) for number in np.unique(true)]
        found["pr_auc"] = float(np.mean(precisions))
    for name, function in own.items():
        value = function(true, given)
        if not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
            raise checks.argument_error("tune", "metrics", f"functions to a finite number, as {name}", repr(value))
        found[name] = float(value)
    return found


def array(value: object) -> Array:
    """A NumPy array of anything, also of a tensor on a device, of bfloat16 or with a gradient."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        return np.asarray(value.numpy())
    return np.asarray(value)


def _words(found: Array) -> str:
    return f"{found.dtype} {found.shape}"
