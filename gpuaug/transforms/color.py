"""Colour: tables, grey blends, hue, sharpness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.instructions import Factor, Hue
from gpuaug.program import OPERANDS, Instruction, Op
from gpuaug.transforms import tone
from gpuaug.transforms.arguments import Range
from gpuaug.transforms.base import BETWEEN, Canvas, Params, Pixel, Transform

__all__ = [
    "RGB", "ColorJitter", "Grayscale", "RandomAdjustSharpness", "RandomAutocontrast", "RandomChannelPermutation",
    "RandomEqualize", "RandomGrayscale", "RandomInvert", "RandomPosterize", "RandomSolarize",
]  # fmt: skip

Array = NDArray[Any]
GREY_OR_RGB = (1, 3)
INVERTS = "RandomInvert inverts every level."  # torchvision wraps an integer below 0 around, and raises above 255


def blend(opcode: int, factor: Array, channels: int = 3) -> Instruction:
    """CONTRAST, SATURATION or SHARPNESS by `factor` (B,); the complement is taken in float64, as torchvision does."""
    if opcode == Op.SATURATION and channels == 1:
        opcode = Op.IDENTITY  # grey already, as torchvision and Pillow
    return Instruction.of(opcode, len(factor), factor, 1.0 - factor.astype(np.float64))


def jitter_range(
    owner: object, argument: str, value: Range | None, center: float, low: float, high: float
) -> tuple[float, float] | None:
    """torchvision's reading of a jitter argument: None or no change is None, a number is `center` +- number."""
    if value is None:
        return None
    if checks.is_number(value):
        amount = checks.number(owner, argument, value, 0, high if center == 0 else math.inf)
        span = max(center - amount, low), center + amount
    else:
        span = checks.interval(owner, argument, value, low, high)
    return None if span == (center, center) else span


class ColorJitter(Pixel):
    """Change brightness, contrast, saturation and hue, in an order drawn per sample.

    Args:
        brightness: Range (low, high) of the factor, or one number for (max(0, 1 - x), 1 + x). None: unchanged.
        contrast: Range of the factor, written as for brightness, about the mean of the grey image.
        saturation: Range of the factor, written as for brightness; 0 is grey.
        hue: Range of the shift as a fraction of the colour circle, in [-0.5, 0.5], or one number for (-x, x).

    A grey image keeps its saturation and hue. Hue is within 1 level of torchvision, the rest is bit-equal, with two
    exceptions in contrast, here and in the policies, where torchvision's result depends on the processor and may differ
    by one level: ATen rounds the last few values of an image once more than the others, unless channels * height *
    width is a multiple of its vector length; and if the grey levels of an image add up to more than 2**24, its float32
    mean depends on the order of the sum. Here the mean is exact, and all values are rounded in the same way.
    """

    draws = 8
    channels = GREY_OR_RGB

    def __init__(
        self,
        brightness: Range | None = None,
        contrast: Range | None = None,
        saturation: Range | None = None,
        hue: Range | None = None,
    ) -> None:
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self._spans = self._ranges()

    def _ranges(self) -> dict[str, tuple[float, float] | None]:
        factors = {
            name: jitter_range(self, name, getattr(self, name), 1.0, 0.0, math.inf)
            for name in ("brightness", "contrast", "saturation")
        }
        return factors | {"hue": jitter_range(self, "hue", self.hue, 0.0, -0.5, 0.5)}

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        params: Params = {"order": np.argsort(uniforms[:, 4:], axis=1, kind="stable")}
        for column, (name, span) in enumerate(self._spans.items()):
            if span is not None:
                factor = span[0] + uniforms[:, column] * (span[1] - span[0])
                params[f"{name}_factor"] = factor.astype(np.float32).astype(np.float64)  # as torchvision draws it
        return params

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        size, colour = len(canvas), canvas.channels == 3
        codes = {
            "brightness": Op.TABLE,
            "contrast": Op.CONTRAST,
            "saturation": Op.SATURATION if colour else Op.IDENTITY,
            "hue": Op.HUE if colour else Op.IDENTITY,
        }
        names = [name for name in codes if f"{name}_factor" in params]
        if not names:
            return []
        # each step's opcode and operands, then in the order drawn
        opcode = np.array([codes[name] for name in names], np.int32)
        operands = np.zeros((len(names), size, OPERANDS), np.float32)
        for step, name in enumerate(names):
            factor = params[f"{name}_factor"]
            if name == "hue":
                operands[step, :, Hue.TURN] = 6 * factor
            elif name != "brightness":
                operands[step, :, Factor.FACTOR] = factor
                operands[step, :, Factor.REST] = 1.0 - factor.astype(np.float64)
        table = tone.brightness(params["brightness_factor"]) if "brightness" in names else None
        possible, rows, order = frozenset({Op.IDENTITY, *opcode.tolist()}), np.arange(size), params["order"]
        if len(names) < len(codes):  # rank of each kept step within the drawn order
            kept = [list(codes).index(name) for name in names]
            order = np.argsort(np.argsort(order, axis=1)[:, kept], axis=1)
        return [Instruction(possible, opcode[place], operands[place, rows], table=table) for place in order.T]

    def describe(self, params: Params, sample: int) -> str:
        names = [list(self._spans)[number] for number in params["order"][sample]]
        drawn = {name: params[f"{name}_factor"][sample] for name in names if f"{name}_factor" in params}
        shown = (f"{name} {value:+.2f}" if name == "hue" else f"{name} ×{value:.2f}" for name, value in drawn.items())
        return BETWEEN.join(shown)


