"""How targets travel from a worker: large ones in the memory of their batch, small ones in one piece."""

from __future__ import annotations

import collections
import pickle
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data.transport import shared
from gpuaug.data.transport import targets as travel
from tests.support.files import picture
from tests.support.scenes import Scenes, same

pytestmark = pytest.mark.filterwarnings("ignore:This process")  # Python 3.12 and later, of fork beside threads


def loader(workers: int) -> DataLoader[Any]:
    return DataLoader(Scenes(), 4, num_workers=workers, collate_fn=ga.ragged_collate, timeout=60)


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
    large_one = torch.zeros(1000)
    single = {"a": torch.ones(2), "b": large_one[:2], "c": large_one[3:5]}
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
