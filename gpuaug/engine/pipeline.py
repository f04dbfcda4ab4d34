"""A list of transforms in order: what may stand where, who draws which numbers, and how the list is lowered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuaug import checks
from gpuaug.engine.builder import Builder, Item
from gpuaug.interop.torchvision import in_a_list, theirs
from gpuaug.philox import uniforms
from gpuaug.program import Alike, Keys, Program, Straight
from gpuaug.transforms.base import Canvas, Params, Transform
from gpuaug.transforms.container import Compose, flatten
from gpuaug.transforms.convert import Convert, Normalize, ToDtype
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.mix import Mix, strangers
from gpuaug.transforms.opaque import Opaque, is_foreign

__all__ = ["Pipeline", "evaluation"]

Array = NDArray[Any]

HOOKS = {
    "sample",
    "parameters",
    "instructions",
    "lower",
    "place",
    "mix",
    "sizes",
    "after",
}  # what `straight` stands for
MOST_ALIKE = 64  # shapes of batches that are remembered; with ever new ones they would be without end


class Pipeline:
    """The user's list, opened, checked and numbered. Holds no state."""

    def __init__(self, transforms: Any, argument: str) -> None:
        if not isinstance(transforms, (Sequence, Compose)) or isinstance(transforms, str):
            inside = transforms if isinstance(transforms, nn.Sequential) else [transforms]
            remedy = f"Use {argument}=gpuaug.from_torchvision(...)." if any(map(theirs, inside)) else ""
            if isinstance(transforms, Transform):
                remedy = f"Put it into a list: {argument}=[{type(transforms).__name__}(...)]."
            got = checks.describe(transforms)
            raise checks.argument_error("Augment", argument, "a list of transforms or a Compose", got, remedy)
        steps: list[Transform] = []
        for transform in flatten(transforms):  # a comprehension is a frame of its own below Python 3.12: see `_steps`
            steps += _steps(transform, argument)
        self.steps = tuple(steps)  # a tuple: what follows from the steps is made here, once
        _check_order(self.steps, argument)
        nodes = list(_walk(self.steps))
        self._streams = _Streams(nodes)
        counts = [len(list(_walk([step]))) for step in self.steps]
        self._ops = [sum(counts[:number]) for number in range(len(counts))]
        self._alike: dict[Any, Alike] = {}
        self._tables: dict[int, Array | None] = {}  # what the converts make of levels, for each number of channels

    def __getstate__(self) -> dict[str, Any]:
        """A copy remembers no shapes; a memory format, which is part of them, pickles under no protocol below 4."""
        return vars(self) | {"_alike": {}}

    @cached_property
    def mix(self) -> Mix | None:
        """The mix, or one of those a RandomChoice picks from."""
        nodes = (node for step in self.steps if step.kind == "mix" for node in _walk([step]))
        return next((node for node in nodes if isinstance(node, Mix)), None)

    @cached_property
    def dtype(self) -> torch.dtype | str:
        """What comes out; "auto" is the module's."""
        return next((step.dtype for step in reversed(self.steps) if isinstance(step, ToDtype)), torch.uint8)

    @cached_property
    def moving(self) -> Transform | None:
        """The first step that moves pixels."""
        return next((step for step in self.steps if step.moves), None)

    def check_left_out(self, canvas: Canvas) -> None:
        """Raise if a step that changes the shape of such images is left out of the evaluation list made by default.

        An opaque step is run once on a black image to see.
        """
        if self._unanswered is not None:
            raise _no_counterpart(_called(self._unanswered))
        if not any(isinstance(step, Opaque) for step in self.steps):
            return
        canvas = Canvas(canvas.sizes[:1], canvas.channels)
        for step in self.steps:
            before = canvas
            try:
                canvas = step.after(before)
            except Exception as error:
                raise _no_counterpart(_called(step)) from error
            changed = canvas.channels != before.channels or (canvas.sizes != before.sizes).any()
            if changed and isinstance(step, Opaque):
                raise _no_counterpart(_called(step))

    @cached_property
    def _unanswered(self) -> Transform | None:
        """The first step that cannot say what stands in its place in evaluation."""
        return next((step for step in self.steps if step.for_evaluation() is None), None)

    def sample(self, keys: Keys, canvas: Canvas) -> list[Params]:
        """Draw every step's parameters; raise if a step cannot run on what reaches it."""
        draws = self._streams.draw(keys)
        params = []
        for step in self.steps:
            step.check(canvas)
            params.append(step.sample(draws, canvas))
            canvas = step.after(canvas)
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
        """Parameters to programs: the same walk through the list, collecting instructions. `auto` is the module's."""
        builder = Builder(keys, canvas, exact)
        converts: list[Convert] = []
        for step, drawn in zip(self.steps, params, strict=True):
            if isinstance(step, Convert):
                converts.append(step)
                _normalize_erased(builder, step)
            elif isinstance(step, RandomErasing) and any(map(_makes_floats, converts)):
                builder.erases.append(step.erase(drawn, builder.canvas))
            elif isinstance(step, Opaque):
                builder.call(partial(step.run, params=drawn), step.after(builder.canvas))
            else:
                LOWER[step.kind](builder, step, drawn)
        channels = builder.canvas.channels
        if channels not in self._tables:
            self._tables[channels] = _table(converts, channels)
        dtype = auto if isinstance(self.dtype, str) else self.dtype
        items = builder.finish(dtype, memory_format, self._tables[channels])
        if isinstance(items[0], Program):  # else images of each size are by themselves
            items[0].alike = self.alike(canvas, exact, memory_format, auto)
        return items

    def alike(
        self, canvas: Canvas, exact: bool, memory_format: torch.memory_format, auto: torch.dtype = torch.float32
    ) -> Alike | None:
        """What calls have in common that differ in their draws alone; None for images of several sizes."""
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
        """What a backend may draw by itself; None if a step has to be sampled."""
        found: list[tuple[int, Straight]] = []
        for step, op in zip(self.steps, self._ops, strict=True):
            parts = None if _changed(step) else step.straight(canvas)
            if parts is None:
                return None
            found += [(op, part) for part in parts]
            canvas = step.after(canvas)
        return found


