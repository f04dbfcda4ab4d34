"""RandAugment, AutoAugment, TrivialAugmentWide and AugMix, with torchvision's tables, each sample its own ops.

A policy draws an op number and a signed magnitude for each sample and place, and `lower_ops` turns both into one
instruction.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.program import OPERANDS, Instruction, ListedInstruction, Op, Picks, Straight
from gpuaug.transforms import matrix, tone
from gpuaug.transforms.base import BETWEEN, INTERPOLATIONS, Canvas, Params, Pixel, fill_row
from gpuaug.transforms.base import interpolation as check_interpolation
from gpuaug.transforms.geometric import warp_kinds
from gpuaug.transforms.policy_tables import POLICIES
from gpuaug.transforms.quantile import beta_quantile

__all__ = ["AugMix", "AutoAugment", "RandAugment", "TrivialAugmentWide"]

Array = NDArray[Any]
Fill = float | Sequence[float] | None

NAMES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
NUMBER = {name: number for number, name in enumerate(NAMES)}
OPCODES = np.array(
    [Op.IDENTITY] + [Op.WARP] * 5
    + [Op.TABLE, Op.SATURATION, Op.CONTRAST, Op.SHARPNESS, Op.TABLE, Op.TABLE, Op.AUTOCONTRAST, Op.EQUALIZE, Op.TABLE],
    np.int32,
)  # fmt: skip
TONES: dict[str, Callable[[Array], Array]] = {  # of the magnitudes
    "Brightness": lambda magnitude: tone.brightness(1.0 + magnitude),
    "Posterize": lambda magnitude: tone.posterize(np.trunc(magnitude)),
    "Solarize": lambda magnitude: tone.solarize(255.0 * magnitude),
    "Invert": lambda magnitude: tone.invert(len(magnitude)),
}
SIGNED = np.array([1 <= number <= 9 for number in range(len(NAMES))])
KINDS = 14  # ops that RandAugment and TrivialAugmentWide draw: all but Invert
BLENDS = [NUMBER[name] for name in ("Brightness", "Color", "Contrast", "Sharpness")]


FLOAT32: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's defaults are set to


@lru_cache(maxsize=1024)  # of batches of different sizes
def magnitudes(kind: str, bins: int, height: int, width: int) -> Array:
    """(ops, bins) magnitude of each op, before the sign, as torchvision's _AUGMENTATION_SPACE of that policy."""
    shear, shift_x, shift_y, rotate, blend, levels, most_bits = {
        "standard": (0.3, 150.0 / 331.0 * width, 150.0 / 331.0 * height, 30.0, 0.9, 4, 8),
        "wide": (0.99, 32.0, 32.0, 135.0, 0.99, 6, 8),
        "augmix": (0.3, width / 3.0, height / 3.0, 30.0, 0.9, 4, 4),
    }[kind]
    table = torch.zeros(len(NAMES), bins, dtype=torch.float64, device="cpu")
    for name, end in {
        "ShearX": shear, "ShearY": shear, "TranslateX": shift_x, "TranslateY": shift_y, "Rotate": rotate,
        "Brightness": blend, "Color": blend, "Contrast": blend, "Sharpness": blend,
    }.items():  # fmt: skip
        table[NUMBER[name]] = torch.linspace(0.0, end, bins, **FLOAT32)  # float32 first, as torchvision
    table[NUMBER["Posterize"]] = (most_bits - (torch.arange(bins, **FLOAT32) / ((bins - 1) / levels))).round().int()
    table[NUMBER["Solarize"]] = torch.linspace(1.0, 0.0, bins, **FLOAT32)
    return table.numpy()


def lower_ops(owner: Policy, ops: Array, magnitude: Array, canvas: Canvas) -> list[Instruction]:
    """Slots for op numbers and signed magnitudes, each (B, places)."""
    book = None if canvas.several else owner.book(canvas)
    chosen = None if book is None else book.find(ops, magnitude)
    if book is None or chosen is None:
        return compute_ops(owner, ops, magnitude, canvas)
    return [ListedInstruction(book.instruction, chosen[:, place], book.words) for place in range(ops.shape[1])]


