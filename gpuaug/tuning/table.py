"""A result as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from gpuaug.tuning.outcome import Outcome, Row
from gpuaug.tuning.space import label

__all__ = ["lines"]

WIDTH = 110  # columns of what is wrapped
MOST = 12  # warnings and failures that are printed, of each kind; JSON has all


def lines(result: Outcome) -> Iterator[str]:
    """The settings with their ranks, then the verdict, warnings, failures, and samples to review."""
    base = next((row for row in result.rows if not row.settings), None)
    head = ("rank", "settings", result.metric, "95 % interval", "to baseline", "runs")
    cells = [head, *(_cells(row, base, result.seeds) for row in result.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        parts = [
            text.ljust(width) if column == 1 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(parts).rstrip()
    yield ""
    yield result.verdict
    warned = [f"{label(run.settings)}, seed {run.seed}, epoch {w.epoch}: {w.text}." for run, w in result.warnings()]
    failed = [f"{label(run.settings)}, seed {run.seed}: {run.error}" for run in result.runs if run.state == "failed"]
    for title, found in (("Warnings", warned), ("Failed runs", failed)):
        if found:
            yield f"\n{title}:"
            yield from (f"- {' '.join(one.split())}" for one in found[:MOST])
            if len(found) > MOST:
                yield f"- and {len(found) - MOST} more, in the JSON file"
    review = result.review
    if review:
        yield "\nTraining samples to review, whose loss is among the highest in most runs:"
        each = (f"{one['index']} ({one['runs']} of {one['of']} runs, loss {one['loss']:.2f})" for one in review)
        yield from textwrap.wrap(", ".join(each), WIDTH, initial_indent="  ", subsequent_indent="  ")


def _cells(row: Row, base: Row | None, seeds: int) -> tuple[str, ...]:
    done = row.states.get("complete", 0)
    others = [f"{count} {state}" for state, count in row.states.items() if state != "complete"]
    runs = ", ".join([f"{done} of {seeds}", *others])
    rank = "-" if row.rank is None else str(row.rank)
    if row.mean is None:
        return rank, label(row.settings), "-", "-", "-", runs
    interval = "-" if row.low is None or row.high is None else f"{row.low:.4f} to {row.high:.4f}"
    compared = base is not None and base.rank is not None and row.settings and row.rank is not None
    gain = f"{row.mean - base.mean:+.4f}" if compared and base is not None and base.mean is not None else "-"
    return rank, label(row.settings), f"{row.mean:.4f}", interval, gain, runs
