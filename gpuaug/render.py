"""Runs programs: the one place that knows the backends. Nothing here is random."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gpuaug.program import Program
from gpuaug.ragged import Ragged

__all__ = ["BACKENDS", "choose", "render"]

BACKENDS = {"numba": "gpuaug.kernels.numba", "torch": "gpuaug.kernels.torch"}  # each has render(program, source)
NAMES = ("auto", *BACKENDS)


def choose(backend: str, device: torch.device) -> str:
    """The backend for `device`; "auto" is the fastest that can run there, a named one that cannot run raises."""
    numba = device.type == "cpu" and importlib.util.find_spec("numba") is not None
    if backend == "auto":
        return "numba" if numba and _numba_works() else "torch"
    if backend == "numba" and not numba:
        if device.type != "cpu":
            raise RuntimeError(
                f'Augment: `backend` "numba" runs on the CPU, got images on {device}. Use backend="auto".'
            )
        raise RuntimeError(
            'Augment: `backend` "numba" needs Numba, which is not installed. Run pip install "gpuaug[cpu]".'
        )
    return backend


@lru_cache(maxsize=1)
def _numba_works() -> bool:
    """False, with a warning, if Numba is installed but does not import, as with a NumPy it does not know."""
    try:
        importlib.import_module(BACKENDS["numba"])
    except ImportError as error:
        warnings.warn(
            f"gpuaug: Numba is installed but does not work ({error}); the slower torch backend runs.", stacklevel=2
        )
        return False
    return True


@torch.no_grad()
def render(items: Sequence[Any], source: Tensor | Ragged, backend: str) -> Tensor:
    """Run a batch's items, one after another; the last one's result is (B, C, H, W) in the asked dtype and layout."""
    device = source.device
    name = choose(backend, device)
    canvas: Any = source
    with torch.autocast(device.type, enabled=False):
        for item in items:
            if isinstance(item, Program):
                canvas = importlib.import_module(BACKENDS[name]).render(item, canvas)
            else:
                canvas = item(canvas)
    result: Tensor = canvas
    return result
