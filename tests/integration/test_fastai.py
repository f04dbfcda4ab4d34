"""fastai: a Learner with DeviceLoaders in place of its own loaders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import gpuaug as ga
from tests.integration.frameworks import (
    BATCH,
    CLASSES,
    COUNT,
    QUIET,
    Net,
    Photos,
    check_training,
    equal,
    evaluated,
    flat,
    framework,
    module,
    weights,
)

fastai = framework("fastai.vision.all")
pytestmark = QUIET
DATA = ga.data.Indexed(Photos())


def learner(augment: ga.Augment) -> Any:
    torch.manual_seed(0)
    train = DataLoader(DATA, BATCH, shuffle=True, collate_fn=ga.ragged_collate, num_workers=1)
    val = DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate)
    loaders = fastai.DataLoaders(
        ga.DeviceLoader(train, "cpu", augment, train=True), ga.DeviceLoader(val, "cpu", augment, train=False)
    )
    return fastai.Learner(loaders, Net(), loss_func=nn.CrossEntropyLoss(), metrics=fastai.accuracy)


def fit(one: Any, epochs: int) -> None:
    with one.no_bar(), one.no_logging():
        one.fit_one_cycle(epochs, 0.1)


def test_fit_and_validation() -> None:
    one = learner(module())
    fit(one, 2)
    check_training(one.model)
    assert flat(one.model.pictures(training=False)) == 2 * evaluated(DATA)
    with one.no_bar():
        loss, accuracy = one.validate()
        scores, labels = one.get_preds(dl=one.dls.valid)
    assert scores.shape == (COUNT, CLASSES)
    assert labels.tolist() == [n % CLASSES for n in range(COUNT)]
    assert accuracy == pytest.approx(float((scores.argmax(1) == labels).float().mean()))
    assert loss > 0


def test_a_second_fit_goes_on_with_other_draws() -> None:
    """As `fine_tune` does: the loader counts the epochs over all fits."""
    one = learner(module(mix=False))
    fit(one, 1)
    fit(one, 1)
    check_training(one.model)


def test_a_state_goes_on(tmp_path: Any) -> None:
    """The module's state beside what `learner.save` writes."""
    first = module(mix=False)
    one = learner(first)
    fit(one, 1)
    torch.save(first.state_dict(), tmp_path / "augment.pt")
    torch.manual_seed(5)
    fit(one, 1)
    second = module(mix=False)
    second.load_state_dict(torch.load(tmp_path / "augment.pt"))
    assert second.seed == first.seed
    again = learner(second)
    torch.manual_seed(5)
    fit(again, 1)
    assert again.model.pictures() == one.model.pictures()[len(one.model.pictures()) // 2 :]
    assert not equal(weights(again.model), weights(one.model)), "which were not loaded"
