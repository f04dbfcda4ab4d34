"""How the kernels are compiled: IEEE division and no exceptions, so that loops with a division vectorise.

Compiled kernels are kept on disk. Numba notices changes of the file a kernel stands in only, so here the stamp of a
kept kernel is a hash of all the files; where no folder can be written, kernels are compiled anew in each process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from gpuaug import philox, program

__all__ = ["inner", "kernel"]

FILES = [*sorted(Path(__file__).parent.glob("*.py")), Path(program.__file__), Path(philox.__file__)]
STAMP = hashlib.sha256(b"".join(file.read_bytes() for file in FILES)).hexdigest()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that is called from Python."""
    try:
        compiled: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
        compiled._cache._cache_file._source_stamp = STAMP  # else a change of a callee's file goes unnoticed
    except RuntimeError:  # no folder to keep it in
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled


# Called from kernels only: no wrappers to compile.
inner: Any = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
