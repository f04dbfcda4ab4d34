"""RandAugment, AutoAugment, TrivialAugmentWide and AugMix, with torchvision's tables, each sample its own ops.

A policy draws an op number and a signed magnitude for each sample and place, and `Policy.listed` turns both into one
instruction.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.program import Instruction, ListedInstruction, Op
from gpuaug.transforms.arguments import Fill, Interpolation, Level
from gpuaug.transforms.arguments import fill as check_fill
from gpuaug.transforms.arguments import interpolation as check_interpolation
from gpuaug.transforms.base import BETWEEN, Canvas, Params, Pixel
from gpuaug.transforms.policy.ops import (
    BLENDS,
    KINDS,
    MOST,
    NAMES,
    NUMBER,
    SIGNED,
    Book,
    caption,
    compute_ops,
    magnitudes,
    signed,
)
from gpuaug.transforms.policy.tables import POLICIES
from gpuaug.transforms.quantile import beta_quantile
from gpuaug.transforms.straight import Picks, Straight

__all__ = ["AugMix", "AutoAugment", "Policy", "RandAugment", "TrivialAugmentWide", "mixture"]

Array = NDArray[Any]
KEPT = 64  # how many books are kept
MEMORY = "Each op of each chain is an instruction of every image."
QUANTILES = "There the quantiles of the weights' distributions are accurate."
BOOKS: dict[Any, Book | None] = {}  # a policy's arguments, the size and the channels of its canvas -> its book


class Policy(Pixel, abc.ABC):
    """The common part of the four policies: interpolation, fill, channels, the sign."""

    channels = (1, 3)
    moves = True
    interpolation: str
    fill: Level

    def __init__(self, interpolation: Interpolation, fill: Fill) -> None:
        self.interpolation = check_interpolation(self, interpolation, ("nearest", "bilinear", "bicubic"))
        self.fill = check_fill(self, fill)

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
        """Magnitudes before the sign, for op numbers (B, ...) and bins of the same shape, or one bin for all."""
        bins, found = np.broadcast_to(bins, ops.shape), np.empty(ops.shape)
        for rows, size in canvas.groups:
            found[rows] = self.strengths(*size)[ops[rows], bins[rows]]
        return found

    def picks(self, places: int, canvas: Canvas) -> Sequence[Straight] | None:
        """The draws of an op, its strength and its sign at each of `places`, as instructions of the book."""
        book = self.book(canvas)
        return None if book is None else (Picks(places, KINDS, book.bins, SIGNED, book.words),)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return self.listed(params["ops"], params["magnitude"], canvas)

    def listed(self, ops: Array, magnitude: Array, canvas: Canvas) -> list[Instruction]:
        """Instructions for op numbers and signed magnitudes, each (B, places), from the book if it has them all."""
        book = None if canvas.several else self.book(canvas)
        chosen = None if book is None else book.find(ops, magnitude)
        if book is None or chosen is None:
            return compute_ops(self, ops, magnitude, canvas)
        return [ListedInstruction(book.instruction, chosen[:, place], book.words) for place in range(ops.shape[1])]

    def describe(self, params: Params, sample: int) -> str:
        return words(params["ops"][sample], params["magnitude"][sample], BETWEEN, "")

    def detail(self, params: Params, sample: int) -> str:
        return words(params["ops"][sample], params["magnitude"][sample], BETWEEN)


def words(ops: Array, magnitude: Array, between: str, nothing: str = "Identity") -> str:
    """The ops (places,) of one sample that do something; `nothing` if none does."""
    drawn = zip(ops, magnitude, strict=True)
    parts = (caption(NAMES[op], float(strength)) for op, strength in drawn if NAMES[op] != "Identity")
    return between.join(parts) or nothing


def check_bins(owner: object, value: int) -> int:
    why = (
        "Posterize divides by their number less one, and with one bin has no strength in torchvision."
        if value == 1
        else ""
    )
    return checks.integer(owner, "num_magnitude_bins", value, 2, 10000, why)


class RandAugment(Policy):
    """Apply `num_ops` ops drawn uniformly, at one magnitude. Cubuk et al., arXiv:1909.13719, as torchvision.

    Args:
        num_ops: Number of ops per sample, drawn with replacement, at least 0.
        magnitude: Bin of the strength, in [0, num_magnitude_bins - 1].
        num_magnitude_bins: Number of bins, at least 2.
        interpolation: Interpolation of the geometric ops: "nearest", "bilinear" or "bicubic".
        fill: Level in [0, 255] outside the image, one number or one per channel; None is black.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: Interpolation = "nearest",
        fill: Fill = None,
    ) -> None:
        self.num_ops = checks.integer(self, "num_ops", num_ops, 0, 64)
        self.num_magnitude_bins = check_bins(self, num_magnitude_bins)
        self.magnitude = checks.integer(self, "magnitude", magnitude, 0, num_magnitude_bins - 1)
        super().__init__(interpolation, fill)

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
        num_magnitude_bins: Number of strengths, at least 2.
        interpolation: Interpolation of the geometric ops: "nearest", "bilinear" or "bicubic".
        fill: Level in [0, 255] outside the image, one number or one per channel; None is black.
    """

    draws = 3

    def __init__(
        self, num_magnitude_bins: int = 31, interpolation: Interpolation = "nearest", fill: Fill = None
    ) -> None:
        self.num_magnitude_bins = check_bins(self, num_magnitude_bins)
        super().__init__(interpolation, fill)

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
        interpolation: Interpolation of the geometric ops: "nearest", "bilinear" or "bicubic".
        fill: Level in [0, 255] outside the image, one number or one per channel; None is black.
    """

    draws = 5

    def __init__(
        self, policy: str | Enum = "imagenet", interpolation: Interpolation = "nearest", fill: Fill = None
    ) -> None:
        self.policy = checks.one_of(self, "policy", getattr(policy, "value", policy), list(POLICIES))
        super().__init__(interpolation, fill)

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
        severity: Number of bins, in [1, 10]: the strength is drawn from the lowest `severity` of 10 bins.
        mixture_width: Number of chains, in [1, 32].
        chain_depth: Number of ops in a chain, at most 32; 0 or less draws 1 to 3 for each chain.
        alpha: Parameter of the Dirichlet and Beta distributions of the weights, in [0.01, 100].
        all_ops: Whether to include brightness, colour, contrast and sharpness.
        interpolation: Interpolation of the geometric ops: "nearest", "bilinear" or "bicubic".
        fill: Level in [0, 255] outside the image, one number or one per channel; None is black.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: Interpolation = "bilinear",
        fill: Fill = None,
    ) -> None:
        self.severity = checks.integer(self, "severity", severity, 1, 10)
        self.mixture_width = checks.integer(self, "mixture_width", mixture_width, 1, 32, MEMORY)
        self.chain_depth = checks.integer(self, "chain_depth", chain_depth, -32, 32, MEMORY)
        self.alpha = checks.number(self, "alpha", alpha, 0.01, 100, why=QUANTILES)
        self.all_ops = bool(all_ops)
        super().__init__(interpolation, fill)

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
        if self.chain_depth <= 0:
            depths = 1 + np.floor(uniforms[:, width : 2 * width] * 3).astype(np.int64)
            ops = np.where(np.arange(depth) < depths[..., None], ops, NUMBER["Identity"])
        return {"weights": mixture(self.alpha, width, uniforms[:, :width]), "ops": ops, "magnitude": magnitude}

    def strengths(self, height: int, width: int) -> Array:
        return magnitudes("augmix", 10, height, width)[:, : self.severity]

    def describe(self, params: Params, sample: int) -> str:
        return f"AugMix, {self.mixture_width} chains"

    def detail(self, params: Params, sample: int) -> str:
        own, *weights = params["weights"][sample]
        drawn = zip(weights, params["ops"][sample], params["magnitude"][sample], strict=True)
        chains = [f"{weight:.2f} of {words(ops, magnitude, ' then ')}" for weight, ops, magnitude in drawn]
        return BETWEEN.join([f"{own:.2f} of the image", *chains])

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        size, weights = len(canvas), params["weights"]
        ops, magnitude = (params[name].reshape(size, -1) for name in ("ops", "magnitude"))
        chains = self.listed(ops, magnitude, canvas)  # all at once: NumPy's cost is in the calls
        depth = len(chains) // self.mixture_width
        instructions = [Instruction.of(Op.BRANCH, size, weights[:, 0])]
        for chain in range(self.mixture_width):
            instructions += chains[chain * depth : (chain + 1) * depth]
            instructions.append(Instruction.of(Op.JOIN, size, weights[:, chain + 1]))
        return [*instructions, Instruction.of(Op.MERGE, size)]


def mixture(alpha: float, width: int, uniforms: Array) -> Array:
    """(B, 1 + width): the image's weight, Beta(alpha, alpha), and the chains', the rest split by a Dirichlet."""
    own = beta_quantile(alpha, alpha)(uniforms[:, 0])
    weights, rest = [own], 1.0 - own
    for chain in range(1, width):  # breaking the stick
        part = rest * beta_quantile(alpha, alpha * (width - chain))(uniforms[:, chain])
        weights, rest = [*weights, part], rest - part
    return np.stack([*weights, rest], axis=1)
