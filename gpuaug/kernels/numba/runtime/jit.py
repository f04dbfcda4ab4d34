"""How the kernels are compiled: IEEE division and no exceptions, so that loops with a division vectorise.

Compiled kernels are kept on disk. Numba notices changes of the file a kernel stands in only, so here the stamp of a
kept kernel is a hash of all the files; where no folder can be written or read, each process compiles kernels anew.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit

from gpuaug import program

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("NUMBA_DISABLE_JIT is set")

__all__ = ["inner", "kernel"]

PACKAGE = Path(program.__file__).parent
# All whose values are baked into machine code
FILES = sorted((PACKAGE / "kernels" / "numba").rglob("*.py"))
FILES += [PACKAGE / name for name in ("program.py", "philox.py", "kernels/torch/jpeg.py")]
STAMP = hashlib.sha256(b"".join(file.read_bytes() for file in FILES)).hexdigest()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that is called from Python."""
    try:
        compiled: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
        compiled._cache._cache_file._source_stamp = STAMP  # else a change of a callee's file goes unnoticed
        for name in ("load_overload", "save_overload"):
            setattr(compiled._cache, name, _forgiving(getattr(compiled._cache, name), compiled._cache.cache_path))
    except (RuntimeError, OSError):  # no folder to keep it in
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled


def _forgiving(method: Callable[..., Any], folder: str) -> Callable[..., Any]:
    """A full disk or a damaged file costs time, not the call."""

    def attempt(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            remedy = "Set NUMBA_CACHE_DIR to a folder with room, or empty that one."
            message = f"gpuaug: compiled kernels are not kept in {folder} ({why}); each process compiles them. {remedy}"
            if folder not in _warned:
                _warned.add(folder)
                warnings.warn(message, stacklevel=2)
            return None

    return attempt


_warned: set[str] = set()  # folders


# Called from kernels only: no wrappers to compile.
inner: Any = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
