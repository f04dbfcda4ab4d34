"""A result as a picture: settings with their intervals, and curves of the baseline and the best."""

from __future__ import annotations

import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

from gpuaug.tuning.outcome import Outcome
from gpuaug.tuning.rules import average
from gpuaug.tuning.space import BASELINE, label

__all__ = ["draw"]

COLOURS = ("#57606a", "#1f6feb", "#bf3989", "#1a7f37", "#9a6700", "#8250df")  # of the stages
WIDTH = 10.0  # inches
UNITS = {"accuracy": "accuracy, share of 1", "macro_f1": "macro-F1, from 0 to 1", "pr_auc": "PR-AUC, from 0 to 1"}


def draw(result: Outcome, path: Path, command: str | None = None) -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    rows = [row for row in result.rows if row.mean is not None]
    height = 2.6 + 0.3 * max(6, len(rows))
    figure = Figure(figsize=(WIDTH, height), facecolor="white", layout="constrained")
    ranked, curves = figure.subplots(1, 2, width_ratios=(1.5, 1))
    stages = list(dict.fromkeys(run.stage for run in result.runs))
    colours = {stage: COLOURS[number % len(COLOURS)] for number, stage in enumerate(stages)}
    _ranked(ranked, result, rows, colours)
    _curves(curves, result, colours)
    figure.suptitle("\n".join(textwrap.wrap(result.verdict, 120)), x=0.01, ha="left", fontsize=10, fontweight="bold")
    made = command if command is not None else shlex.join(["python", *sys.orig_argv[1:]])
    figure.supxlabel("\n".join(textwrap.wrap(f"Made by: {made}", 150)), x=0.01, ha="left", fontsize=7, color="#57606a")
    figure.savefig(path, dpi=130)


def _ranked(axes: Any, result: Outcome, rows: list[Any], colours: dict[str, str]) -> None:
    """A line for each setting, the best one at the top."""
    for place, row in enumerate(reversed(rows)):
        colour = colours[row.stage]
        if row.low is not None:
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2, alpha=0.5)
        values = [run.value for run in result.runs if run.settings == row.settings and run.value is not None]
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=3, alpha=0.6)
        axes.plot([row.mean], [place], "D", color=colour, markersize=6)
        if row.stage == BASELINE:
            axes.axvline(row.mean, color=colour, linestyle="--", linewidth=1)
    for stage, colour in colours.items():
        axes.plot([], [], "D", color=colour, label=stage)
    names = [f"{'-' if row.rank is None else row.rank}.  {label(row.settings)}" for row in reversed(rows)]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylabel("rank and setting", fontsize=8)
    better = "higher" if result.direction == "maximize" else "lower"
    axes.set_xlabel(f"{UNITS.get(result.metric, result.metric)} ({better} is better), after the last epoch", fontsize=8)
    what = "dots: seeds; diamonds: means"
    if result.least is not None:
        what += "; lines that do not overlap differ (95 %)"
    axes.set_title(what, fontsize=8, loc="left")
    axes.legend(fontsize=7, frameon=False)
    _plain(axes)


def _curves(axes: Any, result: Outcome, colours: dict[str, str]) -> None:
    """The mean curves of the baseline and the best setting; training accuracy on clean images dotted."""
    best = next((row.settings for row in result.rows if row.settings and row.mean is not None), {})
    for settings in [{}, best] if best else [{}]:
        runs = [run for run in result.runs if run.settings == settings and run.value is not None]
        if not runs:
            continue
        colour, mean = colours[runs[0].stage], average([run.curve for run in runs])
        for name, style, words in ((result.metric, "-", "validation"), ("clean_accuracy", ":", "clean training")):
            places = [number + 1 for number, epoch in enumerate(mean) if name in epoch]
            if places and (name == result.metric or result.metric == "accuracy"):
                values = [epoch[name] for epoch in mean if name in epoch]
                text = "\n".join(textwrap.wrap(f"{label(settings)}, {words}", 42))
                axes.plot(places, values, style, color=colour, label=text)
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel(UNITS.get(result.metric, result.metric), fontsize=8)
    axes.set_title("baseline and best other setting, mean over seeds", fontsize=8, loc="left")
    axes.legend(fontsize=7, frameon=False)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.2)
    axes.tick_params(labelsize=8)
