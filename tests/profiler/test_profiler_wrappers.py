"""Loaders around a DataLoader, batches whose size the loader does not say, and epochs that are too short to measure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

import gpuaug as ga
from gpuaug.profiler import measure
from gpuaug.profiler.measure.contents import samples_in
from gpuaug.profiler.measure.epochs import repeated
from gpuaug.profiler.measure.loaders import data_loader
from gpuaug.profiler.measure.passes import starts
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.measure.wrappers import training_loader
from gpuaug.profiler.runs import epoch_seconds
from tests.support import profiler_cases as cases

IMAGES, IMAGE = torch.zeros(8, 3, 4, 4), torch.zeros(3, 4, 4)
RAGGED = ga.Ragged.from_images([torch.zeros(3, 4, 5, dtype=torch.uint8) for _ in range(8)])


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        ([IMAGES, torch.zeros(8)], 8),
        ((IMAGES, torch.zeros(8)), 8),
        ({"image": IMAGES, "label": np.zeros(8), "path": ["x"] * 8}, 8),
        ({"image": IMAGES, "label": np.zeros(8), "shard": "a.tar"}, 8),
        ({"image": IMAGES, "label": np.zeros(8), "step": 5}, 8),
        (IMAGES, 8),
        ((RAGGED, torch.zeros(8)), 8),
        ({"tokens": torch.zeros(8, 77, dtype=torch.int64), "mask": torch.zeros(8, 77)}, 8),
        ([(IMAGE, 1)] * 8, 8),  # not collated
        ([IMAGE] * 8, 8),
        ([{"image": IMAGE, "label": 1}] * 8, 8),
        ((IMAGE, 1), 1),
        ((IMAGE, torch.tensor(1)), 1),
        ({"image": IMAGE, "mask": IMAGE[:1], "label": 1}, 1),
        (IMAGE, 1),
        ((IMAGE, IMAGE), 1),  # two views
        (torch.tensor(5), 1),
        ("x", 1),
        ([], 1),
        ((IMAGES, torch.zeros(7)), 1),  # nothing in common
    ],
)
def test_the_samples_of_a_batch_are_counted(batch: Any, samples: int) -> None:
    assert samples_in(batch) == samples


class Batched(IterableDataset[Any]):
    """Gives whole batches, as WebDataset's `batched` does."""

    def __init__(self, batches: int = 6, size: int = 8) -> None:
        self.batches, self.size = batches, size

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.batches):
            yield torch.full((self.size, 3, 4, 4), number), torch.zeros(self.size)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_that_gives_batches_is_counted_in_samples(workers: int) -> None:
    with Recorder(DataLoader(Batched(), batch_size=None, num_workers=workers)) as recorder:
        list(recorder)
    assert [batch.size for batch in recorder.trace.batches] == [8] * 6
    assert all(batch.together for batch in recorder.trace.batches)  # the time of one sample is not known


def test_speed_counts_samples() -> None:
    loader = DataLoader(Batched(40, 30), batch_size=None)
    with ga.profile(loader) as profile:
        for _ in loader:
            time.sleep(0.005)
    assert profile.report.samples == 30
    assert 30 / 0.05 < profile.report.images_per_second < 30 / 0.005
    assert profile.report.slowest() == []


# ---- WebDataset ------------------------------------------------------------------------------------------------------


def test_a_webloader_gives_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    wds = pytest.importorskip("webdataset")
    loader = wds.WebLoader(Batched(), batch_size=None, num_workers=1).map(lambda batch: (batch[0] + 1, *batch[1:]))
    plain = [images.tolist() for images, _ in loader]
    assert isinstance(data_loader(loader), DataLoader)
    with Recorder(loader) as recorder:
        assert [images.tolist() for images, _ in recorder] == plain
    assert [batch.size for batch in recorder.trace.batches] == [8] * 6
    assert [images.tolist() for images, _ in loader] == plain


def test_a_webloader_that_changes_the_batches_is_refused() -> None:
    wds = pytest.importorskip("webdataset")
    again = wds.WebLoader(Batched(), batch_size=None).unbatched().shuffle(10).batched(8)
    with Recorder(again) as recorder:
        assert len(list(recorder)) == 6
    other = wds.WebLoader(Batched(), batch_size=None).unbatched().batched(12)
    said = r"makes batches of 12 from batches of 8. Batch in the workers: WebLoader\(dataset.batched\(12\)"
    with Recorder(other) as recorder, pytest.raises(ValueError, match=said):
        list(recorder)


