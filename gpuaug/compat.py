"""Private names of torch, Numba and Triton, each with a way that works without it."""

from __future__ import annotations

from typing import Any

__all__ = ["is_interpreted"]


def is_interpreted(kernel: Any) -> bool:
    """True if Triton's interpreter runs the kernel."""
    from triton.runtime.jit import JITFunction

    return not isinstance(kernel, JITFunction)
