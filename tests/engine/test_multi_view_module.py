"""MultiView as a module: copies, state, loaders, ranks, errors, and that no view copies the batch."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.engine import counter
from tests.support.helpers import anew, noise, used
from tests.support.processes import pretending
from tests.support.views import FLOATS, GLOBAL, INDEX, LOCAL, SIZE, B, dino, images, same

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- modules -------------------------------------------------------------------------------------------------------


def test_repr_pickle_state_and_casts() -> None:
    multi = ga.MultiView(
        [[ga.AugMix(), ga.ToDtype("auto", scale=True)]] * 2, [ga.CenterCrop(9)], shared=[ga.RandomCrop(20)], seed=3,
        exact=True, memory_format=torch.channels_last,
    )  # fmt: skip
    names = {"torch": torch, **{name: getattr(ga, name) for name in ga.__all__}}
    rebuilt = eval(repr(multi), names)
    assert repr(rebuilt) == repr(multi)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        loaded: ga.MultiView = pickle.loads(pickle.dumps(multi, protocol))
        assert repr(loaded) == repr(multi)
    views = anew(multi, images(), index=INDEX)
    assert same(anew(loaded, images(), index=INDEX), views)
    assert same(anew(rebuilt, images(), index=INDEX), views)
    assert views[0].is_contiguous(memory_format=torch.channels_last)
    assert {view.dtype for view in multi.half()(images())} == {torch.float16}
    nested = eval(
        repr(dino(eval=[GLOBAL, LOCAL])), {"torch": torch, **{name: getattr(ga, name) for name in ga.__all__}}
    )
    assert len(nested.eval()(images())) == 2


def test_state_continues_and_holds_one_tensor() -> None:
    multi, other = dino(), dino(seed=None)
    multi(images())
    state = torch.nn.Sequential(multi).state_dict()
    assert list(state) == ["0._extra_state"]
    torch.nn.Sequential(other).load_state_dict(state)
    assert other.seed == multi.seed == 4
    assert same(other(images()), multi(images()))
    multi.set_epoch(2)
    again = multi(images(), index=INDEX)
    multi.set_epoch(3)
    assert not same(multi(images(), index=INDEX), again)
    multi.set_epoch(2)
    assert same(multi(images(), index=INDEX), again)
    multi.seed = 5
    assert not same(anew(multi, images(), index=INDEX), again)


def test_arguments_set_later_are_checked_and_are_those_of_all_views() -> None:
    multi = dino()
    multi.mask_fill = 7
    assert {view.mask_fill for view in multi.views} == {7}
    with pytest.raises(ValueError, match="MultiView: `backend` must be one of"):
        multi.backend = "cuda"
    assert multi.backend == "auto"
    assert len(multi) == 10


def test_opaque_modules_are_part_of_the_module() -> None:
    class Shift(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = torch.nn.Buffer(torch.ones(1, dtype=torch.uint8))

        def forward(self, batch: Tensor) -> Tensor:
            return batch + self.by

    multi = ga.MultiView([[ga.Lambda(Shift())], [ga.CenterCrop(8)]], eval=[])
    assert [name for name, _ in multi.named_buffers()] == ["views.0.opaque.0.by"]
    assert multi.draws_globally(True)
    assert not multi.draws_globally(False)
    assert torch.equal(multi(images())[0], images() + 1)


# ---- loaders -------------------------------------------------------------------------------------------------------


class Photos(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> tuple[Tensor, int, int]:
        return noise(1, 3, 30 + number, 40, seed=number)[0], number % 3, number


def loader() -> DataLoader[Any]:
    return DataLoader(Photos(), 4, collate_fn=ga.ragged_collate)


def test_device_loader_gives_views_and_labels() -> None:
    batches = ga.DeviceLoader(loader(), "cpu", dino())
    batches.set_epoch(1)
    got = list(batches)
    alone = dino()
    alone.set_epoch(1)
    for (views, own), (packed, given, index) in zip(got, loader(), strict=True):
        assert same(views, alone(packed, index=index))
        assert torch.equal(own, given)
    assert len(got) == 3
    plain = TensorDataset(images())
    (views,) = ga.DeviceLoader(DataLoader(plain, B), "cpu", dino().eval())
    assert [tuple(view.shape) for view in views] == [(B, 3, 24, 24)]
    assert "MultiView(" in repr(batches)
    with pytest.raises(ValueError, match=r"`augment` must be a gpuaug\.Augment or MultiView, got 3"):
        ga.DeviceLoader(loader(), "cpu", 3)  # type: ignore[arg-type]


def test_device_loader_counts_what_it_handed_out_only() -> None:
    multi = dino()
    plain = DataLoader(TensorDataset(noise(12, 3, *SIZE)), 4)
    batches = iter(ga.DeviceLoader(plain, "cpu", multi))
    first = next(batches)
    assert used(multi)["counter"] == 4
    del batches
    state, other = multi.state_dict(), dino(seed=None)
    other.load_state_dict(state)
    assert not same(other(noise(4, 3, *SIZE)), first)
    assert used(other)["counter"] == 8


def test_device_loader_with_an_opaque_step_and_with_a_view_that_fails() -> None:
    multi = ga.MultiView([[ga.CenterCrop(9), ga.Lambda(torch.clone)], [ga.CenterCrop(9)]], eval=[])
    plain = DataLoader(TensorDataset(images()), 3)
    assert all(same(views[:1], views[1:]) for views in ga.DeviceLoader(plain, "cpu", multi))
    failing = ga.MultiView([GLOBAL, [ga.RandomCrop(41)]], seed=1)
    with pytest.raises(ValueError, match=r"This is about view 1\.$"):
        list(ga.DeviceLoader(plain, "cpu", failing))
    assert used(failing)["counter"] == 0


def test_data_of_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`regions` must be a gpuaug\.Augment"):
        ga.data.Indexed(Photos(), regions=dino())  # type: ignore[arg-type]


def test_a_warning_of_a_list_names_the_code_that_makes_the_module() -> None:
    wider = v2.RandomRotation(9, expand=True)  # which gpuaug does not have
    for make in (lambda: ga.MultiView([[wider]]), lambda: ga.Augment([wider])):
        with pytest.warns(UserWarning, match="draws once for the whole batch") as caught:
            make()
        assert caught[0].filename == __file__


# ---- ranks and repetitions -------------------------------------------------------------------------------------------


def test_ranks_draw_differently_without_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for rank in range(2):
        monkeypatch.setattr(counter, "world", lambda rank=rank: (2, rank))
        found += dino()(images())
    monkeypatch.undo()
    assert len({view.numpy().tobytes() for view in found}) == 20
    alone = dino()
    both = [anew(alone, images(), index=torch.arange(B) * 2 + rank) for rank in range(2)]
    assert same(found, both[0] + both[1])


def test_a_call_that_checkpointing_repeats_has_the_draws_of_the_first() -> None:
    multi, seen = dino(), []

    def step(weight: Tensor) -> Tensor:
        views = multi(images())
        seen.append(views)
        return sum(view.mean() for view in views) * weight  # type: ignore[return-value]

    weight = torch.ones((), requires_grad=True)
    checkpoint(step, weight, use_reentrant=False).backward()
    assert len(seen) == 2
    assert same(*seen)
    assert used(multi)["counter"] == B


# ---- errors --------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ([], r"`views` must be a list with a list of transforms for each view, got an empty list"),
    "a word": ("two", r"`views` must be a list with a list .* got 'two'"),
    "a flat list": (GLOBAL, r"`views\[0\]` must be a list of transforms or a Compose, got RandomResizedCrop"),
    "a number": ([GLOBAL, 3], r"`views\[1\]` must be a list of transforms or a Compose, got 3"),
    "no transform": ([GLOBAL, [3]], r"`views\[1\]` must be a list of transforms, got 3"),
    "an order": ([GLOBAL, [FLOATS, ga.RandomCrop(3)]], r"`views\[1\]` must be with pixel work before ToDtype"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_views_are_errors(name: str) -> None:
    views, said = WRONG[name]
    with pytest.raises(ValueError, match=said) as caught:
        ga.MultiView(views)
    assert str(caught.value).startswith("MultiView: ")


def test_a_view_that_fails_says_which_and_uses_up_nothing() -> None:
    multi = ga.MultiView([GLOBAL, GLOBAL, [ga.RandomCrop(41), FLOATS]], seed=4)
    with pytest.raises(ValueError, match=r"^RandomCrop: `images` must be at least .* This is about view 2\.$"):
        multi(images())
    with pytest.raises(ValueError, match=r"^MultiView: `images` must be uint8"):
        multi(images().float())
    with pytest.raises(ValueError, match="`index` must be int64"):
        multi(images(), index=INDEX[:2])
    with pytest.raises(ValueError, match=r"^MultiView: `labels` must be .*RandomResizedCrop.* about view 0"):
        multi(images(), torch.zeros(B, 2, 2))

    def raises(batch: Tensor) -> Tensor:
        raise KeyError("mine")

    opaque = ga.MultiView([GLOBAL, [ga.Lambda(raises)]], eval=[], seed=4)
    with pytest.raises(KeyError, match="mine") as caught:
        opaque(images())
    assert getattr(caught.value, "__notes__", ["MultiView: this is about view 1."])[-1].endswith("about view 1.")
    assert used(multi)["counter"] == used(opaque)["counter"] == 0


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_it_cannot_be_traced() -> None:
    with pytest.raises(RuntimeError, match="MultiView: draws and kernels cannot be traced"):
        torch.jit.trace(dino(), images())


# ---- no copies -----------------------------------------------------------------------------------------------------


def test_on_the_cpu_every_view_reads_the_batch_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each view's first pass gets the tensor that was given, and not a copy."""
    from gpuaug.engine import call as engine_call
    from gpuaug.engine import render as engine_render

    seen: list[int] = []

    def watch(function: Any, place: int) -> Any:
        def watched(*arguments: Any) -> Any:
            seen.append(arguments[place].data_ptr())
            return function(*arguments)

        return watched

    monkeypatch.setattr(engine_call, "render", watch(engine_render.render, 1))
    given = images()
    dino(backend="torch")(given)
    assert seen == [given.data_ptr()] * 10


def test_on_cuda_the_batch_goes_up_once_and_is_copied_nowhere() -> None:
    """Bytes and launches on what claims to be a GPU: tests/support/view_cases.py, in a process of its own."""
    found = json.loads(pretending("tests/support/view_cases.py"))
    for name in ("dense", "ragged"):
        one, many = found[name]["one"], found[name]["many"]
        assert one["findings"] == many["findings"] == []
        assert (one["copies"], many["copies"]) == (0, 0)
        assert (one["uploads"], many["uploads"]) == (1, 10)  # of parameters
        assert many["downloads"] == 0
        assert many["launches"] == 10 * one["launches"]
        assert many["same"]
    assert found["loader"] == {"batches": 3, "copies": 0, "uploads of images": 3, "findings": []}
    assert found["fault"] == 10  # a module that copies its source for each view is told from this one
