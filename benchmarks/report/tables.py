"""A run as tables: terminal, Markdown and CSV, from its JSON (long: a function for each table)."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..machine import lines
from ..measure import median, ratio, spread, wide

__all__ = ["Grid", "grids", "losses", "markdown", "marks", "own_of", "show", "unmatched", "write_csv"]

Row = dict[str, Any]
OURS, RAW, CEILING = "gpuaug", "raw images", "cached batch"
PACKS = ("packed raw", "packed JPEG")  # groups of loaders with a row of gpuaug's of that name
PARITY = "deterministic"
DIFFERS = 3.0  # mean levels from torchvision's pixels, above which a result is marked as another one
SHORT = {
    "torchvision v2, PIL": "tv PIL",
    "torchvision v2, tensors": "tv tens.",
    "torchvision v2, batch": "tv batch",
    "AlbumentationsX": "Alb.X",
    "AlbumentationsX, area": "Alb. area",
    "Kornia, compiled": "Kornia comp.",
    f"{OURS}, list": "as a list",
    f"{OURS}, a call for each view": "a call each",
    f"{OURS}, images only": "images only",
    "triton-augment": "triton augm.",
    "torchaug": "torch aug",
}
MARKS = f"""\
~ unsteady: rounds differ from this median by more than a tenth (their quartiles;
  with fewer than 5 rounds their extremes)
? undecided: gpuaug is faster in some rounds, and slower in others
* less work: one draw for the whole batch
! other pixels: more than {DIFFERS:g} levels from torchvision's with the same parameters"""


@dataclass
class Grid:
    """A table: the first column is left-aligned, a row of one cell is a heading."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    narrow: bool = False  # headings may break


def per_image(row: Row) -> float:
    """Milliseconds an image, the median over rounds."""
    return median(row["seconds"]) / row["images"] * 1e3


def rate(row: Row) -> float:
    """Images a second."""
    return row["images"] / median(row["seconds"])


def _number(value: float, significant: int = 3) -> str:
    """A number with so many significant digits, all digits before the point, and at most three after it."""
    after = significant - 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{min(3, max(0, after))}f}"


def _figure(value: float, marked: str) -> str:
    """A number with its marks; an unsteady one has two digits."""
    return _number(value, 2 if "~" in marked else 3) + marked


def own_name(row: Row) -> str:
    """The name of gpuaug's row with which a row is compared."""
    return f"{OURS}, {row['group']}" if row.get("group") in PACKS else OURS


def own_of(rows: list[Row]) -> Row | None:
    """gpuaug's row among the rows of one case, threads and group; None if gpuaug did not run there."""
    return next((row for row in rows if row["who"] == own_name(row)), None)


def undecided(row: Row, own: Row) -> bool:
    """Whether some rounds are on the other side of 1."""
    rounds = [other > mine for other, mine in zip(row["seconds"], own["seconds"], strict=True)]
    return any(rounds) and not all(rounds)


def marks(row: Row, own: Row | None = None) -> str:
    """The marks of a figure, or of its ratio to `own`."""
    unsteady = wide(row["seconds"]) or (own is not None and wide(own["seconds"]))
    question = own is not None and undecided(row, own)
    other = (row.get("difference") or 0) > DIFFERS
    return (
        ("?" if question else "")
        + ("~" if unsteady else "")
        + ("*" if row.get("less") else "")
        + ("!" if other else "")
    )


def _times(row: Row, own: Row) -> str:
    return _figure(ratio(row["seconds"], own["seconds"]), marks(row, own))


def grids(run: dict[str, Any]) -> Iterator[tuple[str, Grid]]:
    """(regime, table) in order."""
    regimes = run["regimes"]
    if "ops" in regimes:
        yield "ops", _contest("Ops alone", regimes["ops"]["rows"], "op")
    for threads, rows in _by_threads(regimes.get("recipes", {"rows": []})["rows"]):
        yield "recipes", _contest(f"Recipes, {_cores(threads)}", rows, "recipe")
    for threads, rows in _by_threads(regimes.get("targets", {"rows": []})["rows"]):
        yield "targets", _targets(f"Targets, {_cores(threads)}", rows)
    for threads, rows in _by_threads(regimes.get("views", {"rows": []})["rows"]):
        grid = _contest(f"Views, {_cores(threads)}", rows, "views of each image")
        grid.notes[0] += " Seconds are those of the process."
        yield "views", grid
    for threads, rows in _by_threads(regimes.get("loaders", {"rows": []})["rows"]):
        yield "loaders", _loaders(f"Loaders, {_cores(threads)}", rows)
    for threads, rows in _by_threads(regimes.get("training", {"rows": []})["rows"]):
        yield "training", _training(f"Training, {_cores(threads)}", rows)
    rows = regimes.get("scaling", {"rows": []})["rows"]
    for axis in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == axis]
        yield "scaling", _passes(mine) if axis == "passes" else _axis(axis, mine)
    if run["regimes"].get("turns", {"rows": []})["rows"]:
        yield "turns", _turns(run["regimes"]["turns"]["rows"])


