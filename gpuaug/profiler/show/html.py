"""A report as one HTML page: inline SVG, no script, no network, light and dark, for keyboards and screen readers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpuaug.profiler.model.trace import Batch
from gpuaug.profiler.report import Report
from gpuaug.profiler.show.step import rank_rows, sentences
from gpuaug.profiler.show.words import (
    colour,
    confidence,
    doubts,
    environment,
    gain_or_reason,
    ms,
    percent,
    receipt,
    sample,
    short,
    where,
    why,
)

__all__ = ["to_html"]

SHOWN = 14  # batches in the timeline
WIDTH, LANE, GAP, LEFT = 1000, 22, 6, 92  # sizes of the timeline, in SVG units
BAR = 64  # height of the stacked bar
MIN_WIDTH = 0.4  # width of the narrowest box that is drawn, in SVG units


@dataclass(frozen=True)
class Box:
    """A rectangle of a drawing, with its tooltip and its label."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    title: str
    label: str = ""


def to_html(report: Report) -> str:
    """The HTML text of the page."""
    lanes, boxes, ticks, height = timeline(report)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            why=why(report),
            confidence=confidence(report),
            doubtful=bool(doubts(report)),
            where=where(report),
            receipt=receipt(report) if report.receipt else None,
            bar=bar(report),
            bar_height=BAR,
            lanes=lanes,
            boxes=boxes,
            ticks=ticks,
            width=WIDTH,
            left=LEFT,
            lane=LANE,
            height=height,
            colour=colour,
            gain_or_reason=gain_or_reason,
            groups=list(dict.fromkeys(stage.group for stage in report.stages)),
            slowest=report.slowest(10),
            sample=sample,
            short=short,
            sentences=sentences(report),
            ranks=rank_rows(report),
            most=max([one.gain.high for one in report.advice if one.gain], default=1.0),
        )
    )


def bar(report: Report) -> list[Box]:
    """The boxes of the stacked bar: the step, stage by stage."""
    total = sum(stage.exposed for stage in report.stages) or 1.0
    found, x = [], 0.0
    for stage in report.stages:
        width = WIDTH * stage.exposed / total
        if width >= MIN_WIDTH:
            title = f"{stage.name}: {ms(stage.exposed)} ms of {ms(report.pace)} ms, {percent(stage.share)}"
            label = stage.name if width > 8 * len(stage.name) + 8 else ""
            found.append(Box(x, 0, width, BAR, colour(stage.group), title, label))
        x += width
    return found


def timeline(report: Report) -> tuple[list[tuple[str, float]], list[Box], list[tuple[float, str]], float]:
    """The timeline of some batches from the middle of an epoch: (lanes and their tops, boxes, axis ticks, height)."""
    batches = middle(report.trace.batches)
    workers = sorted({b.worker for b in batches if b.worker >= 0})
    names = [f"worker {w}" for w in workers] + (["transport"] if workers else []) + ["main"]
    tops = {name: k * (LANE + GAP) for k, name in enumerate(names)}
    first = batches[0].asked
    last = batches[-1].done
    scale = (WIDTH - LEFT) / max(last - first, 1e-9)
    boxes: list[Box] = []

    def add(lane: str, span: tuple[float, float] | None, fill: str, title: str, label: str = "") -> None:
        if span is None:
            return
        begin, end = max(span[0], first), min(span[1], last)
        width = (end - begin) * scale
        if width >= MIN_WIDTH:
            shown = label if width > 7 * len(label) + 4 else ""
            boxes.append(Box(LEFT + (begin - first) * scale, tops[lane], width, LANE, fill, title, shown))

    for number, b in enumerate(batches):
        lane = f"worker {b.worker}" if b.worker >= 0 else "main"
        title = f"batch {number}: fetched in {ms(b.fetch[1] - b.fetch[0])} ms, {ms(b.cpu)} ms of it computing"
        add(lane, b.fetch, colour("augmentation"), title, str(number))
        if workers:
            add(
                "transport",
                b.sent,
                colour("transport"),
                f"batch {number}: pickled in {ms(b.sent[1] - b.sent[0]) if b.sent else ''} ms",
            )
            add("transport", b.received, colour("pinning"), f"batch {number}: unpickled")
            add("main", (b.asked, b.given), colour("storage"), f"batch {number}: waited for {ms(b.given - b.asked)} ms")
        add(
            "main",
            (b.given, b.done),
            colour("model"),
            f"batch {number}: step of {ms(b.done - b.given)} ms",
            str(number),
        )
    span = last - first
    step = round_step(span)
    ticks = [(LEFT + scale * k * step, f"{k * step * 1e3:g}") for k in range(int(span / step) + 1)]
    return list(tops.items()), boxes, ticks, len(names) * (LANE + GAP)


def round_step(span: float) -> float:
    """The largest of 1, 2, 5, 10, 20 and so on, at any power of ten, that divides a span into at least 4 parts."""
    power = 10 ** math.floor(math.log10(max(span, 1e-9) / 4))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= max(span, 1e-9) / 4)


def middle(batches: list[Batch]) -> list[Batch]:
    """Consecutive batches from the middle of the longest epoch."""
    epochs: dict[int, list[Batch]] = {}
    for batch in batches:
        epochs.setdefault(batch.epoch, []).append(batch)
    longest = max(epochs.values(), key=len)
    start = max(0, (len(longest) - SHOWN) // 2)
    return longest[start : start + SHOWN]
