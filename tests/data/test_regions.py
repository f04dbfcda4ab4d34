"""Decoding only what a draw reads gives the bits of decoding everything; where it cannot, it is said."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset

import gpuaug as ga
from gpuaug.data import regions as cutting
from gpuaug.data.parts import Part
from tests.support.backends import runnable
from tests.support.regions import LISTS, MARKS, Counting, module, same, show, write_files

pytestmark = MARKS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("regions"))


# ---- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", LISTS)
def test_pixels_are_those_of_whole_images(name: str, train: bool, root: Path, backend: str) -> None:
    options = {"eval": LISTS[name]} if name == "choice of crops" else {}
    whole, _ = show(module(name, backend=backend, **options), ga.data.ImageFolder(root), train=train)
    augment = module(name, backend=backend, **options)
    found, counting = show(augment, ga.data.ImageFolder(root, regions=augment), train=train)
    assert same(found, whole)
    assert counting.parts > 3 or not train, "nothing was cut: this test saw nothing"


def test_triton_reads_the_same_bytes(root: Path) -> None:
    runnable("triton")
    for name in ("resized crop", "resize, crop", "crop, fill"):
        whole, _ = show(module(name, backend="torch"), ga.data.ImageFolder(root), epochs=1)
        augment = module(name, backend="triton")
        assert same(show(augment, ga.data.ImageFolder(root, regions=augment), epochs=1)[0], whole)


def test_exact_lists(root: Path) -> None:
    """There a flip before a crop that resizes is a step of its own, which needs the whole image."""
    for name in ("flips before", "resized crop"):
        whole, _ = show(module(name, exact=True), ga.data.ImageFolder(root))
        augment = module(name, exact=True)
        found, counting = show(augment, ga.data.ImageFolder(root, regions=augment))
        assert same(found, whole)
        assert bool(counting.parts) == (name == "resized crop")


def test_what_is_sent_is_less(root: Path) -> None:
    augment = module()
    _, whole = show(module(), ga.data.ImageFolder(root), epochs=4)
    _, found = show(augment, ga.data.ImageFolder(root, regions=augment), epochs=4)
    assert found.bytes < 0.62 * whole.bytes, "43 % of the pixels, and all of the few files that are decoded whole"


def test_a_large_part_is_cut_from_all_pixels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding more than 80 % takes longer than decoding all; what is sent is the part in both cases."""
    decoded: dict[str, list[float]] = {"part": [], "whole": []}
    decode_part, decode = cutting.decode_part, cutting.decode

    def part(data: Tensor, image: Any, box: Any) -> Tensor:
        decoded["part"].append(box[2] * box[3] / (image.size[0] * image.size[1]))
        return decode_part(data, image, box)

    monkeypatch.setattr(cutting, "decode_part", part)
    monkeypatch.setattr(cutting, "decode", lambda data: decoded["whole"].append(len(data)) or decode(data))
    expected, _ = show(module("flips before"), ga.data.ImageFolder(root))
    augment = module("flips before")
    found, counting = show(augment, ga.data.ImageFolder(root, regions=augment))
    assert same(found, expected)
    assert max(decoded["part"]) < cutting.MOST
    assert counting.parts > len(decoded["part"]) > 20


@pytest.mark.parametrize("persistent", [True, False])
def test_worker_processes(persistent: bool, root: Path) -> None:
    options: dict[str, Any] = {
        "num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": persistent, "timeout": 120,
    }  # fmt: skip
    epochs = 3 if persistent else 2  # workers that start anew in each epoch take seconds
    whole, _ = show(module(), ga.data.ImageFolder(root), epochs=epochs)
    augment = module()
    found, counting = show(augment, ga.data.ImageFolder(root, regions=augment), epochs=epochs, **options)
    assert same(found, whole)
    assert counting.parts > 40


def test_pinned_and_pickled_batches_keep_their_parts(root: Path) -> None:
    augment = module()
    batches: list[Any] = []

    class Kept(Counting):
        def __iter__(self) -> Iterator[Any]:
            for batch in self.loader:
                batches.append(batch)
                yield batch

    loader = DataLoader(ga.data.ImageFolder(root, regions=augment), 6, collate_fn=ga.ragged_collate)
    results = [images.clone() for images, _ in ga.DeviceLoader(Kept(loader), "cpu", augment)]
    again = module()
    mode = again.begin_pass(True, shared=False)
    for batch, expected in zip(batches, results, strict=True):
        copied = pickle.loads(pickle.dumps(batch))
        moved = ga.data.Batch(copied.images.to("cpu"), copied.labels, copied.index)
        with again.prepare(moved.images, index=moved.index, mode=mode) as call:
            assert torch.equal(call.run(), expected)


