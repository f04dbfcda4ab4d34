"""The table of `python -m benchmarks.audit`: who is audited, on what, and what differs in the work."""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from torch import Tensor

from benchmarks import audit_triton
from benchmarks.audit import BANDWIDTHS, Audit
from benchmarks.pseudocuda import PseudoCuda, install, to_device

__all__ = ["main"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = (0.4, 0.4, 0.4, 0.1)
SOURCE, SIZE, CLASSES = 256, 224, 10
WIDTHS = (22, 8, 10, 6, 10, 6, 7)  # of the columns; 80 with borders
HEADINGS = ("", "launches", "MB/image", "syncs", "H2D", "A100", "H100")
RATES = " and ".join(f"{rate / 1e12:g}" for rate in BANDWIDTHS.values())
LEGEND = f"""\
Counts and calculated bounds. Nothing was timed, and nothing ran on a GPU.
Recipes start at a uint8 batch of 3x{SOURCE}x{SOURCE} on the device and end at normalised
{SIZE}x{SIZE}. The second batch of a module is counted; the first one also sends
constants. Ranges are over draws, MB/image is the mean over draws.

launches  operations that compute, a batch; one may start several kernels
MB/image  bytes that the launches read and write, each byte once a launch
syncs     times that the host waits for the device, a batch
H2D       copies to the device, a batch / that wait / that are asynchronous
          but from pageable memory: they may wait, and no CUDA graph takes them
A100 H100 us/image, calculated: MB over {RATES} TB/s of memory
          bandwidth, a lower bound for batches that exceed the L2 cache
"""

Run = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Contestant:
    who: str
    recipe: str
    work: str  # what differs in the work
    build: Callable[[int], Run]  # from a seed
    triton: bool = False


def gpuaug(backend: str) -> list[Contestant]:
    import gpuaug as ga

    head = [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip()]
    middles: dict[str, list[Any]] = {
        "crop + flip": [],
        "+ RandAugment": [ga.RandAugment(2, 9)],
        "+ RandAugment + MixUp": [ga.RandAugment(2, 9)],
        "+ ColorJitter": [ga.ColorJitter(*JITTER)],
    }

    def contestant(recipe: str) -> Contestant:
        tail: list[Any] = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize(MEAN, STD)]
        mix = [ga.MixUp(num_classes=CLASSES)] if "MixUp" in recipe else []

        def build(seed: int) -> Run:
            augment = ga.Augment([*head, *middles[recipe], *tail, *mix], seed=seed, backend=backend)
            return lambda images, labels: augment(images, labels) if mix else augment(images)

        work = "each image its own draw; antialiased; bfloat16 out" + ("; labels are mixed too" if mix else "")
        return Contestant(f"gpuaug, {backend} backend", recipe, work, build, backend == "triton")

    return [contestant(recipe) for recipe in middles]


def kornia() -> list[Contestant]:
    import kornia.augmentation as ka

    middles: dict[str, Callable[[], list[Any]]] = {
        "+ RandAugment": lambda: [ka.auto.RandAugment(n=2, m=9)],
        "+ ColorJitter": lambda: [ka.ColorJitter(*JITTER, p=1.0)],
    }
    draws = {
        "+ RandAugment": "both ops drawn once for the batch",
        "+ ColorJitter": "each image its own draw",
    }

    def contestant(recipe: str, device: str) -> Contestant:
        def build(seed: int) -> Run:
            head = [ka.RandomResizedCrop((SIZE, SIZE)), ka.RandomHorizontalFlip()]
            tail = [ka.Normalize(torch.tensor(MEAN), torch.tensor(STD))]
            chain = torch.nn.Sequential(*head, *middles[recipe](), *tail).to(device)
            return lambda images, labels: chain(images.float() / 255)

        who = "Kornia, modules on the " + ("device" if device == "cuda" else "host")
        work = f"float32 all the way; {draws[recipe]}; not antialiased; crops in a loop: launches grow with the batch"
        return Contestant(who, recipe, work, build)

    return [contestant(recipe, device) for device in ("cpu", "cuda") for recipe in middles]


