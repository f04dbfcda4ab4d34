"""Elastic deformation: smooth random shifts of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.instructions import OPERANDS, Elastic
from gpuaug.program import Instruction, Op
from gpuaug.transforms.arguments import INTERPOLATIONS, Fill, Interpolation, fill_row
from gpuaug.transforms.arguments import fill as check_fill
from gpuaug.transforms.arguments import interpolation as check_interpolation
from gpuaug.transforms.base import Canvas, Params, Pixel
from gpuaug.transforms.blur import fixed_point, gaussian
from gpuaug.transforms.geometric import WARPS, warp_kinds

__all__ = ["ElasticTransform"]

Array = NDArray[Any]

STRONGEST = 1e5  # pixels; coordinates of warps are exact far beyond it
SMOOTHEST = 100.0  # pixels; weights are integers of 14 bits, and a kernel of 801 is still 1 % off at most
ONE = 2.0**-29  # what a unit of the smoothed noise counts for, see `Op.ELASTIC`


class ElasticTransform(Pixel):
    """Move every pixel by noise that is drawn for each pixel, in [-1, 1] along x and y, and smoothed by a Gaussian.

    The same as torchvision's ElasticTransform, within 1 level. Boxes and key points move as there: by the shift at the
    pixel of each corner or point, backwards, which is close where shifts are small and smooth. All frames of a clip
    move alike.

    Args:
        alpha: Strength along x and y, one number or (x, y): noise of 1 moves by alpha / 2 pixels.
        sigma: Standard deviation of the Gaussian along x and y in pixels, one number or (x, y); 0 for both smooths
            nothing. Its kernel has 8 * sigma + 1 pixels, and half of it must fit into the image.
        interpolation: "nearest", "bilinear" or "bicubic".
        fill: Level in [0, 255] outside the image, one number or one per channel.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 3
    moves = True

    def __init__(
        self,
        alpha: float | Sequence[float] = 50.0,
        sigma: float | Sequence[float] = 5.0,
        interpolation: Interpolation = "bilinear",
        fill: Fill = 0,
    ) -> None:
        self.alpha, self.sigma = alpha, sigma
        self._alphas = self._pair("alpha", alpha, -STRONGEST, STRONGEST, "pixels")
        self._sigmas = self._pair("sigma", sigma, 0, SMOOTHEST, "pixels")
        if (self._sigmas[0] > 0) != (self._sigmas[1] > 0):
            raise checks.argument_error(self, "sigma", "greater than 0 along both axes, or 0 for both", repr(sigma))
        self.interpolation = check_interpolation(self, interpolation, WARPS)
        self.fill = check_fill(self, fill)
        self._taps = tuple(int(8 * each + 1) | 1 for each in self._sigmas)  # odd, as torchvision's
        self._kernel = self._weights()

    def _pair(self, name: str, value: Any, low: float, high: float, what: str) -> tuple[float, float]:
        values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if len(values) not in (1, 2):
            raise checks.argument_error(self, name, "one number or (x, y)", repr(value))
        first, last = (checks.number(self, name, each, low, high, what) for each in (values[0], values[-1]))
        return first, last

    def _weights(self) -> tuple[int, ...]:
        """The operand `kernel` of one sample: for each plane along x, then along y."""
        sigmas = np.array(self._sigmas)
        return tuple(
            weight
            for taps in self._taps
            for sigma in sigmas
            for weight in fixed_point(gaussian(taps, np.array([sigma])))[0].tolist()
        )

    def check(self, canvas: Canvas) -> None:
        reach, side = max(self._taps) // 2, canvas.sizes.min(axis=0).tolist()
        if reach >= min(side):
            most = (min(side) - 1) // 4
            expected, got = f"at most {most} for images of {side[0]} x {side[1]} pixels", repr(self.sigma)
            raise checks.argument_error(self, "sigma", expected, got, "Resize them first, or use a smaller sigma.")

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        """`noise` (B, 3): three numbers of 24 bits that key the noise of each sample."""
        return {"noise": np.floor(uniforms * 2**24).astype(np.int64)}

    def describe(self, params: Params, sample: int) -> str:
        return "elastic"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        size = len(canvas)
        operands = np.zeros((size, OPERANDS), np.float32)
        operands[:, Elastic.KEY : Elastic.KEY + 3] = params["noise"]
        operands[:, Elastic.SCALE : Elastic.SCALE + 2] = np.array(self._alphas) / 2 * ONE
        operands[:, Elastic.TAPS : Elastic.TAPS + 2] = self._taps
        operands[:, Elastic.INTERPOLATION] = INTERPOLATIONS[self.interpolation]
        operands[:, Elastic.HAS_FILL] = self.fill is not None
        fill = np.broadcast_to(fill_row(self, self.fill, canvas.channels), (size, canvas.channels))
        kernel = np.broadcast_to(np.array(self._kernel, np.int16), (size, len(self._kernel)))
        possible = warp_kinds(self.interpolation) - {Op.WARP} | {Op.ELASTIC}
        return [Instruction(possible, np.full(size, Op.ELASTIC, np.int32), operands, fill=fill, kernel=kernel)]
