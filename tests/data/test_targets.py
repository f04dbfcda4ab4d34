"""Targets on their way: loaders give what direct calls give, bit for bit, whatever the form; how targets travel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data.dataset import EncodedImage
from tests.support.files import encode, picture
from tests.support.regions import MARKS
from tests.support.scenes import COUNT, Scenes, same, size, target

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process"),  # Python 3.12 and later, of fork beside threads
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:'set_vital'"),  # of torchdata, with a later torch
]


def module(*steps: Any) -> ga.Augment:
    last = [ga.ToDtype(torch.float32, scale=True), ga.SanitizeBoundingBoxes(min_size=2)]
    return ga.Augment([*(steps or [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()]), *last], seed=3)


def loader(workers: int = 0, typed: bool = False, **options: Any) -> DataLoader[Any]:
    options = {"collate_fn": ga.ragged_collate, "timeout": 60 if workers else 0, **options}
    return DataLoader(Scenes(typed), 4, num_workers=workers, **options)


def direct(augment: ga.Augment, given: Any = None) -> list[Any]:
    return [augment(images, targets, index=index) for images, targets, index in given or loader()]


# ---- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", [False, True], ids=["tensors", "tv_tensors"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_what_direct_calls_give(workers: int, typed: bool) -> None:
    rows = [Scenes(typed)[n] for n in range(COUNT)]
    augment = module()
    expected = [
        augment(ga.Ragged.from_images(images), list(targets), index=torch.tensor(index))
        for images, targets, index in (zip(*rows[start : start + 4], strict=True) for start in (0, 4, 8))
    ]
    found = list(ga.DeviceLoader(loader(workers, typed), "cpu", module()))
    assert same(found, expected)
    assert [len(targets) for _, targets in found] == [4, 4, 2]
    assert not same(found, direct(module(ga.RandomResizedCrop(24)), loader(0, typed)))


def test_persistent_workers_and_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda self, device=None: self.as_subclass(Tensor).clone())
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda _: None)
    inner = loader(2, typed=True, persistent_workers=True, pin_memory=True)
    batches, plain = ga.DeviceLoader(inner, "cpu", module()), ga.DeviceLoader(loader(0, typed=True), "cpu", module())
    for _ in range(2):
        assert same(list(batches), list(plain))


def test_resumed_loaders() -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def batches() -> Any:
        return stateful(Scenes(), 4, num_workers=1, collate_fn=ga.ragged_collate)

    augment, expected = module(), list(ga.DeviceLoader(loader(), "cpu", module()))
    first = ga.DeviceLoader(batches(), "cpu", augment)
    for result in first:
        assert same(result, expected[0])
        state, draws = first.state_dict(), augment.state_dict()
        break
    again = module()
    again.load_state_dict(draws)
    later = ga.DeviceLoader(batches(), "cpu", again)
    later.load_state_dict(state)
    assert same(list(later), expected[1:])


def zipped(samples: list[Any]) -> tuple[Tensor, tuple[dict[str, Any], ...]]:
    """As torchvision's references collate, with one size of images."""
    images, targets, _ = zip(*samples, strict=True)
    return torch.stack([image[:, :60, :54] for image in images]), tuple({"label": row["image_id"]} for row in targets)


@pytest.mark.parametrize("workers", [0, 2])
def test_targets_of_another_collate(workers: int) -> None:
    given = DataLoader(Scenes(), 4, num_workers=workers, collate_fn=zipped)
    augment, steps = module(), list(given)
    found = list(ga.DeviceLoader(given, "cpu", module()))
    assert same(found, [augment(images, targets) for images, targets in steps])
    assert [row["label"] for _, targets in found for row in targets] == list(range(COUNT))


def test_one_mapping_for_a_batch() -> None:
    images = torch.randint(256, (6, 3, 40, 50), dtype=torch.uint8)
    masks = torch.randint(5, (6, 40, 50))
    data = [(image, {"masks": mask, "labels": n}) for n, (image, mask) in enumerate(zip(images, masks, strict=True))]
    augment = ga.Augment([ga.RandomCrop(20), ga.CutMix(num_classes=6)], seed=1)
    given: Any = DataLoader(data, 3)  # type: ignore[arg-type]  # the default collate makes one mapping
    expected = [augment(images, targets) for images, targets in given]
    found = list(ga.DeviceLoader(given, "cpu", ga.Augment([ga.RandomCrop(20), ga.CutMix(num_classes=6)], seed=1)))
    assert same(found, expected)
    assert found[0][1]["labels"].shape == (3, 6)


