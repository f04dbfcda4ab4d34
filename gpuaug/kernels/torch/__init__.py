"""The torch backend: every pass in plain batched torch. It defines the pixels, and runs on every device of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.instructions import Op
from gpuaug.kernels.defaults import drawn, each
from gpuaug.kernels.torch.common import chunks
from gpuaug.kernels.torch.crop import crop
from gpuaug.kernels.torch.finish import finish
from gpuaug.kernels.torch.instructions import Branches, run_instruction
from gpuaug.kernels.torch.labels import labels
from gpuaug.program import Program
from gpuaug.ragged import Ragged

__all__ = ["Job", "drawn", "each", "labels", "prepare", "render"]

Array = NDArray[Any]


class Job:
    """The programs of one call. Nothing is prepared."""

    def __init__(self, programs: Sequence[Program], source: Tensor | Ragged) -> None:
        self.programs = programs

    def run(self, number: int, source: Tensor | Ragged) -> Tensor:
        """Run program `number` on the result of the program before it, or on the batch."""
        return render(self.programs[number], source)

    def labels(self, given: Tensor, num_classes: int | None) -> Tensor:
        """Mix the labels as the last program mixes its samples."""
        finish = self.programs[-1].finish
        assert finish is not None
        assert finish.mix is not None
        return labels(given, num_classes, finish.mix)


prepare = Job


def _parts(program: Program, canvas: Tensor) -> list[Array]:
    """Rows that run the instructions together: all, or chunks if there is a BRANCH, which keeps more canvases."""
    rows = np.arange(len(canvas))
    return list(chunks(rows, canvas[0].numel())) if program.uses(Op.BRANCH) else [rows]


def render(program: Program, source: Tensor | Ragged) -> Tensor:
    """Run one program. Returns (B, C, h, w) uint8, or the dtype and layout of its finish."""
    window = program.window
    if window is not None and not (isinstance(source, Tensor) and window.shows_all((source.shape[2], source.shape[3]))):
        canvas = crop(source, window)
    else:
        assert isinstance(source, Tensor)
        canvas = source.clone(memory_format=torch.contiguous_format) if program.instructions else source
    for rows in _parts(program, canvas):
        part, keys, branches = canvas[rows[0] : rows[-1] + 1], program.keys.take(rows), Branches()
        for instruction in program.instructions:
            run_instruction(part, instruction.take(rows), keys, branches)
    return canvas if program.finish is None else finish(canvas, program.finish, program.keys)
