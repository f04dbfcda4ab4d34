"""Activation checkpointing runs a call again with the draws of the first time, so that gradients are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import gpuaug as ga
from gpuaug.engine import recompute
from tests.support import ranks
from tests.support.helpers import noise, used

STEPS = [ga.RandomResizedCrop(8), ga.ColorJitter(0.5), ga.ToDtype(torch.float32, scale=True)]
REENTRANT = pytest.mark.parametrize("reentrant", [False, True], ids=["saved tensors", "reentrant"])


class Net(nn.Module):
    """Augmentation, dropout and layers; `again` says how to run a part of it again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.augment = ga.Augment(STEPS, seed=5, backend="torch")
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 2))

    def once(self, images: Tensor, _: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        return self.layers(self.augment(images, index=index))

    def twice(self, images: Tensor, _: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        return self.once(images, index=index) * self.once(images, index=index)


Again = Callable[..., Tensor]


def gradients(forward: Callable[[Net, Again], Tensor], again: Again, autocast: bool = False) -> list[Tensor]:
    net = Net()
    for _ in range(2):  # a second step, with other draws
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = forward(net, again).square().sum()
        loss.backward()
    assert net.augment._counter.taken.items() == []
    return [parameter.grad for parameter in net.parameters()] + [torch.tensor(used(net.augment)["counter"])]


def off(results: list[Tensor], expected: list[Tensor]) -> float:
    """How far the gradients are off, as a share of their norm."""
    pairs = list(zip(results[:-1], expected[:-1], strict=True))
    return float(sum((a - b).norm() ** 2 for a, b in pairs) ** 0.5 / sum(b.norm() ** 2 for _, b in pairs) ** 0.5)


def plain(function: Any, *arguments: Any, **_: Any) -> Tensor:
    return function(*arguments)


def checkpointed(reentrant: bool, **options: Any) -> Again:
    return lambda function, *arguments: checkpoint(function, *arguments, use_reentrant=reentrant, **options)


def flag() -> Tensor:
    """Reentrant checkpointing wants an input with a gradient."""
    return torch.zeros((), requires_grad=True)


CASES: dict[str, Callable[[Net, Again], Tensor]] = {
    "one call": lambda net, again: again(net.once, noise(4), flag()),
    "indexed": lambda net, again: again(net.once, noise(4), flag(), torch.arange(4)),
    "two calls in a region": lambda net, again: again(net.twice, noise(4), flag()),
    "two indexed calls in a region": lambda net, again: again(net.twice, noise(4), flag(), torch.arange(4)),
    "two regions": lambda net, again: again(net.once, noise(4), flag()) * again(net.once, noise(4), flag()),
    "two regions, other sizes": lambda net, again: (
        again(net.once, noise(4), flag()).sum() * again(net.once, noise(3), flag()).sum()
    ),
    "nested": lambda net, again: again(lambda x, f: again(net.once, x, f) * net.once(x), noise(4), flag()),
    "made inside": lambda net, again: again(lambda x, f: net.once(x.flip(0)), noise(4), flag()),
    "beside calls outside": lambda net, again: again(net.once, noise(4), flag()) + net.once(noise(4)),
}


@REENTRANT
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_without_checkpointing(name: str, autocast: bool, reentrant: bool) -> None:
    """And calls that are repeated use up nothing. Reentrant parts add their gradients up in another order."""
    expected = gradients(CASES[name], plain, autocast)
    results = gradients(CASES[name], checkpointed(reentrant), autocast)
    assert off(results, expected) < (2e-2 if autocast else 1e-5)
    assert results[-1] == expected[-1]


def test_the_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuaug.engine.numbering.in_backward", lambda: False)
    expected = gradients(CASES["one call"], plain)
    results = gradients(CASES["one call"], checkpointed(False))
    assert off(results, expected) > 0.1


@REENTRANT
def test_without_the_generators_state_the_images_tell(reentrant: bool) -> None:
    """Dropout cannot be repeated then, so there is none here."""

    def run(again: Again) -> Any:
        net = Net().requires_grad_()
        net.layers[2] = nn.Identity()
        images = noise(4)
        again(net.once, images, flag()).square().sum().backward()
        return net.layers[0].weight.grad

    assert torch.equal(run(checkpointed(reentrant, preserve_rng_state=False)), run(plain))


@REENTRANT
def test_calls_under_one_state_of_the_generator_are_told_apart_by_their_images(reentrant: bool) -> None:
    """As where gradients accumulate and each batch begins with torch.manual_seed."""

    def run(again: Again) -> Any:
        net, losses = Net(), []
        batches = [noise(4, seed=seed) for seed in range(3)]
        for images in batches:
            torch.manual_seed(0)
            losses.append(again(net.once, images, flag()).square().sum())
        sum(losses).backward()
        return net.layers[0].weight.grad

    assert torch.equal(run(checkpointed(reentrant)), run(plain))


def test_what_cannot_be_told_raises() -> None:
    net = Net()
    images = noise(4)
    result = checkpointed(False, preserve_rng_state=False)(net.twice, images, flag())
    with pytest.raises(RuntimeError, match=r"must repeat one of the last 256 calls.*preserve_rng_state=True"):
        result.sum().backward()


def test_few_calls_are_remembered_and_none_is_pickled() -> None:
    import pickle

    augment = ga.Augment([ga.RandomHorizontalFlip()], backend="torch")
    for _ in range(recompute.MOST + 5):
        augment(noise(1))
    assert len(augment._numbering.recent._calls) == recompute.MOST
    assert not pickle.loads(pickle.dumps(augment))._numbering.recent._calls


def test_one_number_of_the_generator_is_taken_for_a_call_in_training() -> None:
    augment = ga.Augment([ga.RandomHorizontalFlip()], backend="torch")
    state = torch.get_rng_state()
    augment.eval()(noise(2))
    assert torch.equal(torch.get_rng_state(), state)
    augment.train()(noise(2))
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    recompute.token()
    assert torch.equal(torch.get_rng_state(), after)


def parallel(rank: int) -> list[list[Tensor]]:
    """Gradients in DistributedDataParallel, without and with checkpointing, of both kinds."""
    found = []
    for again in (plain, checkpointed(False), checkpointed(True)):
        net = Net()
        net.augment.set_epoch(1)

        class Whole(nn.Module):
            def __init__(self, net: Net, again: Again) -> None:
                super().__init__()
                self.net, self.again = net, again

            def forward(self, images: Tensor) -> Tensor:
                return self.again(self.net.once, images, flag())

        whole = DistributedDataParallel(Whole(net, again))
        for _ in range(2):
            whole(noise(4, seed=rank)).square().sum().backward()
        found.append([parameter.grad for parameter in net.parameters()])
    return found


def test_in_distributed_data_parallel(tmp_path: Any) -> None:
    for expected, *others in ranks.launch(parallel, 2, tmp_path):
        for other in others:
            assert all(map(torch.equal, other, expected))
