"""What a transform is: abstract kinds that name their hooks, the registry, and the `p` gate, written once.

A transform holds arguments only. `sample` turns uniform numbers into parameters, `lower` (or `place`) turns
parameters into program rows. Neither touches a pixel, and neither keeps state.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks, program
from gpuaug.program import Instruction, Straight

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "OPS", "Canvas", "Crop", "Params", "Pixel", "Placement", "Transform", "fill_row", "interpolation", "repeated",
    "whole_boxes",
]  # fmt: skip

Array = NDArray[Any]
Params = dict[
    str, Any
]  # every value (B, ...), but "op", an int; a container nests a dict for each child: "0", "1", ...
Draws = Iterator[tuple[int, Array]]

OPS: list[type[Transform]] = []  # every final class, in definition order; tests, docs and benchmarks read it


@lru_cache(maxsize=256)
def repeated(count: int, *row: int) -> Array:
    """(count, len(row)) int64, the same row for every sample, without copies; read-only."""
    return np.broadcast_to(np.array(row, np.int64), (count, len(row)))


def whole_boxes(sizes: Array) -> Array:
    """(B, 4) boxes (top, left, height, width) of all of each image of `sizes` (B, 2)."""
    if sizes.strides[0] == 0:
        return repeated(len(sizes), 0, 0, *sizes[0].tolist())
    return np.concatenate([np.zeros_like(sizes), sizes], axis=1)


@dataclass(frozen=True)
class Canvas:
    """What is known of the images at a step: sizes (B, 2) int, (height, width) in pixels, and how many channels."""

    sizes: Array
    channels: int

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def several(self) -> bool:
        """Whether the images differ in size."""
        return bool(self.sizes.strides[0] and (self.sizes != self.sizes[0]).any())  # a row repeated has no strides

    @cached_property
    def groups(self) -> list[tuple[Any, tuple[int, int]]]:
        """The rows of the images of each (height, width), in the order of the batch: arrays, or a slice of all."""
        if not self.several:
            height, width = self.sizes[0].tolist()
            return [(slice(None), (height, width))]
        sizes, number = np.unique(self.sizes, axis=0, return_inverse=True)
        number = number.reshape(-1)
        rows = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
        return [(group, (int(height), int(width))) for group, (height, width) in zip(rows, sizes, strict=True)]

    @property
    def sides(self) -> tuple[Any, Any]:
        """Height and width: two numbers, or (B,) each where the images differ."""
        if self.several:
            height, width = self.sizes.T
        else:
            height, width = self.sizes[0].tolist()
        return height, width

    def size(self, owner: object) -> tuple[int, int]:
        """The (height, width) all images share, where they must.

        Raises:
            ValueError: if they differ.
        """
        if self.several:
            name = owner if isinstance(owner, str) else type(owner).__name__
            raise ValueError(
                f"{name}: `images` must have one size at this step, got sizes from {tuple(self.sizes.min(0).tolist())} "
                f"to {tuple(self.sizes.max(0).tolist())}. Put RandomResizedCrop, RandomCrop, CenterCrop or "
                "Resize((height, width)) before it."
            )
        height, width = self.sizes[0].tolist()
        return height, width


def _fixing(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor after which the instance cannot be changed, since only a constructor checks arguments."""

    @wraps(init)
    def fixed(self: Transform, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is fixed:  # not one that a constructor calls
            for name, value in vars(self).items():
                if type(value) is list:  # else its items could be changed
                    vars(self)[name] = tuple(value)
            vars(self)["_fixed"] = True

    return fixed


class Transform(abc.ABC):  # noqa: B024 - its kinds are what is abstract
    """One line of the user's list. `p` is the chance per sample; `draws` is how many uniforms per sample it needs.

    Its arguments are attributes that can be read. `replace` gives a transform with other ones.
    """

    kind: ClassVar[str] = "other"
    p: float = 1.0
    draws: int = 0
    channels: ClassVar[tuple[int, ...] | None] = None  # the channel counts it accepts, None is any
    moves: bool = False  # it moves pixels, so masks, boxes and key points would have to follow

    def __init_subclass__(cls, registered: bool = True) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = _fixing(cls.__init__)  # type: ignore[method-assign]
        if registered and abc.ABC not in cls.__bases__:
            OPS.append(cls)

    @property
    def children(self) -> Sequence[Transform]:
        return ()

    def sample(self, draws: Draws, canvas: Canvas) -> Params:
        """Parameters for every sample. `draws` yields (op, uniforms (B, draws + 1)) for this one, then its children."""
        op, uniforms = next(draws)
        params = self.parameters(uniforms[:, 1:], canvas)
        params["applied"] = uniforms[:, 0] < self.p if self.p < 1 else np.ones(len(uniforms), bool)
        params["op"] = op
        return params

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        """Map uniforms (B, draws) in [0, 1) to this transform's parameters, every value (B, ...)."""
        return {}

    def straight(self, canvas: Canvas) -> Sequence[Straight] | None:
        """What a backend may draw by itself in place of `sample` and what follows, with the same bits; or None."""
        return None

    def check(self, canvas: Canvas) -> None:
        """Raise if this step cannot run on such a canvas."""
        if self.channels is not None and canvas.channels not in self.channels:
            accepted = " or ".join(map(str, self.channels))
            remedy = "Decode to RGB, or leave this step out."
            raise checks.argument_error(
                self, "images", f"images of {accepted} channels", f"{canvas.channels} channels", remedy
            )

    def for_evaluation(self) -> Sequence[Transform] | None:
        """What stands in its place in the evaluation list that is made by default.

        Nothing, unless a step says otherwise. None: it cannot say, so the user has to give that list.
        """
        return ()

    def sizes(self, sizes: Array) -> Array:
        """Image sizes (B, 2) after this step."""
        return sizes

    def after(self, canvas: Canvas) -> Canvas:
        """What the next step sees."""
        sizes = self.sizes(canvas.sizes)
        return canvas if sizes is canvas.sizes else Canvas(sizes, canvas.channels)

    def replace(self, **changes: Any) -> Self:
        """The same transform with other arguments, checked as in its constructor.

        Args:
            changes: arguments of the constructor by name.

        Raises:
            TypeError: if it has no such argument.
            ValueError: if a value is out of range.
        """
        names = list(inspect.signature(type(self)).parameters)
        for name in changes:
            if name not in names:
                raise TypeError(self._no_argument(name, names))
        return type(self)(**{name: getattr(self, name) for name in names} | changes)

    def _no_argument(self, name: str, names: Sequence[str]) -> str:
        remedy = (
            " Wrap it: RandomApply([...], p=...), or RandomChoice([...], p=[...]) for a mix." if name == "p" else ""
        )
        return f"{type(self).__name__}: `{name}` is not an argument, only {', '.join(names) or 'none'}.{remedy}"

    def __setattr__(self, name: str, value: Any) -> None:
        if "_fixed" in vars(self) or type(self).__init__ is object.__init__:
            names = list(inspect.signature(type(self)).parameters)
            fixed = f"{type(self).__name__}: `{name}` cannot be changed after construction."
            remedy = f" Use replace({name}={value!r}), which makes a checked copy, in a new Augment."
            raise AttributeError(fixed + remedy if name in names else self._no_argument(name, names))
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}: `{name}` cannot be deleted.")

    def __repr__(self) -> str:
        shown = []
        for name, argument in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name)
            if name == "transforms":
                value = list(value)
            if argument.default is inspect.Parameter.empty or value != argument.default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class Pixel(Transform, abc.ABC):
    """Changes pixels and keeps the canvas: lowers to instructions."""

    kind = "pixel"
    composable: ClassVar[bool] = False  # lowers to one WARP instruction that may be composed with its neighbours

    @abc.abstractmethod
    def lower(self, params: Params, canvas: Canvas) -> list[Instruction]:
        """The instructions for every sample, as if all were applied."""

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        """The instructions, IDENTITY for samples that are not applied."""
        instructions = self.lower(params, canvas)
        applied = params["applied"]
        return instructions if applied.all() else [instruction.where(applied) for instruction in instructions]


