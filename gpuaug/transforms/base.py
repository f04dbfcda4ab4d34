"""Base classes of transforms: the kinds, each with the hook that an op implements, the registry, and the `p` gate.

A transform holds only arguments. `sample` turns uniform numbers into parameters, `lower` writes what they mean into a
builder. Neither touches a pixel, and neither keeps state. A new op is a class of one of the kinds, with its one hook:

    Pixel    instructions(params, canvas)   what happens to the pixels of each sample
    Crop     placement(params, canvas)      which part of each image becomes the new one
    Mix      mixing(params, canvas)         what is mixed into each sample (in mix.py)
    Convert  convert(values)                what each level becomes, as a float
"""

from __future__ import annotations

import abc
import enum
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks, program
from gpuaug.program import Erase, Instruction
from gpuaug.transforms.canvas import Canvas, Placement, repeated, whole_boxes
from gpuaug.transforms.straight import Straight

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "BETWEEN", "OPS", "Builder", "Canvas", "Convert", "Crop", "Kind", "Params", "Pixel", "Placement", "Transform",
    "repeated", "whole_boxes",
]  # fmt: skip

Array = NDArray[Any]
# every value is (B, ...), except "op", an int; a container nests a dict for each child: "0", "1", ...
Params = dict[str, Any]
Draws = Iterator[tuple[int, Array]]

BETWEEN = " · "  # between parts of a caption
OPS: list[type[Transform]] = []  # every final class, in definition order; tests, docs and benchmarks read it


class Kind(str, enum.Enum):
    """What a step works on. A string as well, the word that names it."""

    PIXEL = "pixel"
    CROP = "crop"
    MIX = "mix"
    CONVERT = "convert"
    OPAQUE = "opaque"
    TARGET = "target"
    LIST = "list"  # Compose, whose transforms Augment puts into its list


class Builder(Protocol):
    """Collects what steps lower to; `gpuaug.engine.builder.ProgramBuilder` makes programs of it."""

    canvas: Canvas  # sizes and channels that the next step sees
    floats: bool  # whether pixels are floats here, after a ToDtype

    def window(self, placement: Placement) -> None:
        """Crop, pad or resize."""

    def instructions(self, instructions: list[Instruction], composable: bool = False) -> None:
        """Run instructions on the canvas; a composable one may be composed with its neighbours."""

    def convert(self, step: Convert) -> None:
        """Map levels to floats, the same for every sample."""

    def erase(self, erase: Erase) -> None:
        """Erase boxes of floats."""

    def mix(self, mix: program.Mix) -> None:
        """Mix the samples of the batch."""

    def call(self, function: Callable[[Tensor], Tensor], canvas: Canvas) -> None:
        """Run a function on the batch's canvas, which has the shape `canvas` after it."""

    def check_targets(self, step: Transform) -> None:
        """Check or clip the boxes, as the step says; it does nothing to pixels."""