class RandomGrayscale(Pixel):
    """Turn RGB to grey, keeping three channels.

    The same as torchvision's RandomGrayscale.

    Args:
        p: Chance per sample.
    """

    channels = GREY_OR_RGB

    def describe(self, params: Params, sample: int) -> str:
        return "grey"

    def __init__(self, p: float = 0.1) -> None:
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.GRAYSCALE if canvas.channels == 3 else Op.IDENTITY, len(canvas))]


class Grayscale(Pixel):
    """Turn every image to grey.

    The same as torchvision's Grayscale.

    Args:
        num_output_channels: Number of channels of the images after this step, 1 or 3.

    Raises:
        ValueError: If an argument is out of range.
    """

    channels = GREY_OR_RGB

    def __init__(self, num_output_channels: int = 1) -> None:
        self.num_output_channels = checks.integer(self, "num_output_channels", num_output_channels, 1, 3)
        if num_output_channels == 2:
            raise checks.argument_error(self, "num_output_channels", "1 or 3", "2")

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def after(self, canvas: Canvas, params: Params | None = None) -> Canvas:
        return Canvas(canvas.sizes, self.num_output_channels)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.GRAYSCALE if canvas.channels == 3 else Op.IDENTITY, len(canvas))]


class RGB(Pixel):
    """Give grey images of one channel three equal ones; images of three or more channels stay as they are.

    The same as torchvision's RGB.
    """

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def check(self, canvas: Canvas) -> None:
        if canvas.channels == 2:
            raise checks.argument_error(self, "images", "images of 1, or of at least 3 channels", "2 channels")

    def after(self, canvas: Canvas, params: Params | None = None) -> Canvas:
        return Canvas(canvas.sizes, max(canvas.channels, 3))

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return []


class RandomInvert(Pixel):
    """Turn the image into its negative: v becomes 255 - v.

    The same as torchvision's RandomInvert.

    Args:
        p: Chance per sample.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.TABLE, len(canvas), table=tone.invert(len(canvas)))]


class RandomPosterize(Pixel):
    """Keep the highest bits of every level.

    The same as torchvision's RandomPosterize.

    Args:
        bits: Number of bits that are kept, in [0, 8].
        p: Chance per sample.
    """

    def __init__(self, bits: int, p: float = 0.5) -> None:
        self.bits = checks.integer(self, "bits", bits, 0, 8)
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.TABLE, len(canvas), table=tone.posterize(np.full(len(canvas), self.bits)))]


class RandomSolarize(Pixel):
    """Invert every level at or above `threshold`.

    The same as torchvision's RandomSolarize.

    Args:
        threshold: Level in [0, 255].
        p: Chance per sample.
    """

    def __init__(self, threshold: float, p: float = 0.5) -> None:
        self.threshold = checks.number(self, "threshold", threshold, 0, 255, "a level", INVERTS)
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.TABLE, len(canvas), table=tone.solarize(np.full(len(canvas), self.threshold)))]


class RandomAutocontrast(Pixel):
    """Stretch each channel to the full range.

    The same as torchvision's RandomAutocontrast.

    Args:
        p: Chance per sample.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.AUTOCONTRAST, len(canvas))]


class RandomEqualize(Pixel):
    """Flatten each channel's histogram, by Pillow's rule.

    The same as torchvision's RandomEqualize.

    Args:
        p: Chance per sample.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [Instruction.of(Op.EQUALIZE, len(canvas))]


class RandomAdjustSharpness(Pixel):
    """Blend with a softened image; the outermost pixels stay.

    The same as torchvision's RandomAdjustSharpness.

    Args:
        sharpness_factor: Strength, at least 0; 0 is soft, 1 unchanged, 2 sharper.
        p: Chance per sample.
    """

    def __init__(self, sharpness_factor: float, p: float = 0.5) -> None:
        self.sharpness_factor = checks.number(self, "sharpness_factor", sharpness_factor, 0, math.inf, "a factor")
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [blend(Op.SHARPNESS, np.full(len(canvas), self.sharpness_factor))]


class RandomChannelPermutation(Pixel):
    """Put the channels in an order drawn per sample, every order equally likely. At most 16 channels.

    The same as torchvision's RandomChannelPermutation.
    """

    draws = OPERANDS
    channels = tuple(range(1, OPERANDS + 1))

    def check(self, canvas: Canvas) -> None:
        if canvas.channels > OPERANDS:
            raise checks.argument_error(
                self, "images", f"images of at most {OPERANDS} channels", f"{canvas.channels} channels"
            )

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        return {"permutation": np.argsort(uniforms[:, : canvas.channels], axis=1, kind="stable")}

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        columns: Sequence[Array] = params["permutation"].T
        return [Instruction.of(Op.PERMUTE, len(canvas), *columns)]
