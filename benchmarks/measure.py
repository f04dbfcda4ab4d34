"""How anything is timed here: contestants take turns, and what is kept is every turn."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

__all__ = ["CPU_CLOCK", "WIDE", "Run", "cpu_seconds", "median", "ratio", "spread", "take_turns", "wide"]

WIDE = 0.10  # a figure whose spread is above this is marked
FEW = 5  # rounds below which quartiles say nothing
LEAST = 3  # turns, however long they take

Run = Callable[[], Any]
CPU_CLOCK = time.process_time  # of all threads of this process: what others do on the machine is not counted


def take_turns(
    runs: Mapping[str, Run],
    rounds: int,
    seconds: float = float("inf"),
    device: str = "cpu",
    *,
    rest: float = 0.0,
    lost: dict[str, Exception] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    cpu: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each run in each round, after one round that warms up; the order alternates.

    Args:
        runs: what to time, by name.
        rounds: after the first.
        seconds: no new round begins after that long, once there are LEAST.
        device: its work is waited for before a clock stops.
        rest: seconds before each turn, for those who go on working after theirs.
        lost: gets the errors of those who raise, who are then out; without it the first error is raised.
        clock: what tells the seconds.
        cpu: gets the CPU seconds of all processes for the same rounds; they are read outside of the time, since that
            alone takes milliseconds.
    """
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    taken: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for number in range(rounds + 1):
        if number > LEAST and time.perf_counter() - begin > seconds:
            break
        for name in list(taken) if number % 2 else list(reversed(taken)):
            time.sleep(rest)
            wait()
            used = 0.0 if cpu is None else cpu_seconds()
            start = clock()
            try:
                runs[name]()
                wait()
            except Exception as error:
                if lost is None:
                    raise
                lost[name] = error
                del taken[name]
                continue
            end = clock()
            if number:
                taken[name].append(end - start)
                if cpu is not None:
                    cpu.setdefault(name, []).append(cpu_seconds() - used)
    return taken


def cpu_seconds() -> float:
    """CPU seconds so far of this process and of all that live below it; of this process alone without /proc."""
    own, found = os.getpid(), {}
    try:
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):  # it ended
                fields = Path("/proc", name, "stat").read_text().rsplit(")", 1)[1].split()
                found[int(name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    except OSError:
        return time.process_time()
    total, left = 0, [own]
    while left:
        process = left.pop()
        total += found.get(process, (0, 0))[1]
        left += [child for child, (parent, _) in found.items() if parent == process]
    return total / os.sysconf("SC_CLK_TCK")


median = statistics.median


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, below FEW rounds between the extremes, as a share of the median."""
    low, high = quartiles(values) if len(values) >= FEW else (min(values), max(values))
    return (high - low) / 2 / median(values)


def wide(values: Sequence[float]) -> bool:
    """Whether a figure moved too much between rounds to be read to two digits."""
    return spread(values) > WIDE


def ratio(others: Sequence[float], own: Sequence[float]) -> float:
    """How many times as long `others` took: the median of the ratios within each round."""
    return median([other / mine for other, mine in zip(others, own, strict=True)])