def test_other_things_are_refused() -> None:
    images = torch.zeros(4, 3, 30, 30, dtype=torch.uint8)
    for wrong in (["a"] * 4, [{}, 1, {}, {}], [], "abcd"):
        with pytest.raises(ValueError, match=r"DeviceLoader: `loader` must be one that yields"):
            list(ga.DeviceLoader([(images, wrong)], "cpu", module()))
    with pytest.raises(ValueError, match=r"DeviceLoader: `loader` must be one that yields"):
        list(ga.DeviceLoader([(images, None, {"index": 1})], "cpu", module()))


# ---- images that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Encoded")
@pytest.mark.parametrize("form", ["list", "tuple", "mapping", "mapping of lists"])
def test_the_targets_of_what_stands_in_for_a_damaged_file(form: str) -> None:
    files = [torch.frombuffer(bytearray(encode(picture(40, 50 + n), "PNG")), dtype=torch.uint8) for n in range(4)]
    files[1] = files[1][:40]
    images = ga.data.Encoded.from_images([EncodedImage(file, str(n), "skip") for n, file in enumerate(files)])
    boxes = [torch.tensor([[0.0, 0, n + 2, n + 3]]) for n in range(4)]
    rows = [{"boxes": box, "image_id": n} for n, box in enumerate(boxes)]
    together = {
        "boxes": torch.stack(boxes),
        "image_id": list(range(4)),
        "set": "abcd",
        "numbers": (0, 1, 2, 3),
        "names": torch.arange(9),
    }
    listed = {**together, "boxes": boxes}
    given = {"list": rows, "tuple": tuple(rows), "mapping": together, "mapping of lists": listed}[form]
    batches = ga.DeviceLoader([(images, given)], "cpu", ga.Augment([ga.CenterCrop(50)]))
    ((result, targets),) = list(batches)
    assert batches.skipped == 1
    assert torch.equal(result[1], result[2])
    order = [0, 2, 2, 3]
    if isinstance(targets, dict):
        assert targets["image_id"] == order
        assert targets["numbers"] == tuple(order)
        assert targets["set"] == "abcd"
        assert targets["names"].tolist() == list(range(9))
        found = list(targets["boxes"])
    else:
        assert [row["image_id"] for row in targets] == order
        found = [row["boxes"] for row in targets]
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[1], found[3])


# ---- parts of images -------------------------------------------------------------------------------------------------


class Files(torch.utils.data.Dataset[Any]):
    """Encoded images with targets of whole images; `Indexed` decodes of each what its draw reads."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> Any:
        image = picture(*size(number))
        data = torch.frombuffer(bytearray(encode(image, "JPEG", quality=90)), dtype=torch.uint8)
        return EncodedImage(data, str(number)), target(number)


@MARKS[1]
@pytest.mark.usefixtures("one_thread")
def test_parts_of_images_with_targets_of_whole_ones(backend: str) -> None:
    def shown(augment: ga.Augment, dataset: Any) -> list[Any]:
        return list(ga.DeviceLoader(DataLoader(dataset, 4, collate_fn=ga.ragged_collate), "cpu", augment))

    def augmented() -> ga.Augment:
        steps = [ga.RandomResizedCrop(24, scale=(0.1, 0.4)), ga.RandomHorizontalFlip()]
        return ga.Augment(steps, seed=3, backend=backend)

    augment = augmented()
    dataset = ga.data.Indexed(Files(), regions=augment)
    (first, *_) = _seen(dataset, augment)
    assert first.parts is not None, "nothing was cut: this test saw nothing"
    assert same(shown(augmented_with(augment), dataset), shown(augmented(), ga.data.Indexed(Files())))


def augmented_with(augment: ga.Augment) -> ga.Augment:
    augment.set_epoch(0)
    return augment


def _seen(dataset: Any, augment: ga.Augment) -> list[Any]:
    found: list[Any] = []

    class Kept:
        def __init__(self) -> None:
            self.dataset, self.inner = dataset, DataLoader(dataset, 4, collate_fn=ga.ragged_collate)

        def __iter__(self) -> Iterator[Any]:
            for batch in self.inner:
                found.append(batch.images)
                yield batch

    list(ga.DeviceLoader(Kept(), "cpu", augment))
    return found
