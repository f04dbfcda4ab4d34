"""`gpuaug doctor`: a quick check of what this machine offers a data path."""

from __future__ import annotations

import importlib
import importlib.util
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gpuaug.profiler.machine import Machine, effective_cores, speed

__all__ = ["Finding", "examine"]

SIZE = 500, 375  # (width, height) of the decoded image in pixels: the usual size of ImageNet
DECODES = 0.25  # seconds for each decoder
COPIED = 64 << 20  # bytes of the copied buffers


@dataclass(frozen=True)
class Finding:
    """One line of the result.

    Attributes:
        what: Name of what was examined.
        value: Result as text.
        ok: Whether the result is as it should be; None if there is nothing to compare it with.
        remedy: What to do if it is not.
    """

    what: str
    value: str
    ok: bool | None = None
    remedy: str = ""


def examine() -> list[Finding]:
    """Examine the machine: all findings."""
    machine = Machine.here()
    return [*_machine(machine), *_decoders(), *_copies(), *_backends(), *_versions(machine)]


def _machine(machine: Machine) -> list[Finding]:
    free = effective_cores()
    quota = f", quota {machine.quota:g}" if machine.quota else ""
    cores = f"{machine.affinity} available{quota}; {free:.2f} free now; {machine.processor}"
    threads = machine.torch_threads <= machine.cores
    found = [
        Finding("cores", cores, free > 0.85 * machine.cores, "other jobs use the cores, so times are unreliable"),
        Finding("core speed", f"{speed():.1f} million loop steps a second"),
        Finding("torch threads", str(machine.torch_threads), threads, f"torch.set_num_threads({round(machine.cores)})"),
        Finding("memory", f"{machine.memory / 1e9:.1f} GB"),
    ]
    if machine.shared_memory:
        text = f"{machine.shared_memory_free / 1e9:.2f} of {machine.shared_memory / 1e9:.2f} GB free"
        found.append(
            Finding(
                "shared memory",
                text,
                machine.shared_memory_free > 0.5e9,
                "docker run --shm-size=8g, or a smaller prefetch_factor",
            )
        )
    found.append(Finding("sharing strategy", machine.sharing))
    return found


def _decoders() -> list[Finding]:
    """Images per second on one core, for each installed decoder."""
    try:
        from PIL import Image
    except ImportError:
        return [Finding("decode", "Pillow is not installed", None)]
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 32, 3), np.uint8)
    image = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    encoded = buffer.getvalue()
    flat = np.frombuffer(encoded, np.uint8)
    ways: dict[str, Callable[[], Any]] = {"Pillow": lambda: np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))}
    if (simplejpeg := _module("simplejpeg")) is not None:
        ways["simplejpeg"] = lambda: simplejpeg.decode_jpeg(encoded)
    if (cv2 := _module("cv2")) is not None:
        ways["OpenCV"] = lambda: cv2.imdecode(flat, cv2.IMREAD_COLOR)
    if (vision := _module("torchvision.io")) is not None:
        tensor = torch.from_numpy(flat.copy())
        ways["torchvision"] = lambda: vision.decode_jpeg(tensor)
    found = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, decode in ways.items():
            found.append(Finding(f"decode, {name}", _rate(decode)))
    finally:
        torch.set_num_threads(before)
    return found


def _rate(function: Callable[[], Any]) -> str:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function()
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < DECODES:
                function()
                count += 1
    except Exception as error:
        return f"does not run: {' '.join(str(error).split()):.60}"
    return f"{count / (time.perf_counter() - start):,.0f} JPEG/s per core ({SIZE[0]} x {SIZE[1]})"


def _module(name: str) -> Any:
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        return None
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def _copies() -> list[Finding]:
    """Bytes per second from memory to memory, and to the device."""
    source, target = torch.empty(COPIED, dtype=torch.uint8), torch.empty(COPIED, dtype=torch.uint8)
    target.copy_(source)
    start = time.perf_counter()
    for _ in range(4):
        target.copy_(source)
    found = [Finding("memory copy", f"{4 * COPIED / (time.perf_counter() - start) / 1e9:.1f} GB/s")]
    if not torch.cuda.is_available():
        return [*found, Finding("pinned memory", "not measured: no CUDA device")]
    device = torch.empty(COPIED, dtype=torch.uint8, device="cuda")
    for name, host in (("pageable", source), ("pinned", source.pin_memory())):
        device.copy_(host, non_blocking=True)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(4):
            device.copy_(host, non_blocking=True)
        torch.cuda.synchronize()
        found.append(Finding(f"to the device, {name}", f"{4 * COPIED / (time.perf_counter() - start) / 1e9:.1f} GB/s"))
    return found


def _backends() -> list[Finding]:
    """Which of gpuaug's backends run on this machine. The profiler itself needs none."""
    try:
        from gpuaug.augment import Augment
        from gpuaug.transforms import RandomHorizontalFlip

        images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    except ImportError as error:
        return [Finding("gpuaug", f"cannot be imported: {error}", False, 'pip install "gpuaug[cpu]"')]
    found = []
    for backend in ("triton", "numba", "torch"):
        device = "cuda" if backend == "triton" else "cpu"
        try:
            if backend == "triton" and not torch.cuda.is_available():
                raise ValueError("no CUDA device")
            Augment(train=[RandomHorizontalFlip()], backend=backend)(images.to(device))
            found.append(Finding(f"backend {backend}", "works", True))
        except Exception as error:
            found.append(Finding(f"backend {backend}", f"does not run here: {' '.join(str(error).split()):.70}"))
    return found


def _versions(machine: Machine) -> list[Finding]:
    text = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    device = machine.device or "none"
    return [
        Finding("device", device),
        Finding("versions", f"Python {machine.python}, {text}"),
        Finding("system", machine.platform),
    ]
