"""The backends: what each of them does, the table of them, and which one runs a batch."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from gpuaug.program import Alike, Keys, Program
from gpuaug.ragged import Ragged

__all__ = ["BACKENDS", "NAMES", "Backend", "Job", "choose", "installed", "interpreted", "load"]


class Job(Protocol):
    """The programs of one call, prepared."""

    def run(self, number: int, source: Tensor | Ragged) -> Tensor:
        """Run program `number` on the canvas that the one before it left: (B, C, H, W) uint8, or as its finish says."""

    def labels(self, given: Tensor, num_classes: int | None) -> Tensor | None:
        """Labels on the images' device, mixed as the last program mixes its samples; None leaves them to the twin."""


class Backend(Protocol):
    """The functions of a backend's module. `gpuaug.kernels.defaults` has `drawn` and `each` for those without them."""

    def prepare(self, programs: Sequence[Program], source: Tensor | Ragged, /) -> Job:
        """The job of a call. `source` is what the first program reads."""

    def drawn(self, alike: Alike, keys: Keys, source: Tensor | Ragged, /) -> Job | None:
        """The job of a list whose draws the backend makes itself; None if it does not."""

    def each(self, work: Callable[[int], None], counts: Sequence[int], /) -> None:
        """Call `work` with the number of each part; `counts` says how many images each has."""


BACKENDS = {
    "triton": "gpuaug.kernels.triton",
    "numba": "gpuaug.kernels.numba",
    "torch": "gpuaug.kernels.torch",
}

if TYPE_CHECKING:
    from gpuaug.kernels import numba as _numba
    from gpuaug.kernels import torch as _torch
    from gpuaug.kernels import triton as _triton

    _TYPED: tuple[Backend, ...] = (_triton, _numba, _torch)  # each module is checked against the protocol


@cache
def load(name: str) -> Backend:
    """Import the module of a backend in the table."""
    return cast("Backend", importlib.import_module(BACKENDS[name]))


NAMES = ("auto", *BACKENDS)


def choose(backend: str, device: torch.device) -> str:
    """The backend for `device`; "auto" is the fastest that can run there. One that cannot run there raises an error."""
    numba = device.type == "cpu" and installed("numba")
    if backend == "auto":
        if device.type == "cuda":  # CUDA, and ROCm, for which torch uses the same name
            return _with_compiled_draws("triton") if _works("triton") else "torch"
        return "numba" if numba and _works("numba") else "torch"
    if backend == "numba" and not numba:
        if device.type != "cpu":
            raise RuntimeError(
                f'Augment: `backend` "numba" runs on the CPU, got images on {device}. Use backend="auto".'
            )
        raise RuntimeError(
            'Augment: `backend` "numba" needs Numba, which is not installed. Run pip install "gpuaug[cpu]".'
        )
    if backend == "triton" and not installed("triton"):
        raise RuntimeError(
            'Augment: `backend` "triton" needs Triton, which is not installed. Run pip install triton, or use '
            'backend="auto".'
        )
    if backend == "triton" and device.type != "cuda" and not interpreted():
        remedy = 'Move them with images.to("cuda"), or use backend="auto".'
        raise RuntimeError(
            f'Augment: `backend` "triton" runs on a CUDA or ROCm device, got images on {device}. {remedy}'
        )
    return _with_compiled_draws(backend) if backend == "triton" else backend


@lru_cache(maxsize=len(BACKENDS))
def _with_compiled_draws(backend: str) -> str:
    """`backend`; its draws, which are made on the host, are compiled if Numba is installed. Same bits."""
    if installed("numba"):
        try:
            importlib.import_module("gpuaug.kernels.numba.philox")
        except ImportError as error:
            warnings.warn(f"gpuaug: Numba is installed but does not work ({error}); drawing is slower.", stacklevel=2)
    return backend


@lru_cache(maxsize=len(BACKENDS))
def installed(name: str) -> bool:
    """Whether a package can be found; looked up once."""
    return importlib.util.find_spec(name) is not None


def interpreted() -> bool:
    """True if TRITON_INTERPRET=1 was set before Triton's kernels were imported: then they run on the CPU, slowly."""
    if not installed("triton"):
        return False
    launch = importlib.import_module("gpuaug.kernels.triton.runtime.launch")
    return bool(launch.interpreted())


@lru_cache(maxsize=len(BACKENDS))
def _works(name: str) -> bool:
    """False, with a warning, if the backend's compiler is installed but cannot be imported."""
    if not installed(name):
        return False
    try:
        load(name)
    except ImportError as error:
        warnings.warn(
            f"gpuaug: {name.title()} is installed but does not work ({error}); the slower torch backend runs.",
            stacklevel=2,
        )
        return False
    return True
