"""What a call of the CUDA path costs on the host, with launches that start nothing: python -m benchmarks.evidence.host

`call` is a whole call, from the third of its shape on: launches are repeated from a tape, and the most common lists are
drawn straight into the block (gpuaug/kernels/triton/runtime/writer.py). The phases are those of the long way, which
other lists take.

Everything runs but the device and its driver: checks, drawing, lowering, filling the block of parameters, making the
output tensors, and the launches up to the driver call, which a stub takes. Tensors are on the CPU and small (32 x 32 to
28 x 28: nothing on the host depends on their size), so that the allocator costs about what CUDA's caching one does. Not
counted: the copy of the block and the driver's part of a launch. Counted although a GPU would not have it: that labels
on the CPU are looked at.

Figures are CPU time of this thread, the least and the median of many calls: other programs on the machine do not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import thread_time_ns
from typing import Any

import torch
import triton
from rich import box
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget

triton.knobs.runtime.interpret = False

import gpuaug as ga  # noqa: E402
from gpuaug.engine import backends, render  # noqa: E402

BATCHES = (64, 256, 1024)
SOURCE, SIZE, CLASSES = 32, 28, 1000
HEAD = [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip()]
TAIL = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
JITTER = ga.ColorJitter(0.4, 0.4, 0.4, 0.1)
RECIPES: dict[str, list[Any]] = {
    "crop + flip + normalise": [],
    "RandAugment": [ga.RandAugment()],
    "TrivialAugment": [ga.TrivialAugmentWide()],
    "ColorJitter": [JITTER],
    "SimCLR": [ga.RandomApply([JITTER], 0.8), ga.RandomGrayscale(0.2), ga.RandomApply([ga.GaussianBlur(3)], 0.5)],
}
PHASES = ("check", "sample", "lower", "pack", "launch")
TARGETS = {("RandAugment + MixUp", 256): 250.0, ("crop + flip + normalise", 64): 120.0}  # us a call


class Driver:
    """A GPU that does nothing; counts launches."""

    launches = 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        def run(*arguments: Any) -> None:
            self.launches += 1

        return run

    class utils:  # noqa: N801
        @staticmethod
        def get_device_properties(device: int) -> dict[str, int]:
            return {"max_shared_mem": 1 << 20}

        @staticmethod
        def load_binary(*arguments: Any) -> tuple[int, ...]:
            return 0, 0, 32, 0, 1024

        @staticmethod
        def unload_module(module: Any) -> None:
            pass


def install() -> Driver:
    """Make Triton launch nothing, and let its backend take CPU tensors, until the process ends."""
    torch.set_num_threads(1)
    driver = Driver()
    triton.runtime.driver.set_active(driver)
    backends.interpreted = lambda: True
    return driver


def recipe(name: str, mix: bool) -> list[Any]:
    return [*HEAD, *RECIPES[name], *TAIL, *([ga.MixUp(num_classes=CLASSES)] if mix else [])]


def call(augment: ga.Augment, batch: int) -> tuple[Callable[[], Any], Callable[[], list[int]]]:
    """One whole call, and one that says when each phase ended, in ns."""
    from gpuaug.kernels.triton import Job

    images = torch.zeros(batch, 3, SOURCE, SOURCE, dtype=torch.uint8)
    mixes = augment.train_pipeline.mix is not None
    labels = torch.zeros(batch, dtype=torch.int64) if mixes else None
    pipeline, canvas = augment.train_pipeline, augment.sample(images).canvas

    def phases() -> list[int]:
        keys = augment._keys(batch)
        marks = [thread_time_ns()]
        augment._check(images, labels, True)
        marks.append(thread_time_ns())
        params = pipeline.sample(keys, canvas)
        marks.append(thread_time_ns())
        items = pipeline.lower(params, keys, canvas, False, augment.memory_format)
        marks.append(thread_time_ns())
        job = Job(items, images)
        marks.append(thread_time_ns())
        render.run(items, job, images, labels, CLASSES)
        marks.append(thread_time_ns())
        return marks

    return (lambda: augment(images, labels)) if mixes else (lambda: augment(images)), phases


def functions(steps: list[Any], batch: int) -> int:
    """How many functions, in Python and in C, a whole call calls once it is warm: no time, the same everywhere."""
    whole, _ = call(ga.Augment(steps, backend="triton"), batch)
    seen = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        seen += event in ("call", "c_call")

    for _ in range(4):
        whole()
    sys.setprofile(count)
    whole()
    sys.setprofile(None)
    return seen


def measure(steps: list[Any], batch: int, rounds: int, driver: Driver) -> dict[str, Any]:
    """(least, median) in us of a whole call and of its phases, and how many launches."""
    whole, phases = call(ga.Augment(steps, backend="triton"), batch)
    for _ in range(20):
        whole(), phases()
    times: dict[str, list[float]] = {name: [] for name in ("call", *PHASES)}
    for _ in range(rounds):
        start = thread_time_ns()
        whole()
        times["call"].append((thread_time_ns() - start) / 1e3)
        marks = phases()
        for name, first, last in zip(PHASES, marks, marks[1:], strict=False):
            times[name].append((last - first) / 1e3)
    before = driver.launches
    whole()
    found: dict[str, Any] = {name: (min(values), statistics.median(values)) for name, values in times.items()}
    return found | {"launches": driver.launches - before}


def tables(batches: list[int], rounds: int, names: list[str]) -> dict[str, dict[str, Any]]:
    driver = install()
    found = {}
    for batch in batches:
        for name in names:
            for mix in (False, True):
                title = name + " + MixUp" * mix
                found[f"{title}, {batch}"] = measure(recipe(name, mix), batch, rounds, driver)
    return found


def show(found: dict[str, dict[str, Any]]) -> None:
    table = Table(box=box.ROUNDED, title="Host time of a call, us of CPU time, least / median; launches start nothing")
    for heading in ("list, batch", "call", *PHASES, "launches", "target"):
        table.add_column(heading, justify="left" if heading == "list, batch" else "right", no_wrap=True)
    for name, row in found.items():
        title, batch = name.rsplit(", ", 1)
        target = TARGETS.get((title, int(batch)))
        figures = (f"{row[key][0]:.0f} / {row[key][1]:.0f}" for key in ("call", *PHASES))
        table.add_row(name, *figures, str(row["launches"]), "" if target is None else f"{target:.0f}")
    Console(width=150, highlight=False).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--functions", action="store_true", help="count the functions that a call calls, in JSON")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    if arguments.functions:
        install()
        counts = {
            f"{name}{' + MixUp' * mix}": functions(recipe(name, mix), arguments.batches[0])
            for name in arguments.recipes
            for mix in (False, True)
        }
        print(json.dumps(counts))
        return
    found = tables(arguments.batches, arguments.rounds, arguments.recipes)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()
