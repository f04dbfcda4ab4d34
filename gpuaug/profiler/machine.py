"""What the machine gives: cores that are really ours, how fast they are now, memory, and what works here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Drift", "Machine", "cores", "effective_cores", "speed"]

SPIN = """
import time
begin, used = time.perf_counter(), time.process_time()
while time.perf_counter() - begin < {}: pass
print(time.process_time() - used)
"""
PIECES, STEPS = 12, 1_000_000  # of a look at a core's speed: about a tenth of a second
CHANGED = 0.10  # of the cores' speed: beyond it, no comparison of before and after holds


def cores() -> float:
    """Cores this process may use: its affinity, or less where the control group has a quota."""
    found = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _quota()
    return min(found, quota) if quota else found


def _quota() -> float | None:
    """Cores that the control group grants, by version 2's file or version 1's."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        root = Path("/sys/fs/cgroup/cpu")
        limit, period = (root / "cpu.cfs_quota_us").read_text(), (root / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None


def speed() -> float:
    """Millions of steps of a counting loop in a second on a core; the fastest of some pieces, others may be disturbed.

    Time is the thread's own, so that whoever shares the core does not count: workers of a run that has just ended.
    """
    rates = []
    for _ in range(PIECES):
        start = time.thread_time_ns()
        for _ in range(STEPS):
            pass
        rates.append(STEPS / (time.thread_time_ns() - start) * 1e3)
    return max(rates)


def effective_cores(seconds: float = 0.4) -> float:
    """Core seconds a second that as many processes as there are cores really get; other jobs take the rest."""
    count = math.ceil(cores())
    command = [sys.executable, "-S", "-c", SPIN.format(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return sum(float(process.communicate()[0].split()[0]) for process in running) / seconds


class Drift:
    """How fast the cores were, each time somebody looked."""

    def __init__(self) -> None:
        self.speeds: list[float] = []

    def look(self) -> None:
        self.speeds.append(speed())

    @property
    def change(self) -> float:
        """The widest difference, as a fraction of the median."""
        if len(self.speeds) < 2:
            return 0.0
        return (max(self.speeds) - min(self.speeds)) / statistics.median(self.speeds)

    @property
    def reliable(self) -> bool:
        return self.change <= CHANGED


@dataclass(frozen=True)
class Machine:
    """Where a report was made. Sizes are bytes."""

    platform: str
    processor: str
    cores: float
    affinity: int
    quota: float | None
    memory: int
    shared_memory: int
    shared_memory_free: int
    python: str
    torch: str
    torch_threads: int
    sharing: str
    device: str | None
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Machine:
        shm = _disk("/dev/shm")
        return cls(
            platform=platform.platform(terse=True),
            processor=_processor(),
            cores=cores(),
            affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            quota=_quota(),
            memory=_memory(),
            shared_memory=shm[0],
            shared_memory_free=shm[1],
            python=platform.python_version(),
            torch=torch.__version__,
            torch_threads=torch.get_num_threads(),
            sharing=torch.multiprocessing.get_sharing_strategy(),  # type: ignore[no-untyped-call]
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            versions=versions(),
        )

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


PACKAGES = (
    "gpuaug", "torch", "torchvision", "numpy", "pillow", "numba", "triton", "kornia", "albumentations",
    "albumentationsx", "timm",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Of what is installed and takes part in a data path."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _disk(path: str) -> tuple[int, int]:
    try:
        found = os.statvfs(path)
    except (OSError, AttributeError):
        return 0, 0
    return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail
