"""Random erasing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.program import Erase, Instruction, Op
from gpuaug.transforms.base import Builder, Canvas, Params, Pixel
from gpuaug.transforms.fitting import TRIES, first_fit

__all__ = ["RandomErasing"]

Array = NDArray[Any]

DRAWS = 2 * TRIES + 2  # uniforms of a box
MOST = 1e9  # value on levels; ATen casts it through an int64


class RandomErasing(Pixel):
    """Erase a box of random area and aspect ratio. Zhong et al., arXiv:1708.04896, as torchvision.

    Before ToDtype it erases uint8 levels, after it floats; `value` is on the scale of pixels at that place in the list.
    On levels it is cut off to an integer, and wraps around outside [0, 255], as in torchvision: -1 is 255.

    Args:
        p: Chance per sample.
        scale: Range of the box's area, as a fraction of the image's area, in [0, 1].
        ratio: Range of the box's height / width, log-uniform.
        value: One number, one number for each channel, or "random": standard normal for each pixel and channel (only
            after ToDtype; uint8 levels of 0, 1, -1 would not be noise).
        inplace: No effect, accepted as in torchvision; the input batch is never written to.
        max_count: Most boxes per sample, in [1, 16]: their number is drawn from 1 to this, and each has its part of the
            area (timm's `max_count`).

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | Sequence[float] | str = 0.0,
        inplace: bool = False,
        max_count: int = 1,
    ) -> None:
        self.p = checks.probability(self, p)
        self.scale = checks.interval(self, "scale", scale, 0, 1)
        self.ratio = checks.interval(self, "ratio", ratio, 1e-6, 1e6)
        values = value if isinstance(value, Sequence) else [value]
        if value != "random" and (isinstance(value, str) or not values or not all(map(checks.is_number, values))):
            raise checks.argument_error(self, "value", 'a number, one for each channel, or "random"', repr(value))
        self.value, self.inplace = value, inplace
        self._values = () if value == "random" else tuple(values)
        self.max_count = checks.integer(self, "max_count", max_count, 1, 16, "Each box is a pass over its pixels.")
        self.draws = DRAWS if self.max_count == 1 else 1 + DRAWS * self.max_count

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        if self.max_count == 1:
            return {"box": self._box(uniforms, canvas)}
        count = 1 + np.floor(uniforms[:, 0] * self.max_count).astype(np.int64)
        each = uniforms[:, 1:].reshape(len(uniforms), self.max_count, DRAWS)
        boxes = np.stack([self._box(each[:, number], canvas, count) for number in range(self.max_count)], axis=1)
        return {"count": count, "box": boxes * (np.arange(self.max_count) < count[:, None])[..., None]}

    def _box(self, uniforms: Array, canvas: Canvas, count: Array | None = None) -> Array:
        """(B, 4) int32: a box with the area of one of `count`; of size 0 if no try fits."""
        height, width = canvas.sizes.T
        # torchvision's ratio is height / width here, width / height in RandomResizedCrop
        w, h, found = first_fit(uniforms, width, height, self._fits, self.scale, self.ratio, count)
        box = np.empty((len(canvas), 4), np.int32)
        box[:, 0] = np.floor(uniforms[:, -2] * (height - h + 1))
        box[:, 1] = np.floor(uniforms[:, -1] * (width - w + 1))
        box[:, 2], box[:, 3] = h, w
        box *= found[:, None]
        return box

    def _boxes(self, params: Params) -> list[Array]:
        """(B, 4) for each of the most boxes."""
        box: Array = params["box"]
        return [box] if self.max_count == 1 else list(box.swapaxes(0, 1))

    @staticmethod
    def _fits(w: Array, h: Array, width: Array, height: Array) -> Array:
        return (h < height) & (w < width)

    def _row(self, channels: int) -> Array:
        """(C,) float32 values, one for each channel."""
        if len(self._values) not in (1, channels):
            expected = f"one number or {channels}, one for each channel"
            raise checks.argument_error(self, "value", expected, repr(self.value))
        return np.broadcast_to(np.asarray(self._values, np.float32), (channels,))

    def check_order(self, argument: str, floats: bool) -> None:
        if not floats and self.value == "random":
            expected = (
                'with RandomErasing(value="random") on floats, since normal noise has no levels but 0, 1, 2 and -1, -2'
            )
            remedy = "Put it after ToDtype and Normalize."
            raise checks.argument_error("Augment", argument, expected, "it on uint8", remedy)

    def lower(self, params: Params, builder: Builder) -> None:
        if builder.floats:
            for box in self._boxes(params):
                builder.erase(self.erase({**params, "box": box}, builder.canvas))
        else:
            super().lower(params, builder)

    def describe(self, params: Params, sample: int) -> str:
        return "erase" if self.max_count == 1 else f"erase {params['count'][sample]}"

    def detail(self, params: Params, sample: int) -> str:
        top, left, height, width = params["box"][sample]
        return f"{height} × {width} px at ({top}, {left}) erased" if height else "no box fitted"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        """The instructions for every sample, as if all were applied.

        Raises:
            ValueError: If `value` is "random", beyond 1e9, or of another length than the channels.
        """
        if self.value == "random":
            remedy = "Put RandomErasing after ToDtype and Normalize."
            raise checks.argument_error(
                self, "value", "a number before ToDtype, where pixels are uint8", repr(self.value), remedy
            )
        values = self._row(canvas.channels)
        if (np.abs(values) > MOST).any():
            raise checks.argument_error(
                self, "value", f"in [-{MOST:g}, {MOST:g}] before ToDtype, where pixels are uint8", repr(self.value)
            )
        levels = (np.trunc(values).astype(np.int64) % 256).astype(np.float32)  # as ATen casts
        fill = np.broadcast_to(levels, (len(canvas), canvas.channels))
        return [Instruction.of(Op.ERASE, len(canvas), *box.T, fill=fill) for box in self._boxes(params)]

    def erase(self, params: Params, canvas: Canvas) -> Erase:
        """The same for floats, as a box for the last pass."""
        box = np.where(params["applied"][:, None], params["box"], 0).astype(np.int32)
        if self.value == "random":
            shift, scale = np.zeros(canvas.channels, np.float32), np.ones(canvas.channels, np.float32)
        else:
            shift, scale = self._row(canvas.channels), np.zeros(canvas.channels, np.float32)
        return Erase(box, shift, scale, params["op"])
