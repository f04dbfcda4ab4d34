"""Finish: look up values in a table, erase, mix, cast, and write in the memory format."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.kernels.torch.common import chunks, upload
from gpuaug.kernels.torch.noise import pixel_normals
from gpuaug.kernels.torch.point import in_box
from gpuaug.program import Finish, Keys, Mix

__all__ = ["finish"]

Array = NDArray[Any]


def finish(canvas: Tensor, finish: Finish, keys: Keys) -> Tensor:
    """Convert the canvas (B, C, H, W) uint8 to the dtype and memory format of `finish`."""
    device = canvas.device
    out = torch.empty(canvas.shape, dtype=finish.dtype, device=device, memory_format=finish.memory_format)
    for rows in chunks(np.arange(len(canvas)), canvas[0].numel()):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        values = _values(canvas[part], rows, finish, keys)
        if finish.mix is not None:
            values = _mixed(values, canvas, rows, finish, finish.mix, keys)
        out[part] = _cast(values, out.dtype)
    return out


def _mixed(own: Tensor, canvas: Tensor, rows: Array, finish: Finish, mix: Mix, keys: Keys) -> Tensor:
    """Mix the values `own` of samples `rows` with their partners', which are computed again, to save a float canvas."""
    device, partners = canvas.device, mix.partner[rows]
    other = _values(canvas.index_select(0, upload(partners, device)), partners, finish, keys)
    weights = mix.weight[rows].astype(np.float32), (1.0 - mix.weight[rows]).astype(np.float32)
    weight, rest = (upload(values, device)[:, None, None, None] for values in weights)
    blend = torch.where(rest == 0, own, other * rest + own * weight)
    return torch.where(in_box(upload(mix.box[rows], device), canvas.shape[2:], device), other, blend)


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.round().clamp(0, 255).to(dtype) if dtype == torch.uint8 else values.to(dtype)


def _values(canvas: Tensor, rows: Array, finish: Finish, keys: Keys) -> Tensor:
    """(n, C, H, W) float32: the values of samples `rows` after the table and the erasing."""
    device, channels = canvas.device, canvas.shape[1]
    if finish.table is None:
        values = canvas.float()
    else:
        # one flat table of C * 256 entries, and levels shifted by 256 for each channel
        shift = torch.arange(channels, device=device, dtype=torch.int32)[:, None, None] * 256
        values = upload(finish.table, device).flatten()[canvas + shift]
    for erase in finish.erases:
        if not erase.box[rows][:, 2:].any():
            continue
        fill = upload(erase.shift, device)[:, None, None]
        if erase.scale.any():
            normals = pixel_normals(keys, rows, erase.op, canvas.shape[1:], device)
            fill = fill + upload(erase.scale, device)[:, None, None] * normals
        values = torch.where(in_box(upload(erase.box[rows], device), canvas.shape[2:], device), fill, values)
    return values
