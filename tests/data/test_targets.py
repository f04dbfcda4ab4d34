"""Targets on their way: loaders give what direct calls give, bit for bit, whatever the form; how targets travel."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors

import gpuaug as ga
from gpuaug.data.dataset import EncodedImage
from gpuaug.data.transport import shared
from gpuaug.data.transport import targets as travel
from tests.support.files import encode, picture
from tests.support.regions import MARKS
from tests.support.targets import boxes_of, masks_of, points_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process"),  # Python 3.12 and later, of fork beside threads
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:'set_vital'"),  # of torchdata, with a later torch
]

COUNT = 10


def size(number: int) -> tuple[int, int]:
    return 60 + 5 * number, 90 - 4 * number


def target(number: int, typed: bool = False) -> dict[str, Any]:
    """What is in image `number`: number % 3 objects, an image's number, its name, and more."""
    few = number % 3
    boxes, points = boxes_of([size(number)], 3, seed=number)[0][:few], points_of([size(number)], 3, seed=number)[0]
    masks = torch.stack(masks_of([size(number)] * 3, torch.int64, seed=number))[:few]
    box = boxes_of([size(number)], 3, "XYWH", seed=number)[0]
    plain = boxes.as_subclass(Tensor)
    return {
        "boxes": tv_tensors.wrap(box[:few].as_subclass(Tensor), like=box) if typed else plain,
        "labels": torch.arange(few),
        "masks": tv_tensors.Mask(masks) if typed else masks,
        "keypoints": points.as_subclass(Tensor)[:few],
        "image_id": number, "name": f"image {number}", "more": {"ratio": 0.5, "values": [torch.tensor(number)]},
    }  # fmt: skip


class Scenes(torch.utils.data.Dataset[Any]):
    """Images of different sizes, their targets, and their numbers."""

    def __init__(self, typed: bool = False) -> None:
        self.typed = typed

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> tuple[Tensor, dict[str, Any], int]:
        generator = torch.Generator().manual_seed(number)
        image = torch.randint(256, (3, *size(number)), generator=generator, dtype=torch.uint8)
        return image, target(number, self.typed), number


def module(*steps: Any) -> ga.Augment:
    last = [ga.ToDtype(torch.float32, scale=True), ga.SanitizeBoundingBoxes(min_size=2)]
    return ga.Augment([*(steps or [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()]), *last], seed=3)


def loader(workers: int = 0, typed: bool = False, **options: Any) -> DataLoader[Any]:
    options = {"collate_fn": ga.ragged_collate, "timeout": 60 if workers else 0, **options}
    return DataLoader(Scenes(typed), 4, num_workers=workers, **options)


def same(one: Any, other: Any) -> bool:
    """Whether two results are of the same types, and have the same bits."""
    if isinstance(one, Tensor):
        fine = type(one) is type(other) and one.dtype == other.dtype
        return fine and getattr(one, "format", 0) == getattr(other, "format", 0) and torch.equal(one, other)
    if isinstance(one, dict):
        return type(one) is type(other) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


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
    together = {"boxes": torch.stack(boxes), "image_id": list(range(4)), "set": "abcd", "numbers": (0, 1, 2, 3)}
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


# ---- how they travel -------------------------------------------------------------------------------------------------


def test_large_tensors_lie_in_the_memory_of_the_batch_and_small_ones_do_not() -> None:
    for batch in loader(1):
        memory = batch.images.data.untyped_storage().data_ptr()
        found = [tensor for row in batch.labels for tensor in row.values() if isinstance(tensor, Tensor)]
        assert any(tensor.nbytes > travel.SMALL for tensor in found)
        for tensor in found:
            inside = tensor.untyped_storage().data_ptr() == memory
            assert inside == (tensor.nbytes > travel.SMALL)
            if tensor.numel():
                tensor.view(-1)[0] = 1  # they may be written to


