"""timm's RandAugment, AutoAugment (with 3-Augment) and AugMix: its ops, ranges, magnitude noise and weighted choice."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.philox import normal_table
from gpuaug.program import Instruction, Op
from gpuaug.transforms.arguments import Fill, Interpolation
from gpuaug.transforms.arguments import fill as check_fill
from gpuaug.transforms.arguments import interpolation as check_interpolation
from gpuaug.transforms.base import BETWEEN, Canvas, Params, Pixel
from gpuaug.transforms.policy.policies import MEMORY, QUANTILES, mixture
from gpuaug.transforms.policy.timm_ops import (
    BLURS,
    KERNEL,
    TIMM_NAMES,
    TIMM_NUMBER,
    arguments_of,
    caption_of,
    timm_ops,
)
from gpuaug.transforms.policy.timm_tables import AUGMIX_OPS, AUTO_POLICIES, OP_SETS

__all__ = ["TimmAugMix", "TimmAutoAugment", "TimmRandAugment"]

Array = NDArray[Any]
Std = float | str  # standard deviation of the level, or "uniform"

PLACES = 5  # uniforms of an op: gate or choice, level, sign, interpolation, radius of a blur
IDENTITY = TIMM_NUMBER["Identity"]
DRAWN = TIMM_NAMES[1:]  # names that a user may give


class TimmPolicy(Pixel, abc.ABC):
    """The common part of timm's policies: how levels become arguments, and how ops resample."""

    channels = (1, 3)
    moves = True
    torchvision = None

    def __init__(
        self, magnitude_std: Std, magnitude_max: float, interpolation: Interpolation, fill: Fill, translate: float
    ) -> None:
        if magnitude_std == "uniform":
            self.magnitude_std: Std = "uniform"
        elif isinstance(magnitude_std, str):
            expected = 'a number of at least 0, or "uniform"'
            raise checks.argument_error(self, "magnitude_std", expected, repr(magnitude_std))
        else:
            why = '"uniform" draws levels from 0 to the magnitude, as timm does above 100.'
            self.magnitude_std = checks.number(self, "magnitude_std", magnitude_std, 0, 100, why=why)
        self.magnitude_max = checks.number(self, "magnitude_max", magnitude_max, 0, 1000)
        self.interpolation = check_interpolation(self, interpolation, ("nearest", "bilinear", "bicubic", "random"))
        self.fill = check_fill(self, fill)
        self.translate = checks.number(self, "translate", translate, 0, 1, "a fraction")

    @property
    @abc.abstractmethod
    def names(self) -> Sequence[str]:
        """Names of all ops that it can draw."""

    def check(self, canvas: Canvas) -> None:
        super().check(canvas)
        least = tuple(canvas.sizes.min(axis=0).tolist())
        if min(least) <= KERNEL // 2 and any(name in BLURS for name in self.names):
            expected = f"at least {KERNEL // 2 + 1} pixels high and wide for the blur of this policy"
            raise checks.argument_error(self, "images", expected, f"{least}", "Use a policy without GaussianBlur.")

    def valued(self, ops: Array, level: Array | float, uniforms: Array) -> Params:
        """Ops, arguments and resampling of each place, from op numbers (B, ...) and uniforms (B, ..., PLACES - 1)."""
        spread, sign, cubic, radius = (uniforms[..., column] for column in range(PLACES - 1))
        if isinstance(self.magnitude_std, str):
            level = level * spread
        elif self.magnitude_std:
            level = level + self.magnitude_std * normal_table()[(spread * 65536).astype(np.int64)].astype(np.float64)
        level = np.broadcast_to(np.clip(level, 0.0, self.magnitude_max), ops.shape)
        value = arguments_of(ops, level, np.where(sign < 0.5, -1.0, 1.0), self.translate)
        drawn = ops == TIMM_NUMBER["GaussianBlurRand"]
        if drawn.any():
            value = np.where(drawn, 0.1 + radius * (2.0 * value - 0.1), value)
        return {"ops": ops, "value": value, "cubic": cubic < 0.5}

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return timm_ops(self, self.names, params["ops"], params["value"], params["cubic"], canvas)

    def describe(self, params: Params, sample: int) -> str:
        drawn = zip(params["ops"][sample].ravel(), params["value"][sample].ravel(), strict=True)
        return BETWEEN.join(caption_of(op, float(value)) for op, value in drawn if op != IDENTITY)


