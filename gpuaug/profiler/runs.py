"""The passes of `measure`, within its budget of wall time; what does not fit is left out, and the report says so."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gpuaug.profiler.conclude import join
from gpuaug.profiler.judge import receipt
from gpuaug.profiler.judge.apply import MovedLoader, Probe, move, probe
from gpuaug.profiler.machine import Drift, cores, effective_cores
from gpuaug.profiler.measure import passes
from gpuaug.profiler.measure.budget import Budget
from gpuaug.profiler.measure.epochs import is_short, length_of, repeated
from gpuaug.profiler.measure.loaders import data_loader, rewrapped
from gpuaug.profiler.measure.passes import Pass
from gpuaug.profiler.model.functions import Key, Times
from gpuaug.profiler.model.rows import MIN_BATCHES, steady
from gpuaug.profiler.model.trace import Trace
from gpuaug.profiler.report import Report

__all__ = ["Runs", "Step"]

Step = Callable[[Any], object]

# Fractions of the usable part of the budget
WHOLE, ALONE, LOADER, INSIDE, COLD, STARTS, PROOF = 0.40, 0.10, 0.10, 0.05, 0.05, 0.05, 0.30
AFTER_FIRST, AFTER_WHOLE, AFTER_PARTS = 0.50, 0.50, 0.30  # left of it after the first run, the whole loop, its parts
SLACK = 0.25  # by which the whole loop may take longer than its fraction, as a fraction of that
TURNS = 2  # untraced runs, and traced runs
PLENTY = 20.0  # seconds of a usable budget, from which on the first run is untraced
MOST_RUNS = 6  # traced runs, if the first ones have too few batches
RUNS = 2 * receipt.TURNS  # runs of a receipt
EPOCHS = 3  # epochs of each run, if the recommendation concerns the start of epochs
PROBED = 4  # time to measure augmentation on the device / time of fetching a batch
ENGINE = 3.0  # seconds to import the engine, for the same


class Runs:
    """The passes of one `measure`, and what they found.

    Attributes:
        given, own: Loader that the user passed, and the DataLoader in it.
        loader, inner: Loader that is measured, and the DataLoader in it: if epochs are short, a copy that does not end.
        length: Batches in an epoch of the loader, if epochs are short.
    """

    def __init__(self, loader: Any, step: Step | None, budget: Budget, report: Callable[[str], None]) -> None:
        self.given, self.step, self.budget, self.report = loader, step, budget, report
        self.own = data_loader(loader)
        self.loader, self.inner = self.given, self.own
        self.length: int | None = None
        self.passes: list[Pass] = []
        self.skipped: dict[str, str] = {}  # pass -> reason
        self.busy: tuple[float, float, float] | None = None  # see Pass.busy, of the step alone
        self.wrapped: float | None = None  # seconds per batch of a wrapper alone
        self.functions: dict[Key, Times] = {}
        self.warm = self.own.num_workers * (self.own.prefetch_factor or 2) + 2
        self.origin = time.perf_counter_ns()
        self.drift = Drift()
        self.drift.look()
        report("cores")
        self.free = effective_cores()
        budget.keep(cores() / max(self.free, 0.1))

    def timed(self, name: str, step: Step | None, fraction: float) -> Pass:
        """A run over the loader, of a fraction of the budget."""
        begun = self.budget.spent
        seconds = self.budget.share(fraction)
        found = passes.timed(name, self.loader, step, seconds, self.warm, wall=True)
        self.budget.learn(self.budget.spent - begun, found)
        return found

    def recorded(self, fraction: float) -> tuple[Pass, Trace]:
        """A traced run of loader and step, of a fraction of the budget."""
        begun = self.budget.spent
        seconds = self.budget.share(fraction)
        found = passes.recorded("whole, traced", self.loader, self.step, seconds, self.warm, self.origin, wall=True)
        self.budget.learn(self.budget.spent - begun, found[0])
        return found

    def whole_loop(self) -> tuple[float | None, Trace]:
        """(overhead of tracing, trace) of loader and step together, with and without tracing in turns.

        A traced run is always made, and more of them until there are enough batches. The overhead is None if there was
        no time for an untraced run.
        """
        self.report("the whole loop, with and without tracing")
        each = WHOLE / (2 * TURNS)
        self.lengthen(length_of(self.own))
        plain: list[Pass] = []
        if self.budget.usable >= PLENTY:  # it also warms up caches
            plain.append(self.timed("whole, untraced", self.step, each))
        traced = [self.recorded(each)]
        if self.length is None and is_short(length := length_of(self.own, traced[0][1])):
            self.lengthen(length)
            plain, traced = [], [self.recorded(each)]
        if not plain and self.budget.fits(self.budget.share(each)):
            plain.append(self.timed("whole, untraced", self.step, each))
        seconds = max(self.budget.share(each), self.budget.least)
        for _ in range(TURNS - 1):
            if not plain or self.budget.spent + 2 * seconds > (1 + SLACK) * self.budget.share(WHOLE):
                break
            plain.append(self.timed("whole, untraced", self.step, each))
            traced.append(self.recorded(each))
        trace = join([one for _, one in traced])
        while len(steady(trace)[1]) < MIN_BATCHES and len(traced) < MOST_RUNS:
            traced.append(self.recorded(each))
            trace = join([trace, traced[-1][1]])
        self.drift.look()
        self.passes += [*plain, *(run for run, _ in traced)]
        if self.length is not None:
            trace = self.with_starts(trace, self.length, traced[-1][0].pace)
        if not plain:
            self.skipped["cost of tracing"] = self.budget.why_not(AFTER_FIRST)
            return None, trace
        middle = statistics.median(run.pace for run in plain)
        return statistics.median(run.pace for run, _ in traced) / middle - 1, trace

    def lengthen(self, length: int | None) -> None:
        """If its epochs of so many batches are short, measure a copy of the loader that does not end."""
        if not is_short(length):
            return
        assert length is not None
        self.length = length
        self.inner = repeated(self.own, length)
        self.loader = self.inner if self.given is self.own else rewrapped(self.given, self.inner)

    def with_starts(self, trace: Trace, length: int, pace: float) -> Trace:
        """The trace of a loader that does not end, with the starts and the length of the user's own epochs."""
        many = f"{length} batches" if length > 1 else "1 batch"
        why = f"each has {many}, so batches were timed without a new start"
        seconds = self.budget.share(STARTS)
        if self.budget.fits(seconds, passes.EPOCHS[0]):
            self.report("the starts of epochs")
            whole = passes.starts(self.given, self.step, seconds, self.origin)
            trace.starts, trace.ends = whole.starts, whole.ends
            took = epoch_seconds(whole)
            why += f"; a whole epoch takes {took:.3g} s, its batches without the start {length * pace:.3g} s"
        else:
            why += f"; to time their starts {self.budget.why_not(AFTER_WHOLE, passes.EPOCHS[0])}"
        self.skipped["whole epochs"] = why
        trace.loader = replace(trace.loader, length=length)
        return trace

    def parts(self) -> float | None:
        """The step alone, and the loader alone; returns the seconds of the step, None without one or without time."""
        alone = None
        seconds = self.budget.share(ALONE)
        if self.step is None:
            self.skipped["model alone"] = "no step was given"
        elif not self.budget.fits(seconds, 2):
            self.skipped["model alone"] = self.budget.why_not(AFTER_WHOLE, 2)
        else:
            self.report("the step alone, on batches in memory")
            batches = passes.batches_of(self.loader)
            self.passes.append(passes.alone(self.step, batches, seconds))
            alone, self.busy = self.passes[-1].pace, self.passes[-1].busy
        if self.step is not None and self.budget.fits(self.budget.share(LOADER)):
            self.report("the loader alone")
            self.passes.append(self.timed("loader alone", None, LOADER))
            self.wrapped = None if self.given is self.own else self.passes[-1].pace
        elif self.step is not None:
            self.skipped["loader alone"] = self.budget.why_not(AFTER_WHOLE)
        if self.given is not self.own:
            reason = "its own work on a batch has no row, and counts as waiting for data"
            self.skipped[f"inside {type(self.given).__name__}"] = reason
        return alone

    def inside(self) -> None:
        """Which functions take the workers' time; a run of its own, since looking at them takes some percent."""
        seconds = self.budget.share(INSIDE)
        if not self.budget.fits(seconds):
            self.skipped["inside the stages"] = self.budget.why_not(AFTER_PARTS)
            return
        self.report("the functions of the loader")
        found, self.functions = passes.sampled("loader alone, stacks looked at", self.inner, seconds, self.warm)
        self.passes.append(found)
        if not self.functions:
            reason = "nothing was seen: too little time is on a core, or other code or this system keeps SIGPROF"
            self.skipped["inside the stages"] = reason

    def cold_files(self) -> None:
        """The loader alone, with its files in the page cache and outside of it."""
        seconds = self.budget.share(COLD)
        if not self.budget.fits(seconds, 2):
            self.skipped["cold"] = self.budget.why_not(AFTER_PARTS, 2)
            return
        self.report("the loader alone, files outside of the page cache")
        files = passes.cold_files(self.own.dataset)
        if not files:
            self.skipped["cold"] = "the data set does not list its files"
            return
        try:
            cached = passes.timed("loader alone, cached files", self.given, None, seconds, 1, once=True, wall=True)
            self.passes.append(cached)
            passes.evict(files)
            cold = passes.timed("loader alone, cold files", self.given, None, seconds, 1, once=True, wall=True)
            self.passes.append(cold)
        except (ValueError, RuntimeError) as error:
            self.skipped["cold"] = str(error)

    def moved(self, device: torch.device | str | None, trace: Trace) -> tuple[MovedLoader | None, Probe | None]:
        """The loader with its augmentation moved to the device, and what that costs, if it can be moved."""
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        needed = PROBED * max((batch.fetch[1] - batch.fetch[0] for batch in trace.batches), default=0.0)
        needed += 0.0 if "gpuaug.augment" in sys.modules else ENGINE
        needed += 0.0 if trace.loader.start == "fork" else 2 * self.budget.least  # two workers that import everything
        if needed > self.budget.left:
            self.skipped["augment on the device"] = self.budget.why_not(AFTER_PARTS, seconds=needed)
            return None, None
        self.report("augmentation on the device")
        try:
            moved = move(self.given, target)
            probed = probe(self.given, moved)
            moved = replace(moved, samples=([], []))  # their memory
            if self.length is not None:
                moved = replace(moved, loader=repeated(moved.loader, self.length))
            return moved, probed
        except (ValueError, ImportError) as error:
            self.skipped["augment on the device"] = str(error).rstrip(".")
        except Exception as error:  # the user's own code, called in another way: the measurements must not be lost
            self.skipped["augment on the device"] = f"{type(error).__name__}: {error}"
        return None, None

    def prove(self, result: Report, moved: MovedLoader | None) -> None:
        """Apply the first recommendation that can be applied, and measure its gain."""
        for one in result.advice:
            if one.gain is None:
                continue
            ends = one.id == "persistent-workers"  # which needs epochs that end
            before, inner = (self.given, self.own) if ends else (self.loader, self.inner)
            after = receipt.changed(inner, one, moved)
            if self.given is not self.own:  # a device may be more than the wrapper expects: only settings
                after = rewrapped(self.given, after) if after is not None and one.settings else None
            if after is None:
                continue
            seconds = min(self.budget.left, self.budget.share(PROOF))
            if ends and seconds < RUNS * EPOCHS * (epoch := result.epoch_seconds):
                needed = RUNS * EPOCHS * epoch / PROOF
                result.skipped["receipt"] = f"{one.id} needs runs of {EPOCHS} epochs each; pass --budget {needed:.0f}s"
                continue
            if not self.budget.fits(0.0, RUNS):  # `seconds` may be all that was left a moment ago
                result.skipped["receipt"] = self.budget.why_not(PROOF, RUNS)
                return
            self.report(f"the receipt of {one.id}")
            settings = one.settings or {}
            workers = settings.get("num_workers", inner.num_workers)
            warm = workers * (settings.get("prefetch_factor") or inner.prefetch_factor or 2) + 2
            try:
                result.receipt = receipt.prove(
                    before, after, one, self.step, seconds, (self.warm, warm), self.drift, self.budget
                )
            except Exception as error:  # as in `moved`
                result.skipped["receipt"] = f"{type(error).__name__}: {error}"
                return
            if (turns := len(result.receipt.before)) < receipt.TURNS:
                why = self.budget.why_not(PROOF, RUNS)
                result.skipped["receipt, all turns"] = f"{turns} of {receipt.TURNS}; {why}"
            return
        why = "you must apply each recommendation yourself" if result.advice else "there is no recommendation"
        result.skipped.setdefault("receipt", why)


def epoch_seconds(trace: Trace) -> float:
    """Median time of an epoch, from the begin of its iteration to its end."""
    last = {batch.epoch: batch.done for batch in trace.batches}
    begun = [start for start, _, _ in trace.starts]
    return statistics.median(last[k] - begun[k] + end for k, end in enumerate(trace.ends))
