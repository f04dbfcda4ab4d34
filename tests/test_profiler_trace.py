"""What rides in a batch: every kind of loader is traced, gives the same bits as without, and is left as it was."""

from __future__ import annotations

import copy
import gc
import itertools
import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import profiler_cases as cases
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.datapipes.iter import IterableWrapper
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.profiler import clock, instrument, stage
from gpuaug.profiler.stamps import TracedBatch, TracedDataset
from gpuaug.profiler.trace import Recorder, Trace, count, traced


def flat(batch: Any) -> list[Any]:
    """A batch's contents in one list, comparable."""
    if isinstance(batch, torch.Tensor):
        return [tuple(batch.shape), str(batch.dtype), batch.tolist()]
    if isinstance(batch, np.ndarray):
        return [batch.shape, str(batch.dtype), batch.tolist()]
    if isinstance(batch, dict):
        return [type(batch).__name__, *itertools.chain.from_iterable((k, *flat(v)) for k, v in batch.items())]
    if isinstance(batch, (list, tuple)):
        return [type(batch).__name__, *itertools.chain.from_iterable(map(flat, batch))]
    return [batch]


def epochs(loader: Any, recorded: bool) -> tuple[list[Any], Trace | None]:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    if not recorded:
        return [flat(batch) for _ in range(2) for batch in loader], None
    with Recorder(loader) as recorder:
        found = [flat(batch) for _ in range(2) for batch in recorder]
        return found, recorder.trace


@pytest.mark.parametrize("kind", cases.KINDS)
def test_batches_are_the_same_bits(kind: str) -> None:
    plain, _ = epochs(cases.make(kind), False)
    found, trace = epochs(cases.make(kind), True)
    assert found == plain
    assert trace is not None
    assert len(trace.batches) == len(plain)
    assert len(trace.starts) == len(trace.ends) == 2
    after, _ = epochs(cases.make(kind), False)  # nothing global is left changed
    assert after == plain


@pytest.mark.parametrize("kind", ["map", "persistent", "iterable", "main", "spawn", "batches"])
def test_stamps_are_in_order(kind: str) -> None:
    loader = cases.make(kind)
    with Recorder(loader) as recorder:
        for _ in recorder:
            pass
    for batch in recorder.trace.batches:
        assert 0 <= batch.fetch[0] < batch.fetch[1] <= batch.given <= batch.done
        assert batch.asked <= batch.given
        assert batch.size in (cases.BATCH, 1, 2, 3, 4)
        assert len(batch.samples) == batch.size
        assert batch.cpu >= 0
        assert batch.queue >= 0
        assert batch.cpu + batch.queue <= (batch.fetch[1] - batch.fetch[0]) * 1.05 + 1e-3
        if loader.num_workers:
            assert batch.worker >= 0
            assert batch.sent is not None
            assert batch.received is not None
            assert (
                batch.fetch[1]
                <= batch.sent[0]
                <= batch.sent[1]
                <= batch.received[0]
                <= batch.received[1]
                <= batch.given
            )
        else:
            assert batch.worker == -1
            assert batch.sent is None
    workers = {batch.worker for batch in recorder.trace.batches}
    assert workers == (set(range(loader.num_workers)) or {-1})


def test_stages_have_names_and_add_up() -> None:
    with Recorder(cases.make("map")) as recorder:
        list(recorder)
    trace = recorder.trace
    assert trace.loader.transforms == ["RandomHorizontalFlip", "ColorJitter", "ToDtype"]
    detailed = [batch for batch in trace.batches if batch.stages is not None]
    assert detailed
    for batch in detailed:
        assert set(batch.stages or ()) <= {"read", "collate", *trace.loader.transforms}
        assert {"read", "collate", "RandomHorizontalFlip"} <= set(batch.stages or ())
        assert sum(wall for wall, _, _ in (batch.stages or {}).values()) <= batch.fetch[1] - batch.fetch[0]


def test_samples_are_named_by_index() -> None:
    with Recorder(cases.make("map")) as recorder:
        list(recorder)
    seen = [index for batch in recorder.trace.batches for index, _ in batch.samples]
    assert sorted(seen) == list(range(cases.COUNT))


def test_a_trace_survives_json() -> None:
    with Recorder(cases.make("map")) as recorder:
        list(recorder)
    trace = recorder.trace
    again = Trace.fromdict(json.loads(json.dumps(trace.asdict())))
    assert json.dumps(again.asdict()) == json.dumps(trace.asdict())


