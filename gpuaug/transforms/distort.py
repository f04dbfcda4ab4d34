"""Photometric distortion, as SSD trains with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.program import Instruction, Op
from gpuaug.transforms import tone
from gpuaug.transforms.base import BETWEEN, Canvas, Draws, Params, Pixel
from gpuaug.transforms.color import GREY_OR_RGB, blend

__all__ = ["RandomPhotometricDistort"]

Array = NDArray[Any]
Span = tuple[float, float]

FACTORS = ("brightness", "contrast", "saturation", "hue")
PARTS = len(FACTORS) + 1  # and the order of the channels


class RandomPhotometricDistort(Pixel):
    """Change brightness, contrast, saturation, hue and the order of the channels, each with its own chance `p`.

    Contrast comes before saturation and hue, or after them, as likely. Liu et al., SSD, arXiv:1512.02325, as
    torchvision. Of a grey image only brightness and contrast change. Tolerances are those of ColorJitter.

    Args:
        brightness: Range (low, high) of the factor, at least 0.
        contrast: Range of the factor, at least 0, about the mean of the grey image.
        saturation: Range of the factor, at least 0; 0 is grey.
        hue: Range of the shift as a fraction of the colour circle, in [-0.5, 0.5].
        p: Chance per sample of each of the five changes.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 2 * len(FACTORS) + 2 + 3
    channels = GREY_OR_RGB

    def __init__(
        self,
        brightness: Span = (0.875, 1.125),
        contrast: Span = (0.5, 1.5),
        saturation: Span = (0.5, 1.5),
        hue: Span = (-0.05, 0.05),
        p: float = 0.5,
    ) -> None:
        self.brightness = checks.interval(self, "brightness", brightness, 0, math.inf)
        self.contrast = checks.interval(self, "contrast", contrast, 0, math.inf)
        self.saturation = checks.interval(self, "saturation", saturation, 0, math.inf)
        self.hue = checks.interval(self, "hue", hue, -0.5, 0.5)
        self.p = checks.probability(self, p)

    def sample(self, draws: Draws, canvas: Canvas) -> Params:
        op, uniforms = next(draws)  # without a gate: `p` is the chance of each change
        params = self.parameters(uniforms[:, 1:], canvas)
        return params | {"applied": params["changed"].any(axis=1), "op": op}

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        """`changed` (B, 5): which of brightness, contrast, saturation, hue and order of the channels change."""
        gates, factors, order = uniforms[:, :PARTS], uniforms[:, PARTS : PARTS + 4], uniforms[:, PARTS + 5 :]
        params: Params = {
            "changed": gates < self.p,
            "contrast_before": uniforms[:, PARTS + 4] < 0.5,
            "permutation": np.argsort(order[:, : canvas.channels], axis=1, kind="stable"),
        }
        for column, name in enumerate(FACTORS):
            low, high = getattr(self, name)
            factor = low + factors[:, column] * (high - low)
            params[f"{name}_factor"] = factor.astype(np.float32).astype(np.float64)  # as torchvision draws it
        return params

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        size, colour = len(canvas), canvas.channels == 3
        bright, contrasted, saturated, turned, permuted = params["changed"].T
        brightness, factor, saturation, hue = (params[f"{name}_factor"] for name in FACTORS)
        contrast, before = blend(Op.CONTRAST, factor), params["contrast_before"]
        steps = [
            (Instruction.of(Op.TABLE, size, table=tone.brightness(brightness)), bright),
            (contrast, contrasted & before),
            (blend(Op.SATURATION, saturation, canvas.channels), saturated),
            (Instruction.of(Op.HUE if colour else Op.IDENTITY, size, 6 * hue), turned),
            (contrast, contrasted & ~before),
            (Instruction.of(Op.PERMUTE, size, *params["permutation"].T), permuted),
        ]
        return [instruction.where(applied) for instruction, applied in steps]

    def describe(self, params: Params, sample: int) -> str:
        *changed, permuted = params["changed"][sample]
        order = (0, 1, 2, 3) if params["contrast_before"][sample] else (0, 2, 3, 1)
        drawn = [(FACTORS[number], params[f"{FACTORS[number]}_factor"][sample]) for number in order if changed[number]]
        parts = [f"{name} {value:+.2f}" if name == "hue" else f"{name} ×{value:.2f}" for name, value in drawn]
        return BETWEEN.join([*parts, "channels"] if permuted else parts)
