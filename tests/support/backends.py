"""Which backends can run here. Without a GPU Triton's interpreter runs the kernels; Triton asks when it is imported."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch

__all__ = ["INTERPRETED", "runnable"]

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None


def runnable(name: str) -> str:
    """The backend's name; skips the test where the backend cannot run."""
    if name == "numba" and importlib.util.find_spec("numba") is None:
        pytest.skip("Numba is not installed")
    if name == "triton" and not INTERPRETED:
        pytest.skip("Triton's interpreter is not at hand")
    return name