@pytest.mark.parametrize("kind", ["packed", "indexed"])
def test_other_data_sets(kind: str, root: Path, tmp_path: Path) -> None:
    if kind == "packed":
        pytest.importorskip("pyarrow")
        ga.data.pack(root, tmp_path / "pack", encoding="jpeg", workers=1)

    def dataset(regions: Any) -> Any:
        if kind == "packed":
            return ga.data.Packed(tmp_path / "pack", regions=regions)
        encoded = ga.data.ImageFolder(root, decode="device")
        joined = ConcatDataset([encoded, encoded])
        if regions is None:
            plain = ga.data.ImageFolder(root)
            return ga.data.Indexed(ConcatDataset([plain, plain]))
        return ga.data.Indexed(joined, regions=regions)

    whole, _ = show(module(), dataset(None))
    augment = module()
    found, counting = show(augment, dataset(augment))
    assert same(found, whole)
    assert counting.parts > 20


def test_samplers_that_number_looks(root: Path) -> None:
    def sampler(dataset: Any) -> Any:
        generator = torch.Generator().manual_seed(2)
        return ga.data.NumberedSampler(RandomSampler(dataset, replacement=True, num_samples=60, generator=generator))

    plain = ga.data.ImageFolder(root)
    whole, _ = show(module(), plain, sampler=sampler(plain))
    augment = module()
    dataset = ga.data.ImageFolder(root, regions=augment)
    found, counting = show(augment, dataset, sampler=sampler(dataset))
    assert same(found, whole)
    assert counting.parts > 40
    repeated = ga.data.RepeatedAugmentationSampler(dataset, selected_round=0)
    plain_repeats = ga.data.RepeatedAugmentationSampler(plain, selected_round=0)
    assert same(show(augment, dataset, sampler=repeated)[0], show(twin_of(augment, 2), plain, sampler=plain_repeats)[0])


def twin_of(augment: ga.Augment, back: int) -> ga.Augment:
    """A module at the epoch where `augment` was `back` epochs ago."""
    other = module()
    for _ in range(augment.epoch - back + 1):
        other.end_pass(other.begin_pass(True))
    return other


def test_a_subset_and_a_pass_of_evaluation_in_between(root: Path) -> None:
    def run(regions: bool) -> list[Tensor]:
        augment = module()
        train = ga.data.ImageFolder(root, regions=augment if regions else None)
        valid = Subset(ga.data.ImageFolder(root, regions=augment if regions else None), range(3, 20))
        loaders = [DataLoader(part, 5, collate_fn=ga.ragged_collate) for part in (train, valid)]
        training = ga.DeviceLoader(loaders[0], "cpu", augment, train=True)
        evaluation = ga.DeviceLoader(loaders[1], "cpu", augment, train=False)
        seen = []
        for _ in range(2):
            for images, _ in training:
                seen.append(images.clone())
                seen += [images.clone() for images, _ in evaluation][:2]
        return seen

    assert same(run(True), run(False))


def test_resumed(root: Path) -> None:
    whole, _ = show(module(), ga.data.ImageFolder(root), epochs=3)
    augment = module()
    first, _ = show(augment, ga.data.ImageFolder(root, regions=augment), epochs=1)
    other = module()
    other.load_state_dict(augment.state_dict())
    rest, _ = show(other, ga.data.ImageFolder(root, regions=other), epochs=2)
    assert same(first + rest, whole)


# ---- what is said ----------------------------------------------------------------------------------------------------


def test_outside_a_pass_images_are_whole_and_it_is_said_once(root: Path) -> None:
    dataset = ga.data.ImageFolder(root, regions=module())
    loader = DataLoader(dataset, 6, collate_fn=ga.ragged_collate)
    with pytest.warns(UserWarning, match="known in a pass of a DeviceLoader") as caught:
        batches = [*loader, *loader]
    assert len(caught) == 1
    assert all(batch.images.parts is None for batch in batches)
    assert isinstance(dataset[0][0], Tensor)


def test_an_epoch_that_was_resumed_in_its_middle_is_whole_and_it_is_said(root: Path) -> None:
    """A restarted epoch shows images again, with looks that only the module counts."""
    runs = []
    for regions in (False, True):
        augment, again = module(), module()
        dataset = ga.data.ImageFolder(root, regions=augment if regions else None)
        iterator = iter(ga.DeviceLoader(DataLoader(dataset, 6, collate_fn=ga.ragged_collate), "cpu", augment))
        next(iterator)
        again.load_state_dict(augment.state_dict())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found, counting = show(again, ga.data.ImageFolder(root, regions=again if regions else None), epochs=1)
        runs.append(found)
        assert counting.parts == 0
        assert ["shown before it was resumed" in str(warning.message) for warning in caught] == [True] * regions
    assert same(*runs)


def test_images_asked_for_one_by_one_are_whole_and_it_is_said(root: Path) -> None:
    augment = module()
    dataset = ConcatDataset([ga.data.ImageFolder(root, regions=augment)])
    with pytest.warns(UserWarning, match="images are asked for one at a time") as caught:
        found, counting = show(augment, dataset)
    assert len(caught) == 1
    assert counting.parts == 0
    assert same(found, show(module(), ga.data.ImageFolder(root))[0])


