"""How the kernels are compiled: IEEE division and no exceptions, so that loops with a division vectorise.

Compiled kernels are stored on disk. Numba only notices changes of the file in which a kernel is defined, so here a
stored kernel is stamped with a hash of all files whose values it may contain. If no folder can be written or read, each
process compiles the kernels again.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numba import config, njit

from gpuaug import compat, instructions

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("NUMBA_DISABLE_JIT is set")

__all__ = ["Kept", "inner", "kept", "kernel"]

PATIENCE = 2.0  # seconds of compiling after which a message is shown
COMPILING = (
    "gpuaug: compiling kernels for the CPU, which happens once on a machine. `gpuaug warmup` does it beforehand, and "
    "NUMBA_CACHE_DIR says where they are kept."
)

PACKAGE = Path(instructions.__file__).parent
IMPORT = re.compile(r"^ *(?:from|import) +(gpuaug[\w.]*)(?: +import +(\([^)]*\)|.*))?", re.MULTILINE)


def baked(package: Path = PACKAGE) -> list[Path]:
    """The files whose values machine code may contain: the kernels, and all files of the package that they import."""
    found: set[Path] = set()
    waiting = sorted((package / "kernels" / "numba").rglob("*.py"))
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imported(file, package)
    return sorted(found)


def _imported(file: Path, package: Path) -> Iterator[Path]:
    """The files of the package that a file imports, anywhere in it."""
    for module, names in IMPORT.findall(file.read_text(encoding="utf-8")):
        place = package.joinpath(*module.split(".")[1:])
        for one in (place, *(place / name for name in re.findall(r"\w+", names))):  # a folder, a file, or a name in one
            yield from (
                path for path in (one / "__init__.py", one.with_suffix(".py")) if path.is_file() and one != package
            )


def stamp(files: Sequence[Path]) -> str:
    """A hash of the contents of the files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


STAMP = stamp(baked())


class Kept(NamedTuple):
    """Number of kernels that this process compiled and stored, number that it loaded, and the folders of both."""

    compiled: int
    loaded: int
    folders: frozenset[str]


def kept() -> Kept:
    """The counts up to now."""
    return Kept(_counts["compiled"], _counts["loaded"], frozenset(_folders))


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that is called from Python."""
    try:
        compiled: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
        is_kept = compat.keep_on_disk(compiled, STAMP, _forgiving)
    except (RuntimeError, OSError):  # no folder in which it can be stored
        is_kept = False
    return compiled if is_kept else njit(nogil=True, error_model="numpy")(function)


def _forgiving(method: Callable[..., Any], folder: str) -> Callable[..., Any]:
    """Let the call succeed if the disk is full or a file is damaged: the kernel is compiled again, with a warning."""

    loads = method.__name__ == "load_overload"

    def attempt(*arguments: Any) -> Any:
        found, done = None, False
        try:
            found = method(*arguments)
            done = not loads or found is not None
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            remedy = "Set NUMBA_CACHE_DIR to a folder with room, or empty that one."
            message = f"gpuaug: compiled kernels are not kept in {folder} ({why}); each process compiles them. {remedy}"
            if folder not in _warned:
                _warned.add(folder)
                warnings.warn(message, stacklevel=2)
        _note(loads, folder, done)
        return found

    return attempt


_warned: set[str] = set()  # folders
_folders: set[str] = set()
_counts = {"loaded": 0, "compiled": 0}
_compiling = {"depth": 0, "waits": False, "told": False}  # state of compilations, which may be nested


def _note(loads: bool, folder: str, done: bool) -> None:
    """Count a loaded or stored kernel. If none was loaded, one is compiled next: start the timer of the message."""
    if done:
        _counts["loaded" if loads else "compiled"] += 1
        _folders.add(folder)
    if loads and not done:
        _compiling["depth"] += 1
        if not _compiling["waits"] and not _compiling["told"]:
            _compiling["waits"] = True
            timer = threading.Timer(PATIENCE, _tell)
            timer.daemon = True
            timer.start()
    elif not loads:
        _compiling["depth"] -= 1


def _tell() -> None:
    """Show the message, once per process, while a kernel is compiled: on a terminal or in a notebook, else logged."""
    _compiling["waits"] = False
    if _compiling["told"] or _compiling["depth"] < 1:
        return
    _compiling["told"] = True
    if "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty()):
        print(COMPILING, file=sys.stderr)
    else:
        logging.getLogger("gpuaug").info(COMPILING)


# For functions that only kernels call: without wrappers they compile faster.
inner: Any = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
