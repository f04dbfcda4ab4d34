"""What the profiler changes about a loader: augmentation behind it, as in the lines that it prints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from gpuaug.profiler.judge.apply import move, probe
from gpuaug.profiler.judge.samples import fetch

CPU = torch.device("cpu")


class Photos(Dataset[Any]):
    """Images of their own sizes with labels, as ImageFolder gives them."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return self.transform(torch.full((3, 20 + index, 24), 10 * index, dtype=torch.uint8)), index


def still() -> v2.Compose:
    """Without chance, so that before and after can be compared."""
    return v2.Compose(
        [
            v2.Resize(16, antialias=True),
            v2.CenterCrop(16),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )


@pytest.mark.parametrize("inside", [False, True])
def test_moved_batches_are_the_same_pixels(inside: bool) -> None:
    dataset: Any = Photos(still())
    loader = DataLoader(Subset(dataset, range(12)) if inside else dataset, 4)
    before = list(loader)
    moved = move(loader, CPU)
    after = list(moved)
    assert len(after) == len(before) == 3
    for (images, labels), (ours, theirs) in zip(before, after, strict=True):
        assert torch.equal(labels, theirs)
        assert ours.shape == images.shape
        assert (ours - images).abs().max() < 0.02  # a level of 255 in units of a half
    assert isinstance(dataset.transform, v2.Compose)  # the user's own is left alone


def test_a_probe_measures_every_part() -> None:
    loader = DataLoader(Photos(still()), 4)
    found = probe(loader, move(loader, CPU))
    assert found.made > 0
    assert found.received > 0
    assert found.augment > 0
    assert found.threads >= 1
    assert found.device == "cpu"


class Opening(Photos):
    """Opens a file at its first sample, as data sets of HDF5 and LMDB do; it must not be open before workers start."""

    opened = False

    def __getitem__(self, index: int) -> Any:
        self.opened = True
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_share_no_open_file_with_this_process(workers: int) -> None:
    dataset = Opening(still())
    loader, state = DataLoader(dataset, 4, num_workers=workers), torch.random.get_rng_state()
    fetch(loader, dataset, 4)
    assert torch.equal(torch.random.get_rng_state(), state)
    moved = move(loader, CPU)
    assert dataset.opened == (workers == 0)
    assert moved.kept > 0
    alone = move(DataLoader(Opening(still()), 4), CPU).samples
    for ours, theirs in zip(moved.samples, alone, strict=True):
        assert len(ours) == 4
        assert all(torch.equal(left[0], right[0]) for left, right in zip(ours, theirs, strict=True))
    assert probe(loader, moved).kept > 0


class Rows(Photos):
    """Images that are views of all images in memory."""

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self.images = torch.zeros(600, 3, 100, 100, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index]), torch.tensor(index)


def test_large_batches_take_few_file_descriptors_and_little_memory() -> None:
    """Tensors in a queue take a descriptor each, and 1,024 are usual; a view would take the memory of all images."""
    resource = pytest.importorskip("resource", reason="no limits of descriptors")
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, most))
    try:
        moved = move(DataLoader(Rows(still()), 512, num_workers=1), CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))
    (image, label), *_ = moved.samples[1]
    assert image.untyped_storage().nbytes() == 30_000
    assert [int(sample[1]) for sample in moved.samples[1]] == list(range(512))
    assert int(label) == 0


class Broken(Photos):
    class RefusedError(Exception):
        def __init__(self, one: int, two: int) -> None:  # its copy in another process cannot be made
            super().__init__("no photo today")

    def __getitem__(self, index: int) -> Any:
        raise Broken.RefusedError(1, 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_error_of_a_data_set_is_told(workers: int) -> None:
    with pytest.raises(ValueError, match=r"RefusedError: no photo today$"):
        move(DataLoader(Broken(still()), 4, num_workers=workers), CPU)


class Around(Photos):
    """Holds another data set."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]


class Inverting(Around):
    """Changes the images that the other one has transformed."""

    def __getitem__(self, index: int) -> Any:
        image, label = self.inner[index]
        return 1 - image, label


class Both(Around):
    def __init__(self) -> None:
        self.left, self.right = Photos(still()), Photos(still())


class Method(Around):
    def transform(self, image: Any) -> Any:
        return image


class Unknown:
    def __call__(self, image: Any) -> Any:
        return image


@pytest.mark.parametrize(
    ("loader", "why"),
    [
        (DataLoader(Photos(Unknown()), 4), "Unknown"),
        (DataLoader(Photos(still()), 4, collate_fn=list), "custom collate_fn"),
        (DataLoader(Photos(still()), None), "makes no batches"),
        (DataLoader(Inverting(Photos(still())), 4), "changes images after"),
        (DataLoader(Both(), 4), "no `transform`"),
        (DataLoader(Method(torch.zeros(4, 2)), 4), "no `transform`"),
        (DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 2)), 2), "no `transform`"),
    ],
)
def test_what_cannot_be_moved_says_why(loader: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        move(loader, CPU)