def _cores(threads: int) -> str:
    return f"{threads} core" + "s" * (threads > 1)


def _by_threads(rows: list[Row]) -> Iterator[tuple[int, list[Row]]]:
    for threads in sorted({row["threads"] for row in rows}):
        yield threads, [row for row in rows if row["threads"] == threads]


def _contest(title: str, rows: list[Row], what: str) -> Grid:
    timed = [row for row in rows if "seconds" in row]
    names = list(dict.fromkeys(row["who"] for row in timed if row["who"] != OURS))
    body = []
    for case in dict.fromkeys(row["case"] for row in timed):
        mine = {row["who"]: row for row in timed if row["case"] == case}
        own = mine.get(OURS)
        if own is None:  # it is among the absent
            continue
        cells = [_times(mine[name], own) if name in mine else "" for name in names]
        body.append([short(case), _figure(per_image(own), marks(own)), *cells])
    parity = {row["who"]: row["difference"] for row in rows if row["case"] == PARITY}
    notes = [f"gpuaug: ms an image. The others: their time divided by gpuaug's. {_rounds(timed)}."]
    if parity:
        told = ", ".join(f"{name} {parity[name]:.1f}" for name in names if name in parity)
        notes.append(f"Mean difference from torchvision's pixels, in levels, in a recipe without chance: {told}.")
    notes += _work(timed)
    return Grid(title, [what, OURS, *(SHORT.get(name, name) for name in names)], body, notes, narrow=True)


def _targets(title: str, rows: list[Row]) -> Grid:
    """As a contest, with what the targets take beside their images."""
    grid = _contest(title, rows, "targets")
    grid.notes[0] = grid.notes[0].replace("images.", "images a batch at most. Seconds are those of the process.")
    added = []
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = {row["who"]: row["seconds"] for row in rows if row["case"] == case}
        alone = mine.get(f"{OURS}, images only")
        for who, how in ((OURS, ""), (f"{OURS}, list", " as a list")):
            if alone is not None and who in mine:
                ms = median([taken - without for taken, without in zip(mine[who], alone, strict=True)]) * 1e3
                added.append(f"{case}{how} {ms:.1f}")
    if added:
        grid.notes.append(f"What the targets of a batch take beside its images, ms: {'; '.join(added)}.")
    return grid


def short(case: str) -> str:
    """An op's name without the prefix that most names have."""
    return case.removeprefix("Random").removesuffix("Wide")


def _work(rows: list[Row]) -> list[str]:
    """What differs in the work of each contestant, and in which cases if not in all."""
    notes = []
    for who in dict.fromkeys(row["who"] for row in rows):
        cases: dict[str, list[str]] = {}
        for row in rows:
            if row["who"] == who and row.get("work"):
                cases.setdefault(row["work"], []).append(short(row["case"]))
        usual = max(cases, key=lambda text: len(cases[text]), default="")
        for text, found in cases.items():
            where = "" if text == usual else f" ({', '.join(dict.fromkeys(found))})"
            notes.append(f"{who}{where}: {text}.")
    return notes


def _rounds(rows: list[Row]) -> str:
    if not rows:
        return "Nothing was timed"
    turns = {len(row["seconds"]) for row in rows}
    count = f"{min(turns)}" if len(turns) == 1 else f"{min(turns)} to {max(turns)}"
    return f"Medians of {count} rounds, {max(row['images'] for row in rows)} images"


def _loaders(title: str, rows: list[Row]) -> Grid:
    body: list[list[str]] = []
    cases = [case for case in dict.fromkeys(row["case"] for row in rows) if case != "raw images"]
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        body.append([{"files": "from JPEG files", RAW: "raw images, for a GPU"}.get(group, f"from {group}")])
        for who in dict.fromkeys(row["who"] for row in members):
            cells = [who]
            for case in cases if group != RAW else [RAW]:
                here = {row["who"]: row for row in members if row["case"] == case}
                own = own_of(list(here.values()))
                if who not in here:
                    cells += ["", ""]
                    continue
                cells.append(_number(rate(here[who])) + marks(here[who]))
                is_own = own is None or here[who] is own or group == RAW
                cells.append("" if is_own or own is None else _times(here[who], own))
            body.append(cells + [""] * (1 + 2 * len(cases) - len(cells)))
    columns = ["way"]
    for case in cases:
        columns += [case, "x"]
    notes = [
        "Images a second, and in column x the time divided by that of the first row of the part. "
        f"{_rounds(rows)}, {rows[0]['threads']} worker(s) or thread(s)."
    ]
    return Grid(title, columns, body, notes + _shares(rows) + _work(rows))


