"""Device time: CUDA events around calls that were all given while the device was still busy, so that no host time is in
it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["Timed", "device_ms", "host_ms"]

CLOCK = 2.0e9  # Hz: `torch.cuda._sleep` counts the cycles of a clock of about this
LONGEST = 0.25  # seconds that the device is kept busy at most
QUEUE = 200  # calls given at most: the launch queue has about 1,000 places


@dataclass(frozen=True)
class Timed:
    """Milliseconds a call: the median and the least of the rounds, and in how many the device was not kept busy."""

    median: float
    least: float
    late: int


def device_ms(run: Callable[[], object], calls: int = 20, rounds: int = 5) -> Timed:
    """What `run` takes on the device. It must have been called before, and must not wait for the device."""
    calls = min(calls, QUEUE)
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    given = time.perf_counter() - start
    torch.cuda.synchronize()
    busy = min(calls * given * 1.5 + 0.0005, LONGEST)
    times, late = [], 0
    for _ in range(rounds):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(int(CLOCK * busy))
        first.record()
        for _ in range(calls):
            run()
        late += bool(first.query())  # then the device had begun before all was given
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) / calls)
    return Timed(statistics.median(times), min(times), late)


def host_ms(run: Callable[[], object], calls: int = 50, rounds: int = 5) -> float:
    """What `run` takes until it returns, on a queue that is not full: the median of the rounds' means."""
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(min(calls, QUEUE)):
            run()
        times.append((time.perf_counter() - start) / min(calls, QUEUE))
    torch.cuda.synchronize()
    return statistics.median(times) * 1e3
