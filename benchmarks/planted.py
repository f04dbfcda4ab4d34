"""Planted bottlenecks: pipelines whose limit is known, what the profiler says, and what it predicts.

`python -m benchmarks.planted` runs them all, several times, and writes `benchmarks/results/planted.json`: the label,
the gain that was predicted for taking the planted cost away, and the gain that was measured when it was taken away.
Before and after run in turns; nothing else should run beside them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gpuaug.profiler import ladder, stage
from gpuaug.profiler.costs import Change, Costs
from gpuaug.profiler.machine import CHANGED, Drift, effective_cores
from gpuaug.profiler.session import conclude, edge, join
from gpuaug.profiler.verdict import groups, judge

__all__ = ["CASES", "Planted", "Result", "run", "summary"]

BATCH = 8
SIDE = 64  # pixels of what travels
RESULTS = Path(__file__).parent / "results" / "planted.json"
SIGN = 0.05  # effects below it may have either sign


# ---- costs -----------------------------------------------------------------------------------------------------------


def wait(seconds: float) -> None:
    """Not on a core: storage, the network, a device."""
    if seconds > 0:
        time.sleep(seconds)


def burn(seconds: float) -> None:
    """On a core, holding the interpreter's lock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


_MATRIX = torch.rand(128, 128)


def crunch(seconds: float) -> None:
    """On a core, outside the interpreter's lock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        torch.mm(_MATRIX, _MATRIX)


def threaded(seconds: float) -> None:
    """About as much work as one thread does in that time, on as many threads as torch may take."""
    for _ in range(round(seconds / PASS)):
        torch.sin(_LARGE, out=_RESULT)


_LARGE, _RESULT = torch.rand(2, 1 << 17)
PASS = 0.00014  # seconds of one pass

COSTS: dict[str, Callable[[float], None]] = {"wait": wait, "burn": burn, "crunch": crunch, "threaded": threaded}


@dataclass
class Pipe:
    """A pipeline of planted costs, in seconds: of a sample, but for `collate` and `step`, which are of a batch.

    Attributes:
        read, decode, augment, other, collate, step: (kind, seconds), a kind of COSTS.
        tail: (share of samples, times as long) in reading. slow: worker 0 takes so many times as long.
        start: seconds that each worker takes to begin. threads: of torch in each worker.
        shape, dtype: of a sample. form: tensor, array, or many (a list of small tensors).
        jpeg: pixels of a side of a real JPEG that is decoded; 0 for none. file: bytes read from disk, cold.
        mark: the step's cost stands under that name.
    """

    read: tuple[str, float] = ("wait", 0.0002)
    decode: tuple[str, float] = ("burn", 0.0002)
    augment: tuple[str, float] = ("burn", 0.0002)
    other: tuple[str, float] = ("burn", 0.0)
    collate: tuple[str, float] = ("burn", 0.0003)
    step: tuple[str, float] = ("wait", 0.004)
    tail: tuple[float, float] = (0.0, 1.0)
    slow: float = 1.0
    start: float = 0.0
    threads: int = 1
    shape: tuple[int, ...] = (3, SIDE, SIDE)
    dtype: str = "uint8"
    form: str = "tensor"
    jpeg: int = 0
    file: int = 0
    mark: str = ""
    workers: int = 2
    iterable: bool = False
    epoch: int = 10_000  # batches
    options: dict[str, Any] = field(default_factory=dict)


class Augment:
    """A transform with a cost."""

    def __init__(self, cost: tuple[str, float]) -> None:
        self.cost = cost

    def __call__(self, image: Any) -> Any:
        COSTS[self.cost[0]](self.cost[1])
        return image


class Samples(Dataset[Any]):
    """Samples of a pipe; every cost is under the name it has in the report."""

    def __init__(self, pipe: Pipe, folder: str = "") -> None:
        self.pipe, self.folder = pipe, folder
        self.transform = Augment(pipe.augment)
        self.jpeg = jpeg(pipe.jpeg) if pipe.jpeg else b""
        rng = np.random.default_rng(3)
        self.slow = rng.random(4096) < pipe.tail[0]

    def __len__(self) -> int:
        return self.pipe.epoch * BATCH

    def __getitem__(self, index: int) -> Any:
        return self.make(index)

    def make(self, index: int) -> Any:
        pipe = self.pipe
        info = torch.utils.data.get_worker_info()
        times = pipe.slow if info is not None and info.id == 0 else 1.0
        with stage("read"):
            COSTS[pipe.read[0]](pipe.read[1] * times * (pipe.tail[1] if self.slow[index % 4096] else 1.0))
            if pipe.file:
                cold(Path(self.folder) / f"{index % 16}.bin")
        with stage("decode"):
            COSTS[pipe.decode[0]](pipe.decode[1])
            if self.jpeg:
                np.asarray(Image.open(io.BytesIO(self.jpeg)).convert("RGB"))
        COSTS[pipe.other[0]](pipe.other[1])
        return self.transform(content(pipe))


class Stream(IterableDataset[Any]):
    """The same, one after the other."""

    def __init__(self, pipe: Pipe, folder: str = "") -> None:
        self.samples = Samples(pipe, folder)
        self.transform = self.samples.transform

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        first, step = (info.id, info.num_workers) if info is not None else (0, 1)
        self.samples.transform = self.transform
        for index in range(first, len(self.samples), step):
            yield self.samples.make(index)


def jpeg(side: int) -> bytes:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def cold(path: Path) -> None:
    """Read a file that is not in the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        while os.read(descriptor, 1 << 20):
            pass
    finally:
        os.close(descriptor)


