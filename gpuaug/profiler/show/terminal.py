"""A report in the terminal: the verdict, the reasons, the stages and the recommendations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpuaug.profiler.doctor import Finding
from gpuaug.profiler.report import Report
from gpuaug.profiler.show.comparison import Comparison
from gpuaug.profiler.show.step import rank_rows, sentences
from gpuaug.profiler.show.words import (
    confidence,
    doubts,
    following_of,
    gain_or_reason,
    inside,
    ms,
    percent,
    place,
    receipt,
    sample,
    where,
    why,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["compared", "examined", "to_rich", "to_text"]

WIDTH = 80  # characters
GAIN = 21  # characters of a gain with its interval
COLUMNS = {  # name: (characters, characters of the terminal from which on it is shown, meaning)
    "spent": (6, 0, "time of a batch in the process that does this work"),
    "waits": (6, 76, "the part of it not on a core"),
    "samples/s": (9, 76, "limit of this row alone"),
    "exposed": (7, 90, "time that a step would save without this row and those above it"),
    "step": (5, 0, "part of the step that it would save without this row and those above it"),
    "gain if free": (17, 0, "times as fast without this row alone, with the interval"),
}


def to_rich(report: Report, width: int = WIDTH) -> RenderableType:
    """The report as an object that rich prints on so many characters."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    columns = [name for name, (_, least, _) in COLUMNS.items() if width >= least]
    legend = Text(" ".join(f"{name}: {COLUMNS[name][2]}." for name in columns), "dim")
    parts: list[RenderableType] = [_summary(report), _stages(report, columns), legend, *_step(report)]
    parts += _recommendations(report)
    if report.receipt is not None:
        parts.append(Text(f"\nReceipt: {receipt(report)}", "bold" if report.receipt.reliable else "bold red"))
    slow = [pair for pair in report.slowest(5) if pair[0] is not None]
    if slow:
        parts.append(
            Text(
                "\nSlowest samples: "
                + ", ".join(f"{sample(report, index)} ({ms(seconds)} ms)" for index, seconds in slow)
            )
        )
    if report.skipped:
        parts.append(Text("\nNot run", "dim italic"))
        parts += [Padding(Text(f"{name}: {why}", "dim"), (0, 0, 0, 1)) for name, why in report.skipped.items()]
    parts.append(Text(f"\n{where(report)}", "dim"))
    return Group(*parts)


def _summary(report: Report) -> RenderableType:
    """Verdict, reasons, first recommendation, reliability."""
    from rich import box
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    colour = {"model": "green", "tie": "yellow"}.get(report.verdict.kind, "red")
    first = following_of(report)
    if first is not None:
        following = f"{first.title} {first.gain}  [{first.id}]"
    elif report.advice:
        following = "No change has a predicted gain. See what was observed, below."
    else:
        following = "Nothing in the data path is worth changing."
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column()
    lines.add_row("Verdict", Text(report.verdict.text, f"bold {colour}"))
    lines.add_row("Why", Text("\n".join(why(report))))
    lines.add_row("Next", Text(following))
    lines.add_row("Trust", Text(confidence(report), "bold red" if doubts(report) else ""))
    return Panel(lines, title="gpuaug profile", box=box.ROUNDED, title_align="left")


def _stages(report: Report, columns: Sequence[str]) -> RenderableType:
    """A row for each stage, and below it the functions that take most of its time."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        expand=True,
        title="Where a batch spends its time, in ms",
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("stage", overflow="fold", ratio=1)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True, width=COLUMNS[name][0])
    for stage in report.stages:
        cells = {
            "spent": ms(stage.seconds),
            "waits": ms(stage.waiting),
            "samples/s": "" if stage.capacity is None else f"{stage.capacity:,.0f}",
            "exposed": ms(stage.exposed),
            "step": percent(stage.share),
            "gain if free": f"{stage.gain.times:.2f} ({stage.gain.low:.2f}-{stage.gain.high:.2f})",
        }
        table.add_row(Text(stage.name), *(cells[name] for name in columns))
        for one in inside(report, stage):
            spent = (ms(one.seconds) if name == "spent" else "" for name in columns)
            table.add_row(Padding(Text(place(one)), (0, 0, 0, 2)), *spent, style="dim")
    whole = {"spent": "", "samples/s": f"{report.images_per_second:,.0f}", "exposed": ms(report.pace), "step": "100%"}
    table.add_row("step", *(whole.get(name, "") for name in columns), style="bold")
    return table


def _step(report: Report) -> list[RenderableType]:
    """Phases on the device, memory and ranks."""
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(f"\n{text}") for text in sentences(report)]
    rows = rank_rows(report)
    if rows:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for name in ("rank", "own ms", "waits", "forward", "backward", "optim.", "MB"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        parts.append(table)
    return parts


def _recommendations(report: Report) -> list[RenderableType]:
    """A row for each recommendation, and the code of the first."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if not report.advice:
        return []
    rows = Table.grid(padding=(0, 1))
    rows.add_column(style="bold", width=GAIN)
    rows.add_column()
    for one in report.advice:
        rows.add_row(gain_or_reason(one), Text.assemble(f"{one.title}  ", (f"[{one.id}]", "dim")))
    parts: list[RenderableType] = [Text("\nWhat to change", "italic"), Padding(rows, (0, 0, 0, 1))]
    first = following_of(report) or next((one for one in report.advice if one.how), None)
    if first is not None:
        parts.append(Text(f"\nWhat to do ({first.id})", "italic"))
        parts.append(Text("\n".join("  " + line for line in first.how.splitlines())))
    return parts


def to_text(report: Report, width: int = WIDTH) -> str:
    """The report as plain text.

    Raises:
        ModuleNotFoundError: If rich is not installed.
    """
    try:
        from rich.console import Console
    except ImportError:
        raise ModuleNotFoundError('profile: a report as text needs rich. Run pip install "gpuaug[profile]".') from None

    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(to_rich(report, width))
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def compared(before: Report, after: Report, tolerance: float) -> tuple[bool, str]:
    """Compare two reports: (whether the second is slower by more than the tolerance, a table as text)."""
    found = Comparison.of(before, after, tolerance)
    head = ("", "before", "after", "times as fast")
    rows = [head, *((row.name, row.before, row.after, row.change) for row in found.rows)]
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return found.slower, "\n".join(line.rstrip() for line in [*lines, *found.remarks])


def examined(findings: Sequence[Finding]) -> str:
    """The doctor's findings as text, in one row each, with a remedy below each problem."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        mark = {True: "+ ", False: "! ", None: "  "}[one.ok]
        table.add_row(mark + one.what, one.value + (f"\n{one.remedy}" if one.ok is False and one.remedy else ""))
    console = Console(width=WIDTH, file=io.StringIO(), force_terminal=False)
    console.print(table, "  + works well   ! needs attention")
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]