def _shares(rows: list[Row]) -> list[str]:
    """Which part of the bytes of whole images the workers send."""
    found: dict[str, list[float]] = {}
    for row in rows:
        own = own_of([one for one in rows if (one["case"], one["group"]) == (row["case"], row["group"])])
        if own is not None and own is not row and row.get("sent") and own.get("sent"):
            found.setdefault(row["who"], []).append(row["sent"] / own["sent"])
    parts = ", ".join(f"{who} {median(shares):.2f}" for who, shares in found.items())
    return [f"Bytes that the workers send, divided by those of the first row of the part: {parts}."] if parts else []


def _training(title: str, rows: list[Row]) -> Grid:
    models = list(dict.fromkeys(row["case"] for row in rows))
    columns = ["data path"]
    for model in models:
        columns += [model, "waits"]
    body = []
    for who in dict.fromkeys(row["who"] for row in rows):
        cells = [who]
        for model in models:
            row = next((row for row in rows if row["who"] == who and row["case"] == model), None)
            if row is None:
                cells += ["", ""]
                continue
            share = median([waited / taken for waited, taken in zip(row["waited"], row["seconds"], strict=True)])
            cells += [_number(rate(row)) + marks(row), f"{100 * share:.0f}%"]
        body.append(cells)
    notes = [
        "Images a second of training, and the share of the time in which a step waits for its batch. "
        f"RandAugment recipe. {_rounds(rows)}."
    ]
    return Grid(title, columns, body, notes)


def _axis(axis: str, rows: list[Row]) -> Grid:
    body = []
    for at in dict.fromkeys(row["at"] for row in rows):
        mine = {row["who"]: row for row in rows if row["at"] == at}
        own, limit = mine[OURS], next(row for who, row in mine.items() if who != OURS)
        share = 1 / ratio(own["seconds"], limit["seconds"])
        body.append([str(at), _number(rate(own)) + marks(own), _number(rate(limit)) + marks(limit), f"{share:.1%}"])
    notes = [
        f"crop + flip + RandAugment(2, 9) + normalise. The limit only reads and writes the pixels. {_rounds(rows)}."
    ]
    return Grid(f"Scaling: {axis}", [axis, "images/s", "limit, images/s", "of the limit"], body, notes)


def _passes(rows: list[Row]) -> Grid:
    body = []
    for case, found in stacked(rows).items():
        draw, crop, *ops, floats = (ms for _, ms in found)
        body.append([case, *(f"{ms:.3f}" for ms in (draw, crop, sum(ops), floats, draw + crop + sum(ops) + floats))])
    columns = ["recipe", "draw", "crop + flip", "ops", "to floats", "sum"]
    return Grid("Where the time goes, ms an image on 1 core", columns, body, [f"{_rounds(rows)}."])


def _turns(rows: list[Row]) -> Grid:
    body = []
    for threads, mine in _by_threads(rows):
        own, other = (next((row for row in mine if (row["who"] == OURS) == ours), None) for ours in (True, False))
        if own is None or other is None:
            continue
        cpu = median([one / two for one, two in zip(own["cpu"], other["cpu"], strict=True)])
        faults = [f"{median(row['faults']):,.0f}" for row in (own, other)]
        times = [_figure(per_image(row), marks(row)) for row in (own, other)]
        body.append([str(threads), *times, f"{ratio(own['seconds'], other['seconds']):.2f}", f"{cpu:.2f}", *faults])
    columns = [
        "threads", "in turn, ms an image", "one after another", "x", "x of CPU time", "page faults in turn",
        "page faults one after another",
    ]  # fmt: skip
    notes = [
        "Crop + flip + normalise of 64 images, of the last 17, the evaluation of 100, and 32 images of 160 pixels, "
        f"each six times: in turn, or one call after the other (x: divided by it). The same pixels. {_rounds(rows)}."
    ]
    return Grid("Sizes in turn", columns, body, notes)


def stacked(rows: list[Row]) -> dict[str, list[tuple[str, float]]]:
    """Each recipe's passes with their ms an image: rendering is measured with a longer and longer part of the list."""
    found: dict[str, list[tuple[str, float]]] = {}
    for case in dict.fromkeys(row["at"] for row in rows):
        mine = [row for row in rows if row["at"] == case]
        parts = [("draw", per_image(mine[0]))]
        before = 0.0
        for row in mine[1:]:
            parts.append((row["who"], max(0.0, per_image(row) - before)))
            before = max(before, per_image(row))
        found[case] = parts
    return found