def content(pipe: Pipe) -> Any:
    """What a sample is."""
    if pipe.form == "array":
        return np.zeros(pipe.shape, pipe.dtype)
    if pipe.form == "many":
        return [torch.zeros(16) for _ in range(pipe.shape[0])]
    return torch.zeros(pipe.shape, dtype=getattr(torch, pipe.dtype))


class Collate:
    """Stack, at a cost."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def __call__(self, samples: list[Any]) -> Any:
        COSTS[self.pipe.collate[0]](self.pipe.collate[1])
        return torch.stack(samples) if self.pipe.form == "tensor" else samples


class Begin:
    """What a worker does first."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def __call__(self, worker: int) -> None:
        wait(self.pipe.start)
        torch.set_num_threads(self.pipe.threads)


def loader_of(pipe: Pipe, folder: str = "") -> DataLoader[Any]:
    """A stock loader of a pipe."""
    dataset = Stream(pipe, folder) if pipe.iterable else Samples(pipe, folder)
    return DataLoader(
        dataset,
        BATCH,
        num_workers=pipe.workers,
        collate_fn=Collate(pipe),
        worker_init_fn=Begin(pipe) if pipe.workers else None,
        **pipe.options,
    )


def step_of(pipe: Pipe) -> Callable[[Any], None]:
    """The step of a pipe."""

    def step(batch: Any) -> None:
        if pipe.mark:
            with stage(pipe.mark):
                COSTS[pipe.step[0]](pipe.step[1])
        else:
            COSTS[pipe.step[0]](pipe.step[1])

    return step


