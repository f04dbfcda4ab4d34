"""On MPS and XPU "auto" runs the twin: it asks for no value, and uses nothing that the device does not have.

The devices are only pretended (benchmarks/evidence/pretend.py); the values must be those of the CPU, bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader

import gpuaug as ga
from benchmarks.evidence.pretend import AskedError, Pretend, PretendTensor, UnsupportedError, held
from gpuaug.data import loader, wrapped
from gpuaug.engine.render import choose
from gpuaug.kernels.torch import common
from tests.support.device_lists import CASES, place, same
from tests.support.gpu_checks import Photos, Turns
from tests.support.helpers import noise
from tests.support.lists import LISTS, cases, channel_counts, random_crops, random_pixels

pytestmark = pytest.mark.usefixtures("one_thread")

# What runs on 64-bit integers there. Which of these a version of torch lacks on MPS or XPU is not known here.
INTEGERS = {  # views and copies of indices; the counters of Philox; sums of levels, and how many pixels have a level
    *("_to_copy", "_unsafe_view", "alias", "arange", "cat", "clone", "copy_", "empty", "expand", "full_like"),
    *("permute", "select", "slice", "stack", "unsqueeze", "unsqueeze_", "view", "new_ones", "new_zeros"),
    *("__rshift__", "add", "add_", "bitwise_and", "bitwise_xor", "clamp_", "div_", "mul"),
    *("argmax", "cumsum", "gather", "index", "index_copy_", "index_select", "scatter_add_", "sum"),
    *("eq", "ge", "lt"),
}


@pytest.fixture(params=["mps", "xpu"])
def device(request: pytest.FixtureRequest) -> Iterator[Pretend]:
    with Pretend(request.param) as device:
        yield device


def twin(device: Pretend, run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the CPU gives; its multiply-adds round as those of the device."""
    with monkeypatch.context() as patch:
        if device.device.type == "mps":  # without float64 a product is rounded, too
            for module in ("common", "point", "instructions"):
                patch.setattr(sys.modules[f"gpuaug.kernels.torch.{module}"], "fma", lambda a, b, c: a * b + c)
        return run()


def there(device: Pretend, batch: list[Any]) -> list[Any]:
    return place(batch, device.to_device)


def here(result: Any) -> Any:
    assert all(isinstance(part, PretendTensor) for part in (result if isinstance(result, tuple) else [result]))
    return tree_map(held, result)


def check(device: Pretend, steps: list[Any], monkeypatch: pytest.MonkeyPatch, *batch: Any, **options: Any) -> None:
    """One call on the device, and on the CPU."""
    assert choose("auto", device.device) == "torch"
    keys = torch.arange(len(batch[0])) * 11 + 3
    options = {"seed": 0, **options}
    result = ga.Augment(steps, **options)(*there(device, list(batch)), index=keys)
    expected = twin(device, lambda: ga.Augment(steps, backend="torch", **options)(*batch, index=keys), monkeypatch)
    assert same(here(result), expected)
    assert device.count > 0
    assert device.integers <= INTEGERS


def labelled(steps: list[Any], images: Tensor) -> list[Any]:
    mixes = ga.Augment(steps).train_pipeline.mix is not None
    return [images, torch.arange(len(images)) % 2] if mixes else [images]


