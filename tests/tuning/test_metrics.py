"""Metrics by hand, what a reporter takes and refuses, and which settings differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from gpuaug.tuning import Reporter
from gpuaug.tuning.compare import least_difference, ranks
from gpuaug.tuning.reporter import UnknownMetricError, run

TARGETS = torch.tensor([0, 0, 1, 1])
SCORES = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 2.0, 0.1], [0.0, 4.0, 0.2]])


def reported(**values: Any) -> dict[str, Any]:
    reporter = Reporter(metrics={"wrong": lambda true, scores: float((scores.argmax(1) != true).sum())})
    reporter.report(values)
    return reporter.curve[0]


def test_metrics_from_targets_and_scores() -> None:
    found = reported(targets=TARGETS, scores=SCORES.to(torch.bfloat16), loss=torch.tensor(0.5))
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2), "class 2 does not occur"
    assert found["recall"][:2] == [0.5, 1.0]
    assert math.isnan(found["recall"][2])
    # class 0 ranks its images 1st and then one of three ties: precision 1 at recall 0.5, 2/4 at recall 1
    # class 1 ranks: 4, 2, then a tie of its others; all its images come first
    assert found["pr_auc"] == pytest.approx(((0.5 + 0.5 * 0.5) + 1.0) / 2)
    assert found["wrong"] == 1.0
    assert found["loss"] == 0.5


def test_class_numbers_have_no_pr_auc() -> None:
    reporter = Reporter()
    reporter.report(targets=TARGETS, scores=np.array([0, 1, 1, 1]))
    assert reporter.curve[0]["accuracy"] == 0.75
    assert "pr_auc" not in reporter.curve[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"accuracy": float("nan")}, "`accuracy` must be a finite number in epoch 1, got nan"),
        ({"accuracy": 0.5, "loss": torch.tensor(math.inf)}, "`loss` must be a finite number in epoch 1, got inf"),
        ({"accuracy": True}, "`accuracy` must be a finite number"),
        ({"accuracy": "high"}, "`accuracy` must be a finite number"),
        ({"accuracy": 57.3}, r"`accuracy` must be in \[0, 1\] in epoch 1, got 57.3"),
        ({"accuracy": 0.5, "clean_accuracy": 99}, r"`clean_accuracy` must be in \[0, 1\] in epoch 1, got 99"),
        ({"accuracy": 0.5, "recall": 0.5}, None),
        ({"accuracy": 0.5, "recall": [2.0]}, r"`recall` must be a list of numbers in \[0, 1\]"),
        ({"targets": TARGETS}, "`targets` must be given together with `scores`"),
        ({"targets": TARGETS, "scores": SCORES[:3]}, r"`scores` must be floats \(4, classes\), or class numbers"),
        ({"targets": TARGETS + 2, "scores": SCORES}, "a column for each class, of which targets has 4"),
        ({"targets": TARGETS.float(), "scores": SCORES}, r"`targets` must be class numbers \(N,\)"),
        ({"targets": TARGETS, "scores": SCORES * math.nan}, "`scores` must be finite"),
        ({"accuracy": 0.5, "sample_loss": [math.nan]}, r"`sample_loss` must be finite numbers \(N,\)"),
        ({"accuracy": 0.5, "sample_loss": [1.0], "sample_index": [1, 2]}, r"`sample_index` must be integers \(1,\)"),
    ],
)
def test_what_a_reporter_refuses(values: dict[str, Any], words: str | None) -> None:
    reporter = Reporter()
    if words is None:
        reporter.report(values)
        return
    with pytest.raises(ValueError, match=words):
        reporter.report(values)
    assert reporter.curve == []


def test_the_metric_must_be_reported() -> None:
    with pytest.raises(UnknownMetricError, match="`metric` must be one of the metrics that are reported: loss, got"):
        Reporter("accuracy").report(loss=1.0)
    with pytest.raises(UnknownMetricError, match="`metric` must be a single number, got 'recall', a list"):
        Reporter("recall").report(recall=[1.0, 0.5])


def test_samples_with_the_highest_losses() -> None:
    reporter = Reporter()
    reporter.report(accuracy=0.5, sample_loss=torch.arange(100.0), sample_index=torch.arange(100) + 1000)
    assert reporter.samples == [(1099 - n, 99.0 - n) for n in range(20)]
    reporter.report(accuracy=0.5)
    assert len(reporter.samples) == 20, "those of the last report that had some"


def test_tensors_of_any_dtype_are_taken() -> None:
    """As training has them: in bfloat16, with a gradient, or on a device."""
    reporter = Reporter()
    losses = torch.tensor([0.5, 2.0], dtype=torch.bfloat16, requires_grad=True)
    reporter.report(accuracy=0.5, sample_loss=losses, recall=losses.detach() / 2)
    assert reporter.samples == [(1, 2.0), (0, 0.5)]
    assert reporter.curve[0]["recall"] == [0.25, 1.0]


EPOCHS = [{"accuracy": 0.1}, {"accuracy": 0.2}]


def by_report(argument: object, seed: int, reporter: Reporter) -> None:
    for values in EPOCHS:
        reporter.report(values)


WAYS = [by_report, lambda *_: iter(EPOCHS), lambda *_: EPOCHS, lambda *_: (epoch for epoch in EPOCHS)]


@pytest.mark.parametrize("train", WAYS)
def test_ways_to_report(train: Any) -> None:
    reporter = Reporter()
    run(train, [], 0, reporter)
    assert reporter.curve == EPOCHS


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (lambda *_: None, "`train` must be a function that yields, returns or reports .* got one that gives nothing"),
        (lambda *_: [], "got one that gives nothing"),
        (lambda *_: 0.5, "got one that returns 0.5"),
        (lambda *_: [0.5], "`train` must be a function that gives a mapping from names to values, got 0.5"),
    ],
)
def test_functions_that_report_nothing(train: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(train, [], 0, Reporter())


# ---- which settings differ -------------------------------------------------------------------------------------------


def test_the_least_difference_is_tukeys() -> None:
    """Against scipy's own, on a table whose seeds all add nothing."""
    from scipy.stats import tukey_hsd

    table = np.array([[0.1, 0.3, 0.2, 0.2], [0.5, 0.3, 0.4, 0.4], [0.9, 0.8, 0.8, 0.7]])
    table -= table.mean(0) - table.mean()
    least = least_difference(table.tolist())
    interval = tukey_hsd(*table).confidence_interval(0.95)
    theirs = (interval.high - interval.low)[0, 1] / 2
    # the same but for the degrees of freedom: 6 here, 9 there, where seeds are not taken out
    from scipy.stats import studentized_range

    factor = studentized_range.ppf(0.95, 3, 6) / studentized_range.ppf(0.95, 3, 9) * math.sqrt(9 / 6)
    assert least == pytest.approx(theirs * factor, rel=1e-3)


