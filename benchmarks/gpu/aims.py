"""What the engine is meant to reach on a GPU, computed from the rows that were measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .recipes import PLAIN

__all__ = ["BATCH", "Aim", "line", "of_speed", "of_training"]

Row = dict[str, Any]
Aim = dict[str, Any]  # aim, limit, measured, met, and what it was measured on or why it was not

BATCH = 256
OURS, LIMIT = "gpuaug", "read and write"
PEERS = (("torchvision batch", 3.0), ("kornia", 10.0))  # and how many times as fast per image we are to be
CLOCKS = (("device_us", "device time"), ("wall_us", "wall time"))
SHARES = (("resnet50", 0.01), ("resnet18", 0.03))  # of a step


def aim(text: str, limit: float, measured: float | None, met: bool | None, about: str) -> Aim:
    return {"aim": text, "limit": limit, "measured": measured, "met": met, "about": about}


def of_speed(rows: Iterable[Row], batch: int = BATCH) -> list[Aim]:
    """Against the limit for crop + flip, and against others for the worst of the recipes.

    Rows whose work was found to be other work (`check`) do not count.
    """
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.get("batch") == batch and "way" in row and not row.get("check"):
            found[row["recipe"], row["way"]] = row
    aims = [_limit(found, batch)]
    for peer, limit in PEERS:
        aims += [_peer(found, batch, peer, limit, *clock) for clock in CLOCKS]
    return aims


def _limit(found: dict[tuple[str, str], Row], batch: int) -> Aim:
    text = f"{PLAIN} + normalise within 2x of reading and writing alone, batch {batch}"
    ours, limit = (found.get((PLAIN, way), {}).get("device_us") for way in (OURS, LIMIT))
    if not ours or not limit:
        return aim(text, 2.0, None, None, f"not measured: {OURS if not ours else LIMIT}")
    return aim(text, 2.0, ours / limit, ours / limit <= 2.0, PLAIN)


def _peer(found: dict[tuple[str, str], Row], batch: int, peer: str, limit: float, clock: str, name: str) -> Aim:
    text = f"{limit:g}x as fast as {peer} per image, {name}, batch {batch}"
    ratios = {}
    for (recipe, way), row in found.items():
        theirs = found.get((recipe, peer), {}).get(clock)
        if way == OURS and row.get(clock) and theirs:
            ratios[recipe] = theirs / row[clock]
    if not ratios:
        return aim(text, limit, None, None, "not measured")
    worst = min(ratios, key=lambda recipe: ratios[recipe])
    others = ", ".join(f"{recipe} {ratio:.1f}x" for recipe, ratio in ratios.items())
    return aim(text, limit, ratios[worst], ratios[worst] >= limit, f"worst: {worst}; {others}")


def of_training(rows: Sequence[Row], batch: int = BATCH) -> list[Aim]:
    """The share of a step that augmentation takes, by its device time and by the difference of the steps.

    Of several recipes the one that takes the most counts.
    """
    aims = []
    for network, limit in SHARES:
        own = [row for row in rows if row.get("network") == network and row.get("batch") == batch]
        for figure, name in (("share", "device time"), ("share_by_step", "difference of steps")):
            text = f"augmentation takes at most {limit:.0%} of a {network} step, {name}, batch {batch}"
            shares = {
                row["recipe"]: row[figure] for row in own if row.get("way") == "augment" and row.get(figure) is not None
            }
            if not shares:
                aims.append(aim(text, limit, None, None, "not measured"))
                continue
            worst = max(shares, key=lambda recipe: shares[recipe])
            others = ", ".join(f"{recipe} {share:.2%}" for recipe, share in shares.items())
            aims.append(aim(text, limit, shares[worst], shares[worst] <= limit, f"worst: {worst}; {others}"))
    return aims


def line(aim: Aim) -> str:
    """An aim in words."""
    said = {True: "met", False: "MISSED", None: "not measured"}[aim["met"]]
    figure = "" if aim["measured"] is None else f": {aim['measured']:.3g}"
    return f"aim: {aim['aim']}{figure}: {said}"
