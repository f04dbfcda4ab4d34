"""Compiles the Triton kernels for GPUs that are not there, through the launches the backend really makes."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

import gpuaug as ga
from gpuaug.engine.render import run
from gpuaug.kernels.triton.runtime.launch import options_for
from gpuaug.program import Program

from .ptx import Emulator, compile_ptx, compiling, load_compiled
from .ptx_code import Counts

__all__ = ["AMD", "NVIDIA", "Launch", "distinct", "emulate", "launches", "recompiled", "resources"]

PACKAGE = "gpuaug.kernels.triton"
PASSES = ("crop", "elastic", "filter", "finish", "jpeg", "instructions", "labels", "statistics")
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

    @property
    def label(self) -> str:
        """Short: the kernel and what of a list it is compiled for."""
        kinds = [str(self.constants[name]) for name in ("MAY", "MODE", "DOWN") if name in self.constants]
        kinds += [name.lower() for name in ("MIX", "RANDOM", "SCALES") if self.constants.get(name)]
        return " ".join([self.name.removesuffix("_kernel"), *kinds])


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


def passes() -> list[ModuleType]:
    """The modules that launch something, with kernels for the compiler; those imported elsewhere are interpreted."""
    return [load_compiled(PACKAGE, name) for name in PASSES]


@contextmanager
def compiling_for(target: GPUTarget) -> Iterator[None]:
    """Triton takes `target` for the GPU of this machine."""
    driver = triton.runtime.driver
    before, driver._active = driver._active, _Driver(target)
    try:
        yield
    finally:
        driver._active = before


@contextmanager
def replaced(launch: Any, target: GPUTarget) -> Iterator[None]:
    """`launch` in place of the backend's own, in the compiled package, which takes `target` for the GPU."""
    modules = passes()
    originals, tape = [module.launch for module in modules], load_compiled(PACKAGE, "runtime.tape")
    before, tape.ENABLED = tape.ENABLED, False  # each launch goes through `launch`
    for module in modules:
        module.launch = launch
    try:
        with compiling_for(target):
            yield
    finally:
        tape.ENABLED = before
        for module, original in zip(modules, originals, strict=True):
            module.launch = original


def call(steps: list[Any], images: Any, labels: Tensor | None = None, **options: Any) -> tuple[Tensor, Tensor | None]:
    """What a call of Augment(steps, **options) does, with the compiled package's launches."""
    augment = ga.Augment(steps, seed=0, backend="torch", **options)
    draw = augment.sample(images, index=torch.arange(3, 3 + len(images)))
    pipeline = augment.train_pipeline
    items = pipeline.lower(draw.params, draw.keys, draw.canvas, augment.exact, augment.memory_format)
    job = load_compiled(PACKAGE).Job([item for item in items if isinstance(item, Program)], images)
    return run(items, job, images, labels, None if pipeline.mix is None else pipeline.mix.num_classes)


def launches(
    steps: list[Any], images: Any, target: GPUTarget, labels: Tensor | None = None, **options: Any
) -> list[Launch]:
    """What one call of Augment(steps, **options) would launch on `target`: compiled and noted, not run."""
    found: list[Launch] = []

    def launch(
        kernel: Any, grid: Any, *arguments: Any, num_warps: int = 4, maxnreg: int | None = None, **constants: Any
    ) -> None:
        with compiling():
            options = options_for(target.backend, num_warps, maxnreg)
            compiled = kernel.warmup(*arguments, grid=grid, **options, **constants)
        found.append(Launch(kernel.__name__, tuple(grid), arguments, constants, compiled))

    with replaced(launch, target):
        call(steps, images, labels, **options)
    return found


def distinct(steps: list[Any], size: tuple[int, int], target: GPUTarget, **options: Any) -> list[Launch]:
    """One launch of each kernel that images of (height, width) `size` need, mixed if the list mixes."""
    images = torch.zeros((1, 1, 1, 1), dtype=torch.uint8).expand(4, 3, *size).contiguous()
    found = launches(steps, images, target, torch.zeros(4, dtype=torch.int64), **options)
    return list({launch.kernel.hash: launch for launch in found}.values())


def recompiled(launch: Launch, target: GPUTarget, **options: Any) -> Any:
    """The kernel of a launch, compiled with other options."""
    kernel = next(value for module in passes() if (value := getattr(module, launch.name, None)) is not None)
    with compiling_for(target), compiling():
        return kernel.warmup(*launch.arguments, grid=launch.grid, **launch.constants, **options)


def emulate(
    steps: list[Any], images: Any, labels: Tensor | None = None, arch: int = 80, **options: Any
) -> tuple[Tensor, Tensor | None, list[tuple[str, Counts]]]:
    """One call of Augment(steps, **options) by the compiled kernels' PTX, and what each launch executed."""
    found: list[tuple[str, Counts]] = []

    def launch(
        kernel: Any, grid: Any, *arguments: Any, num_warps: int = 4, maxnreg: int | None = None, **constants: Any
    ) -> None:
        options = options_for("cuda", num_warps, maxnreg)
        compiled = compile_ptx(kernel, arguments, constants, arch=arch, **options)
        key = compiled.kernel.hash
        if key not in EMULATORS:
            EMULATORS[key] = Emulator(compiled)
        emulator = EMULATORS[key]
        emulator.compiled = compiled
        found.append((kernel.__name__, emulator.run(grid, *arguments)))

    with replaced(launch, NVIDIA(arch)):
        result, mixed = call(steps, images, labels, **options)
    return result, mixed, found


EMULATORS: dict[str, Emulator] = {}


def resources(kernel: Any) -> dict[str, int]:
    """Registers, stack, spills and shared memory of a cubin, as NVIDIA's tools say, and threads of a block."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = os.path.join(folder, "kernel.cubin")
        Path(cubin).write_bytes(kernel.asm["cubin"])
        tool = [str(TOOLS / "cuobjdump"), "--dump-resource-usage", cubin]
        text = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", text)
    assert found is not None, text
    registers, stack, _, local = map(int, found.groups())
    shared, threads = kernel.metadata.shared, 32 * kernel.metadata.num_warps
    return {"registers": registers, "stack": stack, "local": local, "shared": shared, "threads": threads}
