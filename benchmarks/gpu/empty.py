"""Kernels that do nothing, for what a launch costs."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["empty_kernel"]


@triton.jit
def empty_kernel(x, n, N: tl.constexpr):  # noqa: N803
    """As many kinds of arguments as a kernel has: a pointer, a number and a constant."""
