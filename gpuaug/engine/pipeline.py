"""A list of transforms: which order is allowed, which step draws which numbers, and how the list is lowered."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gpuaug import checks
from gpuaug.engine.builder import Item, ProgramBuilder
from gpuaug.engine.order import check_order
from gpuaug.engine.seen import seen_by
from gpuaug.engine.targets import Targets
from gpuaug.interop.torchvision import in_a_list, theirs
from gpuaug.philox import uniforms
from gpuaug.program import VIEW, Alike, Keys, Program
from gpuaug.transforms.base import Canvas, Kind, Params, Transform
from gpuaug.transforms.container import Compose, flatten
from gpuaug.transforms.convert import ToDtype
from gpuaug.transforms.corners import CropViews
from gpuaug.transforms.geometric import RandomHorizontalFlip, RandomVerticalFlip
from gpuaug.transforms.mix import Mix, strangers
from gpuaug.transforms.opaque import Opaque, is_foreign
from gpuaug.transforms.straight import Straight

__all__ = ["Pipeline", "walk"]

Array = NDArray[Any]

# the methods that `straight` replaces
HOOKS = {"sample", "parameters", "lower", "instructions", "placement", "mixing", "sizes", "after"}
FLIPS = (RandomHorizontalFlip, RandomVerticalFlip)  # what a window does itself; not a user's subclass
MOST_ALIKE = 64  # batch shapes that are remembered; a limit, since each batch may have a new one


class Pipeline:
    """The user's list, opened, checked and numbered. Holds no state.

    Args:
        transforms: The list.
        argument: Name of the argument that it is, for messages.
        shared: How many of its first steps have the draw of the call's view 0.
        first: The list that it replaces, from the module's constructor; None for that one itself.
        number: Function of (steps, steps and numbers of `first`) that numbers the nodes; see `gpuaug.engine.replace`.
    """

    def __init__(
        self,
        transforms: Any,
        argument: str,
        shared: int = 0,
        first: Pipeline | None = None,
        number: Callable[[Sequence[Transform], Sequence[Transform], Sequence[int]], list[int]] | None = None,
    ) -> None:
        if not isinstance(transforms, (Sequence, Compose)) or isinstance(transforms, str):
            inside = transforms if isinstance(transforms, nn.Sequential) else [transforms]
            remedy = f"Use {argument}=gpuaug.from_torchvision(...)." if any(map(theirs, inside)) else ""
            if isinstance(transforms, Transform):
                remedy = f"Put it into a list: {argument}=[{type(transforms).__name__}(...)]."
            got = checks.describe(transforms)
            raise checks.argument_error("Augment", argument, "a list of transforms or a Compose", got, remedy)
        steps: list[Transform] = []
        for transform in flatten(transforms):  # a comprehension adds a frame below Python 3.12: see `_steps`
            steps += _steps(transform, argument)
        self.steps = tuple(steps)  # a tuple: what follows from the steps is made here, once
        check_order(self.steps, argument)
        nodes, self._first = list(walk(self.steps)), first
        self.numbers = list(range(len(nodes)))  # of the nodes, in the order of `walk`: by place, in a first list
        if first is not None and number is not None:
            self.numbers = number(self.steps, first.steps, first.numbers)
        self._shared = shared
        self._streams = _Streams(nodes, self.numbers, len(list(walk(self.steps[:shared]))))
        counts = [len(list(walk([step]))) for step in self.steps]
        self._ops = [self.numbers[sum(counts[:place])] for place in range(len(counts))]
        self._alike: dict[Any, Alike] = {}
        self._tables: dict[int, Array | None] = {}  # levels after the conversions, by number of channels

    def __getstate__(self) -> dict[str, Any]:
        """A copy remembers no shapes: they contain a memory format, which protocols below 4 cannot pickle."""
        return vars(self) | {"_alike": {}}

    @property
    def root(self) -> Pipeline:
        """The list of the module's constructor, in whose place this one is."""
        return self if self._first is None else self._first

    def of_draw(self, drawn: Pipeline | None) -> Pipeline:
        """The list that a draw is rendered by: the one it was drawn for, if this module had it, or else this one."""
        return drawn if drawn is not None and drawn.root is self.root else self

    @cached_property
    def mixes(self) -> list[Mix]:
        """The mix, or all that a RandomChoice picks from."""
        nodes = (node for step in self.steps if step.kind is Kind.MIX for node in walk([step]))
        return [node for node in nodes if isinstance(node, Mix)]

    @cached_property
    def mix(self) -> Mix | None:
        """The mix, or the first of those a RandomChoice picks from."""
        return self.mixes[0] if self.mixes else None

    @cached_property
    def num_classes(self) -> int | None:
        """The number of classes of the mix, if there is one."""
        return None if self.mix is None else self.mix.num_classes

    @cached_property
    def draws_globally(self) -> bool:
        """Whether a step draws from torch's global generator, as opaque steps do."""
        return any(step.kind is Kind.OPAQUE for step in self.steps)

    @cached_property
    def dtype(self) -> torch.dtype | str:
        """The dtype of the result; "auto" is that of the module."""
        return next((step.dtype for step in reversed(self.steps) if isinstance(step, ToDtype)), torch.uint8)

    @cached_property
    def moving(self) -> Transform | None:
        """The first step that moves pixels."""
        return next((step for step in self.steps if step.moves), None)

    @cached_property
    def first_steps(self) -> tuple[Transform, ...]:
        """The steps that decide what is read of an image: crops and flips, up to the last crop.

        None of them if another step comes first, which needs the whole image.
        """
        count = 0
        for number, step in enumerate(self.steps):
            if step.sees_boxes:
                return ()  # nobody knows the boxes before the call
            if step.kind is Kind.CROP:
                count = number + 1
            elif type(step) not in FLIPS and step.kind is not Kind.TARGET:
                break
        return self.steps[:count]

    @cached_property
    def first_name(self) -> str:
        """The first steps as text, the same in every process, with their numbers if those are not their places."""
        numbers = self._first_numbers()
        return str(list(self.first_steps)) + (f", numbers={numbers}" if numbers != list(range(len(numbers))) else "")

    def _first_numbers(self) -> list[int]:
        return self.numbers[: len(list(walk(self.first_steps)))]

    def only_first(self) -> Pipeline | None:
        """A list of the first steps, which draw as in this list; None if there are none."""
        numbers = self._first_numbers()
        return Pipeline(self.first_steps, "train", first=self, number=lambda *_: numbers) if numbers else None

    def sample(self, keys: Keys, canvas: Canvas, targets: Targets | None = None, exact: bool = False) -> list[Params]:
        """Draw every step's parameters; raises an error if a step cannot run on the canvas that reaches it.

        Args:
            keys: Keys of the batch.
            canvas: Sizes and channels of its images.
            targets: Its targets, of which a step may see the boxes.
            exact: Whether each warp is a step by itself, for where boxes have moved to.
        """
        draws, given = self._streams.draw(keys), canvas
        params: list[Params] = []
        for number, step in enumerate(self.steps):
            step.check(canvas)
            if step.sees_boxes and targets is not None:
                own = replace(keys, view=keys.view & ~VIEW) if number < self._shared else keys
                seen = seen_by(step, targets, self.steps[:number], params, given, exact, own, self._ops[number])
                params.append(step.sample(draws, replace(canvas, seen=seen)))
            else:
                params.append(step.sample(draws, canvas))
            canvas = step.after(canvas, params[-1])
        if self.mix is not None:
            _part_copies(params, keys.index)
        return params

    def lower(
        self,
        params: list[Params],
        keys: Keys,
        canvas: Canvas,
        exact: bool,
        memory_format: torch.memory_format,
        auto: torch.dtype = torch.float32,
    ) -> list[Item]:
        """Turn parameters into programs, step by step. `auto` is the dtype of ToDtype("auto")."""
        builder = ProgramBuilder(keys, canvas, exact)
        for step, drawn in zip(self.steps, params, strict=True):
            step.lower(drawn, builder)
        dtype = auto if isinstance(self.dtype, str) else self.dtype
        items = builder.finish(dtype, memory_format, self._tables)
        if isinstance(items[0], Program):  # otherwise each size has separate programs
            items[0].alike = self.alike(canvas, exact, memory_format, auto)
        return items

    def alike(
        self, canvas: Canvas, exact: bool, memory_format: torch.memory_format, auto: torch.dtype = torch.float32
    ) -> Alike | None:
        """The object shared by calls that differ only in their draws; None for images of several sizes."""
        if canvas.sizes.strides[0]:
            return None
        height, width = canvas.sizes[0].tolist()
        key = (len(canvas), height, width, canvas.channels, exact, memory_format, auto)
        if key not in self._alike:
            if len(self._alike) >= MOST_ALIKE:
                self._alike.clear()
            self._alike[key] = Alike(partial(self._straight, canvas))
        return self._alike[key]

    def _straight(self, canvas: Canvas) -> list[tuple[int, Straight]] | None:
        """The draws that a backend may make itself; None if a step has to be sampled, or has the draw of view 0."""
        if self._streams.shared:
            return None
        found: list[tuple[int, Straight]] = []
        for step, op in zip(self.steps, self._ops, strict=True):
            parts = None if _changed(step) else step.straight(canvas)
            if parts is None:
                return None
            found += [(op, part) for part in parts]
            canvas = step.after(canvas)
        return found


