"""The main flow of a profile: measure the whole loop and its parts, conclude, and prove the first recommendation."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from gpuaug.profiler.conclude import conclude, join
from gpuaug.profiler.judge import receipt
from gpuaug.profiler.judge.advice import Advice, check_ids
from gpuaug.profiler.judge.apply import MovedLoader, Probe, move, probe
from gpuaug.profiler.judge.verdict import Gain, Stage, Verdict
from gpuaug.profiler.machine import Drift, cores, effective_cores
from gpuaug.profiler.measure import passes
from gpuaug.profiler.measure.loaders import data_loader
from gpuaug.profiler.measure.passes import Pass
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.model.trace import Trace
from gpuaug.profiler.ranks import Rank, check_group, gather, world
from gpuaug.profiler.report import Report

__all__ = ["Profile", "measure"]

Step = Callable[[Any], object]

WHOLE, ALONE, LOADER, COLD, PROOF = 0.40, 0.10, 0.10, 0.05, 0.30  # fractions of the budget
TURNS = 2  # untraced runs, and traced runs
RUNS = 2 * receipt.TURNS  # runs of a receipt
EPOCHS = 3  # epochs of each run, if the recommendation concerns the start of epochs


class Profile(Recorder):
    """Profile the loops over a loader inside a `with` block.

    Loops over the loader and loops over the profile itself are measured alike. The step alone and a receipt are not
    measured; `gpuaug profile` and `measure` do that.

    Args:
        loader: A torch DataLoader, or an object with one as its attribute `loader`.
        ranks: Whether to exchange the times with the other ranks of a distributed job at the end of the block, which
            every rank must do then. Each rank profiles its own loader; print the report on one of them.

    Attributes:
        report: Report on the batches so far.
        trace: Batches so far, see `gpuaug.profiler.model.trace.Trace`.

    Raises:
        ValueError: If the loader has another type, or cannot be traced.
        RuntimeError: If a profile is entered twice, or with `ranks` if torch.distributed is not initialized.
    """

    def __init__(self, loader: Iterable[object], *, ranks: bool = False) -> None:
        super().__init__(loader)
        self._gathers = ranks
        self._ranks: list[Rank] = []
        self._drift = Drift()
        self._report: Report | None = None
        self._cores = cores()

    def __enter__(self) -> Profile:
        if self._twin is not None:
            raise RuntimeError("profile: this profile is open already. Create another one for another loop.")
        if self._gathers:
            check_group()
        self._cores = effective_cores()
        self._drift.look()
        super().__enter__()
        self._kind = type(self.loader)
        plain = self._kind.__iter__
        content = {
            "__iter__": lambda loader: iter(self) if loader is self.loader else plain(loader),
            "__module__": self._kind.__module__,
        }
        try:
            kind = type(self._kind.__name__, (self._kind,), content)
            object.__setattr__(self.loader, "__class__", kind)
        except TypeError:
            warnings.warn(
                f"profile: loops over this {self._kind.__name__} cannot be traced. Iterate over the profile itself.",
                stacklevel=2,
            )
        except BaseException:
            super().__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        object.__setattr__(self.loader, "__class__", self._kind)
        super().__exit__(*error)
        self._drift.look()
        if self._gathers and not any(error):
            self._ranks = gather(self._as_rank())

    def _as_rank(self) -> Rank | None:
        try:
            return self.report.as_rank(torch.distributed.get_rank())
        except ValueError:  # too few batches: the other ranks must learn of it, not wait
            return None

    @property
    def report(self) -> Report:
        """Report on the batches so far.

        Raises:
            ValueError: If there are too few batches.
        """
        trace = self.trace
        if self._report is None or self._report.trace.batches[-1:] != trace.batches[-1:]:
            self._report = conclude(trace, self.inner, cores=self._cores, drift=self._drift)
        self._report.ranks = self._ranks
        return self._report

    @property
    def verdict(self) -> Verdict:
        """What limits the job."""
        return self.report.verdict

    @property
    def stages(self) -> list[Stage]:
        """Time of a batch in each stage."""
        return self.report.stages

    @property
    def advice(self) -> list[Advice]:
        """Recommendations, the largest gain first."""
        return self.report.advice

    def whatif(
        self,
        *,
        augment: str | float | None = None,
        device_seconds: float | None = None,
        workers: int | None = None,
        prefetch: int | None = None,
        pin_memory: bool | None = None,
        in_order: bool | None = None,
        scale: Mapping[str, float] | None = None,
    ) -> Gain:
        """Predict the gain of other settings, see `Report.whatif`."""
        return self.report.whatif(
            augment=augment,
            device_seconds=device_seconds,
            workers=workers,
            prefetch=prefetch,
            pin_memory=pin_memory,
            in_order=in_order,
            scale=scale,
        )

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, see `Report.save`."""
        self.report.save(path)

    def __str__(self) -> str:
        from gpuaug.profiler.show.terminal import to_text

        return to_text(self.report)

    def _repr_html_(self) -> str:
        from gpuaug.profiler.show.html import to_html

        return to_html(self.report)