MOST, KEPT = 4096, 64  # instructions in a book; books
BOOKS: dict[Any, Book | None] = {}  # a policy's arguments, the size and the channels of its canvas -> its book


class Book:
    """Every instruction a policy can draw, computed once: each op at each strength, with either sign."""

    def __init__(self, owner: Policy, strengths: Array, canvas: Canvas) -> None:
        """`strengths` (ops, bins) are magnitudes before the sign."""
        count, bins = strengths.shape
        both = np.stack([strengths, np.where(SIGNED[:, None], -strengths, strengths)], axis=2)
        self.magnitude = both.reshape(-1)  # instruction (op, bin, sign) is number (op * bins + bin) * 2 + sign
        self.bins, self.first = bins, strengths[:, 0].copy()
        span = strengths[:, -1] - strengths[:, 0]  # strengths are even steps, whole numbers of them for posterize
        self.per_bin = np.where(span == 0, 0.0, (bins - 1) / np.where(span == 0, 1.0, span))
        ops = np.arange(count).repeat(2 * bins)
        (self.instruction,) = compute_ops(owner, ops[:, None], self.magnitude[:, None], canvas)
        self.words = words(self.instruction)

    def find(self, ops: Array, magnitude: Array) -> Array | None:
        """(B, places) number of each instruction; None if one is not in the book: somebody changed the draw."""
        number = ops
        if self.bins > 1:
            steps = (np.abs(magnitude) - self.first[ops]) * self.per_bin[ops]
            number = ops * self.bins + np.rint(steps).astype(np.int64)
        number = 2 * number + np.signbit(magnitude)
        good = self.magnitude.take(number, mode="clip") == magnitude
        good |= ops == NUMBER["Identity"]  # where an op does not run, its magnitude stays in the draw
        return number if good.all() else None


def words(instruction: Instruction) -> Array:
    """(n, 1 + 16 + C + 64) int32: opcode, operands, fill and table of each instruction, one after another."""
    parts = [instruction.opcode[:, None], instruction.operands, instruction.fill, instruction.table]
    return np.concatenate([np.ascontiguousarray(part).view(np.int32) for part in parts], axis=1)


def compute_ops(owner: Policy, ops: Array, magnitude: Array, canvas: Canvas) -> list[Instruction]:
    """As `lower_ops`, of any magnitudes."""
    size, places = ops.shape
    ops, magnitude = ops.T.reshape(-1), magnitude.T.reshape(-1)
    opcode = OPCODES[ops]
    if canvas.channels == 1:
        opcode[opcode == Op.SATURATION] = Op.IDENTITY
    operands = np.zeros((len(ops), OPERANDS), np.float32)
    operands[:, 0], operands[:, 1] = 1.0 + magnitude, 1.0 - (1.0 + magnitude)

    rows = np.flatnonzero(opcode == Op.WARP)
    height, width = canvas.sides
    if canvas.several:
        height, width = (np.tile(side, places)[rows] for side in (height, width))
    operands[rows, :9] = _inverse(ops[rows], magnitude[rows], (height, width)).reshape(-1, 9)
    operands[rows, 9], operands[rows, 10] = INTERPOLATIONS[owner.interpolation], owner.fill is not None
    fill = np.broadcast_to(fill_row(owner, owner.fill, canvas.channels), (len(ops), canvas.channels))

    table = np.zeros((len(ops), 256), np.uint8)
    for name, tones in TONES.items():
        rows = np.flatnonzero(ops == NUMBER[name])
        table[rows] = tones(magnitude[rows])

    parts = [slice(place * size, (place + 1) * size) for place in range(places)]
    possible = frozenset(map(int, OPCODES)) | warp_kinds(owner.interpolation)
    return [Instruction(possible, opcode[part], operands[part], fill[part], table[part]) for part in parts]


