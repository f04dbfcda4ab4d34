"""The dtype of what comes out: ToDtype("auto") follows casts of the module, and others say that they do not."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gpuaug as ga
from gpuaug.engine.render import BACKENDS as ALL
from tests.support.backends import runnable
from tests.support.helpers import BACKENDS, anew, noise

NORMALIZE = ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CASTS: dict[str, tuple[Callable[[nn.Module], Any], torch.dtype]] = {
    "half": (lambda module: module.half(), torch.float16),
    "bfloat16": (lambda module: module.bfloat16(), torch.bfloat16),
    "to dtype": (lambda module: module.to(torch.bfloat16), torch.bfloat16),
    "to device and dtype": (lambda module: module.to("cpu", torch.float16), torch.float16),
    "to a tensor's": (lambda module: module.to(torch.zeros(1, dtype=torch.bfloat16)), torch.bfloat16),
    "type": (lambda module: module.type(torch.float16), torch.float16),
    "there and back": (lambda module: module.half().float(), torch.float32),
    "to channels_last": (lambda module: module.to(memory_format=torch.channels_last), torch.float32),
    "cpu": (lambda module: module.cpu(), torch.float32),
    "to_empty": (lambda module: module.to_empty(device="cpu"), torch.float32),
    "shared": (lambda module: module.share_memory(), torch.float32),
}
casts = pytest.mark.parametrize("cast", CASTS)


def steps(dtype: Any) -> list[Any]:
    return [ga.RandomResizedCrop(16), ga.ToDtype(dtype, scale=True), NORMALIZE, ga.RandomErasing(0.5, value="random")]


def listed(dtype: Any, backend: str = "torch") -> ga.Augment:
    return ga.Augment(steps(dtype), seed=3, backend=backend)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@casts
@pytest.mark.parametrize("backend", ALL)
def test_auto_follows_as_weights_do(cast: str, backend: str) -> None:
    """The same bits as with the dtype written down, in training and in evaluation."""
    change, dtype = CASTS[cast]
    augment = change(listed("auto", runnable(backend)))
    written = listed(dtype, backend)
    for mode in (True, False):
        augment.train(mode)
        written.train(mode)
        result = augment(noise(4))
        assert result.dtype == dtype
        assert torch.equal(result, written(noise(4)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_trains_in_any_dtype(dtype: torch.dtype, backend: str) -> None:
    """As a whole: forward, backward, a step, evaluation; a fixed dtype fails in the next layer."""
    model = nn.Sequential(listed("auto", backend), net()).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[1][0].weight.detach().clone()
    loss = nn.functional.cross_entropy(model(noise(8)).float(), torch.arange(8) % 4)
    loss.backward()
    optimizer.step()
    assert not torch.equal(model[1][0].weight, before)
    assert model.eval()(noise(2)).dtype == dtype
    fixed = nn.Sequential(listed(torch.float32, backend), net()).to(dtype)
    if dtype != torch.float32:
        with pytest.warns(UserWarning, match="was cast to"), pytest.raises(RuntimeError):
            fixed(noise(8))


def test_nothing_is_added_to_what_the_module_holds() -> None:
    """No buffer, which DDP would send around in each step, and averages and checkpoints would hold."""
    augment = listed("auto").half()
    assert list(augment.buffers()) == list(augment.parameters()) == []
    assert list(augment.state_dict()) == ["_extra_state"]
    restored = listed("auto")
    restored.load_state_dict(augment.state_dict())
    assert restored(noise(2)).dtype == torch.float32  # a checkpoint does not cast, as for weights


@pytest.mark.parametrize("how", ["deepcopy", "copy", *(f"pickle {protocol}" for protocol in range(6))])
def test_copies_keep_the_dtype(how: str) -> None:
    model = nn.Sequential(listed("auto"), net()).bfloat16()
    if how.startswith("pickle"):
        other = pickle.loads(pickle.dumps(model, int(how[-1])))
    else:
        other = nn.Sequential(getattr(copy, how)(model[0]), copy.deepcopy(model[1]))
    assert other(noise(2)).dtype == torch.bfloat16
    assert other.half()[0](noise(2)).dtype == torch.float16
    assert model[0](noise(2)).dtype == torch.bfloat16


def test_an_average_of_weights_goes_on() -> None:
    model = nn.Sequential(listed("auto"), net()).bfloat16()
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    average.update_parameters(model)
    average.update_parameters(model)
    assert average.eval()(noise(2)).dtype == torch.bfloat16


def test_the_default_dtype_is_where_it_begins() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        augment = listed("auto")
    finally:
        torch.set_default_dtype(torch.float32)
    assert augment(noise(2)).dtype == torch.bfloat16
    assert augment.float()(noise(2)).dtype == torch.float32


def test_a_repr_rebuilds_it() -> None:
    augment = listed("auto")
    assert "ToDtype(dtype='auto', scale=True)" in repr(augment)
    again = eval(repr(augment), {name: getattr(ga, name) for name in ga.__all__} | {"torch": torch})
    assert torch.equal(anew(again.half(), noise(2)), anew(augment.half(), noise(2)))
    assert ga.ToDtype("auto").replace(scale=True) == ga.ToDtype("auto", scale=True)


@pytest.mark.parametrize(
    "cast",
    [lambda m: m.double(), lambda m: m.to(torch.float64), lambda m: m.type(torch.int32)],
    ids=["double", "to", "type"],
)
def test_other_dtypes_are_refused(cast: Callable[[nn.Module], Any]) -> None:
    """In one sentence, before anything changes."""
    augment = listed("auto")
    model = nn.Sequential(augment, net())
    sentence = r"Augment: `dtype` must be one of .* where ToDtype\(\"auto\"\) follows it, got torch\.\w+\. Use ToDtype"
    with pytest.raises(ValueError, match=sentence):
        cast(model)
    assert model[1][0].weight.dtype == torch.float32
    assert augment(noise(2)).dtype == torch.float32
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        cast(augment.eval_module(24))
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match=sentence):
            listed("auto")
        listed(torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_dtype_that_was_given_stays_and_says_so_once() -> None:
    model = nn.Sequential(listed(torch.float32), nn.Identity()).half()
    words = r"Augment: the module was cast to torch.float16, but images stay torch.float32.*ToDtype\(\"auto\"\) follows"
    with pytest.warns(UserWarning, match=words):
        assert model(noise(2)).dtype == torch.float32
    assert model(noise(2)).dtype == torch.float32  # and no second time: warnings are errors here
    with pytest.warns(UserWarning, match="was cast to torch.bfloat16"):
        model.bfloat16()(noise(2))
    with pytest.warns(UserWarning, match="was cast to torch.float64.*Cast what comes out"):
        model.double()(noise(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8], ids=str)
def test_what_is_as_asked_says_nothing(dtype: torch.dtype) -> None:
    end = [] if dtype == torch.uint8 else [ga.ToDtype(dtype)]
    augment = ga.Augment([ga.RandomVerticalFlip(), *end], backend="torch")
    for module in (augment, augment.to("cpu"), augment.to(torch.float16 if dtype == torch.uint8 else dtype)):
        assert module(noise(2)).dtype == dtype
    augment.half()
    augment.to(torch.float32 if dtype == torch.uint8 else dtype)
    assert augment(noise(2)).dtype == dtype


@casts
def test_an_exported_module_follows_and_keeps_its_precision(cast: str) -> None:
    """`.half()` of its matrices of weights would move levels."""
    change, dtype = CASTS[cast]
    augment = ga.Augment([ga.ToDtype("auto", scale=True)], eval=[ga.Resize(19), ga.ToDtype("auto", True), NORMALIZE])
    expected = augment.eval()(noise(3)).to(dtype)
    if cast == "to_empty":
        pytest.skip("empties what it holds")
    module = change(augment.eval_module((24, 21)))
    result = module(noise(3))
    assert result.dtype == dtype
    assert torch.allclose(result.float(), expected.float(), atol=0.02)  # a level, here and there
    assert (result != expected).float().mean() < 0.001
    exported = torch.export.export(module, (noise(3),)).module()
    assert torch.equal(exported(noise(3)), result)
    assert list(module.state_dict()) == []


def test_an_exported_module_of_a_given_dtype_stays() -> None:
    module = ga.Augment([ga.ToDtype(torch.float32)]).eval_module((24, 21))
    with pytest.warns(UserWarning, match="Augment.eval_module: the module was cast to torch.float16, but images stay"):
        module.half()
    assert module(noise(2)).dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module.to("cpu")(noise(2)).dtype == torch.float32


def test_a_compose_taken_over_keeps_its_dtype() -> None:
    from torchvision.transforms import v2

    found = ga.from_torchvision(v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]))
    assert ga.ToDtype(torch.float32, scale=True) in found


@pytest.mark.parametrize("first", ["auto", torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", ["auto", torch.float16], ids=str)
def test_the_last_of_two_conversions_says_the_dtype(first: Any, last: Any) -> None:
    augment = ga.Augment([ga.ToDtype(first, scale=True), NORMALIZE, ga.ToDtype(last)], backend="torch")
    expected = ga.Augment([ga.ToDtype(torch.float32, scale=True), NORMALIZE], backend="torch")(noise(2))
    dtype = torch.float32 if last == "auto" else last
    assert torch.equal(augment(noise(2)), expected.to(dtype))


def test_calls_before_and_after_a_cast_have_no_plan_in_common() -> None:
    """A backend keeps what it launches for calls that are alike, the dtype of the result with it."""
    augment, images = listed("auto"), noise(2)

    def plan() -> Any:
        draw = augment.sample(images)
        exact, memory_format = augment.exact, augment.memory_format
        items = augment.train_pipeline.lower(draw.params, draw.keys, draw.canvas, exact, memory_format, augment._dtype)
        return items[0].alike  # type: ignore[union-attr]

    before = plan()
    assert plan() is before
    augment.half()
    assert plan() is not before
    augment.float()
    assert plan() is before
