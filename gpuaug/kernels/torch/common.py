"""Helpers of the torch passes: uploads without waiting, chunks that limit memory, and the arithmetic of levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.instructions import LUMA

__all__ = ["PIXELS_AT_ONCE", "byte", "chunks", "fma", "luma", "upload"]

Array = NDArray[Any]

PIXELS_AT_ONCE = 1 << 22  # limits memory: the float temporaries of a pass are a few times this


def upload(values: Array, device: torch.device) -> Tensor:
    """Copy a host array to `device`. For CUDA it goes through pinned memory, so that the host does not wait."""
    tensor = torch.from_numpy(np.require(values, requirements=["C", "W"]))  # torch warns about read-only arrays
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def chunks(rows: Array, pixels: int) -> Iterator[Array]:
    """Split `rows` into chunks of at most PIXELS_AT_ONCE pixels. `pixels`: the number of pixels of one sample."""
    count = max(1, PIXELS_AT_ONCE // max(pixels, 1))
    for start in range(0, len(rows), count):
        yield rows[start : start + count]


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a * b + c in float32, rounded once, as ATen's `c.add_(b, alpha=a)`.

    A float32 product is exact in float64, and so is the sum of the values that occur here. MPS has no float64: there
    the product is rounded too, and about one level in 10**5 differs by one.
    """
    if a.device.type == "mps":
        return a * b + c
    return (a.double() * b.double() + c.double()).float()


def byte(values: Tensor) -> Tensor:
    """Convert floats to levels as torchvision's kernels do: clamp, then truncate."""
    return values.clamp(0, 255).to(torch.uint8)


def luma(images: Tensor) -> Tensor:
    """(n, 1, H, W) float32, the grey image in whole levels. A one-channel image is returned as float32."""
    if images.shape[1] == 1:
        return images.float()
    r, g, b = (images[:, c].float() for c in range(3))
    weights = np.array(LUMA, np.float32).tolist()
    total = fma(b, torch.full_like(b, weights[2]), fma(g, torch.full_like(g, weights[1]), r * weights[0]))
    return total.floor_()[:, None]
