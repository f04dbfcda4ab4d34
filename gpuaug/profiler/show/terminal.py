"""A report in the terminal: verdict, why, next; the same numbers as in every other form of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpuaug.profiler.doctor import Finding
from gpuaug.profiler.judge.advice import CORRECTNESS, Advice
from gpuaug.profiler.judge.verdict import FINE, HIGH, WORDS
from gpuaug.profiler.report import Report

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["card", "compared", "confidence", "examined", "level", "text", "why"]

WIDTH = 80
MISSES = 0.15  # of the pace, by the replay: beyond it, gains are guesses
CAUSES = {
    "tail": "a few batches take far longer than the rest, and batches come in order",
    "worker": "one worker is slower than the others",
    "threads": "each worker computes on several threads, and together they are more than the cores",
    "cores": "its processes wait for cores",
}


def level(exposed: float) -> str:
    """What a share of waiting is called: the cuts are TensorFlow's profiler's, 5 and 20 %."""
    return "low" if exposed < FINE else "high" if exposed > HIGH else "moderate"


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def percent(share: float) -> str:
    return f"{share:.0%}" if abs(share) >= 0.1 else f"{share:.1%}"


def why(report: Report) -> list[str]:
    """The reasons, a sentence each."""
    found = [
        f"{percent(report.exposed)} of a step of {ms(report.pace)} ms waits for data ({level(report.exposed)}); "
        f"{report.images_per_second:,.0f} samples/s."
    ]
    if report.alone is not None:
        found.append(
            f"The step alone takes {ms(report.alone)} ms: at most {report.samples / report.alone:,.0f} samples/s."
        )
    else:
        found.append(f"Without any data work: {report.verdict.ceiling}.")
    if report.verdict.cause:
        found.append(f"Cause: {CAUSES[report.verdict.cause]}.")
    second = report.verdict.second
    if report.verdict.kind == "data" and second:
        found.append(f"Next in line: {WORDS.get(second, second)}.")
    paces = {one.name: one.pace for one in report.passes}
    if "loader alone, cold files" in paces:
        cold, cached = paces["loader alone, cold files"], paces["loader alone, cached files"]
        found.append(
            f"Files out of the page cache: {ms(cold)} ms a batch from the loader, {ms(cached)} with them in it."
        )
    if report.edge > 0.02 * report.pace * (report.trace.loader.length or 1):
        found.append(f"Each epoch starts {report.edge:.2f} s late.")
    return found


def confidence(report: Report) -> str:
    """How far the figures hold."""
    cost = "" if report.overhead is None else f"; the clocks cost {percent(max(0.0, report.overhead))}"
    found = (
        f"The replay of the trace misses the measured pace by {percent(abs(report.residual))}{cost}; "
        f"{len(report.trace.batches)} batches."
    )
    doubt = doubts(report)
    return f"UNRELIABLE: {doubt}. {found}" if doubt else f"{found} Core speed changed by {percent(report.drift)}."


def doubts(report: Report) -> str:
    """Why the figures may not hold; empty if they should."""
    found = []
    if not report.reliable:
        found.append(f"the cores' speed changed by {percent(report.drift)} meanwhile")
    if abs(report.residual) > MISSES:
        found.append(f"the replay misses what was measured by {percent(abs(report.residual))}")
    return " and ".join(found)


def card(report: Report) -> RenderableType:
    """What the terminal shows."""
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    colour = {"model": "green", "tie": "yellow"}.get(report.verdict.kind, "red")
    lines = Text()
    lines.append("Verdict  ", "bold")
    lines.append(report.verdict.text + "\n", f"bold {colour}")
    lines.append("Why      ", "bold")
    lines.append("\n         ".join(why(report)) + "\n")
    lines.append("Next     ", "bold")
    first = next((one for one in report.advice if one.gain is not None), None)
    if first is not None:
        lines.append(f"{first.title} {first.gain}  [{first.id}]\n")
    else:
        lines.append("Nothing in the data path is worth changing.\n")
    lines.append("Trust    ", "bold")
    lines.append(confidence(report), "bold red" if doubts(report) else None)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        expand=True,
        title="Where a batch spends its time, ms",
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("stage", no_wrap=True, overflow="ellipsis", ratio=1)
    for name, width in (
        ("spent", 6),
        ("waits", 6),
        ("samples/s", 9),
        ("exposed", 7),
        ("step", 5),
        ("gain if free", 17),
    ):
        table.add_column(name, justify="right", no_wrap=True, width=width)
    for stage in report.stages:
        table.add_row(
            Text(stage.name),
            ms(stage.seconds),
            ms(stage.waiting),
            "" if stage.capacity is None or stage.capacity >= 1e6 else f"{stage.capacity:,.0f}",
            ms(stage.exposed),
            percent(stage.share),
            f"{stage.gain.times:.2f} ({stage.gain.low:.2f}-{stage.gain.high:.2f})",
        )
    table.add_row("step", "", "", f"{report.images_per_second:,.0f}", ms(report.pace), "100%", "", style="bold")
    legend = (
        "spent: of a batch, by the process that does it; waits: of that, not on a core. exposed: what a step would "
        "save without this row and those above it. gain if free: times as fast without this row alone (interval)."
    )
    panel = Panel(lines, title="gpuaug profile", box=box.ROUNDED, title_align="left")
    parts: list[RenderableType] = [panel, table, Text(legend, "dim")]
    if report.advice:
        parts.append(Text("What to change", "italic"))
        for one in report.advice:
            row = Text(" ")
            row.append(said(one), "bold")
            row.append(f"  {one.title}  ")
            row.append(f"[{one.id}]", "dim")
            parts.append(row)
        how = next((one for one in report.advice if one.how), None)
        if how is not None:
            parts.append(Text(f"\nThe lines of {how.id}:", "italic"))
            parts.append(Text("\n".join("  " + line for line in how.how.splitlines())))
    if report.receipt is not None:
        parts.append(Text(f"\nReceipt: {receipt(report)}", "bold" if report.receipt.reliable else "bold red"))
    slow = [pair for pair in report.slowest(5) if pair[0] is not None]
    if slow:
        parts.append(Text("\nSlowest samples: " + ", ".join(f"{index} ({ms(seconds)} ms)" for index, seconds in slow)))
    if report.skipped:
        parts.append(
            Text("Not run: " + "; ".join(f"{name}, {reason}" for name, reason in report.skipped.items()) + ".", "dim")
        )
    parts.append(Text(where(report), "dim"))
    return Group(*parts)


def said(advice: Advice) -> str:
    """The gain, or why there is none."""
    if advice.gain is not None:
        return str(advice.gain)
    return "correctness" if advice.id in CORRECTNESS else "seen, not replayed"


def receipt(report: Report) -> str:
    """Predicted, measured, error, in one line."""
    found = report.receipt
    assert found is not None
    said = f"{found.id} was predicted {found.predicted} and measured {found.measured}; error {found.error:+.1%}."
    return said if found.reliable else f"UNRELIABLE (core speed changed by {percent(found.drift)}): {said}"


def where(report: Report) -> str:
    """The machine and the loader, in a line."""
    loader, machine = report.trace.loader, report.machine
    ahead = f", prefetch_factor={loader.prefetch}, {loader.start}" if loader.workers else ""
    return (
        f"{loader.kind}({loader.dataset}, batch_size={loader.batch_size}, num_workers={loader.workers}{ahead}); "
        f"{machine['processor']}, {machine['cores']:g} cores, "
        f"{report.cores:.2f} of them free; {machine['device'] or 'no GPU'}; torch {machine['torch']}."
    )


def text(report: Report, width: int = WIDTH) -> str:
    """The card as plain text."""
    try:
        from rich.console import Console
    except ImportError:
        raise ModuleNotFoundError('profile: a card needs rich. Run pip install "gpuaug[profile]".') from None

    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(card(report))
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def compared(before: Report, after: Report, tolerance: float) -> tuple[bool, str]:
    """(whether the second one is slower by more than the tolerance, the table)."""
    ratio = before.pace / before.samples / (after.pace / after.samples)
    rows: list[tuple[str, str, str, str]] = [
        ("samples/s", f"{before.images_per_second:,.0f}", f"{after.images_per_second:,.0f}", f"{ratio:.2f}x"),
        ("waits for data", percent(before.exposed), percent(after.exposed), ""),
        ("verdict", before.verdict.place, after.verdict.place, ""),
    ]
    names = list(dict.fromkeys(stage.name for report in (before, after) for stage in report.stages))
    for name in names:
        times = [
            next((s.seconds / report.samples for s in report.stages if s.name == name and s.seconds > 1e-5), None)
            for report in (before, after)
        ]
        shown = ["" if t is None else f"{t * 1e3:.3f}" for t in times]
        change = f"{times[0] / times[1]:.2f}x" if times[0] and times[1] else ""
        rows.append((f"{name}, ms a sample", *shown, change))  # type: ignore[arg-type]
    head = ("", "before", "after", "times as fast")
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(4)]
    lines = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
    slower = ratio < 1 - tolerance
    if any(before.machine.get(what) != after.machine.get(what) for what in ("processor", "cores")):
        lines.append("The reports are of different machines.")
    for name, report in (("before", before), ("after", after)):
        if doubt := doubts(report):
            lines.append(f"UNRELIABLE, {name}: {doubt}.")
    if slower:
        lines.append(f"A regression: {ratio:.2f}x is below {1 - tolerance:.2f}x.")
    return slower, "\n".join(line.rstrip() for line in lines)


def examined(findings: Sequence[Finding]) -> str:
    """The doctor's findings, a line each; what is wrong has its remedy."""
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
    console.print(table)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]
