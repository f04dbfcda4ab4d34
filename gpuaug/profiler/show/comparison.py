"""Two reports side by side: as rows of text, and as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gpuaug.profiler.report import Report
from gpuaug.profiler.show.words import colour, doubts, environment, percent, where

__all__ = ["Comparison", "to_html"]

SHORT = 1e-5  # seconds of a sample, below which a stage is not compared


class Row(NamedTuple):
    """A line of the comparison, as text."""

    name: str
    before: str
    after: str
    change: str = ""


class Bar(NamedTuple):
    """A stage as two bars.

    name, fill: Name and colour. before, after: Percent of the longest bar. times: Seconds of a sample, None if absent.
    change: How many times as fast, as text.
    """

    name: str
    fill: str
    before: float
    after: float
    times: tuple[float | None, float | None]
    change: str


@dataclass(frozen=True)
class Comparison:
    """What differs between two reports.

    rows: Lines of text. bars: Stages. ratio: How many times as fast the second is. slower: Whether it is slower by more
    than the tolerance. remarks: What a reader must know about the numbers.
    """

    rows: list[Row]
    bars: list[Bar]
    ratio: float
    slower: bool
    remarks: list[str]

    @classmethod
    def of(cls, before: Report, after: Report, tolerance: float) -> Comparison:
        """Compare two reports; `tolerance` is the fraction by which the second may be slower."""
        ratio = before.pace / before.samples / (after.pace / after.samples)
        slower = ratio < 1 - tolerance
        bars = _bars(before, after)
        speed = [f"{one.images_per_second:,.0f}" for one in (before, after)]
        rows = [
            Row("samples/s", speed[0], speed[1], f"{ratio:.2f}x"),
            Row("waits for data", percent(before.exposed), percent(after.exposed)),
            Row("verdict", _verdict(before), _verdict(after)),
            *(Row(f"{bar.name}, ms a sample", _ms(bar.times[0]), _ms(bar.times[1]), bar.change) for bar in bars),
        ]
        return cls(rows, bars, ratio, slower, _remarks(before, after, ratio, slower, tolerance))


def _verdict(report: Report) -> str:
    """What limits the job, in a few words; of a tie both."""
    found = report.verdict
    if found.kind == "tie" and found.second:
        return f"{found.place} = {found.second}"
    return found.place


def _bars(before: Report, after: Report) -> list[Bar]:
    """The stages of both reports, in their order."""
    stages = [{stage.name: stage for stage in report.stages} for report in (before, after)]
    names = list(dict.fromkeys(name for found in stages for name in found))
    times = {
        name: tuple(
            found[name].seconds / report.samples if name in found else None
            for found, report in zip(stages, (before, after), strict=True)
        )
        for name in names
    }
    longest = max((time for pair in times.values() for time in pair if time), default=1.0)
    bars = []
    for name, (one, other) in times.items():
        one, other = (time if time is None or time > SHORT else None for time in (one, other))
        if one is None and other is None:
            continue
        change = f"{one / other:.2f}x" if one and other else "gone" if one else "new"
        fill = colour((stages[0].get(name) or stages[1][name]).group)
        bars.append(Bar(name, fill, 100 * (one or 0) / longest, 100 * (other or 0) / longest, (one, other), change))
    return bars


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.3f}"


def _remarks(before: Report, after: Report, ratio: float, slower: bool, tolerance: float) -> list[str]:
    found = []
    if any(before.machine.get(what) != after.machine.get(what) for what in ("processor", "cores")):
        found.append("The reports come from different machines.")
    for name, report in (("before", before), ("after", after)):
        if doubt := doubts(report):
            found.append(f"UNRELIABLE, {name}: {doubt}.")
    if slower:
        found.append(f"A regression: {ratio:.2f}x is below {1 - tolerance:.2f}x.")
    return found


def to_html(before: Report, after: Report, tolerance: float) -> str:
    """The HTML text of a page that compares two reports."""
    found = Comparison.of(before, after, tolerance)
    verdicts = [(name, report.verdict.text, where(report)) for name, report in (("Before", before), ("After", after))]
    return environment().get_template("compare.html.j2").render(found=found, verdicts=verdicts, ms=_ms)
