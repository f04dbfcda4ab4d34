"""Does training end with the same accuracy? One small network on CIFAR-10, with torchvision's transforms and with ours.

    python -m benchmarks.evidence.accuracy --data FOLDER_WITH_TRAIN_AND_TEST [--seeds 8] [--images 5000] [--epochs 16]

For one seed all contestants start with the same weights and see the same uint8 images in the same batches; only what
augments them differs. torchvision is called for each image, as in a Dataset. Accuracies are of the whole test split,
and every run is one process on one thread. By default the network sees so few images, so often, that it overfits
without augmentation.

"Equal" means that two one-sided paired t-tests (TOST; Schuirmann 1987) of 5 % place the difference within the margin.
Two references have a part of the recipe missing and must be found different: else "equal" would say nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from torch import Tensor, nn
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug import checks
from gpuaug.data.workers import cores
from gpuaug.demo.learning import network

from ..locations import PACKAGE

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10
BATCH = 125
MARGIN = 1.0  # points of accuracy

Record = dict[str, Any]
Split = tuple[Tensor, Tensor]  # uint8 (N, 3, 32, 32), labels (N,)


# ---- contestants -----------------------------------------------------------------------------------------------------


def standard(lib: Any) -> list[Any]:
    return [lib.RandomCrop(32, padding=4), lib.RandomHorizontalFlip()]


def full(lib: Any) -> list[Any]:
    return [*standard(lib), lib.RandAugment(2, 9)]


def floats(lib: Any) -> list[Any]:
    return [lib.ToDtype(torch.float32, scale=True), lib.Normalize(MEAN, STD)]


TORCHVISION, GPUAUG = "torchvision", "gpuaug"
CONTESTANTS: dict[str, tuple[Any, Callable[[Any], list[Any]]]] = {  # name: (library, what comes before the floats)
    TORCHVISION: (v2, full),
    GPUAUG: (ga, full),
    "crop + flip only": (ga, standard),
    "no augmentation": (ga, lambda _: []),
}


class PerImage(nn.Module):
    """torchvision's transforms, called for each image as a Dataset calls them; when testing, once for the batch."""

    def __init__(self, training: Sequence[Any], testing: Sequence[Any]) -> None:
        super().__init__()
        self.per_image, self.per_batch = v2.Compose(training), v2.Compose(testing)

    def set_epoch(self, epoch: int) -> None:
        """Its draws come from torch's generator, which goes on by itself."""

    def forward(self, images: Tensor, index: Tensor | None = None) -> Tensor:
        images = torch.stack([self.per_image(image) for image in images.cpu()]) if self.training else images
        return images if self.training else self.per_batch(images)


def pipeline(who: str, seed: int) -> PerImage | ga.Augment:
    lib, steps = CONTESTANTS[who]
    training, testing = [*steps(lib), *floats(lib)], floats(lib)
    return PerImage(training, testing) if lib is v2 else ga.Augment(training, eval=testing, seed=seed)


# ---- training --------------------------------------------------------------------------------------------------------


def load(folder: Path, count: int | None = None) -> Split:
    """`count` images of an ImageFolder, or all; always the same.

    Raises:
        ValueError: if they are not 32x32, or there are fewer.
    """
    dataset = ga.data.ImageFolder(folder)
    if count is not None:
        checks.integer("accuracy", "images", count, 2, len(dataset))
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:count]
    images, labels, _ = zip(*(dataset[number] for number in chosen.tolist()), strict=True)
    for image in images:
        if image.shape != (3, 32, 32):
            raise checks.argument_error("accuracy", "data", "a folder of 32x32 images", checks.describe(image))
    return torch.stack(images), torch.tensor(labels)


