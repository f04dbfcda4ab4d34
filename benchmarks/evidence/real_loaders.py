"""Validate the profiler on real loaders: is the predicted gain of taking out their main stage right?

    python -m benchmarks.evidence.real_loaders --images FOLDER --json benchmarks/results/real.json

For each loader: the profile of `gpuaug profile`; the predicted gain if the stages that limit it took no time; then
these stages are taken out, and the loop is measured before and after in turns. Nothing else should run on the machine.

A stage is taken out where the profiler times it: the function is called for some samples before the workers start, and
then returns what it returned. The data set as a whole is taken out by a list of its samples, collating by one batch,
and the step by nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from gpuaug.profiler.judge.verdict import free, gain
from gpuaug.profiler.machine import Drift
from gpuaug.profiler.measure.loaders import data_loader
from gpuaug.profiler.measure.passes import FEWEST
from gpuaug.profiler.report import Report
from gpuaug.profiler.session import measure
from gpuaug.profiler.show.words import doubts

from ..locations import RESULTS
from .real_cases import CASES, Case
from .real_photos import photographs
from .real_removal import WHOLE, Step, taken_out

__all__ = ["RESULTS", "Result", "run", "summary"]

RESULTS = RESULTS / "real.json"
SIGN = 0.05  # effects below it may have either sign
LARGE = 0.20  # an error from here on must have been announced as UNRELIABLE


@dataclass
class Result:
    """The result of one run of a loader; a field of the results file has the same name.

    Attributes:
        name: Name of the loader.
        text: The verdict in one sentence.
        group: Group of stages that was taken out.
        rows: Its rows.
        predicted, low, high, measured: Gains.
        error: predicted / measured - 1.
        wrong_sign: Whether an effect above 5 % was predicted with the wrong sign.
        doubt: Why the report says UNRELIABLE; empty if it does not.
        residual: Replayed time / measured time - 1.
        drift: Change of the cores' speed between profile and last turn, a fraction.
        before, after: Seconds a batch of each turn.
    """

    name: str
    text: str
    group: str
    rows: list[str]
    predicted: float
    low: float
    high: float
    measured: float
    error: float
    wrong_sign: bool
    doubt: str
    residual: float
    drift: float
    before: list[float]
    after: list[float]


# ---- a run -----------------------------------------------------------------------------------------------------------


def limit(report: Report) -> tuple[str, list[str]]:
    """The group with the largest gain of those that can be taken out, and the rows that go with it."""
    steps = {stage.name for stage in report.stages if stage.place == "step"}
    workers = [stage.name for stage in report.stages if stage.place == "worker"]
    found = max(
        (group for group in report.groups if group.name not in ("transport", "pinning")),
        key=lambda group: group.gain.times,
    )
    if steps.issuperset(found.rows):
        return "model", sorted(steps)
    if found.name in WHOLE:
        return found.name, [name for name in workers if name != "collate"]
    rows = list(found.rows)
    return found.name, [*rows, "storage"] if found.name == "decode" else rows  # decoders read the file


def pace(loader: Any, step: Callable[[Any], Any] | None, seconds: float, warm: int) -> float:
    """Seconds per batch, without the first `warm` batches of each epoch: the queues are empty then."""
    begun, total, count = time.perf_counter(), 0.0, 0
    while True:
        marks = []
        for batch in loader:
            if step is not None:
                step(batch)
            marks.append(time.perf_counter())
            if marks[-1] >= begun + seconds and len(marks) > warm + FEWEST:
                break
        if len(marks) <= warm + 1:
            raise ValueError(f"real_loaders: epochs must have more than {warm + 1} batches, got {len(marks)}.")
        total, count = total + marks[-1] - marks[warm - 1], count + len(marks) - warm
        if marks[-1] >= begun + seconds:
            return total / count


def run(case: Case, folder: Path, seconds: float = 10.0, turns: int = 3) -> Result:
    """Profile a loader, take its main stage out, and measure.

    Args:
        case: Loader.
        folder: Folder with the photographs; data in other forms is written there.
        seconds: Duration of the profile, and of the turns together.
        turns: Runs of before, and of after.
    """
    loader, step = case.make(folder), Step(case.waits)
    drift = Drift()
    drift.look()
    report = measure(loader, step, budget=seconds, proof=False)
    group, rows = limit(report)
    expected = gain(report.costs, free(rows))
    warm = 2 * data_loader(loader).num_workers + 2
    each = seconds / (2 * turns)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            if which == 0:
                times[0].append(pace(loader, step, each, warm))
            else:
                with taken_out(loader, group, rows):
                    times[1].append(pace(loader, None if group == "model" else step, each, warm))
        drift.look()
    measured = statistics.median(times[0]) / statistics.median(times[1])
    return Result(
        name=case.name,
        text=report.verdict.text,
        group=group,
        rows=rows,
        predicted=expected.times,
        low=expected.low,
        high=expected.high,
        measured=measured,
        error=expected.times / measured - 1,
        wrong_sign=abs(measured - 1) > SIGN and (expected.times - 1) * (measured - 1) < 0,
        doubt=doubts(report),
        residual=report.residual,
        drift=drift.change,
        before=times[0],
        after=times[1],
    )


def summary(results: Sequence[Result]) -> dict[str, float]:
    """Errors of the gains, wrong signs, and how often UNRELIABLE was right."""
    errors = sorted(abs(one.error) for one in results)
    large = [one for one in results if abs(one.error) > LARGE]
    small = [one for one in results if abs(one.error) <= LARGE]
    return {
        "runs": len(results),
        "error_median": statistics.median(errors),
        "error_p95": errors[min(len(errors) - 1, int(0.95 * len(errors)))],
        "wrong_signs": sum(one.wrong_sign for one in results),
        "large": len(large),
        "large_not_announced": sum(not one.doubt for one in large),
        "announced_in_vain": sum(bool(one.doubt) for one in small) / len(small) if small else 0.0,
    }


def absent(case: Case) -> list[str]:
    """Modules that a case needs and that are not installed."""
    return [name for name in case.needs if importlib.util.find_spec(name) is None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, help="Folder of photographs. Without it: those in the package.")
    parser.add_argument("--rounds", type=int, default=1, help="Runs of each loader.")
    parser.add_argument("--seconds", type=float, default=20.0, help="Duration of a profile, and of the turns after it.")
    parser.add_argument("--only", nargs="*", help="Parts of the names of the loaders.")
    parser.add_argument("--json", type=Path, help=f"File for the results, such as {RESULTS.name}.")
    options = parser.parse_args()
    sources = [one for one in sorted((options.images or Path()).rglob("*")) if one.suffix.lower() in (".jpg", ".jpeg")]
    if options.images is None:
        from gpuaug.demo.photographs import paths

        sources = paths()
    if not sources:
        sys.exit(f"real_loaders: `--images` must be a folder with JPEGs, got {options.images}, which has none.")
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    results: list[Result] = []
    missing: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        photographs(Path(place), sources)
        for _ in range(options.rounds):
            for case in CASES:
                if options.only and not any(part.lower() in case.name.lower() for part in options.only):
                    continue
                if absent(case):
                    missing[case.name] = absent(case)
                    continue
                one = run(case, Path(place), options.seconds)
                results.append(one)
                doubt = f"  UNRELIABLE: {one.doubt}" if one.doubt else ""
                print(
                    f"{one.name:36} without {one.group}: {one.predicted:.2f}x, measured {one.measured:.2f}x, "
                    f"{one.error:+.1%}{doubt}", flush=True,
                )  # fmt: skip
    for name, modules in missing.items():
        print(f"{name}: not run, as {', '.join(modules)} is not installed")
    found = summary(results) if results else {}
    for name, value in found.items():
        print(f"{name}: {value:.4g}")
    if options.json is not None:
        from ..machine import describe

        content = {
            "schema": 1,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "load": load,
            **describe(),
            "summary": found,
            "absent": missing,
            "results": [asdict(one) for one in results],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
