"""The GPU and its software, and the costs that nobody can avoid: copies, launches, events, replays."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch

from .clock import device_ms, host_ms
from .results import NO_DEVICE, Options, Results, run

__all__ = ["main"]

PACKAGES = ("triton", "numpy", "torchvision", "numba", "kornia", "triton-augment", "timm", "pytest", "pytest-xdist")
ASKED = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.draw,power.limit,temperature.gpu"
ASKED += ",memory.total,ecc.mode.current,persistence_mode,pstate,pcie.link.gen.current,pcie.link.width.current"
NODES = 10  # kernels of the graph that is replayed


def measure(results: Results, options: Options) -> None:
    """Each of the figures, apart from the others."""
    if not torch.cuda.is_available():
        raise RuntimeError(NO_DEVICE)
    parts: list[Callable[[Results, Options], None]] = [_versions, _driver, _copies, _host_copies, _launches, _replays]
    for part in [*parts, _matmul]:
        if results.left() < 1.0:
            results.note(f"no time for {part.__name__.strip('_')}")
            continue
        try:
            part(results, options)
        except Exception as error:
            results.fail(part.__name__.strip("_"), error)


def _versions(results: Results, options: Options) -> None:
    properties = torch.cuda.get_device_properties(0)
    names = {"multi_processor_count": "sms", "L2_cache_size": "l2_bytes", "total_memory": "memory_bytes"}
    names |= {"regs_per_multiprocessor": "registers_an_sm", "max_threads_per_multi_processor": "threads_an_sm"}
    names |= {"shared_memory_per_multiprocessor": "shared_an_sm", "clock_rate": "clock_khz"}
    known = {short: getattr(properties, name, None) for name, short in names.items()}
    results.row(gpu=properties.name, capability=f"{properties.major}.{properties.minor}", **known)
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            try:  # carried in a folder, or without metadata
                found[name] = importlib.import_module(name.replace("-", "_")).__version__
            except (ImportError, AttributeError):
                found[name] = "missing"
    results.row(
        torch=torch.__version__, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(),
        python=sys.version.split()[0],
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        system=f"{platform.system()} {platform.machine()}", gpus=torch.cuda.device_count(), **found,
    )  # fmt: skip


def _driver(results: Results, options: Options) -> None:
    """What nvidia-smi says; a field that this one does not know is left out."""
    tool = shutil.which("nvidia-smi")
    if tool is None or options.dry:
        results.note("there is no nvidia-smi: driver, clocks and power are not known")
        return

    def ask(fields: str) -> str:
        command = [tool, f"--query-gpu={fields}", "--format=csv,noheader,nounits", "--id=0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    answer = ask(ASKED)
    values = answer.split(", ") if answer else [ask(field) for field in ASKED.split(",")[:6]]
    results.row(**{key.replace(".", "_"): value for key, value in zip(ASKED.split(","), values, strict=False)})


def _copies(results: Results, options: Options) -> None:
    """Within the device's memory; read and written bytes count both."""
    sizes = [1 << 16, 1 << 18] if options.dry else [16 << 20, 128 << 20, 1 << 30, 4 << 30]
    for size in sizes:
        a, b = (torch.empty(size, dtype=torch.uint8, device="cuda") for _ in range(2))
        b.copy_(a)
        timed = device_ms(lambda a=a, b=b: b.copy_(a), 4 if size >= 1 << 30 else 20)  # type: ignore[misc]
        gb_s = 2 * size / timed.median / 1e6
        results.row(copy="device read + write", bytes=size, gb_s=gb_s, late=timed.late, largest=size == sizes[-1])


def _host_copies(results: Results, options: Options) -> None:
    size = 1 << 16 if options.dry else 256 << 20
    there = torch.empty(size, dtype=torch.uint8, device="cuda")
    pageable = torch.zeros(size, dtype=torch.uint8)
    pinned = pageable.pin_memory()
    ways: dict[str, Callable[[], object]] = {
        "pinned to device": lambda: there.copy_(pinned, non_blocking=True),
        "pageable to device": lambda: there.copy_(pageable),
        "device to pinned": lambda: pinned.copy_(there, non_blocking=True),
    }
    for name, copy in ways.items():
        copy()
        torch.cuda.synchronize()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            copy()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        results.row(copy=name, bytes=size, gb_s=size / sorted(times)[2] / 1e9, largest=True)


def _launches(results: Results, options: Options) -> None:
    """Host time to give, and the device's time for, what does nothing."""
    calls = 5 if options.dry else 200
    x = torch.zeros(1, device="cuda")
    event, stream = torch.cuda.Event(), torch.cuda.current_stream()
    ways: dict[str, Callable[[], object]] = {
        "torch: an add of one element": lambda: x.add_(1),
        "record an event": lambda: event.record(),
        "another stream waits for an event": lambda: stream.wait_event(event),
        "ask an event": lambda: event.query(),
    }
    for name, way in ways.items():
        way()
        results.row(cost=name, host_us=host_ms(way, calls) * 1e3)
    add = device_ms(ways["torch: an add of one element"], calls)
    results.row(cost="torch: an add of one element, on the device", device_us=add.median * 1e3)
    start = time.perf_counter()
    launch = _empty(x)
    launch()
    torch.cuda.synchronize()
    results.row(cost="import Triton, compile and launch the first kernel", seconds=time.perf_counter() - start)
    timed = device_ms(launch, calls)
    results.row(
        cost="gpuaug's launch of an empty kernel", host_us=host_ms(launch, calls) * 1e3, device_us=timed.median * 1e3
    )


def _empty(x: torch.Tensor) -> Callable[[], object]:
    from gpuaug.kernels.triton.runtime.launch import launch

    from .empty import empty_kernel

    return lambda: launch(empty_kernel, (1,), x, 3, N=4)


def _replays(results: Results, options: Options) -> None:
    """A graph of NODES tiny kernels, one after another."""
    calls = 5 if options.dry else 100
    x = torch.zeros(1, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        x.add_(1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        for _ in range(NODES):
            x.add_(1)
    graph.replay()
    timed = device_ms(graph.replay, calls)
    results.row(
        cost=f"replay of {NODES} kernels", host_us=host_ms(graph.replay, calls) * 1e3, device_us=timed.median * 1e3
    )


def _matmul(results: Results, options: Options) -> None:
    """How fast bfloat16 is multiplied: whether the clocks are up."""
    n = 64 if options.dry else 8192
    a, b = (torch.randn(n, n, device="cuda").to(torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    multiply()
    timed = device_ms(multiply, 20)
    results.row(
        cost=f"bfloat16 product of {n} x {n}", device_us=timed.median * 1e3, tflop_s=2 * n**3 / timed.median / 1e9
    )


def main() -> int:
    return run("environment", measure)


if __name__ == "__main__":
    sys.exit(main())