def _fixing(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor after which the instance cannot be changed, since only a constructor checks arguments."""

    @wraps(init)
    def fixed(self: Transform, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is fixed:  # not the constructor of a base class
            for name, value in vars(self).items():
                if type(value) is list:  # otherwise its items could be changed
                    vars(self)[name] = tuple(value)
            vars(self)["_fixed"] = True

    return fixed


class Transform(abc.ABC):
    """One line of the user's list. `p` is the chance per sample; `draws` is how many uniforms per sample it needs.

    Its arguments are read-only attributes. `replace` returns a transform with other arguments.
    """

    kind: Kind
    p: float = 1.0
    draws: int = 0
    channels: ClassVar[tuple[int, ...] | None] = None  # the channel counts it accepts; None: any
    moves: bool = False  # whether it moves pixels, so that masks, boxes and key points would have to be moved too
    makes_floats: bool = False  # whether pixels are floats after it
    size_is_drawn: bool = False  # whether the size of its result depends on the draw
    must_be_first: bool = False  # whether no other step may change pixels before it
    sees_boxes: ClassVar[bool] = False  # whether its draw depends on the boxes, which `canvas.seen` then holds
    # what it does, if `for_evaluation` is None, that the default evaluation list cannot do
    no_counterpart: ClassVar[str] = "changes the shape of images and has no fixed counterpart"
    # name of its counterpart in torchvision.transforms.v2, by default the name of the class; None: there is none
    torchvision: ClassVar[str | None] = None

    def __init_subclass__(cls, registered: bool = True) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = _fixing(cls.__init__)  # type: ignore[method-assign]
        if "torchvision" not in vars(cls):
            cls.torchvision = cls.__name__
        if registered and abc.ABC not in cls.__bases__:
            OPS.append(cls)

    @property
    def title(self) -> str:
        """Its name in messages."""
        return type(self).__name__

    @property
    def children(self) -> Sequence[Transform]:
        return ()

    @property
    def numbers(self) -> int:
        """How many uniforms per sample it gets: `draws`, and one for the gate."""
        return self.draws + 1

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

    @abc.abstractmethod
    def lower(self, params: Params, builder: Builder) -> None:
        """Write what the parameters mean into the builder. The kinds implement it."""

    def straight(self, canvas: Canvas) -> Sequence[Straight] | None:
        """The draws that a backend may make itself instead of `sample`, with the same bits; None if there are none."""
        return None

    def caption(self, params: Params, sample: int) -> str:
        """What it did to a sample, in a few words, e.g. "rotate 9°"; empty if it did nothing. See `describe`."""
        applied = params.get("applied")
        return "" if applied is not None and not applied[sample] else self.describe(params, sample)

    def describe(self, params: Params, sample: int) -> str:
        """`caption` of a sample to which it was applied: its name, and each parameter that is one number."""
        numbers = {name: value for name, value in params.items() if name not in ("op", "applied")}
        shown = (f"{name} {value[sample]:.3g}" for name, value in numbers.items() if getattr(value, "ndim", 0) == 1)
        return " ".join([type(self).__name__.removeprefix("Random"), *shown])

    def detail(self, params: Params, sample: int) -> str:
        """`describe` in whole words, for `gpuaug.engine.explain`."""
        return self.describe(params, sample)

    def check(self, canvas: Canvas) -> None:
        """Raise an error if this step cannot run on such a canvas."""
        if self.channels is not None and canvas.channels not in self.channels:
            accepted = " or ".join(map(str, self.channels))
            remedy = "Decode to RGB, or leave this step out."
            raise checks.argument_error(
                self, "images", f"images of {accepted} channels", f"{canvas.channels} channels", remedy
            )

    def check_order(self, argument: str, floats: bool) -> None:
        """Raise an error if it cannot run on floats, or on levels. `argument`: Augment's argument with the list."""
        if floats:
            name = type(self).__name__
            expected, got = "with pixel work before ToDtype", f"{name} after it"
            raise checks.argument_error("Augment", argument, expected, got, f"Put {name} before it.")

    def for_evaluation(self) -> Sequence[Transform] | None:
        """Its replacement in the default evaluation list.

        Empty, unless a class overrides this. None: it has no fixed counterpart, so the user has to pass that list.
        """
        return ()

    def sizes(self, sizes: Array) -> Array:
        """Image sizes (B, 2) after this step."""
        return sizes

    def after(self, canvas: Canvas, params: Params | None = None) -> Canvas:
        """Sizes and channels that the next step sees; they may depend on the draw, if `size_is_drawn`."""
        sizes = self.sizes(canvas.sizes)
        return canvas if sizes is canvas.sizes else Canvas(sizes, canvas.channels)

    def replace(self, **changes: Any) -> Self:
        """The same transform with other arguments, checked as in its constructor.

        Args:
            changes: Arguments of the constructor by name.

        Raises:
            TypeError: If it has no such argument.
            ValueError: If a value is out of range.
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

    kind = Kind.PIXEL
    composable: ClassVar[bool] = False  # lowers to one WARP instruction that may be composed with its neighbours

    @abc.abstractmethod
    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        """The instructions for every sample, as if all were applied."""

    def lower(self, params: Params, builder: Builder) -> None:
        """The instructions, IDENTITY for samples to which it is not applied."""
        canvas, applied = builder.canvas, params["applied"]
        instructions = self.instructions(params, canvas)
        if not applied.all():
            instructions = [instruction.where(applied) for instruction in instructions]
        builder.instructions(instructions, self.composable)
        after = self.after(canvas)
        if after.channels != canvas.channels:
            builder.call(partial(grey_channels, count=after.channels), after)


def grey_channels(canvas: Tensor, count: int) -> Tensor:
    """Grey (B, 1 or 3, H, W) with `count` channels."""
    return canvas[:, :1].expand(-1, count, -1, -1)


class Crop(Transform, abc.ABC):
    """Changes the canvas: reads a part of the image, resampled or padded. Always applied: `p` is 1."""

    kind = Kind.CROP
    moves = True

    def for_evaluation(self) -> Sequence[Transform] | None:
        return None  # without it, images would have another size

    @abc.abstractmethod
    def placement(self, params: Params, canvas: Canvas) -> Placement:
        """Which part of each image becomes the new one."""

    @abc.abstractmethod
    def sizes(self, sizes: Array) -> Array:
        """Image sizes (B, 2) after this step."""

    def lower(self, params: Params, builder: Builder) -> None:
        builder.window(self.placement(params, builder.canvas))

    def describe(self, params: Params, sample: int) -> str:
        return ""  # the same for every sample, unless a class overrides this


class Convert(Transform, abc.ABC):
    """Maps levels to floats, the same for every sample."""

    kind = Kind.CONVERT

    @property
    def numbers(self) -> int:
        return 0

    def for_evaluation(self) -> Sequence[Transform]:
        return (self,)

    def straight(self, canvas: Canvas) -> Sequence[Straight]:
        return ()

    @abc.abstractmethod
    def convert(self, table: Tensor) -> Tensor:
        """(C, 1, 256) values of the levels before this step -> after it."""

    def convert_erased(self, erase: Erase) -> None:
        """Convert the values that an erase before this step writes."""

    def lower(self, params: Params, builder: Builder) -> None:
        builder.convert(self)

    def describe(self, params: Params, sample: int) -> str:
        return ""

    def detail(self, params: Params, sample: int) -> str:
        return "the same for every image"
