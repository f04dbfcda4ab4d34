"""One screen: what failed, the aims, the main figures. It is made of what the parts' files have and of nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["AIMS", "LINES", "WIDTH", "aims", "each", "shown", "summary"]

LINES, WIDTH = 45, 80
BATCH = 256  # whose figures are shown

Found = Mapping[str, Mapping[str, Any]]
Rows = list[Mapping[str, Any]]


def summary(found: Found, parts: Sequence[str], taken: float, budget: float, dry: bool = False, said: str = "") -> str:
    """At most LINES lines of WIDTH characters; where all do not fit, a few failures and most figures are shown."""
    lines = [*_heading(found, taken, budget, dry), *_parts(found, parts), *_aims(found)]
    figures = _figures(found)
    failed = _failed(found, said, LINES - len(lines) - len(figures))
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
    lines = [
        f"{name}: {one['what'].split('::')[-1]}: {one['error']}"
        for name, part in found.items()
        for one in part["failed"]
    ]
    lines = [line.replace(f"{name}: {name}: ", f"{name}: ") for line in lines for name in [line.split(":")[0]]]
    lines += [said] if said else []
    if not lines:
        return ["FAILED  nothing"]
    few = lines if len(lines) <= max(room - 1, 4) else lines[: max(room - 2, 3)]
    more = [f"  ... and {len(lines) - len(few)} more, in the JSON files"] if len(few) < len(lines) else []
    return [f"FAILED  {len(lines)}", *(f"  {' '.join(line.split())}" for line in few), *more]


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

AIMS = {  # of each part, as long as it has not measured its own
    "speed": (
        "crop + flip within 2x of reading and writing",
        "3x as fast as torchvision batch",
        "10x as fast as kornia",
    ),
    "training": ("augmentation takes at most 1% of a resnet50 step", "at most 3% of a resnet18 step"),
}


def aims(found: Found) -> list[tuple[str, bool | None, float | None]]:
    """Each aim, whether it is met (None: not measured), and the figure, of rows that speed and training end with."""
    known = []
    for part, names in AIMS.items():
        rows = [row for row in _rows(found, part) if "aim" in row]
        known += [(str(row["aim"]), row["met"], row["measured"]) for row in rows] or [
            (name, None, None) for name in names
        ]
    return known


def _aims(found: Found) -> list[str]:
    lines = ["AIMS"]
    for aim, met, measured in aims(found):
        text = aim.replace("augmentation takes at most", "at most").replace(f", batch {BATCH}", "")
        figure = "" if measured is None else f"{measured:.2%}" if "%" in aim else f"{measured:.2f}x"
        lines.append(f"  { ({True: 'met', False: 'MISSED', None: 'not measured'}[met]):13s}{figure:9s}{text}")
    return lines


# ---- Figures ---------------------------------------------------------------------------------------------------------

COLUMNS = {"gpuaug": "gpuaug", "gpuaug graph": "graph", "read and write": "limit", "torchvision batch": "tv batch"}
COLUMNS |= {"kornia": "kornia", "kornia compiled": "compiled"}


def each(row: Mapping[str, Any]) -> float | None:
    """Microseconds an image: of the device, or wall time of what waits."""
    value = row.get("device_us")
    value = row.get("wall_us") if value is None else value
    return None if value is None else float(value)


def shown(rows: Rows) -> Rows:
    """Of batches of one size, those of BATCH images if there are some: rows whose work is what was asked for."""
    rows = [row for row in rows if "recipe" in row and "way" in row and not row.get("check") and each(row)]
    rows = [row for row in rows if not str(row["recipe"]).endswith(", ragged")]
    batches = [row.get("batch") for row in rows]
    batch = BATCH if BATCH in batches else next(iter(batches), None)
    return [row for row in rows if row.get("batch") == batch]


def _rows(found: Found, part: str) -> Rows:
    return list(found.get(part, {}).get("rows", []))


def _figures(found: Found) -> list[str]:
    return [*_tests(found), *_speed(found), *_training(found), *_sanitizer(found), *_tuning(found), *_device(found)]


def _tests(found: Found) -> list[str]:
    outcomes = [str(row.get("outcome")) for row in _rows(found, "correctness") if "test" in row]
    counts = [f"{outcomes.count(name)} {name}" for name in ("passed", "failed", "skipped") if name in outcomes]
    return [f"{'TESTS':8s}{', '.join(counts)}"] if counts else []


def _speed(found: Found) -> list[str]:
    """A line for each recipe, a column for each way."""
    rows = shown(_rows(found, "speed"))
    if not rows:
        return []
    title = f"SPEED   us an image, {rows[0].get('batch')}"
    lines = [f"{title:26s}" + "".join(f"{word:>9s}" for word in COLUMNS.values())]
    for name in dict.fromkeys(str(row["recipe"]) for row in rows):
        times = {str(row["way"]): each(row) for row in rows if row["recipe"] == name}
        cells = [times.get(way) for way in COLUMNS]
        lines.append(
            f"  {name.replace('MixUp/CutMix', 'mix')[:23]:24s}"
            + "".join(f"{'-':>9s}" if cell is None else f"{cell:9.3g}" for cell in cells)
        )
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
