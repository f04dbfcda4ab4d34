"""A Triton kernel that reads and writes as many bytes as a recipe must, and does nothing else: nobody can be faster."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["SHAPES", "ReadWrite"]

SHAPES = ((4096, 4), (2048, 4), (8192, 8), (1024, 4))  # values that a program writes, warps: the best counts
ALIGNED = 16  # bytes that a thread reads at once


@triton.jit
def read_write_kernel(source, out, read, total, READ: tl.constexpr, LOADS: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """Each program reads READ bytes in a row and writes BLOCK values in a row, each the sum of a few of them.

    read, total: bytes and values of all programs together; the last program has less to do.
    """
    program = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    values = tl.zeros((BLOCK,), tl.float32)
    for number in tl.static_range(LOADS):
        place = number * BLOCK + places
        at = program * READ + place
        values += tl.load(source + at, mask=(place < READ) & (at < read), other=0).to(tl.float32)
    to = program * BLOCK + places
    tl.store(out + to, values.to(tl.bfloat16), mask=to < total)


class ReadWrite:
    """Reads `read` bytes of a batch and writes bf16 (B, C, size, size), channels_last.

    Args:
        count, channels, size: of the result.
        read: bytes.
        block: values that a program writes, a power of two.
        warps: of a program.
    """

    def __init__(self, count: int, channels: int, size: int, read: int, block: int, warps: int) -> None:
        self.shape = (count, channels, size, size)
        self.block, self.warps = block, warps
        self.total = count * channels * size * size
        self.programs = -(-self.total // block)
        each = read / self.total * block  # bytes of a whole program
        self.read_each = max(ALIGNED, math.ceil(each / ALIGNED) * ALIGNED)
        self.loads = -(-self.read_each // block)
        self.read = read // ALIGNED * ALIGNED  # bytes that are read, all together

    @property
    def written(self) -> int:
        return self.total * 2

    def __call__(self, images: Any, labels: Any = None) -> Tensor:
        """`images`: a contiguous uint8 batch, or Ragged, of `read` bytes at least."""
        data = images if isinstance(images, Tensor) else images.data
        if data.numel() < self.read:
            raise ValueError(f"ReadWrite: `images` must have {self.read} bytes, got {data.numel()}.")
        out = torch.empty(self.shape, dtype=torch.bfloat16, device=data.device, memory_format=torch.channels_last)
        read_write_kernel[(self.programs,)](
            data,
            out,
            self.read,
            self.total,
            READ=self.read_each,
            LOADS=self.loads,
            BLOCK=self.block,
            num_warps=self.warps,
        )
        return out
