"""Masks of a batch: the draw of the images, lowered once more for pixels that are names and not levels.

Windows and warps take the nearest pixel, steps that change levels do nothing. A mask of a wide type is an image whose
channels are the bytes of its numbers, so every backend moves masks with the kernels that it has for images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.engine.builder import Item, ProgramBuilder, compose, same_warp
from gpuaug.engine.render import render
from gpuaug.instructions import Warp
from gpuaug.program import NEAREST, NEAREST_EXACT, Erase, Feature, Instruction, Keys, Mix, Op
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Canvas, Convert, Params, Placement, Transform

__all__ = ["fill_bytes", "mask_items", "mixed_masks", "moved_masks", "take"]

Array = NDArray[Any]

BYTE = 255
PART = 1 << 16  # numbers that are looked at and converted while they lie in the processor's cache


class MaskBuilder(ProgramBuilder):
    """Builds the programs of masks from the same parameters as those of images.

    fill: (C,) uint8, the bytes of a pixel where nothing is. erases: Whether erased boxes are filled with them.
    """

    def __init__(self, keys: Keys, canvas: Canvas, exact: bool, fill: Array, erases: bool) -> None:
        self.fill, self.erases = fill, erases
        self._warps: list[Instruction] = []  # what the instructions of warps were made from
        super().__init__(keys, canvas, exact)

    @property
    def _channels(self) -> int:
        return len(self.fill)

    def window(self, placement: Placement) -> None:
        exact = placement.interpolation == NEAREST_EXACT
        nearest = NEAREST_EXACT if exact else NEAREST
        super().window(replace(placement, interpolation=nearest, antialias=False, fill=self.fill, kinds=None))

    def instructions(self, instructions: list[Instruction], composable: bool = False) -> None:
        for instruction in instructions:
            kinds = instruction.possible & ({Op.WARP, Op.ELASTIC, Op.FLIP} | ({Op.ERASE} if self.erases else set()))
            if not kinds:
                continue
            masked = self._masked(instruction, kinds)
            joins = composable and self._composable and not self.exact and self._warps
            if joins and same_warp(self._warps[-1], instruction):
                self._instructions[-1] = compose(self._instructions[-1], masked)
            else:
                super().instructions([masked])
            self._composable, self._warps = composable, [instruction]

    def _masked(self, instruction: Instruction, kinds: frozenset[int]) -> Instruction:
        """What an instruction does to masks."""
        opcode = np.where(np.isin(instruction.opcode, list(kinds)), instruction.opcode, np.int32(Op.IDENTITY))
        possible = kinds | (instruction.possible & {Feature.PROJECTIVE})
        if instruction.possible - kinds - set(Feature):
            possible |= {Op.IDENTITY}
        if kinds == {Op.FLIP}:
            return Instruction(possible, opcode, instruction.operands)
        operands = instruction.operands.copy()
        warps = (opcode == Op.WARP) | (opcode == Op.ELASTIC)
        operands[warps, Warp.INTERPOLATION], operands[warps, Warp.HAS_FILL] = NEAREST, 1.0
        fill = np.broadcast_to(self.fill.astype(np.float32), (len(opcode), len(self.fill)))
        kernel = instruction.kernel if Op.ELASTIC in kinds else None
        return Instruction(possible, opcode, operands, fill=fill, kernel=kernel)

    def convert(self, step: Convert) -> None:
        """Names of classes stay as they are."""
        self.floats = self.floats or step.makes_floats

    def erase(self, erase: Erase) -> None:
        if self.erases:
            self.instructions([Instruction.of(Op.ERASE, len(erase.box), *erase.box.T)])

    def mix(self, mix: Mix) -> None:
        """Masks are mixed after they were moved, see `mixed_masks`."""

    def call(self, function: Callable[[Tensor], Tensor], canvas: Canvas) -> None:
        self.canvas = canvas


def take(params: Any, rows: Array) -> Any:
    """The parameters of some of the samples, which may repeat."""
    if isinstance(params, dict):
        return {name: take(value, rows) for name, value in params.items()}
    return params[rows] if isinstance(params, np.ndarray) and params.ndim else params


def mask_items(
    steps: Sequence[Transform],
    params: Sequence[Params],
    keys: Keys,
    canvas: Canvas,
    exact: bool,
    memory_format: torch.memory_format,
    fill: Array,
    erases: bool,
) -> list[Item]:
    """The programs that move masks as a draw of `steps` moves the images."""
    builder = MaskBuilder(keys, canvas, exact, fill, erases)
    for step, drawn in zip(steps, params, strict=True):
        if step.moves or erases or step.makes_floats:
            step.lower(drawn, builder)
        else:
            builder.canvas = step.after(builder.canvas, drawn)
    return builder.finish(torch.uint8, memory_format, {len(fill): None})


def fill_bytes(value: float, dtype: torch.dtype, count: int = 1) -> Array:
    """(count * size of dtype,) uint8, the bytes of a value."""
    return torch.tensor([value], dtype=dtype, device="cpu").repeat(count).view(torch.uint8).numpy()


def moved_masks(
    masks: Tensor | Ragged,
    dtype: torch.dtype,
    backend: str,
    items: Callable[[Array, torch.memory_format], list[Item]],
    fill: float,
    planes: bool = False,
) -> Tensor:
    """Masks where a draw has moved them, in the dtype they had.

    Args:
        masks: (R, H, W) of `dtype`, or (R, C, H, W) if `planes`; or Ragged, whose channels are the bytes of one number.
        dtype: Type of the numbers.
        backend: Name of the backend.
        items: Function of fill bytes and memory format that returns the programs of R samples.
        fill: Number where nothing is.
        planes: Whether an image has several masks, which move alike.
    """
    size = dtype.itemsize
    narrow = _narrow(masks, dtype, fill)
    if narrow is not None:
        small, least = narrow
        moved = moved_masks(small, torch.uint8, backend, items, fill - least, planes).to(dtype)
        return moved.add_(least) if least else moved
    if isinstance(masks, Ragged):
        return _numbers(_rendered(masks, backend, items, fill_bytes(fill, dtype), masks.channels), dtype)
    if not planes:
        pixels = masks.contiguous().unsqueeze(-1).view(torch.uint8)  # (R, H, W, bytes)
        return _numbers(_rendered(pixels.permute(0, 3, 1, 2), backend, items, fill_bytes(fill, dtype), size), dtype)
    count = masks.shape[1]
    if size == 1:
        return _rendered(masks.view(torch.uint8), backend, items, fill_bytes(fill, dtype, count), 1).view(dtype)
    rows, height, width = masks.shape[0], *masks.shape[2:]
    flat = masks.permute(0, 2, 3, 1).reshape(-1).view(torch.uint8)  # one plane may have any stride along its axis
    pixels = flat.view(rows, height, width, count * size).permute(0, 3, 1, 2)
    moved = _rendered(pixels, backend, items, fill_bytes(fill, dtype, count), size)
    return moved.permute(0, 2, 3, 1).view(dtype).permute(0, 3, 1, 2).contiguous()


def _narrow(
    masks: Tensor | Ragged, dtype: torch.dtype, fill: float, least: int | None = None
) -> tuple[Tensor | Ragged, int] | None:
    """Masks whose numbers fit into a byte, as such less the least of them: (masks, least); None if they do not fit.

    On the CPU only, where looking at numbers waits for nothing: there one byte moves in a fifth of the time of eight.
    """
    if masks.device.type != "cpu" or dtype not in (torch.int16, torch.int32, torch.int64):
        return None
    flat = masks.data.view(dtype) if isinstance(masks, Ragged) else masks.reshape(-1)
    small = torch.empty(len(flat), dtype=torch.uint8, device="cpu")
    least = min(0, int(fill)) if least is None else least
    for start in range(0, len(flat), PART):
        part, to = flat[start : start + PART], small[start : start + PART]
        low, high = int(part.numpy().min()), max(int(part.numpy().max()), int(fill))  # torch's takes half as long again
        if high - min(low, least) > BYTE:
            return None
        if low < least:
            return _narrow(masks, dtype, fill, min(int(flat.min()), int(fill)))
        to.copy_(part - least if least else part)
    return (Ragged(small, masks.sizes, 1) if isinstance(masks, Ragged) else small.view(masks.shape)), least


def _rendered(source: Tensor | Ragged, backend: str, items: Any, fill: Array, size: int) -> Tensor:
    layout = torch.channels_last if size > 1 else torch.contiguous_format  # the bytes of a number side by side
    moved, _ = render(items(fill, layout), source, backend)
    return moved


def _numbers(moved: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, H, W) of `dtype` from its bytes (R, bytes, H, W)."""
    if dtype.itemsize == 1:
        return moved[:, 0].view(dtype)
    return moved.permute(0, 2, 3, 1).contiguous().view(dtype)[..., 0]


