"""Batches and samples that are mappings: `DeviceLoader(fields=...)` and `Indexed`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors

import gpuaug as ga
from tests.support.helpers import noise

NAMES = {"image": "pixel_values", "label": "labels", "index": "index"}
COUNT = 10


def module(**options: Any) -> ga.Augment:
    steps = [ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True), ga.MixUp(num_classes=4)]
    return ga.Augment(steps, seed=3, backend="torch", **options)


class Rows:
    """Samples that are dicts."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"pixel_values": noise(1, 3, 8, 9, seed=number)[0], "labels": number % 4, "state": torch.tensor(number)}


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(ga.data.Indexed(Rows()), 2, **options)  # type: ignore[arg-type]


def test_indexed_numbers_mappings() -> None:
    data = ga.data.Indexed(Rows())
    assert data[3]["index"] == 3  # type: ignore[call-overload]
    assert data[3, 2]["index"] == 3 | 2 << 48  # type: ignore[call-overload]
    assert set(data[0]) == {"pixel_values", "labels", "state", "index"}
    again = ga.data.Indexed(data)
    assert again[9]["index"] == 9  # type: ignore[call-overload]


def test_regions_do_not_go_with_mappings() -> None:
    augment = ga.Augment([ga.RandomResizedCrop(8)])
    with pytest.raises(ValueError, match=r"Indexed: `dataset` must be a data set of \(image, label\) samples, got"):
        ga.data.Indexed(Rows(), regions=augment)[0]


def test_a_mapping_comes_back_with_its_names() -> None:
    """The same pixels and labels as those of tuples."""
    batches = list(ga.DeviceLoader(loader(), "cpu", module(), fields=NAMES))
    tuples = [(batch["pixel_values"], batch["labels"], batch["index"]) for batch in loader()]
    assert len(batches) == 5
    expected = list(ga.DeviceLoader(tuples, "cpu", module()))
    for number, (batch, (images, targets)) in enumerate(zip(batches, expected, strict=True)):
        assert isinstance(batch, dict)
        assert set(batch) == {"pixel_values", "labels", "state"}
        assert torch.equal(batch["pixel_values"], images)
        assert torch.equal(batch["labels"], targets)
        assert batch["state"].tolist() == [2 * number, 2 * number + 1]


def test_without_an_index_the_counter_numbers() -> None:
    fields = {"image": "pixel_values", "label": "labels"}
    batches = list(ga.DeviceLoader(loader(), "cpu", module(), fields=fields))
    assert "index" in batches[0], "it is a field like any other"
    expected = list(ga.DeviceLoader(((b["pixel_values"], b["labels"]) for b in loader()), "cpu", module()))
    assert torch.equal(batches[-1]["pixel_values"], expected[-1][0])  # type: ignore[call-overload]


def test_evaluation_needs_no_labels() -> None:
    batches = ga.DeviceLoader(
        [{"pixel_values": noise(2, 3, 8, 8), "name": ["a", "b"]}], "cpu", module(), train=False, fields=NAMES
    )
    (batch,) = batches
    assert isinstance(batch, dict)
    assert batch["name"] == ["a", "b"]
    assert "labels" not in batch
    assert "fields={'image': 'pixel_values', 'label': 'labels', 'index': 'index'}" in repr(batches)


def test_targets_in_a_field_follow() -> None:
    masks = torch.arange(8).expand(2, 8, 8)
    augment = ga.Augment([ga.RandomHorizontalFlip(1.0)], backend="torch")
    batch = {"image": noise(2, 3, 8, 8), "target": {"masks": masks}}
    (result,) = ga.DeviceLoader([batch], "cpu", augment, fields={"image": "image", "label": "target"})
    assert isinstance(result, dict)
    assert torch.equal(result["target"]["masks"], masks.flip(-1))


@pytest.mark.parametrize("workers", [0, 1])
def test_encoded_images_that_fail_take_the_other_fields_along(tmp_path: Path, workers: int) -> None:
    """Fields of the image that was put in the place of an unreadable one."""
    for number in range(3):
        file = tmp_path / str(number) / "a.jpg"
        file.parent.mkdir()
        Image.fromarray(noise(1, 3, 16, 16, seed=number)[0].permute(1, 2, 0).numpy()).save(file)
    file = tmp_path / "1" / "a.jpg"
    file.write_bytes(file.read_bytes()[:20] + b"broken")
    data = ga.data.ImageFolder(tmp_path, decode="device", on_error="skip")
    pack = Packed()
    augment = ga.Augment([ga.Resize((8, 8))], backend="torch")
    inner = DataLoader(data, 3, collate_fn=pack, num_workers=workers)
    with pytest.warns(UserWarning, match=r"a\.jpg|image 1|item 1"):
        (batch,) = ga.DeviceLoader(inner, "cpu", augment, fields=NAMES)
    assert isinstance(batch, dict)
    assert batch["labels"].tolist() == batch["copy"].tolist()
    assert 1 not in batch["labels"].tolist()


class Packed:
    def __call__(self, samples: Any) -> dict[str, Any]:
        images, labels, index = ga.ragged_collate(samples)
        assert isinstance(labels, Tensor)
        return {"pixel_values": images, "labels": labels, "index": index, "copy": labels.clone()}


@pytest.mark.parametrize(
    ("fields", "got"),
    [
        ({"pixel_values": "image"}, "pixel_values"),
        ({"label": "labels"}, "labels"),
        ({"image": 3}, "3"),
        ({"image": "a", "label": "a"}, "a name for each role"),
        ("image", "'image'"),
    ],
)
def test_arguments(fields: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"DeviceLoader: `fields` must be .*{got}"):
        ga.DeviceLoader([], "cpu", module(), fields=fields)


def batches_of(batch: Any, fields: Any = NAMES) -> Iterator[Any]:
    return iter(ga.DeviceLoader([batch], "cpu", module(), fields=fields))


def test_batches_of_another_form() -> None:
    images = noise(2, 3, 8, 8)
    with pytest.raises(ValueError, match="as a tensor or Ragged, in 'pixel_values', got a mapping with 'a'"):
        next(batches_of({"a": images}))
    with pytest.raises(ValueError, match="in 'pixel_values', got Tensor"):
        next(batches_of(images))
    with pytest.raises(ValueError, match="one with a tensor in 'index', got list"):
        next(batches_of({"pixel_values": images, "labels": torch.zeros(2).long(), "index": [0, 1]}))
    with pytest.raises(ValueError, match=r"got mappings with 'pixel_values'.* Name their fields: DeviceLoader"):
        next(batches_of({"pixel_values": images, "labels": torch.zeros(2).long()}, None))


@pytest.mark.parametrize("name", ["masks", "mask", "bboxes", "typed"])
def test_a_field_of_targets_that_nobody_would_move_is_refused(name: str) -> None:
    value: Any = tv_tensors.Mask(torch.zeros(2, 8, 8)) if name == "typed" else torch.zeros(2, 1, 8, 8)
    batch = {"pixel_values": noise(2, 3, 8, 8), "labels": torch.zeros(2).long(), name: value}
    with pytest.raises(ValueError, match=f"DeviceLoader: `loader` must be one without targets in '{name}'"):
        next(batches_of(batch))
