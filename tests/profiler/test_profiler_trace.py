"""What rides in a batch: every kind of loader is traced, gives the same bits as without, and is left as it was."""

from __future__ import annotations

import gc
import itertools
import json
import multiprocessing
import random
import subprocess
import sys
import time
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.profiler import stage
from gpuaug.profiler.measure import clock
from gpuaug.profiler.measure.loaders import traced
from gpuaug.profiler.measure.recorder import Recorder, count
from gpuaug.profiler.measure.tracing import TracedBatch, TracedDataset
from gpuaug.profiler.model.trace import Trace
from tests.support import profiler_cases as cases


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
        "import sys, PIL.Image; assert 'PIL.ImageFile' not in sys.modules; "
        "from gpuaug.profiler.measure import instrument; "
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
    dataset = ga.data.Indexed(Photos())
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
                time.sleep(0.01)
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
