"""Are the pixels distributed as torchvision's? One image, thousands of draws of every transform by both libraries.

    python -m benchmarks.evidence.distribution [--draws 4000] [--only NAME] [--json FILE]

A draw is described by numbers: the mean and the variance of the image and of each channel, the shares of its values in
bins (the histogram), single pixels, and for a mix the label. The Kolmogorov-Smirnov distance of each number between the
libraries is held against the one that equal libraries would exceed, anywhere in the table, with a chance of one in 1e9.
torchvision is called for each image, so that each has its own draw; ours gets them as batches.

The comparison can fail: every case has faults, ours with an argument a little off, and must see each of them. With 4000
draws it sees 99 of 100 faults that move the distribution of a number by 0.09, such as a chance of 0.4 for 0.5,
magnitude 8 for 9 of RandAugment, or an end of a range that is off by a fifth to a third. What it does not see: how
numbers hang together, beyond mean, variance and histogram.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug import checks
from gpuaug.demo.photographs import photographs

from ..cases import ROWS
from ..locations import PACKAGE
from .accuracy import floats

Array = NDArray[Any]
Build = Callable[..., list[Any]]  # (library, **arguments to change): its transforms
Numbers = dict[str, Array]  # name: (draws, how many of the kind)

DRAWS = 4000  # of torchvision
MORE = 3  # times as many of ours, which are cheap
SIDE = 20  # pixels
BINS, PIXELS = 16, 12
FALSE_ALARM = 1e-9
CHUNK = 1000  # images described at a time


# ---- cases -----------------------------------------------------------------------------------------------------------


def cifar(lib: Any, magnitude: int = 9) -> list[Any]:
    crop = [lib.RandomCrop(SIDE, padding=4), lib.RandomHorizontalFlip()]
    return [*crop, lib.RandAugment(2, magnitude), *floats(lib)]


def imagenet(lib: Any, p: float = 0.25) -> list[Any]:
    crop = [lib.RandomResizedCrop(16, antialias=True), lib.RandomHorizontalFlip()]
    return [*crop, lib.TrivialAugmentWide(), *floats(lib), lib.RandomErasing(p=p)]


# name: (how to build it, faults). A name begins with the transform's, unless it is a recipe's.
RECIPES: dict[str, tuple[Build, Sequence[dict[str, Any]]]] = {
    "CIFAR-10 recipe": (cifar, [{"magnitude": 7}]),
    "ImageNet recipe": (imagenet, [{"p": 0.05}]),
}


def cases() -> dict[str, tuple[Build, Sequence[dict[str, Any]]]]:
    """Those of the ops' rows, and the recipes."""
    rows = [(op, case) for op, row in ROWS.items() if not isinstance(row.pixels, str) for case in row.pixels]
    named = {", ".join(filter(None, (op.__name__, case.name))): (case.build, case.faults) for op, case in rows}
    return named | RECIPES


CASES = cases()
EXCLUDED = {op.__name__: row.pixels for op, row in ROWS.items() if isinstance(row.pixels, str)}


# ---- draws -----------------------------------------------------------------------------------------------------------


@lru_cache
def pair() -> Tensor:
    """(2, 3, SIDE, SIDE) uint8: photographs, each with a slope to the right in red and one downwards in green, so that
    a channel's mean and variance tell where its pixels came from. Not all levels are used."""
    slope = torch.linspace(0, 255, SIDE).expand(SIDE, SIDE)
    slopes = torch.stack([slope, slope.T, 255 - slope])
    photos = [v2.functional.resize(photo, [SIDE, SIDE], antialias=True) for photo in photographs()[:3:2]]
    return (0.3 * torch.stack(photos) + 0.4 * slopes + 30).round().to(torch.uint8)


def mixes(name: str) -> bool:
    return name in ("MixUp", "CutMix")


def theirs(name: str, draws: int) -> Numbers:
    """torchvision's, a call for each draw."""
    transform, (image, other) = v2.Compose(cases()[name][0](v2)), pair()
    both, labels = torch.stack([image, other]), torch.tensor([0, 1])
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision's encoders are to move to TorchCodec
        torch.manual_seed(0)
        if mixes(name):  # a batch of two, of which the first counts
            images, targets = zip(*(transform(both, labels) for _ in range(draws)), strict=True)
            return describe(torch.stack([batch[0] for batch in images]), torch.stack([batch[0] for batch in targets]))
        return describe(torch.stack([transform(image) for _ in range(draws)]))


def ours(name: str, draws: int, changed: dict[str, Any] | None = None) -> Numbers:
    """Batches of ours, with some arguments changed."""
    image, other = pair()
    changed = changed or {}
    if mixes(name):  # each sample with a draw of its own; the one before is of the other image
        augment = ga.Augment(cases()[name][0](ga, mode="elem", **changed))
        both, labels = torch.stack([image, other]).repeat(draws, 1, 1, 1), torch.tensor([0, 1]).repeat(draws)
        images, targets = augment(both, labels, index=torch.arange(2 * draws))
        return describe(images[::2], targets[::2])
    augment = ga.Augment(cases()[name][0](ga, **changed))
    index = torch.arange(draws).split(CHUNK)
    return describe(torch.cat([augment(image.expand(len(i), -1, -1, -1).contiguous(), index=i) for i in index]))


def describe(images: Tensor, labels: Tensor | None = None) -> Numbers:
    """The numbers of each image (N, C, H, W), and of its label (N, classes)."""
    parts = [_describe(part) for part in images.split(CHUNK)]
    numbers = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return numbers if labels is None else {**numbers, "label": labels[:, :1].numpy()}


