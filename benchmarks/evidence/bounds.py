"""The instructions that the Triton kernels execute, and how fast they can be at best.

    python -m benchmarks.evidence.bounds

The kernels are compiled for one GPU and their PTX is run by the emulator of the tests, which counts every warp
instruction. A multiprocessor issues at most four a cycle, so the count is a lower bound of the time; the bytes that
the launches must move are another (`python -m benchmarks.evidence.audit`, which shows both). Nothing here was timed,
and ptxas usually needs fewer instructions than PTX has, so a kernel may also beat the first figure a little.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

import gpuaug as ga

from ..locations import PACKAGE, RESULTS, from_tests
from ..peers.audited import OURS, SIZE, SOURCE, steps
from .gpus import GPUS

__all__ = ["STORED", "fingerprint", "stored"]

KERNELS = Path(ga.__file__).parent / "kernels" / "triton"
STORED = RESULTS / "instructions.json"
BATCH = 256
ARCH = 90  # sm_90; the PTX for other GPUs differs little


def fingerprint(kernels: Path = KERNELS) -> str:
    """A hash of the kernels' sources."""
    digest = hashlib.sha256()
    for file in sorted(kernels.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def stored(file: Path = STORED) -> dict[str, Any] | None:
    """The instructions that `file` holds, and whether they are `stale`: of other kernels than these."""
    if not file.exists():
        return None
    counted: dict[str, Any] = json.loads(file.read_text())
    return {**counted, "stale": counted["kernels"] != fingerprint()}


def instructions(case: str, count: int) -> dict[str, float]:
    """Executed warp instructions per image of each pass, on `count` photographs."""
    from .compiled import emulate

    batch = from_tests("support.images", "batch")

    labels = torch.zeros(count, dtype=torch.int64)
    _, _, launches = emulate(steps(case), batch("photo", count, 3, (SOURCE, SOURCE)), labels, arch=ARCH)
    total: defaultdict[str, float] = defaultdict(float)
    for name, counts in launches:
        total[name.removesuffix("_kernel")] += counts.instructions.total() / count
    return dict(total)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.evidence.bounds", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=28, help="photographs to count on (default: 28)")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"the audit reads benchmarks/results/{STORED.name}")
    options = parser.parse_args()
    try:
        from_tests("support.images", "batch")
    except RuntimeError as error:
        parser.exit(1, f"{error}\n")
    torch.set_num_threads(1)
    table = Table(box=box.ROUNDED, title=f"Calculated lower bounds for a batch of {BATCH}, ms. Nothing was timed.")
    for heading in ("", "instructions\na pixel", *(f"{gpu}\nissue" for gpu in GPUS)):
        table.add_column(heading, justify="right" if heading else "left")
    rows = []
    for case in OURS:
        passes = instructions(case, options.images)
        each = sum(passes.values())
        issue = (f"{gpu.issue(each) * BATCH * 1e3:.3f}" for gpu in GPUS.values())
        table.add_row(case, f"{each * 32 / SIZE**2:.0f}", *issue)
        for name, count in passes.items():
            table.add_row(f"  {name}", f"{count * 32 / SIZE**2:.0f}", style="dim")
        rows.append({"case": case, "warp_instructions": each, "passes": passes})
    Console(width=80, highlight=False).print(table)
    if options.json is not None:
        about = {"timed": False, "counted": f"PTX for sm_{ARCH}, emulated, an image", "images": options.images}
        about |= {"triton": version("triton"), "kernels": fingerprint()}
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
