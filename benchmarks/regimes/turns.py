"""The regime `turns`: calls of several shapes in turn, against the same calls one shape after the other.

Training, its last smaller batch, evaluation and images of another size take turns in every epoch. A library that
remembers the memory of its last result only asks the system for new pages in each of these calls, and the system clears
them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

import gpuaug as ga

from ..cases import MEAN, SIZE, SOURCE, STD
from ..measure import take_turns
from ..peers import OURS
from .op_regimes import Row

try:
    import resource
except ImportError:  # Windows has no such count
    resource = None  # type: ignore[assignment]

__all__ = ["ALONE", "CASE", "calls", "check_equal", "turns"]

CASE, ALONE = "sizes in turn", "one after another"
REPEATS = 6  # of each call in a turn
OTHER = 160  # pixels on a side
Call = Callable[[], Tensor]


def calls(images: list[Tensor]) -> dict[str, tuple[int, Call]]:
    """The calls of an epoch, each with its number of images; the same call always gives the same pixels."""
    pool = torch.stack([_fit(image) for image in images])
    floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(MEAN, STD)]
    module = ga.Augment(
        [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip(), *floats], eval=[ga.CenterCrop(SIZE), *floats]
    )
    other = ga.Augment([ga.RandomResizedCrop(OTHER), ga.RandomHorizontalFlip(), *floats])
    made = {
        "training": (module, True, 64),
        "last batch": (module, True, 17),
        "evaluation": (module, False, 100),
        "another size": (other, True, 32),
    }
    return {name: (count, _call(one, training, pool, count)) for name, (one, training, count) in made.items()}


def _call(module: ga.Augment, training: bool, pool: Tensor, count: int) -> Call:
    numbers = torch.arange(count)
    batch = pool[numbers % len(pool)]

    def call() -> Tensor:
        module.set_epoch(0)  # or the second look at an image would have another draw
        return module.train(training)(batch, index=numbers)

    return call


def turns(
    images: list[Tensor], *, threads: int, rounds: int = 9, report: Callable[[str], None] = lambda text: None
) -> dict[str, list[Row]]:
    """Time the calls in turn and one after another.

    Args:
        images: uint8 (3, H, W) each, from which the batches are made.
        threads: of this process.

    Returns:
        "rows" with seconds, CPU seconds and page faults of each round; "absent", which is empty.
    """
    report(CASE)
    made = calls(images)
    named = {name: call for name, (_, call) in made.items()}
    in_turn = [call for _ in range(REPEATS) for call in named.values()]
    alone = [call for call in named.values() for _ in range(REPEATS)]
    check_equal(in_turn, alone)
    counted: dict[str, list[tuple[float, int]]] = {OURS: [], ALONE: []}
    runs = {OURS: _counting(in_turn, counted[OURS]), ALONE: _counting(alone, counted[ALONE])}
    count = REPEATS * sum(number for number, _ in made.values())
    rows = []
    for who, seconds in take_turns(runs, rounds).items():
        cpu, faults = zip(*counted[who][1:], strict=True)  # the first round is not kept
        row: Row = {"case": CASE, "who": who, "threads": threads, "images": count, "seconds": seconds}
        rows.append({**row, "cpu": list(cpu), "faults": list(faults)})
    return {"rows": rows, "absent": []}


def check_equal(first: list[Call], second: list[Call]) -> None:
    """Both do the same work: the same calls, and the same pixels of each, whatever was called before it."""
    assert sorted(map(id, first)) == sorted(map(id, second))
    sums = [{call: call().double().sum().item() for call in run} for run in (first, second)]
    assert sums[0] == sums[1]


def _counting(run: list[Call], counted: list[tuple[float, int]]) -> Callable[[], None]:
    """All calls, each result dropped before the next; notes CPU seconds and page faults of this process."""

    def timed() -> None:
        begin, before = time.process_time(), faults()
        for call in run:
            call()
        counted.append((time.process_time() - begin, faults() - before))

    return timed


def faults() -> int:
    """Pages that the system has had to provide for this process so far; 0 where it does not count them."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _fit(image: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(image[None], (SOURCE, SOURCE), mode="bilinear", antialias=True)[0]
