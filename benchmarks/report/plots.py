"""A run as PNG charts, each to be understood by itself: what, in which unit, which way is better, on which machine."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..machine import command, lines
from ..measure import median, quartiles, ratio
from .tables import OURS, RAW, Row, marks, own_of, per_image, rate, short, stacked

__all__ = ["draw"]

OWN, OTHER, FADED, EDGE = "#1f6feb", "#8b949e", "#c9d1d9", "#24292f"
PARTS = ("#0a3069", "#1f6feb", "#54aeff", "#2da44e", "#bf8700", "#8250df", "#6e7781", "#cf222e")
DPI = 130
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,g}")
WIDTH = 9.0  # inches


def draw(run: dict[str, Any], folder: Path) -> list[Path]:
    """Write a chart for each regime of the run; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in _figures(run):
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=DPI, bbox_inches="tight", facecolor="white")
        pyplot.close(figure)
        written.append(path)
    return written


def _figures(run: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    told = f"{command(run)} --plot FOLDER. {lines(run)[0]}. {lines(run)[1]}. {run['created'][:10]}"
    about = "\n".join(textwrap.wrap(told, 150))
    regimes: dict[str, list[Row]] = {
        name: [row for row in found.get("rows", []) if "seconds" in row] for name, found in run["regimes"].items()
    }
    if any(row["who"] == OURS for row in regimes.get("ops", [])):
        yield "ops", _ops(regimes["ops"], about)
    for name, chart in (("recipes", _recipes), ("loaders", _loaders), ("training", _training)):
        for threads in sorted({row["threads"] for row in regimes.get(name, [])}):
            rows = [row for row in regimes[name] if row["threads"] == threads]
            raw = [row for row in rows if row["case"] == RAW]
            yield f"{name}-{threads}", chart([row for row in rows if row["case"] != RAW], threads, about)
            if raw:
                yield f"{name}-{threads}-raw", chart(raw, threads, about)
    if regimes.get("scaling"):
        yield "scaling", _scaling([row for row in regimes["scaling"] if row["case"] != "passes"], about)
        parts = [row for row in regimes["scaling"] if row["case"] == "passes"]
        if parts:
            yield "passes", _passes(parts, about)


def _frame(rows: int, title: str, subtitle: str, about: str, columns: int = 1) -> tuple[Figure, Any]:
    """A figure with its title at the top left and the machine at the bottom."""
    height = 1.8 + 0.24 * rows
    figure, axes = pyplot.subplots(1, columns, figsize=(WIDTH, height), squeeze=False)
    inch = 1 / height
    figure.subplots_adjust(left=0.27, right=0.96, top=1 - 0.75 * inch, bottom=0.95 * inch)
    figure.text(0.01, 1 - 0.25 * inch, title, fontsize=14, fontweight="bold", color=EDGE)
    figure.text(0.01, 1 - 0.52 * inch, subtitle, fontsize=9.5, color=EDGE)
    figure.text(0.01, 0.02 * inch, about, fontsize=6.5, color="#57606a", va="bottom")
    for axis in axes[0]:
        _plain(axis)
    return figure, axes[0]


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8.5, length=0)
    axis.grid(axis="x", color=FADED, linewidth=0.6)
    axis.set_axisbelow(True)


def _name(axis: Axes, x: str, y: str = "") -> None:
    """What the axes show, and in which unit."""
    axis.set_xlabel(x, fontsize=8.5)
    axis.set_ylabel(y, fontsize=8.5)


def _bars(axis: Axes, groups: list[tuple[str, list[tuple[Row, str]]]]) -> None:
    """Horizontal bars of images a second, in titled groups; each row comes with the text at its end."""
    place, ticks, names = 0.0, [], []
    for title, members in groups:
        axis.text(0, place, f" {title}", fontsize=9.5, fontweight="bold", va="center", color=EDGE)
        place += 1
        for row, text in members:
            length = rate(row)
            taken = [seconds / row["images"] for seconds in row["seconds"]]
            low, high = (abs(length * (median(taken) / one - 1)) for one in reversed(quartiles(taken)))
            own = row["who"].startswith(OURS)
            color = OWN if own else FADED if row.get("less") else OTHER
            axis.barh(
                place, length, 0.78, color=color, xerr=[[low], [high]], error_kw={"elinewidth": 0.8, "ecolor": EDGE}
            )
            axis.text(length + high, place, f"  {text}", fontsize=8, va="center", color=EDGE)
            ticks.append(place)
            names.append(row["who"] + (" *" if row.get("less") else ""))
            place += 1
        place += 0.4
    axis.set_yticks(ticks, names)
    axis.set_ylim(place - 0.2, -0.7)
    axis.xaxis.set_major_formatter(THOUSANDS)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.12)
    _name(axis, "images a second; black lines: quartiles of the rounds")


