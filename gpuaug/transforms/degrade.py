"""Noise and compression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.program import Instruction, Op
from gpuaug.transforms.base import Canvas, Params, Pixel

__all__ = ["JPEG", "GaussianNoise"]

Array = NDArray[Any]

INT16 = "Beyond that, noise leaves the int16 in which it is added to levels, and wraps around in torchvision."


class GaussianNoise(Pixel):
    """Add normal noise, drawn for each pixel and channel.

    Args:
        mean: Mean of the noise, as a fraction of the full range.
        sigma: Standard deviation of the noise, as a fraction of the full range, at least 0.
        clip: Whether to keep levels in [0, 255]; False lets them wrap around, as torchvision does on uint8.
    """

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True) -> None:
        # (20 + 20 * 4.2) * 255 stays inside int16
        self.mean = checks.number(self, "mean", mean, -20, 20, "a fraction", INT16)
        self.sigma = checks.number(self, "sigma", sigma, 0, 20, "a fraction", INT16)
        self.clip = bool(clip)

    def describe(self, params: Params, sample: int) -> str:
        return "noise"

    def detail(self, params: Params, sample: int) -> str:
        return f"noise with a standard deviation of {self.sigma:g} of the full range"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.NOISE, len(canvas), self.mean * 255, self.sigma * 255, self.clip, params["op"])]


class JPEG(Pixel):
    """Compress and decompress, as libjpeg does (4:2:0, integer DCT).

    Args:
        quality: JPEG quality in [1, 100], or (low, high) drawn uniformly, both included.
    """

    draws = 1
    channels = (1, 3)

    def __init__(self, quality: int | Sequence[int]) -> None:
        self.quality = quality
        self._span = self._parse_quality(quality)

    def _parse_quality(self, quality: int | Sequence[int]) -> tuple[int, int]:
        low, high = quality if isinstance(quality, Sequence) and len(quality) == 2 else [quality] * 2
        low, high = checks.integer(self, "quality", low, 1, 100), checks.integer(self, "quality", high, 1, 100)
        if low > high:
            raise checks.argument_error(self, "quality", "(low, high) with low <= high", repr(quality))
        return low, high

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        low, high = self._span
        return {"quality": low + np.floor(uniforms[:, 0] * (high - low + 1)).astype(np.int64)}

    def describe(self, params: Params, sample: int) -> str:
        return f"JPEG quality {params['quality'][sample]}"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.JPEG, len(canvas), params["quality"])]