@pytest.mark.parametrize("steps", cases())
def test_every_op(device: Pretend, steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    channels = max(set(channel_counts(steps)) & {1, 3})
    check(device, steps, monkeypatch, *labelled(steps, noise(3, channels, 33, 31)))


@pytest.mark.parametrize("name", LISTS)
def test_lists(device: Pretend, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(device, LISTS[name], monkeypatch, *labelled(LISTS[name], noise(4, 3, 48, 45)))


@pytest.mark.parametrize("name", CASES)
def test_cases(device: Pretend, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(device, CASES[name].steps, monkeypatch, *CASES[name].batch(), **CASES[name].options)


@pytest.mark.parametrize("draw", [random_crops, random_pixels], ids=["crops", "pixels"])
@pytest.mark.parametrize("seed", range(6))
def test_random_lists(device: Pretend, draw: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = draw(seed)
    check(device, steps, monkeypatch, *labelled(steps, noise(4, 3, 60, 56)))


def test_other_numbers_of_channels(device: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [ga.RandomResizedCrop(20), ga.RandomAutocontrast(1.0), ga.RandomEqualize(), ga.GaussianNoise()]
    check(device, steps, monkeypatch, noise(3, 5, 33, 31))


def test_a_loader(device: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread takes turns with the consumer here."""
    monkeypatch.setattr(loader, "FetchThread", InTurn)
    monkeypatch.setattr(wrapped, "present", lambda device: True)
    case = CASES["ragged"]
    inner = DataLoader(Photos(), 5, collate_fn=ga.ragged_collate)
    batches = ga.DeviceLoader(inner, device.device, case.augment("auto"))
    other = case.augment("torch")
    for (images, labels), batch in zip(batches, inner, strict=True):
        assert isinstance(labels, PretendTensor)
        assert same(here(images), twin(device, lambda batch=batch: other(batch.images, index=batch.index), monkeypatch))


class InTurn(Turns):
    """In place of `gpuaug.data.ahead.FetchThread`: a job is done when it is given."""

    def __init__(self, name: str) -> None:
        pass

    def fetch(self, source: Iterator[Any], end: object) -> Any:
        return next(source, end)

    def close(self, wait: bool = True) -> None:
        pass

    def join(self) -> None:
        pass


def test_a_device_that_is_not_here_is_named() -> None:
    for kind in ("mps", "xpu"):
        with pytest.raises(ValueError, match=f"DeviceLoader: `device` must be one that this machine has, got '{kind}'"):
            ga.DeviceLoader([], kind, ga.Augment([ga.RandomInvert()]))


# ---- The rehearsal notices


def test_questions_are_noticed(device: Pretend) -> None:
    values = device.to_device(torch.arange(6.0))
    asked: list[Callable[[], Any]] = [
        lambda: values.sum().item(),
        lambda: bool((values > 3).any()),
        lambda: values[values > 3],
        lambda: values.nonzero(),
        lambda: values.tolist(),
        lambda: values.cpu(),
        lambda: values.__setitem__(values > 3, 0.0),
        lambda: torch.zeros(6).copy_(values),
    ]
    for ask in asked:
        with pytest.raises(AskedError):
            ask()


def test_other_mistakes_are_noticed() -> None:
    with Pretend("mps") as mps:
        values = mps.to_device(torch.arange(6.0))
        with pytest.raises(UnsupportedError, match="no float64"):
            values.double()
        with pytest.raises(UnsupportedError, match="no float64"):
            torch.zeros(3, dtype=torch.float64, device="mps")
        with pytest.raises(UnsupportedError, match="without waiting"):
            torch.zeros(3).to(mps.device, non_blocking=True)
        with pytest.raises(RuntimeError, match="same device"):
            values + torch.arange(6.0)
        assert torch.equal(held(values * 2 + torch.tensor(1.0)), torch.arange(6.0) * 2 + 1)
    with Pretend("xpu") as xpu:
        assert xpu.to_device(torch.arange(6.0)).double().dtype == torch.float64
        torch.zeros(3).to(xpu.device, non_blocking=True)
    with pytest.raises(RuntimeError, match=r"outside `with Pretend"):
        values + 1


def test_the_twins_multiply_add_needs_float64_elsewhere() -> None:
    """The branch for MPS is there for a reason."""
    with Pretend("mps") as mps:
        parts = [mps.to_device(torch.rand(5)) for _ in range(3)]
        assert common.fma(*parts).dtype == torch.float32
        with pytest.raises(UnsupportedError):
            (parts[0].double() * parts[1].double()).float()
