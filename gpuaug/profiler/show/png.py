"""A report as one PNG: the step as a stacked bar, what each change would gain, and the receipt."""

from __future__ import annotations

import textwrap
from pathlib import Path

from gpuaug.profiler.judge.verdict import WORDS
from gpuaug.profiler.report import Report
from gpuaug.profiler.show.terminal import confidence, ms, percent

__all__ = ["COLOURS", "colour", "draw"]

# Of groups; told apart by people who see few colours (Okabe and Ito), and by their labels
COLOURS = {
    "storage": "#999999",
    "decode": "#56B4E9",
    "dataset": "#0072B2",
    "augmentation": "#E69F00",
    "collate": "#F0E442",
    "transport": "#CC79A7",
    "pinning": "#D55E00",
    "model": "#009E73",
}
OTHER = "#BBBBBB"
LETTERS = 140  # that fit into the whole bar; a label that does not fit its part is left to the legend


def colour(group: str) -> str:
    return COLOURS.get(group, OTHER)


def draw(report: Report, path: str | Path) -> None:
    """Write the picture; the format is the name's ending."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    gains = [one for one in report.advice if one.gain is not None][:6]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(10, 3.4 + 0.45 * max(1, len(gains))), height_ratios=(1.1, 0.5 + 0.45 * max(1, len(gains)))
    )
    try:
        left = 0.0
        groups: set[str] = set()
        for stage in report.stages:
            width = stage.exposed * 1e3
            if width <= 0:
                continue
            share = width / (report.pace * 1e3)
            named = {} if stage.group in groups else {"label": WORDS.get(stage.group, stage.group)}
            groups.add(stage.group)
            above.barh(0, width, left=left, color=colour(stage.group), edgecolor="white", **named)
            label = f"{stage.name}\n{ms(stage.exposed)} ms"
            if share * LETTERS >= max(map(len, label.split("\n"))):
                above.text(left + width / 2, 0, label, ha="center", va="center", fontsize=8)
            left += width
        above.set_xlim(0, max(left, 1e-9))
        above.set_ylim(-0.5, 0.5)
        above.set_yticks([])
        above.set_xlabel("exposed ms of a step: what it would save if it, and all left of it, took no time", fontsize=8)
        above.legend(
            loc="lower left", bbox_to_anchor=(0, 0.96), ncol=len(groups), fontsize=7, frameon=False, handlelength=1,
            columnspacing=1,
        )  # fmt: skip
        above.set_title(report.verdict.text, loc="left", fontsize=10, fontweight="bold", wrap=True, pad=18)
        for side in ("top", "right", "left"):
            above.spines[side].set_visible(False)
            below.spines[side].set_visible(False)
        if gains:
            places = range(len(gains))[::-1]
            for place, one in zip(places, gains, strict=True):
                assert one.gain is not None
                spread = [[max(0.0, one.gain.times - one.gain.low)], [max(0.0, one.gain.high - one.gain.times)]]
                below.barh(place, one.gain.times, color="#0072B2", alpha=0.75, xerr=spread, capsize=3)
                below.text(0.02, place, f"{one.id}: {one.gain.times:.2f}x", va="center", fontsize=8, color="white")
            below.axvline(1, color="#444444", linewidth=1)
            if report.receipt is not None:
                found = report.receipt
                for place, one in zip(places, gains, strict=True):
                    if one.id == found.id:
                        below.plot(found.measured.times, place, "D", color="#D55E00", label="measured when it was done")
                        below.legend(loc="lower right", fontsize=8)
            below.set_xlabel("times as fast, predicted; lines are intervals", fontsize=8)
        else:
            below.text(0.5, 0.5, "nothing in the data path is worth changing", ha="center", va="center")
            below.set_xticks([])
        below.set_yticks([])
        waits = percent(report.exposed)
        foot = f"{report.images_per_second:,.0f} samples/s; {waits} of the step waits for data. {confidence(report)}"
        figure.text(0.01, 0.01, textwrap.fill(foot, 170), fontsize=7, color="#555555")
        figure.tight_layout(rect=(0, 0.05, 1, 1))
        figure.savefig(path, dpi=150)
    finally:
        plt.close(figure)
