"""One screen: what failed, the aims, the main figures. It is made of what the parts' files have and of nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["AIMS", "LINES", "WIDTH", "aims", "summary"]

LINES, WIDTH = 45, 80
BATCH = 256  # whose figures are shown and compared
PLAIN = "crop + flip"
OURS = ("gpuaug", "gpuaug graph")

Found = Mapping[str, Mapping[str, Any]]
Rows = list[Mapping[str, Any]]


def summary(found: Found, parts: Sequence[str], taken: float, budget: float, dry: bool = False, said: str = "") -> str:
    """At most LINES lines of WIDTH characters; failures are cut before figures are."""
    lines = [*_heading(found, taken, budget, dry), *_parts(found, parts), *_aims(found)]
    figures = _figures(found)
    failed = _failed(found, said, LINES - len(lines) - min(len(figures), 12))
    lines = [lines[0], *failed, *lines[1:], *figures]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], "... more in the JSON files"]
    return "\n".join(line[:WIDTH].rstrip() for line in lines) + "\n"


def _heading(found: Found, taken: float, budget: float, dry: bool) -> list[str]:
    about = found.get("environment", {}).get("rows", [])
    known = {key: value for row in about for key, value in row.items()}
    if dry:
        return [f"DRY RUN on pretend CUDA, {taken:.0f} s: no figure below was measured"]
    names = [
        str(known.get("gpu", "GPU unknown")),
        *(f"{key} {known[key]}" for key in ("torch", "triton") if key in known),
    ]
    return [f"gpuaug on {', '.join(names)}; {taken:.0f} of {budget:.0f} s"]


def _failed(found: Found, said: str, room: int) -> list[str]:
    """Each failure in one line, as many as there is room for."""
    lines = [f"{name}: {one['what']}: {one['error']}" for name, part in found.items() for one in part["failed"]]
    lines = [line.replace(f"{name}: {name}: ", f"{name}: ") for line in lines for name in [line.split(":")[0]]]
    lines += [said] if said else []
    if not lines:
        return ["FAILED  nothing"]
    shown = lines if len(lines) <= max(room - 1, 3) else lines[: max(room - 2, 2)]
    more = [f"  ... and {len(lines) - len(shown)} more, in the JSON files"] if len(shown) < len(lines) else []
    return [f"FAILED  {len(lines)}", *(f"  {' '.join(line.split())}" for line in shown), *more]


def _parts(found: Found, parts: Sequence[str]) -> list[str]:
    """Which parts ran, for how long; why one did not."""
    states = []
    for name in parts:
        part = found.get(name)
        taken = "" if part is None or not part["taken_s"] else f" {part['taken_s']:.0f} s"
        states.append(f"{name} {'not run' if part is None else part['status']}{taken}")
    lines = textwrap.wrap("; ".join(states), WIDTH - 8)
    lines = [("PARTS   " if number == 0 else "        ") + line for number, line in enumerate(lines)]
    for name, part in found.items():
        if part["status"] == "skipped":
            lines.append(f"        {name}: {part.get('reason', '')}")
    return lines


# ---- Aims ------------------------------------------------------------------------------------------------------------

AIMS = (
    "augmentation takes at most 1 % of a ResNet-50 step",
    "augmentation takes at most 3 % of a ResNet-18 step",
    "at least 10x Kornia, an image",
    "at least 3x torchvision's one draw for the batch",
    "crop + flip at most 2x of reading and writing",
)


def aims(found: Found) -> list[tuple[str, bool | None, str]]:
    """Each aim, whether it is met (None: not measured), and by which figure: the worst of those that belong to it."""
    speed, training = _rows(found, "speed"), _rows(found, "training")
    shares = [_share(training, network) for network in ("resnet50", "resnet18")]
    ratios = [_worst(speed, who) for who in (("kornia", "kornia compiled"), ("torchvision batch",))]
    limit = _limit(speed)
    return [
        _verdict(AIMS[0], shares[0], lambda share: share <= 0.01, "{:.2%}"),
        _verdict(AIMS[1], shares[1], lambda share: share <= 0.03, "{:.2%}"),
        _verdict(AIMS[2], ratios[0], lambda ratio: ratio >= 10, "{:.1f}x"),
        _verdict(AIMS[3], ratios[1], lambda ratio: ratio >= 3, "{:.1f}x"),
        _verdict(AIMS[4], limit, lambda ratio: ratio <= 2, "{:.2f}x"),
    ]


def _verdict(aim: str, figure: tuple[float, str] | None, met: Any, form: str) -> tuple[str, bool | None, str]:
    if figure is None:
        return aim, None, ""
    value, where = figure
    return aim, bool(met(value)), f"{form.format(value)}{where}"


def _share(rows: Rows, network: str) -> tuple[float, str] | None:
    """The largest share of the step at BATCH among the ways to have `Augment` in the step."""
    shares = [
        (float(row["share"]), f", {row.get('recipe', row.get('source', ''))}")
        for row in rows
        if row.get("network") == network and row.get("batch") == BATCH and row.get("share") is not None
        and row.get("source") == "augment"
    ]  # fmt: skip
    return max(shares, default=None)


def each(row: Mapping[str, Any]) -> float | None:
    """Microseconds an image: of the device, or wall time of what waits."""
    value = row.get("device_us")
    value = row.get("wall_us") if value is None else value
    return None if value is None else float(value)


def _worst(rows: Rows, theirs: Sequence[str]) -> tuple[float, str] | None:
    """The least ratio of their fastest way and ours, over the recipes at BATCH."""
    ratios = []
    for recipe in _recipes(rows):
        ours, others = _best(rows, recipe, OURS), _best(rows, recipe, theirs)
        if ours and others:
            ratios.append((others / ours, f" at least, {recipe}"))
    return min(ratios, default=None)


def _limit(rows: Rows) -> tuple[float, str] | None:
    ours, least = _best(rows, PLAIN, OURS), _best(rows, PLAIN, ("read and write",))
    return (ours / least, "") if ours and least else None


def _best(rows: Rows, recipe: str, ways: Sequence[str]) -> float | None:
    times = [each(row) for row in rows if row.get("recipe") == recipe and row.get("way") in ways and _shown(row)]
    return min((time for time in times if time), default=None)


def _shown(row: Mapping[str, Any]) -> bool:
    """Of a dense batch of the size that is compared."""
    return row.get("batch") == BATCH and not row.get("ragged")


def _recipes(rows: Rows) -> list[str]:
    return list(dict.fromkeys(str(row["recipe"]) for row in rows if "recipe" in row and _shown(row)))


def _rows(found: Found, part: str) -> Rows:
    return list(found.get(part, {}).get("rows", []))


def _aims(found: Found) -> list[str]:
    words = {True: "met", False: "MISSED", None: "not measured"}
    return [
        f"{'AIMS' if number == 0 else '':8s}{words[met]:13s}{aim}{': ' if text else ''}{text}"
        for number, (aim, met, text) in enumerate(aims(found))
    ]


# ---- Figures ---------------------------------------------------------------------------------------------------------

COLUMNS = {"gpuaug": "gpuaug", "gpuaug graph": "graph", "read and write": "limit", "torchvision batch": "tv batch"}
COLUMNS |= {"kornia": "kornia", "kornia compiled": "compiled"}


def _figures(found: Found) -> list[str]:
    return [*_tests(found), *_speed(found), *_training(found), *_sanitizer(found), *_tuning(found), *_device(found)]


def _tests(found: Found) -> list[str]:
    outcomes = [str(row.get("outcome")) for row in _rows(found, "correctness") if "test" in row]
    counts = [f"{outcomes.count(name)} {name}" for name in ("passed", "failed", "skipped") if name in outcomes]
    return [f"{'TESTS':8s}{', '.join(counts)}"] if counts else []


def _speed(found: Found) -> list[str]:
    rows = _rows(found, "speed")
    names = [name for name in _recipes(rows) if _best(rows, name, tuple(COLUMNS))]
    if not names:
        return []
    lines = [f"{'SPEED   us an image':26s}" + "".join(f"{word:>9s}" for word in COLUMNS.values())]
    for name in names:
        cells = [_best(rows, name, (way,)) for way in COLUMNS]
        lines.append(f"  {name[:23]:24s}" + "".join(f"{'-':>9s}" if cell is None else f"{cell:9.3g}" for cell in cells))
    return lines


def _training(found: Found) -> list[str]:
    rows = [row for row in _rows(found, "training") if row.get("images_s") and "network" in row]
    lines = []
    for network in dict.fromkeys(str(row["network"]) for row in rows):
        own = [row for row in rows if row["network"] == network]
        cells = [f"{row.get('source', '?')} {row['images_s']:.0f}" for row in own]
        wrapped = textwrap.wrap(f"{network} images/s: {'; '.join(cells)}", WIDTH - 8)[:3]
        lines += [f"{'TRAIN' if not lines and number == 0 else '':8s}{line}" for number, line in enumerate(wrapped)]
    return lines


def _sanitizer(found: Found) -> list[str]:
    cells = [f"{row['tool']} {row['errors']} errors" for row in _rows(found, "sanitizer") if "errors" in row]
    return [f"{'CHECKED':8s}{'; '.join(cells)}"] if cells else []


def _tuning(found: Found) -> list[str]:
    best = [row for row in _rows(found, "tuning") if row.get("best")]
    cells = [f"{row['kernel']} {row['variant']} {row['gain']:.2f}x" for row in best]
    return [f"{'TUNING' if n == 0 else '':8s}{line}" for n, line in enumerate(textwrap.wrap("; ".join(cells), 72)[:3])]


def _device(found: Found) -> list[str]:
    rows = [row for row in _rows(found, "environment") if row.get("gb_s")]
    cells = [f"{row['copy']} {row['gb_s']:.0f}" for row in rows if row.get("largest")]
    return [f"{'GB/s':8s}{'; '.join(cells)}"] if cells else []
