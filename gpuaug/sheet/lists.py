"""The list that a preview shows: a recipe, or what FILE.py:NAME names, at each strength if it has one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.engine.multi import MultiView
from gpuaug.sheet.tiles import described
from gpuaug.transforms.container import Compose

__all__ = ["Lists", "of_object", "of_recipe", "recipes"]

CLASSES = 1000  # of a recipe that mixes; no label is shown


class Lists:
    """A list for each strength.

    name: What it is called. make: Function of the strength that returns a list or an Augment. has_strength: Whether the
    result depends on it. view: Which of the lists to take if there are several, from 1; None: there is one.
    """

    def __init__(self, name: str, make: Callable[[float], Any], has_strength: bool, view: int | None = None) -> None:
        self.name, self.has_strength = name, has_strength
        self._make, self._view = make, view

    def at(self, strength: float, seed: int | None) -> Augment:
        """The module whose training list is shown.

        Raises:
            ValueError: If there is no list at this strength, or no such view.
        """
        made = self._make(strength)
        if isinstance(made, MultiView):
            made = [list(view.train_pipeline.steps) for view in made.views]
        several = isinstance(made, (list, tuple)) and bool(made) and all(isinstance(one, (list, tuple)) for one in made)
        if several:
            made = made[checks.integer("preview", "--view", 1 if self._view is None else self._view, 1, len(made)) - 1]
        elif self._view is not None:
            raise checks.argument_error("preview", "--view", "left out for a single list", self._view)
        augment = described("preview", "--list", made)
        if seed is not None:
            augment.seed = seed
        return augment


def recipes() -> dict[str, Callable[..., Any]]:
    """The functions of `gpuaug.recipes` that make a list for a size, by name."""
    from gpuaug import recipes as module

    found = ((name, getattr(module, name)) for name in module.__all__)
    return {name: value for name, value in found if "size" in _arguments(value)}


def of_recipe(name: str, size: int, mixes: bool, view: int | None) -> Lists:
    """The lists of a recipe.

    Args:
        name: Name of a recipe.
        size: Size of the images in pixels.
        mixes: Whether the list mixes, if the recipe does.
        view: Which of its views to show, from 1; None: the first.

    Raises:
        ValueError: If there is no such recipe.
    """
    known = recipes()
    if name not in known:
        raise checks.argument_error("preview", "--recipe", "one of " + ", ".join(known), repr(name))
    recipe, takes = known[name], _arguments(known[name])
    more = {"num_classes": CLASSES} if mixes and "num_classes" in takes else {}

    def make(strength: float) -> Any:
        own = {"strength": strength} if "strength" in takes else {}
        return recipe(size, **own, **more)

    return Lists(name, make, "strength" in takes, view)


def of_object(name: str, value: Any, size: int, view: int | None) -> Lists:
    """The lists of an object of the user's: an Augment, a list, or a function that returns one.

    Args:
        name: Name of the object.
        value: The object. Of a function, arguments `size` and `strength` are filled in; of a MultiView, its lists are
            taken, and seed 0.
        size: Size of the images in pixels.
        view: Which of several lists to show, from 1; None: the first.
    """
    if isinstance(value, (Augment, MultiView, Compose, Sequence)) or not callable(value):
        return Lists(name, lambda strength: value, False, view)
    takes = _arguments(value)

    def make(strength: float) -> Any:
        given = {"size": size, "strength": strength}
        try:
            return value(**{argument: given[argument] for argument in given if argument in takes})
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise ValueError(f"preview: {name} raised at strength {strength:g}: {said}") from error

    return Lists(name, make, "strength" in takes, view)


def _arguments(value: Any) -> Sequence[str]:
    known = callable(value) and not inspect.isclass(value)  # functools.partial, too
    return list(inspect.signature(value).parameters) if known else []
