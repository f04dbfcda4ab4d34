"""Validate the profiler on pipelines with known bottlenecks: its verdicts, and its predicted gains.

`python -m benchmarks.evidence.bottleneck_validation` runs all cases several times, and writes with `--json`, for each
run: the verdict, the predicted gain of removing the bottleneck, and the gain measured when it is removed. Pipelines
with and without the bottleneck run in turns; nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from gpuaug.profiler.conclude import conclude, epoch_start, join
from gpuaug.profiler.judge.verdict import groups, judge
from gpuaug.profiler.machine import CHANGED, Drift, effective_cores
from gpuaug.profiler.measure import passes
from gpuaug.profiler.model.costs import Costs
from gpuaug.profiler.model.rows import steady
from gpuaug.profiler.model.trace import Trace

from ..locations import RESULTS
from .bottleneck_cases import CASES, Case
from .bottleneck_pipelines import Pipe, loader_of, step_of

__all__ = ["RESULTS", "Result", "overhead", "run", "summary"]

RESULTS = RESULTS / "planted.json"
SIGN = 0.05  # effects below it may have either sign


@dataclass
class Result:
    """The result of one run of a case; a field of the results file has the same name.

    Attributes:
        name: Name of the case.
        planted: Right labels of the case.
        said: Kind, place and cause of the verdict.
        text: The verdict in one sentence.
        right: Whether the verdict is right.
        predicted, low, high, measured: Gains; None if the case predicts none.
        error: predicted / measured - 1.
        wrong_sign: Whether an effect above 5 % was predicted with the wrong sign.
        residual: Replayed time / measured time - 1.
        alarm: Whether something was recommended.
        drift: Change of the cores' speed during the run, a fraction.
        reliable: Whether `drift` is small.
    """

    name: str
    planted: tuple[str, ...]
    said: tuple[str | None, ...]
    text: str
    right: bool
    predicted: float | None
    low: float | None
    high: float | None
    measured: float | None
    error: float | None
    wrong_sign: bool
    residual: float
    alarm: bool
    drift: float
    reliable: bool


def run(case: Case, seconds: float = 2.0, turns: int = 2, free: float | None = None) -> Result:
    """Profile a case with and without its bottleneck, in turns.

    Args:
        case: Case.
        seconds: Duration of each turn.
        turns: Number of turns of each.
        free: Number of free cores. None: it is measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        if case.pipe.file:
            for number in range(16):
                (Path(folder) / f"{number}.bin").write_bytes(os.urandom(case.pipe.file))
            os.sync()
        hogs = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(case.hogs)]
        try:
            return _run(case, folder, seconds, turns, free)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()


def _run(case: Case, folder: str, seconds: float, turns: int, free: float | None) -> Result:
    drift = Drift()
    drift.look()
    free = effective_cores() if free is None else free
    origin = time.perf_counter_ns()
    before, after, traces = [], [], []
    if case.labels == ("epoch",):
        seconds *= 3  # so that the epoch that ends early matters little
    for _ in range(turns):
        pipe = case.pipe
        found, trace = passes.recorded("before", loader_of(pipe, folder), step_of(pipe), seconds, warm(pipe), origin)
        before.append(pace(case, found, trace))
        traces.append(trace)
        if case.cured is not None:
            cured = case.cured
            loader, step = loader_of(cured, folder), step_of(cured)  # clocks run there, too
            after.append(pace(case, *passes.recorded("after", loader, step, seconds, warm(cured), origin)))
        drift.look()
    trace = join(traces)
    alone = passes.alone(step_of(case.pipe), [None], min(0.5, seconds / 2))
    costs = Costs(trace, free, alone.pace, alone.busy)
    _, start = epoch_start(costs)
    verdict = judge(costs, groups(costs), start)
    predicted = low = high = None
    if case.labels == ("epoch",) and start is not None:
        predicted, low, high = start.times, start.low, start.high
    elif case.change is not None:
        predicted, low, high = costs.gain(case.change)
    measured = statistics.median(before) / statistics.median(after) if after else None
    error = predicted / measured - 1 if predicted is not None and measured else None
    wrong = bool(predicted and measured and abs(measured - 1) > SIGN and (predicted - 1) * (measured - 1) < 0)
    said = (verdict.kind, verdict.place, verdict.cause)
    right = any(label in said for label in case.labels)
    if verdict.kind == "tie" and "tie" not in case.labels and verdict.cause not in case.labels:
        right = False
    report = conclude(trace, cores=free, drift=drift, alone=alone.pace, busy=alone.busy)
    alarm = any(one.id != "busy-machine" for one in report.advice)  # which may be true
    return Result(
        case.name, case.labels, said, verdict.text, right, predicted, low, high, measured, error, wrong, costs.residual,
        alarm, drift.change, drift.change <= CHANGED,
    )  # fmt: skip


