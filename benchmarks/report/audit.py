"""The tables of `python -m benchmarks.evidence.audit`, from what `benchmarks.evidence.audit.collect` found, or a file
has kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..locations import PACKAGE

__all__ = ["rounded", "show", "span"]

Row = dict[str, Any]

LEGEND = """\
Counts and calculated bounds. Nothing was timed, and nothing ran on a GPU.
Cases start at a uint8 batch of 3x{source}x{source} on the device and end at normalised
{size}x{size}. The second batch of a module is counted; the first one also sends
constants. Ranges are over draws, MB/image is the mean over draws.

launches  operations that compute, per batch; one may start several kernels
MB/image  bytes that the launches read and write, each byte once per launch
syncs     how often the host waits for the device, per batch
may sync  asynchronous copies from pageable memory: they may make the host
          wait, and a CUDA graph cannot contain them
H2D       all copies to the device, per batch
"""
BOUNDS = """\
Calculated, not measured:

memory    MB/image over the memory's bandwidth, {bandwidths} TB/s:
          a lower bound for batches that exceed the L2 cache
issue     instructions of the compiled kernels over the rate at which all
          multiprocessors issue them{issue}
step      the larger of the two, in percent of the time that training takes for
          an image. It does not include the time of launches and syncs, nor the
          issue of instructions that were not counted.
"""
COUNTS = ("launches", "MB/image", "syncs", "may sync", "H2D")
WIDTHS = {"counts": (24, 10, 9, 8, 8, 8), "times": (24, *[7] * 6), "shares": (21, *[5] * 9)}  # 80 with borders
SHORT = {"RTX 4090": "4090", "ResNet-18": "RN18", "ResNet-50": "RN50", "ViT-B/16": "ViT-B"}


def show(console: Console, result: dict[str, Any], where: bool = False) -> None:
    """Print the tables; `where` adds the source line of each finding."""
    gpus, rates, rows = result["gpus"], result["rates"], result["rows"]
    console.print(LEGEND.format(**result), style="dim")
    console.print(_table("counts", COUNTS, rows, _counts, result["absent"], where))
    bandwidths = ", ".join(f"{gpu['bandwidth'] / 1e12:g}" for gpu in gpus.values())
    console.print("\n" + BOUNDS.format(bandwidths=bandwidths, issue=_issue(result["instructions"])), style="dim")
    console.print("Calculated: the least time of an image, us")
    headings = [f"{kind}\n{SHORT.get(gpu, gpu)}" for kind in ("memory", "issue") for gpu in gpus]
    console.print(_table("times", headings, rows, _times))
    console.print("\nCalculated: that time in percent of a training step")
    headings = [f"{SHORT.get(gpu, gpu)}\n{SHORT.get(model, model)}" for gpu in gpus for model in rates]
    console.print(_table("shares", headings, rows, _shares))
    console.print("\nImages/s of training, by others; sources in benchmarks/evidence/gpus.py", style="dim")
    for model, known in rates.items():
        texts = (f"{gpu} {rounded(rate['images'], 3)} {rate['kind']}" for gpu, rate in known.items())
        console.print(f"{model:<10}{', '.join(texts)}", style="dim")


def _issue(counted: dict[str, Any] | None) -> str:
    if counted is None:
        return f";\n          not counted yet: python -m {PACKAGE}.evidence.bounds --json FILE"
    text = f", counted on {counted['images']} photographs"
    return text + (";\n          STALE: the kernels have changed since they were counted" if counted["stale"] else "")


def _counts(row: Row) -> list[str]:
    draws = row["draws"]
    mean = sum(draw["mb_per_image"] for draw in draws) / len(draws)
    names = ("launches", "waits", "uploads_that_may_wait", "uploads")
    launches, *others = (span(draw[name] for draw in draws) for name in names)
    return [launches, rounded(mean, 3), *others]


def _times(row: Row) -> list[str]:
    found = row["calculated"].values()
    return [
        *(rounded(bound["memory_us"]) for bound in found),
        *("" if bound["issue_us"] is None else rounded(bound["issue_us"]) for bound in found),
    ]


def _shares(row: Row) -> list[str]:
    return [rounded(share) for bound in row["calculated"].values() for share in bound["step_percent"].values()]


def _table(
    kind: str,
    headings: Sequence[str],
    rows: Sequence[Row],
    cells: Callable[[Row], list[str]],
    absent: Sequence[Row] = (),
    where: bool = False,
) -> Table:
    """A line for each case, under the name of who does it; with the counts, what differs in the work."""
    table = Table(box=box.ROUNDED)
    table.add_column(_line(kind, "", *headings))
    notes = kind == "counts"
    for who in dict.fromkeys(row["who"] for row in (*rows, *absent)):
        own = [row for row in rows if row["who"] == who]
        batch = f", batch {own[0]['batch']}" if own and notes else ""
        lines: list[RenderableType] = [Text(who + batch, style="bold")]
        for row in own:
            lines.append(_line(kind, row["case"], *cells(row)))
            lines += map(_note, [row["work"], *(_where(row) if where else [])] if notes else [])
        for row in absent:
            if row["who"] == who:
                lines += [Text(row["case"]), _note(f"absent: {row['error']}", "red")]
        table.add_row(Group(*lines))
    return table


def _line(kind: str, *cells: str) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for number, width in enumerate(WIDTHS[kind]):
        grid.add_column(width=width, justify="right" if number else "left", overflow="fold")
    grid.add_row(*cells)
    return grid


def _note(text: str, style: str = "dim") -> Padding:
    return Padding(Text(text, style=style), (0, 0, 0, 2))


def _where(row: Row) -> list[str]:
    return [f"{one['count']:.3g}x {one['kind']}\n  {one['file']}:{one['line']}" for one in row["findings"]]


def span(values: Iterable[int]) -> str:
    """The lowest and the highest."""
    ordered = sorted(values)
    return "-".join(dict.fromkeys(map(str, (ordered[0], ordered[-1]))))


def rounded(value: float, digits: int = 2) -> str:
    """To so many significant digits, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):,g}" if value < 1e4 else f"{float(f'{value:.{digits}g}'):,.0f}"
