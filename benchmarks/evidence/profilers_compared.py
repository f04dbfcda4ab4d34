"""What profilers cost and show, on the same job: python -m benchmarks.evidence.profilers_compared --images FOLDER

The job trains a small network on photographs, by torchvision's ImageFolder and two workers. Each profiler runs it in a
process of its own, in turns with the same job without a profiler; the cost is the ratio of their times. What a profiler
shows is the beginning of what it prints. A profiler that is not installed is named. Lightning's are compared with
Lightning's own loop.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import RandomSampler
from torchvision import datasets

from ..locations import PACKAGE, RESULTS
from .real_photos import BATCH, loader, photographs, small
from .real_removal import Step

__all__ = ["WAYS", "run"]

RESULTS = RESULTS / "profilers.json"
WARM, BATCHES = 8, 48  # batches that are not timed, and that are
SHOWN = 4000  # characters of what a profiler prints
MODULE = f"{PACKAGE}.evidence.profilers_compared"


# ---- the job ---------------------------------------------------------------------------------------------------------


class Paces:
    """The moment of each step's end."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.cpu = 0.0  # seconds on cores of this process and its workers; 0 if not measured

    def step(self) -> None:
        self.marks.append(time.perf_counter())

    def begin(self) -> None:
        self.cpu = -_cpu()

    def end(self) -> None:
        self.cpu += _cpu()

    @property
    def pace(self) -> float:
        return (self.marks[-1] - self.marks[WARM - 1]) / (len(self.marks) - WARM)


def _cpu() -> float:
    """Seconds on cores of this process, and of its processes that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


class Job:
    """A loader of WARM + BATCHES batches, and a training step that notes its times."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        dataset = datasets.ImageFolder(str(folder / "photos"), small(160))
        sampler = RandomSampler(dataset, replacement=True, num_samples=(WARM + BATCHES) * BATCH)
        self.loader = loader(dataset, shuffle=False, sampler=sampler)
        self.train, self.paces = Step(0.0), Paces()

    def step(self, batch: Any) -> None:
        self.train(batch)
        self.paces.step()


def plain(folder: Path) -> tuple[Paces, str]:
    job = Job(folder)
    job.paces.begin()
    for batch in job.loader:
        job.step(batch)
    job.paces.end()
    return job.paces, ""


def gpuaug(folder: Path) -> tuple[Paces, str]:
    from gpuaug.profiler import profile

    job = Job(folder)
    with profile(job.loader) as found:
        job.paces.begin()
        for batch in job.loader:
            job.step(batch)
        job.paces.end()
    return job.paces, str(found)


def torch_profiler(folder: Path) -> tuple[Paces, str]:
    """As in its tutorial, on all steps."""
    from torch.profiler import ProfilerActivity, profile

    job = Job(folder)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        job.paces.begin()
        for batch in job.loader:
            job.step(batch)
            found.step()
        job.paces.end()
    table = found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=60)
    return job.paces, table


def traceml(folder: Path) -> tuple[Paces, str]:
    """As in its quick start. Its command prints the summary when the process has ended."""
    import traceml_ai as framework

    framework.init(mode="auto")
    job = Job(folder)
    job.paces.begin()
    for batch in job.loader:
        with framework.trace_step(job.train.network):
            job.step(batch)
    job.paces.end()
    return job.paces, ""