def measure(
    loader: Iterable[object],
    step: Step | None = None,
    *,
    budget: float = 60.0,
    cold: bool = False,
    proof: bool = True,
    ignore: Iterable[str] = (),
    device: torch.device | str | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> Report:
    """Profile a loader, and a training step if there is one, in about `budget` seconds.

    Args:
        loader: A torch DataLoader, or an object with one as its attribute `loader`.
        step: Function of a batch that trains on it. None: only the loader is profiled.
        budget: Duration of all passes together in seconds, at least 1.
        cold: Whether to also measure the loader with its files outside of the page cache.
        proof: Whether to apply the first recommendation that can be applied, and measure its gain.
        ignore: Ids of recommendations to leave out.
        device: Device that augmentation could move to. None: CUDA if available, else the CPU.
        report: Function that is called with the name of each pass before it runs.

    Returns:
        Report: All measurements and conclusions.

    Raises:
        ValueError: If an argument has a wrong type or value, or if the loader has too few batches.
    """
    if not isinstance(budget, (int, float)) or not 1 <= budget < math.inf:
        raise ValueError(f"profile: `budget` must be seconds of at least 1, got {budget!r}.")
    if world() > 1:  # passes end by the clock: ranks would run different numbers of steps, and wait for one another
        raise ValueError(
            f"profile: `measure` and `gpuaug profile` must run in one process, got {world()} ranks. Under torchrun, "
            "put `with gpuaug.profile(loader, ranks=True)` around the loop of your script."
        )
    check_ids(ignore)
    run = _Run(loader, step, budget, report)
    overhead, trace = run.whole_loop()
    alone = run.parts()
    if cold:
        run.cold_files()
    else:
        run.skipped["cold"] = "not requested (--cold)"
    report("augmentation on the device")
    moved, probed = run.moved(device)
    result = conclude(
        trace,
        run.inner,
        cores=run.free,
        drift=run.drift,
        passes=run.passes,
        skipped=run.skipped,
        alone=alone,
        overhead=overhead,
        moved=moved,
        probed=probed,
        ignore=ignore,
    )
    if probed is not None and "augment-on-device" not in {one.id for one in result.advice} | set(ignore):
        reason = f"no gain, as a batch takes {probed.augment * 1e3:.3g} ms there"
        run.skipped["augment on the device"] = reason
    if proof:
        run.prove(result, moved)
    else:
        run.skipped["receipt"] = "not requested"
    run.drift.look()
    result.drift, result.reliable = run.drift.change, run.drift.reliable
    return result


class _Run:
    """The passes of one `measure`, and what they found."""

    def __init__(self, loader: Any, step: Step | None, budget: float, report: Callable[[str], None]) -> None:
        self.loader, self.step, self.budget, self.report = loader, step, budget, report
        self.inner = data_loader(loader)
        self.passes: list[Pass] = []
        self.skipped: dict[str, str] = {}  # pass -> reason
        self.warm = self.inner.num_workers * (self.inner.prefetch_factor or 2) + 2
        self.origin = time.perf_counter_ns()
        self.drift = Drift()
        self.drift.look()
        report("cores")
        self.free = effective_cores()

    def whole_loop(self) -> tuple[float, Trace]:
        """(overhead of tracing, trace) of loader and step together, untraced and traced in turns."""
        self.report("the whole loop, with and without tracing")
        seconds = self.budget * WHOLE / (2 * TURNS)
        plain, traced, traces = [], [], []
        for _ in range(TURNS):
            plain.append(passes.timed("whole, untraced", self.loader, self.step, seconds, self.warm))
            found, trace = passes.recorded("whole, traced", self.loader, self.step, seconds, self.warm, self.origin)
            traced.append(found)
            traces.append(trace)
        self.drift.look()
        self.passes += [*plain, *traced]
        overhead = statistics.median(p.pace for p in traced) / statistics.median(p.pace for p in plain) - 1
        return overhead, join(traces)

    def parts(self) -> float | None:
        """The step alone, and the loader alone; returns the seconds of the step, None without one."""
        alone = None
        if self.step is None:
            self.skipped["model alone"] = "no step was given"
        else:
            self.report("the step alone, on batches in memory")
            batches = passes.batches_of(self.loader)
            self.passes.append(passes.alone(self.step, batches, self.budget * ALONE))
            alone = self.passes[-1].pace
            self.report("the loader alone")
            self.passes.append(passes.timed("loader alone", self.loader, None, self.budget * LOADER, self.warm))
        if self.loader is not self.inner:
            reason = "its own work on a batch has no row, and counts as waiting for data"
            self.skipped[f"inside {type(self.loader).__name__}"] = reason
        return alone

    def cold_files(self) -> None:
        """The loader alone, with its files in the page cache and outside of it."""
        self.report("the loader alone, files outside of the page cache")
        files = passes.cold_files(self.inner.dataset)
        if not files:
            self.skipped["cold"] = "the data set does not list its files"
            return
        seconds = self.budget * COLD
        try:
            cached = passes.timed("loader alone, cached files", self.loader, None, seconds, 1, once=True)
            self.passes.append(cached)
            passes.evict(files)
            self.passes.append(passes.timed("loader alone, cold files", self.loader, None, seconds, 1, once=True))
        except (ValueError, RuntimeError) as error:
            self.skipped["cold"] = str(error)

    def moved(self, device: torch.device | str | None) -> tuple[MovedLoader | None, Probe | None]:
        """The loader with its augmentation moved to the device, and what that costs, if it can be moved."""
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            moved = move(self.loader, target)
            return moved, probe(self.loader, moved)
        except (ValueError, ImportError) as error:
            self.skipped["augment on the device"] = str(error).rstrip(".")
        except Exception as error:  # the user's own code, called in another way: the measurements must not be lost
            self.skipped["augment on the device"] = f"{type(error).__name__}: {error}"
        return None, None

    def prove(self, result: Report, moved: MovedLoader | None) -> None:
        """Apply the first recommendation that can be applied, and measure its gain."""
        seconds, inner = self.budget * PROOF, self.inner
        for one in result.advice:
            if one.gain is None:
                continue
            after = receipt.changed(inner, one, moved) if self.loader is inner else None
            if after is None:
                continue
            if one.id == "persistent-workers" and seconds < RUNS * EPOCHS * (epoch := result.epoch_seconds):
                needed = RUNS * EPOCHS * epoch / PROOF
                result.skipped["receipt"] = f"{one.id} needs runs of {EPOCHS} epochs each; pass --budget {needed:.0f}s"
                continue
            self.report(f"the receipt of {one.id}")
            settings = one.settings or {}
            workers = settings.get("num_workers", inner.num_workers)
            warm = workers * (settings.get("prefetch_factor") or inner.prefetch_factor or 2) + 2
            try:
                result.receipt = receipt.prove(
                    self.loader, after, one, self.step, seconds, (self.warm, warm), self.drift
                )
            except Exception as error:  # as in `moved`
                result.skipped["receipt"] = f"{type(error).__name__}: {error}"
            return
        why = "you must apply each recommendation yourself" if result.advice else "there is no recommendation"
        result.skipped.setdefault("receipt", why)