def _describe(images: Tensor) -> dict[str, Tensor]:
    low, high = (-2.0, 2.0) if images.is_floating_point() else (0.0, 256.0)
    values, count = images.flatten(2).double(), images[0].numel()
    means, squares = whole(values.mean(2)), whole(values.square().mean(2))
    values = values.flatten(1)
    bins = ((values.float() - low) * (BINS / (high - low))).int().clamp_(0, BINS - 1)
    bins += BINS * torch.arange(len(images), dtype=torch.int32)[:, None]
    places = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:PIXELS]
    return {  # rounded, so that the order of a sum, or its last bit, makes no difference
        "mean": means.round(decimals=5),
        "variance": (squares - means.square()).round(decimals=5),
        "histogram": torch.bincount(bins.flatten(), minlength=len(images) * BINS).reshape(-1, BINS) / count,
        "pixels": values[:, places].round(decimals=5),
    }


def whole(channels: Tensor) -> Tensor:
    """(N, C) means of channels, with the mean of all channels before them."""
    return torch.cat([channels.mean(1, keepdim=True), channels], 1)


# ---- comparison ------------------------------------------------------------------------------------------------------


def distance(first: Array, second: Array) -> float:
    """The Kolmogorov-Smirnov distance of two samples."""
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate([first, second])
    below = [np.searchsorted(sample, points, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def compare(first: Numbers, second: Numbers) -> dict[str, float]:
    """The largest distance of each kind of number."""
    return {name: max(map(distance, first[name].T, second[name].T)) for name in first}


def moved(first: Numbers, second: Numbers) -> float:
    """Percent of the values that stand in another bin of the mean histogram."""
    means = [numbers["histogram"].mean(axis=0) for numbers in (first, second)]
    return 50 * float(np.abs(means[0] - means[1]).sum())


def bound(draws: int) -> float:
    """What a distance exceeds by chance, anywhere in the table, once in 1 / FALSE_ALARM tables (Kolmogorov; larger
    than needed where numbers are few and repeat)."""
    comparisons = len(CASES) * (4 + 4 + BINS + PIXELS + 1)
    return math.sqrt(math.log(2 * comparisons / FALSE_ALARM) * (1 + 1 / MORE) / (2 * draws))


def measure(name: str, draws: int = DRAWS) -> dict[str, Any]:
    """The record of a case: distances to torchvision of ours, and of ours gone wrong."""
    expected, got = theirs(name, draws), ours(name, MORE * draws)
    faults = {words(fault): compare(ours(name, MORE * draws, fault), expected) for fault in CASES[name][1]}
    return {"case": name, "distances": compare(got, expected), "moved": moved(got, expected), "faults": faults}


def words(fault: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fault.items())


# ---- output ----------------------------------------------------------------------------------------------------------


def show(records: list[dict[str, Any]], limit: float, console: Console) -> None:
    def cell(figure: float, right: bool) -> str:
        return f"{figure:.3f}" if right else f"[red]{figure:.3f}[/]"

    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column(no_wrap=True)
    for heading in ("mean", "variance", "bins", "pixels", "moved, %", "fault"):
        table.add_column(heading, justify="right")
    wrong, blind = [], []
    for record in records:
        figures, faults = record["distances"], {name: max(f.values()) for name, f in record["faults"].items()}
        cells = [cell(figures[name], figures[name] <= limit) for name in ("mean", "variance", "histogram", "pixels")]
        least = min(faults.values())
        table.add_row(record["case"], *cells, f"{record['moved']:.2f}", cell(least, least > limit))
        wrong += [f"{record['case']} ({name})" for name, figure in figures.items() if figure > limit]
        blind += [f"{record['case']} ({name})" for name, figure in faults.items() if figure <= limit]
    console.print(table)
    if blind:
        console.print(f"\n[red]Faults that were not seen: {', '.join(blind)}.[/]")
    said = f"[red]Differently distributed: {', '.join(wrong)}.[/]" if wrong else "Chance may be behind every distance."
    console.print(f"\n{said}")


def main(arguments: list[str] | None = None, console: Console | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.evidence.distribution",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help="of torchvision for each case (default: 4000)")
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    checks.integer("distribution", "draws", args.draws, 1)
    names = [name for name in CASES if args.only.lower() in name.lower()]
    if not names:
        raise checks.argument_error(
            "distribution", "only", "part of a case's name", repr(args.only), f"Cases: {', '.join(CASES)}."
        )
    console = console or Console(width=80, highlight=False)
    torch.set_num_threads(1)
    limit = bound(args.draws)
    records = [measure(name, args.draws) for name in track(names, "drawing", console=console, transient=True)]
    console.print(
        f"{args.draws} draws of torchvision {torchvision.__version__}, {MORE * args.draws} of ours. Largest "
        f"Kolmogorov-Smirnov distances; above {limit:.3f} is a difference. moved: values in another bin of the mean "
        "histogram; fault: the distance of the least visible of ours gone wrong.\n",
        style="dim",
    )
    show(records, limit, console)
    if args.json is not None:
        written = {"draws": args.draws, "bound": limit, "torchvision": torchvision.__version__, "cases": records}
        args.json.write_text(json.dumps(written, indent=1) + "\n")
    return int(any(max(record["distances"].values()) > limit for record in records))


if __name__ == "__main__":
    raise SystemExit(main())
