"""Lists that depend on the epoch: a warm-up of the strength, no mixing at the end, or any other function of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.state import State
from gpuaug.recipes.strength import at_strength
from gpuaug.transforms.base import Kind, Transform
from gpuaug.transforms.container import flatten
from gpuaug.transforms.function import Identity

__all__ = ["Ramp", "Schedule"]


class Ramp:
    """Lists for a Schedule: strength grows over the first epochs, and the last ones do not mix.

    In epoch e of the first `warm_up`, the strength is (e + 1) / (warm_up + 1). Steps stay at their places, so an
    image's draws are those of the full list. To end without mixing is timm's `mixup_off_epoch`. A Ramp can be
    pickled.

    Args:
        transforms: List at full strength, such as a recipe's.
        epochs: Number of epochs of the training, at least 1.
        warm_up: Number of epochs before full strength, in [0, epochs].
        no_mixing: Number of epochs at the end without mixes, in [0, epochs]; there, labels are returned as they are
            given.

    Raises:
        ValueError: If an argument is out of range, or a step has no rule for its strength.
    """

    def __init__(self, transforms: Sequence[object], epochs: int, *, warm_up: int = 0, no_mixing: int = 0) -> None:
        self.transforms = flatten(transforms)
        self.epochs = checks.integer(self, "epochs", epochs, 1)
        self.warm_up = checks.integer(self, "warm_up", warm_up, 0, epochs)
        self.no_mixing = checks.integer(self, "no_mixing", no_mixing, 0, epochs)
        if not self.transforms:
            raise checks.argument_error(self, "transforms", "a list of at least one transform", repr(transforms))
        try:  # here, not in one of the epochs
            Pipeline(self.transforms, "transforms")
        except ValueError as error:
            raise ValueError(str(error).replace("Augment: ", "Ramp: ", 1)) from None
        self(0)

    def strength(self, epoch: int) -> float:
        """The strength of an epoch."""
        return min(1.0, (epoch + 1) / (self.warm_up + 1))

    def __call__(self, epoch: int) -> list[Transform]:
        """The list of an epoch."""
        steps = at_strength(self.transforms, self.strength(epoch)) if self.warm_up else self.transforms
        if not self.no_mixing or epoch < self.epochs - self.no_mixing:
            return list(steps)
        # steps of other libraries have no kind, and do not mix; a Schedule takes no empty list
        return [step for step in steps if getattr(step, "kind", None) is not Kind.MIX] or [Identity()]

    def __repr__(self) -> str:
        steps = "".join(f"    {step!r},\n" for step in self.transforms)
        return f"Ramp([\n{steps}], {self.epochs}, warm_up={self.warm_up}, no_mixing={self.no_mixing})"


class Schedule:
    """A training list for each epoch, put into a module whenever one begins.

    The module and everything that holds it stay as they are: `set_epoch` and the passes of a DeviceLoader ask the
    schedule for the list and `replace` the module's. Its seed, looks and counter go on. The list depends on the epoch
    alone, so a state that is loaded brings the list of its epoch with it; worker processes follow too, if they were
    forked or the function can be pickled.

    Args:
        augment: Module whose training list it replaces. A schedule that it has already is replaced by this one.
        lists: Function from the number of the epoch, from 0, to a list of transforms; a Ramp, for example. It is called
            at least once for each epoch, and should return the same list for the same epoch.

    Raises:
        ValueError: If there is no list for the present epoch.
    """

    def __init__(self, augment: Augment, lists: Callable[[int], Sequence[object] | Transform]) -> None:
        if not isinstance(augment, Augment):
            raise checks.argument_error(self, "augment", "a gpuaug.Augment", checks.describe(augment))
        if not callable(lists):
            remedy = "Pass a function, such as lambda epoch: [...], or a gpuaug.recipes.Ramp."
            raise checks.argument_error(self, "lists", "a function from epoch to list", checks.describe(lists), remedy)
        self.augment, self.lists = augment, lists
        self.apply(augment, augment.epoch)
        augment._schedule = self

    @property
    def epoch(self) -> int:
        """The module's epoch."""
        return self.augment.epoch

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, as `set_epoch` of the module does.

        Raises:
            ValueError: If there is no list for this epoch. The module stays as it is then.
        """
        self.augment.set_epoch(epoch)

    def apply(self, augment: Augment, epoch: int) -> None:
        """Put the list of an epoch into a module, which `set_epoch` and loaders do by themselves.

        Raises:
            ValueError: If the function raises, or returns what is no list of transforms. The module stays as it is.
        """
        expected, stays = f"a function that returns the list of epoch {epoch}", "The module keeps its list and epoch."
        try:
            found = self.lists(epoch)
            if found is None or (isinstance(found, Sequence) and not found):
                raise ValueError(f"it returned {found!r}")
            augment.replace(train=found)
        except Exception as error:
            got = f"{type(error).__name__} ({error})"
            raise checks.argument_error(self, "lists", expected, got, stays) from error
        augment._listed = epoch

    def remove(self) -> None:
        """Leave the module with its present list, from now on without a schedule."""
        if self.augment._schedule is self:
            self.augment._schedule = self.augment._listed = None

    def state_dict(self) -> dict[str, object]:
        """The module's state, which holds the epoch and so the list."""
        return dict(self.augment.state_dict())

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from a state of this schedule, or of its module: the list of its epoch is put in.

        Raises:
            ValueError: If there is no list for the epoch of the state.
        """
        name = next((name for name in state if name.endswith("_extra_state")), "")
        saved = State.read(state.get(name))
        if saved is not None:  # before anything is loaded, since it may raise
            self.apply(self.augment, saved.epoch)
        self.augment.load_state_dict(state)

    def __repr__(self) -> str:
        return f"Schedule({self.augment!r},\n    {self.lists!r},\n)"