@dataclass(frozen=True)
class Placement:
    """Where a crop looks, relative to the image before it; see `program.Window` for the fields."""

    box: Array  # (B, 4)
    resized: Array  # (B, 2)
    start: Array  # (B, 2)
    size: Array  # (B, 2), what comes out
    interpolation: int = program.BILINEAR
    antialias: bool = True
    padding_mode: int = program.CONSTANT
    fill: Array | None = None  # (C,) uint8
    may_resample: bool = True  # any draw may resample, ...
    may_crop: bool = False  # ... show a part of what was resampled, ...
    may_pad: bool = (
        False  # ... or stick out of the image: of all draws, so that what is launched does not depend on one
    )
    min_resized: Array | None = None  # (2,) the least `resized` of any draw; None: that of this one

    @classmethod
    def cut(
        cls, sizes: Array, start: Array, size: Array, may_pad: bool, padding_mode: int = 0, fill: Array | None = None
    ) -> Placement:
        """No resampling: the part of the image (B, 2) `sizes` that starts at `start`, padded where it sticks out."""
        box = whole_boxes(sizes)
        return cls(
            box,
            sizes,
            start,
            size,
            padding_mode=padding_mode,
            fill=fill,
            may_resample=False,
            may_crop=True,
            may_pad=may_pad,
        )


class Crop(Transform, abc.ABC):
    """Changes the canvas: reads a part of the image, resampled or padded. Does not gate: `p` is 1."""

    kind = "crop"
    moves = True

    def for_evaluation(self) -> Sequence[Transform] | None:
        return None  # left out, images would have another size

    @abc.abstractmethod
    def place(self, params: Params, canvas: Canvas) -> Placement:
        """Which part of each image becomes the new one."""

    @abc.abstractmethod
    def sizes(self, sizes: Array) -> Array:
        """Image sizes (B, 2) after this step."""


INTERPOLATIONS = {
    "nearest": program.NEAREST,
    "nearest-exact": program.NEAREST_EXACT,
    "bilinear": program.BILINEAR,
    "bicubic": program.BICUBIC,
}


def interpolation(owner: object, value: Any, allowed: Sequence[str]) -> str:
    """torchvision's InterpolationMode or its string, as the string."""
    return checks.one_of(owner, "interpolation", getattr(value, "value", value), allowed)


def fill_row(owner: object, fill: float | Sequence[float] | None, channels: int) -> Array:
    """A fill argument as (C,) float32 levels; None is black."""
    values = [0.0] if fill is None else list(fill) if isinstance(fill, Sequence) else [fill]
    if len(values) not in (1, channels):
        raise checks.argument_error(owner, "fill", f"one level or {channels}, as the images have channels", repr(fill))
    return np.broadcast_to(np.asarray(values, np.float32), (channels,))