@pytest.mark.parametrize("train", [True, False], ids=["training twice", "evaluation in between"])
def test_two_passes_over_one_data_set_at_once_are_refused_with_the_cause(train: bool, root: Path) -> None:
    """The first one raises, the second has the pixels that it would have alone; one after the other both are right."""
    augment = module()
    dataset = ga.data.ImageFolder(root, regions=augment)
    loaders = [DataLoader(dataset, 6, collate_fn=ga.ragged_collate) for _ in range(2)]
    first, second = (
        ga.DeviceLoader(loader, "cpu", augment, train=mode) for loader, mode in zip(loaders, (True, train), strict=True)
    )
    iterator = iter(first)
    next(iterator)
    other = iter(second)
    seen = [next(other)[0].clone()]
    with pytest.raises(
        ValueError,
        match=r"DeviceLoader: `loader` must be the only one in a pass over its data set.*got a data set that another "
        r"pass began to use.*Give each loader a data set of its own",
    ):
        list(iterator)
    seen += [images.clone() for images, _ in other]
    plain = module()
    next(iter(ga.DeviceLoader(DataLoader(ga.data.ImageFolder(root), 6, collate_fn=ga.ragged_collate), "cpu", plain)))
    if not train:
        assert same(seen, show(plain, ga.data.ImageFolder(root), epochs=1, train=False)[0])
    assert len(list(first)) == len(list(second)) == len(first)


def test_a_pass_that_begins_is_read_whole_or_not_at_all() -> None:
    """By a thread of another pass: never no pass, and never the key of one with the list of another."""
    finder = module().part_finder()
    finder.follow(False, 0)
    found, ended = [], threading.Event()

    def read() -> None:
        while not ended.is_set():
            found.append(finder.cut())

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(2000):
        finder.follow(number % 2 == 1, number)
    ended.set()
    thread.join()
    assert len(found) > 100
    assert all(cut is not None and cut.training == (cut.key % 2 == 1) for cut in found)


def test_after_a_pass_images_are_whole(root: Path) -> None:
    augment = module()
    dataset = ga.data.ImageFolder(root, regions=augment)
    loader = DataLoader(dataset, 6, collate_fn=ga.ragged_collate)
    iterator = iter(ga.DeviceLoader(loader, "cpu", augment, train=True))
    next(iterator)
    assert dataset.finder.in_pass
    iterator.close()
    assert not dataset.finder.in_pass


def test_lists_that_read_everything(root: Path) -> None:
    steps, evaluation = [ga.ColorJitter(0.4), ga.RandomResizedCrop(48)], [ga.Grayscale(3), ga.Resize((48, 48))]
    augment = ga.Augment(steps, evaluation, seed=0)
    with pytest.warns(UserWarning, match="`regions` changes nothing, since the module's lists read all"):
        dataset = ga.data.ImageFolder(root, regions=augment)
    found, counting = show(augment, dataset, epochs=1)
    assert counting.parts == 0
    assert len(found) > 0


def test_a_class_with_items_of_its_own(root: Path) -> None:
    class Own(ga.data.ImageFolder):
        def __getitem__(self, number: Any) -> Any:
            image, label, index = super().__getitem__(number)
            return image.flip(2), label, index

    augment = module()
    with pytest.warns(UserWarning, match="since its class has a __getitem__ of its own"):
        dataset = Own(root, regions=augment)
    found, counting = show(augment, dataset)
    assert counting.parts == 0
    assert same(found, show(module(), Own(root))[0])


def test_arguments(root: Path, raw: Path) -> None:
    with pytest.raises(ValueError, match=r"ImageFolder: `regions` must be a gpuaug.Augment, got"):
        ga.data.ImageFolder(root, regions=LISTS["center"])
    with pytest.raises(ValueError, match=r"`decode` must be 'worker' with `regions`, got 'device'"):
        ga.data.ImageFolder(root, decode="device", regions=module())
    with pytest.raises(ValueError, match=r"Packed: `regions` must be None for a raw pack"):
        ga.data.Packed(raw, regions=module())


def test_another_collate_of_parts_is_refused() -> None:
    part = Part(torch.zeros(3, 4, 4, dtype=torch.uint8), (0, 0), (8, 8), ("steps", True, 1))
    other = part._replace(cut=("steps", True, 2))
    for samples in ([(part, 0, 0), (other, 0, 1)], [(part, 0), (part, 0)], [(part, 0, 0), (part.pixels, 0, 1)]):
        with pytest.raises(
            ValueError, match="ragged_collate: `samples` must be samples of one data set with its index"
        ):
            ga.ragged_collate(samples)


def test_the_bytes_of_a_file_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuaug.data import dataset as module_of

    count = []
    read = module_of.read
    monkeypatch.setattr(module_of, "read", lambda path: count.append(path) or read(path))
    augment = module()
    dataset = ga.data.ImageFolder(root, regions=augment)
    show(augment, dataset, epochs=1)
    assert len(count) == len(dataset)
