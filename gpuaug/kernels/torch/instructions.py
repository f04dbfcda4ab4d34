"""Instructions, one for each sample. The host, which knows the opcodes, groups the samples by opcode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.instructions import (
    MATRIX_SIZE,
    Blur,
    Box,
    Branch,
    Convolve,
    Elastic,
    Factor,
    Flip,
    Hue,
    Jpeg,
    Noise,
    Op,
    Warp,
)
from gpuaug.kernels.torch.common import byte, chunks, fma, upload
from gpuaug.kernels.torch.elastic import elastic
from gpuaug.kernels.torch.filter import blur, convolve
from gpuaug.kernels.torch.jpeg import jpeg
from gpuaug.kernels.torch.noise import noise, pixel_normals
from gpuaug.kernels.torch.point import erase, grayscale, hue, look_up, permute, saturation
from gpuaug.kernels.torch.statistics import statistics
from gpuaug.kernels.torch.warp import warp
from gpuaug.program import Instruction, Keys

__all__ = ["Branches", "run_instruction"]

Array = NDArray[Any]


@dataclass
class Branches:
    """State of BRANCH, JOIN and MERGE between instructions: base uint8 and total float32, both (B, C, H, W)."""

    base: Tensor | None = None
    total: Tensor | None = None


@dataclass
class Group:
    """Samples of a chunk that run one opcode, with their rows of the instruction on the host and on the device."""

    opcode: int
    rows: Array
    index: Tensor  # rows, on the device
    operands: Array
    values: Tensor  # operands, on the device
    instruction: Instruction
    keys: Keys
    branches: Branches

    def operand(self, number: int) -> Tensor:
        """(n, 1, 1, 1) float32."""
        return self.values[:, number, None, None, None]

    def part(self, name: str, device: torch.device) -> Tensor:
        return upload(getattr(self.instruction, name)[self.rows], device)


def run_instruction(canvas: Tensor, instruction: Instruction, keys: Keys, branches: Branches) -> Tensor:
    """Run an instruction on the canvas (B, C, H, W) uint8, in place."""
    for opcode in np.unique(instruction.opcode):
        if opcode == Op.IDENTITY:
            continue
        for alike in _alike(instruction, np.flatnonzero(instruction.opcode == opcode)):
            for rows in chunks(alike, canvas[0].numel()):
                operands = instruction.operands[rows]
                index = upload(rows, canvas.device)
                values = upload(operands, canvas.device)
                group = Group(int(opcode), rows, index, operands, values, instruction, keys, branches)
                images = canvas.index_select(0, index)
                canvas.index_copy_(0, index, OPS[group.opcode](images, group, canvas))
    return canvas


STATIC: dict[int, list[int]] = {  # operands that decide which code runs
    Op.WARP: [Warp.INTERPOLATION, Warp.HAS_FILL, Warp.PROJECTIVE],
    Op.BLUR: list(Blur),
    Op.CONVOLVE: list(Convolve),
    Op.NOISE: [Noise.OP],
    Op.ELASTIC: [Elastic.TAPS, Elastic.TAPS + 1, Elastic.INTERPOLATION, Elastic.HAS_FILL],
}


def _alike(instruction: Instruction, rows: Array) -> list[Array]:
    """Split `rows` into groups in which the operands of STATIC are equal."""
    columns = STATIC.get(int(instruction.opcode[rows[0]]))
    if columns is None:
        return [rows]
    _, which = np.unique(instruction.operands[rows][:, columns], axis=0, return_inverse=True)
    which = which.reshape(-1)
    return [rows[which == number] for number in range(which.max() + 1)]


def _statistics(images: Tensor, group: Group, _: Tensor) -> Tensor:
    return statistics(images, group.opcode, group.operand(Factor.FACTOR), group.operand(Factor.REST))


def _sharpness(images: Tensor, group: Group, _: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if height <= 2 or width <= 2:
        return images
    whole = images.int()
    total = 4 * whole[:, :, 1:-1, 1:-1]
    for y in range(3):
        for x in range(3):
            total = total + whole[:, :, y : height - 2 + y, x : width - 2 + x]
    soft = torch.div(2 * total + 13, 26, rounding_mode="floor")  # total / 13, rounded; never a tie
    inner = images[:, :, 1:-1, 1:-1]
    sharp = fma((soft - inner).float(), group.operand(Factor.REST), inner.float())
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = byte(sharp)
    return out


def _warp(images: Tensor, group: Group, _: Tensor) -> Tensor:
    kind = group.operands[0]
    fill = group.part("fill", images.device) if kind[Warp.HAS_FILL] else None
    interpolation, projective = int(kind[Warp.INTERPOLATION]), bool(kind[Warp.PROJECTIVE])
    return warp(images, group.values[:, Warp.MATRIX : Warp.MATRIX + MATRIX_SIZE], fill, interpolation, projective)


def _flip(images: Tensor, group: Group, _: Tensor) -> Tensor:
    images = torch.where(group.operand(Flip.HORIZONTAL) != 0, images.flip(3), images)
    return torch.where(group.operand(Flip.VERTICAL) != 0, images.flip(2), images)


def _blur(images: Tensor, group: Group, _: Tensor) -> Tensor:
    width, height = (int(value) for value in group.operands[0, list(Blur)])
    return blur(images, group.part("kernel", images.device)[:, : width + height].int(), width)


def _convolve(images: Tensor, group: Group, _: Tensor) -> Tensor:
    size, border = (int(value) for value in group.operands[0, list(Convolve)])
    return convolve(images, group.part("kernel", images.device)[:, : size * size].int(), border)


def _noise(images: Tensor, group: Group, _: Tensor) -> Tensor:
    normals = pixel_normals(group.keys, group.rows, int(group.operands[0, Noise.OP]), images.shape[1:], images.device)
    mean, sigma, clip = (group.operand(operand) for operand in (Noise.MEAN, Noise.SIGMA, Noise.CLIP))
    return noise(images, normals, mean, sigma, clip)


def _elastic(images: Tensor, group: Group, _: Tensor) -> Tensor:
    has_fill, interpolation = (group.operands[0, place] for place in (Elastic.HAS_FILL, Elastic.INTERPOLATION))
    fill = group.part("fill", images.device) if has_fill else None
    assert group.instruction.kernel is not None
    return elastic(images, group.operands, group.instruction.kernel[group.rows], fill, int(interpolation))


def _branch(images: Tensor, group: Group, canvas: Tensor) -> Tensor:
    branches = group.branches
    if branches.base is None or branches.total is None:
        branches.base, branches.total = torch.empty_like(canvas), torch.empty_like(canvas, dtype=torch.float32)
    branches.base.index_copy_(0, group.index, images)
    branches.total.index_copy_(0, group.index, images.float() * group.operand(Branch.WEIGHT))
    return images


def _join(images: Tensor, group: Group, canvas: Tensor) -> Tensor:
    branches = group.branches
    assert branches.base is not None
    assert branches.total is not None
    total = branches.total.index_select(0, group.index) + images.float() * group.operand(Branch.WEIGHT)
    branches.total.index_copy_(0, group.index, total)
    return branches.base.index_select(0, group.index)


def _merge(images: Tensor, group: Group, canvas: Tensor) -> Tensor:
    assert group.branches.total is not None
    return byte(group.branches.total.index_select(0, group.index))


OPS: dict[int, Callable[[Tensor, Group, Tensor], Tensor]] = {
    Op.TABLE: lambda images, group, _: look_up(images, group.part("table", images.device)[:, None]),
    Op.CONTRAST: _statistics,
    Op.AUTOCONTRAST: _statistics,
    Op.EQUALIZE: _statistics,
    Op.SATURATION: lambda images, group, _: saturation(
        images, group.operand(Factor.FACTOR), group.operand(Factor.REST)
    ),
    Op.GRAYSCALE: lambda images, group, _: grayscale(images),
    Op.HUE: lambda images, group, _: hue(images, group.operand(Hue.TURN)),
    Op.PERMUTE: lambda images, group, _: permute(images, group.values[:, : images.shape[1]]),
    Op.SHARPNESS: _sharpness,
    Op.WARP: _warp,
    Op.FLIP: _flip,
    Op.BLUR: _blur,
    Op.CONVOLVE: _convolve,
    Op.NOISE: _noise,
    Op.JPEG: lambda images, group, _: jpeg(images, group.values[:, Jpeg.QUALITY].int()),
    Op.ERASE: lambda images, group, _: erase(images, group.values[:, : len(Box)], group.part("fill", images.device)),
    Op.BRANCH: _branch,
    Op.JOIN: _join,
    Op.MERGE: _merge,
    Op.ELASTIC: _elastic,
}
