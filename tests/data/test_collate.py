"""A batch travels as one object in shared memory (long: all ways of a segment, over one set of loaders)."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory

import gpuaug as ga
from gpuaug.data.transport import shared
from gpuaug.data.transport.encoded import EncodedImage
from tests.support import data_cases
from tests.support.data_cases import BATCH, Numbers, image, intact, loader, run_case, segments
from tests.support.files import folder, picture

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process"),  # Python 3.12 and later, of fork beside threads
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]
on_linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts segments in /proc")

IMAGE = torch.zeros(3, 4, 5, dtype=torch.uint8)


# ---- what is packed --------------------------------------------------------------------------------------------------


def collated(*labels: Any) -> ga.data.Batch:
    return ga.ragged_collate([(IMAGE, label, number) for number, label in enumerate(labels)])


def test_a_batch_of_different_sizes() -> None:
    samples = [Numbers()[number] for number in (3, 0, 7)]
    images, labels, index = ga.ragged_collate(samples)
    assert isinstance(images, ga.Ragged)
    assert len({tuple(found.shape) for found in images}) == 3
    assert all(torch.equal(found, image) for found, (image, _, _) in zip(images, samples, strict=True))
    assert labels.tolist() == [3, 0, 0]
    assert index.tolist() == [3, 0, 7]
    assert (labels.dtype, index.dtype) == (torch.int64, torch.int64)


def test_a_batch_without_index() -> None:
    batch = ga.ragged_collate([(IMAGE, 3), (IMAGE, 4)])
    assert batch.index is None
    assert batch.labels.tolist() == [3, 4]


def test_samples_may_be_lists() -> None:
    images, labels, index = ga.ragged_collate([[IMAGE, 3, 0], (IMAGE, 4, 1)])
    assert len(images) == 2
    assert (labels.tolist(), index.tolist()) == ([3, 4], [0, 1])


LABELS: dict[str, tuple[Any, Any, torch.dtype]] = {
    "ints": (1, 2, torch.int64),
    "floats": (1.5, 2.0, torch.float32),
    "int and float": (1, 2.5, torch.float32),
    "bools": (True, False, torch.bool),
    "numpy ints": (np.int64(1), np.int64(2), torch.int64),
    "numpy floats": (np.float64(1), np.float64(2), torch.float64),
    "tensor and int": (torch.tensor(1), 2, torch.int64),
    "multi-hot": (torch.tensor([1.0, 0, 1]), torch.tensor([0.0, 0, 1]), torch.float32),
    "bfloat16": (torch.ones(3, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.bfloat16), torch.bfloat16),
    "eight bits": (*torch.ones(2, 3).to(torch.float8_e5m2), torch.float8_e5m2),
    "arrays": (np.ones(2), np.zeros(2), torch.float64),
    "lists": ([1, 2], [3, 4], torch.int64),
    "leaves of a graph": (torch.ones(2, requires_grad=True), torch.ones(2), torch.float32),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_each_kind(name: str) -> None:
    first, second, dtype = LABELS[name]
    labels = collated(first, second).labels
    assert labels.dtype == dtype
    for label, given in zip(labels, (first, second), strict=True):
        assert torch.equal(label, torch.as_tensor(given).detach().to(dtype))


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (("a", "b"), "str"),
        ((None, None), "NoneType"),
        ((1, "b"), "int, str"),
        ((torch.ones(3), torch.ones(4)), r"float32 \(3,\), float32 \(4,\)"),
        (({"a": 1}, 2), "dict, int"),
        (((1, 2), (3,)), r"\(int\), \(int, int\)"),
        ((2**70, 1), "int"),
    ],
)
def test_bad_labels(labels: tuple[Any, ...], got: str) -> None:
    with pytest.raises(ValueError, match=rf"ragged_collate: `labels` must be numbers, .* shape, or .*, got {got}\."):
        collated(*labels)


ENCODED = EncodedImage(torch.ones(4, dtype=torch.uint8), "a.jpg")
BAD_SAMPLES: dict[str, tuple[Any, str]] = {
    "none": ([], "`samples` must be at least one, got none"),
    "images alone": ([IMAGE], r"`samples` must be .*, got uint8 \(3, 4, 5\)\. Wrap"),
    "a short list": ([[IMAGE]], r"got \(uint8 \(3, 4, 5\)\)\. Wrap"),
    "text": (["abc"], r"got str\. Wrap"),
    "some with index": ([(IMAGE, 1), (IMAGE, 1, 2)], r"got \(uint8 .*, int\) and \(uint8 .*, int, int\)\. Wrap"),
    "too long": ([(IMAGE, 1, 2, 3)], r"int, int, int\)\. Wrap"),
    "no index": ([(IMAGE, 1, None)], "`index` must be integers of 64 bits, got NoneType"),
    "index with fraction": ([(IMAGE, 1, 1.5)], "`index` must be .*, got float"),
    "index of more bits": ([(IMAGE, 1, 2**70)], "`index` must be .*, got int"),
    "floats": ([(IMAGE.float(), 1, 1)], r"`images` must be uint8 .* got float32 \(3, 4, 5\) for image 0"),
    "no image": ([(IMAGE, 1, 1), (None, 1, 1)], "`images` must be uint8 .* got None for image 1"),
    "other channels": ([(IMAGE, 1, 1), (IMAGE[:1], 1, 1)], r"got uint8 \(1, 4, 5\) for image 1"),
    "encoded first": ([(ENCODED, 1, 1), (IMAGE, 1, 1)], "`images` must be all encoded or all decoded"),
    "encoded last": ([(IMAGE, 1, 1), (ENCODED, 1, 1)], "`images` must be all encoded or all decoded"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_bad_samples(name: str) -> None:
    samples, message = BAD_SAMPLES[name]
    with pytest.raises(ValueError, match=message) as caught:
        ga.ragged_collate(samples)
    assert "\n" not in str(caught.value)


def test_dicts_pillow_images_and_arrays(tmp_path: Path) -> None:
    """As Hugging Face's data sets give them."""
    array = np.asarray(picture(9, 14))
    chw = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for given in (picture(9, 14), array, chw):
        samples = [{"pixels": given, "y": number, "id": 10 + number, "more": "text"} for number in range(3)]
        images, labels, index = ga.collate(image="pixels", label="y", index="id")(samples)
        assert all(torch.equal(image, chw) for image in images)
        assert (labels.tolist(), index.tolist()) == ([0, 1, 2], [10, 11, 12])
        assert ga.ragged_collate([(given, 1)]).images[0].equal(chw)
    assert ga.collate(label="y", image="pixels")(samples).index is None
    assert pickle.loads(pickle.dumps(ga.collate())) == ga.collate("image", "label")
    data = [{"image": picture(9 + n, 14), "label": n} for n in range(4)]
    (batch,) = DataLoader(data, 4, num_workers=1, collate_fn=ga.collate())  # type: ignore[arg-type]
    assert batch.labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(
        ValueError, match=r"ragged_collate: `samples` .* got dict\. Pass collate_fn=ga\.collate\(image="
    ):
        ga.ragged_collate(data)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"collate: `samples` must be dicts with 'image', 'y', got a dict with 'image', 'label'\."
    ):
        ga.collate(label="y")(data)
    with pytest.raises(ValueError, match=r"collate: `samples` must be dicts with .*, got \(uint8 \(3, 4, 5\), int\)\."):
        ga.collate()([(IMAGE, 1)])
    with pytest.raises(ValueError, match=r"collate: `label` must be the name of a field, a str, or .* names, got "):
        ga.collate(label=7)  # type: ignore[arg-type]