class _Streams:
    """Which blocks of random numbers the nodes of a list draw, numbered once: one Philox call serves them all.

    The first `shared` nodes draw with the key of the call's view 0.
    """

    def __init__(self, nodes: list[Transform], numbers: list[int], shared: int = 0) -> None:
        counts, self.numbers = [node.numbers for node in nodes], numbers
        blocks = [-(-count // 4) for count in counts]
        self.ops = np.repeat(np.array(numbers, np.uint64), blocks)
        self.blocks = np.array([block for count in blocks for block in range(count)], np.uint64)
        starts = [4 * sum(blocks[:number]) for number in range(len(nodes))]
        self.shared = sum(blocks[:shared])
        self.parts = [slice(start, start + count) for start, count in zip(starts, counts, strict=True)]

    def draw(self, keys: Keys) -> Iterator[tuple[int, Array]]:
        """(op, uniforms (B, draws + 1)) of each node."""
        numbers = uniforms(keys.key, keys.index, keys.look, self.ops, self.blocks)
        if self.shared and keys.view & VIEW:
            key, few = replace(keys, view=keys.view & ~VIEW).key, slice(self.shared)
            numbers[:, : 4 * self.shared] = uniforms(key, keys.index, keys.look, self.ops[few], self.blocks[few])
        return ((op, numbers[:, part]) for op, part in zip(self.numbers, self.parts, strict=True))


def _part_copies(params: Iterable[Params], numbers: Array) -> None:
    """Give no sample another look at its own image as its partner; the mix may be inside a RandomChoice."""
    for drawn in params:
        if "partner" in drawn:
            drawn["partner"] = strangers(drawn["partner"], numbers)
        _part_copies((value for value in drawn.values() if isinstance(value, dict)), numbers)


def _steps(transform: Any, argument: str) -> list[Transform]:
    """A gpuaug transform, the counterparts of a torchvision transform, or a Kornia module as an opaque step."""
    if isinstance(transform, Transform):
        return [transform]
    if theirs(transform):
        return in_a_list(transform, stacklevel=1 + _frames())
    if is_foreign(transform):
        return [Opaque(transform)]
    remedy = "Use gpuaug's transforms, a kornia.augmentation module or a torchvision transform."
    if isinstance(transform, CropViews):
        remedy = f"It makes several images of one: use MultiView({transform!r})."
    raise checks.argument_error("Augment", argument, "a list of transforms", checks.describe(transform), remedy)


def _frames() -> int:
    """Number of frames from the caller to the code that constructs the module, which is not in this package."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "gpuaug":
        frame, count = frame.f_back, count + 1
    return count


def _changed(step: Transform) -> bool:
    """True if a subclass, such as a user's, draws or lowers differently from the class whose `straight` it inherits."""
    for kind in type(step).__mro__:
        if "straight" in vars(kind):
            return False
        if HOOKS & vars(kind).keys():
            return True
    return False


def walk(steps: Sequence[Transform]) -> Iterator[Transform]:
    for step in steps:
        yield step
        yield from walk(step.children)
