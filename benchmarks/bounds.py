"""How fast the Triton kernels can be at best, calculated: python -m benchmarks.bounds

The kernels are compiled for one GPU and their PTX is run by the emulator of the tests, which counts every warp
instruction. A multiprocessor issues at most four a cycle, so the count is a lower bound of the time; the bytes that
the launches must move (from `python -m benchmarks.audit`) are another. Nothing here was timed, and ptxas usually needs
fewer instructions than PTX has, so a kernel may also beat the first figure a little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the emulator, and photographs

import gpuaug as ga  # noqa: E402

BATCH = 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GPUS = {  # multiprocessors, boost clock in Hz, bytes a second of memory
    "A100": (108, 1.41e9, 1.555e12),
    "H100": (132, 1.755e9, 3.35e12),
}
SCHEDULERS = 4  # of a multiprocessor; each issues one warp instruction a cycle
HEAD = [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip()]
TAIL = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize(MEAN, STD)]
RECIPES: dict[str, list[Any]] = {  # named as the audit names them
    "crop + flip": [*HEAD, *TAIL],
    "+ RandAugment": [*HEAD, ga.RandAugment(2, 9), *TAIL],
    "+ RandAugment + MixUp": [*HEAD, ga.RandAugment(2, 9), *TAIL, ga.MixUp(num_classes=1000)],
    "+ ColorJitter": [*HEAD, ga.ColorJitter(0.4, 0.4, 0.4, 0.1), *TAIL],
}


def instructions(steps: list[Any], count: int) -> Counter[str]:
    """Executed warp instructions per image of each pass, on `count` photographs of 256 x 256."""
    from compiled import emulate
    from images import batch

    labels = torch.zeros(count, dtype=torch.int64)
    _, _, launches = emulate(steps, batch("photo", count, 3, (256, 256)), labels, arch=90)
    total: Counter[str] = Counter()
    for name, counts in launches:
        total[name.removesuffix("_kernel")] += counts.instructions.total() / count  # type: ignore[assignment]
    return total


def megabytes() -> dict[str, float]:
    """MB moved per image of each recipe, from the audit."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "audit.json"
        command = [sys.executable, "-m", "benchmarks.audit", "--only", "triton", "--json", str(file)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        rows = json.loads(file.read_text())["rows"]
    return {row["recipe"]: sum(d["mb_per_image"] for d in row["draws"]) / len(row["draws"]) for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bounds", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=28, help="photographs to count on (default: 28)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    moved = megabytes()
    table = Table(box=box.ROUNDED, title=f"Calculated lower bounds for a batch of {BATCH}, ms. Nothing was timed.")
    for heading in ("", "instructions\na pixel", *(f"{gpu}\n{kind}" for gpu in GPUS for kind in ("issue", "memory"))):
        table.add_column(heading, justify="right" if heading else "left")
    rows = []
    for recipe, steps in RECIPES.items():
        passes = instructions(steps, options.images)
        each = passes.total()
        cells = []
        for multiprocessors, clock, bandwidth in GPUS.values():
            issue = each * BATCH / (multiprocessors * SCHEDULERS * clock) * 1e3
            cells += [issue, moved[recipe] * 1e6 * BATCH / bandwidth * 1e3]
        table.add_row(recipe, f"{each * 32 / 224**2:.0f}", *(f"{cell:.3f}" for cell in cells))
        for name, count in passes.items():
            table.add_row(f"  {name}", f"{count * 32 / 224**2:.0f}", style="dim")
        bounds = dict(zip([f"{g} {kind}" for g in GPUS for kind in ("issue", "memory")], cells, strict=True))
        rows.append({"recipe": recipe, "warp_instructions": dict(passes), "mb": moved[recipe], "ms": bounds})
    Console(width=80, highlight=False).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps({"timed": False, "batch": BATCH, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
