"""The tables of the profiler's pages: real loaders, and other profilers on the same job."""

from __future__ import annotations

import statistics
from typing import Any

from ..machine import lines
from .tables import Grid, markdown

__all__ = ["profilers", "real"]

Run = dict[str, Any]
LARGE = 0.20  # an error from here on must have been announced as UNRELIABLE
NOTHING = "No run on a quiet machine is stored yet: `python -m benchmarks.evidence.real_loaders --json {}`."


def real(run: Run) -> str:
    """Each loader with the stage that was taken out, and the predicted and the measured gain."""
    if "results" not in run:  # of another run, as there is none
        return NOTHING.format("benchmarks/results/real.json")
    body = []
    for name in dict.fromkeys(one["name"] for one in run["results"]):
        runs = sorted((one for one in run["results"] if one["name"] == name), key=lambda one: one["error"])
        middle, worst = runs[len(runs) // 2], max(runs, key=lambda one: abs(one["error"]))
        doubted = sum(bool(one["doubt"]) for one in runs)
        cells = [name, middle["group"], f"{middle['predicted']:.2f}", f"{middle['measured']:.2f}"]
        body.append([*cells, f"{worst['error']:+.1%}", f"{doubted} of {len(runs)}"])
    total = run["summary"]
    columns = ["loader", "taken out", "predicted gain", "measured gain", "largest error", "UNRELIABLE"]
    about = (
        f"{total['runs']} runs: predicted gains wrong by {total['error_median']:.1%} in the median (goal: 8 %) and "
        f"{total['error_p95']:.1%} at the 95th percentile (20 %), {total['wrong_signs']:.0f} wrong signs (0). Errors "
        f"above {LARGE:.0%}: {total['large']:.0f}, of which {total['large_not_announced']:.0f} were not announced as "
        f"UNRELIABLE (0); of the others {total['announced_in_vain']:.0%} were announced in vain (10 %)."
    )
    missing = "".join(
        f" {name}: not run, as {', '.join(found)} is not installed." for name, found in run["absent"].items()
    )
    return f"{about}\n\n{markdown(Grid('', columns, body))}\n\n{_where(run)}{missing}"


def profilers(run: Run) -> str:
    """What each profiler costs: the medians of the ratios with it and without it."""
    body = []
    for name, row in run["rows"].items():
        if row["times"]:
            body.append([name, _spread(row["times"]), _spread(row["cpu"])])
    body += [[name, "not run", f"{module} is not installed"] for name, module in run["absent"].items()]
    return f"{markdown(Grid('', ['profiler', 'time of a batch', 'time on cores'], body))}\n\n{_where(run)}"


def _spread(found: list[float]) -> str:
    """The median with the smallest and the largest."""
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else ""


def _where(run: Run) -> str:
    machine, versions = lines(run)
    busy = f" The load average before it was {run['load']:.1f}." if run["load"] > run["machine"]["cores"] else ""
    return f"{machine}; {versions.split(', torchvision')[0]}; {run['created'][:10]}.{busy}"
