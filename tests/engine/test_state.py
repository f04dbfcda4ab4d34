"""What a checkpoint holds: one tensor, which whatever handles state dicts can handle, and which continues the draws."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gpuaug as ga
from tests.support.helpers import noise, used

STEPS = [ga.RandomResizedCrop(8), ga.ToDtype(torch.float32, scale=True)]


def module(seed: int | None = None, **options: Any) -> ga.Augment:
    return ga.Augment(STEPS, seed=seed, backend="torch", **options)


def model(seed: int | None = None) -> nn.Sequential:
    return nn.Sequential(module(seed), nn.Flatten(), nn.Linear(192, 3))


def after(augment: ga.Augment) -> list[Tensor]:
    """What it shows next, counted and indexed."""
    return [augment(noise(4)), augment(noise(4), index=torch.arange(4))]


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def advanced(seed: int | None = None) -> ga.Augment:
    augment = module(seed)
    augment.set_epoch(3)
    augment(noise(5))
    augment(noise(3), index=torch.tensor([1, 1, 2]))
    return augment


def test_a_state_is_one_tensor_and_restores_seed_view_epoch_counter_and_looks() -> None:
    augment = copy.deepcopy(advanced())
    state = augment.state_dict()
    assert list(state) == ["_extra_state"]
    assert (state["_extra_state"].dtype, state["_extra_state"].device.type) == (torch.int64, "cpu")
    again = module()
    again.load_state_dict(state)
    assert (again.seed, used(again)) == (augment.seed, used(augment))
    assert alike(after(again), after(augment))


@pytest.mark.parametrize("told", [True, False])
def test_the_looks_of_an_epoch_go_on_after_a_resume(told: bool) -> None:
    """Untold, or with repeats, in the middle of an epoch; and `set_epoch` to the saved one goes on in it."""
    augment = module(5)
    if told:
        augment.set_epoch(2)
    augment(noise(4), index=torch.tensor([0, 1, 1, 2]))
    again = module(5)
    again.load_state_dict(augment.state_dict())
    if told:
        again.set_epoch(2)
    assert alike(after(again), after(augment))
    for _ in range(2):
        again.set_epoch(augment.epoch)
    assert not alike(after(again), after(augment)), "a second time it begins anew"


def test_the_shape_is_the_same_where_epochs_are_told() -> None:
    augment = module()
    shapes = set()
    for epoch in range(3):
        augment.set_epoch(epoch)
        augment(noise(4), index=torch.arange(4))
        augment(noise(4))
        shapes.add(augment.get_extra_state().shape)
    assert shapes == {torch.Size([12])}


def test_a_state_moved_to_a_device_or_cast_comes_back() -> None:
    augment = advanced(2**63 + 5)
    for change in (lambda t: t.clone().double(), lambda t: t.to(torch.int64, copy=True), lambda t: t[None][0]):
        again = module()
        again.load_state_dict({name: change(value) for name, value in augment.state_dict().items()})
        assert again.seed == 2**63 + 5
        assert alike(after(again), after(copy_of(augment)))


def copy_of(augment: ga.Augment) -> Any:
    return pickle.loads(pickle.dumps(augment))


def test_another_explicit_seed_goes_on_as_saved_and_says_so() -> None:
    saved = module(3).state_dict()
    again = module(4)
    with pytest.warns(UserWarning, match="saved with seed 3, which replaces seed 4 of this module"):
        again.load_state_dict(saved)
    assert again.seed == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(3).load_state_dict(saved)
        module(None).load_state_dict(saved)


def test_checkpoints_of_the_first_version() -> None:
    augment = module(5)
    augment.load_state_dict({"_extra_state": {"epoch": 3, "counter": 40}})
    assert used(augment) == {"epoch": 3, "counter": 40}
    assert augment.seed == 5


@pytest.mark.parametrize("state", [{}, {"epoch": 1}, torch.zeros(12, device="meta")], ids=repr)
def test_what_holds_no_state_is_left_aside(state: Any) -> None:
    augment = module(5)
    with pytest.warns(UserWarning, match="is damaged"):
        augment.load_state_dict({"_extra_state": state})
    assert used(augment) == {"epoch": 0, "counter": 0}


def test_a_checkpoint_without_the_state() -> None:
    source = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(192, 3)).state_dict()
    target = model()
    with pytest.warns(UserWarning, match="holds no state of the module") as said:
        target.load_state_dict(source)  # strict
    assert len(said) == 1
    assert torch.equal(target[2].weight, source["2.weight"])


def test_one_with_the_state_into_a_model_without() -> None:
    """torch refuses what it does not know; docs/draws.md says what to drop."""
    plain = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(192, 3))
    state = model().state_dict()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        plain.load_state_dict(state)
    plain.load_state_dict({name: value for name, value in state.items() if not name.endswith("_extra_state")})


@pytest.mark.parametrize("change", ["mean", "float16", "short", "zeros", "flipped"])
def test_a_damaged_state_is_left_aside(change: str) -> None:
    one, other = advanced(3).get_extra_state(), advanced(4).get_extra_state()
    damaged = {
        "mean": (one + other) // 2, "float16": one.half(), "short": one[:5], "zeros": one * 0,
        "flipped": one ^ torch.eye(len(one), dtype=torch.int64)[6],
    }[change]  # fmt: skip
    augment = advanced(9)
    before = used(augment)
    with pytest.warns(UserWarning, match="state in this checkpoint is damaged"):
        augment.load_state_dict({"_extra_state": damaged})
    assert (augment.seed, used(augment)) == (9, before)


# ---- what handles state dicts ----------------------------------------------------------------------------------------


def test_loops_over_a_state_dict() -> None:
    source = model()
    source(noise(4))
    state = source.state_dict()
    moved = {name: value.cpu() for name, value in state.items()}
    mean = {name: (value.double() + value) / 2 for name, value in state.items()}  # of equals
    for given in (moved, mean):
        target = model()
        target.load_state_dict(given)
        assert torch.equal(target(noise(4)), copy_of(source)(noise(4)))
    with pytest.warns(UserWarning, match="Average parameters and buffers only"):
        target.load_state_dict(
            {
                name: (value + other) / 2
                for (name, value), other in zip(state.items(), model().state_dict().values(), strict=True)
            }
        )


@pytest.mark.parametrize("version", ["ModelEma", "ModelEmaV2", "ModelEmaV3"])
def test_timms_averages(version: str) -> None:
    average = getattr(pytest.importorskip("timm.utils"), version)
    source = model()
    ema = average(source, decay=0.5)
    for _ in range(3):
        source(noise(4))
        with torch.no_grad():
            source[2].weight.add_(1)
        ema.update(source)
    inner = ema.ema if version == "ModelEma" else ema.module
    assert not torch.equal(inner[2].weight, source[2].weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model().load_state_dict(inner.state_dict())


@pytest.mark.parametrize("version", ["ModelEma", "ModelEmaV2", "ModelEmaV3"])
def test_timms_averages_where_the_module_counts_the_looks(version: str) -> None:
    """Nobody tells the epoch, so its state grows, and the copy that is never shown anything has one of that shape."""
    average = getattr(pytest.importorskip("timm.utils"), version)
    source = module()
    holder = nn.Sequential(source, nn.Flatten(), nn.Linear(192, 3))
    ema = average(holder, decay=0.5)
    for step in range(3):
        source(noise(4), index=torch.arange(4) + 100 * step)
        with torch.no_grad():
            holder[2].weight.add_(1)
        ema.update(holder)
    inner = ema.ema if version == "ModelEma" else ema.module
    assert not torch.equal(inner[2].weight, holder[2].weight)
    assert inner[0].get_extra_state().shape == source.get_extra_state().shape != (12,)
    for state in (inner.state_dict(), holder.state_dict()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            target = model()
            target.load_state_dict(state)
    index = torch.tensor([0, 100, 201, 400])
    assert torch.equal(target[0](noise(4), index=index), copy_of(source)(noise(4), index=index))


def test_torchs_averaged_model() -> None:
    source = model()
    average = torch.optim.swa_utils.AveragedModel(source, use_buffers=True)
    source(noise(4))
    average.update_parameters(source)
    model().load_state_dict(average.module.state_dict())


def test_safetensors(tmp_path: Any) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    source = model()
    source(noise(4))
    safetensors.save_model(source, tmp_path / "model.safetensors")
    target = model()
    safetensors.load_model(target, tmp_path / "model.safetensors")
    assert torch.equal(target(noise(4)), source(noise(4)))
    safetensors.save_file(source.state_dict(), tmp_path / "state.safetensors")
    target.load_state_dict(safetensors.load_file(tmp_path / "state.safetensors"))
    assert torch.equal(target(noise(4)), source(noise(4)))


def test_accelerate_saves_it(tmp_path: Any) -> None:
    accelerate = pytest.importorskip("accelerate")
    source = model()
    source(noise(4))
    accelerator = accelerate.Accelerator(cpu=True)
    accelerator.save_model(source, tmp_path)
    target = model()
    accelerate.load_checkpoint_in_model(target, str(tmp_path))
    assert torch.equal(target(noise(4)), source(noise(4)))


# ---- pickles and processes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_every_protocol(protocol: int, memory_format: torch.memory_format) -> None:
    augment = module(memory_format=memory_format)
    augment(noise(3))
    again = pickle.loads(pickle.dumps(augment, protocol))
    assert again.memory_format == memory_format
    assert alike(after(again), after(copy_of(augment)))
    if protocol >= 2:  # torch.save's own limit
        file = io.BytesIO()
        torch.save(nn.Sequential(augment), file, pickle_protocol=protocol)
        file.seek(0)
        assert alike(after(torch.load(file, weights_only=False)[0]), after(augment))


def _shows(augment: ga.Augment, sender: Any) -> None:
    sender.send([result.numpy() for result in after(augment)])


def test_a_process_that_is_spawned_gets_the_module() -> None:
    augment = advanced()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_shows, args=(augment, sender))
    process.start()
    assert receiver.poll(240)
    assert alike([torch.from_numpy(array) for array in receiver.recv()], after(augment))
    process.join()