# ---- what travels ----------------------------------------------------------------------------------------------------


class Counting:
    """A collate_fn that tells in `index` how many storages the batch before took to shared memory, and their bytes."""

    def __init__(self, collate: Any) -> None:
        self.collate, self.last, self.shared = collate, (0, 0), []

    def __call__(self, samples: Any) -> Any:
        if not hasattr(self, "original"):  # in the worker, once
            self.original = torch.multiprocessing.reductions.reduce_storage
            ForkingPickler.register(torch.UntypedStorage, self.reduce)
            ForkingPickler.register(shared.Address, self.reduce_address)
        taken, self.shared = list(self.shared), []
        return self.collate(samples), taken

    def reduce(self, storage: Any) -> Any:
        self.shared.append(storage.nbytes())
        return self.original(storage)

    def reduce_address(self, address: Any) -> Any:
        self.shared.append(address.size)
        return shared.Address, tuple(address)


def storages(collate: Any) -> list[list[int]]:
    """Bytes of each storage that was shared for each batch but the last."""
    batches = loader(workers=1, prefetch_factor=1, collate_fn=Counting(collate))
    taken = []
    for _, before in batches:
        taken.append(before)
        time.sleep(0.01)  # the queue of the worker pickles in a thread
    return taken[1:]


def test_one_object_in_shared_memory_for_each_batch() -> None:
    ours = storages(ga.ragged_collate)
    theirs = storages(lambda samples: samples)  # the usual way for images of different sizes
    assert [len(batch) for batch in theirs] == [BATCH] * 11
    assert [len(batch) for batch in ours] == [1] * 11
    for batch, images in zip(ours, theirs, strict=True):
        assert batch[0] >= sum(images)
    needed = max(map(sum, theirs))
    assert max(max(batch) for batch in ours) <= shared.HEADER + shared.SLACK * needed


