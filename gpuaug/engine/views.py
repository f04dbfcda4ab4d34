"""The views of a `MultiView`: what makes each, the calls of all, and errors that say which view they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from gpuaug import checks
from gpuaug.engine.batch import Images
from gpuaug.engine.call import Call, Reserved
from gpuaug.engine.export import EvalModule
from gpuaug.engine.listed import ListedModule, Pictures, Steps
from gpuaug.engine.numbering import Reservation
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.scenes import Scene
from gpuaug.program import VIEW
from gpuaug.transforms.base import Kind, Transform
from gpuaug.transforms.container import Compose
from gpuaug.transforms.corners import CropViews

__all__ = ["MultiCall", "View", "gathered", "is_nested", "lists_of", "made_view", "named", "shared_steps"]

T = TypeVar("T")


class View(ListedModule):
    """One list of a MultiView, which has the numbering."""

    def __init__(self, train: Steps, eval: Steps | None, shared: int, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self._set_lists(train, eval, shared)
        self._set_arguments(**arguments)

    def keyed(
        self, images: Images | Pictures, labels: Any, reservation: Reservation, training: bool, mixes: bool = True
    ) -> Call | Scene:
        """The call of a batch with keys that are given."""
        if type(images) is not Tensor and isinstance(images, Mapping):
            return self._scene(images, labels, training, lambda first: reservation, mixes)
        plain, targets = self._check(images, labels, training, mixes)
        if self._cast and mixes:
            self._tell_of_a_cast(self._pipeline(training))
        return self._call(images, plain, targets, reservation, training)

    def rendered(self, images: Any, draw: Any, labels: Any) -> Any:
        """The images of a draw; with labels, (images, labels)."""
        return self._rendered(images, draw, labels)

    def eval_module(self, size: tuple[int, int], channels: int) -> EvalModule:
        """The evaluation list as plain torch operations."""
        return self._eval_module(size, channels)

    def mixes(self, training: bool) -> bool:
        """Whether the list of a mode mixes labels."""
        return self._pipeline(training).mix is not None


View.__name__ = "MultiView"  # the class that users made, which errors name


@dataclass(frozen=True)
class MultiCall(Reserved):
    """The result of `MultiView.prepare`; used as a `Call`.

    calls: The call of each view, in order. reservation: The keys of the first view. given: Whether there are labels.
    apart: Whether each view has labels of its own.
    """

    calls: list[Call | Scene]
    reservation: Reservation
    given: bool
    apart: bool

    def run(self) -> Any:
        """Render the views: a list; with labels, (views, labels)."""
        return gathered([named(number, call.run) for number, call in enumerate(self.calls)], self.given, self.apart)

    def draw(self) -> list[Any]:
        """The parameters of every step, for each view."""
        return [named(number, call.draw) for number, call in enumerate(self.calls)]


def gathered(results: Sequence[Any], given: bool, apart: bool) -> Any:
    """The views of calls; with labels, (views, labels), once or as a list with those of each view."""
    if not given:
        return list(results)
    return [views for views, _ in results], [labels for _, labels in results] if apart else results[0][1]


def renamed(error: Exception) -> str:
    """What an error says, about a MultiView."""
    return re.sub("^Augment: ", "MultiView: ", str(error))


@contextmanager
def about(number: int) -> Iterator[None]:
    """Errors say which view they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{renamed(error)} This is about view {number}.") from error
    except Exception as error:
        if hasattr(error, "add_note"):  # from Python 3.11 on
            error.add_note(f"MultiView: this is about view {number}.")
        raise


def named(number: int, function: Callable[..., T], *arguments: Any) -> T:
    """What a function returns for a view; its errors say which one."""
    with about(number):
        return function(*arguments)


def is_nested(lists: Any) -> bool:
    """Whether a list holds lists only."""
    return isinstance(lists, (list, tuple)) and bool(lists) and all(isinstance(one, (list, tuple)) for one in lists)


def lists_of(owner: object, views: Any) -> list[Any]:
    """The steps of each view; raises an error if it is not a list of lists."""
    if isinstance(views, str) or not isinstance(views, (Sequence, CropViews)) or len(views) == 0:
        got = "an empty list" if isinstance(views, Sequence) and len(views) == 0 else checks.describe(views)
        remedy = "Pass [[first view's transforms], [second view's transforms]]."
        raise checks.argument_error(owner, "views", "a list with a list of transforms for each view", got, remedy)
    if len(views) > VIEW + 1:
        raise checks.argument_error(owner, "views", f"at most {VIEW + 1} lists", len(views))
    for number, steps in enumerate(views):
        if isinstance(steps, str) or not isinstance(steps, (Sequence, Compose)):
            expected, remedy = "a list of transforms or a Compose", f"Put it into a list: [{checks.describe(steps)}]."
            raise checks.argument_error(owner, f"views[{number}]", expected, checks.describe(steps), remedy)
    return [steps.transforms if isinstance(steps, Compose) else steps for steps in views]


def shared_steps(owner: object, shared: Any) -> list[Transform]:
    """The steps that all views share; raises an error for one whose draw cannot be shared."""
    try:
        steps = Pipeline(shared, "shared").steps
    except ValueError as error:
        raise ValueError(renamed(error)) from error
    for step in steps:
        if step.kind in (Kind.OPAQUE, Kind.MIX):
            expected = "of transforms that draw for each image from the keys of the call"
            raise checks.argument_error(owner, "shared", expected, step.title, "Put it into the list of each view.")
    return list(steps)


def made_view(number: int, train: Any, eval: Any, shared: int, arguments: Mapping[str, Any], nested: bool) -> View:
    """The view of a list; errors name the argument that it was passed as."""
    try:
        return View(train, eval, shared, arguments)
    except ValueError as error:
        own = {"`train`": f"`views[{number}]`", "train=": "", "`eval`": f"`eval[{number}]`" if nested else "`eval`"}
        text = renamed(error)
        for before, after in own.items():
            text = text.replace(before, after)
        raise ValueError(text) from error
