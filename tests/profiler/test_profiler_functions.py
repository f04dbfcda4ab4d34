"""The functions inside a stage: what a look at a stack says, their parts of a row, and a real loader's."""

from __future__ import annotations

import pickle
import random
import signal
import string
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from gpuaug.profiler import runs, session
from gpuaug.profiler.measure import passes, tracing
from gpuaug.profiler.measure.clock import Notes
from gpuaug.profiler.measure.functions import EVERY, Sampler, described, is_own, merged
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.model.costs import Costs
from gpuaug.profiler.model.functions import ENOUGH, Function, functions_of
from gpuaug.profiler.model.rows import Row
from gpuaug.profiler.report import Report, load
from gpuaug.profiler.show.html import to_html
from gpuaug.profiler.show.terminal import to_text
from tests.support import profiler_cases as cases

HERE = Path(__file__).name


def here() -> FrameType:
    return sys._getframe(1)


# ---- one look --------------------------------------------------------------------------------------------------------


def test_own_code_is_told_by_line() -> None:
    line, found = here().f_lineno, described(here())
    assert found is not None
    name, file, told, caller = found
    assert (name, Path(file).name, told, caller) == ("test_own_code_is_told_by_line", HERE, line, "")


class Looking(dict[str, int]):
    """A mapping that looks at who asks it."""

    found: Any = None

    def __getitem__(self, name: str) -> int:
        self.found = described(sys._getframe(1))
        return super().__getitem__(name)


def test_a_library_is_told_by_function_and_the_line_that_called_it() -> None:
    looking = Looking(a=1)
    line = here().f_lineno + 1
    string.Template("$a").safe_substitute(looking)
    name, file, first, caller = looking.found
    assert name.rpartition(".")[2] == "convert"
    assert (Path(file).name, caller.rpartition("/")[2]) == ("string.py", f"{HERE}:{line}")
    assert first != line
    assert is_own(__file__)
    for other in (string.__file__, np.__file__, tracing.__file__, "<frozen importlib._bootstrap>"):
        assert not is_own(other)


def test_the_parts_of_a_row() -> None:
    """Looks of 6 and 2 ms on a core: three quarters and one quarter of a row of 20 ms."""
    copy, check = ("Image.copy", "/lib/Image.py", 10, "/my/data.py:41"), ("check", "/my/data.py", 50, "")
    read = ("load", "/my/data.py", 7, "")
    found = {
        ("getitem", *check): (ENOUGH, 2_000_000),
        ("getitem", *copy): (ENOUGH, 6_000_000),
        ("read", *read): (ENOUGH, 1),
    }
    row = Row("getitem", "worker", False, np.full(4, 0.020), np.zeros(4))
    storage = Row("storage", "worker", False, np.full(4, 0.001), np.full(4, 0.009))
    assert functions_of(found, [storage, row]) == [
        Function("storage", *read, 0.001, 1.0),  # its waits are on no core
        Function("getitem", *copy, 0.015, 0.75),
        Function("getitem", *check, 0.005, 0.25),
    ]
    assert functions_of({("getitem", *copy): (ENOUGH - 1, 6_000_000)}, [row]) == []
    assert functions_of({("model", *copy): (ENOUGH, 1)}, [Row("model", "step", False, np.ones(4), np.zeros(4))]) == []


def test_what_was_seen_adds_up() -> None:
    key = ("getitem", "f", "a.py", 1, "")
    assert merged([{key: (1, 2)}, None, {key: (10, 20)}]) == {key: (11, 22)}


# ---- a real loader ---------------------------------------------------------------------------------------------------


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Own(Dataset[Any]):
    """Its own code takes 3 ms a sample, of which `check_type` takes two thirds; then it waits."""

    def __init__(self) -> None:
        self.image = PIL.Image.new("RGB", (700, 700))

    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> Any:
        self.check_type()
        burn(0.001)
        return torch.zeros(2)

    def check_type(self) -> None:
        end = time.thread_time() + 0.002
        while time.thread_time() < end:
            pass


class Copying(Own):
    def __getitem__(self, index: int) -> Any:
        self.image.copy()
        return torch.zeros(2)