def _inverse(ops: Array, magnitude: Array, size: tuple[Array | int, Array | int]) -> Array:
    shear_x, shear_y, shift_x, shift_y, rotate = (
        np.where(ops == NUMBER[name], magnitude, 0.0)
        for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
    )
    height, width = size
    sheared = (shear_x != 0) | (shear_y != 0)  # about the top left corner, as Pillow did it in the paper
    center = (np.where(sheared, 0.0, width * 0.5), np.where(sheared, 0.0, height * 0.5))
    shear = (np.degrees(np.arctan(shear_x)), np.degrees(np.arctan(shear_y)))
    return matrix.affine(size, -rotate, (np.trunc(shift_x), np.trunc(shift_y)), 1.0, shear, center)


class Policy(Pixel, abc.ABC):
    """What the four share: interpolation, fill, channels, the sign."""

    channels = (1, 3)
    moves = True
    interpolation: str
    fill: Fill

    def _setup(self, interpolation: Any, fill: Fill) -> None:
        self.interpolation = check_interpolation(self, interpolation, ("nearest", "bilinear", "bicubic"))
        self.fill = checks.fill(self, fill)

    @abc.abstractmethod
    def strengths(self, height: int, width: int) -> Array:
        """(ops, bins) every magnitude it can draw for a canvas of that size, before the sign."""

    def book(self, canvas: Canvas) -> Book | None:
        """Its instructions for a canvas of one size; None if they are too many to keep."""
        size = canvas.size(self)
        key = (type(self), *vars(self).values(), size, canvas.channels)
        if key not in BOOKS:
            strengths = self.strengths(*size)
            if len(BOOKS) >= KEPT:
                BOOKS.clear()
            BOOKS[key] = Book(self, strengths, canvas) if 2 * strengths.size <= MOST else None
        return BOOKS[key]

    def magnitude_of(self, ops: Array, bins: Array | int, canvas: Canvas) -> Array:
        """Magnitudes before the sign, of op numbers (B, ...) at bins of that shape, or all at one."""
        bins, found = np.broadcast_to(bins, ops.shape), np.empty(ops.shape)
        for rows, size in canvas.groups:
            found[rows] = self.strengths(*size)[ops[rows], bins[rows]]
        return found

    def picks(self, places: int, canvas: Canvas) -> Sequence[Straight] | None:
        """The draws of ops, their strengths and signs at each of `places`, as instructions of the book."""
        book = self.book(canvas)
        return None if book is None else (Picks(places, KINDS, book.bins, SIGNED, book.words),)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return lower_ops(self, params["ops"], params["magnitude"], canvas)

    def describe(self, params: Params, sample: int) -> str:
        drawn = zip(params["ops"][sample], params["magnitude"][sample], strict=True)
        return BETWEEN.join(caption(NAMES[op], float(magnitude)) for op, magnitude in drawn if NAMES[op] != "Identity")


CAPTIONS: dict[str, Callable[[float], str]] = {  # of the magnitudes
    "Rotate": lambda degrees: f" {degrees:.0f}°",
    **dict.fromkeys(("ShearX", "ShearY"), lambda slope: f" {math.degrees(math.atan(slope)):.0f}°"),
    **dict.fromkeys(("TranslateX", "TranslateY"), lambda pixels: f" {pixels:.0f} px"),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), lambda change: f" ×{1 + change:.2f}"),
    "Posterize": lambda bits: f" {bits:.0f} bits",
    "Solarize": lambda threshold: f" {255 * threshold:.0f}",
}


def caption(name: str, magnitude: float) -> str:
    """An op of a policy in words, e.g. "Rotate 9°"."""
    return name + (CAPTIONS[name](magnitude) if name in CAPTIONS else "")


def signed(ops: Array, magnitude: Array, uniforms: Array) -> Array:
    """Half of the magnitudes of the signed ops turn negative."""
    return np.where(SIGNED[ops] & (uniforms < 0.5), -magnitude, magnitude)


