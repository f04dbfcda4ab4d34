"""Clips, and several pictures of each scene, through collate functions, workers and DeviceLoader."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import gpuaug as ga
from gpuaug.data.transport.pictures import Pictures
from gpuaug.interop.adapters.batches import augmented
from tests.support.helpers import noise

pytestmark = pytest.mark.filterwarnings("ignore:This process")  # Python 3.12 and later, of fork beside threads

COUNT = 7
STEPS = [ga.RandomResizedCrop(16), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4), ga.GaussianNoise(sigma=0.05)]


def pixels(number: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


class Robot(Dataset[dict[str, Any]]):
    """Dicts as of a data set of robots: two cameras, one of them with several frames, of sizes that differ."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {
            "cam.front": pixels(number, 3, 20 + number, 24), "cam.wrist": pixels(50 + number, 2, 3, 18, 20),
            "action": torch.full((4,), float(number)), "task": f"task {number}", "done": number == 3,
            "front_boxes": {"boxes": torch.tensor([[1.0, 2, 9, 8]] * number).reshape(-1, 4)}, "index": number,
        }  # fmt: skip


class Clips(Dataset[tuple[Any, ...]]):
    """Clips of four frames; every second one an array (T, H, W, C), as video decoders return it."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        clip: Any = pixels(number, 4, 3, 18 + number, 20)
        return (clip.permute(0, 2, 3, 1).numpy() if number % 2 else clip), number, number


def together(numbers: range) -> dict[str, Any]:
    samples = [Robot()[number] for number in numbers]
    fronts = ga.Ragged.from_images([sample["cam.front"] for sample in samples])
    return {"front": fronts, "wrist": torch.stack([sample["cam.wrist"] for sample in samples])}


FIELDS = {"front": "cam.front", "wrist": "cam.wrist"}
LABELS = {"front": "front_boxes", "action": "action", "task": "task", "done": "done"}
WORKERS = [(0, None), (2, "fork"), (1, "spawn")]


def loader(data: Any, workers: int, context: str | None, collate: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, 3, num_workers=workers, multiprocessing_context=context, collate_fn=collate,
                      timeout=240 if workers else 0, **options)  # fmt: skip


@pytest.mark.parametrize(("workers", "context"), WORKERS)
def test_pictures_through_workers_equal_a_direct_call(workers: int, context: str | None) -> None:
    collate = ga.collate(FIELDS, LABELS, "index")
    augment, direct = (ga.Augment(STEPS, seed=3) for _ in range(2))
    start = 0
    for pictures, labels in ga.DeviceLoader(loader(Robot(), workers, context, collate), "cpu", augment):
        numbers = range(start, min(start + 3, COUNT))
        boxes = [Robot()[number]["front_boxes"] for number in numbers]
        expected, moved = direct(together(numbers), {"front": boxes}, index=torch.tensor(numbers))
        assert list(pictures) == ["front", "wrist"]
        assert all(torch.equal(pictures[name], expected[name]) for name in expected)
        assert list(labels) == list(LABELS)
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(labels["front"], moved["front"], strict=True))
        assert torch.equal(labels["action"], torch.tensor(numbers).float()[:, None].expand(-1, 4))
        assert labels["task"] == [f"task {number}" for number in numbers]
        assert labels["done"].tolist() == [number == 3 for number in numbers]
        start = numbers.stop
    assert start == COUNT


@pytest.mark.parametrize(("workers", "context"), WORKERS)
def test_clips_through_workers_equal_a_direct_call(workers: int, context: str | None) -> None:
    augment, direct = (ga.Augment(STEPS, seed=3) for _ in range(2))
    start = 0
    for clips, labels in ga.DeviceLoader(loader(Clips(), workers, context, ga.ragged_collate), "cpu", augment):
        numbers = range(start, min(start + 3, COUNT))
        given = ga.Ragged.from_clips([pixels(number, 4, 3, 18 + number, 20) for number in numbers])
        expected = direct(given, index=torch.tensor(numbers))
        assert clips.shape == (len(numbers), 4, 3, 16, 16)
        assert torch.equal(clips, expected)
        assert labels.tolist() == list(numbers)
        start = numbers.stop
    assert start == COUNT


def test_a_batch_of_pictures_is_one_piece_of_memory_and_can_be_pickled() -> None:
    (batch,) = DataLoader(Robot(), COUNT, num_workers=1, collate_fn=ga.collate(FIELDS, LABELS), timeout=60)
    assert type(batch.images) is Pictures
    assert batch.index is None
    memory = batch.images.data.untyped_storage().data_ptr()
    assert all(part.data.untyped_storage().data_ptr() == memory for part in batch.images.values())
    again = pickle.loads(pickle.dumps(batch))
    for name, part in together(range(COUNT)).items():
        for number in range(COUNT):
            assert torch.equal(batch.images[name][number], part[number])
            assert torch.equal(again.images[name][number], part[number])
    moved = batch.images.to("cpu")
    assert list(moved) == list(FIELDS)
    assert torch.equal(moved["wrist"].data, batch.images["wrist"].data)


def test_a_default_collate_of_pictures_beside_labels() -> None:
    data = [({"a": pixels(n, 3, 20, 20), "b": pixels(n + 9, 3, 20, 20)}, n) for n in range(4)]
    augment, direct = (ga.Augment(STEPS, seed=3) for _ in range(2))
    for number, (pictures, labels) in enumerate(ga.DeviceLoader(DataLoader(data, 2), "cpu", augment)):  # type: ignore[arg-type]
        rows = data[2 * number : 2 * number + 2]
        given = {name: torch.stack([row[0][name] for row in rows]) for name in ("a", "b")}
        expected = direct(given)
        assert all(torch.equal(pictures[name], expected[name]) for name in given)
        assert labels.tolist() == [2 * number, 2 * number + 1]


def test_a_pass_continues_after_the_batch_that_was_handed_out_last() -> None:
    augment = ga.Augment(STEPS, seed=3)
    data = loader(Robot(), 0, None, ga.collate(list(FIELDS.values()), "action"))
    whole = list(ga.DeviceLoader(data, "cpu", ga.Augment(STEPS, seed=3)))
    passing = iter(ga.DeviceLoader(data, "cpu", augment))
    next(passing)
    state = pickle.loads(pickle.dumps(augment.state_dict()))
    other = ga.Augment(STEPS, seed=3)
    other.load_state_dict(state)
    pictures = {name: ga.Ragged.from_images([Robot()[n][name] for n in range(3, 6)]) for name in ("cam.front",)}
    assert torch.equal(other(pictures)["cam.front"], whole[1][0]["cam.front"])
    passing.close()  # type: ignore[attr-defined]


def test_all_other_fields_are_carried() -> None:
    batch = ga.collate(["cam.front", "cam.wrist"], None, "index")([Robot()[number] for number in range(3)])
    assert list(batch.images) == ["cam.front", "cam.wrist"]
    assert isinstance(batch.labels, dict)
    assert list(batch.labels) == ["action", "task", "done", "front_boxes"]
    one = ga.collate("cam.front", None)([{"cam.front": pixels(0, 3, 9, 9), "masks": np.zeros((9, 9), np.uint8)}])
    assert torch.equal(one.labels[0]["masks"], torch.zeros(9, 9, dtype=torch.uint8))


class TestErrors:
    augment = ga.Augment(STEPS)

    def wrong(self, samples: list[Any], words: str, **options: Any) -> None:
        with pytest.raises(ValueError, match=words):
            ga.ragged_collate(samples)

    def test_of_pictures(self) -> None:
        one = {"a": pixels(0, 3, 9, 9)}
        self.wrong(
            [(one, 0), ({"b": one["a"]}, 0)], "images.* one picture of each scene under each of 'a', got 'b' for"
        )
        self.wrong([({"a": torch.zeros(3)}, 0)], 'uint8 .* This is about "a"')
        self.wrong([({}, 0)], "under each of its names, got none for sample 0")
        self.wrong([(one, {"x": 1}), (one, {"y": 1})], "with the keys 'x' in each scene, got 'y' for sample 1")
        self.wrong([(pixels(0, 2, 3, 9, 9), 0), (pixels(0, 3, 3, 9, 9), 0)], "same number of frames")

    def test_of_names(self) -> None:
        for image in ([], ["a", "a"], {"a": 1}, 3):
            with pytest.raises(ValueError, match=r"collate: `image` must be the name of a field.*or a list of them"):
                ga.collate(image)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="collate: `label` must be the name of a field, a str, or a dict"):
            ga.collate(label=["a"])  # type: ignore[arg-type]

    def test_targets_under_no_picture(self) -> None:
        scene = {"a": torch.zeros(2, 3, 20, 20, dtype=torch.uint8)}
        boxes = torch.zeros(2, 1, 4)
        with pytest.raises(ValueError, match=r'labels\["boxes"\]` must be under the name of a picture.*Pass \{"a":'):
            self.augment(scene, {"action": torch.zeros(2), "boxes": boxes})
        with pytest.raises(ValueError, match='Rename it to "boxes"'):
            self.augment(scene, {"bboxes": boxes})
        pictures, labels = self.augment(scene, {"action": boxes})
        assert labels["action"] is boxes
        assert list(pictures) == ["a"]


def test_a_dict_of_pictures_goes_through_a_frameworks_hook() -> None:
    scenes = {"front": noise(2, 3, 24, 20), "wrist": noise(2, 3, 16, 16)}
    one, two = (ga.Augment([ga.RandomCrop(12)], seed=3, backend="torch") for _ in range(2))
    result, labels = augmented("hook", one, (scenes, torch.arange(2)), True, None, torch.device("cpu"))
    expected = two(scenes)
    assert all(torch.equal(result[name], expected[name]) for name in scenes)
    assert labels.tolist() == [0, 1]
