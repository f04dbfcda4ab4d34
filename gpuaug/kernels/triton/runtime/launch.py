"""Access to a device: kernel launches, and the block of parameters of a call."""

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
TILES = {  # pixels of a program, (rows, columns); the comments say how many pixels a thread has
    "levels": (16, 32),  # four, of 128 threads; adjacent, so that a uint8 store has 32 bits
    "floats": (8, 32),  # two, with half the registers: for mixes, draws (stores of 32 bits or more), bilinear warps
    "bicubic": (4, 32),  # one: with two, sixteen taps need 113 registers
    "statistics": (16, 64),  # two, of 512 threads
    "statistics floats": (16, 32),  # one
    "blocks": (4, 64),  # 8 x 8 blocks of JPEG: two, of 128 threads
}
OPTIONS = {  # compiler options for kernels with such a tile; the default is four warps
    "floats": {"maxnreg": 64},  # half the warps of a multiprocessor; without it ptxas takes up to 72
    "bicubic": {"maxnreg": 64},
    "statistics": {"num_warps": 16, "maxnreg": 64},  # two programs per multiprocessor, not one (80 to 107)
    "statistics floats": {"num_warps": 16, "maxnreg": 64},
}

PROGRAMS = 2**31 - 1  # limit of a launch: Triton multiplies the sides of the grid in int32
COMPILED: dict[Any, Any] = {}  # specialisation of a launch -> the compiled kernel, and its constants in order
KNOWN: dict[Any, Any] = {}  # the arguments of a launch -> the same; a list with the same shapes has the same launches
MOST_KNOWN = 4096  # limit of KNOWN, which would grow forever if every batch had a new shape


def launch(
    kernel: Any,
    grid: Sequence[int],
    *arguments: Any,
    num_warps: int = 4,
    maxnreg: int | None = None,
    **constants: Any,
) -> None:
    """Start a kernel on the current stream of the current device, with at most `maxnreg` registers a thread.

    Fused multiply-adds are off, as they round once instead of twice. A kernel that was launched before with arguments
    of the same kind starts without Triton's checks, which take several times as long as the launch.

    Raises:
        ValueError: If the grid has more programs than Triton can count. Triton would launch nothing, without an error.
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
        if known is None:  # the kernel was just compiled, or interpreted, and has run
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
        if compiled is not None:  # the interpreter returns None
            last = [constants[name] for name in kernel.arg_names if name in constants]
            COMPILED[key] = compiled, last, kernel  # keeping `kernel` ensures that its id is not reused
    return known


def options_for(backend: str, num_warps: int, maxnreg: int | None) -> dict[str, Any]:
    """Options of Triton's compiler, for "cuda" or "hip"."""
    options: dict[str, Any] = {"num_warps": num_warps, "enable_fp_fusion": False}
    if maxnreg is not None and backend == "cuda":  # AMD's compiler has no such option
        options["maxnreg"] = maxnreg
    return options


def kind(argument: Any) -> Any:
    """What Triton specialises on: dtype, alignment and size of a tensor; for a number, whether it is 1 or divisible."""
    if isinstance(argument, Tensor):
        aligned = argument.data_ptr() % 16 == 0
        return argument.dtype, aligned, HIP and argument.untyped_storage().nbytes() < 2**31
    return argument == 1, argument % 16 == 0, -(2**31) <= argument < 2**31


def tiling(
    height: int, width: int, batch: int, channels: int, tile: str = "levels"
) -> tuple[tuple[int, int, int], dict[str, int]]:
    """The grid of a pass over canvases, and the arguments of `launch`: constants C, BH, BW of the kernel, options."""
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
    """True if Triton's interpreter runs the kernels (TRITON_INTERPRET=1): on the CPU, slowly, for debugging."""
    return compat.is_interpreted(tile)


def staging(count: int, device: torch.device) -> Tensor:
    """Host memory, (count,) int32. For a CUDA device it is pinned, so that the copy runs without the host.

    PyTorch's allocator reuses such a block only after its copies are done, so calls, streams and threads never share
    one.
    """
    return torch.empty(count, dtype=torch.int32, device="cpu", pin_memory=device.type == "cuda")


def upload(words: Tensor, device: torch.device) -> Tensor:
    """Copy pinned memory to `device`. The host does not wait."""
    return words.to(device, non_blocking=True)


def normals(device: torch.device) -> Tensor:
    """Table of quantiles for the draws of each pixel, (65536,) float32."""
    return constants(normal_table, device)


def constants(make: Callable[[], Array], device: torch.device) -> Tensor:
    """A constant table, int32 or float32, on `device`.

    Copied once for each stream and kept. Another stream would not wait for the copy.
    """
    found = _constants(make, device, torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0)
    if HERE.tape is not None:
        HERE.tape.constants.append(found)
    return found


@cache  # never freed: CUDA graphs contain their addresses
def _constants(make: Callable[[], Array], device: torch.device, stream: int) -> Tensor:
    values = make()
    words = staging(len(values), device)
    words.numpy()[:] = values.view(np.int32)
    sent = upload(words, device)
    return sent.view(torch.float32) if values.dtype == np.float32 else sent


class Room:
    """Size of the parameters of a call, in words of 32 bits: a head for all samples, and a row for each sample."""

    def __init__(self) -> None:
        self.head_words = self.row_words = 0

    def head(self, words: int) -> int:
        """Reserve words in the head. Returns their position from the start of the block."""
        self.head_words += words
        return self.head_words - words

    def row(self, words: int) -> int:
        """Reserve words in each row. Returns their position from the start of the row."""
        self.row_words += words
        return self.row_words - words


class Block:
    """The parameters of a call in host memory, for `upload`; the same memory as integers and as floats."""

    def __init__(self, room: Room, size: int, device: torch.device) -> None:
        self.words = staging(room.head_words + size * room.row_words, device)
        self.head = self.words.numpy()
        self.rows = self.head[room.head_words :].reshape(size, room.row_words)
        self.head_floats, self.row_floats = self.head.view(np.float32), self.rows.view(np.float32)