def _ops(rows: list[Row], about: str) -> Figure:
    """For each op the fastest of the others that does the same work."""
    found = []
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = {row["who"]: row for row in rows if row["case"] == case}
        own = mine.pop(OURS, None)
        if own is None:
            continue
        others = [row for row in mine.values() if not row.get("less")]
        if others:
            best = min(others, key=lambda row: median(row["seconds"]))
            found.append((ratio(best["seconds"], own["seconds"]), case, best, own))
    found.sort(key=lambda one: -one[0])
    subtitle = (
        f"How many times as long the fastest other library takes for the same op, {rows[0]['threads']} core; "
        "right of the line gpuaug is faster"
    )
    figure, (axis,) = _frame(len(found), "gpuaug against the best of the others, op by op", subtitle, about)
    for place, (times, _, best, own) in enumerate(found):
        axis.barh(place, times - 1, 0.78, left=1, color=OWN if times >= 1 else "#cf222e")
        text = f"{times:.1f}x" if times >= 1 else f"{times:.2f}x"
        label = f" {text}  {best['who']} ({_time(per_image(best))} against {_time(per_image(own))})"
        axis.text(max(times, 1), place, label, fontsize=7.5, va="center", color=EDGE)
    axis.set_xscale("log")
    axis.axvline(1, color=EDGE, linewidth=1)
    axis.set_yticks(range(len(found)), [short(case) for _, case, _, _ in found])
    axis.set_ylim(len(found) - 0.4, -0.6)
    low, high = min(one[0] for one in found), max(one[0] for one in found)
    axis.set_xlim(min(0.8, low * 0.9), max(2.0, high) * 6)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if min(0.8, low * 0.9) <= tick <= high * 1.5]
    axis.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axis.minorticks_off()
    _name(axis, "time of the other library divided by gpuaug's")
    return figure


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms" if milliseconds >= 1 else f"{milliseconds * 1e3:.0f} us"


def _recipes(rows: list[Row], threads: int, about: str) -> Figure:
    groups = []
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == case]
        own = next((row for row in mine if row["who"] == OURS), None)
        if own is None:
            continue
        members = []
        for row in sorted(mine, key=lambda row: -rate(row)):
            times = "" if row is own else f", gpuaug is {ratio(row['seconds'], own['seconds']):.1f}x as fast"
            members.append((row, f"{rate(row):,.0f}{times}"))
        groups.append((_recipe(case), members))
    count = sum(len(members) + 1.4 for _, members in groups)
    subtitle = "Images a second, from decoded uint8 to normalised float32 224 x 224; longer is better. * less work"
    figure, (axis,) = _frame(round(count), f"Augmentation on {_cores(threads)}", subtitle, about)
    _bars(axis, groups)
    return figure


def _recipe(case: str) -> str:
    return f"RandomResizedCrop, flip, normalise{'' if case == 'crop + flip' else f', {case}'}"


def _cores(threads: int) -> str:
    return f"{threads} CPU core" + "s" * (threads > 1)


def _loaders(rows: list[Row], threads: int, about: str) -> Figure:
    groups = []
    for case in dict.fromkeys(row["case"] for row in rows):
        for group in dict.fromkeys(row["group"] for row in rows if row["case"] == case):
            mine = [row for row in rows if row["case"] == case and row["group"] == group]
            own, members = own_of(mine), []
            for row in sorted(mine, key=lambda row: -rate(row)):
                times = ""
                if own is not None and row is not own and case != RAW:
                    mark = marks(row, own).replace("*", "")
                    times = f", {own['who']} is {ratio(row['seconds'], own['seconds']):.2f}x as fast {mark}".rstrip()
                members.append((row, f"{rate(row):,.0f}{times}"))
            title = "Raw images, what a GPU is sent" if case == RAW else f"{_recipe(case)}; from {group}"
            groups.append((title, members))
    count = sum(len(members) + 1.4 for _, members in groups)
    subtitle = "Images a second, from files on disk to the batch a training step takes; longer is better"
    figure, (axis,) = _frame(round(count), f"Data loading on {_cores(threads)}", subtitle, about)
    _bars(axis, groups)
    return figure


