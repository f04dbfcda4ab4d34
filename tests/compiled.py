"""Compiles the Triton kernels for GPUs that are not there, through the launches the backend really makes."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

import gpuaug as ga
from gpuaug.program import Program
from gpuaug.render import run

__all__ = ["AMD", "NVIDIA", "Launch", "launches", "package", "resources"]

PACKAGE = "gpuaug.kernels.triton"
PASSES = ("crop", "filter", "finish", "jpeg", "labels", "step", "tone")
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def NVIDIA(capability: int) -> GPUTarget:  # noqa: N802
    return GPUTarget("cuda", capability, 32)


AMD = GPUTarget("hip", "gfx942", 64)


@dataclass
class Launch:
    """A compiled kernel, and how it was launched."""

    name: str
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    kernel: Any

    @property
    def id(self) -> str:
        return f"{self.name} {self.constants}"


class _Driver:
    """What Triton asks of a driver to compile, and no more."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 1000 + int(re.sub(r"\D", "", str(self.target.arch)))  # Triton remembers a target for each device

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)


@cache
def package() -> ModuleType:
    """The backend with compiled kernels; the one that tests import elsewhere is interpreted."""
    names = [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]
    interpreted = {name: sys.modules.pop(name) for name in names}
    before = triton.knobs.runtime.interpret
    triton.knobs.runtime.interpret = False
    try:
        module = importlib.import_module(PACKAGE)
        for name in PASSES:
            importlib.import_module(f"{PACKAGE}.{name}")
        module.modules = {name: sys.modules[f"{PACKAGE}.{name}"] for name in PASSES}  # type: ignore[attr-defined]
    finally:
        triton.knobs.runtime.interpret = before
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
            del sys.modules[name]
        sys.modules.update(interpreted)
        if PACKAGE in interpreted:
            sys.modules["gpuaug.kernels"].triton = interpreted[PACKAGE]  # type: ignore[attr-defined]
    return module


@contextmanager
def recorded(target: GPUTarget) -> Iterator[list[Launch]]:
    """Every launch of the compiled package is compiled for `target` and noted, not run."""
    found: list[Launch] = []

    def launch(kernel: Any, grid: Any, *arguments: Any, num_warps: int = 4, **constants: Any) -> None:
        compiled = kernel.warmup(*arguments, grid=grid, num_warps=num_warps, enable_fp_fusion=False, **constants)
        found.append(Launch(kernel.__name__, tuple(grid), arguments, constants, compiled))

    modules = package().modules.values()
    originals = [module.launch for module in modules]
    active = triton.runtime.driver
    before = active._active
    active.set_active(_Driver(target))
    for module in modules:
        module.launch = launch
    try:
        yield found
    finally:
        active._active = before
        for module, original in zip(modules, originals, strict=True):
            module.launch = original


def launches(
    steps: list[Any], images: Any, target: GPUTarget, labels: Tensor | None = None, **options: Any
) -> list[Launch]:
    """What one call of Augment(steps, **options) would launch on `target`."""
    augment = ga.Augment(steps, backend="torch", **options)
    draw = augment.sample(images, index=torch.arange(len(images)))
    pipeline = augment.train_pipeline
    items = pipeline.lower(draw.params, draw.keys, draw.canvas, augment.exact, augment.memory_format)
    with recorded(target) as found:
        job = package().Job([item for item in items if isinstance(item, Program)], images)
        run(items, job, images, labels, None if pipeline.mix is None else pipeline.mix.num_classes)
    return found


def resources(kernel: Any) -> dict[str, int]:
    """Registers, stack, spills and shared memory of a cubin, as NVIDIA's tools say."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = os.path.join(folder, "kernel.cubin")
        Path(cubin).write_bytes(kernel.asm["cubin"])
        tool = [str(TOOLS / "cuobjdump"), "--dump-resource-usage", cubin]
        text = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", text)
    assert found is not None, text
    registers, stack, _, local = map(int, found.groups())
    return {"registers": registers, "stack": stack, "local": local, "shared": kernel.metadata.shared}
