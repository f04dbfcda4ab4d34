"""Containers, which apply, choose or order other transforms, per sample.

A container's children draw for every sample, even if the draw is not used, so that no draw changes another one.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks, program
from gpuaug.program import Instruction, Op, merge
from gpuaug.transforms.base import BETWEEN, Builder, Canvas, Draws, Kind, Params, Pixel, Placement, Transform
from gpuaug.transforms.function import Identity
from gpuaug.transforms.mix import Mix, choose_mixes, leaders

__all__ = ["Compose", "RandomApply", "RandomChoice", "RandomOrder", "flatten"]

Array = NDArray[Any]


class Compose(Transform):
    """Run transforms one after another; the same as writing them into the list.

    The same as torchvision's Compose.

    Args:
        transforms: List of at least one transform.

    Raises:
        ValueError: If `transforms` is not a list of at least one transform.
    """

    kind = Kind.LIST

    def __init__(self, transforms: Sequence[object]) -> None:
        if not isinstance(transforms, Sequence) or isinstance(transforms, str) or not transforms:
            raise checks.argument_error(self, "transforms", "a list of at least one transform", repr(transforms))
        self.transforms = list(transforms)

    def lower(self, params: Params, builder: Builder) -> None:
        raise TypeError("Compose: `lower` must not be called, Augment puts its transforms into the list.")


def flatten(transforms: Any) -> list[Any]:
    """A list of transforms with every Compose and nested list opened, at any depth."""
    if isinstance(transforms, Compose):
        return flatten(transforms.transforms)
    if isinstance(transforms, Sequence) and not isinstance(transforms, str):
        return [leaf for transform in transforms for leaf in flatten(transform)]
    return [transforms]


class Lowered:
    """A builder that keeps what one child of a container lowers to."""

    floats = False

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.placement: Placement | None = None
        self.mixing: program.Mix | None = None
        self.found: list[Instruction] = []

    def window(self, placement: Placement) -> None:
        self.placement = placement

    def mix(self, mix: program.Mix) -> None:
        self.mixing = mix

    def instructions(self, instructions: list[Instruction], composable: bool = False) -> None:
        self.found += instructions


# functions from another library's transform to gpuaug's, None if it is none of theirs; gpuaug.interop adds its own
# they raise a ValueError that says what gpuaug lacks
READERS: list[Callable[[object], list[Transform] | None]] = []

WORDS = {Kind.PIXEL: "pixels", Kind.CROP: "crops", Kind.MIX: "mixes"}


class Container(Transform, abc.ABC):
    """The common part of RandomApply, RandomOrder and RandomChoice."""

    transforms: Sequence[Transform]

    def __init__(self, transforms: Any, *kinds: Kind) -> None:
        """Keep the children, each of one of `kinds`; a Compose among them becomes one child."""
        if not isinstance(transforms, Sequence) or isinstance(transforms, str) or not transforms:
            raise checks.argument_error(self, "transforms", "a list of at least one transform", repr(transforms))
        children = [self._child(child) for child in transforms]
        self.transforms = children
        for child in children:
            if not isinstance(child, Transform):
                remedy = "Put opaque steps (Kornia's) straight into Augment's list."
                raise checks.argument_error(self, "transforms", "gpuaug transforms", type(child).__name__, remedy)
            if child.kind not in kinds:
                expected = "transforms of " + " or ".join(WORDS[kind] for kind in kinds)
                remedy = "Put it straight into Augment's list."
                raise checks.argument_error(self, "transforms", expected, type(child).__name__, remedy)

    def _child(self, child: Any) -> Any:
        """A child as one transform, if it is one or can be converted; several steps stay together."""
        if isinstance(child, (Compose, list, tuple)):
            return RandomApply(flatten(child), p=1.0)
        steps = None
        try:
            if not isinstance(child, Transform):
                steps = next((found for reader in READERS if (found := reader(child)) is not None), None)
        except ValueError as error:
            raise checks.argument_error(self, "transforms", "transforms that gpuaug has", error) from None
        if steps is None:
            return child
        return steps[0] if len(steps) == 1 else RandomApply(steps, p=1.0) if steps else Identity()

    @property
    def children(self) -> Sequence[Transform]:
        return self.transforms

    @property
    def moves(self) -> bool:  # type: ignore[override]
        return any(child.moves for child in self.transforms)

    def check(self, canvas: Canvas) -> None:
        for child in self.children:
            child.check(canvas)
            if child.after(canvas).channels != canvas.channels:
                expected = f"transforms that keep the images' {canvas.channels} channels"
                remedy = "Put it straight into Augment's list."
                raise checks.argument_error(self, "transforms", expected, repr(child), remedy)

    def sample(self, draws: Draws, canvas: Canvas) -> Params:
        return super().sample(draws, canvas) | self._children(draws, canvas)

    def _children(self, draws: Draws, canvas: Canvas) -> Params:
        return {str(number): child.sample(draws, canvas) for number, child in enumerate(self.transforms)}

    def _lowered(self, params: Params, canvas: Canvas) -> list[Lowered]:
        """The result of lowering each child on this canvas."""
        found = []
        for number, child in enumerate(self.transforms):
            found.append(Lowered(canvas))
            child.lower(params[str(number)], cast(Builder, found[-1]))
        return found

    def ran(self, params: Params, sample: int) -> Sequence[int]:
        """Numbers of the children that a sample went through, in this order."""
        return range(len(self.transforms))

    def describe(self, params: Params, sample: int) -> str:
        """The captions of the children."""
        ran = self.ran(params, sample)
        captions = (self.transforms[number].caption(params[str(number)], sample) for number in ran)
        return BETWEEN.join(filter(None, captions))


class RandomApply(Container, Pixel):
    """Apply all transforms to a sample, or none.

    The same as torchvision's RandomApply.

    Args:
        transforms: At least one transform, each of which keeps the canvas (no crop, mix, ToDtype or Normalize).
        p: Chance per sample.
    """

    def __init__(self, transforms: Sequence[object], p: float = 0.5) -> None:
        super().__init__(transforms.transforms if isinstance(transforms, Compose) else transforms, Kind.PIXEL)
        self.p = checks.probability(self, p)

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return [instruction for lowered in self._lowered(params, canvas) for instruction in lowered.found]


class RandomOrder(Container, Pixel):
    """Apply all transforms, in an order drawn per sample.

    The same as torchvision's RandomOrder.

    Args:
        transforms: At least one transform, each of which keeps the canvas.
    """

    def __init__(self, transforms: Sequence[object]) -> None:
        super().__init__(transforms, Kind.PIXEL)

    @property
    def draws(self) -> int:  # type: ignore[override]
        return len(self.transforms)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        return {"order": np.argsort(uniforms, axis=1, kind="stable")}

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        children = [lowered.found for lowered in self._lowered(params, canvas)]
        return [instruction for chosen in params["order"].T for instruction in merge_lists(children, chosen)]

    def ran(self, params: Params, sample: int) -> Sequence[int]:
        order: list[int] = params["order"][sample].tolist()
        return order


def merge_lists(children: list[list[Instruction]], chosen: Array) -> list[Instruction]:
    """Instruction lists of several children as one list, sample b running those of child `chosen[b]`."""
    idle = Instruction.of(Op.IDENTITY, len(chosen))
    depth = max(map(len, children), default=0)
    return [
        merge([instructions[k] if k < len(instructions) else idle for instructions in children], chosen)
        for k in range(depth)
    ]


class RandomChoice(Container):
    """Apply one of the transforms, chosen per sample.

    All of them keep the canvas, or all are crops to one size, or all are MixUp and CutMix of one mode (then the
    choice is made for the batch, the pair or the sample, as that mode says).

    Args:
        transforms: At least one transform.
        p: Chance of each transform. If the sum is below 1, the other samples stay unchanged (torchvision scales the
            chances up); a sum above 1 is scaled down. None: equal chances.

    Raises:
        ValueError: If an argument is out of range.
    """

    draws = 1

    def __init__(self, transforms: Sequence[object], p: Sequence[float] | None = None) -> None:
        super().__init__(transforms, *WORDS)
        if len({child.kind for child in self.transforms}) > 1:
            names = ", ".join(type(child).__name__ for child in self.transforms)
            raise checks.argument_error(
                self, "transforms", "all of one kind: pixel transforms, or crops, or mixes", names
            )
        drawn = [child for child in self.transforms if child.size_is_drawn]
        if drawn:
            remedy = "Put it straight into Augment's list."
            raise checks.argument_error(self, "transforms", "crops to one size", repr(drawn[0]), remedy)
        first = [child for child in self.transforms if child.must_be_first]
        if first:
            remedy = "Put it first in Augment's list."
            raise checks.argument_error(self, "transforms", "crops of one interpolation", repr(first[0]), remedy)
        nested = [
            child for child in self.transforms if isinstance(child, RandomChoice) and child.kind is not Kind.PIXEL
        ]
        if nested:
            remedy = "Put their transforms into one RandomChoice."
            raise checks.argument_error(
                self, "transforms", "crops or mixes, not a RandomChoice of them", repr(nested[0]), remedy
            )
        mixes = [child for child in self.transforms if isinstance(child, Mix)]
        if len({(mix.mode, mix.num_classes, mix.label_smoothing) for mix in mixes}) > 1:
            expected = "mixes of one mode, num_classes and label_smoothing"
            raise checks.argument_error(self, "transforms", expected, ", ".join(map(repr, mixes)))
        if p is not None and (not isinstance(p, Sequence) or len(p) != len(self.transforms)):
            raise checks.argument_error(
                self, "p", f"None or {len(self.transforms)} numbers, one for each transform", repr(p)
            )
        for value in p or ():
            checks.number(self, "p", value, 0, 1e6, "a chance")
        if p is not None and sum(p) <= 0:
            raise checks.argument_error(self, "p", "chances with a sum greater than 0", repr(p))
        self.p = None if p is None else list(p)  # type: ignore[assignment]
        if self.kind is Kind.CROP and p is not None and sum(p) < 1 - 1e-9:
            expected = "chances with a sum of at least 1 for crops, since every image needs one"
            raise checks.argument_error(self, "p", expected, repr(p))

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        """The kind of its transforms."""
        return self.transforms[0].kind

    def sample(self, draws: Draws, canvas: Canvas) -> Params:
        op, uniforms = next(draws)  # without a gate: `p` holds the chances of its transforms
        params: Params = {"op": op, "chosen": self._choose(uniforms[:, 1])}
        return params | self._children(draws, canvas)

    def _choose(self, uniforms: Array) -> Array:
        """(B,) the number of the chosen child; one past the last is none."""
        p: Any = self.p or [1.0] * len(self.transforms)
        # a sum that rounding puts just below 1 leaves no sample unchanged: uniforms lie on a grid of 2**-24
        edges = np.cumsum(p) / max(1.0, sum(p))
        uniforms = uniforms[leaders(getattr(self.transforms[0], "mode", "elem"), len(uniforms))]
        return np.searchsorted(edges, uniforms, side="right")

    def lower(self, params: Params, builder: Builder) -> None:
        children, chosen = self._lowered(params, builder.canvas), params["chosen"]
        if placements := [child.placement for child in children if child.placement is not None]:
            if any(placement.statics != placements[0].statics for placement in placements):
                expected = "crops of one interpolation, antialias, padding_mode and fill"
                raise checks.argument_error(self, "transforms", expected, ", ".join(map(repr, self.transforms)))
            builder.window(Placement.choose(placements, chosen))
        elif mixes := [child.mixing for child in children if child.mixing is not None]:
            builder.mix(choose_mixes(mixes, chosen))
        else:
            builder.instructions(merge_lists([child.found for child in children], chosen))

    def ran(self, params: Params, sample: int) -> Sequence[int]:
        number = int(params["chosen"][sample])
        return [number] if number < len(self.transforms) else []

    def for_evaluation(self) -> Sequence[Transform] | None:
        """The common counterpart of crops; None if theirs differ."""
        first, *others = (child.for_evaluation() if child.kind is Kind.CROP else () for child in self.transforms)
        return first if all(other == first for other in others) else None

    def sizes(self, sizes: Array) -> Array:
        return self.transforms[0].sizes(sizes)

    def check(self, canvas: Canvas) -> None:
        super().check(canvas)
        first, *others = (child.sizes(canvas.sizes) for child in self.transforms)
        if any((first != other).any() for other in others):
            raise checks.argument_error(self, "transforms", "crops to one size", ", ".join(map(repr, self.transforms)))
