"""Step: one instruction per sample. Samples are grouped by opcode on the host, where the opcodes are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from gpuaug.kernels.torch.common import chunks, fma, upload
from gpuaug.kernels.torch.filter import blur, convolve
from gpuaug.kernels.torch.jpeg import jpeg
from gpuaug.kernels.torch.noise import pixel_normals
from gpuaug.kernels.torch.warp import warp
from gpuaug.program import Instruction, Keys, Op

__all__ = ["Branches", "grey", "step"]

Array = NDArray[Any]


@dataclass
class Branches:
    """What BRANCH, JOIN and MERGE keep between instructions: base uint8 and total float32, both (B, C, H, W)."""

    base: Tensor | None = None
    total: Tensor | None = None


@dataclass
class Group:
    """The samples of a chunk that run one opcode: their rows of the instruction, on the host and on the device."""

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


def step(canvas: Tensor, instruction: Instruction, keys: Keys, branches: Branches) -> Tensor:
    """Run an instruction on the canvas (B, C, H, W) uint8, in place."""
    for opcode in np.unique(instruction.opcode):
        if opcode == Op.IDENTITY:
            continue
        for alike in _alike(instruction, np.flatnonzero(instruction.opcode == opcode)):
            for rows in chunks(alike, canvas[0].numel()):
                operands = instruction.operands[rows]
                index = upload(rows, canvas.device)
                group = Group(rows, index, operands, upload(operands, canvas.device), instruction, keys, branches)
                images = canvas.index_select(0, index)
                canvas.index_copy_(0, index, OPS[int(opcode)](images, group, canvas))
    return canvas


STATIC = {
    Op.WARP: (9, 10, 11),
    Op.BLUR: (0, 1),
    Op.CONVOLVE: (0, 1),
    Op.NOISE: (3,),
}  # operands that decide the shape of the work


def _alike(instruction: Instruction, rows: Array) -> list[Array]:
    """`rows` split so that the operands that decide what code runs are equal."""
    columns = STATIC.get(int(instruction.opcode[rows[0]]))
    if columns is None:
        return [rows]
    _, which = np.unique(instruction.operands[rows][:, columns], axis=0, return_inverse=True)
    which = which.reshape(-1)
    return [rows[which == number] for number in range(which.max() + 1)]


def levels(values: Tensor) -> Tensor:
    """Floats to uint8 as torchvision's kernels do it: clamp, then truncate."""
    return values.clamp(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """(n, 1, H, W) float32 whole levels; a grey image is its own."""
    if images.shape[1] == 1:
        return images.float()
    r, g, b = (images[:, c].float() for c in range(3))  # ITU-R BT.601, as torchvision
    weights = np.array([0.2989, 0.587, 0.114], np.float32).tolist()
    total = fma(b, torch.full_like(b, weights[2]), fma(g, torch.full_like(g, weights[1]), r * weights[0]))
    return total.floor_()[:, None]


def _look_up(images: Tensor, table: Tensor) -> Tensor:
    """`table` (n, C or 1, 256) uint8."""
    n, channels = images.shape[:2]
    index = images.flatten(2).long()
    return table.expand(n, channels, 256).gather(2, index).view_as(images)


def _table(images: Tensor, group: Group, _: Tensor) -> Tensor:
    return _look_up(images, group.part("table", images.device)[:, None])


def _blend(images: Tensor, group: Group, other: Tensor) -> Tensor:
    return levels(fma(other.expand_as(images), group.operand(1), images.float() * group.operand(0)))


def _contrast(images: Tensor, group: Group, _: Tensor) -> Tensor:
    total = grey(images).sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64)
    # a tensor on the device: CUDA multiplies by the reciprocal of a scalar
    mean = total.float() / torch.full_like(total, images[0, 0].numel(), dtype=torch.float32)
    return _blend(images, group, mean)


def _saturation(images: Tensor, group: Group, _: Tensor) -> Tensor:
    return _blend(images, group, grey(images))


def _grayscale(images: Tensor, group: Group, _: Tensor) -> Tensor:
    return levels(grey(images)).expand_as(images)


def _autocontrast(images: Tensor, group: Group, _: Tensor) -> Tensor:
    """As torchvision's, for any number of channels, but without writing by a mask: MPS and XPU wait there."""
    values = images.float()
    low, high = values.amin(dim=(2, 3), keepdim=True), values.amax(dim=(2, 3), keepdim=True)
    flat = high == low
    scale = torch.where(flat, 1.0, (high - low) * (1.0 / 255))
    return levels((values - torch.where(flat, 0.0, low)) / scale)


def _equalize(images: Tensor, group: Group, _: Tensor) -> Tensor:
    return functional.equalize(images)


