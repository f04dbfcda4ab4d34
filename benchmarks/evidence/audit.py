"""The audit of everybody: python -m benchmarks.evidence.audit [--quick] [--json FILE]

`collect` makes torch believe in a GPU for as long as the process lives, so it wants a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # before torchvision, which imports Triton

import torch
from rich.console import Console

from ..locations import PACKAGE
from ..machine import versions
from ..peers.audited import CLASSES, SIZE, SOURCE, Contestant, contestants
from ..peers.peer import words
from ..report.audit import show
from . import launches as audit_triton
from .bounds import stored
from .gpus import GPUS, RATES, bounds
from .pseudocuda import PseudoCuda, install, to_device
from .recording import Audit

__all__ = ["collect", "main"]

PACKAGES = ("torch", "torchvision", "triton", "kornia", "triton-augment", "torchaug")


def collect(
    batch: int = 16,
    triton_batch: int = 4,
    seeds: int = 4,
    only: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """What everybody asks of a device and what follows from it, as JSON has it; `benchmarks.report.audit.show` shows
    it.

    Args:
        batch: images.
        triton_batch: for kernels that Triton's interpreter runs, which is slow.
        seeds: draws of each case.
        only: contestants whose name contains this, without case.
        progress: hears who is next.
    """
    install()
    counted = stored()
    instructions = {row["case"]: row["warp_instructions"] for row in counted["rows"]} if counted else {}
    rows, absent = [], []
    for one in contestants():
        if only.lower() not in one.who.lower():
            continue
        progress(f"{one.who}, {one.case}")
        about = {"who": one.who, "case": one.case}
        size = triton_batch if one.triton else batch
        try:
            row = {**about, "work": one.work, "batch": size, **reports(one, size, range(seeds))}
        except Exception as error:  # missing, or it does not run here: said in its own words
            absent.append({**about, "error": words(error)})
            continue
        moved = sum(draw["mb_per_image"] for draw in row["draws"]) / seeds * 1e6
        known = instructions.get(one.case) if one.who == "gpuaug, triton backend" else None
        rows.append({**row, "calculated": bounds(moved, known)})
    return {
        "timed": False,
        "calculated": True,
        "versions": versions(PACKAGES),
        "source": SOURCE,
        "size": SIZE,
        "gpus": {name: asdict(gpu) for name, gpu in GPUS.items()},
        "rates": {model: {name: asdict(rate) for name, rate in rates.items()} for model, rates in RATES.items()},
        "instructions": counted and {name: counted[name] for name in ("counted", "images", "triton", "stale")},
        "rows": rows,
        "absent": absent,
    }


def reports(contestant: Contestant, batch: int, seeds: Iterable[int]) -> dict[str, Any]:
    """The second batch for each seed. Of the first one, which fills caches, the findings and uploads."""
    generator = torch.Generator().manual_seed(0)
    images = to_device(torch.randint(0, 256, (batch, 3, SOURCE, SOURCE), dtype=torch.uint8, generator=generator))
    labels = to_device(torch.arange(batch) % CLASSES)
    first, later = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        random.seed(seed)
        with PseudoCuda(), torch.no_grad():
            run = contestant.build(seed)
            with Audit() as early:
                run(images, labels)
            with Audit(count_bytes=contestant.triton) as audit:
                run(images, labels)
        first.append(early.report(batch))
        later.append(audit.report(batch))
    kept = {name for name in later[0] if name not in ("by_name", "findings")}
    names = sum((Counter(report["by_name"]) for report in later), Counter[str]())
    return {
        "draws": [{name: value for name, value in report.items() if name in kept} for report in later],
        "by_name": {name: count / len(later) for name, count in names.most_common()},
        "findings": _findings(later),
        "first": {"uploads": [report["uploads"] for report in first], "findings": _findings(first)},
    }


def _findings(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The findings of all draws, the most frequent first; `count` is that of a batch."""
    alike = Counter(tuple(finding.items()) for report in found for finding in report["findings"])
    return [{**dict(finding), "count": count / len(found)} for finding, count in alike.most_common()]


def main(arguments: list[str] | None = None) -> int:
    """1 if gpuaug asks for something it should not, or does not run, else 0."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.evidence.audit", description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--triton-batch", type=int, default=4, help="the interpreter is slow (default: 4)")
    parser.add_argument("--seeds", type=int, default=4, help="draws of each case (default: 4)")
    parser.add_argument("--quick", action="store_true", help="one draw, and batches of two in the interpreter")
    parser.add_argument("--only", default="", help="contestants whose name contains this, without case")
    parser.add_argument("--where", action="store_true", help="the source line of each finding")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was counted")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.triton_batch = 1, 2

    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a device would be in the way of the one that stands in for it
    torch.set_num_threads(1)
    console = Console(width=80, highlight=False)
    with console.status("") as status:
        result = collect(options.batch, options.triton_batch, options.seeds, options.only, status.update)
    show(console, result, options.where)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any(map(_fails, (*result["rows"], *result["absent"]))) else 0


def _fails(row: dict[str, Any]) -> bool:
    """gpuaug asks for something it should not, in the first batch or later; or it does not run, and could."""
    if not row["who"].startswith("gpuaug"):
        return False
    if "error" in row:
        return "triton" not in row["who"] or audit_triton.available()
    return bool(row["findings"] or row["first"]["findings"])


if __name__ == "__main__":
    sys.exit(main())
