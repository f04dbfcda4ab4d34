"""Words of the command line as values: times, shares, factors, thresholds."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuaug.profiler import Report

__all__ = ["METRICS", "duration", "fraction", "holds", "metric", "number", "pair", "since_start", "threshold"]

LOADED = time.perf_counter()
MOST = 120.0  # seconds from the start of the process until this file is imported, at most
SHARES = ("exposed", "overhead")  # metrics that are a share of 1
METRICS = {
    "exposed": "share of a step that waits for data",
    "images_per_second": "measured speed",
    "step_ms": "measured time of a batch",
    "ceiling": "speed without any data work, over the measured speed",
    "overhead": "share of time that the measurement costs",
}


def duration(text: str) -> float:
    """Seconds of a time such as 60s or 2m."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|min)?\s*", text)
    if match is None:
        raise ValueError(f"profile: `--budget` must be a time such as 60s or 2m, got {text!r}.")
    found = float(match[1]) * (60 if match[2] in ("m", "min") else 1)
    if found < 1:
        raise ValueError(f"profile: `--budget` must be at least 1 second, got {text!r}.")
    return found


def fraction(text: str) -> float:
    """5% and 0.05 as 0.05."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(%?)\s*", text)
    if match is None:
        raise ValueError(f"profile: a share must be written as 5% or 0.05, got {text!r}.")
    return float(match[1]) / (100 if match[2] else 1)


def number(text: str | None) -> float:
    """The factor of `--augment`."""
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"whatif: `--augment` must be device or a number, got {text!r}.") from None


def pair(text: str) -> tuple[str, float]:
    """decode=0.5 as (name, factor)."""
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name.strip(), float(value)
    except ValueError:
        raise ValueError(f"whatif: `--scale` must be STAGE=FACTOR, got {text!r}.") from None


def threshold(text: str) -> tuple[str, str, float]:
    """exposed>20% as (name, sign, value)."""
    match = re.fullmatch(r"\s*(\w+)\s*([<>])\s*([0-9]+(?:\.[0-9]+)?%?)\s*", text)
    if match is None or match[1] not in METRICS:
        raise ValueError(
            f"profile: `--fail-if` must be NAME>VALUE or NAME<VALUE with {', '.join(METRICS)}, got {text!r}."
        )
    value = fraction(match[3])
    if match[1] in SHARES and value > 1:
        raise ValueError(f"profile: `--fail-if` takes {match[1]} as a share, such as {match[1]}>20%, got {text!r}.")
    return match[1], match[2], value


def metric(report: Report, name: str) -> float:
    """The value of a report that a threshold is compared with."""
    values = {
        "exposed": report.exposed,
        "images_per_second": report.images_per_second,
        "step_ms": report.pace * 1e3,
        "ceiling": report.verdict.ceiling.times,
        "overhead": report.overhead or 0.0,
    }
    return float(values[name])


def holds(report: Report, rule: tuple[str, str, float]) -> bool:
    """Whether the report passes the threshold."""
    found = metric(report, rule[0])
    return found > rule[2] if rule[1] == ">" else found < rule[2]


def since_start() -> float:
    """Seconds since this process started, with imports; where the system does not tell, since this file was read."""
    loaded = time.perf_counter() - LOADED
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        found = float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return loaded
    return found if loaded <= found <= loaded + MOST else loaded