def test_the_data_set_is_put_back() -> None:
    transform = v2.Compose([v2.RandomHorizontalFlip()])
    dataset = cases.Images(transform)
    loader = DataLoader(dataset, cases.BATCH, num_workers=1)
    with Recorder(loader) as recorder:
        assert type(dataset.transform.transforms[0]) is clock.Timed
        assert isinstance(dataset.transform, v2.Compose)
        next(iter(recorder))
    assert dataset.transform is transform
    assert type(transform.transforms[0]) is v2.RandomHorizontalFlip
    assert loader.dataset is dataset
    assert loader._iterator is None


def test_what_the_user_sets_meanwhile_stays() -> None:
    dataset = cases.Images(v2.Compose([v2.RandomHorizontalFlip()]))
    other = v2.RandomVerticalFlip()
    with Recorder(DataLoader(dataset, cases.BATCH)) as recorder:
        for _ in recorder:
            dataset.transform = other
            dataset.epoch = 3
    assert dataset.transform is other
    assert dataset.epoch == 3


def test_decoders_are_put_back() -> None:
    from PIL import Image, ImageFile

    before = (Image.open, ImageFile.ImageFile.load)
    with Recorder(cases.make("main")) as recorder:
        assert before[0] is not Image.open
        list(recorder)
    assert (Image.open, ImageFile.ImageFile.load) == before


