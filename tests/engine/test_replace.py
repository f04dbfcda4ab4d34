"""Other lists for a module that exists: its draws, its state and what was made of it before stay."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.engine.replace import FURTHER, numbers_of
from tests.support.backends import runnable
from tests.support.helpers import BACKENDS, call, noise, used
from tests.support.regions import same, show, write_files

INDEX = torch.arange(5)
FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.45,), (0.225,))]
CROP, FLIP, TURN = ga.RandomResizedCrop(16), ga.RandomHorizontalFlip(), ga.RandomRotation(30)
POLICY, GREY = ga.RandAugment(), ga.RandomGrayscale(0.5)
JITTER = ga.RandomApply([ga.ColorJitter(0.4, 0.4, 0.4), ga.GaussianBlur(3)], 0.7)
FIRST: list[Any] = [CROP, FLIP, TURN, POLICY, JITTER, GREY, *FLOATS]
WEAK = ga.RandomApply([ga.ColorJitter(0.2), ga.GaussianBlur(3, sigma=(0.1, 0.5))], 0.2)
# list -> for each of its steps the place in FIRST of the step whose draws it has; None: of none
OTHERS: dict[str, tuple[list[Any], list[int | None]]] = {
    "one goes": ([CROP, TURN, POLICY, JITTER], [0, 2, 3, 4]),
    "one goes and one comes": ([CROP, ga.RandomInvert(), TURN, GREY], [0, None, 2, 5]),
    "another order": ([JITTER, TURN, FLIP], [4, 2, 1]),
    "another strength": ([ga.RandomRotation(5), WEAK, CROP], [2, 4, 0]),
    "two of a class": ([ga.RandomRotation(5), TURN, GREY], [None, 2, 5]),
    "nothing that was there": ([ga.RandomInvert(), ga.RandomSolarize(100)], [None, None]),
    "all in a nested list": ([[CROP, FLIP], ga.Compose([TURN])], [0, 1, 2]),
}


def made(steps: list[Any] = FIRST, **options: Any) -> ga.Augment:
    return ga.Augment(steps, **{"seed": 5, "backend": "torch"} | options)


def params(augment: ga.Augment) -> list[dict[str, Any]]:
    augment.set_epoch(augment.epoch)
    return augment.sample(noise(5), index=INDEX).params


def leaves(drawn: Any) -> dict[str, Any]:
    """Parameters of a step and of its children by path, as bytes."""
    found: dict[str, Any] = {}
    for name, value in drawn.items():
        if isinstance(value, dict):
            found |= {f"{name}/{inner}": part for inner, part in leaves(value).items()}
        else:
            found[name] = value.tobytes() if hasattr(value, "tobytes") else value
    return found


# ---- which draws a step has ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_steps_that_stay_keep_their_draws(name: str) -> None:
    steps, places = OTHERS[name]
    augment = made()
    before = params(augment)
    after = params(augment.replace(train=steps))
    kept = 0
    for step, own, place in zip(augment.train_pipeline.steps, after, places, strict=True):
        numbers = {path: value for path, value in leaves(own).items() if path.rpartition("/")[2] == "op"}
        if place is None:
            assert min(numbers.values()) >= FURTHER
            continue
        first = leaves(before[place])
        assert numbers.items() <= first.items()
        if step == FIRST[place]:
            assert leaves(own) == first
            kept += 1
    assert kept or name == "nothing that was there"


def test_a_weaker_step_moves_the_same_way() -> None:
    augment = made()
    strong = params(augment)[2]["degrees"]
    weak = params(augment.replace(train=[ga.RandomRotation(3)]))[0]["degrees"]
    assert (strong / weak).round(4).tolist() == pytest.approx([10.0] * 5, rel=1e-3)


def test_numbers_do_not_depend_on_the_lists_between() -> None:
    further = [ga.RandomInvert(), ga.RandomInvert(0.3), WEAK, ga.RandomChoice([ga.RandomInvert(), TURN])]
    straight = made().replace(train=further)
    around = made()
    for steps, _ in OTHERS.values():
        around.replace(train=steps)
    around.replace(train=further)
    assert around.train_pipeline.numbers == straight.train_pipeline.numbers
    assert len(set(straight.train_pipeline.numbers)) == len(straight.train_pipeline.numbers)
    assert [leaves(one) for one in params(around)] == [leaves(one) for one in params(straight)]
    assert params(around)[0]["applied"].tolist() != params(around)[1]["applied"].tolist()


def test_the_first_list_has_its_places_again() -> None:
    augment = made()
    first = augment.train_pipeline
    assert first.numbers == list(range(len(first.numbers)))
    augment.replace(train=[GREY]).replace(train=FIRST)
    assert augment.train_pipeline is first, "what a backend has planned for it is kept"


def test_two_steps_with_one_number_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which happens once in 16384 pairs; the later one gets the next number."""
    monkeypatch.setattr("gpuaug.engine.replace.FURTHER", 3)
    assert sorted(numbers_of([GREY, TURN, FLIP], [], [])) == [3, 4, 5]


