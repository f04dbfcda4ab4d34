"""A report as one PNG: the step as a stacked bar, the predicted gain of each change, and the receipt."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpuaug.profiler.judge.advice import Advice
from gpuaug.profiler.judge.verdict import WORDS
from gpuaug.profiler.report import Report
from gpuaug.profiler.show.words import colour, confidence, ms, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_png"]

LETTERS = 140  # characters that fit into the whole bar; parts too narrow for their labels are named in the legend only
GAINS = 6  # largest number of changes that are drawn


def save_png(report: Report, path: str | Path) -> None:
    """Write the report as an image; the file name's ending sets the format.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    gains = [one for one in report.advice if one.gain is not None][:GAINS]
    height = 0.45 * max(1, len(gains))
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 3.4 + height), height_ratios=(1.1, 0.5 + height))
    try:
        _draw_step(above, report)
        _draw_gains(below, report, gains)
        for side in ("top", "right", "left"):
            above.spines[side].set_visible(False)
            below.spines[side].set_visible(False)
        foot = (
            f"{report.images_per_second:,.0f} samples/s; {percent(report.exposed)} of the step waits for data. "
            f"{confidence(report)}"
        )
        figure.text(0.01, 0.01, textwrap.fill(foot, 170), fontsize=7, color="#555555")
        figure.tight_layout(rect=(0, 0.05, 1, 1))
        figure.savefig(path, dpi=150)
    finally:
        plt.close(figure)


def _draw_step(axes: Axes, report: Report) -> None:
    """The step as a stacked bar, one part for each stage."""
    left = 0.0
    groups: set[str] = set()
    for stage in report.stages:
        width = stage.exposed * 1e3
        if width <= 0:
            continue
        share = width / (report.pace * 1e3)
        [part] = axes.barh(0, width, left=left, color=colour(stage.group), edgecolor="white")
        if stage.group not in groups:
            part.set_label(WORDS.get(stage.group, stage.group))
        groups.add(stage.group)
        label = f"{stage.name}\n{ms(stage.exposed)} ms"
        if share * LETTERS >= max(map(len, label.split("\n"))):
            axes.text(left + width / 2, 0, label, ha="center", va="center", fontsize=8)
        left += width
    axes.set_xlim(0, max(left, 1e-9))
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([])
    axes.set_xlabel(
        "exposed ms: time that a step would save if this stage, and all left of it, took no time", fontsize=8
    )
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 0.96), ncol=len(groups), fontsize=7, frameon=False, handlelength=1,
        columnspacing=1,
    )  # fmt: skip
    axes.set_title(report.verdict.text, loc="left", fontsize=10, fontweight="bold", wrap=True, pad=18)


def _draw_gains(axes: Axes, report: Report, gains: Sequence[Advice]) -> None:
    """A bar for each change: its predicted gain with the interval, and the measured gain of the receipt."""
    axes.set_yticks([])
    if not gains:
        axes.text(0.5, 0.5, "Nothing in the data path is worth changing.", ha="center", va="center")
        axes.set_xticks([])
        return
    for y, one in zip(range(len(gains))[::-1], gains, strict=True):
        assert one.gain is not None
        interval = [[max(0.0, one.gain.times - one.gain.low)], [max(0.0, one.gain.high - one.gain.times)]]
        axes.barh(y, one.gain.times, color="#0072B2", alpha=0.75, xerr=interval, capsize=3)
        axes.text(0.02, y, f"{one.id}: {one.gain.times:.2f}x", va="center", fontsize=8, color="white")
        if report.receipt is not None and one.id == report.receipt.id:
            axes.plot(report.receipt.measured.times, y, "D", color="#D55E00", label="measured after the change")
            axes.legend(loc="lower right", fontsize=8)
    axes.axvline(1, color="#444444", linewidth=1)
    axes.set_xlabel("times as fast, predicted, with intervals", fontsize=8)