class TimmRandAugment(TimmPolicy):
    """Apply `num_ops` ops drawn by weight, each with a chance and a level of its own, as timm's RandAugment.

    The arguments are the sections of timm's strings: "rand-m9-n2-mstd0.5-inc1" is TimmRandAugment(9, 2,
    magnitude_std=0.5, ops="increasing"). Images need 7 pixels if a blur is among the ops.

    Args:
        magnitude: Mean level of the ops on a scale of 0 to 10, `m`.
        num_ops: Number of ops per sample, `n`: with replacement, without it if the ops have weights.
        prob: Chance of each op, `p`.
        magnitude_std: Standard deviation of the level, `mstd`; "uniform" draws it between 0 and `magnitude`.
        magnitude_max: Upper bound of the level, `mmax`.
        ops: "plain" or "increasing" (`inc1`), "weights", "3a" or "3aw" (`t`), or a list of op names.
        weights: Weight of each op of a list; None: equal chances, or those of "weights" and "3aw".
        interpolation: Interpolation of the warps: "nearest", "bilinear", "bicubic", or "random": one of the latter
            two for each op.
        fill: Level in [0, 255] outside the image, one number or one per channel; None is black.
        translate: Shift at level 10 as a fraction of the size, in [0, 1].

    Raises:
        ValueError: If an argument is out of range, or an op is unknown.
    """

    def __init__(
        self,
        magnitude: float = 10.0,
        num_ops: int = 2,
        prob: float = 0.5,
        magnitude_std: Std = 0.0,
        magnitude_max: float = 10.0,
        ops: str | Sequence[str] = "plain",
        weights: Sequence[float] | None = None,
        interpolation: Interpolation = "random",
        fill: Fill = 128,
        translate: float = 0.45,
    ) -> None:
        super().__init__(magnitude_std, magnitude_max, interpolation, fill, translate)
        self.magnitude = checks.number(self, "magnitude", magnitude, 0, 1000)
        self.num_ops = checks.integer(self, "num_ops", num_ops, 0, 64)
        self.prob = checks.number(self, "prob", prob, 0, 1, "a probability")
        self.ops, self.weights = ops, weights
        chosen: Any = OP_SETS.get(ops) if isinstance(ops, str) else ops
        if not isinstance(chosen, (Sequence, Mapping)) or not chosen or not all(name in DRAWN for name in chosen):
            sets, names = (", ".join(map(repr, found)) for found in (OP_SETS, DRAWN))
            raise checks.argument_error(self, "ops", f"one of {sets}, or a list of {names}", checks.describe(ops))
        self._names = tuple(chosen)
        self._weights = self._weighed(weights, tuple(chosen.values()) if isinstance(chosen, Mapping) else None)

    def _weighed(self, weights: Sequence[float] | None, own: tuple[float, ...] | None) -> tuple[float, ...] | None:
        """The weights of the ops: those that are given, or the set's own."""
        if weights is None:
            found = own
        elif isinstance(self.ops, str):
            raise checks.argument_error(self, "weights", "None for a set of ops by name", checks.describe(weights))
        elif not isinstance(weights, Sequence) or isinstance(weights, str) or len(weights) != len(self._names):
            expected = f"None or {len(self._names)} numbers, one for each op"
            raise checks.argument_error(self, "weights", expected, checks.describe(weights))
        else:
            found = tuple(checks.number(self, "weights", weight, 1e-6, 1e6, "a weight") for weight in weights)
        if found is not None and self.num_ops > len(found):
            got = f"{self.num_ops} for {len(found)} ops"
            expected = "at most the number of ops, which are drawn without replacement if they have weights"
            raise checks.argument_error(self, "num_ops", expected, got)
        return found

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def draws(self) -> int:  # type: ignore[override]
        return self.num_ops * (PLACES + 1)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        uniforms = uniforms.reshape(len(uniforms), self.num_ops, PLACES + 1)
        numbers = np.array([TIMM_NUMBER[name] for name in self._names])
        if self._weights is None:
            chosen = (uniforms[..., 0] * len(numbers)).astype(np.int64)
        else:
            chosen = without_replacement(np.array(self._weights, np.float64), uniforms[..., 0])
        ops = np.where(uniforms[..., 1] < self.prob, numbers[chosen], IDENTITY)
        return self.valued(ops, self.magnitude, uniforms[..., 2:])


