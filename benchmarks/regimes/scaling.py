"""The regime `scaling`: speed against batch, image size, threads and RandAugment's N, and where the time goes.

Beside each figure stands the limit: the time of a pass that only reads the input and writes the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.data.workers import cores

from ..cases import JITTER, MEAN, SIZE, SOURCE, STD
from ..measure import Run, take_turns
from ..peers import OURS
from .op_regimes import Row

__all__ = ["LIMIT", "SWEEPS", "scaling"]

LIMIT = "read and write only"
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SIZES = (32, 64, 128, 224, 320, 512)
NUMBERS = (0, 1, 2, 3, 4, 6, 8)
SWEEPS = ("batch", "size", "threads", "RandAugment N", "passes")
AT = 64  # images of a batch where the batch is not what varies
Point = dict[str, Run]


def scaling(
    images: list[Tensor],
    *,
    sweeps: Sequence[str] = SWEEPS,
    batches: Sequence[int] = BATCHES,
    sizes: Sequence[int] = SIZES,
    numbers: Sequence[int] = NUMBERS,
    rounds: int = 5,
    seconds: float = 4.0,
    device: str = "cpu",
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Row]]:
    """Time one recipe, crop + flip + RandAugment(2, 9) + normalise, along each axis.

    Args:
        images: uint8 (3, H, W) each, from which the batches are made.
        seconds: after that long a point gets no more turns (at least three).

    Returns:
        "rows": `case` is the axis, `at` the place on it; those of "passes" are stacked parts.
    """
    pool = torch.stack([_fit(image, SOURCE) for image in images])
    before = torch.get_num_threads()
    rows: list[Row] = []

    def measure(case: str, at: Any, count: int, runs: Point, threads: int) -> None:
        torch.set_num_threads(threads)
        for who, taken in take_turns(runs, rounds, seconds, device).items():
            row = {"case": case, "at": at, "who": who, "threads": threads, "images": count, "seconds": taken}
            rows.append(row)

    most = cores()
    try:
        for sweep in sweeps:
            report(sweep)
            if sweep == "batch":
                for size in batches:
                    measure(sweep, size, size, _runs(_batch(pool, size), SIZE, 2, device), most)
            elif sweep == "size":
                for side in sizes:
                    batch = torch.stack([_fit(image, side) for image in pool[:AT]])
                    measure(sweep, side, len(batch), _runs(batch, side, 2, device), most)
            elif sweep == "threads":
                for threads in range(1, most + 1):
                    measure(sweep, threads, AT, _runs(_batch(pool, AT), SIZE, 2, device), threads)
            elif sweep == "RandAugment N":
                for number in numbers:
                    measure(sweep, number, AT, _runs(_batch(pool, AT), SIZE, number, device), most)
            else:
                for name, steps in PASSES.items():
                    measure(sweep, name, AT, parts(steps, _batch(pool, AT).to(device)), 1)
    finally:
        torch.set_num_threads(before)
    return {"rows": rows, "absent": []}


def _fit(image: Tensor, side: int) -> Tensor:
    return torch.nn.functional.interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0]


def _batch(pool: Tensor, count: int) -> Tensor:
    return pool[torch.arange(count) % len(pool)]


def _floats() -> list[Any]:
    return [ga.ToDtype(torch.float32, scale=True), ga.Normalize(MEAN, STD)]


def _runs(batch: Tensor, side: int, number: int, device: str) -> Point:
    """gpuaug and the limit."""
    policy = [ga.RandAugment(number, 9)] if number else []
    augment = ga.Augment([ga.RandomResizedCrop(side), ga.RandomHorizontalFlip(), *policy, *_floats()])
    moved = batch.to(device)
    return {OURS: lambda: augment(moved), LIMIT: limit(moved, side)}


def limit(batch: Tensor, side: int) -> Run:
    """A pass over the batch that reads every level of the result's size once and writes it as a float."""
    source = batch[..., :side, :side]
    result = torch.empty(source.shape, dtype=torch.float32, device=batch.device)
    return lambda: result.copy_(source)


PASSES: dict[str, dict[str, Any]] = {
    "crop + flip": {},
    "RandAugment": {"RandAugment": ga.RandAugment(2, 9)},
    "TrivialAugment": {"TrivialAugment": ga.TrivialAugmentWide()},
    "ColorJitter": {"ColorJitter": ga.ColorJitter(*JITTER)},
    "SimCLR": {
        "ColorJitter": ga.RandomApply([ga.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
        "Grayscale": ga.RandomGrayscale(p=0.2),
        "GaussianBlur": ga.RandomApply([ga.GaussianBlur(23, (0.1, 2.0))], p=0.5),
    },
}


def parts(middle: dict[str, Any], batch: Tensor) -> Point:
    """ "draw" alone, then rendering with ever more of the list: the difference of two neighbours is a pass's time."""
    index = torch.arange(len(batch))
    head = [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip()]
    lists = {"crop + flip": head}
    for name, step in middle.items():
        head = [*head, step]
        lists[name] = head
    lists["to floats"] = [*head, *_floats()]
    runs: Point = {}
    for name, steps in lists.items():
        augment = ga.Augment(steps)
        draw = augment.sample(batch, index=index)
        runs[name] = lambda augment=augment, draw=draw: augment.render(batch, draw)
    whole = ga.Augment(lists["to floats"])
    return {"draw": lambda: whole.sample(batch, index=index), **runs}
