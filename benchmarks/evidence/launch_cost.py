"""What one launch costs the host, without a GPU: python -m benchmarks.evidence.launch_cost [--arch 90] [--rounds 15]

Triton's real JIT and launcher, on a libcuda that returns at once (benchmarks.evidence.fakecuda): the time in the
CUDA driver
(some microseconds) is not in it. Launches are those of the recipes, on tensors of the CPU; CPU time, in turns.

- `triton`: kernel[grid](...), as a program that knows nothing better launches.
- `gpuaug`: what the backend does for a launch like one before it.
- `launcher`: the part of it that is Triton's launcher in C, which nobody can avoid.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..measure import median
from . import fakecuda

PACKAGE = "gpuaug.kernels.triton"
REPEATS = 300  # of a launch in a turn
BATCH, SIZE, TARGET = 4, 256, 224
LISTS = ("crop + flip", "RandAugment", "RandAugment + MixUp")


@dataclass
class Noted:
    """One launch of a call, with tensors of the CPU."""

    kernel: Any
    grid: Any
    arguments: tuple[Any, ...]
    num_warps: int
    constants: dict[str, Any]


def note(case: str) -> list[Noted]:
    """What a call launches."""
    import torch

    import gpuaug as ga

    from .pseudocuda import PseudoCuda, to_host

    found: list[Noted] = []

    def launch(kernel: Any, grid: Any, *arguments: Any, num_warps: int = 4, **constants: Any) -> None:
        found.append(Noted(kernel, (*grid, 1, 1)[:3], tuple(map(to_host, arguments)), num_warps, constants))

    steps: list[Any] = [ga.RandomResizedCrop(TARGET), ga.RandomHorizontalFlip()]
    steps += [ga.RandAugment(2, 9)] if "RandAugment" in case else []
    steps += [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    steps += [ga.MixUp(num_classes=1000)] if "MixUp" in case else []
    place, tape = sys.modules[f"{PACKAGE}.runtime.launch"], sys.modules[f"{PACKAGE}.runtime.tape"]
    tape.ENABLED = False  # type: ignore[attr-defined]  # each launch goes through `launch`
    original, modules = place.launch, [module for name, module in sys.modules.items() if name.startswith(PACKAGE)]
    holders = [module for module in modules if getattr(module, "launch", None) is original]
    with PseudoCuda():
        images = torch.zeros((BATCH, 3, SIZE, SIZE), dtype=torch.uint8, device="cuda")
        labels = torch.zeros(BATCH, dtype=torch.int64, device="cuda")
        for module in holders:
            module.launch = launch
        try:
            ga.Augment(steps, backend="triton")(images, *([labels] if "MixUp" in case else []))
        finally:
            for module in holders:
                module.launch = original
    return found


def ways(noted: Noted, driver: fakecuda.Driver) -> dict[str, Callable[[], None]]:
    """Each way to launch it; each has done so once."""
    import triton

    launch, kernel, grid, arguments = (
        sys.modules[f"{PACKAGE}.runtime.launch"].launch,
        noted.kernel,
        noted.grid,
        noted.arguments,
    )
    options = {"num_warps": noted.num_warps, **noted.constants}
    heard: list[Any] = []
    driver.hear(lambda raw: heard.append(raw.kernel))
    for _ in range(2):
        launch(kernel, grid, *arguments, **options)
    kernel[grid](*arguments, enable_fp_fusion=False, **options)
    driver.hear(None)
    active = triton.runtime.driver.active
    compiled, stream = heard[-1], active.get_current_stream(active.get_current_device())
    values = [*arguments, *(noted.constants[name] for name in kernel.arg_names if name in noted.constants)]
    start = compiled.run
    fixed = (*grid, stream, compiled.function, compiled.packed_metadata, None, None, None, *values)

    return {
        "triton": lambda: kernel[grid](*arguments, enable_fp_fusion=False, **options),
        "gpuaug": lambda: launch(kernel, grid, *arguments, **options),
        "launcher": lambda: start(*fixed),
    }


def microseconds(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """CPU time of one launch: the median over rounds of turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            for _ in range(REPEATS):
                run()
            taken[name].append((time.process_time() - start) / REPEATS * 1e6)
    return {name: median(values) for name, values in taken.items()}


def like_a_device() -> None:
    """Let Triton ask for device and stream at the cost that this has with CUDA."""
    import torch
    import triton

    def current_device() -> int:  # as torch.cuda.current_device is
        torch.cuda._lazy_init()
        return 0

    active = triton.runtime.driver.active
    active.get_current_device = current_device
    active.get_current_stream = abs  # a function in C; of device 0 the default stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, default=90, help="compute capability times ten")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    fakecuda.restarted()
    import triton
    from rich.console import Console
    from rich.table import Table

    import gpuaug.kernels.triton  # noqa: F401

    driver = fakecuda.pretend(given.arch)
    table = Table(box=None, title=f"microseconds of CPU time a launch, Triton {triton.__version__}")
    table.add_column("list", no_wrap=True)
    table.add_column("kernel", no_wrap=True)
    for column in ("arguments", "constants", "triton", "gpuaug", "launcher"):
        table.add_column(column, justify="right")
    like_a_device()
    for case in LISTS:
        sums = dict.fromkeys(("triton", "gpuaug", "launcher"), 0.0)
        for noted in note(case):
            taken = microseconds(ways(noted, driver), given.rounds)
            sums = {name: sums[name] + value for name, value in taken.items()}
            sizes = str(len(noted.arguments)), str(len(noted.constants))
            table.add_row(case, noted.kernel.__name__, *sizes, *(f"{value:.1f}" for value in taken.values()))
        table.add_row(case, "together", "", "", *(f"{value:.1f}" for value in sums.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
