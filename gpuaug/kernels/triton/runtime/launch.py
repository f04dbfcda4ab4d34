"""The two ways to a device: a kernel launch, and one block of parameters. Everything the backend asks of it is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks, compat
from gpuaug.kernels.triton.common import tile
from gpuaug.kernels.triton.runtime.tape import HERE
from gpuaug.philox import normal_table

__all__ = ["Block", "Room", "constants", "interpreted", "kind", "launch", "options_for", "staging", "tiling", "upload"]

Array = NDArray[Any]

HIP = torch.version.hip is not None
TILES = {  # pixels of a program, (rows, columns)
    "levels": (16, 32),  # four for each of 128 threads, next to one another: a uint8 store of 32 bits
    "floats": (8, 32),  # two, and half the registers: for a mix, draws (stores of 32 bits or more), bilinear warps
    "bicubic": (4, 32),  # one: sixteen taps for two pixels need 113 registers
    "statistics": (16, 64),  # two for each of 512 threads
    "statistics floats": (16, 32),  # one
    "blocks": (4, 64),  # 8 x 8 blocks of JPEG, two pixels for each of 128 threads
}
OPTIONS = {  # of the compiler, for what has such a tile; warps are four else
    "floats": {"maxnreg": 64},  # half the warps of a multiprocessor; without a word ptxas takes up to 72
    "bicubic": {"maxnreg": 64},
    "statistics": {"num_warps": 16, "maxnreg": 64},  # two programs a multiprocessor; else 80 to 107, and one
    "statistics floats": {"num_warps": 16, "maxnreg": 64},
}

PROGRAMS = 2**31 - 1  # of a launch: Triton multiplies the sides of the grid in int32
COMPILED: dict[Any, Any] = {}  # what a launch is specialised on -> the compiled kernel, and the order of its constants
KNOWN: dict[Any, Any] = {}  # the numbers of a launch -> the same; a list and its shapes launch the same always
MOST_KNOWN = 4096  # launches; with ever new shapes they would be without end


def launch(
    kernel: Any,
    grid: Sequence[int],
    *arguments: Any,
    num_warps: int = 4,
    maxnreg: int | None = None,
    **constants: Any,
) -> None:
    """Start a kernel on the current stream of the current device, with at most `maxnreg` registers a thread.

    Fused multiply-adds are off: they round once where the contract rounds twice. A kernel that was launched with
    arguments of this kind before starts without Triton's checks, which cost several times the launch itself.

    Raises:
        ValueError: if the grid has more programs than Triton counts; it would launch nothing and say nothing.
    """
    grid = (*grid, 1, 1)[:3]
    if grid[0] * grid[1] * grid[2] > PROGRAMS:
        got = f"{grid[0]} x {grid[1]} x {grid[2]} programs of {kernel.fn.__name__}"
        raise checks.argument_error(
            "Augment", "images", f"work for at most {PROGRAMS} programs", got, "Use smaller batches."
        )
    numbers = (
        id(kernel), num_warps, maxnreg, arguments[0].device, *constants.values(),
        *[a if a.__class__ is int else kind(a) for a in arguments],
    )  # fmt: skip
    known = KNOWN.get(numbers)
    if known is None:
        known = _compiled(kernel, grid, arguments, num_warps, maxnreg, constants)
        if known is None:  # it was compiled, or interpreted, just now, and has run
            if HERE.tape is not None:
                HERE.tape.whole = False
            return
        if len(KNOWN) >= MOST_KNOWN:
            KNOWN.clear()
        KNOWN[numbers] = known
    compiled, last, _ = known
    if HERE.tape is not None:
        HERE.tape.launch(compiled, grid, (*arguments, *last), (kernel, num_warps, maxnreg, constants))
    compiled[grid](*arguments, *last)


def _compiled(
    kernel: Any, grid: Any, arguments: Any, num_warps: int, maxnreg: int | None, constants: dict[str, Any]
) -> Any:
    """The compiled kernel and its constants in order; None if it had to be compiled first, which launches it too."""
    key = (kernel, num_warps, maxnreg, arguments[0].device, *constants.items(), *map(kind, arguments))
    known = COMPILED.get(key)
    if known is None:
        options = options_for("hip" if HIP else "cuda", num_warps, maxnreg)
        compiled = kernel[grid](*arguments, **options, **constants)
        if compiled is not None:  # the interpreter gives nothing
            last = [constants[name] for name in kernel.arg_names if name in constants]
            COMPILED[key] = compiled, last, kernel  # kept, so that its id stays its own
    return known


def options_for(backend: str, num_warps: int, maxnreg: int | None) -> dict[str, Any]:
    """What Triton's compiler is told, for "cuda" or "hip"."""
    options: dict[str, Any] = {"num_warps": num_warps, "enable_fp_fusion": False}
    if maxnreg is not None and backend == "cuda":  # AMD's compiler has no such option
        options["maxnreg"] = maxnreg
    return options