def torchvision() -> list[Contestant]:
    from torchvision.transforms import v2

    middles = {"+ RandAugment": v2.RandAugment(2, 9), "+ ColorJitter": v2.ColorJitter(*JITTER)}

    def contestant(recipe: str) -> Contestant:
        head = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()]
        chain = v2.Compose([*head, middles[recipe], v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
        work = "uint8 until Normalize; antialiased; one draw for the whole batch: less work"
        who = "torchvision v2, whole batch"
        return Contestant(who, recipe, work, lambda seed: lambda images, labels: chain(images))

    return [contestant(recipe) for recipe in middles]


def reports(contestant: Contestant, batch: int, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """An audit of the second batch for each seed. Of the first one, which fills caches, the findings and uploads."""
    generator = torch.Generator().manual_seed(0)
    images = to_device(torch.randint(0, 256, (batch, 3, SOURCE, SOURCE), dtype=torch.uint8, generator=generator))
    labels = to_device(torch.arange(batch) % CLASSES)
    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        random.seed(seed)
        with PseudoCuda(), torch.no_grad():
            run = contestant.build(seed)
            with Audit() as first:
                run(images, labels)
            with Audit(count_bytes=contestant.triton) as audit:
                run(images, labels)
        early = first.report(batch)
        found.append({**audit.report(batch), "first": {name: early[name] for name in ("uploads", "findings")}})
    return found


def _span(values: Iterable[float], digits: int = 3) -> str:
    """The lowest and the highest; floats to as many significant digits."""
    ends = [values[0], values[-1]] if (values := sorted(values)) else []
    texts = [str(end) if isinstance(end, int) else f"{float(f'{end:.{digits}g}'):g}" for end in ends]
    return "-".join(dict.fromkeys(texts))


def _line(*cells: str) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for number, width in enumerate(WIDTHS):
        grid.add_column(width=width, justify="right" if number else "left", overflow="fold")
    grid.add_row(*cells)
    return grid


def _cells(recipe: str, found: list[dict[str, Any]]) -> Table:
    mean = sum(report["mb_per_image"] for report in found) / len(found)
    names = ("uploads", "uploads_that_wait", "uploads_that_may_wait")
    uploads = [_span(report[name] for report in found) for name in names]
    return _line(
        recipe,
        _span(report["launches"] for report in found),
        _span([mean]),
        _span(report["waits"] for report in found),
        "/".join(uploads),
        *(_span([mean * 1e12 / bandwidth], 2) for bandwidth in BANDWIDTHS.values()),
    )


def _where(found: list[dict[str, Any]]) -> list[str]:
    """The findings of all draws, the most frequent first."""
    counts = Counter(f"{f['kind']}\n  {f['file']}:{f['line']}" for report in found for f in report["findings"])
    return [f"{count / len(found):.3g}x {text}" for text, count in counts.most_common()]


def main(arguments: list[str] | None = None) -> int:
    """1 if gpuaug asks for something it should not, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--triton-batch", type=int, default=4, help="the interpreter is slow (default: 4)")
    parser.add_argument("--seeds", type=int, default=4, help="draws of each recipe (default: 4)")
    parser.add_argument("--only", default="", help="contestants whose name contains this, without case")
    parser.add_argument("--where", action="store_true", help="the source line of each finding")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was counted")
    options = parser.parse_args(arguments)

    install()
    torch.set_num_threads(1)
    console = Console(width=80, highlight=False)
    contestants = [*gpuaug("torch"), *kornia(), *torchvision()]
    if audit_triton.available():
        contestants = [*gpuaug("triton"), *contestants]
    contestants = [one for one in contestants if options.only.lower() in one.who.lower()]

    console.print(LEGEND, style="dim")
    if not audit_triton.available():
        console.print("\ngpuaug, triton backend: skipped, Triton is not installed.")
    table = Table(box=box.ROUNDED)
    table.add_column(_line(*HEADINGS))
    rows = []
    for number, contestant in enumerate(contestants):
        batch = options.triton_batch if contestant.triton else options.batch
        found = reports(contestant, batch, range(options.seeds))
        rows.append({**_described(contestant), "batch": batch, "draws": found})
        lines = [Text(f"{contestant.who}, batch {batch}", style="bold")]
        if number and contestants[number - 1].who == contestant.who:
            lines = []
        notes = [contestant.work, *(_where(found) if options.where else [])]
        dim = [Padding(Text(note, style="dim"), (0, 0, 0, 2)) for note in notes]
        table.add_row(Group(*lines, _cells(contestant.recipe, found), *dim))
    console.print(table)
    if options.json is not None:
        versions = {name: version(name) for name in ("torch", "torchvision", "kornia")}
        options.json.write_text(json.dumps({"versions": versions, "timed": False, "rows": rows}, indent=1) + "\n")
    bad = [row for row in rows if row["who"].startswith("gpuaug") and any(map(_asks, row["draws"]))]
    for row in bad:
        console.print(f"{row['who']}, {row['recipe']}: asks for what it should not; see --where.", style="red")
    return 1 if bad else 0


def _asks(draw: dict[str, Any]) -> bool:
    """For something it should not, in the first batch or later."""
    return bool(draw["findings"] or draw["first"]["findings"])


def _described(contestant: Contestant) -> dict[str, Any]:
    return {"who": contestant.who, "recipe": contestant.recipe, "work": contestant.work}