@pytest.mark.parametrize("name", OTHERS)
def test_backends_agree_on_replaced_lists(name: str) -> None:
    """Also where a backend draws by itself, which it does by the same numbers."""
    steps = [ga.RandomResizedCrop(12), *OTHERS[name][0][:1], POLICY, ga.RandomErasing(1.0), ga.GaussianNoise(), *FLOATS]
    results = [call(made(backend=backend).replace(train=steps), noise(5), index=INDEX) for backend in BACKENDS]
    fresh = call(made(steps), noise(5), index=INDEX)
    assert all(torch.equal(result, results[0]) for result in results)
    assert not torch.equal(results[0], fresh)


def test_triton_draws_by_the_same_numbers() -> None:
    runnable("triton")
    for steps in ([ga.RandomResizedCrop(12), POLICY], [ga.RandomVerticalFlip(), CROP, *FLOATS]):
        torch_, triton = (made(backend=name).replace(train=steps) for name in ("torch", "triton"))
        assert torch.equal(torch_(noise(4), index=INDEX[:4]), triton(noise(4), index=INDEX[:4]))


# ---- what stays ------------------------------------------------------------------------------------------------------


def test_seed_epoch_counter_and_looks_go_on() -> None:
    augment, other = made(), made()
    for module in (augment, other):
        module.set_epoch(3)
        module(noise(4))
        module(noise(5), index=INDEX)
    augment.replace(train=FIRST[:3])
    assert used(augment) == used(other)
    assert torch.equal(augment.state_dict()["_extra_state"], other.state_dict()["_extra_state"])
    other.replace(train=FIRST[:3])
    assert torch.equal(augment(noise(5), index=INDEX), other(noise(5), index=INDEX)), "the second look at each image"


def test_copies_pickles_and_repr_have_the_same_draws() -> None:
    augment = made().replace(train=OTHERS["one goes and one comes"][0])
    augment.set_epoch(2)
    expected = augment(noise(5), index=INDEX)
    rebuilt = eval(repr(augment), vars(ga) | {"torch": torch})
    assert repr(rebuilt) == repr(augment)
    copied = copy.deepcopy(augment)
    copied.load_state_dict(augment.state_dict())
    for other in (pickle.loads(pickle.dumps(augment)), copied, rebuilt):
        other.set_epoch(2)
        assert torch.equal(other(noise(5), index=INDEX), expected)


def test_a_draw_is_rendered_by_the_list_that_it_is_of() -> None:
    augment = made()
    draw = augment.sample(noise(5))
    expected = augment.render(noise(5), draw)
    augment.replace(train=[GREY, CROP])
    assert torch.equal(augment.render(noise(5), draw), expected)


def test_targets_of_a_draw_are_checked_by_the_list_that_it_is_of() -> None:
    images, boxes = noise(5), {"boxes": torch.tensor([[0.0, 0, 8, 8]]).repeat(5, 1, 1)}
    augment = ga.Augment([CROP, ga.MixUp(num_classes=3)], seed=0, backend="torch")
    draw = augment.sample(images)
    augment.replace(train=[CROP])
    with pytest.raises(ValueError, match="class labels and masks of whole images with MixUp"):
        augment.render(images, draw, boxes)
    plain = augment.sample(images)
    augment.replace(train=[CROP, ga.SanitizeBoundingBoxes()])
    assert augment.render(images, plain, boxes)[1]["boxes"].shape == (5, 1, 4)


def test_a_prepared_batch_keeps_its_list() -> None:
    augment, other = made(), made()
    with augment.prepare(noise(5), index=INDEX) as prepared:
        augment.replace(train=[GREY])
        assert torch.equal(prepared.run(), other(noise(5), index=INDEX))  # type: ignore[arg-type]


# ---- evaluation ------------------------------------------------------------------------------------------------------