def kind(argument: Any) -> Any:
    """What Triton compiles for: dtype, alignment and size of a tensor, and of a number if it is 1 or divisible."""
    if isinstance(argument, Tensor):
        aligned = argument.data_ptr() % 16 == 0
        return argument.dtype, aligned, HIP and argument.untyped_storage().nbytes() < 2**31
    return argument == 1, argument % 16 == 0, -(2**31) <= argument < 2**31


def tiling(
    height: int, width: int, batch: int, channels: int, tile: str = "levels"
) -> tuple[tuple[int, int, int], dict[str, int]]:
    """The grid of a pass over canvases, and for `launch` the constants C, BH and BW of its kernel and its options."""
    grid, sizes = _tiling(height, width, batch, channels, *TILES[tile], *OPTIONS.get(tile, {}).items())
    return grid, dict(sizes)


@lru_cache(maxsize=256)
def _tiling(
    height: int, width: int, batch: int, channels: int, rows: int, columns: int, *options: tuple[str, int]
) -> tuple[tuple[int, int, int], dict[str, int]]:
    together = 3 if channels == 3 else 1
    rows, columns = min(rows, _power(height)), min(columns, _power(width))
    grid = (-(-height // rows) * -(-width // columns), batch, channels // together)
    return grid, {"C": together, "BH": rows, "BW": columns, **dict(options)}


def _power(n: int) -> int:
    """The least power of two that is at least `n`."""
    return 1 << (n - 1).bit_length()


@cache
def interpreted() -> bool:
    """True if Triton's interpreter runs the kernels (TRITON_INTERPRET=1): on the CPU, slowly, to look into them."""
    return compat.is_interpreted(tile)


def staging(count: int, device: torch.device) -> Tensor:
    """(count,) int32 on the host, for a CUDA device in pinned memory, which it reads by itself.

    PyTorch's allocator keeps such a block until the copies out of it are done, so calls, streams and threads never
    share one.
    """
    return torch.empty(count, dtype=torch.int32, device="cpu", pin_memory=device.type == "cuda")


def upload(words: Tensor, device: torch.device) -> Tensor:
    """Pinned memory on `device`, by one copy that nobody waits for."""
    return words.to(device, non_blocking=True)


def normals(device: torch.device) -> Tensor:
    """(65536,) float32: the quantiles that per-pixel draws pick from."""
    return constants(normal_table, device)


def constants(make: Callable[[], Array], device: torch.device) -> Tensor:
    """A table that never changes, int32 or float32, on `device`.

    Sent once for each stream and kept: another stream would not wait until it has arrived.
    """
    found = _constants(make, device, torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0)
    if HERE.tape is not None:
        HERE.tape.constants.append(found)
    return found


@cache  # a CUDA graph knows their addresses
def _constants(make: Callable[[], Array], device: torch.device, stream: int) -> Tensor:
    values = make()
    words = staging(len(values), device)
    words.numpy()[:] = values.view(np.int32)
    sent = upload(words, device)
    return sent.view(torch.float32) if values.dtype == np.float32 else sent


class Room:
    """How many words of 32 bits a call's parameters take: a head that all samples share, and a row for each sample."""

    def __init__(self) -> None:
        self.head_words = self.row_words = 0

    def head(self, words: int) -> int:
        """Where so many words will be, from the start of the block."""
        self.head_words += words
        return self.head_words - words

    def row(self, words: int) -> int:
        """Where so many words will be, from the start of a row."""
        self.row_words += words
        return self.row_words - words


class Block:
    """The parameters of a call on the host, ready for `upload`: as integers and as floats, the same memory."""

    def __init__(self, room: Room, size: int, device: torch.device) -> None:
        self.words = staging(room.head_words + size * room.row_words, device)
        self.head = self.words.numpy()
        self.rows = self.head[room.head_words :].reshape(size, room.row_words)
        self.head_floats, self.row_floats = self.head.view(np.float32), self.rows.view(np.float32)