@on_linux
def test_where_files_without_a_name_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch shares the segment; a worker that ends signs off."""
    monkeypatch.setattr(shared, "_has_proc", lambda process: False)
    batches = iter(loader(workers=2))
    held = [next(batches) for _ in range(3)]
    workers = batches._workers
    held += batches
    assert all(map(intact, held))
    assert {type(shared.segment_of(batch.images.data)) for batch in held} == {type(None)}
    del batches
    gc.collect()
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize("name", LABELS)
def test_labels_through_a_worker(name: str) -> None:
    labels = LABELS[name][:2]

    class Two(Numbers):
        def __getitem__(self, number: int) -> Any:
            return image(number), labels[number], number

    (batch,) = DataLoader(Two(2), 2, num_workers=1, collate_fn=ga.ragged_collate, timeout=10)
    assert isinstance(batch, ga.data.Batch)
    assert torch.equal(batch.labels, collated(*labels).labels)
    assert batch.labels.dtype == LABELS[name][2]
    batch.labels[0] = batch.labels[1]  # they may be written to
    assert torch.equal(batch.images[1], image(1))


def test_no_index_through_a_worker() -> None:
    class Pairs(Numbers):
        def __getitem__(self, number: int) -> Any:
            return image(number), number

    for batch in DataLoader(Pairs(8), 4, num_workers=1, collate_fn=ga.ragged_collate):
        assert batch.index is None


def test_encoded_batches_through_workers(tmp_path: Path) -> None:
    dataset = ga.data.ImageFolder(folder(tmp_path), decode="device")
    here = list(DataLoader(dataset, 5, collate_fn=ga.ragged_collate))
    there = list(DataLoader(dataset, 5, num_workers=2, collate_fn=ga.ragged_collate))
    for mine, theirs in zip(here, there, strict=True):
        assert isinstance(theirs.images, ga.data.Encoded)
        assert torch.equal(mine.images.data, theirs.images.data)
        assert mine.images.names == theirs.images.names
        assert np.array_equal(mine.images.lengths, theirs.images.lengths)
        assert torch.equal(mine.index, theirs.index)
        assert theirs.images.pin_memory() is theirs.images


def test_pinning_takes_the_batch_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch's pin thread does it; there is no CUDA here to pin for."""
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self, device=None: (pinned.append(self), self.clone())[1])
    for batch in (*loader(8), ga.ragged_collate([(IMAGE, 1)])):
        pinned.clear()
        result = pin_memory(batch)
        assert isinstance(result, ga.data.Batch)
        assert isinstance(result.images, ga.Ragged)
        assert list(map(id, pinned)) == [id(batch.images.data), id(batch.labels)]
        assert result.index is batch.index  # it stays on the CPU, where nothing copies it
        assert result.images.data.data_ptr() != batch.images.data.data_ptr()
        assert torch.equal(result.images.data, batch.images.data)


