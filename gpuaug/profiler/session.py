"""The main flow of a profile: measure the whole, each part alone, replay, conclude, and prove the first advice."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch

from gpuaug.profiler.judge import advice as advices
from gpuaug.profiler.judge import receipt
from gpuaug.profiler.judge.apply import Moved, Probe, move, probe
from gpuaug.profiler.judge.verdict import Gain, groups, judge, stages
from gpuaug.profiler.machine import Drift, Machine, cores, effective_cores
from gpuaug.profiler.measure import passes as ladder
from gpuaug.profiler.measure.passes import Pass
from gpuaug.profiler.measure.recorder import Recorder, data_loader
from gpuaug.profiler.model.costs import Costs
from gpuaug.profiler.model.trace import Trace
from gpuaug.profiler.report import Report

__all__ = ["Profile", "conclude", "measure"]

Step = Callable[[Any], Any]

# Parts of the budget
WHOLE, ALONE, LOADER, COLD, PROOF = 0.40, 0.10, 0.10, 0.05, 0.30
RUNS, EPOCHS = 2 * receipt.TURNS, 3  # of a receipt, and those that each run must have if they are what changes
TURNS = 2  # of untraced and traced runs
BUSY = 0.05  # of the cores that others take: below it, none do


class Profile(Recorder):
    """Profile the loops over a loader that are in the `with` block; iterating over the profile itself does the same.

    Nothing is measured but the loop itself: no step alone, no receipt. `gpuaug profile` measures those.

    Args:
        loader: a torch DataLoader, or what holds one as its `loader`.

    Raises:
        ValueError: if the loader is something else.
    """

    def __init__(self, loader: Any) -> None:
        super().__init__(loader)
        self._drift = Drift()
        self._report: Report | None = None
        self._cores = cores()

    def __enter__(self) -> Profile:
        if self._twin is not None:
            raise RuntimeError("profile: this profile is open already. Make another one for another loop.")
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
                f"profile: loops over this {self._kind.__name__} cannot be seen. Iterate over the profile itself.",
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

    @property
    def report(self) -> Report:
        """What was found so far."""
        trace = self.trace
        if self._report is None or self._report.trace.batches[-1:] != trace.batches[-1:]:
            self._report = conclude(trace, self.inner, cores=self._cores, drift=self._drift)
        return self._report

    @property
    def verdict(self) -> Any:
        return self.report.verdict

    @property
    def stages(self) -> Any:
        return self.report.stages

    @property
    def advice(self) -> Any:
        return self.report.advice

    def whatif(self, **settings: Any) -> Gain:
        """See `Report.whatif`."""
        return self.report.whatif(**settings)

    def save(self, path: Any) -> None:
        """Write the report as JSON."""
        self.report.save(path)

    def __str__(self) -> str:
        from gpuaug.profiler.show.terminal import text

        return text(self.report)

    def _repr_html_(self) -> str:
        from gpuaug.profiler.show.html import page

        return page(self.report)


def conclude(
    trace: Trace,
    loader: Any = None,
    *,
    cores: float,
    drift: Drift,
    passes: Iterable[Pass] = (),
    skipped: dict[str, str] | None = None,
    alone: float | None = None,
    overhead: float | None = None,
    moved: Moved | None = None,
    probed: Probe | None = None,
    ignore: Iterable[str] = (),
) -> Report:
    """From what was measured to a report."""
    machine = Machine.here()
    costs = Costs(trace, cores, alone)
    edge_seconds, edge_gain = edge(costs)
    found = groups(costs)
    verdict = judge(costs, found, edge_gain)
    busy = max(0.0, 1 - cores / machine.cores)
    given = advices.advise(
        costs,
        verdict,
        loader=loader,
        moved=moved,
        probed=probed,
        edge=edge_gain,
        busy=busy if busy > BUSY else 0.0,
        ignore=ignore,
    )
    return Report(
        machine=machine.asdict(),
        cores=cores,
        trace=trace,
        passes=list(passes),
        skipped=skipped or {},
        pace=costs.pace,
        samples=costs.samples,
        residual=costs.residual,
        overhead=overhead,
        alone=alone,
        edge=edge_seconds,
        verdict=verdict,
        stages=stages(costs),
        groups=found,
        advice=given,
        receipt=None,
        drift=drift.change,
        reliable=drift.reliable,
    )


def edge(costs: Costs) -> tuple[float, Gain | None]:
    """(seconds that an epoch's start costs beyond an ordinary step, the gain without them); epochs after the first."""
    trace = costs.trace
    length = trace.loader.length
    later = trace.starts[1:] or trace.starts
    if not later or not length or not trace.loader.workers:
        return 0.0, None
    ends = statistics.median(trace.ends) if trace.ends else 0.0
    lost = [first - begun + ends for begun, _, first in later]
    firsts = {batch.epoch: batch for batch in reversed(trace.batches)}
    fetch = statistics.median(batch.fetch[1] - batch.fetch[0] for batch in firsts.values())
    receive = sum(row.seconds for row in costs.rows if row.place in ("feeder", "receive", "pin"))
    least = min(fetch + receive, *lost)  # workers that stay still have to fetch the first batch
    seconds = max(0.0, statistics.median(lost) - least)
    if trace.loader.persistent or len(trace.starts) < 2:
        return seconds, None
    rest = costs.pace * (length - 1) + least
    times, low, high = (1 + max(0.0, one - least) / rest for one in (statistics.median(lost), min(lost), max(lost)))
    return seconds, Gain(times, low, high)


def measure(
    loader: Any,
    step: Step | None = None,
    *,
    budget: float = 60.0,
    cold: bool = False,
    proof: bool = True,
    ignore: Iterable[str] = (),
    device: torch.device | str | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> Report:
    """Profile a loader, with a training step if there is one, within about `budget` seconds.

    Args:
        loader: a torch DataLoader, or what holds one as its `loader`.
        step: takes a batch and trains on it. None: the loader alone is profiled.
        budget: seconds for all passes together.
        cold: also run with the data set's files out of the page cache.
        proof: apply the first advice that can be applied, and measure it.
        ignore: ids of advice to leave away.
        device: where augmentation could move; None: CUDA where there is one, else the CPU.
        report: called with the name of each pass as it begins.

    Raises:
        ValueError: if an argument is out of range, or the loader gives too few batches.
    """
    if not isinstance(budget, (int, float)) or not 1 <= budget < math.inf:
        raise ValueError(f"profile: `budget` must be seconds of at least 1, got {budget!r}.")
    advices.check(ignore)
    inner = data_loader(loader)
    drift, skipped = Drift(), {}
    passes: list[Pass] = []
    warm = inner.num_workers * (inner.prefetch_factor or 2) + 2
    origin = time.perf_counter_ns()
    drift.look()
    report("cores")
    free = effective_cores()
    report("the whole loop, with and without clocks")
    plain, clocked, traces = [], [], []
    for _ in range(TURNS):
        plain.append(ladder.timed("whole, untraced", loader, step, budget * WHOLE / (2 * TURNS), warm))
        found, trace = ladder.recorded("whole, traced", loader, step, budget * WHOLE / (2 * TURNS), warm, origin)
        clocked.append(found)
        traces.append(trace)
    drift.look()
    passes += [*plain, *clocked]
    overhead = statistics.median(p.pace for p in clocked) / statistics.median(p.pace for p in plain) - 1
    alone = None
    if step is None:
        skipped["model alone"] = "no step was given"
    else:
        report("the step alone, on batches that are there")
        kept = ladder.batches_of(loader)
        passes.append(ladder.alone(step, kept, budget * ALONE))
        alone = passes[-1].pace
        report("the loader alone")
        passes.append(ladder.timed("loader alone", loader, None, budget * LOADER, warm))
    if cold:
        report("the loader alone, files out of the page cache")
        files = ladder.cold_files(inner.dataset)
        if files:
            try:
                passes.append(ladder.timed("loader alone, cached files", loader, None, budget * COLD, 1, once=True))
                ladder.evict(files)
                passes.append(ladder.timed("loader alone, cold files", loader, None, budget * COLD, 1, once=True))
            except (ValueError, RuntimeError) as error:
                skipped["cold"] = str(error)
        else:
            skipped["cold"] = "the data set names no files"
    else:
        skipped["cold"] = "not asked for (--cold)"
    if loader is not inner:
        skipped[f"inside {type(loader).__name__}"] = (
            "what it does to a batch has no row, and counts as waiting for data"
        )
    report("augmentation on the device")
    moved, probed = _moved(loader, inner, device, skipped)
    trace = join(traces)
    result = conclude(
        trace,
        inner,
        cores=free,
        drift=drift,
        passes=passes,
        skipped=skipped,
        alone=alone,
        overhead=overhead,
        moved=moved,
        probed=probed,
        ignore=ignore,
    )
    if probed is not None and "augment-on-device" not in {one.id for one in result.advice} | set(ignore):
        skipped["augment on the device"] = (
            f"as nothing would be gained: a batch takes {probed.augment * 1e3:.3g} ms there"
        )
    if proof:
        _prove(result, loader, inner, moved, step, budget * PROOF, warm, drift, report)
    else:
        skipped["receipt"] = "not asked for"
    drift.look()
    result.drift, result.reliable = drift.change, drift.reliable
    return result


def _moved(
    loader: Any, inner: Any, device: torch.device | str | None, skipped: dict[str, str]
) -> tuple[Moved | None, Probe | None]:
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        moved = move(loader, where)
        return moved, probe(loader, moved)
    except (ValueError, ImportError) as error:
        skipped["augment on the device"] = str(error).rstrip(".")
    except Exception as error:  # of the user's own code, called in another way: what was measured must not be lost
        skipped["augment on the device"] = f"{type(error).__name__}: {error}"
    return None, None


def _prove(
    result: Report,
    loader: Any,
    inner: Any,
    moved: Moved | None,
    step: Step | None,
    seconds: float,
    warm: int,
    drift: Drift,
    report: Callable[[str], None],
) -> None:
    """Try the first advice that can be tried."""
    for one in result.advice:
        if one.gain is None:
            continue
        after = receipt.changed(inner, one, moved) if loader is inner else None
        if after is None:
            continue
        if one.id == "persistent-workers" and seconds < RUNS * EPOCHS * (epoch := result.epoch_seconds):
            least = RUNS * EPOCHS * epoch / PROOF
            result.skipped["receipt"] = f"{one.id} needs runs of {EPOCHS} epochs each; give --budget {least:.0f}s"
            continue
        report(f"the receipt of {one.id}")
        workers = (one.settings or {}).get("num_workers", inner.num_workers)
        ahead = workers * ((one.settings or {}).get("prefetch_factor") or inner.prefetch_factor or 2) + 2
        try:
            result.receipt = receipt.prove(loader, after, one, step, seconds, (warm, ahead), drift)
        except Exception as error:  # as above
            result.skipped["receipt"] = f"{type(error).__name__}: {error}"
        return
    why = "no advice that could be tried without you" if result.advice else "nothing to advise"
    result.skipped.setdefault("receipt", why)


def join(traces: list[Trace]) -> Trace:
    """Runs one after the other, as epochs of one trace."""
    first = traces[0]
    for trace in traces[1:]:
        epochs = max((batch.epoch for batch in first.batches), default=-1) + 1
        for batch in trace.batches:
            batch.epoch += epochs
        first.batches += trace.batches
        first.starts += trace.starts
        first.ends += trace.ends
    return first
