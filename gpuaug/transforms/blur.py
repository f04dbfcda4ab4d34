"""Blurs, which mix each pixel with its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.instructions import Q14
from gpuaug.program import CIRCULAR, CONSTANT, EDGE, REFLECT, Instruction, Op
from gpuaug.transforms.arguments import Interpolation, Range, Size, symmetric
from gpuaug.transforms.base import Canvas, Params, Pixel

__all__ = ["GaussianBlur", "MotionBlur"]

Array = NDArray[Any]

LONGEST_KERNEL = 127  # keeps 127 * 255 * Q14 inside int32
BORDERS = {"constant": CONSTANT, "replicate": EDGE, "reflect": REFLECT, "circular": CIRCULAR}


def fixed_point(weights: Array) -> Array:
    """(B, n) weights that sum to 1, as int16 that sum to Q14; the largest takes up the rounding."""
    fixed = np.floor(weights * Q14 + 0.5).astype(np.int64)
    fixed[np.arange(len(fixed)), weights.argmax(axis=1)] += Q14 - fixed.sum(axis=1)
    return fixed.astype(np.int16)


def check_kernel(owner: object, argument: str, value: Any, low: int = 1) -> int:
    size = checks.integer(owner, argument, value, low, LONGEST_KERNEL)
    if size % 2 == 0:
        raise checks.argument_error(owner, argument, f"odd, in [{low}, {LONGEST_KERNEL}], in pixels", repr(value))
    return size


class GaussianBlur(Pixel):
    """Blur with a Gaussian whose sigma is drawn uniformly; reflected border. Within 1 level of torchvision.

    Args:
        kernel_size: Odd number of pixels, or (width, height); at most 127.
        sigma: Standard deviation in pixels: (low, high) or one number.
    """

    draws = 1

    def __init__(self, kernel_size: Size, sigma: Range = (0.1, 2.0)) -> None:
        self.kernel_size, self.sigma = kernel_size, sigma
        width, height = checks.size(self, kernel_size, "kernel_size")
        self._lengths = check_kernel(self, "kernel_size", width), check_kernel(self, "kernel_size", height)
        self._span = self._parse_sigma(sigma)

    def _parse_sigma(self, sigma: Range) -> tuple[float, float]:
        span = sigma if isinstance(sigma, Sequence) or not checks.is_number(sigma) else (sigma, sigma)
        span = (span[0], span[0]) if isinstance(span, Sequence) and len(span) == 1 else span
        low, high = checks.interval(self, "sigma", span, 0, math.inf, "in pixels")
        if low <= 0:
            raise checks.argument_error(self, "sigma", "greater than 0, in pixels", repr(sigma))
        return low, high

    def check(self, canvas: Canvas) -> None:
        height, width = canvas.sizes.min(axis=0).tolist()
        for length, side in zip(self._lengths, (width, height), strict=True):
            if length // 2 >= side:
                raise checks.argument_error(
                    self, "kernel_size", f"less than twice the image ({height}, {width})", self.kernel_size
                )

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        low, high = self._span
        return {"sigma": low + uniforms[:, 0] * (high - low)}

    def describe(self, params: Params, sample: int) -> str:
        return f"blur {params['sigma'][sample]:.1f} px"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        width, height = self._lengths
        kernel = np.concatenate([fixed_point(gaussian(length, params["sigma"])) for length in (width, height)], axis=1)
        return [Instruction.of(Op.BLUR, len(canvas), width, height, kernel=kernel)]


def gaussian(length: int, sigma: Array) -> Array:
    """(B, length) weights that sum to 1. torchvision measures x in units of sqrt(2), so exp(-(x / sigma)**2)."""
    limit = (length - 1) / (2 * math.sqrt(2))
    exponent = -((np.linspace(-limit, limit, length) / np.maximum(sigma, 1e-9)[:, None]) ** 2)
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


class MotionBlur(Pixel):
    """Blur along a line, as Kornia's RandomMotionBlur. Within 1 level of it.

    Args:
        kernel_size: Odd number of pixels, at least 3 and at most 127.
        angle: Range of the line's angle, degrees counter-clockwise, or one number for (-angle, angle).
        direction: Range in [-1, 1] of the weight's position along the line, or one number for (-x, x); 0 is even.
        border_type: "constant" (black), "reflect", "replicate" or "circular".
        resample: Interpolation when the line is rotated, "nearest" or "bilinear".
        p: Chance per sample.
    """

    draws = 2
    torchvision = None

    def __init__(
        self,
        kernel_size: int,
        angle: Range,
        direction: Range,
        border_type: str = "constant",
        resample: Interpolation = "nearest",
        p: float = 0.5,
    ) -> None:
        self.kernel_size = check_kernel(self, "kernel_size", kernel_size, 3)
        self.angle, self.direction = angle, direction
        self._spans = (
            checks.interval(self, "angle", symmetric(angle), -360, 360),
            checks.interval(self, "direction", symmetric(direction), -1, 1),
        )
        self.border_type = checks.one_of(self, "border_type", border_type, list(BORDERS))
        self._border = BORDERS[self.border_type]
        self.resample = checks.one_of(self, "resample", getattr(resample, "value", resample), ("nearest", "bilinear"))
        self.p = checks.probability(self, p)

    def check(self, canvas: Canvas) -> None:
        slack = {"reflect": 0, "circular": 1}.get(self.border_type)
        size = tuple(canvas.sizes.min(axis=0).tolist())
        if slack is not None and self.kernel_size // 2 >= min(size) + slack:
            remedy = 'Use border_type="replicate".'
            raise checks.argument_error(
                self, "kernel_size", f"less than twice the image {size}", self.kernel_size, remedy
            )

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        low, high = np.array(self._spans).T
        angle, direction = (low + uniforms * (high - low)).T
        return {"degrees": angle, "direction": direction}

    def describe(self, params: Params, sample: int) -> str:
        return f"motion blur {params['degrees'][sample]:.0f}°"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        """The instructions for every sample, as if all were applied.

        Raises:
            ModuleNotFoundError: If Kornia, whose weights it uses, is not installed.
        """
        try:
            from kornia.filters import get_motion_kernel2d  # here: importing Kornia takes longer than gpuaug
        except ModuleNotFoundError as error:
            said = f"its weights come from Kornia, which cannot be imported here ({error})"
            raise ModuleNotFoundError(f'MotionBlur: {said}. Run pip install "kornia>=0.8".') from error
        # float32 angles, as Kornia draws them: nearest has ties, and they fall by the last bit
        angle, direction = (torch.from_numpy(params[name].astype(np.float32)) for name in ("degrees", "direction"))
        with torch.device("cpu"):  # whatever the default is
            kernel = get_motion_kernel2d(self.kernel_size, angle, direction, self.resample).flatten(1).numpy()
        weights = fixed_point(kernel.astype(np.float64))
        return [Instruction.of(Op.CONVOLVE, len(canvas), self.kernel_size, self._border, kernel=weights)]