def test_a_batch_is_one_object_in_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tensors it has; and it is the same when it is pickled twice, or elsewhere."""
    worker = type("Worker", (), {"num_workers": 1})
    monkeypatch.setattr(shared, "get_worker_info", lambda: worker)
    monkeypatch.setattr(travel, "get_worker_info", lambda: worker)
    batch = ga.ragged_collate([Scenes(typed=True)[number] for number in range(4)])
    _, (_, address, memory, length, *_) = batch.__reduce__()
    assert memory >= length + sum(row["masks"].nbytes for row in batch.labels)
    assert shared.segment_of(batch.images.data) is None, "it was sent"
    assert address is not None
    for _ in range(2):
        again = pickle.loads(pickle.dumps(batch))
        assert same(again.labels, batch.labels)
        assert torch.equal(again.images.data, batch.images.data)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_targets_of_every_type_through_a_worker() -> None:
    odd = {
        "bool": torch.ones(3, dtype=torch.bool), "half": torch.ones(2, dtype=torch.bfloat16),
        "no axis": torch.tensor(1.5), "none": torch.empty(0, 4), "strided": torch.rand(90, 80).T,
        "complex": torch.ones(2, dtype=torch.complex64).conj(),
        "leaf": torch.ones(2, requires_grad=True), "array": np.arange(6)[::-1], "large": np.ones((90, 70), np.int16).T,
        "names": np.array(["a", "b"]), "pair": (1, torch.ones(1)),
        "nothing": None, "sparse": torch.eye(3).to_sparse(),
    }  # fmt: skip
    data = [(torch.zeros(3, 20, 30, dtype=torch.uint8), collections.OrderedDict(odd))] * 3
    here = ga.ragged_collate(data)
    (there,) = DataLoader(data, 3, num_workers=1, collate_fn=ga.ragged_collate, timeout=60)  # type: ignore[arg-type]
    for batch in (here, there):
        assert batch.index is None
        for row in batch.labels:
            assert type(row) is collections.OrderedDict
            assert list(row) == list(odd)
            for key, value in odd.items():
                if isinstance(value, (Tensor, np.ndarray)) and key != "names":
                    expected = torch.as_tensor(value.copy() if isinstance(value, np.ndarray) else value)
                    assert row[key].dtype == expected.dtype, key
                    assert torch.equal(row[key].to_dense(), expected.to_dense()), key
                    assert not row[key].requires_grad
            assert list(row["names"]) == ["a", "b"]
            assert row["pair"][0] == 1
            assert row["nothing"] is None


def test_small_tensors_go_to_a_device_in_one_piece() -> None:
    (batch, *_) = loader(1)
    copies: list[int] = []

    def ship(tensor: Tensor) -> Tensor:
        copies.append(tensor.nbytes)
        return tensor.clone()

    found = travel._shipped(ship, batch.labels)
    assert same(found, batch.labels)
    large = sum(row["masks"].nbytes > travel.SMALL for row in batch.labels)
    empty = sum(t.numel() == 0 for row in batch.labels for t in row.values() if isinstance(t, Tensor))
    assert len(copies) == 1 + large + empty
    single = {"a": torch.ones(2), "b": torch.zeros(1000)[:2], "c": torch.zeros(1000)[3:5]}
    copies.clear()
    assert same(travel._shipped(ship, single), single)
    assert len(copies) == 3, "memory that nobody asked for stays"


def test_masks_in_fields_and_as_pictures() -> None:
    mask = (np.arange(20 * 30).reshape(20, 30) % 7).astype(np.uint8)
    samples = [{"image": picture(20, 30), "annotation": PIL.Image.fromarray(mask), "y": n} for n in range(2)]
    batch = ga.collate(label={"masks": "annotation", "labels": "y"})(samples)
    assert [list(row) for row in batch.labels] == [["masks", "labels"]] * 2
    assert torch.equal(batch.labels[1]["masks"], torch.from_numpy(mask))
    assert pickle.loads(pickle.dumps(ga.collate(label={"masks": "m"}))) == ga.collate(label={"masks": "m"})
    with pytest.raises(ValueError, match=r"must be dicts with 'image', 'm', got a dict with"):
        ga.collate(label={"masks": "m"})(samples)
    with pytest.raises(ValueError, match=r"collate: `label` must be the name of a field, a str, or a dict"):
        ga.collate(label={"masks": 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        ([[{"bbox": [1, 2, 3, 4]}], [{"bbox": [1, 2, 3, 4]}]], "Make one mapping of the annotations"),
        ([torch.ones(3, 4), torch.ones(4, 4)], r'Return masks as \{"masks": mask\}'),
        ([PIL.Image.new("L", (3, 3))] * 2, r'Return masks as \{"masks": mask\}'),
        ([{"boxes": torch.ones(1, 4)}, 3], "$"),
    ],
)
def test_labels_that_are_nearly_targets(labels: list[Any], remedy: str) -> None:
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"ragged_collate: `labels` must be numbers, .*\. ?{remedy}"):
        ga.ragged_collate([(image, label) for label in labels])


def test_streams_of_cuda_keep_every_tensor() -> None:
    kept: list[int] = []

    class Noted(Tensor):
        def record_stream(self, stream: Any) -> None:
            kept.append(stream)

    parts = [torch.ones(2).as_subclass(Noted) for _ in range(3)]
    travel.keep_for(parts[0], [{"a": parts[1], "b": [parts[2], "x"]}], 7)
    assert kept == [7] * 3