def test_a_derived_evaluation_list_follows_and_a_given_one_stays() -> None:
    augment = made().replace(train=[ga.RandomResizedCrop(8), *FLOATS])
    assert augment.eval_pipeline.steps == (ga.Resize(9), ga.CenterCrop(8), *FLOATS)
    given = made(eval=[ga.Resize(7)])
    assert given.replace(train=[ga.RandomResizedCrop(8)]).eval_pipeline.steps == (ga.Resize(7),)
    given.replace(eval=[ga.Resize(5)])
    assert given.eval_pipeline.steps == (ga.Resize(5),)
    assert given.train_pipeline.steps == (ga.RandomResizedCrop(8),)
    augment.replace(eval=[ga.Resize(6)]).replace(train=[ga.RandomResizedCrop(4)])
    assert augment.eval_pipeline.steps == (ga.Resize(6),)
    assert augment.eval()(noise(2)).shape == (2, 3, 6, 6)


# ---- opaque modules --------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Adds a learned level, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images


class Other(Counting):
    """Another class."""


def test_an_opaque_module_stays_registered_with_its_state() -> None:
    module, further = Counting(), Other()
    augment = made([ga.Lambda(module), GREY])
    augment(noise(2))
    augment.replace(train=[GREY])
    assert list(augment.state_dict()) == ["_extra_state", "opaque.0.calls"]
    augment.replace(train=[ga.Lambda(further), ga.Lambda(module)])
    augment(noise(2))
    assert list(augment.opaque) == [module, further]
    assert module.calls == 2
    for _ in range(5):  # one more in each epoch would never be freed
        augment.replace(train=[ga.Lambda(Counting())])
    assert [type(one) for one in augment.opaque] == [Counting, Other]
    assert augment.opaque[0] is augment.train_pipeline.steps[0].module  # type: ignore[attr-defined]


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "text"),
    [
        ({}, "Augment: `train` must be a list of transforms, got None, and no `eval`"),
        ({"train": 3}, "Augment: `train` must be a list of transforms or a Compose, got 3"),
        ({"train": [GREY, "flip"]}, "Augment: `train` must be a list of transforms, got 'flip'"),
        ({"train": [*FLOATS, GREY]}, "Augment: `train` must be with pixel work before ToDtype"),
        ({"train": [GREY], "eval": [*FLOATS, GREY]}, "Augment: `eval` must be with pixel work before ToDtype"),
    ],
)
def test_a_wrong_list_changes_nothing(lists: dict[str, Any], text: str) -> None:
    augment = made()
    before, pipelines = repr(augment), (augment.train_pipeline, augment.eval_pipeline)
    with pytest.raises(ValueError) as caught:
        augment.replace(**lists)
    assert str(caught.value).startswith(text)
    assert (augment.train_pipeline, augment.eval_pipeline) == pipelines
    assert repr(augment) == before


# ---- loading parts of images -----------------------------------------------------------------------------------------


def test_regions_follow_a_replaced_list(tmp_path: Path) -> None:
    root, steps = write_files(tmp_path), [ga.RandomHorizontalFlip(), ga.RandomResizedCrop(24, scale=(0.05, 0.2))]
    whole, _ = show(made([CROP, *FLOATS]).replace(train=steps), ga.data.ImageFolder(root), epochs=1)
    augment = made([CROP, *FLOATS])
    dataset = ga.data.ImageFolder(root, regions=augment)
    show(augment, dataset, epochs=1)
    other = made([CROP, *FLOATS])
    dataset.finder = other.part_finder()
    found, counting = show(other.replace(train=steps), dataset, epochs=1)
    assert counting.parts > 3
    assert same(found, whole)


def test_workers_that_are_kept_decode_whole_images(tmp_path: Path) -> None:
    root, augment, plain = write_files(tmp_path), made([CROP, *FLOATS]), made([CROP, *FLOATS])
    options: dict[str, Any] = {"num_workers": 1, "persistent_workers": True, "collate_fn": ga.ragged_collate}
    cut = ga.DeviceLoader(DataLoader(ga.data.ImageFolder(root, regions=augment), 4, **options), "cpu", augment)
    whole = ga.DeviceLoader(DataLoader(ga.data.ImageFolder(root), 4, collate_fn=ga.ragged_collate), "cpu", plain)
    for _, _ in zip(cut, whole, strict=True):
        pass
    for module in (augment, plain):
        module.replace(train=[ga.RandomResizedCrop(20), *FLOATS])
    with pytest.warns(UserWarning, match="workers that are kept do not learn of it"):
        found = [images for images, _ in cut]
    assert all(torch.equal(one, other) for one, (other, _) in zip(found, whole, strict=True))
