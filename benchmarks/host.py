"""What a call of the CUDA path costs on the host, with launches that start nothing: python -m benchmarks.host

Everything runs but the device: drawing, lowering, packing the parameters into one block, making the output tensors (on
the CPU, small, which is what the caching allocator costs about), and Triton's own launch code up to the driver call,
which a stub takes. Not counted: the copy of the block (one asynchronous call) and the driver's part of a launch.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
import triton
from rich import box
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget

triton.knobs.runtime.interpret = False

import gpuaug as ga  # noqa: E402
from gpuaug import render  # noqa: E402

ROUNDS = 100
TAIL = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
IMAGENET = [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip()]
CIFAR = [ga.RandomHorizontalFlip(), ga.RandomCrop(32, padding=4)]
MIX = ga.RandomChoice([ga.MixUp(num_classes=1000), ga.CutMix(num_classes=1000)])
RECIPES: dict[str, tuple[list[Any], int, int]] = {  # list, batch, size of the images
    "crop + flip": ([*IMAGENET, *TAIL], 256, 256),
    "+ RandAugment": ([*IMAGENET, ga.RandAugment(), *TAIL], 256, 256),
    "+ RandAugment + erase + mix": ([*IMAGENET, ga.RandAugment(), *TAIL, ga.RandomErasing(0.1), MIX], 256, 256),
    "+ RandAugment, batch 64": ([*IMAGENET, ga.RandAugment(), *TAIL], 64, 256),
    "CIFAR crop + flip": ([*CIFAR, *TAIL], 512, 32),
    "CIFAR + RandAugment + mix": ([*CIFAR, ga.RandAugment(), *TAIL, MIX], 512, 32),
}


class Driver:
    """A GPU that does nothing; counts launches."""

    launches = 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        def run(*arguments: Any) -> None:
            self.launches += 1

        return run

    class utils:  # noqa: N801
        @staticmethod
        def get_device_properties(device: int) -> dict[str, int]:
            return {"max_shared_mem": 1 << 20}

        @staticmethod
        def load_binary(*arguments: Any) -> tuple[int, ...]:
            return 0, 0, 32, 0, 1024

        @staticmethod
        def unload_module(module: Any) -> None:
            pass


def measure(steps: list[Any], batch: int, size: int, driver: Driver) -> dict[str, float]:
    """Medians in ms, and how many launches and bytes of parameters."""
    from gpuaug.kernels.triton import Job

    augment = ga.Augment(steps, backend="triton")
    images = torch.zeros((1, 1, 1, 1), dtype=torch.uint8).expand(batch, 3, size, size)
    labels = torch.zeros(batch, dtype=torch.int64)
    mixes = augment.train_pipeline.mix is not None
    times: dict[str, list[float]] = {name: [] for name in ("sample", "lower", "pack", "launch", "forward")}
    launched = 0
    for number in range(ROUNDS + 3):
        marks = [time.perf_counter()]
        draw = augment.sample(images)
        marks.append(time.perf_counter())
        items = augment.train_pipeline.lower(draw.params, draw.keys, draw.canvas, False, augment.memory_format)
        marks.append(time.perf_counter())
        job = Job(items, images)
        marks.append(time.perf_counter())
        before = driver.launches
        render.run(items, job, images, labels if mixes else None, 1000)
        launched = driver.launches - before
        marks.append(time.perf_counter())
        augment(images, labels if mixes else None)
        marks.append(time.perf_counter())
        if number >= 3:
            for name, start, stop in zip(times, marks, marks[1:], strict=False):
                times[name].append((stop - start) * 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians | {"launches": launched, "bytes": 4 * job.params.block.numel() / batch}


def main() -> None:
    torch.set_num_threads(1)
    driver = Driver()
    triton.runtime.driver.set_active(driver)
    render.interpreted = lambda: True  # lets the backend take CPU tensors
    table = Table(box=box.ROUNDED, title="Host time of a call, ms; launches start nothing")
    for heading in ("", "batch", "sample", "lower", "pack", "launch", "whole call", "launches", "bytes/image"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, (steps, batch, size) in RECIPES.items():
        found = measure(steps, batch, size, driver)
        parts = (f"{found[key]:.2f}" for key in ("sample", "lower", "pack", "launch", "forward"))
        table.add_row(name, str(batch), *parts, str(found["launches"]), f"{found['bytes']:.0f}")
    Console(width=100, highlight=False).print(table)


if __name__ == "__main__":
    main()
