"""What a call costs before it touches a pixel, and what the first call ever costs: python -m
benchmarks.evidence.overhead"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

import torch
from rich.console import Console
from rich.table import Table

from ..cases import HOST, SOURCE, full
from ..measure import take_turns

BATCH, ROUNDS = 256, 50
COLD = """
import time, torch, torchvision
start = time.perf_counter()
import gpuaug as ga
print(time.perf_counter() - start)
images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
tail = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,), (0.5,))]
augment = ga.Augment([ga.RandomResizedCrop(32), ga.RandAugment(), *tail])
start = time.perf_counter()
augment(images)
print(time.perf_counter() - start)
"""


def host(console: Console) -> None:
    """`sample` and `lower` of the recipes, with erasing and a mix."""
    batch = torch.zeros((1, 1, 1, 1), dtype=torch.uint8).expand(BATCH, 3, SOURCE, SOURCE)
    index = torch.arange(BATCH)
    table = Table("recipe", box=None, title=f"sample + lower, batch of {BATCH}, ms (aim: at most 1)")
    for column in ("sample", "lower", "both"):
        table.add_column(column, justify="right")
    for name in HOST:
        augment = full(name)
        draw, lower = augment.sample(batch, index=index), augment.train_pipeline.lower
        arguments = (draw.params, draw.keys, draw.canvas, False, torch.contiguous_format)
        runs = {"sample": lambda: augment.sample(batch, index=index), "lower": lambda: lower(*arguments)}  # noqa: B023
        medians = [statistics.median(seconds) * 1e3 for seconds in take_turns(runs, ROUNDS).values()]
        table.add_row(name, *(f"{value:.2f}" for value in (*medians, sum(medians))))
    console.print(table)


def cold(console: Console) -> None:
    """Import and first call, in fresh processes, without and with Numba's cache on disk."""
    with tempfile.TemporaryDirectory() as cache:
        for state in ("empty cache", "filled cache"):
            environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
            command = [sys.executable, "-c", COLD]
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            imported, first = map(float, result.stdout.split())
            console.print(f"{state}: import {imported:.2f} s beyond torch and torchvision, first call {first:.2f} s")


def main() -> None:
    torch.set_num_threads(1)
    console = Console(width=80, highlight=False)
    host(console)
    cold(console)


if __name__ == "__main__":
    main()
