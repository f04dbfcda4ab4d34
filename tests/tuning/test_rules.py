"""Each warning on curves that should and should not raise it."""

from __future__ import annotations

from typing import Any

import pytest

from gpuaug.tuning.rules import average, warned

EPOCHS = 8
RISING = [0.3, 0.4, 0.5, 0.56, 0.6, 0.63, 0.65, 0.66]


def curve(**series: Any) -> list[dict[str, Any]]:
    return [{name: values[n] for name, values in series.items()} for n in range(EPOCHS)]


def ids(found: list[dict[str, Any]], baseline: list[dict[str, Any]] | None = None, mixed: float = 0.0) -> list[str]:
    return [one.id for one in warned(found, baseline or [], mixed)]


LOSS = [2.0, 1.5, 1.0, 0.7, 0.5, 0.35, 0.3, 0.2]  # low: exp(-0.2) is 0.82
STUCK = [0.3, 0.4, 0.5, 0.52, 0.52, 0.51, 0.52, 0.52]
FALLING = [0.3, 0.4, 0.5, 0.55, 0.54, 0.5, 0.48, 0.46]


@pytest.mark.parametrize("accuracy", [STUCK, FALLING])
def test_overfitting_is_told_from_too_strong_by_clean_training_images(accuracy: list[float]) -> None:
    knows, does_not = [0.1 * n + 0.2 for n in range(EPOCHS)], [value + 0.01 for value in accuracy]
    assert ids(curve(loss=LOSS, accuracy=accuracy, clean_accuracy=knows)) == ["overfitting"]
    assert ids(curve(loss=LOSS, accuracy=accuracy, clean_accuracy=does_not)) == ["too-strong"]
    assert ids(curve(loss=LOSS, accuracy=accuracy)) == ["too-strong-or-overfitting"]


def test_the_sentence_says_stuck_or_falls() -> None:
    (one,) = warned(curve(loss=LOSS, accuracy=FALLING), [], 0)
    assert "validation falls at 0.460" in one.text
    (one,) = warned(curve(loss=LOSS, accuracy=STUCK), [], 0)
    assert "validation is stuck at 0.520" in one.text
    assert one.epoch == EPOCHS


def test_no_warning_of_a_run_that_learns_or_has_converged() -> None:
    knows = [0.1 * n + 0.2 for n in range(EPOCHS)]
    assert ids(curve(loss=LOSS, accuracy=RISING, clean_accuracy=knows)) == []
    high = [1.8, 1.7, 1.6, 1.5, 1.45, 1.4, 1.38, 1.36]
    assert ids(curve(loss=high, accuracy=STUCK, clean_accuracy=knows)) == [], "the loss is not low"
    done = [0.7, 0.78, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    assert ids(curve(loss=LOSS, accuracy=done)) == [], "the loss of 0.2 says no more than 0.82"
    assert ids(curve(loss=LOSS, accuracy=done, clean_accuracy=[0.83] * EPOCHS)) == []
    assert ids(curve(loss=LOSS, accuracy=STUCK)[:3]) == [], "too early"


def recalls(*last: list[float]) -> list[dict[str, Any]]:
    return curve(accuracy=RISING, recall=[[0.7, 0.7, 0.7]] * (EPOCHS - len(last)) + list(last))


def test_a_class_that_collapses() -> None:
    baseline = curve(accuracy=RISING, recall=[[0.7, 0.7, 0.7]] * EPOCHS)
    collapsed = [[0.7, 0.2, 0.68]] * 3
    assert ids(recalls(*collapsed), baseline) == ["recall-collapsed"]
    (one,) = warned(recalls(*collapsed), baseline, 0)
    assert "class 1: 0.20 instead of 0.70" in one.text
    assert ids(recalls(*collapsed[:2]), baseline) == [], "in two epochs only"
    assert ids(recalls(*([[0.7, 0.2, 0.7]] * EPOCHS))[:4], baseline) == [], "too early"
    assert ids(recalls(*([[0.2, 0.2, 0.2]] * 3)), baseline) == [], "all classes, so not one"
    assert ids(recalls(*([[0.7, 0.5, 0.7]] * 3)), baseline) == [], "less than a half"
    assert ids(recalls(*([[0.7, float("nan"), 0.7]] * 3)), baseline) == []
    assert ids(recalls(*collapsed)) == [], "no baseline"


def test_a_run_that_is_slow() -> None:
    baseline = curve(accuracy=RISING)
    slowed = [0.12, 0.2, 0.28, 0.33, 0.38, 0.42, 0.46, 0.48]
    assert ids(curve(accuracy=slowed), baseline) == ["slow"]
    assert ids(curve(accuracy=slowed)[:4], baseline) == [], "too early"
    assert ids(curve(accuracy=[value - 0.1 for value in RISING]), baseline) == []
    assert ids(curve(accuracy=RISING), baseline) == []


def test_mixing_that_stops_learning() -> None:
    baseline = curve(accuracy=RISING, loss=LOSS)
    still = curve(accuracy=[0.1, 0.1, 0.105, 0.11, 0.12, 0.13, 0.14, 0.15], loss=[2.3, 2.29, 2.29, *[2.28] * 5])[:3]
    assert ids(still, baseline, mixed=0.9) == ["mixing-too-high"]
    assert ids(still, baseline, mixed=0.3) == [], "little is mixed"
    assert ids(still, still, mixed=0.9) == [], "the baseline does not move either"
    moving = curve(accuracy=[0.1, 0.14, 0.2, *RISING[3:]], loss=LOSS)[:3]
    assert ids(moving, baseline, mixed=0.9) == []


def test_a_warning_is_given_once() -> None:
    found = curve(loss=LOSS, accuracy=STUCK)
    first = warned(found, [], 0)
    assert warned(found, [], 0, first) == []


def test_the_mean_of_curves() -> None:
    one = [{"accuracy": 0.2, "recall": [0.0, 0.4], "loss": 1.0}, {"accuracy": 0.6}]
    other = [{"accuracy": 0.4, "recall": [1.0, 0.6]}]
    (mean,) = average([one, other])
    assert mean == {"accuracy": pytest.approx(0.3), "recall": [0.5, 0.5]}