def seen(loader: DataLoader[Any]) -> list[Function]:
    """The functions of a loader, as `measure` finds them."""
    with Recorder(loader) as recorder:
        for _ in zip(range(12), recorder, strict=False):
            pass
    rows = Costs(recorder.trace, 2.0).rows
    for seconds in (0.6, 3.0, 12.0):  # others may use the cores
        _, found = passes.sampled("", loader, seconds, 4)
        if told := functions_of(found, rows):
            return told
    pytest.fail("too few looks")


@pytest.mark.parametrize("workers", [0, 1])
def test_slow_functions_have_names(workers: int) -> None:
    found = {one.name.rpartition(".")[2]: one for one in seen(DataLoader(Own(), 4, num_workers=workers))}
    slow, quick = found["check_type"], found["burn"]
    assert slow.row == quick.row == "getitem"
    assert Path(slow.file).name == HERE
    assert slow.share > 1.3 * sum(one.share for name, one in found.items() if name == "burn") > 0.1
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL


def test_a_librarys_function_is_told_with_the_line_that_calls_it() -> None:
    found = seen(DataLoader(Copying(), 4, num_workers=1))
    first = max((one for one in found if one.row == "getitem"), key=lambda one: one.share)
    assert first.name.rpartition(".")[2] == "copy"
    assert Path(first.file).parts[-2:] == ("PIL", "Image.py")
    assert Path(first.caller.rpartition(":")[0]).name == HERE


def alike() -> None:
    """Seed whatever a data set may draw from."""
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)


def test_looks_change_no_batch() -> None:
    for kind in ("map", "iterable", "batches", "main"):
        alike()
        plain = [str(batch) for batch in cases.make(kind)]
        alike()
        with Recorder(cases.make(kind), sampling=True) as recorder:
            assert [str(batch) for batch in recorder] == plain


def test_a_spawned_worker_looks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing.reset(sampling=True)
    sent = pickle.dumps(tracing.TracedDataset(cases.Numbers(4)))
    tracing.reset()
    assert not tracing._sampling
    monkeypatch.setattr(tracing.instrument, "decoders", lambda: None)  # they would stay timed in this process
    pickle.loads(sent)
    assert tracing._sampling
    tracing.reset()


def test_a_look_costs_little() -> None:
    """Less than a twentieth of the time between two looks, in the median."""
    sampler = Sampler()
    notes = Notes(True, True)
    sampler.begin(notes)
    took = []
    for _ in range(50):
        start = time.thread_time()
        sampler._look(0, here())
        took.append(time.thread_time() - start)
    sampler.stop()
    assert notes.functions
    assert sorted(took)[25] < EVERY / 20


def test_another_handler_stays() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGPROF, lambda number, frame: seen.append(number))
    try:
        _, found = passes.sampled("", DataLoader(Own(), 4), 0.3, 4)
        assert found == {}
        signal.raise_signal(signal.SIGPROF)
        assert seen == [signal.SIGPROF]
    finally:
        signal.signal(signal.SIGPROF, before)


class Failing(Own):
    def __getitem__(self, index: int) -> Any:
        burn(0.02)
        raise KeyError(index)


def wrong(samples: list[Any]) -> Any:
    burn(0.02)
    raise KeyError("collate")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("place", ["sample", "collate"])
def test_no_timer_runs_after_an_error(place: str, workers: int) -> None:
    loader = DataLoader(Failing(), 4, num_workers=workers) if place == "sample" else None
    with (
        Recorder(loader or DataLoader(Own(), 4, num_workers=workers, collate_fn=wrong), sampling=True) as recorder,
        pytest.raises(KeyError),
    ):
        next(iter(recorder))
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL


# ---- the report ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report() -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "INSIDE", 0.5)
        return session.measure(DataLoader(Own(), 4, num_workers=1), budget=16.0, proof=False)


def test_a_report_tells_them_in_every_form(report: Report, tmp_path: Path) -> None:
    names = [one.name for one in report.functions if one.row == "getitem"]
    assert any(name.endswith("check_type") for name in names)
    shown = " ".join(to_text(report).split())
    assert "check_type," in shown
    assert "test_profiler_functions" in shown
    assert 'id="functions"' in to_html(report)
    report.save(tmp_path / "a.json")
    assert load(tmp_path / "a.json").functions == report.functions
    assert "stacks looked at" in "".join(one.name for one in report.passes)
