"""How the kernels are compiled: IEEE division and no exceptions, so that loops with a division vectorise.

Compiled kernels are stored on disk. Numba only notices changes of the file in which a kernel is defined, so here a
stored kernel is stamped with a hash of all files whose values it may contain. If no folder can be written or read, each
process compiles the kernels again.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from numba import config, njit
from numba.core import event

from gpuaug import compat, instructions

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("NUMBA_DISABLE_JIT is set")

__all__ = ["Kept", "NotReady", "Stopped", "carried", "inner", "kept", "kernel", "only_ready", "stop"]

LOOK = 1e-3  # seconds after which a thread that waits for Numba's lock looks whether a kernel is compiled
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
        if done:
            _note(loads, folder)
        return found

    return attempt


_warned: set[str] = set()  # folders
_folders: set[str] = set()
_counts = {"loaded": 0, "compiled": 0}


def _note(loads: bool, folder: str) -> None:
    _counts["loaded" if loads else "compiled"] += 1
    _folders.add(folder)


class NotReady(Exception):  # noqa: N818 - nothing is wrong
    """A kernel has to be compiled first."""


class Stopped(BaseException):
    """The process ends."""


_mode = threading.local()
_stopping = threading.Event()


@contextmanager
def only_ready() -> Iterator[None]:
    """In this thread, a kernel that is neither compiled nor kept on disk raises NotReady, and nothing waits."""
    _mode.only_ready = True
    try:
        yield
    finally:
        _mode.only_ready = False


def carried(work: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """`work` for other threads, which compile nothing if this thread must not compile."""
    if not getattr(_mode, "only_ready", False):
        return work

    def careful(start: int, stop: int) -> None:
        was = getattr(_mode, "only_ready", False)
        _mode.only_ready = True
        try:
            work(start, stop)
        finally:
            _mode.only_ready = was

    return careful


def stop() -> None:
    """Give up what is being compiled, at the next function of it."""
    _stopping.set()


class _Watch(event.Listener):
    """Listens to each function that Numba compiles, one inside another, in one thread at a time.

    Meanwhile no garbage is collected, which would take a seventh of the time, and after PATIENCE a message is shown.
    """

    def __init__(self) -> None:
        self.depth, self.was_collected = 0, False
        self.waits, self.told = False, False

    def on_start(self, event: Any) -> None:
        if self.depth == 0:
            if not event.data["dispatcher"].py_func.__module__.startswith("gpuaug."):
                return  # a user's own function
            if getattr(_mode, "only_ready", False):
                raise NotReady
            self.was_collected = gc.isenabled()
            gc.disable()
            if not self.waits and not self.told:
                self.waits = True
                timer = threading.Timer(PATIENCE, self.tell)
                timer.daemon = True
                timer.start()
        self.depth += 1
        if _stopping.is_set():
            raise Stopped

    def on_end(self, event: Any) -> None:
        if self.depth > 0:
            self.depth -= 1
            if self.depth == 0 and self.was_collected:
                gc.enable()

    def tell(self) -> None:
        """Show the message, once per process, while a kernel is compiled: on a terminal or in a notebook, or log it."""
        self.waits = False
        if self.told or self.depth < 1:
            return
        self.told = True
        if "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty()):
            print(COMPILING, file=sys.stderr)
        else:
            logging.getLogger("gpuaug").info(COMPILING)


class _Lock(event.Listener):
    """Listens to threads that are about to wait for Numba's lock, and have released it.

    With `only_ready` a thread takes it here, once more than Numba does: whoever holds it may be about to compile. It
    waits for a thread that loads a kernel, or that compiles another library's function, but not for a kernel.
    """

    def __init__(self) -> None:
        self.lock = compat.compiler_lock()

    def on_start(self, event: Any) -> None:
        if not getattr(_mode, "only_ready", False):
            return
        while self.lock is not None and not self.lock.acquire(timeout=LOOK):
            if watch.depth > 0:
                raise NotReady
        if self.lock is None and watch.depth > 0:
            raise NotReady

    def on_end(self, event: Any) -> None:
        if self.lock is not None and getattr(_mode, "only_ready", False):
            self.lock.release()


watch = _Watch()
event.register("numba:compile", watch)
event.register("numba:compiler_lock", _Lock())

# Called from kernels only: no wrappers to compile, and nothing to optimise before they are linked into a kernel.
_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **compat.linked_only()}
inner: Any = njit(nogil=True, error_model="numpy", **_INNER)
