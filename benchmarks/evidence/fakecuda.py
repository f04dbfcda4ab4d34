"""Triton's own launcher without a GPU, on a libcuda.so.1 that has no device (fakecuda.c) and tells of each launch.

Triton compiles, loads and launches as on a GPU: its JIT, its cache, its driver and its launcher in C. What reaches the
driver is heard as it came: the function, grid and block, shared memory, stream, and the raw bytes of every parameter.
Nothing runs and no memory is the device's.

    fakecuda.restarted()               # first: Triton must not be imported before its environment is set
    driver = fakecuda.pretend(arch=90)
    with PseudoCuda():
        driver.hear(lambda launch: print(launch.kernel.name, launch.grid))

Needs Triton and a C compiler. The process must not be one that uses a GPU.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Driver", "RawLaunch", "build", "environment", "missing", "pretend", "restarted"]

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY = "libcuda.so.1"  # what Triton opens

HEAR = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint32), ctypes.c_uint64, ctypes.POINTER(ctypes.c_void_p)
)


def missing() -> str:
    """What is not there that this needs, or nothing."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if _compiler() is None:
        return "there is no C compiler (cc, gcc or clang, or the one named by CC)"
    if not (_include() / "cuda.h").is_file():
        return f"Triton brings no cuda.h ({_include()})"
    return ""


def _compiler() -> str | None:
    named = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next(filter(None, map(shutil.which, named)), None)


def _include() -> Path:
    """Where Triton's cuda.h is. Triton itself is not imported: that fixes for good whether it interprets."""
    found = importlib.util.find_spec("triton")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "backends" / "nvidia" / "include"


def build(folder: Path) -> Path:
    """Compile the library into `folder`; returns the folder.

    Raises:
        RuntimeError: if something that it needs is missing, or the compiler fails, with what the compiler says.
    """
    if reason := missing():
        raise RuntimeError(f"fakecuda: {reason}.")
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(_compiler()), "-shared", "-fPIC", "-O2", f"-I{_include()}", f"-Wl,-soname,{LIBRARY}"]
    done = subprocess.run([*command, str(SOURCE), "-o", str(folder / LIBRARY)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"fakecuda: the compiler failed.\n{done.stderr}")
    return folder


def environment(folder: Path, cache: Path | None = None) -> dict[str, str]:
    """The environment of a process that shall use the library in `folder`.

    Args:
        folder: as `build` returns it.
        cache: where Triton keeps what it compiled; None: where it does anyway.
    """
    path = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    own = {"TRITON_INTERPRET": "0", "TRITON_LIBCUDA_PATH": str(folder), "LD_LIBRARY_PATH": os.pathsep.join(path)}
    return {**os.environ, **own, **({} if cache is None else {"TRITON_CACHE_DIR": str(cache)})}


def restarted(cache: Path | None = None) -> None:
    """Run this command again with the library, and exit as that did; returns at once in the process started so.

    What `environment` sets is read when a process starts.

    Args:
        cache: where Triton keeps what it compiled; None: in a folder that is deleted at the end.
    """
    if "TRITON_LIBCUDA_PATH" in os.environ and os.environ.get("TRITON_INTERPRET") == "0":
        return
    with tempfile.TemporaryDirectory(prefix="fakecuda") as folder:
        own = environment(build(Path(folder)), cache or Path(folder) / "cache")
        code = subprocess.run([sys.executable, *sys.orig_argv[1:]], env=own).returncode
    sys.exit(code)


def pretend(arch: int) -> Driver:
    """Pretend CUDA (benchmarks.evidence.pseudocuda) of a compute capability, times ten, with Triton's real driver
    below it."""
    import torch

    from . import pseudocuda

    pseudocuda.install()
    torch.cuda.get_device_capability = lambda device=None: divmod(arch, 10)
    return Driver(arch)


@dataclass(frozen=True)
class RawLaunch:
    """What the driver was asked to start."""

    kernel: Any  # Triton's CompiledKernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int  # bytes of dynamic shared memory
    attributes: int  # how many
    stream: int  # its handle
    addresses: Any  # of the parameters

    def parameter(self, number: int, width: int) -> int:
        """The `width` bytes of a parameter, as an unsigned number."""
        return int.from_bytes(ctypes.string_at(self.addresses[number], width), "little")


class Driver:
    """The library in this process, and who hears of its launches.

    Args:
        arch: compute capability of the GPU that is not there, times ten.

    Raises:
        RuntimeError: if the process was not started with `environment`.
    """

    def __init__(self, arch: int = 80) -> None:
        folder = os.environ.get("TRITON_LIBCUDA_PATH")
        if folder is None or os.environ.get("TRITON_INTERPRET") != "0":
            raise RuntimeError("fakecuda: start the process with fakecuda.environment().")
        self.library = ctypes.CDLL(str(Path(folder) / LIBRARY))
        self.library.fake_image.restype, self.library.fake_image.argtypes = ctypes.c_void_p, [ctypes.c_uint64]
        self.library.fake_name.restype, self.library.fake_name.argtypes = ctypes.c_char_p, [ctypes.c_uint64]
        self.library.fake_launches.restype = ctypes.c_size_t
        self.library.fake_capability(arch)
        self.kernels: dict[int, Any] = {}  # by the handle of their function
        self._callback: Any = None  # kept: the library has its address
        self._remember()

    @property
    def launches(self) -> int:
        """How many there were in this process."""
        return int(self.library.fake_launches())

    def hear(self, listener: Callable[[RawLaunch], None] | None) -> None:
        """Call `listener` for each launch, which fails if that raises; None: nobody hears, and nothing is in the way.

        What was raised is lost on its way through C: the listener must keep it.
        """

        def heard(function: int, config: Any, stream: int | None, params: Any) -> int:
            numbers = config[:8]
            grid, block = tuple(numbers[:3]), tuple(numbers[3:6])
            try:
                listener(RawLaunch(self.kernels[function], grid, block, *numbers[6:], stream or 0, params))  # type: ignore
            except BaseException:
                return 1
            return 0

        self._callback = HEAR() if listener is None else HEAR(heard)
        self.library.fake_hear(self._callback)

    def _remember(self) -> None:
        """Note which kernel a function belongs to when Triton loads it, and that its image is that kernel's."""
        from triton.compiler.compiler import CompiledKernel

        original = CompiledKernel._init_handles

        def init(kernel: Any) -> None:
            fresh = kernel.module is None
            original(kernel)
            if fresh:
                self._check(kernel)
                self.kernels[kernel.function] = kernel

        CompiledKernel._init_handles = init

    def _check(self, kernel: Any) -> None:
        image, cubin = self.library.fake_image(kernel.function), kernel.asm["cubin"]
        if image is None or ctypes.string_at(image, len(cubin)) != cubin:
            raise RuntimeError(f"fakecuda: what was loaded for {kernel.name} is not its machine code.")
        if self.library.fake_name(kernel.function).decode() != kernel.name:
            raise RuntimeError(f"fakecuda: the function loaded for {kernel.name} has another name.")
