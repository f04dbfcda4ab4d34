"""The regime `targets`: masks, boxes and key points that follow their images, in each library's own form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cases import BATCH, SIZE, square
from ..measure import CPU_CLOCK, Run, take_turns
from ..peers import OURS
from ..peers.peer import exhaust
from ..peers.targets import FOLLOWERS, Batch, Follower, Result
from .op_regimes import PeerError, Row, as_peer_error, missing

__all__ = ["CASES", "SMALL", "batches", "targets"]

SMALL = (256, 32, 28)  # images of a batch, their side, and that of the crop
CASES = (
    "images only",
    "mask",
    "mask, int64",
    "10 boxes",
    "17 key points",
    "mask + 10 boxes",
    "small images",
    "small images, 20 boxes",
)


def targets(
    images: list[Tensor],
    *,
    cases: Sequence[str] = CASES,
    names: Sequence[str] = tuple(FOLLOWERS),
    rounds: int = 5,
    seconds: float = float("inf"),
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Row]]:
    """Time crop + flip + affine + colour jitter to floats on one core, with targets.

    Args:
        images: uint8 (3, H, W) each, from which the batches are made.
        seconds: after that long a case gets no more turns (at least three).

    Returns:
        "rows", one for each library and case, with the CPU seconds of every turn for all images; "absent".
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[Row] = []
    absent: list[Row] = []
    try:
        for case, batch in batches(images).items():
            if case not in cases:
                continue
            report(case)
            runs: dict[str, Run] = {}
            for name in names:
                try:
                    with as_peer_error():
                        follower = FOLLOWERS[name](batch)
                        check(follower, batch)
                    runs[name] = lambda follower=follower: exhaust(follower.run())
                except PeerError as error:
                    absent.append(missing(name, case, 1, error))
            lost: dict[str, Exception] = {}
            for name, taken in take_turns(runs, rounds, seconds, lost=lost, clock=CPU_CLOCK).items():
                count, work = len(batch.images), FOLLOWERS[name].work
                row = {"case": case, "who": name, "threads": 1, "images": count, "seconds": taken, "work": work}
                rows.append({**row, "less": False})
            absent += [missing(name, case, 1, error) for name, error in lost.items()]
    finally:
        torch.set_num_threads(before)
    return {"rows": rows, "absent": [one for one in absent if not one["who"].startswith(OURS)]}


def batches(images: list[Tensor]) -> dict[str, Batch]:
    """The batch of each case: the same photographs, with targets at places of their own."""
    generator = torch.Generator().manual_seed(0)
    large = torch.stack(square(images))
    large = large[torch.arange(BATCH) % len(large)]
    count, side, cut = SMALL
    small = F.interpolate(large, (side, side), mode="bilinear", antialias=True)[torch.arange(count) % BATCH]
    plain, tiny = Batch(large, SIZE), Batch(small, cut)
    masks = torch.randint(0, 20, (len(large), *(n // 8 for n in large.shape[-2:])), generator=generator)
    masks = masks.to(torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    boxes = _boxes(len(large), 10, large.shape[-1], generator)
    points = torch.rand(len(large), 17, 2, generator=generator) * (large.shape[-1] - 1)
    found = (
        plain,
        replace(plain, masks=masks),
        replace(plain, masks=masks.long()),
        replace(plain, boxes=boxes),
        replace(plain, points=points),
        replace(plain, masks=masks, boxes=boxes),
        tiny,
        replace(tiny, boxes=_boxes(count, 20, side, generator)),
    )
    return dict(zip(CASES, found, strict=True))


def _boxes(count: int, number: int, side: int, generator: torch.Generator) -> Tensor:
    """(count, number, 4) corners inside images of this side, of an eighth to a half of it."""
    size = (0.125 + 0.375 * torch.rand(count, number, 2, generator=generator)) * side
    first = torch.rand(count, number, 2, generator=generator) * (side - size)
    return torch.cat([first, first + size], dim=2)


def check(follower: Follower, batch: Batch) -> None:
    """Raise PeerError if a library does other work: sizes, dtypes, the number of boxes, the numbers in a mask."""
    results = follower.results(list(follower.run()))
    if len(results) != len(batch.images):
        raise PeerError(f"made {len(results)} images, not {len(batch.images)}")
    given = follower.batch.given()
    for number, result in enumerate(results):
        if set(result) != {"image", *given}:
            raise PeerError(f"made {', '.join(result)}, not image, {', '.join(given)}")
        _expect("image", result["image"], (3, batch.side, batch.side), torch.float32)
        low, high = (float(value) for value in result["image"].aminmax())
        if low < -1e-3 or high > 1 + 1e-3 or high < 0.05:
            raise PeerError(f"made an image from {low:.2f} to {high:.2f}, not from 0 to 1")
        for key, value in given.items():
            _check_target(key, result, value[number], batch.side, follower)


def _check_target(key: str, result: Result, given: Tensor, side: int, follower: Follower) -> None:
    found = result[key].as_subclass(Tensor)
    if key == "masks":
        _expect(key, found, (side, side), given.dtype)
        if not set(found.unique().tolist()) <= {0, *given.unique().tolist()}:
            raise PeerError("made masks with numbers that are not in the given ones")
        return
    left_out = follower.drops and key == "boxes"
    count = min(len(found), len(given)) if left_out else len(given)
    _expect(key, found, (count, given.shape[1]), torch.float32)
    if key == "boxes" and follower.clips and count and (float(found.min()) < -1 or float(found.max()) > side + 1):
        raise PeerError("made boxes that reach out of their image")


def _expect(what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise PeerError(f"made {what} of {value.dtype} {tuple(value.shape)}, not {dtype} {shape}")
