"""The regime `views`: several views of each image, by one MultiView, by a call for each, and image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

import gpuaug as ga

from ..cases import BATCH, MEAN, SIZE, STD, square
from ..measure import CPU_CLOCK, Run, take_turns
from ..peers import OURS
from .op_regimes import PeerError, Row, missing

__all__ = ["CALLS", "CASES", "TORCHVISION", "check", "lists", "views"]

CALLS, TORCHVISION = f"{OURS}, a call for each view", "torchvision v2, tensors"
SMALL = 96  # pixels on a side of DINO's local crops
CASES: dict[str, tuple[int, ...]] = {"SimCLR pair": (SIZE, SIZE), "DINO, 2 + 8 crops": (SIZE,) * 2 + (SMALL,) * 8}
WORK = {
    OURS: "one MultiView",
    CALLS: "an Augment for each view, called one after another on the same batch",
    TORCHVISION: "a Compose for each view, called for each image",
}


def lists(case: str, library: ModuleType) -> list[list[Any]]:
    """The lists of a case, in gpuaug's or in torchvision's classes, which have the same names and arguments."""
    tail = [library.ToDtype(torch.float32, scale=True), library.Normalize(MEAN, STD)]

    def one(size: int, scale: tuple[float, float], blur: float, solarize: float, hue: tuple[float, ...]) -> list[Any]:
        kernel = 23 if size == SIZE else 9
        return [
            library.RandomResizedCrop(size, scale=scale, interpolation=InterpolationMode.BICUBIC),
            library.RandomHorizontalFlip(),
            library.RandomApply([library.ColorJitter(*hue)], p=0.8),
            library.RandomGrayscale(0.2),
            library.RandomApply([library.GaussianBlur(kernel, (0.1, 2.0))], p=blur),
            *([library.RandomSolarize(128, p=solarize)] if solarize else []),
            *tail,
        ]

    if case == "SimCLR pair":
        return [one(SIZE, (0.08, 1.0), 0.5, 0.0, (0.8, 0.8, 0.8, 0.2)) for _ in range(2)]
    hue = (0.4, 0.4, 0.2, 0.1)
    large = [one(SIZE, (0.4, 1.0), 1.0, 0.0, hue), one(SIZE, (0.4, 1.0), 0.1, 0.2, hue)]
    return large + [one(SMALL, (0.05, 0.4), 0.5, 0.0, hue) for _ in range(8)]


def calls(case: str, batch: Tensor) -> dict[str, Callable[[], list[Tensor]]]:
    """What each contestant does: the views of a batch."""
    multi = ga.MultiView(lists(case, ga), seed=0)
    apart = [ga.Augment(steps, seed=number) for number, steps in enumerate(lists(case, ga))]
    composes = [v2.Compose(steps) for steps in lists(case, v2)]
    images = list(batch)
    return {
        OURS: lambda: multi(batch),
        CALLS: lambda: [augment(batch) for augment in apart],
        TORCHVISION: lambda: [torch.stack([compose(image) for image in images]) for compose in composes],
    }


def views(
    images: list[Tensor],
    *,
    cases: Sequence[str] = tuple(CASES),
    batch: int = BATCH,
    rounds: int = 5,
    seconds: float = float("inf"),
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Row]]:
    """Time the views of a batch on one core, to normalised floats.

    Args:
        images: uint8 (3, H, W) each, from which the batch is made.
        cases: of CASES.
        batch: number of images.
        rounds: number of turns.
        seconds: after that long a case gets no more turns (at least three).
        report: hears the case.

    Returns:
        "rows", one for each contestant and case, with the CPU seconds of every turn for all images; "absent".
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = torch.stack(square(images))
    pixels, rows, absent = pool[torch.arange(batch) % len(pool)], [], []
    try:
        for case in cases:
            report(case)
            made = calls(case, pixels)
            for call in made.values():
                check(case, batch, call())
            runs: dict[str, Run] = dict(made)
            lost: dict[str, Exception] = {}
            for who, taken in take_turns(runs, rounds, seconds, lost=lost, clock=CPU_CLOCK).items():
                row = {"case": case, "who": who, "threads": 1, "images": batch, "seconds": taken, "work": WORK[who]}
                rows.append({**row, "less": False})
            absent += [missing(who, case, 1, error) for who, error in lost.items()]
    finally:
        torch.set_num_threads(before)
    return {"rows": rows, "absent": absent}


def check(case: str, count: int, made: list[Tensor]) -> None:
    """Raise PeerError if a contestant made something else than the views of the case."""
    expected = [(count, 3, side, side) for side in CASES[case]]
    if [tuple(view.shape) for view in made] != expected or {view.dtype for view in made} != {torch.float32}:
        raise PeerError(f"made {[tuple(view.shape) for view in made]}, not {expected}")
    if any(float(view.std()) < 0.1 for view in made):
        raise PeerError("made views without content")
