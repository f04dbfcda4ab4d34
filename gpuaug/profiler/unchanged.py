"""A profile of a job that is not changed: `GPUAUG_PROFILE=1 python train.py`, or `gpuaug profile --run train.py`.

Every loop over a DataLoader of torch in the main process is traced as inside of `with gpuaug.profile(loader)`. The
report is printed to stderr when the process ends, or after as many batches as GPUAUG_PROFILE says. It is about the
loader whose loops took the most time. Nothing is measured apart from the job, so there is no step alone and no receipt.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from torch.utils.data import DataLoader

from gpuaug.profiler.conclude import conclude, join
from gpuaug.profiler.machine import Drift, effective_cores
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.measure.tracing import TracedCollate

__all__ = ["VARIABLE", "Watch", "start", "stop"]

VARIABLE = "GPUAUG_PROFILE"
MOST_LOADERS = 8  # loaders that are traced: a job that makes a new one for every epoch must not keep them all
NOTHING = (
    f"{VARIABLE}: no loop over a DataLoader of torch ran in this process, so there is nothing to report. Loops of "
    "fastai, and over torchdata's StatefulDataLoader, which keeps its own state, are not traced. Use `gpuaug profile "
    "FILE.py:NAME` with a function that makes your loader."
)

_watch: Watch | None = None


def start(batches: str = "1", json: str | None = None) -> None:
    """Trace all loops over DataLoaders from now on, in the main process of rank 0.

    Args:
        batches: Value of GPUAUG_PROFILE: 1 to report at the end of the process; a larger number to report after so many
            batches; 0 or nothing to do nothing.
        json: File for the report, for `gpuaug report`; None: it is only printed.

    Raises:
        ValueError: If `batches` is no number.
        ModuleNotFoundError: If rich is not installed.
    """
    global _watch
    if not batches.strip().isdecimal() and batches.strip():
        raise ValueError(
            f"profile: `{VARIABLE}` must be 1, or the number of batches after which to report, got {batches!r}."
        )
    count = int(batches.strip() or 0)
    if not count or multiprocessing.parent_process() is not None or os.environ.get("RANK", "0") != "0":
        return
    if find_spec("rich") is None:  # better now than after the job
        raise ModuleNotFoundError('profile: a report as text needs rich. Run pip install "gpuaug[profile]".')
    if _watch is None:
        _watch = Watch(count if count > 1 else None)
        _watch.install()
    if json is not None:
        _watch.json = json


def stop() -> None:
    """Trace no more, and report nothing."""
    global _watch
    if _watch is not None:
        _watch.remove()
        _watch = None


class Watch:
    """Traces all loops over DataLoaders of this process.

    Args:
        batches: Number of batches after which to report; None: at the end of the process.

    Attributes:
        json: File for the report; None: none.
    """

    def __init__(self, batches: int | None = None) -> None:
        self.batches = batches
        self.json: str | None = None
        self.process = os.getpid()
        self.origin = time.perf_counter_ns()
        self.seen = 0
        self.over = False
        self.left_out = 0  # loops over loaders that are too many
        self.cores = 0.0
        self.drift = Drift()
        self._recorders: dict[int, tuple[DataLoader[Any], Recorder | None]] = {}  # by id; None: it cannot be traced
        self._plain: Any = DataLoader.__iter__
        self._iterate: Any = None

    def install(self) -> None:
        """Put this in place of DataLoader's `__iter__`."""
        plain = self._plain

        @functools.wraps(plain)
        def iterate(loader: DataLoader[Any]) -> Iterator[Any]:
            recorder = self.recorder_of(loader)
            return plain(loader) if recorder is None else self.loop(recorder)

        self._iterate = DataLoader.__iter__ = iterate  # type: ignore[method-assign,assignment]
        atexit.register(self.end)

    def remove(self) -> None:
        """Put DataLoader's own `__iter__` back; loops that are running go on."""
        if self.over:
            return
        self.over = True
        atexit.unregister(self.end)
        if DataLoader.__iter__ is self._iterate:
            DataLoader.__iter__ = self._plain  # type: ignore[method-assign]
        for recorder in reversed(self.recorders):  # they may have timed the same data set
            recorder.__exit__()

    @property
    def recorders(self) -> list[Recorder]:
        """What recorded a loader, for each."""
        return [recorder for _, recorder in self._recorders.values() if recorder is not None]

    def recorder_of(self, loader: DataLoader[Any]) -> Recorder | None:
        """What records the loops over a loader; None if they are not to be traced."""
        if self.over or os.getpid() != self.process or isinstance(loader.collate_fn, TracedCollate):
            return None
        if id(loader) in self._recorders:
            return self._recorders[id(loader)][1]
        if len(self._recorders) >= MOST_LOADERS:
            self.left_out += 1
            return None
        if not self._recorders:
            self.cores = effective_cores()
            self.drift.look()
        recorder: Recorder | None = None
        try:
            recorder = Recorder(loader, self.origin).__enter__()
        except Exception as error:  # the job goes on, whatever its data set does when it is looked at
            warnings.warn(f"{error} Its loops are not in the report of {VARIABLE}.", stacklevel=3)
        self._recorders[id(loader)] = loader, recorder
        return recorder

    def loop(self, recorder: Recorder) -> Iterator[Any]:
        """One epoch of a loader."""
        return self._counted(iter(recorder))  # now, as without this: it draws a seed

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            if self.seen == self.batches:  # the steps of all of them are over
                self.end()
            self.seen += 1
            yield batch
            del batch

    def end(self) -> None:
        """Print the report, and write it if there is a file for it. The job goes on as without this."""
        if self.over or os.getpid() != self.process:
            return
        try:
            print(self.text(), file=sys.stderr, flush=True)
        except Exception:
            traceback.print_exc()
        self.remove()

    def text(self) -> str:
        """The report as text, or a sentence that says why there is none."""
        groups: dict[Any, list[Recorder]] = {}
        for recorder in self.recorders:  # a job may make a new loader of the same data for every epoch
            key = id(recorder.inner.dataset), recorder.inner.batch_size, recorder.inner.num_workers
            groups.setdefault(key, []).append(recorder)
        traces = [(group[-1], join([recorder.trace for recorder in group])) for group in groups.values()]
        traces = [(recorder, trace) for recorder, trace in traces if trace.batches]
        if not traces:
            return NOTHING
        times = [sum(batch.done - batch.asked for batch in trace.batches) for _, trace in traces]
        most = max(range(len(traces)), key=lambda k: times[k])
        recorder, trace = traces.pop(most)
        self.drift.look()
        try:
            report = conclude(trace, recorder.inner, cores=self.cores, drift=self.drift)
        except ValueError as error:
            return str(error)
        report.skipped["receipt"] = f"{VARIABLE} only watches the job; `gpuaug profile FILE.py:NAME` has receipts"
        for number, (other, found) in enumerate(traces, 2):
            kind = f"loader {number}, {type(other.inner).__name__}({type(other.inner.dataset).__name__})"
            report.skipped[kind] = f"{len(found.batches)} batches, in less time"
        if self.left_out:
            report.skipped["more loaders"] = f"only the first {MOST_LOADERS} are traced"
        from gpuaug.profiler.show.terminal import to_text

        text = to_text(report)
        if self.json is not None:
            try:
                report.save(self.json)
            except OSError as error:  # the report must not be lost
                text += f"\nprofile: {self.json} cannot be written: {error.strerror}."
        return text
