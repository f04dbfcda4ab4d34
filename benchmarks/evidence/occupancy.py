"""How many warps of each kernel a multiprocessor can hold: python -m benchmarks.evidence.occupancy

Every kernel of the recipes is compiled for GPUs that need not be there. ptxas says what it takes (registers, shared
memory), and NVIDIA's rules say how many blocks of it fit. More warps hide more of the waiting for memory; a kernel that
reaches half the warps and moves few bytes is usually as well off as one that reaches them all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from ..locations import PACKAGE, from_tests

__all__ = ["MULTIPROCESSORS", "Kernel", "Multiprocessor", "Occupancy", "kernels", "occupancy"]

WARP = 32  # threads
REGISTER_UNIT = 256  # registers of a warp are handed out in these
PARTITIONS = 4  # of a multiprocessor, each with its own registers; a warp lives in one
LIMITS = ("warps", "registers", "shared memory", "blocks")


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor has: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"."""

    warps: int
    blocks: int
    shared: int  # bytes, at the largest carve-out
    reserved: int  # bytes of it that the system takes for each block
    shared_unit: int  # bytes; shared memory of a block is handed out in these
    registers: int = 65536


MULTIPROCESSORS = {
    70: Multiprocessor(warps=64, blocks=32, shared=96 * 1024, reserved=0, shared_unit=256),
    75: Multiprocessor(warps=32, blocks=16, shared=64 * 1024, reserved=0, shared_unit=256),
    80: Multiprocessor(warps=64, blocks=32, shared=164 * 1024, reserved=1024, shared_unit=128),
    86: Multiprocessor(warps=48, blocks=16, shared=100 * 1024, reserved=1024, shared_unit=128),
    89: Multiprocessor(warps=48, blocks=24, shared=100 * 1024, reserved=1024, shared_unit=128),
    90: Multiprocessor(warps=64, blocks=32, shared=228 * 1024, reserved=1024, shared_unit=128),
    100: Multiprocessor(warps=64, blocks=32, shared=228 * 1024, reserved=1024, shared_unit=128),
}


@dataclass(frozen=True)
class Occupancy:
    """How much of a multiprocessor a kernel can fill."""

    blocks: int  # at a time
    share: float  # of the warps a multiprocessor can hold
    limit: str  # what is used up first


def occupancy(capability: int, threads: int, registers: int, shared: int) -> Occupancy:
    """Calculated as NVIDIA's occupancy calculator does.

    Args:
        capability: compute capability times ten.
        threads: of a block.
        registers: of a thread.
        shared: bytes of a block, static and dynamic.
    """
    has = MULTIPROCESSORS[capability]
    warps = -(-threads // WARP)
    each = _up(registers * WARP, REGISTER_UNIT)
    fit = has.registers // PARTITIONS // each * PARTITIONS if each else has.warps  # warps, by their registers
    memory = _up(shared + has.reserved, has.shared_unit)
    blocks = (has.warps // warps, fit // warps, has.shared // memory if memory else has.blocks, has.blocks)
    least = min(blocks)
    return Occupancy(least, least * warps / has.warps, LIMITS[blocks.index(least)])


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


@dataclass(frozen=True)
class Kernel:
    """A kernel of a recipe, compiled for one compute capability."""

    recipe: str
    name: str
    capability: int
    threads: int
    registers: int
    shared: int
    spills: int  # bytes of stack and local memory
    share: float
    limit: str
    constants: dict[str, Any]


def kernels(names: Sequence[str], capability: int) -> Iterator[Kernel]:
    """The distinct kernels of each recipe, in the order of their launches."""
    from .compiled import NVIDIA, distinct, resources

    recipes = from_tests("support.recipes", "RECIPES")
    for recipe in names:
        for launch in distinct(*recipes[recipe], NVIDIA(capability)):
            used = resources(launch.kernel)
            taken = used["threads"], used["registers"], used["shared"]
            found = occupancy(capability, *taken)
            spills = used["stack"] + used["local"]
            yield Kernel(
                recipe, launch.label, capability, *taken, spills, found.share, found.limit, dict(launch.constants)
            )


def main() -> None:
    try:
        recipes = from_tests("support.recipes", "RECIPES")
    except RuntimeError as error:
        sys.exit(str(error))
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.evidence.occupancy", description=__doc__.splitlines()[0]
    )
    parser.add_argument("recipes", nargs="*", default=list(recipes), help=f"of {', '.join(recipes)} (default: all)")
    parser.add_argument("--capability", type=int, nargs="+", default=[80, 90], choices=list(MULTIPROCESSORS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if unknown := [name for name in options.recipes if name not in recipes]:
        parser.error(f"`recipes` must be of {', '.join(recipes)}, got {', '.join(unknown)}")
    torch.set_num_threads(1)
    console = Console(width=80, highlight=False)
    rows = []
    for capability in options.capability:
        found = list(kernels(options.recipes, capability))
        rows += found
        console.print(_table(found, f"sm_{capability}, Triton {version('triton')}: calculated, not run"))
    if options.json is not None:
        about = {"timed": False, "triton": version("triton"), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(about, indent=1) + "\n")


def _table(found: Sequence[Kernel], title: str) -> Table:
    """One row for each kernel, however many recipes launch it."""
    table = Table(box=box.SIMPLE, title=title, padding=(0, 1))
    for heading in ("kernel", "recipe", "threads", "reg.", "shared", "spills", "warps", "limit"):
        table.add_column(heading, justify="left" if heading in ("kernel", "recipe", "limit") else "right")
    for row in {(row.name, row.threads, row.registers, row.shared): row for row in reversed(found)}.values():
        numbers = map(str, (row.threads, row.registers, row.shared, row.spills))
        style = "red" if row.share < 0.5 or row.spills else ""
        table.add_row(row.name, row.recipe, *numbers, f"{row.share:.0%}", row.limit, style=style)
    return table


if __name__ == "__main__":
    main()