def mixed_masks(
    masks: Tensor, mix: Mix, num_classes: int | None, blends: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Masks as a mix of the images asks for.

    Args:
        masks: (B, H, W) or (B, C, H, W), moved.
        mix: Partners, boxes and weights of the batch.
        num_classes: Number of classes of soft masks, or None.
        blends: Whether any draw of the list blends images, as MixUp does.

    Returns:
        masks: With the partner's in the box that CutMix pastes; or, if the list blends and has `num_classes`, (B,
            [C,] num_classes, H, W) float32 weights. A number that is no class, such as an ignore index, has weight 0.
        partner: The partner's masks, and weight: that of the own masks, (B,) float32; None without a blend or if
            the masks are soft.
    """
    from gpuaug.kernels.torch.common import upload
    from gpuaug.kernels.torch.point import in_box

    device = masks.device
    others = masks.index_select(0, upload(np.ascontiguousarray(mix.partner, np.int64), device))
    inside = in_box(upload(np.ascontiguousarray(mix.box, np.int32), device), masks.shape[-2:], device)
    inside = inside.reshape(len(masks), *[1] * (masks.ndim - 3), *masks.shape[-2:])
    pasted = torch.where(inside, others, masks)
    if not blends:
        return pasted, None, None
    weight = upload(np.ascontiguousarray(mix.weight, np.float32), device)
    if num_classes is None:
        return pasted, others, weight
    share = weight.reshape(-1, *[1] * masks.ndim)
    return _soft(pasted, num_classes) * share + _soft(others, num_classes) * (1.0 - share), None, None


def _soft(masks: Tensor, num_classes: int) -> Tensor:
    """(B, [C,] num_classes, H, W) float32, 1 where a pixel is of the class."""
    classes = torch.arange(num_classes, device=masks.device).to(masks.dtype)[:, None, None]
    return (masks.unsqueeze(-3) == classes).float()
