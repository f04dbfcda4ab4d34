"""How a call is timed on a CUDA device, and every use of torch.cuda that this takes.

    host     until the call returns, while the device has nothing to do
    queued   CUDA events around calls that were all given while the device was kept busy: no host time is in it
    wall     calls in a row, then one wait for the device
    kernels  each kernel and copy by itself, by CUPTI (torch.profiler)

The profiler makes later launches a little slower, so it comes last.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

__all__ = [
    "Kernel", "Queued", "Times", "bandwidth", "cycles_a_second", "first_call", "is_pretended", "kernels", "measure",
    "parse", "queued", "spread", "synchronize", "warm_up",
]  # fmt: skip

Run = Callable[[int], Any]  # call number n, on inputs of its own

MARGIN = 2e-3  # seconds that the device is kept busy beyond what the host is expected to need
AHEAD = ((8, 1.5), (2, 3.0))  # calls given at once, and times of their host time that the device is busy: tries
LONGEST = 0.15  # seconds of host time that may be queued; a device that is kept busy longer costs too much
COPIES = ("gpu_memcpy", "gpu_memset")
SHOWN = 12  # kernels of a call that are kept
NAME = 80  # characters of a kernel's name that are kept


def synchronize() -> None:
    torch.cuda.synchronize()


def is_pretended() -> bool:
    """Whether the device is that of `benchmarks.gpu.dry`, which has no profiler."""
    return torch.cuda.get_device_name() == "pretended"


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, of few values between the extremes, as a share of the median."""
    if len(values) < 2:
        return 0.0
    low, high = min(values), max(values)
    if len(values) >= 5:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    middle = statistics.median(values)
    return (high - low) / 2 / middle if middle else 0.0


def warm_up(seconds: float = 0.5) -> None:
    """Have the device at its clocks: an idle one is at a sixth of them."""
    one, other = (torch.empty(64 << 20, dtype=torch.uint8, device="cuda") for _ in range(2))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(20):
            other.copy_(one)
        synchronize()


@cache
def cycles_a_second() -> float:
    """Of `torch.cuda._sleep`, at the clock of the moment."""
    cycles = 20_000_000
    taken = []
    for _ in range(3):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        torch.cuda._sleep(cycles)
        last.record()
        synchronize()
        taken.append(first.elapsed_time(last) / 1e3)
    return cycles / min(taken)


def bandwidth(size: int, rounds: int = 7) -> float:
    """Bytes a second of a copy on the device, those read and those written, by events."""
    one, other = (torch.empty(size, dtype=torch.uint8, device="cuda") for _ in range(2))
    one.random_(0, 256)
    taken = []
    for number in range(rounds + 2):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        other.copy_(one)
        last.record()
        synchronize()
        if number >= 2:
            taken.append(first.elapsed_time(last) / 1e3)
    return 2 * size / statistics.median(taken)


@dataclass
class Queued:
    """Milliseconds of a call on the device alone, in the rounds in which it had not begun before all was given."""

    ms: list[float] = field(default_factory=list)
    late: int = 0  # rounds in which it had begun: host time would be in their figures
    calls: int = 0  # given at once

    @property
    def good(self) -> bool:
        """Whether most of the rounds count."""
        return self.late < len(self.ms)


def queued(run: Run, calls: int, host_s: float, slack: float, rounds: int) -> Queued:
    """Time `calls` at once, `rounds` times; one round more, first, has the allocators take what they need.

    Args:
        host_s: seconds that giving one call takes.
        slack: the device is kept busy for that many times the seconds that all calls take, and MARGIN.
    """
    found = Queued(calls=calls)
    for number in range(rounds + 1):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        synchronize()
        torch.cuda._sleep(int(cycles_a_second() * (calls * host_s * slack + MARGIN)))
        first.record()
        for call in range(calls):
            run(number * calls + call)
        late = first.query()
        last.record()
        synchronize()
        if number and late:
            found.late += 1
        elif number:
            found.ms.append(first.elapsed_time(last) / calls)
    return found


