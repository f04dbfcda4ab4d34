"""Other lists for a module that exists: which numbers their steps draw, and the module with them. See docs/draws.md.

A step's draws are keyed by a number. In the lists of the constructor it is the step's place. In a list that replaces
one of them, a step that the first list has keeps its number, and a further step gets one that follows from its class
alone. So numbers depend on the first list and the new one, never on those between: a run that resumes has them too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from gpuaug import checks
from gpuaug.engine.evaluation import DefaultEvaluation
from gpuaug.engine.listed import ListedModule, Steps, modules_of
from gpuaug.engine.module import NumberedModule
from gpuaug.engine.numbering import Mode
from gpuaug.engine.pipeline import Pipeline
from gpuaug.transforms.base import Transform
from gpuaug.transforms.convert import followed
from gpuaug.transforms.function import Lambda
from gpuaug.transforms.opaque import Opaque

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ReplaceableModule", "numbers_of"]

FURTHER = 1 << 14  # numbers from here to 2**15 are those of steps that the first list does not have


class ReplaceableModule(NumberedModule, ListedModule):
    """The part of `Augment` that holds its lists, and replaces them."""

    _schedule: Any = None  # a gpuaug.Schedule; it cannot be imported here, since it imports Augment
    _listed: int | None = None  # the epoch whose list the schedule has set

    def _set_lists(self, train: Steps, eval: Steps | None, shared: int = 0) -> None:
        super()._set_lists(train, eval, shared)
        self._eval_given = eval is not None

    @property
    def derives_eval(self) -> bool:
        """Whether the evaluation list follows from the training list."""
        return self._default_eval is not None

    def replace(
        self, train: Sequence[object] | Transform | None = None, eval: Sequence[object] | Transform | None = None
    ) -> Self:
        """Put other lists into this module. Seed, epoch, looks, counter and opaque steps' state stay as they are.

        Steps that were in the list of the constructor keep their draws, whatever else goes or comes (docs/draws.md).
        Call it between passes of a DeviceLoader, which works ahead; batches that are prepared already keep their list.
        A CUDA graph of `capture` goes on if the new list differs in strengths only, or else says that it has to be
        captured again. A module in the list as an opaque step stays registered
        when it leaves the list, so that state dicts keep their keys.

        Args:
            train: Transforms for training, as in the constructor. None: the present ones.
            eval: Transforms for evaluation. None: the present ones if they were given, or else derived from `train`.

        Returns:
            This module.

        Raises:
            ValueError: If both are None, or a list is none that the constructor takes. Nothing has changed then.
        """
        if train is None and eval is None:
            raise checks.argument_error(self, "train", "a list of transforms", "None, and no `eval`")
        old, derived = (self.train_pipeline, self.eval_pipeline), self._default_eval
        new = _renewed(old[0], train, "train")
        if eval is not None:
            derived = None
        elif derived is not None and new is not old[0]:
            derived = DefaultEvaluation(new.steps)
        evaluation = _renewed(old[1], derived.steps if derived is not None else eval, "eval")
        followed(self, self._dtype, lambda weight: weight, [new.dtype, evaluation.dtype])  # raises if it cannot
        opaque = _merged(list(self.opaque), [*new.steps, *evaluation.steps])
        self.train_pipeline, self.eval_pipeline, self._default_eval = new, evaluation, derived
        self.opaque = nn.ModuleList(opaque)
        return self

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: the looks at each image are counted from the start, so the same epoch has the same draws.

        Worker processes that hold a copy of this module use the new epoch too. After `load_state_dict`, a call with the
        saved epoch continues it where it was. A `gpuaug.Schedule` puts in the list of the epoch first; if that fails,
        the epoch stays as it is.

        Raises:
            ValueError: If `epoch` is out of range, or the schedule has no list for it.
        """
        if self._schedule is not None:
            self._schedule.apply(self, checks.integer(self, "epoch", epoch, 0, 2**32 - 1))
        super().set_epoch(epoch)

    def begin_pass(self, train: bool, shared: bool | None = None) -> Mode:
        if train and self._schedule is not None:
            self._schedule.apply(self, self._numbering.epochs.coming)
        return super().begin_pass(train, shared)

    begin_pass.__doc__ = NumberedModule.begin_pass.__doc__

    def set_extra_state(self, state: Any) -> None:
        super().set_extra_state(state)
        if self._schedule is not None:  # for what shows the list before the first call, such as `example_draw`
            with suppress(ValueError):  # which the first call raises
                self._follow_schedule(self.epoch)

    set_extra_state.__doc__ = NumberedModule.set_extra_state.__doc__

    def _follow_schedule(self, epoch: int) -> None:
        """Put in the list of an epoch that began elsewhere: in another process, or by loading a state."""
        if self._listed != epoch:
            self._schedule.apply(self, epoch)


