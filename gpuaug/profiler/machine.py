"""The machine: the cores that this process can use, their present speed, memory, and versions."""

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

import torch

__all__ = ["Drift", "Machine", "cores", "effective_cores", "speed"]

SPIN = """
import time
begin, used = time.perf_counter(), time.process_time()
while time.perf_counter() - begin < {}: pass
print(time.process_time() - used)
"""
PIECES, STEPS = 12, 1_000_000  # repetitions and loop steps of a speed measurement: about a tenth of a second
CHANGED = 0.15  # change of the cores' speed from which on comparisons of times are unreliable


def cores() -> float:
    """Number of cores that this process may use: its affinity, or the quota of its control group if that is less."""
    found = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _quota()
    return min(found, quota) if quota else found


def _quota() -> float | None:
    """Quota of the control group (version 2 or 1) in cores; None without one."""
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
    """Speed of a core: millions of steps of a counting loop per second, in the fastest of some short repetitions.

    The time is that of the thread on the core, so other processes on the core do not count.
    """
    rates = []
    for _ in range(PIECES):
        start = time.thread_time_ns()
        for _ in range(STEPS):
            pass
        rates.append(STEPS / (time.thread_time_ns() - start) * 1e3)
    return max(rates)


def effective_cores(seconds: float = 0.4) -> float:
    """Number of cores that this job really gets: CPU time per second of one busy process per core."""
    count = math.ceil(cores())
    command = [sys.executable, "-S", "-c", SPIN.format(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return sum(float(process.communicate()[0].split()[0]) for process in running) / seconds


class Drift:
    """The speed of the cores at several moments."""

    def __init__(self) -> None:
        self.speeds: list[float] = []

    def look(self) -> None:
        """Measure the speed now."""
        self.speeds.append(speed())

    @property
    def change(self) -> float:
        """Difference between fastest and slowest, a fraction of the median."""
        if len(self.speeds) < 2:
            return 0.0
        return (max(self.speeds) - min(self.speeds)) / statistics.median(self.speeds)

    @property
    def reliable(self) -> bool:
        """Whether the speed changed by at most 15 %."""
        return self.change <= CHANGED


@dataclass(frozen=True)
class Machine:
    """The machine of a report. Sizes are bytes.

    Attributes:
        platform: Operating system.
        processor: Name of the processor.
        cores: Number of cores that the process may use.
        affinity: Number of cores in the process's affinity.
        quota: Quota of the control group in cores; None without one.
        memory: Size of the memory.
        shared_memory, shared_memory_free: Size of /dev/shm, and what is free of it; 0 without it.
        python, torch: Versions.
        torch_threads: Number of threads that torch uses.
        sharing: torch's sharing strategy.
        device: Name of the CUDA device; None without one.
        versions: {package: version} of the packages that may take part in a data path.
    """

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
        """This machine."""
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

    def asdict(self) -> dict[str, object]:
        """The machine as plain values."""
        return asdict(self)


PACKAGES = (
    "gpuaug", "torch", "torchvision", "numpy", "pillow", "numba", "triton", "kornia", "albumentations",
    "albumentationsx", "timm",
)  # fmt: skip


def versions() -> dict[str, str]:
    """{package: version} of the installed packages that may take part in a data path."""
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