@dataclass(frozen=True)
class Kernel:
    """One kernel, or kind of copy, of a call."""

    name: str
    count: float  # a call
    us: float  # a call, all together
    registers: int | None = None  # a thread
    grid: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    copy: bool = False

    def as_json(self) -> dict[str, Any]:
        figures = {"name": self.name[:NAME], "count": round(self.count, 2), "us": round(self.us, 2)}
        return figures | ({"registers": self.registers, "grid": self.grid, "block": self.block} if self.grid else {})


def parse(events: Iterable[dict[str, Any]], calls: int) -> list[Kernel]:
    """What a Chrome trace of `calls` calls says of kernels and copies; the longest first."""
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and event.get("cat") in ("kernel", *COPIES):
            found[event["name"]].append(event)
    kernels = []
    for name, same in found.items():
        about = same[0].get("args", {})
        kernels.append(
            Kernel(
                name,
                len(same) / calls,
                sum(event["dur"] for event in same) / calls,
                about.get("registers per thread"),
                tuple(about.get("grid", ())),
                tuple(about.get("block", ())),
                same[0]["cat"] in COPIES,
            )
        )
    return sorted(kernels, key=lambda kernel: -kernel.us)


def kernels(run: Run, calls: int = 3) -> list[Kernel]:
    """The kernels and copies of a call.

    Raises:
        RuntimeError: if the profiler saw none.
    """
    for call in range(calls):
        run(call)
    synchronize()
    if is_pretended():
        return []
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        for call in range(calls):
            run(call)
        synchronize()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(file))
        found = parse(json.loads(file.read_text(errors="replace"))["traceEvents"], calls)
    if not found:
        raise RuntimeError("the profiler saw no kernels")
    return found


@dataclass
class Times:
    """What `measure` found: milliseconds of a call, every round."""

    host: list[float]
    wall: list[float]
    queued: Queued | None  # None: the host waits for the device within a call, so none can be queued

    @property
    def host_ms(self) -> float:
        return statistics.median(self.host)

    @property
    def wall_ms(self) -> float:
        return statistics.median(self.wall)

    @property
    def device_ms(self) -> float | None:
        """Of the device alone; None if it had begun too early, in half of the rounds or more."""
        if self.queued is None or not self.queued.good:
            return None
        return statistics.median(self.queued.ms)


def first_call(run: Run) -> float:
    """Seconds of a call and of waiting for it: the first compiles, loads and allocates."""
    synchronize()
    start = time.perf_counter()
    run(0)
    synchronize()
    return time.perf_counter() - start


def measure(run: Run, *, waits: bool = False, rounds: int = 5, seconds: float = 0.5) -> Times:
    """Time a call in three ways, after a few that warm up.

    Args:
        run: called with the number of the call, so that its inputs can be others than the last ones.
        waits: the host is known to wait within a call, so that queueing is not tried.
        rounds: of each way.
        seconds: that each way takes, about; a slow call is made at least once a round.
    """
    slow = min(first_call(run) for _ in range(min(3, rounds)))
    host = []
    for call in range(_times(seconds, slow, most=15, least=rounds)):
        synchronize()
        start = time.perf_counter()
        run(call)
        host.append((time.perf_counter() - start) * 1e3)
    synchronize()
    calls = _times(seconds / rounds, slow, most=40, least=1)
    wall = []
    for _ in range(rounds):
        start = time.perf_counter()
        for call in range(calls):
            run(call)
        synchronize()
        wall.append((time.perf_counter() - start) * 1e3 / calls)
    return Times(host, wall, None if waits else _queued(run, statistics.median(host) / 1e3, rounds))


def _queued(run: Run, host_s: float, rounds: int) -> Queued:
    """With more calls at once at first, then with fewer for longer, if the device begins too early."""
    found = Queued()
    for calls, slack in AHEAD:
        calls = max(1, min(calls, int(LONGEST / (host_s + 1e-9))))
        found = queued(run, calls, host_s, slack, rounds)
        if found.good:
            break
    return found


def _times(seconds: float, slow: float, most: int, least: int) -> int:
    return max(least, min(most, int(seconds / (slow + 1e-9))))
