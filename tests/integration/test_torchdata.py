"""torchdata: its nodes, whose loader keeps its place; StatefulDataLoader is in tests/engine/test_resume.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler

import gpuaug as ga
from tests.integration.frameworks import (
    BATCH,
    COUNT,
    QUIET,
    STEPS,
    Net,
    Photos,
    check_training,
    documented,
    equal,
    evaluated,
    flat,
    framework,
    module,
    weights,
)

framework("torchdata")
framework("torchdata.nodes")
pytestmark = QUIET
NAMES = documented("torchdata")
DATA = ga.data.Indexed(Photos())
SAMPLERS: dict[str, Any] = {
    "shuffled": lambda: RandomSampler(DATA),
    "weighted": lambda: WeightedRandomSampler([20.0, *[1.0] * (COUNT - 1)], COUNT),
}


def run(name: str, state: Any = None, epochs: int = 2) -> tuple[Net, list[Any]]:
    """The network after the epochs, and a checkpoint after each step."""
    torch.manual_seed(0)
    augment, net = module(), Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    batches = NAMES["batches"](DATA, SAMPLERS[name](), augment, BATCH)
    epoch, states = 0, []
    if state is not None:
        epoch = state["epoch"]
        parts = {"net": net, "augment": augment, "optimizer": optimizer, "batches": batches}
        for part in parts:
            parts[part].load_state_dict(state[part])
    while epoch < epochs:
        for images, targets in batches:
            nn.functional.cross_entropy(net(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            parts = {"net": net, "augment": augment, "optimizer": optimizer, "batches": batches}
            saved = {key: part.state_dict() for key, part in parts.items()}
            states.append(torch.load(bytes_of(saved | {"epoch": epoch}), weights_only=False))
        epoch += 1
    return net, states


def bytes_of(state: Any) -> Any:
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_goes_on_after_any_step(name: str) -> None:
    whole, states = run(name)
    check_training(whole)
    for step in (1, STEPS - 1, STEPS + 2):
        again, _ = run(name, states[step - 1])
        assert again.pictures() == whole.pictures()[step:]
        assert equal(weights(again), weights(whole))


def test_a_lost_state_is_seen() -> None:
    """The test above can fail: without the module's state the draws are others, and without the loader's the images."""
    whole, states = run("shuffled")
    for part in ("augment", "batches"):
        _, fresh = run("shuffled", epochs=1)
        again, _ = run("shuffled", states[STEPS + 1] | {part: fresh[0][part]})
        assert again.pictures()[0] != whole.pictures()[STEPS + 2]


def test_validation_beside_it() -> None:
    augment, net = module(), Net()
    train = NAMES["batches"](DATA, RandomSampler(DATA), augment, BATCH)
    val = ga.DeviceLoader(DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate), "cpu", augment, train=False)
    for _ in range(2):
        net.train()
        for images, _ in train:
            net(images)
        net.eval()
        for images, _ in val:
            net(images)
    check_training(net)
    assert flat(net.pictures(training=False)) == 2 * evaluated(DATA)
