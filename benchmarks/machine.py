"""The block that stands beside every figure: on what it was measured, and with which versions."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gpuaug.data.workers import cores

__all__ = ["PACKAGES", "command", "describe", "is_part", "lines", "pace", "versions"]

PACKAGES = (
    "gpuaug", "torch", "torchvision", "numpy", "numba", "triton", "kornia", "albumentationsx", "opencv-python-headless",
    "pillow", "nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13", "triton-augment", "torchaug", "ffcv", "pyarrow",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Machine and versions, as JSON has them."""
    return {"machine": _machine(), "versions": {"python": platform.python_version(), **versions()}}


def lines(described: dict[str, Any]) -> list[str]:
    """The block in words."""
    machine = described["machine"]
    cores, memory = machine["cores"], f"{machine['memory_gb']:.0f} GB"
    many = "s" if cores > 1 else ""
    first = f"{machine['processor']}, {cores} core{many}, {memory}, {machine['gpu'] or 'no GPU'}, {machine['system']}"
    return [first, ", ".join(f"{name} {number}" for name, number in described["versions"].items())]


def is_part(run: dict[str, Any]) -> bool:
    """Whether only some regimes were asked for."""
    return not set(run["regimes"]) >= {"ops", "recipes"}


def command(run: dict[str, Any]) -> str:
    """The command that made a stored run."""
    only = "".join(f" {name}" for name in run["regimes"]) if is_part(run) else ""
    return run.get("command") or f"python -m benchmarks{only} --{run['plan']}"


def pace() -> float:
    """Seconds that a fixed piece of work takes on one core: how fast the machine is at this moment."""
    block = torch.arange(1 << 16, dtype=torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        for _ in range(400):
            block.mul(1.0001)
        times.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return statistics.median(times)


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if hasattr(os, "sysconf") else 0.0
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    system = f"{platform.system()} {platform.machine()}"
    return {"processor": _processor(), "cores": cores(), "memory_gb": memory, "gpu": gpu, "system": system}


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
