"""Triton's interpreter, where it is not what a GPU does, and hooks that watch every load and store."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

from gpuaug.kernels.triton import launch

__all__ = ["mend", "whole_images"]

Builder = interpreter.InterpreterBuilder


def mend() -> None:
    """Round float32 to bfloat16 to nearest, and multiply-adds once: the interpreter (of some versions) does not."""
    original = Builder.cast_impl

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        if source.dtype.scalar == tl.float32 and target.scalar == tl.bfloat16:
            values = np.ascontiguousarray(source.data)
            bits = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
            return interpreter.TensorHandle(bits.reshape(values.shape), tl.bfloat16)
        return original(self, source, target)

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        if z.data.dtype == np.float32:  # exact in float64 for the values that occur here
            total = (x.data.astype(np.float64) * y.data + z.data).astype(np.float32)
            return interpreter.TensorHandle(total, z.dtype.scalar)
        return interpreter.TensorHandle(x.data * y.data + z.data, z.dtype.scalar)

    binary_op = Builder.binary_op

    def quiet(self: Any, left: Any, right: Any, operation: Any) -> Any:
        with np.errstate(all="ignore"):  # division by zero is infinite, as on the device
            return binary_op(self, left, right, operation)

    Builder.binary_op = quiet
    Builder.cast_impl = cast_impl
    Builder.create_fma = create_fma


def whole_images() -> None:
    """One program for a whole image: the interpreter's cost is per program, not per pixel."""
    for name in launch.TILES:
        launch.TILES[name] = (64, 64) if name == "blocks" else (1024, 1024)
