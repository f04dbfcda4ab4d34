"""Lists that depend on the epoch: put in when it begins, resumed with it, and never by half."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import gpuaug as ga
from gpuaug.recipes import Ramp
from tests.support.helpers import noise, used

FULL: list[Any] = [ga.RandomRotation(30), ga.RandomHorizontalFlip(), ga.RandAugment(), ga.ToDtype(torch.float32)]
MIX = ga.MixUp(num_classes=4)
IMAGES, LABELS, INDEX = noise(10), torch.arange(10) % 4, torch.arange(10)


def lists(epoch: int) -> list[Any]:
    """Another list for each epoch."""
    return [ga.RandomRotation(5 + 5 * epoch), *FULL[1 : 2 + epoch % 2], ga.ToDtype(torch.float32)]


def scheduled(function: Any = lists, seed: int = 3) -> ga.Augment:
    augment = ga.Augment(FULL, seed=seed, backend="torch")
    ga.Schedule(augment, function)
    return augment


def by_hand(epoch: int) -> ga.Augment:
    """A module with the list of the epoch, which never had a schedule."""
    augment = ga.Augment(FULL, seed=3, backend="torch")
    augment.replace(train=lists(epoch))
    augment.set_epoch(epoch)
    return augment


def loader(augment: ga.Augment, **options: Any) -> ga.DeviceLoader:
    return ga.DeviceLoader(DataLoader(TensorDataset(IMAGES, LABELS, INDEX), 4, **options), "cpu", augment)


def degrees(augment: ga.Augment) -> Any:
    return augment.train_pipeline.steps[0].degrees  # type: ignore[attr-defined]


# ---- when a list is put in -------------------------------------------------------------------------------------------


def test_set_epoch_puts_in_the_list_of_the_epoch() -> None:
    augment = scheduled()
    assert degrees(augment) == 5
    for epoch in (4, 1, 1, 0):
        augment.set_epoch(epoch)
        assert degrees(augment) == 5 + 5 * epoch
        assert torch.equal(augment(IMAGES, index=INDEX), by_hand(epoch)(IMAGES, index=INDEX))


def test_passes_of_a_loader_are_epochs() -> None:
    augment = scheduled()
    batches, found = loader(augment), []
    for _ in range(3):
        images = torch.cat([images for images, _ in batches])
        found.append((augment.epoch, degrees(augment)))
        plain = by_hand(augment.epoch)
        assert plain.epoch == augment.epoch
    assert found == [(0, 5), (1, 10), (2, 15)]
    batches.set_epoch(7)
    images = torch.cat([images for images, _ in batches])
    assert degrees(augment) == 40
    assert torch.equal(images, torch.cat([images for images, _ in loader(by_hand(7))]))


def test_evaluation_keeps_its_epoch_and_list() -> None:
    augment = scheduled()
    augment.set_epoch(2)
    for images, _ in ga.DeviceLoader(loader(augment).loader, "cpu", augment, train=False):
        assert images.dtype == torch.float32
    assert (augment.epoch, degrees(augment)) == (2, 15)


def test_remove_leaves_the_list() -> None:
    augment = scheduled()
    schedule = augment._schedule
    augment.set_epoch(3)
    schedule.remove()
    augment.set_epoch(1)
    assert degrees(augment) == 20
    second = ga.Schedule(augment, lists)
    schedule.remove()  # it is not this one's any more
    assert augment._schedule is second


def test_the_same_list_keeps_what_a_backend_planned() -> None:
    augment = scheduled(lambda epoch: [ga.RandomRotation(9), ga.ToDtype(torch.float32)])
    first = augment.train_pipeline
    augment.set_epoch(5)
    assert augment.train_pipeline is first


# ---- states, copies, processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["set_epoch", "counted"])
def test_a_state_brings_the_list_of_its_epoch(told: bool) -> None:
    """In the middle of an epoch, into a module that has had no other list."""
    first, second = scheduled(), scheduled(seed=8)
    batches = loader(first)
    for epoch in range(3):
        if told:
            batches.set_epoch(epoch)
        rest = iter(batches)
        next(rest)
        if epoch < 2:
            list(rest)
    state = first.state_dict()
    expected = [images for images, _ in rest]
    with pytest.warns(UserWarning, match="saved with seed 3"):
        second.load_state_dict(state)
    if told:
        second.set_epoch(2)
    found = [second(IMAGES[4:8], index=INDEX[4:8]), second(IMAGES[8:], index=INDEX[8:])]
    assert degrees(second) == 15
    if told:
        assert all(map(torch.equal, found, expected))
    assert used(second) == used(first)


def test_a_schedule_saves_and_loads() -> None:
    augment = scheduled()
    augment.set_epoch(6)
    other = scheduled()
    other._schedule.load_state_dict(augment._schedule.state_dict())
    assert (other._schedule.epoch, degrees(other)) == (6, 35)
    assert repr(other._schedule).startswith("Schedule(Augment(\n    train=[\n        RandomRotation(degrees=30)")


def test_copies_have_schedules_of_their_own() -> None:
    augment = scheduled()
    for other in (copy.deepcopy(augment), pickle.loads(pickle.dumps(augment)), copy.copy(augment)):
        other.set_epoch(4)
        assert (degrees(augment), degrees(other)) == (5, 25)
        assert (augment.epoch, other.epoch) == (0, 4)


class Collate:
    """Augments in a worker process."""

    def __init__(self, augment: ga.Augment) -> None:
        self.augment = augment

    def __call__(self, samples: list[Any]) -> Tensor:
        images, _, index = zip(*samples, strict=True)
        result: Tensor = self.augment(torch.stack(images), index=torch.stack(index))
        return result


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_are_kept_follow(context: str) -> None:
    augment = scheduled()
    batches: DataLoader[Any] = DataLoader(
        TensorDataset(IMAGES, LABELS, INDEX), 5, num_workers=1, persistent_workers=True,
        collate_fn=Collate(augment), multiprocessing_context=context,
    )  # fmt: skip
    for epoch in (0, 3):
        augment.set_epoch(epoch)
        assert torch.equal(torch.cat(list(batches)), by_hand(epoch)(IMAGES, index=INDEX))


# ---- errors ----------------------------------------------------------------------------------------------------------


def bad(kind: str) -> Any:
    """A function that has no list from epoch 2 on."""

    def function(epoch: int) -> Any:
        if epoch < 2:
            return lists(epoch)
        return {"raises": lambda: {}["strength"], "number": lambda: 3, "nothing": lambda: None, "empty": list,
                "word": lambda: ["flip"], "order": lambda: [*lists(0), *lists(0)]}[kind]()  # fmt: skip

    return function


SAID = {
    "raises": "got KeyError ('strength')",
    "number": "got ValueError (Augment: `train` must be a list of transforms or a Compose, got 3.)",
    "nothing": "got ValueError (it returned None)",
    "empty": "got ValueError (it returned [])",
    "word": "got ValueError (Augment: `train` must be a list of transforms, got 'flip'.",
    "order": "got ValueError (Augment: `train` must be with pixel work before ToDtype",
}


@pytest.mark.parametrize("way", ["set_epoch", "loader", "pass", "state"])
@pytest.mark.parametrize("kind", SAID)
def test_an_epoch_without_a_list_changes_nothing(kind: str, way: str) -> None:
    augment = scheduled(bad(kind))
    batches = loader(augment)
    for _ in range(2):
        list(batches)
    later = scheduled()
    later.set_epoch(5)
    before = (repr(augment), augment.epoch, augment.state_dict()["_extra_state"].tolist(), augment.train_pipeline)
    attempts = {
        "set_epoch": lambda: augment.set_epoch(5),
        "loader": lambda: batches.set_epoch(5),
        "pass": lambda: next(iter(batches)),
        "state": lambda: augment._schedule.load_state_dict(later.state_dict()),
    }
    with pytest.raises(ValueError) as caught:
        attempts[way]()
    epoch = 2 if way == "pass" else 5
    assert str(caught.value).startswith(
        f"Schedule: `lists` must be a function that returns the list of epoch {epoch}, "
    )
    assert SAID[kind] in str(caught.value)
    assert str(caught.value).endswith("The module keeps its list and epoch.")
    after = (repr(augment), augment.epoch, augment.state_dict()["_extra_state"].tolist(), augment.train_pipeline)
    assert after == before
    assert augment(IMAGES).shape == IMAGES.shape


def test_a_schedule_that_cannot_begin_is_not_attached() -> None:
    augment = ga.Augment(FULL)
    with pytest.raises(ValueError, match="list of epoch 0, got ZeroDivisionError"):
        ga.Schedule(augment, lambda epoch: [1 / 0])
    assert augment._schedule is None
    assert augment.train_pipeline.steps == tuple(FULL)
    with pytest.raises(ValueError, match=r"Schedule: `augment` must be a gpuaug\.Augment, got"):
        ga.Schedule(FULL, lists)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Schedule: `lists` must be a function from epoch to list, got"):
        ga.Schedule(augment, FULL)  # type: ignore[arg-type]


# ---- Ramp ------------------------------------------------------------------------------------------------------------


def test_a_ramp_warms_up_and_stops_mixing() -> None:
    ramp = Ramp([*FULL, MIX], 10, warm_up=3, no_mixing=2)
    assert [ramp.strength(epoch) for epoch in (0, 1, 2, 3, 9)] == [0.25, 0.5, 0.75, 1, 1]
    assert [step.degrees for step in (ramp(0)[0], ramp(2)[0])] == [7.5, 22.5]  # type: ignore[attr-defined]
    assert ramp(5) == [*FULL, MIX]
    assert ramp(0)[-1] == ga.MixUp(alpha=0.25, num_classes=4)
    assert [type(ramp(epoch)[-1]) for epoch in (7, 8, 9, 20)] == [ga.MixUp, ga.ToDtype, ga.ToDtype, ga.ToDtype]
    assert pickle.loads(pickle.dumps(ramp))(1) == ramp(1)
    assert Ramp(FULL, 3)(0) == FULL
    assert Ramp([*FULL, MIX], 10)(20) == [*FULL, MIX]  # a training that goes on mixes on


def test_a_ramp_moves_each_image_the_same_way(tmp_path: Path) -> None:
    augment = ga.Augment([*FULL, MIX], seed=3, backend="torch")
    ga.Schedule(augment, Ramp([*FULL, MIX], 5, warm_up=3, no_mixing=1))
    angles = []
    for epoch in (0, 1, 3):
        augment.set_epoch(epoch)
        numbers = augment.train_pipeline.numbers
        assert numbers == list(range(len(FULL) + 1))
        augment._numbering.epochs.tell(0)  # the draws of one epoch, with the lists of others
        augment._listed = 0
        angles.append(augment.sample(IMAGES, index=INDEX).params[0]["degrees"])
    assert (angles[2] / angles[0]).tolist() == pytest.approx([4.0] * 10, rel=1e-5)
    assert (angles[2] / angles[1]).tolist() == pytest.approx([2.0] * 10, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": 0}, "Ramp: `epochs` must be an integer of at least 1, got 0"),
        ({"warm_up": 11}, "Ramp: `warm_up` must be an integer in [0, 10], got 11"),
        ({"no_mixing": -1}, "Ramp: `no_mixing` must be an integer in [0, 10], got -1"),
        (
            {"transforms": [ga.Lambda(abs)], "warm_up": 2},
            "recipes: `transforms` must be of transforms that have a rule",
        ),
    ],
)
def test_a_wrong_ramp(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Ramp(**{"transforms": FULL, "epochs": 10} | options)
    assert str(caught.value).startswith(text)


def test_a_loaded_state_brings_its_list_before_the_first_call() -> None:
    """`example_draw`, `ga.show`, `print` and `ga.advise` show the list without a call."""
    augment, other = scheduled(), scheduled()
    augment.set_epoch(3)
    other.load_state_dict(augment.state_dict())
    assert degrees(other) == degrees(augment) == 20
    assert other.example_draw(IMAGES).pipeline.steps[0] == augment.train_pipeline.steps[0]  # type: ignore[union-attr]


def test_a_loaded_state_without_a_list_is_loaded_and_the_first_call_says_so() -> None:
    def ends(epoch: int) -> list[Any]:
        if epoch > 2:
            raise KeyError(epoch)
        return lists(epoch)

    augment, other = scheduled(), scheduled(ends)
    augment.set_epoch(3)
    model = torch.nn.ModuleList([other, torch.nn.Linear(2, 2)])
    model.load_state_dict(
        {"0._extra_state": augment.state_dict()["_extra_state"]}
        | torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Linear(2, 2)]).state_dict()
    )
    assert (other.epoch, degrees(other)) == (3, 5)
    with pytest.raises(ValueError, match="list of epoch 3, got KeyError"):
        other(IMAGES)


# ---- what a Ramp takes -----------------------------------------------------------------------------------------------


def test_a_ramp_takes_steps_of_other_libraries_to_its_last_epoch() -> None:
    """They have no kind; the epochs without mixing come last, so an error there would end a training near its end."""
    transforms = pytest.importorskip("torchvision.transforms.v2")
    foreign = transforms.RandomHorizontalFlip()
    ramp = Ramp([foreign, MIX], 3, no_mixing=2)
    assert [len(ramp(epoch)) for epoch in range(3)] == [2, 1, 1]
    augment = ga.Augment([ga.Identity()], seed=1, backend="torch")
    schedule = ga.Schedule(augment, ramp)
    for epoch in range(3):
        schedule.set_epoch(epoch)
        assert augment(IMAGES, LABELS)[1].ndim == (2 if epoch == 0 else 1)


def test_a_ramp_of_a_mix_alone_ends_without_it() -> None:
    augment = ga.Augment([MIX], seed=1, backend="torch")
    ga.Schedule(augment, Ramp([MIX], 2, no_mixing=1)).set_epoch(1)
    images, labels = augment(IMAGES, LABELS)
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize("wrong", [None, [], "flip", [None], [ga.Normalize((0,), (1,)), ga.RandomHorizontalFlip()]])
def test_a_ramp_refuses_a_wrong_list_when_it_is_made(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^Ramp: `transforms` must be "):
        Ramp(wrong, 3)