def _training(rows: list[Row], threads: int, about: str) -> Figure:
    groups = []
    for case in dict.fromkeys(row["case"] for row in rows):
        members = []
        for row in sorted((row for row in rows if row["case"] == case), key=lambda row: -rate(row)):
            share = median([waited / taken for waited, taken in zip(row["waited"], row["seconds"], strict=True)])
            members.append((row, f"{rate(row):.1f}, waits {share:.0%}"))
        groups.append((f"{case}, with RandAugment", members))
    count = sum(len(members) + 1.4 for _, members in groups)
    subtitle = "Images a second of training steps, and the share of the time that a step waits for its batch"
    figure, (axis,) = _frame(round(count), f"Training on {_cores(threads)}, data path included", subtitle, about)
    _bars(axis, groups)
    return figure


def _scaling(rows: list[Row], about: str) -> Figure:
    names = list(dict.fromkeys(row["case"] for row in rows))
    title, subtitle = "How the speed scales", "Images a second; crop + flip + RandAugment(2, 9) + normalise"
    figure, _ = _frame(22, title, subtitle, about)
    figure.delaxes(figure.axes[0])
    whats = {"batch": "images in the batch", "size": "pixels on a side", "threads": "threads"}
    grid = figure.add_gridspec(2, 2, left=0.09, right=0.97, top=0.87, bottom=0.18, hspace=0.4, wspace=0.25)
    for number, name in enumerate(names[:4]):
        axis = figure.add_subplot(grid[number // 2, number % 2])
        _plain(axis)
        axis.grid(axis="y", color=FADED, linewidth=0.6)
        for who, color in ((OURS, OWN), (None, OTHER)):
            mine = [row for row in rows if row["case"] == name and (row["who"] == OURS) == (who is not None)]
            label = "gpuaug" if who else "limit: read and write the pixels"
            axis.plot([row["at"] for row in mine], [rate(row) for row in mine], "o-", color=color, label=label, ms=3.5)
        if name in ("batch", "size"):
            axis.set_xscale("log", base=2)
            places = [row["at"] for row in rows if row["case"] == name and row["who"] == OURS]
            axis.set_xticks(places, [str(place) for place in places])
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_yscale("log")
            axis.yaxis.set_minor_formatter(NullFormatter())
        else:
            axis.set_ylim(0)
            axis.set_xticks(sorted({row["at"] for row in rows if row["case"] == name}))
        axis.yaxis.set_major_formatter(THOUSANDS)
        _name(axis, whats.get(name, name), "images a second")
        if number == 0:
            axis.legend(fontsize=8, frameon=False)
    return figure


def _passes(rows: list[Row], about: str) -> Figure:
    found = stacked(rows)
    title, subtitle = "Where the time goes", "Milliseconds an image on 1 CPU core, batches of 64; shorter is better"
    figure, (axis,) = _frame(3 * len(found), title, subtitle, about)
    colors: dict[str, str] = {}
    for place, (_case, parts) in enumerate(found.items()):
        left = 0.0
        for name, ms in parts:
            spare = (color for color in PARTS if color not in colors.values())
            color = colors.setdefault(name, next(spare, OTHER))
            axis.barh(place, ms, 0.6, left=left, color=color, edgecolor="white", linewidth=0.5)
            left += ms
        axis.text(left, place, f"  {left:.3f} ms", fontsize=8.5, va="center", color=EDGE)
    axis.set_yticks(range(len(found)), list(found))
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.4)
    _name(axis, "milliseconds an image")
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=color) for color in colors.values()]
    axis.legend(handles, list(colors), fontsize=8, frameon=False, loc="lower right")
    return figure