def without_replacement(weights: Array, uniforms: Array) -> Array:
    """(B, n) numbers of items, one after another by the weights of those that are left; uniforms (B, n)."""
    size, count = uniforms.shape
    left, rows = np.tile(weights, (size, 1)), np.arange(size)
    chosen = np.zeros((size, count), np.int64)
    for place in range(count):
        edges = left.cumsum(axis=1)
        passed = uniforms[:, place : place + 1] * edges[:, -1:] >= edges
        # rounding may pass the last edge; an item that was taken has no width, so it is never the first that is left
        last = left.shape[1] - 1 - (left[:, ::-1] > 0).argmax(axis=1)
        chosen[:, place] = np.minimum(passed.sum(axis=1), last)
        left[rows, chosen[:, place]] = 0.0
    return chosen


class TimmAutoAugment(TimmPolicy):
    """Apply one of timm's learned pairs of ops, or one op of 3-Augment (Touvron et al., arXiv:2204.07118), as timm.

    Images need 7 pixels for "3a", which blurs.

    Args:
        policy: "original" or "v0", their variants "originalr" and "v0r" with another posterize, or "3a".
        magnitude_std: Standard deviation of the level, `mstd`, on a scale of 0 to 10; "uniform" draws it between 0 and
            the policy's level.
        magnitude_max: Upper bound of the level.
        interpolation: Interpolation of the warps: "nearest", "bilinear", "bicubic", or "random": one of the latter
            two for each op.
        fill: Level in [0, 255] outside the image, one number or one per channel; None is black.
        translate: Shift at level 10 as a fraction of the size, in [0, 1].
    """

    def __init__(
        self,
        policy: str = "v0",
        magnitude_std: Std = 0.0,
        magnitude_max: float = 10.0,
        interpolation: Interpolation = "random",
        fill: Fill = 128,
        translate: float = 0.45,
    ) -> None:
        self.policy = checks.one_of(self, "policy", policy, list(AUTO_POLICIES))
        super().__init__(magnitude_std, magnitude_max, interpolation, fill, translate)

    @property
    def names(self) -> Sequence[str]:
        return tuple(dict.fromkeys(name for pair in AUTO_POLICIES[self.policy] for name, _, _ in pair))

    @property
    def draws(self) -> int:  # type: ignore[override]
        return 1 + PLACES * len(AUTO_POLICIES[self.policy][0])

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        ops, p, level = timm_columns(self.policy)
        number = (uniforms[:, 0] * len(ops)).astype(np.int64)
        uniforms = uniforms[:, 1:].reshape(len(uniforms), ops.shape[1], PLACES)
        chosen = np.where(uniforms[..., 0] < p[number], ops[number], IDENTITY)
        return {"policy": number, **self.valued(chosen, level[number], uniforms[..., 1:])}


