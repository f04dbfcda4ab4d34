"""Images per second of three recipes on the CPU: gpuaug, torchvision v2, AlbumentationsX and Kornia, side by side.

    python benchmarks/recipes.py --data PATH_TO_IMAGES

Everything runs in one process. The contestants take turns on the same images, so that the machine's mood hits all of
them, and the medians of the turns are compared. Work starts at decoded uint8 images of their own sizes and ends at
normalised float32 (3, 224, 224). gpuaug and Kornia get batches, the others one image at a time, as a worker would.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.data.decode import decode_file
from gpuaug.photographs import photographs

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, BATCH = 224, 256
JITTER = (0.4, 0.4, 0.4, 0.1)
TARGETS = {"crop + flip": 2.0, "+ RandAugment(2, 9)": 3.5, "+ ColorJitter": 5.0}  # times torchvision, on one core
Run = Callable[[], Any]


def gpuaug_runs(images: list[Tensor], backend: str = "numba") -> dict[str, Run]:
    batches = [ga.Ragged.from_images(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    head = [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip()]
    tail = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(MEAN, STD)]
    middle: dict[str, list[Any]] = {
        "crop + flip": [],
        "+ RandAugment(2, 9)": [ga.RandAugment(2, 9)],
        "+ ColorJitter": [ga.ColorJitter(*JITTER)],
    }

    def run(augment: ga.Augment) -> Run:
        return lambda: [augment(batch) for batch in batches]

    return {name: run(ga.Augment([*head, *ops, *tail], backend=backend)) for name, ops in middle.items()}


def torchvision_runs(images: list[Tensor]) -> dict[str, Run]:
    head = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()]
    tail = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    middle: dict[str, list[Any]] = {
        "crop + flip": [],
        "+ RandAugment(2, 9)": [v2.RandAugment(2, 9)],
        "+ ColorJitter": [v2.ColorJitter(*JITTER)],
    }

    def run(transform: v2.Compose) -> Run:
        return lambda: [transform(image) for image in images]

    return {name: run(v2.Compose([*head, *ops, *tail])) for name, ops in middle.items()}


def albumentations_runs(images: list[Tensor]) -> dict[str, Run]:
    try:
        import albumentations as al
        import cv2
    except ImportError:
        return {}
    cv2.setNumThreads(torch.get_num_threads())
    arrays = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]
    head = [al.RandomResizedCrop(size=(SIZE, SIZE)), al.HorizontalFlip()]
    tail = [al.Normalize(MEAN, STD), al.ToTensorV2()]
    span = (0.6, 1.4)
    jitter = al.ColorJitter(span, span, span, (-0.1, 0.1), p=1)  # the names differ between versions
    middle: dict[str, list[Any]] = {"crop + flip": [], "+ ColorJitter": [jitter]}

    def run(transform: Any) -> Run:
        return lambda: [transform(image=array)["image"] for array in arrays]

    return {name: run(al.Compose([*head, *ops, *tail])) for name, ops in middle.items()}


def kornia_runs(images: list[Tensor]) -> dict[str, Run]:
    """Kornia wants one size and floats: the resize to 256 x 256 it needs first is left out of its time."""
    import kornia.augmentation as ka

    resize = v2.Resize((256, 256))
    batches = [torch.stack([resize(image) for image in images[i : i + 64]]) for i in range(0, len(images), 64)]
    head = [ka.RandomResizedCrop((SIZE, SIZE)), ka.RandomHorizontalFlip()]
    tail = [ka.Normalize(torch.tensor(MEAN), torch.tensor(STD))]
    middle: dict[str, list[Any]] = {"crop + flip": [], "+ ColorJitter": [ka.ColorJitter(*JITTER, p=1.0)]}

    def run(transform: Any) -> Run:
        return lambda: [transform(batch.float() / 255) for batch in batches]

    return {name: run(torch.nn.Sequential(*head, *ops, *tail)) for name, ops in middle.items()}


def check_equal_work(runs: dict[str, dict[str, Run]], count: int) -> None:
    """Every contestant returns `count` normalised float32 images of one size, alike in mean and spread."""
    for contestant, recipes in runs.items():
        for recipe, run in recipes.items():
            result = run()
            images = torch.cat(result) if result[0].ndim == 4 else torch.stack(result)
            assert images.shape == (count, 3, SIZE, SIZE), (contestant, recipe, images.shape)
            assert images.dtype == torch.float32, (contestant, recipe, images.dtype)
            assert abs(images.mean()) < 1, (contestant, recipe, images.mean())
            assert 0.5 < images.std() < 2, (contestant, recipe, images.std())


def take_turns(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round; the order alternates."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else list(reversed(runs)):
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(console: Console, images: list[Tensor], rounds: int) -> None:
    torch.set_num_threads(1)
    contestants = {
        "gpuaug": gpuaug_runs(images),
        "torchvision v2": torchvision_runs(images),
        "AlbumentationsX": albumentations_runs(images),
        "Kornia (resized before)": kornia_runs(images),
    }
    check_equal_work(contestants, len(images))
    table = Table(title="One core, ms per image (lower is better)")
    for column in ("recipe", "who", "ms/img", "gpuaug is", "target"):
        table.add_column(column, justify="left" if column in ("recipe", "who") else "right")
    for recipe in TARGETS:
        names = [name for name, recipes in contestants.items() if recipe in recipes]
        seconds = take_turns({name: contestants[name][recipe] for name in names}, rounds)
        for name in names:
            ratio = statistics.median(other / own for other, own in zip(seconds[name], seconds["gpuaug"], strict=True))
            target = {"torchvision v2": f"{TARGETS[recipe]:.1f}x", "AlbumentationsX": "1.0x"}.get(name, "")
            own = name == "gpuaug"
            per_image = statistics.median(seconds[name]) / len(images) * 1e3
            table.add_row(recipe if own else "", name, f"{per_image:.3f}", "" if own else f"{ratio:.2f}x", target)
    console.print(table)


def scaling(console: Console, images: list[Tensor], rounds: int) -> None:
    def with_threads(run: Run, threads: int) -> Run:
        def call() -> None:
            torch.set_num_threads(threads)
            run()

        return call

    table = Table(title="Two cores against one")
    for column in ("recipe", "1 core, img/s", "2 cores, img/s", "ratio", "target"):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for recipe, run in gpuaug_runs(images).items():
        seconds = take_turns({str(n): with_threads(run, n) for n in (1, 2)}, rounds)
        ratio = statistics.median(one / two for one, two in zip(seconds["1"], seconds["2"], strict=True))
        rates = [f"{len(images) / statistics.median(seconds[str(n)]):.0f}" for n in (1, 2)]
        table.add_row(recipe, *rates, f"{ratio:.2f}x", "1.8x")
    torch.set_num_threads(1)
    console.print(table)


def host(console: Console, images: list[Tensor]) -> None:
    """What a call costs before it touches a pixel."""
    torch.set_num_threads(1)
    batch = ga.Ragged.from_images([images[i % len(images)][:, :256, :256] for i in range(256)])
    mix = ga.RandomChoice([ga.MixUp(alpha=0.2, num_classes=10), ga.CutMix(num_classes=10)], p=[0.4, 0.4])
    tail = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(MEAN, STD)]
    recipes: dict[str, list[Any]] = {
        "crop + flip": [],
        "+ RandAugment(2, 9)": [ga.RandAugment()],
        "+ ColorJitter": [ga.ColorJitter(*JITTER)],
        "+ AugMix": [ga.AugMix()],
    }
    table = Table(title="sample + lower, batch of 256, ms (target: at most 1)")
    for column in ("recipe", "sample", "lower", "both"):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for name, ops in recipes.items():
        head = [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip()]
        augment = ga.Augment([*head, *ops, *tail, ga.RandomErasing(p=0.1), mix])
        draw = augment.sample(batch, index=torch.arange(256))
        lower = augment.train_pipeline.lower
        canvas = ga.transform.Canvas(batch.sizes.astype(np.int64), 3)
        seconds = take_turns(
            {
                "sample": lambda augment=augment: augment.sample(batch, index=torch.arange(256)),
                "lower": lambda lower=lower, d=draw, c=canvas: lower(
                    d.params, d.keys, c, False, torch.contiguous_format
                ),
            },
            50,
        )
        medians = [statistics.median(seconds[part]) * 1e3 for part in ("sample", "lower")]
        table.add_row(name + " + erase + mix", *(f"{value:.2f}" for value in (*medians, sum(medians))))
    console.print(table)


COLD = """
import time, torch, torchvision
start = time.perf_counter()
import gpuaug as ga
from gpuaug.photographs import decode, photographs
print(time.perf_counter() - start)
images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
tail = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,), (0.5,))]
augment = ga.Augment([ga.RandomResizedCrop(32), ga.RandAugment(), *tail])
start = time.perf_counter()
augment(images)
print(time.perf_counter() - start)
"""


def cold(console: Console) -> None:
    """Import and first call, in fresh processes, without and with Numba's cache on disk."""
    with tempfile.TemporaryDirectory() as cache:
        for state in ("empty cache", "filled cache"):
            command = [sys.executable, "-c", COLD]
            environment = {**__import__("os").environ, "NUMBA_CACHE_DIR": cache}
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            imported, first = map(float, result.stdout.split())
            console.print(f"{state}: import {imported:.2f} s beyond torch and torchvision, first call {first:.2f} s")


def load(data: str | None, count: int) -> list[Tensor]:
    """`count` decoded RGB images, the packaged photographs if there is no folder."""
    if data is None:
        images = photographs()
    else:
        paths = sorted(p for p in Path(data).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        images = [decode_file(path) for path in paths[:count]]
    return [images[i % len(images)] for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder with images; default: the packaged photographs")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    console = Console(width=80)
    images = load(arguments.data, arguments.images)
    pixels = statistics.mean(image.shape[1] * image.shape[2] for image in images)
    console.print(f"{len(images)} images, {pixels / 1e6:.2f} Mpx on average; torch {torch.__version__}")
    compare(console, images, arguments.rounds)
    scaling(console, images, arguments.rounds)
    host(console, images)
    cold(console)


if __name__ == "__main__":
    main()
