"""The main flow of a profile: measure the whole loop and its parts, conclude, and prove the first recommendation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from gpuaug.profiler.conclude import conclude
from gpuaug.profiler.judge.advice import Advice, check_ids
from gpuaug.profiler.judge.verdict import Gain, Stage, Verdict
from gpuaug.profiler.machine import Drift, cores, effective_cores
from gpuaug.profiler.measure.budget import Budget
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.measure.wrappers import set_class, training_loader
from gpuaug.profiler.ranks import Rank, check_group, gather, world
from gpuaug.profiler.report import Report
from gpuaug.profiler.runs import Runs, Step

__all__ = ["Profile", "measure"]


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
            try:
                kind = type(self._kind.__name__, (self._kind,), content)
                set_class(self.loader, kind)
            except TypeError:
                warnings.warn(
                    f"profile: loops over {self._kind.__name__} cannot be traced. Iterate over the profile itself.",
                    stacklevel=2,
                )
        except BaseException:
            super().__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        set_class(self.loader, self._kind)
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
            if not trace.batches:
                raise ValueError(
                    "profile: the loop must read from the loader of the profile, which gave no batch. Iterate over it, "
                    "or pass the loader that you iterate over: accelerator.prepare, for one, makes a new loader."
                )
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
    """Profile a loader, and a training step if there is one, in at most about `budget` seconds of wall time.

    What does not fit the budget is left out, and listed in `Report.skipped`. Enough batches for a verdict are measured
    even if that takes longer.

    Args:
        loader: A torch DataLoader; an object with one as its attribute `loader`; a loader of Accelerate, WebDataset,
            Lightning or fastai; or what makes the loader: a LightningDataModule, a Trainer of Hugging Face, DataLoaders
            of fastai.
        step: Function of a batch that trains on it. None: only the loader is profiled.
        budget: Wall time of the call in seconds, at least 1.
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
    run = Runs(training_loader(loader), step, Budget(budget), report)
    overhead, trace = run.whole_loop()
    alone = run.parts()
    run.inside()
    if cold:
        run.cold_files()
    else:
        run.skipped["cold"] = "not requested (--cold)"
    moved, probed = run.moved(device, trace)
    report("the conclusions")
    result = conclude(
        trace,
        run.own,
        cores=run.free,
        drift=run.drift,
        passes=run.passes,
        skipped=run.skipped,
        alone=alone,
        busy=run.busy,
        wrapped=run.wrapped,
        functions=run.functions,
        overhead=overhead,
        moved=moved,
        probed=probed,
        ignore=ignore,
    )
    if probed is not None and "augment-on-device" not in {one.id for one in result.advice} | set(ignore):
        reason = f"no gain, as a batch takes {probed.augment * 1e3:.3g} ms there"
        run.skipped["augment on the device"] = reason
    run.budget.release()
    if proof:
        run.prove(result, moved)
    else:
        run.skipped["receipt"] = "not requested"
    run.drift.look()
    result.drift, result.reliable = run.drift.change, run.drift.reliable
    return result