def _renewed(old: Pipeline, transforms: Any, argument: str) -> Pipeline:
    """A list in place of another one; the same object if nothing differs, which keeps what backends have planned."""
    if transforms is None:
        return old
    root = old.root
    new = Pipeline(transforms, argument, first=root, number=numbers_of)
    for same in (old, root):
        if (
            new.numbers == same.numbers
            and len(new.steps) == len(same.steps)
            and all(map(_equal, new.steps, same.steps))
        ):
            return same
    return new


# ---- numbers ---------------------------------------------------------------------------------------------------------


class Node(NamedTuple):
    """A step of the first list, with its number."""

    step: Transform
    number: int
    children: list[Node]


def numbers_of(steps: Sequence[Transform], first: Sequence[Transform], numbers: Sequence[int]) -> list[int]:
    """The number of each node of a list, in the order of `walk`.

    Args:
        steps: List that replaces another one.
        first: List of the constructor.
        numbers: Number of each node of `first`.
    """
    found: list[int] = []
    _number(steps, _tree(first, iter(numbers)), "", found)
    return found


def _tree(steps: Sequence[Transform], numbers: Iterator[int]) -> list[Node]:
    return [Node(step, next(numbers), _tree(step.children, numbers)) for step in steps]


def _number(steps: Sequence[Transform], first: list[Node], path: str, found: list[int]) -> None:
    further: Counter[str] = Counter()  # how many steps of a class the first list does not have
    for step, node in zip(steps, _partners(steps, first), strict=True):
        if node is None:
            name = f"{path}/{_label(step)}"
            own = f"{name}#{further[name]}"
            further[name] += 1
            found.append(_further(own, found))
        else:
            own = str(node.number)
            found.append(node.number)
        _number(step.children, [] if node is None else node.children, own, found)


def _further(name: str, taken: list[int]) -> int:
    """A number that follows from the name alone, unless a step before it in the list has it already."""
    number = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") % FURTHER
    while number + FURTHER in taken:
        number = (number + 1) % FURTHER
    return number + FURTHER


def _partners(steps: Sequence[Transform], first: list[Node]) -> list[Node | None]:
    """For each step the one of the first list whose draws it has: an equal one, or else the next of its class."""
    found: list[Node | None] = [None] * len(steps)
    free = list(first)
    for like in (_equal, lambda one, other: _label(one) == _label(other)):
        for place, step in enumerate(steps):
            if found[place] is None:
                found[place] = next((node for node in free if like(step, node.step)), None)
                free = [node for node in free if node is not found[place]]
    return found


def _label(step: Transform) -> str:
    module = f" {type(step.module).__qualname__}" if isinstance(step, (Opaque, Lambda)) else ""
    return type(step).__qualname__ + module


def _equal(step: Transform, other: Transform) -> bool:
    try:
        return step is other or bool(step == other)
    except (RuntimeError, ValueError):  # arguments that are tensors cannot be compared like this
        return False


# ---- opaque modules --------------------------------------------------------------------------------------------------


def _merged(registered: list[nn.Module], steps: Iterable[Transform]) -> list[nn.Module]:
    """The modules to register: those that are, and new ones, in place of one of their class that is in no list."""
    used = modules_of(steps)
    for module in used:
        if any(module is other for other in registered):
            continue
        idle = (n for n, other in enumerate(registered) if not any(other is one for one in used))
        place = next((n for n in idle if type(registered[n]) is type(module)), len(registered))
        registered[place : place + 1] = [module]
    return registered