def _hue(images: Tensor, group: Group, _: Tensor) -> Tensor:
    """Turn the colour circle, in six sectors, without a branch: channel = max - chroma * ramp(hue + offset)."""
    r, g, b = (images[:, c].float() for c in range(3))
    high, low = torch.maximum(r, torch.maximum(g, b)), torch.minimum(r, torch.minimum(g, b))
    chroma = high - low
    red, green = high == r, high == g
    difference = torch.where(red, g - b, torch.where(green, b - r, r - g))
    sector = torch.where(red, 0.0, torch.where(green, 2.0, 4.0))
    hue = difference / chroma.clamp(min=1) + sector
    hue = hue + group.operand(0)[:, 0]
    sixth = float(np.float32(1 / 6))
    to_level = float(np.float32(255.999 / 255))  # torchvision's way back from [0, 1]
    out = []
    for offset in (5.0, 3.0, 1.0):
        k = hue + offset
        k = k - 6.0 * torch.floor(k * sixth)
        ramp = torch.minimum(k, 4.0 - k).clamp(max=1.0).clamp(min=0.0)
        out.append((high - chroma * ramp) * to_level)
    return levels(torch.stack(out, dim=1))


def _permute(images: Tensor, group: Group, _: Tensor) -> Tensor:
    order = group.values[:, : images.shape[1]].long()[:, :, None, None]
    return images.gather(1, order.expand_as(images))


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
    sharp = fma((soft - inner).float(), group.operand(1), inner.float())
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = levels(sharp)
    return out


def _warp(images: Tensor, group: Group, _: Tensor) -> Tensor:
    kind = group.operands[0]
    fill = group.part("fill", images.device) if kind[10] else None
    return warp(images, group.values[:, :9], fill, int(kind[9]), bool(kind[11]))


def _flip(images: Tensor, group: Group, _: Tensor) -> Tensor:
    images = torch.where(group.operand(0) != 0, images.flip(3), images)
    return torch.where(group.operand(1) != 0, images.flip(2), images)


def _blur(images: Tensor, group: Group, _: Tensor) -> Tensor:
    width, height = (int(value) for value in group.operands[0, :2])
    return blur(images, group.part("kernel", images.device)[:, : width + height].int(), width)


def _convolve(images: Tensor, group: Group, _: Tensor) -> Tensor:
    size, border = (int(value) for value in group.operands[0, :2])
    return convolve(images, group.part("kernel", images.device)[:, : size * size].int(), border)


def _noise(images: Tensor, group: Group, _: Tensor) -> Tensor:
    op = int(group.operands[0, 3])
    z = pixel_normals(group.keys, group.rows, op, images.shape[1:], images.device)
    noise = (z * group.operand(1) + group.operand(0)).to(torch.int16)  # truncated, as torchvision
    total = images + noise
    return torch.where(group.operand(2) != 0, total.clamp(0, 255), total & 255).to(torch.uint8)


def _jpeg(images: Tensor, group: Group, _: Tensor) -> Tensor:
    return jpeg(images, group.values[:, 0].int())


def _erase(images: Tensor, group: Group, _: Tensor) -> Tensor:
    box = group.values[:, :4]
    fill = group.part("fill", images.device).to(torch.uint8)[:, :, None, None]
    return torch.where(in_box(box, images.shape[2:], images.device), fill, images)


def in_box(box: Tensor, size: torch.Size, device: torch.device) -> Tensor:
    """(n, 1, H, W) bool: inside (top, left, height, width)."""
    y, x = torch.arange(size[0], device=device)[:, None], torch.arange(size[1], device=device)
    top, left, height, width = (box[:, c, None, None, None] for c in range(4))
    return (y >= top) & (y < top + height) & (x >= left) & (x < left + width)


def _branch(images: Tensor, group: Group, canvas: Tensor) -> Tensor:
    branches = group.branches
    if branches.base is None or branches.total is None:
        branches.base, branches.total = torch.empty_like(canvas), torch.empty_like(canvas, dtype=torch.float32)
    branches.base.index_copy_(0, group.index, images)
    branches.total.index_copy_(0, group.index, images.float() * group.operand(0))
    return images


def _join(images: Tensor, group: Group, canvas: Tensor) -> Tensor:
    branches = group.branches
    assert branches.base is not None
    assert branches.total is not None
    total = branches.total.index_select(0, group.index) + images.float() * group.operand(0)
    branches.total.index_copy_(0, group.index, total)
    return branches.base.index_select(0, group.index)


def _merge(images: Tensor, group: Group, canvas: Tensor) -> Tensor:
    assert group.branches.total is not None
    return levels(group.branches.total.index_select(0, group.index))


OPS: dict[int, Callable[[Tensor, Group, Tensor], Tensor]] = {
    Op.TABLE: _table, Op.CONTRAST: _contrast, Op.AUTOCONTRAST: _autocontrast, Op.EQUALIZE: _equalize,
    Op.SATURATION: _saturation, Op.GRAYSCALE: _grayscale, Op.HUE: _hue, Op.PERMUTE: _permute,
    Op.SHARPNESS: _sharpness, Op.WARP: _warp, Op.FLIP: _flip, Op.BLUR: _blur, Op.CONVOLVE: _convolve,
    Op.NOISE: _noise, Op.JPEG: _jpeg, Op.ERASE: _erase, Op.BRANCH: _branch, Op.JOIN: _join, Op.MERGE: _merge,
}  # fmt: skip