def pace(case: Case, run: passes.Pass, trace: Trace) -> float:
    """Seconds per batch as the profiler predicts them, without the starts of epochs unless they are the bottleneck."""
    return run.pace if case.labels == ("epoch",) else statistics.fmean(each for _, each in steady(trace)[1])


def warm(pipe: Pipe) -> int:
    return 2 * pipe.workers + 2


def overhead(seconds: float = 1.0, turns: int = 40) -> dict[str, dict[str, float]]:
    """Time with tracing / time without, on batches of 10 ms, where the workers are the limit and where the step is.

    Runs with and without tracing are paired, in alternating order. The result is the median of the pairs' ratios, with
    its 95 % interval.
    """
    busy = Pipe(augment=("burn", 0.001), workers=1, step=("wait", 0.001))
    idle = Pipe(step=("wait", 0.010))
    found = {}
    for name, pipe in (("workers bind", busy), ("the step binds", idle)):
        plain, clocked = [], []
        for turn in range(turns):
            for which in (0, 1) if turn % 2 else (1, 0):
                if which:
                    clocked.append(passes.recorded("", loader_of(pipe), step_of(pipe), seconds, warm(pipe), 0)[0].pace)
                else:
                    plain.append(passes.timed("", loader_of(pipe), step_of(pipe), seconds, warm(pipe)).pace)
        ratios = sorted(c / p for c, p in zip(clocked, plain, strict=True))
        away = round(1.96 * math.sqrt(turns) / 2)  # ranks from the median: a binomial's
        low, high = ratios[max(0, turns // 2 - away)], ratios[min(turns - 1, turns // 2 + away)]
        median = statistics.median(ratios)
        found[name] = {"times": median, "low": low, "high": high, "ms": statistics.median(plain) * 1e3}
    return found


def summary(results: Sequence[Result]) -> dict[str, float]:
    """Summary: right verdicts, errors of the gains, wrong signs, false alarms."""
    errors = sorted(abs(one.error) for one in results if one.error is not None)
    quiet = [one for one in results if one.planted == ("model",) and one.name == "nothing wrong"]
    return {
        "runs": len(results),
        "right": sum(one.right for one in results) / len(results),
        "error_median": statistics.median(errors) if errors else 0.0,
        "error_p95": errors[min(len(errors) - 1, int(0.95 * len(errors)))] if errors else 0.0,
        "wrong_signs": sum(one.wrong_sign for one in results),
        "false_alarms": sum(one.alarm for one in quiet) / len(quiet) if quiet else 0.0,
        "unreliable": sum(not one.reliable for one in results),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="Rounds of all cases. 0, with --quiet 0: only the overhead; the file keeps its results.",
    )
    parser.add_argument("--quiet", type=int, default=20, help="Runs of the case without a bottleneck.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Duration of each run.")
    parser.add_argument("--only", nargs="*", help="Parts of the names of the cases to run.")
    parser.add_argument("--json", type=Path, default=None, help=f"File for the results, such as {RESULTS.name}.")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.only or any(part in case.name for part in options.only)]
    results: list[Result] = []
    for number in range(max(options.rounds, options.quiet)):
        for case in cases:
            if number >= (options.quiet if case.name == "nothing wrong" else options.rounds):
                continue
            one = run(case, options.seconds)
            results.append(one)
            gains = (
                "" if one.error is None else f"  {one.predicted:.2f}x, measured {one.measured:.2f}x, {one.error:+.1%}"
            )
            mark = "right" if one.right else "WRONG"
            said = "/".join(str(part) for part in one.said if part)
            print(f"{number + 1} {case.name:28} {mark} {said}{gains}  residual {one.residual:+.1%}", flush=True)
    if not results and not options.only and options.json is not None and options.json.exists():
        results = [Result(**one) for one in json.loads(options.json.read_text())["results"]]
    found = summary(results) if results else {}
    cost = overhead() if not options.only else {}
    for name, value in found.items():
        print(f"{name}: {value:.4g}")
    for name, value in cost.items():
        print("clocks, {}: {times:.4f} ({low:.4f} to {high:.4f}) times {ms:.1f} ms".format(name, **value))
    if options.json is not None:
        from ..machine import describe

        content = {
            "schema": 1,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **describe(),
            "summary": found,
            "overhead": cost,
            "results": [asdict(one) for one in results],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