# ---- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """A pipe, what is wrong with it, and the cure.

    Attributes:
        labels: verdicts that are right, as kind, place or cause; a tie is right only where it is planted.
        pipe: with the cost. cured: without it.
        change: what the replay is told for the cure; a name alone is that row without cost.
        hogs: processes that take cores beside it; the cure sends them away, so nothing is predicted.
    """

    name: str
    labels: tuple[str, ...]
    pipe: Pipe
    cured: Pipe | None = None
    change: Change | None = None
    hogs: int = 0


def without(*rows: str, **factors: float) -> Change:
    return Change(factors={**dict.fromkeys(rows, 0.0), **factors})


CASES: tuple[Planted, ...] = (
    Planted("slow storage", ("storage",), Pipe(read=("wait", 0.004)), Pipe(read=("wait", 0.0)), without("storage")),
    Planted(
        "slow storage, iterable",
        ("storage",),
        Pipe(read=("wait", 0.004), iterable=True),
        Pipe(read=("wait", 0.0), iterable=True),
        without("storage"),
    ),
    Planted("cold files", ("storage",), Pipe(file=4 << 20), Pipe(read=("wait", 0.0)), without("storage")),
    Planted("decoding JPEGs", ("decode",), Pipe(jpeg=512), Pipe(decode=("burn", 0.0)), without("decode")),
    Planted(
        "a transform, GIL held",
        ("augmentation",),
        Pipe(augment=("burn", 0.003)),
        Pipe(augment=("burn", 0.0)),
        without("Augment"),
    ),
    Planted(
        "a transform, GIL free",
        ("augmentation",),
        Pipe(augment=("crunch", 0.003)),
        Pipe(augment=("burn", 0.0)),
        without("Augment"),
    ),
    Planted(
        "the data set's own code",
        ("dataset",),
        Pipe(other=("burn", 0.003)),
        Pipe(other=("burn", 0.0)),
        without("getitem"),
    ),
    Planted(
        "slow collate", ("collate",), Pipe(collate=("burn", 0.020)), Pipe(collate=("burn", 0.0)), without("collate")
    ),
    Planted(
        "large arrays",
        ("transport",),
        Pipe(form="array", shape=(6, 512, 512), step=("wait", 0.002)),
        Pipe(form="array", shape=(4, 512, 512), step=("wait", 0.002)),
        Change(factors={"getitem": 2 / 3}, transport=2 / 3),
    ),
    Planted(
        "many tensors",
        ("transport",),
        Pipe(form="many", shape=(60,), step=("wait", 0.002)),
        Pipe(form="many", shape=(40,), step=("wait", 0.002)),
        Change(factors={"getitem": 2 / 3}, transport=2 / 3),
    ),
    Planted(
        "epochs that start slowly",
        ("epoch",),
        Pipe(start=0.15, epoch=24),
        Pipe(start=0.15, epoch=24, options={"persistent_workers": True}),
    ),
    Planted("a model that waits", ("model",), Pipe(step=("wait", 0.020)), Pipe(step=("wait", 0.0)), without("model")),
    Planted(
        "a model that computes",
        ("model",),
        Pipe(step=("crunch", 0.020), workers=1),
        Pipe(step=("wait", 0.0), workers=1),
        without("model"),
    ),
    Planted(
        "a wait in the step",
        ("sync",),
        Pipe(step=("wait", 0.015), mark="sync"),
        Pipe(step=("wait", 0.0)),
        without("sync"),
    ),
    Planted(
        "a heavy tail", ("tail",), Pipe(read=("wait", 0.0006), tail=(0.015, 120.0)), Pipe(read=("wait", 0.0006)), None
    ),
    Planted("one slow worker", ("worker",), Pipe(read=("wait", 0.002), slow=5.0), Pipe(read=("wait", 0.002)), None),
    Planted(
        "more processes than cores",
        ("cores",),
        Pipe(augment=("crunch", 0.002), workers=6),
        Pipe(augment=("burn", 0.0), workers=6),
        without("Augment"),
    ),
    Planted(  # forked, OpenMP may hang; spawned, workers with threads abort at their end
        "more threads than cores",
        ("threads",),
        Pipe(augment=("threaded", 0.003), threads=4, options={"multiprocessing_context": "forkserver"}),
        Pipe(augment=("threaded", 0.003), threads=1, options={"multiprocessing_context": "forkserver"}),
    ),
    Planted("other jobs on the cores", ("cores",), Pipe(augment=("burn", 0.002), workers=2), hogs=4),
    Planted(
        "a tie of data and model",
        ("tie",),
        Pipe(read=("wait", 0.002), decode=("wait", 0.0), augment=("wait", 0.0), step=("wait", 0.0082)),
        None,
        None,
    ),
    Planted(
        "a tie of two stages",
        ("tie",),
        Pipe(decode=("burn", 0.0015), augment=("burn", 0.0015)),
        Pipe(decode=("burn", 0.0), augment=("burn", 0.0015)),
        without("decode"),
    ),
    Planted(
        "no workers",
        ("augmentation",),
        Pipe(augment=("burn", 0.002), workers=0),
        Pipe(augment=("burn", 0.0), workers=0),
        without("Augment"),
    ),
    Planted("nothing wrong", ("model",), Pipe(step=("wait", 0.030)), None, None),
)


# ---- running ---------------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What came of one case.

    Attributes:
        said: kind, place and cause of the verdict. right: one of them was planted.
        predicted, low, high, measured: gains; None where the case has no cure to predict.
        error: predicted against measured. sign: whether an effect above a twentieth had the wrong sign.
        drift: change of the cores' speed meanwhile; reliable: it was small.
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


def run(case: Planted, seconds: float = 2.0, turns: int = 2, free: float | None = None) -> Result:
    """Profile a case, cure it, and compare; both in turns of `seconds`. free: cores; None: they are asked."""
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


def _run(case: Planted, folder: str, seconds: float, turns: int, free: float | None) -> Result:
    drift = Drift()
    drift.look()
    free = effective_cores() if free is None else free
    origin = time.perf_counter_ns()
    before, after, traces = [], [], []
    if case.labels == ("epoch",):
        seconds *= 3  # an epoch cut in two must weigh little
    for _ in range(turns):
        pipe = case.pipe
        found, trace = ladder.recorded("before", loader_of(pipe, folder), step_of(pipe), seconds, warm(pipe), origin)
        before.append(found.pace)
        traces.append(trace)
        if case.cured is not None:
            cured = case.cured
            loader, step = loader_of(cured, folder), step_of(cured)  # clocks run there, too
            after.append(ladder.recorded("after", loader, step, seconds, warm(cured), origin)[0].pace)
        drift.look()
    trace = join(traces)
    alone = ladder.alone(step_of(case.pipe), [None], min(0.5, seconds / 2)).pace
    costs = Costs(trace, free, alone)
    _, start = edge(costs)
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
    report = conclude(trace, cores=free, drift=drift, alone=alone)
    alarm = any(one.id != "busy-machine" for one in report.advice)  # which may be true
    return Result(
        case.name, case.labels, said, verdict.text, right, predicted, low, high, measured, error, wrong, costs.residual,
        alarm, drift.change, drift.change <= CHANGED,
    )  # fmt: skip


def warm(pipe: Pipe) -> int:
    return 2 * pipe.workers + 2


def overhead(seconds: float = 1.0, turns: int = 16) -> dict[str, float]:
    """Times as long with clocks as without, on batches of 10 ms: where the workers bind, and where the step does.

    With and without run in pairs, either one first in turn; the ratio is the median of the pairs'.
    """
    busy = Pipe(augment=("burn", 0.001), workers=1, step=("wait", 0.001))
    idle = Pipe(step=("wait", 0.010))
    found = {}
    for name, pipe in (("workers bind", busy), ("the step binds", idle)):
        plain, clocked = [], []
        for turn in range(turns):
            for which in (0, 1) if turn % 2 else (1, 0):
                if which:
                    clocked.append(ladder.recorded("", loader_of(pipe), step_of(pipe), seconds, warm(pipe), 0)[0].pace)
                else:
                    plain.append(ladder.timed("", loader_of(pipe), step_of(pipe), seconds, warm(pipe)).pace)
        found[name] = statistics.median(c / p for c, p in zip(clocked, plain, strict=True))
        found[f"{name}, ms a batch"] = statistics.median(plain) * 1e3
    return found


def summary(results: Sequence[Result]) -> dict[str, float]:
    """The figures that are promised: labels, errors, signs, false alarms."""
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
        help="of all cases; 0, with --quiet 0: the overhead alone, beside the file's results",
    )
    parser.add_argument("--quiet", type=int, default=20, help="runs of the case in which nothing is wrong")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--only", nargs="*", help="names of cases, in part")
    parser.add_argument("--json", type=Path, default=None, help=f"where results go, such as {RESULTS.name}")
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
    found = summary(results)
    cost = overhead() if not options.only else {}
    for name, value in (found | cost).items():
        print(f"{name}: {value:.4g}")
    if options.json is not None:
        from benchmarks.machine import describe

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