def losses(run: dict[str, Any]) -> list[str]:
    """The rows in which another library is faster, in words, with their marks."""
    found = []
    for regime in ("ops", "recipes", "targets", "views", "loaders", "training"):
        rows = [row for row in run["regimes"].get(regime, {"rows": []})["rows"] if "seconds" in row]
        first: dict[Any, Row] = {}
        for row in rows:
            if row["who"] == own_name(row):
                first[row["case"], row["threads"], row.get("group")] = row
        for row in rows:
            own = first.get((row["case"], row["threads"], row.get("group")))
            if own is None or row["who"].startswith((OURS, CEILING)) or row.get("group") == RAW:
                continue
            times = ratio(row["seconds"], own["seconds"])
            if times < 1 or undecided(row, own):
                where = f"{regime}, {_cores(row['threads'])}, {row['case']}"
                found.append(f"{where}: {row['who']} takes {times:.2f} times as long{marks(row, own)}")
    return found


def unmatched(run: dict[str, Any]) -> list[str]:
    """Where others ran and gpuaug did not, so that there is nothing to compare them with."""
    found = []
    for regime in ("ops", "recipes", "targets", "views", "loaders", "training"):
        rows = [row for row in run["regimes"].get(regime, {"rows": []})["rows"] if "seconds" in row]
        cases: dict[Any, list[Row]] = {}
        for row in rows:
            cases.setdefault((row["case"], row["threads"], row.get("group")), []).append(row)
        for (case, threads, _), members in cases.items():
            if own_of(members) is None and not members[0]["who"].startswith(OURS):
                found.append(f"{regime}, {_cores(threads)}, {case}")
    return found


def absences(run: dict[str, Any]) -> list[str]:
    """Which library is missing where, and why; one line for each reason."""
    lines_: list[str] = []
    for regime, found in run["regimes"].items():
        reasons: dict[tuple[str, str], list[str]] = {}
        for one in found.get("absent", []):
            cases = reasons.setdefault((one["who"], one["error"]), [])
            if one["case"] and one["case"] not in cases:
                cases.append(one["case"])
        for (who, error), cases in reasons.items():
            lines_.append(f"{regime}: {who}{', ' + ', '.join(cases) if cases else ''}: {error}")
    return lines_ + [f"{part}: failed: {error}" for part, error in run.get("failed", {}).items()]


def drift(run: dict[str, Any]) -> str | None:
    """A sentence if the machine did not run at one speed."""
    pace = run["pace"]
    change = max(pace) / min(pace) - 1
    if change < 0.1:
        return None
    return f"The machine's speed changed by {change:.0%} during this run; figures of different tables may not agree."


def show(console: Console, run: dict[str, Any]) -> None:
    """Print everything but the audit's tables, which `benchmarks.report.audit.show` prints."""
    for _, grid in grids(run):
        table = Table(
            title=grid.title, box=None, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left", header_style="dim"
        )
        for number, column in enumerate(grid.columns):
            heading = column.replace(" ", "\n") if grid.narrow and number else column
            figures = max((len(row[number]) for row in grid.rows if len(row) > 1), default=1)  # never cut
            table.add_column(
                heading, justify="right" if number else "left", min_width=figures if number else 12, overflow="fold"
            )
        for row in grid.rows:
            if len(row) == 1:
                table.add_row(Text(row[0], style="bold"))
            else:
                table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        for note in grid.notes:
            console.print(note, style="dim")
        console.print()
    console.print(MARKS, style="dim")
    for line in absences(run):
        console.print(f"Absent: {line}", style="yellow")


def markdown(grid: Grid) -> str:
    """The table in GitHub's Markdown."""
    head = f"| {' | '.join(grid.columns)} |"
    ruler = f"|---|{'---:|' * (len(grid.columns) - 1)}"
    width = len(grid.columns)
    body = [[f"**{row[0]}**", *[""] * (width - 1)] if len(row) == 1 else row for row in grid.rows]
    return "\n".join([head, ruler, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in body)])


def write_csv(path: Path, run: dict[str, Any]) -> None:
    """A line for each contestant, case and number of threads, with machine and versions on each."""
    columns = ("regime", "case", "at", "group", "who", "threads", "images", "rounds", "ms_per_image", "spread", "wide")
    more = ("images_per_s", "difference", "less_work", "work", "waited_s")
    about = lines(run)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *more, "created", "machine", "versions"])
        for regime, row in _timed(run):
            taken = row["seconds"]
            waited = median(row["waited"]) if row.get("waited") else ""
            first = [regime, row["case"], row.get("at", ""), row.get("group", ""), row["who"], row["threads"]]
            figures = [row["images"], len(taken), per_image(row), spread(taken), wide(taken), rate(row)]
            last = [row.get("difference", ""), row.get("less", False), row.get("work", ""), waited]
            writer.writerow([*first, *figures, *last, run["created"], *about])


def _timed(run: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    for regime, found in run["regimes"].items():
        rows: Sequence[Row] = found.get("rows", [])
        yield from ((regime, row) for row in rows if "seconds" in row)
