"""How the kernels are compiled: IEEE division and no exceptions, so that loops with a division vectorise."""

from __future__ import annotations

from typing import Any

from numba import njit

__all__ = ["inner", "kernel"]

kernel: Any = njit(nogil=True, cache=True, error_model="numpy")  # called from Python
# Called from kernels only: no wrappers to compile.
inner: Any = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
