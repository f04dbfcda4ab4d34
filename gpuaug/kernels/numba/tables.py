"""Composition of tables by NumPy, without any compilation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpuaug.instructions import Op
from gpuaug.kernels.numba import finish as finishing
from gpuaug.program import Instruction

__all__ = ["KINDS", "LEVELS", "composed", "tables"]

Array = NDArray[Any]

LEVELS = np.arange(256, dtype=np.uint8)

KINDS = {  # output dtype -> (numpy dtype that holds its bits, code for `finish`)
    torch.float32: (np.float32, finishing.FLOAT32),
    torch.float16: (np.uint16, finishing.FLOAT16),
    torch.bfloat16: (np.uint16, finishing.BFLOAT16),
    torch.uint8: (np.uint8, finishing.UINT8),
}


def composed(instructions: Sequence[Instruction], size: int, channels: int) -> Array | None:
    """(B, C, 256) uint8: all instructions as one table for each channel; None if some are not tables.

    So a list that has only tables does not compile `run_instructions`, the largest kernel.
    """
    if any(not instruction.possible <= {Op.IDENTITY, Op.TABLE} for instruction in instructions):
        return None
    own = [(one.opcode == Op.TABLE, one.table) for one in instructions if one.table is not None]
    if not own:
        return _levels(size, channels)
    found = np.where(own[0][0][:, None], own[0][1], LEVELS)
    for rows, table in own[1:]:
        found[rows] = np.take_along_axis(table[rows], found[rows].astype(np.intp), axis=1)
    return np.repeat(found[:, None], channels, axis=1)


@lru_cache(maxsize=16)
def _levels(size: int, channels: int) -> Array:
    """(B, C, 256): the identity tables. Never written to, but not read-only, for which Numba would compile again."""
    return np.tile(LEVELS, (size, channels, 1))


_tables: dict[Any, tuple[Array | None, Array, Array]] = {}


def tables(given: Array | None, channels: int, dtype: torch.dtype) -> tuple[Array, Array]:
    """The finish table (C, 256) as float32, and cast to the output's dtype. Cached, as both depend on the list only."""
    found = _tables.get((id(given), channels, dtype))
    if found is None:
        kind, levels = KINDS[dtype][0], np.arange(256, dtype=np.float32)
        table = np.array(np.broadcast_to(levels, (channels, 256)) if given is None else given, np.float32)
        cast = torch.from_numpy(table).round() if kind is np.uint8 else torch.from_numpy(table)
        cast = cast.to(dtype)
        if len(_tables) >= 64:
            _tables.clear()
        bits = (cast.view(torch.int16) if kind is np.uint16 else cast).numpy().view(kind)
        found = given, table, bits  # keeping `given` ensures that its id is not reused
        _tables[id(given), channels, dtype] = found
    return found[1], found[2]