def test_what_a_seed_adds_to_all_settings_does_not_count() -> None:
    table = [[0.1, 0.3, 0.2], [0.5, 0.32, 0.4], [0.9, 0.8, 0.8]]
    shifted = [[value + shift for value, shift in zip(row, (0.0, 0.5, -0.3), strict=True)] for row in table]
    assert least_difference(shifted) == pytest.approx(least_difference(table))
    assert least_difference([[0.1], [0.2]]) is None
    assert least_difference([[0.1, 0.2]]) is None
    assert least_difference([[0.1, 0.2, 0.1], [0.3, 0.4, 0.3]]) is None, "seeds that do not scatter say nothing"


def test_chance_is_called_a_difference_in_one_search_of_twenty() -> None:
    """Among 6 settings that do not differ, the largest difference is above it in at most 8 % of 400 searches."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        table = generator.normal(size=(6, 3))
        least = least_difference(table.tolist())
        assert least is not None
        wrong += float(np.ptp(table.mean(1))) > least
    assert 400 * 0.02 <= wrong <= 400 * 0.08


def test_ranks_are_shared_where_chance_may_be_the_reason() -> None:
    assert ranks([0.9, 0.88, 0.7, 0.1], 0.05) == [1, 1, 3, 4]
    assert ranks([0.1, 0.9], None) == [2, 1]