def train(job: tuple[int, str], training: Split, testing: Split, epochs: int) -> Record:
    """One network from its first weights to its test accuracy; `job` is (seed, who)."""
    seed, who = job
    images, labels = training
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the weights and torchvision's draws
        model, augment = network(3, int(labels.max()) + 1, stride=2).to(device), pipeline(who, seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
        steps = epochs * math.ceil(len(images) / BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        order = torch.Generator().manual_seed(seed)
        for epoch in range(epochs):
            augment.set_epoch(epoch)
            for index in torch.randperm(len(images), generator=order).split(BATCH):
                batch = augment(images[index].to(device), index=index).to(device)
                loss = F.cross_entropy(model(batch), labels[index].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    seconds = time.perf_counter() - start
    return {"seed": seed, "who": who, "accuracy": accuracy(model, augment, testing, device), "seconds": seconds}


@torch.inference_mode()
def accuracy(model: nn.Module, augment: nn.Module, testing: Split, device: torch.device) -> float:
    """Percent of the images that are classified right."""
    model.eval()
    augment.eval()
    right = [
        model(augment(images.to(device))).argmax(1).cpu() == labels
        for images, labels in zip(testing[0].split(500), testing[1].split(500), strict=True)
    ]
    return 100 * torch.cat(right).double().mean().item()


def measure(training: Split, testing: Split, seeds: int, epochs: int, workers: int) -> Iterator[Record]:
    """A record of every contestant and seed, as they come."""
    jobs = [(seed, who) for seed in range(seeds) for who in CONTESTANTS]
    run = partial(train, training=training, testing=testing, epochs=epochs)
    context = torch.multiprocessing.get_context("spawn")  # sends tensors through shared memory
    with context.Pool(min(workers, len(jobs)), torch.set_num_threads, (1,)) as pool:
        yield from pool.imap_unordered(run, jobs)


# ---- statistics ------------------------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % t-interval, and the standard error that it comes from."""
    mean, error = statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "error": error}


def difference(values: Sequence[float], margin: float) -> dict[str, Any]:
    """What paired differences say.

    Returns:
        `interval`'s, and within: the least margin at which both one-sided tests would pass; equal: it is below
        `margin`; different: the interval leaves out zero. Both, either or neither may hold.
    """
    found = interval(values)
    within = abs(found["mean"]) + float(stats.t.ppf(0.95, len(values) - 1)) * found["error"]
    return {**found, "within": within, "equal": within < margin, "different": found["low"] > 0 or found["high"] < 0}


def summary(records: Sequence[Record], margin: float = MARGIN) -> dict[str, Any]:
    """Accuracy of every contestant, and its difference to torchvision's of the same seeds."""
    scores = {who: {r["seed"]: r["accuracy"] for r in records if r["who"] == who} for who in CONTESTANTS}
    theirs = scores[TORCHVISION]
    return {
        "margin": margin,
        "accuracy": {who: interval(list(own.values())) for who, own in scores.items()},
        "seconds": {who: statistics.mean(r["seconds"] for r in records if r["who"] == who) for who in CONTESTANTS},
        "difference": {
            who: difference([own[seed] - theirs[seed] for seed in theirs], margin)
            for who, own in scores.items()
            if who != TORCHVISION
        },
    }


def verdict(found: dict[str, Any], margin: float) -> str:
    """A difference in words, no stronger than its tests."""
    if found["equal"]:
        more = ", though not zero" if found["different"] else ""
        return f"equal within ±{margin:g} points (95 %){more}"
    if found["different"]:
        return "different (95 %)"
    return "cannot tell, run more seeds"


# ---- output ----------------------------------------------------------------------------------------------------------


def show(result: dict[str, Any], console: Console) -> None:
    def cells(found: dict[str, Any], form: str) -> list[str]:
        return [format(found["mean"], form), f"± {found['high'] - found['mean']:.2f}"]

    table = Table("", box=None, padding=(0, 1), header_style="dim")
    for heading in ("accuracy, %", "95 %", "difference", "95 %", "s/run"):
        table.add_column(heading, justify="right")
    for who, own in result["accuracy"].items():
        found = result["difference"].get(who)
        gap = ["", ""] if found is None else cells(found, "+.2f")
        table.add_row(who, *cells(own, ".2f"), *gap, f"{result['seconds'][who]:.0f}")
    console.print(table)
    for who, found in result["difference"].items():
        text = verdict(found, result["margin"])
        if who == GPUAUG:
            more = f"Equal at any margin of more than {found['within']:.2f} points."
        else:
            seen = found["different"] and not found["equal"]
            more = "As it must be." if seen else "[red]It must be different for the rest to say much.[/]"
        console.print(f"{who} and {TORCHVISION}: [bold]{text}[/]. {more}")


def main(arguments: list[str] | None = None, console: Console | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.evidence.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--images", type=int, default=5000, help="of the training split (default: 5000)")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--margin", type=float, default=MARGIN, help="points that count as equal (default: 1)")
    parser.add_argument("--workers", type=int, default=cores(), help="networks trained at a time (default: the cores)")
    parser.add_argument("--quick", action="store_true", help="3 seeds, 2 epochs, 1000 images: only to see it run")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    if args.quick:
        args.seeds, args.epochs, args.images = 3, 2, min(args.images, 1000)
    checks.integer("accuracy", "seeds", args.seeds, 2)  # one has no variance
    checks.integer("accuracy", "epochs", args.epochs, 1)
    checks.integer("accuracy", "workers", args.workers, 1)
    console = console or Console(width=80, highlight=False)
    training, testing = load(args.data / "train", args.images), load(args.data / "test")
    runs = measure(training, testing, args.seeds, args.epochs, args.workers)
    records = list(track(runs, "training", args.seeds * len(CONTESTANTS), console=console, transient=True))
    result = summary(records, args.margin)
    console.print(
        f"{len(training[0])} training and {len(testing[0])} test images, {args.epochs} epochs, {args.seeds} seeds; "
        f"RandomCrop(32, padding=4), flip, RandAugment(2, 9); torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}\n",
        style="dim",
    )
    show(result, console)
    if args.json is not None:
        settings = {name: getattr(args, name) for name in ("seeds", "images", "epochs", "margin")}
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "gpuaug": ga.__version__}
        written = {"settings": settings, "versions": versions, **result, "records": records}
        args.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(" ".join(str(error).split()))
