"""Loaders that are not as others: wrappers, loops of their own, threads, early ends; what cannot be traced is said."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import threading
import time
from collections import UserDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torch.utils.data.datapipes.iter import IterableWrapper

import gpuaug as ga
from gpuaug.profiler import stage
from gpuaug.profiler.measure import clock
from gpuaug.profiler.measure.names import files_of
from gpuaug.profiler.measure.recorder import Recorder, count
from tests.support import profiler_cases as cases


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
        (lambda: OwnLoop(cases.Images(), 4), "OwnLoop, which has a custom __iter__"),
        (lambda: DataLoader(IterableWrapper(range(8)).shuffle(), 4), "got a data pipe"),
        (lambda: Slotted(cases.make("map")), "Slotted.* has no __dict__"),
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


def test_samples_of_a_subset_are_timed_one_by_one(tmp_path: Path) -> None:
    """Though a Subset is asked for whole batches."""
    data = Subset(Subset(Slow(8), range(8)), [6, 5, 4, 3])
    with Recorder(DataLoader(data, 4)) as recorder:
        assert [batch.tolist() for batch in recorder] == [[6, 5, 4, 3]]
    (batch,) = recorder.trace.batches
    assert not batch.together
    took = dict(batch.samples)
    assert took[1] > 0.02 > max(took[0], took[2], took[3]), took


def test_a_data_set_that_fetches_whole_batches_has_no_slowest_sample() -> None:
    loader = DataLoader(cases.Batches(count=64), 4, num_workers=1)
    with ga.profile(loader) as profile:
        list(loader)
    assert all(batch.together for batch in profile.trace.batches)
    assert profile.report.slowest() == []
    assert "whole batches" in profile.report.skipped["slowest samples"]
    assert "Slowest samples:" not in str(profile)


def test_slow_samples_are_named_by_their_files() -> None:
    images = Listed([f"photos/{number}.jpg" for number in range(40)])
    joined = ConcatDataset([Listed(["a.jpg"] * 10), images])
    cases_: list[tuple[Any, int]] = [(images, 12), (Subset(images, range(10, 40)), 22), (joined, 2)]
    for data, number in cases_:
        loader = DataLoader(data, 2)
        with ga.profile(loader) as profile:
            list(loader)
        assert files_of(data, [12, None, "x"]) == {"12": f"photos/{number}.jpg"}
        index = profile.report.slowest(1)[0][0]
        assert profile.report.files[str(index)].endswith(".jpg")
        assert profile.report.files[str(index)].rpartition("/")[2] in str(profile)
    assert files_of(cases.Numbers(8), [3]) == {}
    assert files_of(TensorDataset(torch.zeros(3)), [1]) == {}


class Narrow:
    """A batch without a `__dict__`."""

    __slots__ = ("__hidden", "images", "labels", "unset")

    def __init__(self) -> None:
        self.images, self.labels = torch.zeros(2, 3, 4, 4), np.zeros(2, np.int64)
        self.__hidden = b"12345"


class Derived(Narrow):
    __slots__ = "more"

    def __init__(self) -> None:
        super().__init__()
        self.more = {"x": torch.zeros(2, dtype=torch.uint8)}


def test_what_a_batch_holds_is_counted_in_slots_and_mappings() -> None:
    assert count(Narrow()) == (1, 384, 21, 384)
    assert count(Derived()) == (2, 386, 21, 384)
    assert count(UserDict(a=torch.zeros(2), b=[torch.zeros(2)])) == (2, 16, 0, 0)
    circle: list[Any] = [torch.zeros(1)]
    circle.append(circle)
    assert count(circle)[1] > 0


class Slow(cases.Numbers):
    """Its sample 5 takes 25 ms."""

    def __getitem__(self, index: Any) -> Any:
        if index == 5:
            time.sleep(0.025)
        return torch.tensor(index)


class Listed(cases.Numbers):
    """Lists its files as torchvision does."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(len(paths))
        self.samples = [(path, 0) for path in paths]


def test_a_data_set_may_hold_a_decoder() -> None:
    """It is pickled by its name, which must mean the function itself in this process."""
    with Recorder(DataLoader(cases.Holder(np.load), 2, num_workers=1, multiprocessing_context="spawn")) as recorder:
        assert len(list(recorder)) == 2


def test_no_descriptor_stays() -> None:
    gc.collect()  # of earlier tests
    found = []
    for _ in range(2):
        for _ in range(10):
            thread = threading.Thread(target=clock.clocks)
            thread.start()
            thread.join()
        found.append(len(os.listdir("/proc/self/fd")))
    assert found[0] >= found[1]
