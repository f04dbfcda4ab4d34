"""The twin: every pass in plain batched torch. It defines the pixels, and runs wherever torch runs."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuaug.kernels.torch.crop import crop
from gpuaug.kernels.torch.finish import finish
from gpuaug.kernels.torch.step import Branches, step
from gpuaug.program import Program
from gpuaug.ragged import Ragged

__all__ = ["render"]


def render(program: Program, source: Tensor | Ragged) -> Tensor:
    """Run one segment: (B, C, h, w) uint8, or what its finish says."""
    if program.window is not None and not (isinstance(source, Tensor) and program.window.copies):
        canvas = crop(source, program.window)
    else:
        assert isinstance(source, Tensor)
        canvas = source.clone(memory_format=torch.contiguous_format) if program.slots else source
    branches = Branches()
    for slot in program.slots:
        canvas = step(canvas, slot, program.keys, branches)
    return canvas if program.finish is None else finish(canvas, program.finish, program.keys)