def lightning(folder: Path, profiler: str | None = None, callback: bool = False) -> tuple[Paces, str]:
    """Lightning's loop, with one of its profilers or with gpuaug's callback."""
    import lightning as framework
    from lightning.pytorch import profilers

    job = Job(folder)

    class Module(framework.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = job.train.network

        def training_step(self, batch: Any, number: int) -> Any:
            return self.network(batch[0]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01)

        def on_train_batch_end(self, *_: Any) -> None:
            job.paces.step()

    chosen = getattr(profilers, profiler)(dirpath=str(folder), filename=profiler) if profiler else None
    callbacks = []
    if callback:
        from gpuaug.profiler import lightning_callback

        callbacks.append(lightning_callback())
    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = framework.Trainer(
        accelerator="cpu", max_epochs=1, profiler=chosen, callbacks=callbacks, enable_model_summary=False, **options
    )
    trainer.fit(Module(), job.loader)
    return job.paces, chosen.summary() if chosen else ""


# name: (what runs in the process, module that it needs, way that it is compared with)
WAYS: dict[str, tuple[Callable[[Path], tuple[Paces, str]], str, str]] = {
    "plain": (plain, "torch", ""),
    "gpuaug": (gpuaug, "torch", "plain"),
    "torch.profiler": (torch_profiler, "torch", "plain"),
    "py-spy": (plain, "py_spy", "plain"),
    "TraceML": (traceml, "traceml_ai", "plain"),
    "Lightning": (lightning, "lightning", ""),
    "Lightning SimpleProfiler": (lambda folder: lightning(folder, "SimpleProfiler"), "lightning", "Lightning"),
    "Lightning AdvancedProfiler": (lambda folder: lightning(folder, "AdvancedProfiler"), "lightning", "Lightning"),
    "gpuaug, lightning_callback": (lambda folder: lightning(folder, callback=True), "lightning", "Lightning"),
}


# ---- turns -----------------------------------------------------------------------------------------------------------


def run(way: str, folder: Path) -> dict[str, Any]:
    """Run the job in a process of its own: its seconds a batch, and what was shown."""
    result = folder / "result.json"
    command = [sys.executable, "-m", MODULE, "--way", way, "--folder", str(folder), "--result", str(result)]
    if way == "py-spy":
        stacks = folder / "stacks.txt"
        spy = ["record", "--subprocesses", "--format", "raw", "--rate", "100", "--output", str(stacks), "--"]
        command = [str(shutil.which("py-spy")), *spy, *command]
    if way == "TraceML":
        script = folder / "job.py"
        script.write_text(f"import sys\nfrom {MODULE} import main\nsys.argv = {command[2:]!r}\nmain()\n")
        command = [str(shutil.which("traceml")), "run", str(script), "--mode=summary"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    if done.returncode or not result.exists():
        raise RuntimeError(f"profilers_compared: {way} ended with {done.returncode}.\n{done.stderr[-2000:]}")
    found = json.loads(result.read_text())
    result.unlink()
    shown = found["shown"] or done.stdout
    if way == "TraceML":
        shown = max(folder.rglob("final_summary.txt"), key=lambda path: path.stat().st_mtime).read_text()
    if way == "py-spy":
        shown = top_of(stacks.read_text())
    return {"pace": found["pace"], "cpu": found["cpu"], "shown": shown.replace(str(folder), ".")[:SHOWN]}


def top_of(stacks: str) -> str:
    """The functions that py-spy saw most often at the top of a stack, with their share of the samples."""
    counts: dict[str, int] = {}
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        name = stack.rpartition(";")[2]
        if name.startswith("process "):  # the process itself, with its command line
            continue
        counts[name] = counts.get(name, 0) + int(count)
    total = sum(counts.values()) or 1
    most = sorted(counts.items(), key=lambda pair: -pair[1])[:15]
    return "\n".join(f"{count / total:6.1%}  {name}" for name, count in most)


def ratios(runs: list[dict[str, Any]], others: list[dict[str, Any]], what: str) -> list[float]:
    """A measurement of each run by that of the same turn without a profiler; nothing where it was not measured."""
    return [one[what] / other[what] for one, other in zip(runs, others, strict=False) if one[what] and other[what]]


def missing(way: str) -> str:
    """The module that a way needs and that is not installed; empty if there is none."""
    module = WAYS[way][1]
    there = shutil.which("py-spy") if module == "py_spy" else importlib.util.find_spec(module)
    return "" if there else module


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, help="Folder of photographs. Without it: those in the package.")
    parser.add_argument("--turns", type=int, default=3, help="Runs of each way.")
    parser.add_argument("--only", nargs="*", help="Names of ways; those that they are compared with run too.")
    parser.add_argument("--json", type=Path, help=f"File for the results, such as {RESULTS.name}.")
    for inner in ("--way", "--folder", "--result"):  # for the process of a run
        parser.add_argument(inner, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        warnings.simplefilter("ignore")
        paces, shown = WAYS[options.way][0](Path(options.folder))
        found = {"pace": paces.pace, "cpu": paces.cpu, "shown": shown}
        Path(options.result).write_text(json.dumps(found))
        return
    from gpuaug.demo.photographs import paths

    folder = options.images
    sources = paths() if folder is None else [*sorted(folder.rglob("*.JPEG")), *sorted(folder.rglob("*.jpg"))]
    wanted = set(options.only or WAYS)
    wanted |= {WAYS[way][2] for way in wanted} - {""}
    absent = {way: missing(way) for way in WAYS if way in wanted and missing(way)}
    ways = [way for way in WAYS if way in wanted and way not in absent]
    load = os.getloadavg()[0]
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as place:
        photographs(Path(place), sources)
        for turn in range(options.turns):
            for way in ways if turn % 2 == 0 else ways[::-1]:
                runs[way].append(run(way, Path(place)))
    rows = {}
    for way in ways:
        base = WAYS[way][2]
        times, cores = (ratios(runs[way], runs.get(base, []), what) for what in ("pace", "cpu"))
        rows[way] = {"against": base, "times": times, "cpu": cores, "shown": runs[way][-1]["shown"]}
        print(f"{way:28}", *(f"{statistics.median(some):.2f}" for some in (times, cores) if some), flush=True)
    for way, module in absent.items():
        print(f"{way}: not run, as {module} is not installed")
    if options.json is not None:
        from ..machine import describe

        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        content = {"schema": 1, "created": created, **describe(), "load": load, "absent": absent, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
