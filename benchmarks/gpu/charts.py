"""Charts of what was measured: device time of each recipe and way, images/s of training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .results import write
from .summary import each, shown

__all__ = ["draw"]

COLORS = {"gpuaug": "#1f5fbf", "gpuaug graph": "#6fa3e8", "read and write": "#9aa0a6", "augment": "#1f5fbf"}
OTHERS = ("#c4572e", "#d9a441", "#7a5aa6", "#4f8f5b", "#a34668", "#5f6f7f", "#b08968", "#3f8f8f")


def draw(found: Mapping[str, Mapping[str, Any]], path: Path) -> bool:
    """Write a PNG of what speed and training found; False if that is nothing."""
    speed = shown(list(found.get("speed", {}).get("rows", [])))
    training = [row for row in found.get("training", {}).get("rows", []) if "network" in row and row.get("images_s")]
    if not speed and not training:
        path.unlink(missing_ok=True)
        return False
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [panel for panel in ((_speed, speed), (_training, training)) if panel[1]]
    bars = [
        _bars_of(rows, *keys) for rows, keys in ((speed, ("recipe", "way")), (training, ("network", "source"))) if rows
    ]
    heights = [max(1.6, 0.18 * count + 0.8) for count in bars]
    figure = Figure(figsize=(10, sum(heights) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (plot, rows) in zip(axes, panels, strict=True):
        plot(axis, rows)
    dry = any(part.get("dry") for part in found.values())
    gpu = next((row["gpu"] for row in found.get("environment", {}).get("rows", []) if "gpu" in row), "")
    figure.suptitle(
        "dry run: nothing was measured" if dry else f"gpuaug on {gpu}; python -m benchmarks.gpu", fontsize=12
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write(path, buffer.getvalue())
    return True


def _bars_of(rows: list[Mapping[str, Any]], group: str, bar: str) -> int:
    return len({(row[group], row[bar]) for row in rows})


def _speed(axis: Any, rows: list[Mapping[str, Any]]) -> None:
    _grouped(axis, rows, "recipe", "way", lambda row: float(each(row) or 0.0), "{:.3g}")
    axis.set_xscale("log")
    axis.set_xlabel(f"microseconds of the device an image, batch {rows[0].get('batch')} (log; less is better)")


def _training(axis: Any, rows: list[Mapping[str, Any]]) -> None:
    _grouped(axis, rows, "network", "source", lambda row: float(row["images_s"]), "{:,.0f}")
    axis.set_xlabel("images/s in training (more is better)")


def _grouped(axis: Any, rows: list[Mapping[str, Any]], group: str, bar: str, value: Any, form: str) -> None:
    """Horizontal bars in groups, each with its figure; the names of the bars in a legend."""
    names = list(dict.fromkeys(str(row[bar]) for row in rows))
    spare = iter(OTHERS * 3)
    colors = {name: COLORS.get(name) or next(spare) for name in names}
    places, labels, at = [], [], 0.0
    for label in dict.fromkeys(str(row[group]) for row in rows):
        own: dict[str, float] = {}
        for row in rows:
            if str(row[group]) == label:
                own.setdefault(str(row[bar]), value(row))
        for number, (name, figure) in enumerate(own.items()):
            axis.barh(at + number, figure, color=colors[name], height=0.85)
            axis.annotate(
                form.format(figure), (figure, at + number), (3, 0), textcoords="offset points", va="center", size=7
            )
        places.append(at + (len(own) - 1) / 2)
        labels.append(label)
        at += len(own) + 0.8
    axis.set_yticks(places, labels)
    axis.set_ylim(at - 0.6, -0.9)  # the first on top
    axis.margins(x=0.08)
    handles = [axis.barh(0, 0, color=color) for color in colors.values()]
    axis.legend(handles, names, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