# ---- what is no loader -----------------------------------------------------------------------------------------------


class Learner:
    dls = None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (cases.Numbers(), r"got Numbers. Pass a DataLoader of this data set"),
        ({"a": cases.make("map")}, "got dict. Profile each loader by itself"),
        ([cases.make("map")], "got list. Profile each loader by itself"),
        (iter([1]), "got list_iterator. Pass the loader from which this iterator was made"),
        (Learner(), "got Learner. Pass its dls.train"),
        (5, "got int. Pass the DataLoader"),
    ],
)
def test_what_to_pass_instead_is_said(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        data_loader(given)


class Module:
    """Has the hooks of a LightningDataModule."""

    def __init__(self, *loaders: Any) -> None:
        self.loaders, self.called = loaders, list[str]()

    def prepare_data(self) -> None:
        self.called.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.called.append(f"setup {stage}")

    def train_dataloader(self) -> Any:
        self.called.append("train_dataloader")
        return self.loaders[0] if len(self.loaders) == 1 else list(self.loaders)


def test_a_module_makes_its_loader() -> None:
    loader = cases.make("numbers")
    module = Module(loader)
    assert training_loader(module) is loader
    assert module.called == ["prepare_data", "setup fit", "train_dataloader"]
    assert training_loader(loader) is loader
    with pytest.raises(ValueError, match=r"got Module with 2. Profile each of them by itself"):
        training_loader(Module(loader, loader))
    with pytest.raises(ValueError, match="pass the loader that you iterate over"):
        ga.profile(module)


def test_a_loop_over_another_loader_is_said() -> None:
    loader = cases.make("numbers")
    with ga.profile(loader) as profile:
        list(cases.make("numbers"))  # as accelerator.prepare makes one
    with pytest.raises(ValueError, match="pass the loader that you iterate over"):
        _ = profile.report


# ---- short epochs ----------------------------------------------------------------------------------------------------


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("kind", ["map", "batch_size=None", "iterable"])
def test_a_loader_that_does_not_end_gives_the_epochs_one_after_the_other(kind: str) -> None:
    def make() -> DataLoader[Any]:
        if kind == "iterable":
            return DataLoader(cases.Stream(8), 4)
        data = cases.Numbers(8)
        if kind == "map":
            return DataLoader(data, 4, sampler=RandomSampler(data, generator=generator()))
        return DataLoader(data, batch_size=None, sampler=RandomSampler(data, generator=generator()))

    plain, other = make(), make()
    length = 2 if kind != "batch_size=None" else 8
    epochs = [batch[0].tolist() for _ in range(3) for batch in plain]
    found = [batch[0].tolist() for _, batch in zip(range(3 * length), repeated(other, length), strict=False)]
    assert found == epochs
    assert kind == "iterable" or len(other) == length


@pytest.mark.parametrize("batches", [1, 3])
def test_short_epochs_have_a_verdict(batches: int) -> None:
    data = cases.Images(cases.TRANSFORM, 4 * batches)
    loader = DataLoader(data, 4, shuffle=True, num_workers=1)
    report = measure(loader, cases.step, budget=7.0, proof=False)
    assert report.verdict.text
    assert report.trace.loader.length == batches
    assert len(report.trace.batches) > 6
    assert f"each has {batches} batch" in report.skipped["whole epochs"]
    why = report.skipped["whole epochs"]
    assert "a whole epoch takes" in why or "did not fit the budget" in why  # other programs may have taken the time
    assert {stage.name for stage in report.stages} >= {"RandomHorizontalFlip", "collate", "send"}
    assert loader.batch_sampler is not None
    assert len(loader) == batches


def test_the_starts_of_epochs_are_timed_by_themselves() -> None:
    loader = DataLoader(cases.Images(cases.TRANSFORM, 4), 4, num_workers=1)
    trace = starts(loader, cases.step, 0.0, time.perf_counter_ns())
    assert len(trace.starts) == len(trace.ends) == len(trace.batches) == 2
    assert epoch_seconds(trace) > max(batch.done - batch.given for batch in trace.batches)