def test_pillow_is_timed_before_it_has_opened_anything() -> None:
    """Its decoder's module is imported with the first file, which workers may be the first to open."""
    code = (
        "import sys, PIL.Image; assert 'PIL.ImageFile' not in sys.modules; from gpuaug.profiler import instrument; "
        "instrument.decoders(); import PIL.ImageFile; assert hasattr(PIL.ImageFile.ImageFile.load, '__wrapped__')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_of_workers_come_through() -> None:
    for workers in (0, 2):
        loader = DataLoader(cases.Failing(), 2, num_workers=workers)
        with Recorder(loader) as recorder, pytest.raises(KeyError, match="nine"):
            list(recorder)
        assert recorder.trace.batches
        with Recorder(DataLoader(cases.Images(), 2)) as again:  # what was begun is not counted for the next
            list(again)
        assert all(batch.size == 2 for batch in again.trace.batches)


def test_an_early_break_keeps_what_was_seen() -> None:
    with Recorder(cases.make("map")) as recorder:
        for number, _ in enumerate(recorder):
            if number == 3:
                break
        for number, _ in enumerate(recorder):
            if number == 1:
                break
    trace = recorder.trace
    assert [batch.epoch for batch in trace.batches] == [0, 0, 0, 0, 1, 1]
    assert trace.ends == []


def test_no_process_stays() -> None:
    with Recorder(cases.make("persistent")) as recorder:
        list(recorder)
        list(recorder)
    del recorder
    gc.collect()
    assert not multiprocessing.active_children()


def test_outside_the_block_is_an_error() -> None:
    recorder = Recorder(cases.make("main"))
    with pytest.raises(RuntimeError, match="inside"):
        next(iter(recorder))


@pytest.mark.parametrize("other", [[1, 2], 5, None, torch.zeros(3)])
def test_only_loaders(other: Any) -> None:
    with pytest.raises(ValueError, match="must be a torch DataLoader"):
        Recorder(other)


def test_a_device_loader_is_traced_through() -> None:
    dataset = ga.data.Indexed(cases_images())
    loader = DataLoader(dataset, 4, collate_fn=ga.ragged_collate, num_workers=1)
    augment = ga.Augment([ga.CenterCrop(8), ga.ToDtype(torch.float32, scale=True)], backend="torch")
    plain = [images for images, _ in ga.DeviceLoader(loader, "cpu", augment)]
    outer = ga.DeviceLoader(loader, "cpu", augment)
    with Recorder(outer) as recorder:
        found = [images for images, _ in recorder]
    assert all(map(torch.equal, found, plain))
    assert len(recorder.trace.batches) == len(plain)
    assert outer.loader is loader


class Photos(Dataset[Any]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        return torch.full((3, 10 + index % 3, 12), index, dtype=torch.uint8), index


def cases_images() -> Photos:
    return Photos()


# ---- stages ----------------------------------------------------------------------------------------------------------


def test_inner_stages_are_not_counted_twice() -> None:
    notes = clock.mine.notes = clock.Notes(True)
    try:
        with stage("outer"):
            time.sleep(0.01)
            with stage("inner"):
                time.sleep(0.03)
            with stage("inner"):
                pass
    finally:
        clock.mine.notes = None
    assert notes.stages is not None
    wall, cpu, _, calls = notes.stages["inner"]
    assert 0.029e9 < wall < 0.2e9
    assert cpu < 0.02e9
    assert calls == 2
    assert 0.009e9 < notes.stages["outer"][0] < 0.028e9


def test_a_stage_notes_nothing_where_nobody_listens() -> None:
    assert clock.mine.notes is None
    used = stage("quiet")
    with used:
        assert used.notes is None


def test_threads_have_clocks_of_their_own() -> None:
    """A stage in another thread than the sample's is not noted, and does no harm."""
    import threading

    notes = clock.mine.notes = clock.Notes(True)
    try:
        thread = threading.Thread(target=lambda: stage("other").__enter__())
        thread.start()
        thread.join()
    finally:
        clock.mine.notes = None
    assert notes.stages == {}


def test_a_timed_step_is_the_step() -> None:
    step = v2.RandomHorizontalFlip(0.25)
    timed = clock.Timed(step, "flip")
    assert isinstance(timed, v2.RandomHorizontalFlip)
    assert timed.p == 0.25
    assert repr(timed) == repr(step)
    timed.p = 0.5
    assert step.p == 0.5
    import pickle

    again = pickle.loads(pickle.dumps(timed))
    assert again.p == 0.5
    assert type(again) is clock.Timed


def test_compositions_are_taken_apart() -> None:
    names: list[str] = []
    chain = v2.Compose([v2.RandomApply([v2.ColorJitter(0.1), v2.GaussianBlur(3)]), v2.RandomChoice([v2.RandomCrop(2)])])
    patches = instrument.Patches()
    timed = instrument.steps(chain, names, patches)
    assert names == ["ColorJitter", "GaussianBlur", "RandomCrop"]
    assert timed is chain
    assert type(chain.transforms[0].transforms[0]) is clock.Timed
    assert chain.transforms[0].transforms[0].__class__ is v2.ColorJitter
    chain.transforms[0].p = 0.9  # what the user changes meanwhile stays
    chain.transforms.append(v2.Identity())
    patches.restore()
    assert [type(step) for step in chain.transforms] == [v2.RandomApply, v2.RandomChoice, v2.Identity]
    assert type(chain.transforms[0].transforms[0]) is v2.ColorJitter
    assert chain.transforms[0].p == 0.9


def test_albumentations() -> None:
    a = pytest.importorskip("albumentations")
    chain = a.Compose([a.HorizontalFlip(p=0.5), a.OneOf([a.Blur(p=1), a.RandomBrightnessContrast(p=1)], p=1)], seed=3)
    same = a.Compose([a.HorizontalFlip(p=0.5), a.OneOf([a.Blur(p=1), a.RandomBrightnessContrast(p=1)], p=1)], seed=3)
    names: list[str] = []
    patches = instrument.Patches()
    timed = instrument.steps(chain, names, patches)
    assert {"HorizontalFlip", "Blur", "RandomBrightnessContrast"} <= set(names)
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    for _ in range(8):
        assert np.array_equal(timed(image=image)["image"], same(image=image)["image"])
    clock.mine.notes = notes = clock.Notes(True)
    for _ in range(8):
        assert np.array_equal(timed(image=image)["image"], same(image=image)["image"])
    clock.mine.notes = None
    assert {"HorizontalFlip", "Blur", "RandomBrightnessContrast"} <= set(notes.stages or ())
    patches.restore()
    assert "apply_in_invocation" not in vars(chain.transforms[0])
    assert np.array_equal(chain(image=image)["image"], same(image=image)["image"])


# ---- loaders that are not as others ----------------------------------------------------------------------------------


class Twice:
    """A wrapper that changes batches."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Any:
        for batch in self.loader:
            yield [2 * batch[0], *batch[1:]]


def test_every_wrapper_does_its_work() -> None:
    plain = [batch[0].tolist() for batch in Twice(Twice(cases.make("numbers")))]
    with Recorder(Twice(Twice(cases.make("numbers")))) as recorder:
        assert [batch[0].tolist() for batch in recorder] == plain
    assert len(recorder.trace.batches) == len(plain)


def test_an_epoch_left_early_leaves_nothing_to_the_next() -> None:
    class Ahead(Twice):
        def __iter__(self) -> Any:
            yield from list(self.loader)

    with Recorder(Ahead(cases.make("numbers"))) as recorder:
        for _ in recorder:
            break
        list(recorder)
    first = [index for index, _ in recorder.trace.batches[1].samples]
    assert first == [index for index, _ in recorder.trace.batches[0].samples]


def test_workers_start_where_the_wrapper_starts_them() -> None:
    """Forked from a thread that works ahead, they would end with an error."""

    class Threaded(Twice):
        def __iter__(self) -> Any:
            batches = iter(self.loader)
            with ThreadPoolExecutor(1) as pool:
                while (batch := pool.submit(next, batches, None).result()) is not None:
                    yield batch

    with Recorder(Threaded(cases.make("numbers"))) as recorder:
        for _ in range(3):
            for number, _ in enumerate(recorder):
                processes = multiprocessing.active_children()
                if number == 3:
                    break
            gc.collect()
            for process in processes:
                process.join(10)
                assert process.exitcode == 0


class OwnLoop(DataLoader[Any]):
    def __iter__(self) -> Any:
        for images, *rest in super().__iter__():
            yield [2 * images, *rest]


class Slotted:
    __slots__ = ("loader",)

    def __init__(self, loader: Any) -> None:
        self.loader = loader


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        (lambda: OwnLoop(cases.Images(), 4), "OwnLoop has an __iter__ of its own"),
        (lambda: DataLoader(IterableWrapper(range(8)).shuffle(), 4), "got a data pipe"),
        (lambda: Slotted(cases.make("map")), "Slotted has no __dict__"),
    ],
)
def test_what_cannot_be_traced_is_said_and_left_as_it_is(loader: Any, said: str) -> None:
    made = loader()
    with pytest.raises(ValueError, match=said), Recorder(made):
        pass
    if isinstance(made, Slotted):
        assert not any(type(step) is clock.Timed for step in made.loader.dataset.transform.transforms)


def test_a_loader_has_one_profile_at_a_time() -> None:
    loader = cases.make("numbers")
    with ga.profile(loader) as outer:
        with pytest.raises(ValueError, match="profiled already"):
            ga.profile(loader)
        with pytest.raises(RuntimeError, match="is open already"), outer:
            pass
        twin = copy.copy(loader)
        assert len(list(loader)) == len(list(twin))
    assert len(outer.trace.batches) == len(loader)
    assert type(loader) is DataLoader


def test_a_loop_in_a_step_has_notes_of_its_own() -> None:
    for kind in ("main", "map"):
        with Recorder(cases.make(kind)) as outer:
            for _ in outer:
                with Recorder(cases.make(kind)) as inner, stage("validation"):
                    list(inner)
        for trace in (outer.trace, inner.trace):
            assert all(0 < batch.fetch[0] < batch.fetch[1] < 600 for batch in trace.batches)
            assert {batch.worker >= 0 for batch in trace.batches} == {kind == "map"}
        assert all("validation" in batch.marks for batch in outer.trace.batches)


def test_the_batch_under_way_is_not_in_the_trace() -> None:
    with Recorder(cases.make("map")) as recorder:
        for number, _ in enumerate(recorder):
            assert len(recorder.trace.batches) == number


def test_steps_are_looked_at_now_and_then() -> None:
    with Recorder(DataLoader(cases.Numbers(120), 2)) as recorder:
        for _ in recorder:
            with stage("mark"):
                pass
    looked = [number for number, batch in enumerate(recorder.trace.batches, 1) if batch.step is not None]
    assert looked == [*range(1, 17), 21, 28, 35, 42, 49, 56]
    assert looked == [number for number, batch in enumerate(recorder.trace.batches, 1) if batch.marks]


def test_indices_of_any_integer_are_named() -> None:
    sampler: Any = [np.int64(3), np.int32(1)]
    with Recorder(DataLoader(cases.Numbers(8), 2, sampler=sampler)) as recorder:
        list(recorder)
    assert [index for index, _ in recorder.trace.batches[0].samples] == [3, 1]


def test_lists_of_indices_are_counted() -> None:
    sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(cases.Numbers(8)), 4, False)
    with Recorder(DataLoader(cases.Lists(8), batch_size=None, sampler=sampler)) as recorder:
        list(recorder)
    assert [batch.size for batch in recorder.trace.batches] == [4, 4]


def test_a_data_set_may_hold_a_decoder() -> None:
    """It is pickled by its name, which must mean the function itself in this process."""
    with Recorder(DataLoader(cases.Holder(np.load), 2, num_workers=1, multiprocessing_context="spawn")) as recorder:
        assert len(list(recorder)) == 2


def test_no_descriptor_stays() -> None:
    found = []
    for _ in range(2):
        for _ in range(10):
            thread = threading.Thread(target=clock.clocks)
            thread.start()
            thread.join()
        found.append(len(os.listdir("/proc/self/fd")))
    assert found[0] == found[1]


# ---- detail and overhead ---------------------------------------------------------------------------------------------


def test_detail_is_rationed() -> None:
    """Thousands of cheap stages: so many batches are timed that the clocks cost half a percent, and the first two."""

    class Busy(Dataset[Any]):
        def __len__(self) -> int:
            return 400

        def __getitem__(self, index: int) -> Any:
            for _ in range(20):
                with stage("tiny"):
                    pass
            return index

    with Recorder(DataLoader(Busy(), 4)) as recorder:
        list(recorder)
    detailed = [batch.stages is not None for batch in recorder.trace.batches]
    assert detailed[:2] == [True, True]
    assert sum(detailed) < 10

    class Slow(Busy):
        def __getitem__(self, index: int) -> Any:
            with stage("long"):
                time.sleep(0.004)
            return index

    with Recorder(DataLoader(Slow(), 4)) as recorder:
        for number, _ in enumerate(recorder):
            if number == 12:
                break
    assert sum(batch.stages is not None for batch in recorder.trace.batches) >= 6


def test_notes_are_small() -> None:
    import pickle

    with Recorder(DataLoader(cases.Images(), 64, num_workers=0)) as recorder:
        list(recorder)
    notes = clock.Notes(True)
    notes.samples = [(k, 1_000_000) for k in range(64)]
    assert len(pickle.dumps(TracedBatch(None, notes))) < 2000


def test_contents_are_counted() -> None:
    images = torch.zeros(2, 3, 4, 4)
    assert count(images) == (1, 384, 0, 384)
    assert count([images, torch.zeros(5, dtype=torch.int64)]) == (2, 424, 0, 384)
    assert count({"a": np.zeros((2, 2, 2), np.float32), "b": b"123"}) == (0, 0, 35, 32)
    assert count([]) == (0, 0, 0, 0)
    assert count(ga.Ragged.from_images([torch.zeros(3, 2, 2, dtype=torch.uint8)]))[:2] == (1, 12)


def test_the_wrapper_stands_for_the_data_set() -> None:
    dataset = cases.Images()
    wrapped = TracedDataset(dataset)
    assert len(wrapped) == len(dataset)
    assert wrapped.count == dataset.count
    wrapped.extra = 5
    assert dataset.extra == 5
    with pytest.raises(AttributeError):
        _ = wrapped.nothing
    twin = traced(DataLoader(dataset, 2))
    assert twin.batch_size == 2


def test_the_engine_is_not_imported() -> None:
    code = (
        "import sys, gpuaug.profiler; bad = [m for m in sys.modules if m.startswith('gpuaug.') "
        "and not m.startswith('gpuaug.profiler')]; assert not bad, bad; "
        "assert 'torchvision' not in sys.modules and 'numba' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- a device --------------------------------------------------------------------------------------------------------


class FakeEvent:
    """A CUDA event whose clock is a list of milliseconds; it notes who waits for it."""

    clock = iter(range(0, 100_000, 10))
    waits: ClassVar[list[str]] = []

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = next(FakeEvent.clock)

    def synchronize(self) -> None:
        FakeEvent.waits.append("report")

    def elapsed_time(self, other: FakeEvent) -> float:
        return other.at - self.at


def test_a_step_lies_between_two_events_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is here: the events are ours, and a synchronisation before the report would be seen."""

    def forbidden() -> None:
        raise AssertionError("the step was synchronised")

    loader = cases.make("main")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", forbidden)
    FakeEvent.waits.clear()
    with Recorder(loader) as recorder:
        for _ in recorder:
            assert FakeEvent.waits == []
        seen = recorder.trace
    assert FakeEvent.waits
    assert [batch.device for batch in seen.batches][:3] == [(0.01, 0.0), (0.01, 0.01), (0.01, 0.01)]