class RandAugment(Policy):
    """Apply `num_ops` ops drawn uniformly, at one magnitude. Cubuk et al., arXiv:1909.13719, as torchvision.

    Args:
        num_ops: ops per sample, drawn with replacement, at least 0.
        magnitude: bin of the strength, in [0, num_magnitude_bins - 1].
        num_magnitude_bins: how many bins, at least 2.
        interpolation: of the geometric ops: "nearest", "bilinear" or "bicubic".
        fill: level in [0, 255] outside the image, one or one per channel; None is black.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: Any = "nearest",
        fill: Fill = None,
    ) -> None:
        self.num_ops = checks.integer(self, "num_ops", num_ops, 0, 64)
        self.num_magnitude_bins = checks.integer(self, "num_magnitude_bins", num_magnitude_bins, 2, 10000)
        self.magnitude = checks.integer(self, "magnitude", magnitude, 0, num_magnitude_bins - 1)
        self._setup(interpolation, fill)

    @property
    def draws(self) -> int:  # type: ignore[override]
        return 2 * self.num_ops

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        ops = (uniforms[:, : self.num_ops] * KINDS).astype(np.int64)
        magnitude = self.magnitude_of(ops, 0, canvas)
        return {"ops": ops, "magnitude": signed(ops, magnitude, uniforms[:, self.num_ops :])}

    def straight(self, canvas: Canvas) -> Sequence[Straight] | None:
        return self.picks(self.num_ops, canvas)

    def strengths(self, height: int, width: int) -> Array:
        return magnitudes("standard", self.num_magnitude_bins, height, width)[:, self.magnitude : self.magnitude + 1]


class TrivialAugmentWide(Policy):
    """Apply one op at one strength, both drawn uniformly. Mueller and Hutter, arXiv:2103.10158, as torchvision.

    Args:
        num_magnitude_bins: how many strengths, at least 2.
        interpolation: of the geometric ops: "nearest", "bilinear" or "bicubic".
        fill: level in [0, 255] outside the image, one or one per channel; None is black.
    """

    draws = 3

    def __init__(self, num_magnitude_bins: int = 31, interpolation: Any = "nearest", fill: Fill = None) -> None:
        self.num_magnitude_bins = checks.integer(self, "num_magnitude_bins", num_magnitude_bins, 2, 10000)
        self._setup(interpolation, fill)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        ops = (uniforms[:, :1] * KINDS).astype(np.int64)
        bins = (uniforms[:, 1:2] * self.num_magnitude_bins).astype(np.int64)
        return {"ops": ops, "magnitude": signed(ops, self.magnitude_of(ops, bins, canvas), uniforms[:, 2:])}

    def straight(self, canvas: Canvas) -> Sequence[Straight] | None:
        return self.picks(1, canvas)

    def strengths(self, height: int, width: int) -> Array:
        return magnitudes("wide", self.num_magnitude_bins, height, width)


class AutoAugment(Policy):
    """Apply one of 25 learned pairs of ops. Cubuk et al., arXiv:1805.09501, as torchvision.

    Args:
        policy: "imagenet", "cifar10" or "svhn", or torchvision's AutoAugmentPolicy.
        interpolation: of the geometric ops: "nearest", "bilinear" or "bicubic".
        fill: level in [0, 255] outside the image, one or one per channel; None is black.
    """

    draws = 5

    def __init__(self, policy: Any = "imagenet", interpolation: Any = "nearest", fill: Fill = None) -> None:
        self.policy = checks.one_of(self, "policy", getattr(policy, "value", policy), list(POLICIES))
        self._setup(interpolation, fill)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        number = (uniforms[:, 0] * 25).astype(np.int64)
        ops, p, bins = (column[number] for column in columns(self.policy))
        magnitude = signed(ops, self.magnitude_of(ops, bins, canvas), uniforms[:, 3:5])
        return {
            "policy": number,
            "ops": np.where(uniforms[:, 1:3] < p, ops, NUMBER["Identity"]),
            "magnitude": magnitude,
        }

    def strengths(self, height: int, width: int) -> Array:
        return magnitudes("standard", 10, height, width)


@lru_cache(maxsize=len(POLICIES))
def columns(policy: str) -> tuple[Array, Array, Array]:
    """Op numbers, chances and bins of the 25 pairs, each (25, 2)."""
    pairs = POLICIES[policy]
    ops = np.array([[NUMBER[name] for name, _, _ in pair] for pair in pairs])
    p = np.array([[p for _, p, _ in pair] for pair in pairs])
    return ops, p, np.array([[bin_ or 0 for _, _, bin_ in pair] for pair in pairs])


class AugMix(Policy):
    """Mix the image with chains of ops, each sample its own. Hendrycks et al., arXiv:1912.02781, as torchvision.

    Args:
        severity: the strength is drawn from the lowest `severity` of 10 bins, in [1, 10].
        mixture_width: how many chains, at least 1.
        chain_depth: ops in a chain; -1 draws 1 to 3 for each chain.
        alpha: of the Dirichlet and Beta distributions of the weights, greater than 0.
        all_ops: include brightness, colour, contrast and sharpness.
        interpolation: of the geometric ops: "nearest", "bilinear" or "bicubic".
        fill: level in [0, 255] outside the image, one or one per channel; None is black.
    """

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: Any = "bilinear",
        fill: Fill = None,
    ) -> None:
        self.severity = checks.integer(self, "severity", severity, 1, 10)
        self.mixture_width = checks.integer(self, "mixture_width", mixture_width, 1, 10)
        self.chain_depth = checks.integer(self, "chain_depth", chain_depth, -1, 32)
        if chain_depth == 0:
            raise checks.argument_error(self, "chain_depth", "-1 or at least 1", "0")
        self.alpha = checks.number(self, "alpha", alpha, 0.01, 100)
        self.all_ops = bool(all_ops)
        self._setup(interpolation, fill)

    @property
    def _depth(self) -> int:
        return self.chain_depth if self.chain_depth > 0 else 3

    @property
    def draws(self) -> int:  # type: ignore[override]
        return self.mixture_width * (2 + 3 * self._depth)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        size, width, depth = len(canvas), self.mixture_width, self._depth
        kept = [number for number in range(1, 14) if self.all_ops or number not in BLENDS]
        choice, strength, sign = uniforms[:, 2 * width :].reshape(size, 3, width, depth).transpose(1, 0, 2, 3)
        ops = np.array(kept)[np.floor(choice * len(kept)).astype(np.int64)]
        bins = np.floor(strength * self.severity).astype(np.int64)
        magnitude = signed(ops, self.magnitude_of(ops, bins, canvas), sign)
        if self.chain_depth < 0:
            depths = 1 + np.floor(uniforms[:, width : 2 * width] * 3).astype(np.int64)
            ops = np.where(np.arange(depth) < depths[..., None], ops, NUMBER["Identity"])
        return {"weights": self._weights(uniforms[:, :width]), "ops": ops, "magnitude": magnitude}

    def strengths(self, height: int, width: int) -> Array:
        return magnitudes("augmix", 10, height, width)[:, : self.severity]

    def describe(self, params: Params, sample: int) -> str:
        return f"AugMix, {self.mixture_width} chains"

    def _weights(self, uniforms: Array) -> Array:
        """(B, 1 + width): the image's weight, Beta(alpha, alpha), and the chains', the rest split by a Dirichlet."""
        own = beta_quantile(self.alpha, self.alpha)(uniforms[:, 0])
        weights, rest = [own], 1.0 - own
        for chain in range(1, self.mixture_width):  # breaking the stick
            part = rest * beta_quantile(self.alpha, self.alpha * (self.mixture_width - chain))(uniforms[:, chain])
            weights, rest = [*weights, part], rest - part
        return np.stack([*weights, rest], axis=1)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        size, weights = len(canvas), params["weights"]
        ops, magnitude = (params[name].reshape(size, -1) for name in ("ops", "magnitude"))
        chains = lower_ops(self, ops, magnitude, canvas)  # all at once: NumPy's cost is in the calls
        depth = len(chains) // self.mixture_width
        instructions = [Instruction.of(Op.BRANCH, size, weights[:, 0])]
        for chain in range(self.mixture_width):
            instructions += chains[chain * depth : (chain + 1) * depth]
            instructions.append(Instruction.of(Op.JOIN, size, weights[:, chain + 1]))
        return [*instructions, Instruction.of(Op.MERGE, size)]