# ---- memory ----------------------------------------------------------------------------------------------------------


@on_linux
@pytest.mark.parametrize("pace", ["fast", "slow"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_segments_are_bounded(workers: int, pace: str) -> None:
    """By the batches that are asked for ahead, the one at hand, and the one before, which `batch` still names."""
    others = segments()  # of what other tests keep
    batches = iter(loader(60 * BATCH, workers))
    processes = [os.getpid(), *(worker.pid for worker in batches._workers)]
    most, seen = 0, set()
    for batch in batches:
        if pace == "slow":
            time.sleep(0.003)
        looks = [set().union(*map(segments, processes)) - others for _ in range(2)]
        now = looks[0] & looks[1]  # they were there at one moment, between the two looks
        most, seen = max(most, len(now)), seen | now
        assert intact(batch)
    assert workers < most <= workers * 2 + 2
    if workers <= 2:  # and they are used again
        assert len(seen) < 40


@on_linux
def test_nothing_is_left_behind() -> None:
    gc.collect()
    others = segments()  # of what other tests keep
    batches = iter(loader(workers=2, persistent_workers=True))
    batch = next(batches)
    assert segments() > others
    workers = batches._workers
    del batches, batch
    gc.collect()
    assert segments() <= others
    assert not any(worker.is_alive() for worker in workers)


@on_linux
@pytest.mark.parametrize("strategy", ["file_system", "file_descriptor"])
def test_workers_leave_no_shared_memory(strategy: str) -> None:
    """torch's message for "too many open files" recommends file_system, whose files have names."""
    left, _ = run_case("leaving", strategy, timeout=200)
    assert left == {way: [0, 0, 0] for way in ("end", "end again", "break", "raise", "kill")}


@on_linux
def test_a_segment_takes_the_memory_of_its_batch(in_a_worker: InAWorker) -> None:
    """And not that of its slack, for larger batches that may come."""
    large = torch.full((3, 1200, 1000), 7, dtype=torch.uint8)
    batch = ga.ragged_collate([(large, 0, 0)])
    address = shared.segment_of(batch.images.data)
    assert isinstance(address, shared.Address)
    assert address.size > 1.2 * large.numel()
    taken = os.fstat(address.descriptor).st_blocks * 512
    assert large.numel() <= taken < 1.05 * large.numel()


@on_linux
def test_a_segment_of_a_process_that_ended(in_a_worker: InAWorker) -> None:
    """Its numbers may be another's by now, whose file must not be touched."""
    batch = in_a_worker.batch(1)
    address = shared.segment_of(batch.images.data)
    assert isinstance(address, shared.Address)
    with open(__file__, "rb") as other:
        for wrong in (address._replace(inode=address.inode + 1), address._replace(descriptor=other.fileno())):
            with pytest.raises(RuntimeError, match=r"gpuaug: worker process \d+ ended before its batch was read"):
                shared.open_segment(wrong._replace(inode=wrong.inode + 1))
    with pytest.raises(RuntimeError, match=r"gpuaug: worker process 4194999 ended before its batch was read \("):
        shared.open_segment(address._replace(process=4194999, inode=0))


@on_linux
def test_segments_stay_mapped_while_somebody_reads() -> None:
    """Each would cost its page faults again; and nothing stays once nobody reads, whatever batch is still held."""
    gc.collect()
    others = segments()
    kept = shared.MappedSegments()
    batches = iter(loader(workers=1, persistent_workers=True))
    held = next(batches)
    kept.keep(held.images.data)
    for _ in range(4):
        batch = next(batches)
        kept.keep(batch.images.data)
        assert intact(batch)
    del batch
    assert 2 <= len(kept) <= 5
    assert len(segments() - others) >= len(kept)
    worker = batches._workers[0]
    del batches
    worker.join()
    del kept
    gc.collect()
    assert len(segments() - others) == 1
    assert intact(held)


@on_linux
@pytest.mark.skipif(torch.cuda.is_available(), reason="pins for real")
def test_segments_stay_mapped_behind_a_pinning_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer sees pinned copies alone; all the same a segment is mapped once, not for each batch in it."""
    before: set[str] = set()
    new = [0]  # segments that were mapped since the last batch was pinned

    def pin(tensor: Tensor) -> Tensor:
        nonlocal before
        if tensor.dtype == torch.uint8:
            now = segments()
            new[0] += len(now - before)
            before = now
        return tensor.clone()

    def mapped() -> int:
        kept = shared.MappedSegments()
        before.clear()
        new[0] = 0
        for batch in loader(40 * BATCH, workers=1, pin_memory=True):
            assert batch.images.data.data_ptr() not in shared._segment_at
            kept.keep(batch.images.data)
            assert intact(batch)
        return new[0]

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda _: None)
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    gc.collect()
    once = mapped()
    assert 2 <= once <= 9
    monkeypatch.delattr(ga.data.Batch, "pin_memory")  # then torch pins field by field, and nobody knows the segment
    assert mapped() >= 2 * once, "segments stay mapped by themselves: this test saw nothing"


@on_linux
def test_what_a_worker_let_go_of_is_not_kept() -> None:
    kept, seen = shared.MappedSegments(), set()
    for batch in loader(40 * BATCH, workers=2):
        kept.keep(batch.images.data)
        seen.add(batch.images.data.data_ptr())
        assert len(kept) <= 2 * 2 + 3
    assert len(seen) > 1
    plain = torch.zeros(5, dtype=torch.uint8)
    before = len(kept)
    kept.keep(plain)
    assert len(kept) == before


@on_linux
def test_a_forked_child_keeps_nothing_mapped() -> None:
    """Workers of a second loader are forked while a first one is read."""
    kept = shared.MappedSegments()
    batches = iter(loader(workers=1))
    kept.keep(next(batches).images.data)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, bytes([len(kept)]))
        os._exit(0)
    assert os.read(read, 1) == b"\0"
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    assert len(kept) == 1


@on_linux
def test_batches_that_are_never_sent_take_no_memory() -> None:
    """A collate_fn may make something else of them."""

    def total(samples: Any) -> tuple[int, int]:
        return int(ga.ragged_collate(samples).images.data.sum(dtype=torch.int64)), len(shared._segments)

    taken = [segments for _, segments in loader(30 * BATCH, workers=1, collate_fn=total)]
    assert max(taken) <= 2


def test_a_part_of_a_batch_is_sent_as_a_copy() -> None:
    def part(samples: Any) -> Any:
        batch = ga.ragged_collate(samples)
        return batch.images, batch.index

    held = list(loader(workers=2, collate_fn=part))
    for images, index in held:
        assert all(torch.equal(found, image(number)) for found, number in zip(images, index.tolist(), strict=True))


class InAWorker:
    """What happens in a worker, without one: its segments, and what its queue pickles."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def batch(self, *numbers: int) -> ga.data.Batch:
        return ga.ragged_collate([Numbers()[number] for number in numbers])


@pytest.fixture
def in_a_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[InAWorker]:
    class Info:
        num_workers = 4

    monkeypatch.setattr(shared, "get_worker_info", Info)
    monkeypatch.setattr(shared, "_segments", [])
    assert get_worker_info() is None
    yield InAWorker()
    gc.collect()


def sent(batch: ga.data.Batch) -> bytes:
    return bytes(ForkingPickler.dumps(batch))


def addresses() -> list[int]:
    return [whole.data_ptr() for whole in shared._segments]


def test_a_segment_is_used_again_when_both_sides_let_go(in_a_worker: InAWorker) -> None:
    batch = in_a_worker.batch(1, 2)
    message = sent(batch)
    (place,) = addresses()
    del batch
    received = pickle.loads(message)
    other = in_a_worker.batch(1, 3)  # the reader holds the first
    assert intact(received)
    assert intact(other)
    del received, other
    again = in_a_worker.batch(2, 1)
    assert len(addresses()) == 1
    assert addresses()[0] == again.images.data.data_ptr() - shared.HEADER
    assert place not in addresses()  # it was left to the reader


def test_a_batch_on_its_way_is_not_written_over(in_a_worker: InAWorker) -> None:
    messages = [sent(in_a_worker.batch(number, number + 1)) for number in range(6)]
    assert len(set(addresses())) == 6
    for message in messages:
        assert intact(pickle.loads(message))
    in_a_worker.batch(1)
    assert len(addresses()) == 6


def test_a_batch_that_is_sent_twice(in_a_worker: InAWorker) -> None:
    batch = in_a_worker.batch(4, 5)
    first, second = sent(batch), sent(batch)
    del batch
    received = pickle.loads(first)
    assert intact(received)
    del received
    written_over = in_a_worker.batch(5, 4)
    late = pickle.loads(second)
    assert intact(late)
    assert intact(written_over)


def test_a_batch_that_the_worker_keeps_and_sends_again(in_a_worker: InAWorker) -> None:
    batch = in_a_worker.batch(4, 5)
    for _ in range(3):
        received = pickle.loads(sent(batch))
        assert intact(received)
        del received
        assert intact(in_a_worker.batch(5, 6))
        assert intact(batch)


def test_the_smallest_segment_that_fits(in_a_worker: InAWorker) -> None:
    small, large = in_a_worker.batch(0), in_a_worker.batch(0, 1, 2, 3)
    places = addresses()
    del small, large
    assert in_a_worker.batch(0).images.data.data_ptr() == places[0] + shared.HEADER
    assert in_a_worker.batch(2, 3, 1, 0).images.data.data_ptr() == places[1] + shared.HEADER
    in_a_worker.batch(*range(12))
    assert len(addresses()) == 2
    assert places[1] in addresses()  # the smaller one went


@on_linux
@pytest.mark.parametrize("holder", ["worker", "reader"])
def test_what_a_forked_child_has_is_left_to_it(in_a_worker: InAWorker, holder: str) -> None:
    for _ in range(5):
        batch = in_a_worker.batch(1, 2)
        if holder == "reader":
            batch = pickle.loads(sent(batch))
        kept = shared._segments[-1]
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        del batch
        gc.collect()
        assert shared.FORKED in kept[:2].tolist()
    assert len(addresses()) == 1  # nor does the worker keep it


# ---- nothing is written over while anybody reads it ------------------------------------------------------------------


def alone(case: Callable[..., None], *arguments: str) -> None:
    """Run a case in a new process: a fork of this one hangs in OpenMP if it has started threads."""
    file, environment = data_cases.__file__, {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, file, case.__name__, *arguments], env=environment, timeout=600, check=False)
    assert done.returncode == 0


@on_linux
@pytest.mark.parametrize(
    ("strategy", "persistent"),
    [("file_descriptor", "persistent"), ("file_system", "once"), ("file_descriptor", "once")],
)
def test_what_is_held_is_not_written_over(strategy: str, persistent: str) -> None:
    alone(data_cases.holding, "fork", strategy, persistent)


@on_linux
@pytest.mark.parametrize(("context", "strategy"), [("spawn", "file_system"), ("forkserver", "file_descriptor")])
def test_what_is_held_is_not_written_over_by_other_workers(context: str, strategy: str) -> None:
    result, errors = run_case("holding", context, strategy, "persistent")
    assert result == "held"
    assert "resource_tracker" not in errors


@on_linux
@pytest.mark.parametrize("case", [data_cases.forking, data_cases.freeing_in_a_thread])
def test_other_readers(case: Callable[[], None]) -> None:
    alone(case)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_workers_are_forked_beside_threads(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    run_case("forking_beside_threads", str(folder(tmp_path)), timeout=600)


def test_two_epochs_are_two_serial_reads() -> None:
    batches = loader(persistent_workers=True)
    held = [*batches, *batches]
    assert [number for batch in held for number in batch.index.tolist()] == 2 * list(range(48))
    assert all(map(intact, held))