@lru_cache(maxsize=len(AUTO_POLICIES))
def timm_columns(policy: str) -> tuple[Array, Array, Array]:
    """Op numbers, chances and levels of the sub-policies, each (sub-policies, ops)."""
    pairs = AUTO_POLICIES[policy]
    ops = np.array([[TIMM_NUMBER[name] for name, _, _ in pair] for pair in pairs])
    p, level = (np.array([[op[column] for op in pair] for pair in pairs], np.float64) for column in (1, 2))
    return ops, p, level


class TimmAugMix(TimmPolicy):
    """Mix the image with chains of ops, each sample its own. Hendrycks et al., arXiv:1912.02781, as timm.

    The arguments are the sections of timm's strings: "augmix-m5-w4-d2" is TimmAugMix(5, 4, 2).

    Args:
        magnitude: Level of the ops on a scale of 0 to 10, `m`.
        width: Number of chains, in [1, 32], `w`.
        depth: Number of ops in a chain, at most 32, `d`; 0 or less draws 1 to 3 for each chain.
        alpha: Parameter of the Dirichlet and Beta distributions of the weights, in [0.01, 100], `a`.
        magnitude_std: Standard deviation of the level, `mstd`; "uniform" draws it between 0 and `magnitude`.
        magnitude_max: Upper bound of the level.
        interpolation: Interpolation of the warps: "nearest", "bilinear", "bicubic", or "random": one of the latter
            two for each op.
        fill: Level in [0, 255] outside the image, one number or one per channel; None is black.
        translate: Shift at level 10 as a fraction of the size, in [0, 1].

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        magnitude: float = 3.0,
        width: int = 3,
        depth: int = -1,
        alpha: float = 1.0,
        magnitude_std: Std = "uniform",
        magnitude_max: float = 10.0,
        interpolation: Interpolation = "random",
        fill: Fill = 128,
        translate: float = 0.45,
    ) -> None:
        super().__init__(magnitude_std, magnitude_max, interpolation, fill, translate)
        self.magnitude = checks.number(self, "magnitude", magnitude, 0, 1000)
        self.width = checks.integer(self, "width", width, 1, 32, MEMORY)
        self.depth = checks.integer(self, "depth", depth, -32, 32, MEMORY)
        self.alpha = checks.number(self, "alpha", alpha, 0.01, 100, why=QUANTILES)

    @property
    def names(self) -> Sequence[str]:
        return AUGMIX_OPS

    @property
    def _most(self) -> int:
        return self.depth if self.depth > 0 else 3

    @property
    def draws(self) -> int:  # type: ignore[override]
        return self.width * (2 + PLACES * self._most)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        size, width, most = len(canvas), self.width, self._most
        numbers = np.array([TIMM_NUMBER[name] for name in AUGMIX_OPS])
        drawn = uniforms[:, 2 * width :].reshape(size, width, most, PLACES)
        ops = numbers[(drawn[..., 0] * len(numbers)).astype(np.int64)]
        if self.depth <= 0:
            depths = 1 + np.floor(uniforms[:, width : 2 * width] * 3).astype(np.int64)
            ops = np.where(np.arange(most) < depths[..., None], ops, IDENTITY)
        weights = mixture(self.alpha, width, uniforms[:, :width])
        return {"weights": weights, **self.valued(ops, self.magnitude, drawn[..., 1:])}

    def describe(self, params: Params, sample: int) -> str:
        return f"AugMix, {self.width} chains"

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        size, weights = len(canvas), params["weights"]
        ops, value, cubic = (params[name].reshape(size, -1) for name in ("ops", "value", "cubic"))
        chains = timm_ops(self, AUGMIX_OPS, ops, value, cubic, canvas)
        depth = len(chains) // self.width
        instructions = [Instruction.of(Op.BRANCH, size, weights[:, 0])]
        for chain in range(self.width):
            instructions += chains[chain * depth : (chain + 1) * depth]
            instructions.append(Instruction.of(Op.JOIN, size, weights[:, chain + 1]))
        return [*instructions, Instruction.of(Op.MERGE, size)]