class _Streams:
    """Which blocks of random numbers the nodes of a list draw, numbered once: one Philox call serves them all."""

    def __init__(self, nodes: list[Transform]) -> None:
        # one number more than `draws`, for the gate; a conversion has none
        counts = [0 if node.kind == "convert" else node.draws + 1 for node in nodes]
        blocks = [-(-count // 4) for count in counts]
        self.ops = np.repeat(np.arange(len(nodes), dtype=np.uint64), blocks)
        self.blocks = np.array([block for count in blocks for block in range(count)], np.uint64)
        starts = [4 * sum(blocks[:number]) for number in range(len(nodes))]
        self.parts = [slice(start, start + count) for start, count in zip(starts, counts, strict=True)]

    def draw(self, keys: Keys) -> Iterator[tuple[int, Array]]:
        """(op, uniforms (B, draws + 1)) of each node."""
        numbers = uniforms(keys.key, keys.index, keys.look, self.ops, self.blocks)
        return ((op, numbers[:, part]) for op, part in enumerate(self.parts))


def _lower_pixel(builder: Builder, step: Any, params: Params) -> None:
    canvas = builder.canvas
    builder.pixel(step.instructions(params, canvas), getattr(step, "composable", False))
    after = step.after(canvas)
    if after.channels != canvas.channels:
        builder.call(partial(_channels, count=after.channels), after)


def _channels(canvas: Tensor, count: int) -> Tensor:
    """Grey (B, 1 or 3, H, W) with `count` channels."""
    return canvas[:, :1].expand(-1, count, -1, -1)


def _part_copies(params: Iterable[Params], numbers: Array) -> None:
    """No mix takes another look at the sample's own image for its partner; the mix may be inside a RandomChoice."""
    for drawn in params:
        if "partner" in drawn:
            drawn["partner"] = strangers(drawn["partner"], numbers)
        _part_copies((value for value in drawn.values() if isinstance(value, dict)), numbers)


def _lower_mix(builder: Builder, step: Any, params: Params) -> None:
    builder.mix = step.mix(params, builder.canvas)


LOWER: dict[str, Callable[[Builder, Any, Params], None]] = {
    "crop": lambda builder, step, params: builder.place(step.place(params, builder.canvas)),
    "pixel": _lower_pixel,
    "mix": _lower_mix,
}


def _steps(transform: Any, argument: str) -> list[Transform]:
    """gpuaug's own, what a torchvision transform becomes, or a Kornia module as an opaque step."""
    if isinstance(transform, Transform):
        return [transform]
    if theirs(transform):
        return in_a_list(transform, stacklevel=5)  # who made the Augment
    if is_foreign(transform):
        return [Opaque(transform)]
    remedy = "Use gpuaug's transforms, a kornia.augmentation module or a torchvision transform."
    raise checks.argument_error("Augment", argument, "a list of transforms", checks.describe(transform), remedy)


def _changed(step: Transform) -> bool:
    """True if a subclass, as a user may write one, draws or lowers otherwise than the class whose `straight` it has."""
    for kind in type(step).__mro__:
        if "straight" in vars(kind):
            return False
        if HOOKS & vars(kind).keys():
            return True
    return False


def _walk(steps: Sequence[Transform]) -> Iterator[Transform]:
    for step in steps:
        yield step
        yield from _walk(step.children)


def _check_order(steps: Sequence[Transform], argument: str) -> None:
    """Levels first, then floats, then at most one mix."""
    floats = mixed = False
    for step in steps:
        name = type(step).__name__
        if isinstance(step, ToDtype):
            if floats and not step.floats:
                got, remedy = f"{step} after ToDtype", "Leave it out."
                raise checks.argument_error("Augment", argument, "without a way back from floats", got, remedy)
            floats = floats or _makes_floats(step)
        elif isinstance(step, Normalize) and not floats:
            remedy = "Put ToDtype(torch.float32, scale=True) before it."
            raise checks.argument_error("Augment", argument, "with Normalize on floats", "Normalize on uint8", remedy)
        elif step.kind == "mix":
            if mixed:
                remedy = "Put them into one RandomChoice."
                raise checks.argument_error(
                    "Augment", argument, "with at most one mix", f"a second one, {name}", remedy
                )
            mixed = True
        elif mixed and step.kind != "convert":
            remedy = f"Put {name} before it."
            raise checks.argument_error(
                "Augment", argument, "with the mix after all pixel work", f"{name} after it", remedy
            )
        elif floats and step.kind != "convert" and not isinstance(step, RandomErasing):
            remedy = f"Put {name} before it."
            raise checks.argument_error(
                "Augment", argument, "with pixel work before ToDtype", f"{name} after it", remedy
            )
        elif not floats and isinstance(step, RandomErasing) and step.value == "random":
            remedy = "Put it after ToDtype and Normalize."
            raise checks.argument_error(
                "Augment", argument, 'with RandomErasing(value="random") on floats', "it on uint8", remedy
            )


def _makes_floats(step: Convert) -> bool:
    return isinstance(step, ToDtype) and step.floats


def _normalize_erased(builder: Builder, step: Convert) -> None:
    """What was erased before a Normalize is normalised too."""
    if isinstance(step, Normalize):
        mean, std = np.asarray(step.mean, np.float32), np.asarray(step.std, np.float32)
        for erase in builder.erases:
            erase.shift, erase.scale = (erase.shift - mean) / std, erase.scale / std


def _table(converts: list[Convert], channels: int) -> Array | None:
    """(C, 256) float32: what the converts make of each level, computed by torchvision's own functions."""
    levels = torch.arange(256, dtype=torch.uint8, device="cpu").expand(channels, 1, 256)
    for step in converts:
        levels = step.convert(levels)
    return np.ascontiguousarray(levels[:, 0].numpy()) if levels.is_floating_point() else None


def evaluation(steps: Sequence[Transform]) -> list[Transform]:
    """The deterministic counterpart of a training list: what each step says of itself.

    RandomResizedCrop(size) becomes Resize(round(1.14 * size)) and CenterCrop(size), RandomCrop(size) becomes
    CenterCrop(size); Resize, CenterCrop, Pad, Grayscale, ToDtype and Normalize stay; the rest goes. A step that changes
    the shape and cannot say is left out, too, but then `Pipeline.check_left_out` raises.
    """
    return [counterpart for step in steps for counterpart in step.for_evaluation() or ()]


def _called(step: Transform) -> str:
    return f"the opaque step {type(step.module).__name__}" if isinstance(step, Opaque) else type(step).__name__


def _no_counterpart(name: str) -> ValueError:
    expected = f"given, since {name} of `train` changes the shape of images and has no fixed counterpart"
    return checks.argument_error(
        "Augment", "eval", expected, "None", "Pass eval=[...] with what gives images their size."
    )
