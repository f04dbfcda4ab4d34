"""Several loaders at once, and loops that are written in another way: the same batches, names and memory."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Sampler, Subset
from torch.utils.data._utils.collate import default_collate
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.profiler import unchanged
from gpuaug.profiler.measure import clock
from gpuaug.profiler.measure.contents import samples_in
from gpuaug.profiler.measure.epochs import length_of
from gpuaug.profiler.measure.passes import batches_of
from gpuaug.profiler.measure.recorder import Recorder, count
from tests.support import profiler_cases as cases


@pytest.mark.parametrize("first", [0, 1])
def test_loaders_of_one_data_set_both_name_its_transforms(first: int) -> None:
    """As of random_split: training and validation have the same data set inside."""
    dataset = cases.Images(v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.1)]))
    loaders = [DataLoader(Subset(dataset, range(24)), 4) for _ in range(2)]
    recorders = [Recorder(loader) for loader in loaders]
    for recorder in recorders:
        recorder.__enter__()
        list(recorder)
    for recorder in (recorders[first], recorders[1 - first]):
        recorder.__exit__()
    for recorder in recorders:
        assert recorder.trace.loader.transforms == ["RandomHorizontalFlip", "ColorJitter"]
    assert not any(type(step) is clock.Timed for step in dataset.transform.transforms)


def paired() -> list[Any]:
    """The samples of two shuffled loaders, and numbers that are drawn between an iterator and its first batch."""
    torch.manual_seed(1)
    loaders = [DataLoader(cases.Numbers(), 4, shuffle=True) for _ in range(2)]
    first = iter(loaders[0])
    found: list[Any] = [torch.rand(1).item(), next(first)[0].tolist()]
    del first
    for one, other in zip(*loaders, strict=True):
        found += [one[0].tolist(), other[0].tolist()]
    return found


def test_iterators_begin_when_they_are_made() -> None:
    """`zip(loader, other)` makes both iterators, and each draws a seed, before the first batch is there."""
    plain = paired()
    watch = unchanged.Watch()
    watch.install()
    try:
        assert paired() == plain
    finally:
        watch.remove()
    torch.manual_seed(1)
    loader = DataLoader(cases.Numbers(), 4, shuffle=True)
    with ga.profile(loader):
        first = iter(loader)
        assert [torch.rand(1).item(), next(first)[0].tolist()] == plain[:2]


def test_a_report_that_cannot_be_written_is_printed(tmp_path: Path) -> None:
    watch = unchanged.Watch()
    watch.json = str(tmp_path / "no" / "report.json")
    watch.install()
    try:
        list(DataLoader(cases.Numbers(), 2))
        found = watch.text()
    finally:
        watch.remove()
    assert "Verdict" in found
    assert found.splitlines()[-1].endswith("report.json cannot be written: No such file or directory.")


class Box:
    """Knows the others of its batch, as objects of detection and graphs do."""

    def __init__(self, others: list[Any]) -> None:
        self.pixels, self.others = torch.zeros(2), others


def test_objects_that_know_one_another_are_counted_once() -> None:
    """Each of 64 leads to 64, so that looking at all ways would not end."""
    boxes: list[Any] = []
    boxes += [Box(boxes) for _ in range(64)]
    assert count(boxes)[:2] == (64, 64 * 8)
    assert samples_in({"boxes": tuple(boxes), "numbers": [1] * 64}) >= 1
    for box in boxes:
        box.others = boxes[boxes.index(box) + 1 :][:1]  # a chain, longer than is followed
    assert count(boxes)[:2] == (64, 64 * 8)


def test_the_peak_is_that_of_this_process() -> None:
    """Linux gives a new process the peak of the one that started it, such as a notebook's."""
    code = "from gpuaug.profiler.measure.memory import _peak, resident; print(_peak() - resident())"
    ballast = bytearray(800_000_000)
    ballast[::4096] = bytes(len(ballast[::4096]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400_000_000


def grouped(samples: list[Any]) -> dict[str, Any]:
    """A collate function as people write it."""
    found: dict[str, Any] = defaultdict(list)
    for number, _ in samples:
        found["numbers"].append(number)
    return found


def test_batches_may_be_mappings_of_any_kind() -> None:
    found = batches_of(DataLoader(cases.Numbers(), 4, collate_fn=grouped))
    assert type(found[0]) is defaultdict
    assert torch.equal(found[1]["numbers"][3], torch.full((2,), 7))


class Shy(cases.Numbers):
    """Holds something that may not be looked at, such as a proxy without its object."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy = Unbound()


class Unbound:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("working outside of the application")


def test_the_job_goes_on_if_its_data_set_cannot_be_looked_at() -> None:
    watch = unchanged.Watch()
    watch.install()
    try:
        with pytest.warns(UserWarning, match=r"outside of the application.* Its loops are not in the report"):
            assert len(list(DataLoader(Shy(), 4))) == 12
    finally:
        watch.remove()


def test_a_report_as_text_needs_rich_before_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ModuleNotFoundError, match="needs rich"):
        unchanged.start("1")
    unchanged.start("0")


class Fixed:
    """A wrapper whose class cannot be changed."""

    __slots__ = ("__dict__",)

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Any:
        return iter(self.loader)


def test_a_warning_that_is_an_error_leaves_torch_as_it_was() -> None:
    before = torch.autograd.backward
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="cannot be traced"), ga.profile(Fixed(cases.make("numbers"))):
            pass
    assert torch.autograd.backward is before


class Endless(Sampler[int]):
    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Any:
        return iter(range(40))


def test_a_sampler_may_refuse_its_length() -> None:
    loader = DataLoader(cases.Numbers(), 4, sampler=Endless())
    with ga.profile(loader) as profile:
        assert sum(1 for _ in loader) == 10
    assert profile.report.trace.loader.length is None
    assert length_of(loader) is None


class Noisy(cases.Numbers):
    def __init__(self) -> None:
        super().__init__()
        self.own = random.Random(0)  # each worker has a copy of it

    def __getitem__(self, index: Any) -> Any:
        return torch.rand(2), np.random.rand(), random.random(), self.own.random()


def stacked(samples: list[Any]) -> Any:
    return default_collate(samples)  # type: ignore[no-untyped-call]


def test_a_report_draws_no_number_of_the_job() -> None:
    """It fetches samples to see what the collate function does: the epochs after it must be as without it."""
    loader = DataLoader(Noisy(), 4, num_workers=2, collate_fn=stacked)
    with ga.profile(loader) as profile:
        list(loader)
    before = torch.rand(1, generator=torch.Generator().set_state(torch.get_rng_state())), random.getstate()
    numbers = pickle.dumps(np.random.get_state())
    assert "worker-seeding" in {one.id for one in profile.report.advice}
    assert torch.rand(1) == before[0]
    assert random.getstate() == before[1]
    assert pickle.dumps(np.random.get_state()) == numbers
