"""What is searched: stages of small grids, and the list of transforms, or the arguments, of each setting."""

from __future__ import annotations

import itertools
import numbers
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from gpuaug import checks
from gpuaug.advice.facts import steps_of
from gpuaug.transforms.base import Convert, Transform
from gpuaug.transforms.container import RandomChoice, flatten
from gpuaug.transforms.mix import CutMix, Mix, MixUp
from gpuaug.transforms.policy import RandAugment

__all__ = ["BASELINE", "DEFAULT", "SEED", "Grid", "Recipe", "Search", "Settings", "Value", "label", "mixed_share"]

Value = str | int | float | bool | None
Settings = dict[str, Value]
Grid = dict[str, tuple[Value, ...]]
Recipe = Sequence[object] | Callable[..., Sequence[object]] | None

BASELINE = "baseline"  # name of the first stage, which has one setting: nothing is changed
SEED = "seed"  # name that no setting may have
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in the repr of a function; each process has another one
POLICY, MIXING = ("num_ops", "magnitude"), ("mix_p", "mix_alpha")  # settings of a recipe that is a list
DEFAULT: dict[str, Grid] = {
    "randaugment": {"num_ops": (1, 2), "magnitude": (5, 9, 13)},
    "mixing": {"mix_p": (0.4, 0.8), "mix_alpha": (0.2, 1.0)},
}


def label(settings: Mapping[str, Value]) -> str:
    """A setting in words: "magnitude=9, num_ops=2"; without settings, "baseline"."""
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items())) or BASELINE


class Search(NamedTuple):
    """A checked search.

    stages: Grid of each stage, in order; the first one is the baseline, whose grid is empty.
    recipe: List of transforms, function from settings to one, or None.
    num_classes: Number of classes, for mixes; None if it is not known.
    """

    stages: dict[str, Grid]
    recipe: Recipe
    num_classes: int | None

    def argument(self, settings: Settings) -> list[Any] | Settings:
        """What the training function gets: a list of transforms, or the settings where there is no recipe.

        Raises:
            ValueError: If there is no list for these settings.
        """
        if self.recipe is None:
            return dict(settings)
        if not callable(self.recipe):
            return _added(self.recipe, settings, self.num_classes)
        try:
            found = self.recipe(**settings)
        except Exception as error:
            got = f"{type(error).__name__}: {error}"
            expected = f"a function that takes {label(settings)}" if settings else "a function with defaults"
            raise checks.argument_error("tune", "recipe", expected, got) from error
        if not isinstance(found, Sequence) or isinstance(found, str):
            expected = "a function that returns a list of transforms"
            raise checks.argument_error("tune", "recipe", expected, checks.describe(found))
        return list(found)

    def points(self) -> Iterator[Settings]:
        """Each setting of each stage, without what a stage keeps of those before it."""
        for grid in self.stages.values():
            for values in itertools.product(*grid.values()):
                yield dict(zip(grid, values, strict=True))

    def words(self) -> dict[str, object]:
        """What makes it this search and no other one, as JSON holds it."""
        base = self.argument({})
        recipe = "arguments" if isinstance(base, dict) else [ADDRESS.sub("", repr(step)) for step in base]
        stages = [[name, {key: list(values) for key, values in grid.items()}] for name, grid in self.stages.items()]
        return {"space": stages, "recipe": recipe, "num_classes": self.num_classes}


def search(recipe: Recipe, space: Mapping[str, Mapping[str, Sequence[Value]]] | None, num_classes: object) -> Search:
    """Check the arguments of `tune` that say what is searched.

    Raises:
        ValueError: If one of them is wrong, or if there is no list for a setting.
    """
    if recipe is not None and not callable(recipe) and (not isinstance(recipe, Sequence) or isinstance(recipe, str)):
        expected = "a list of transforms, a function that returns one, or None"
        raise checks.argument_error("tune", "recipe", expected, checks.describe(recipe))
    classes = None if num_classes is None else checks.integer("tune", "num_classes", num_classes, 2)
    if space is None:
        space = {name: grid for name, grid in DEFAULT.items() if name != "mixing" or classes is not None}
    found = Search({BASELINE: {}, **_stages(space)}, recipe, classes)
    for settings in found.points():
        found.argument(settings)
    return found


def _stages(space: object) -> dict[str, Grid]:
    """The stages of a space, checked."""
    example = 'For example {"randaugment": {"num_ops": [1, 2], "magnitude": [5, 9]}}.'
    expected = "a mapping from stages to grids, which map names of settings to lists of values"
    if not isinstance(space, Mapping) or not space:
        raise checks.argument_error("tune", "space", expected, checks.describe(space), example)
    stages: dict[str, Grid] = {}
    for stage, grid in space.items():
        if not isinstance(stage, str) or not isinstance(grid, Mapping):
            raise checks.argument_error("tune", "space", expected, f"{stage!r}: {checks.describe(grid)}", example)
        if stage == BASELINE:
            if grid:
                remedy = "It is run first, with the recipe as it is; give the stages after it."
                raise checks.argument_error("tune", "space", 'without values for "baseline"', repr(dict(grid)), remedy)
            continue
        if not grid:
            raise checks.argument_error("tune", f"space[{stage!r}]", "a grid with at least one setting", "{}", example)
        stages[stage] = {_name(stage, name): _values(stage, name, values) for name, values in grid.items()}
    return stages


def _name(stage: str, name: object) -> str:
    if not isinstance(name, str) or not name.isidentifier() or name == SEED:
        remedy = "Seeds are the argument `seeds`." if name == SEED else ""
        expected = "names of settings, which are words"
        raise checks.argument_error("tune", f"space[{stage!r}]", expected, repr(name), remedy)
    return name


def _values(stage: str, name: str, values: object) -> tuple[Value, ...]:
    """The values of a setting, as Optuna can store them."""
    place, expected = f"space[{stage!r}][{name!r}]", "a list of at least one value"
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise checks.argument_error("tune", place, expected, checks.describe(values))
    found: list[Value] = []
    for value in values:
        if value is None or isinstance(value, (str, bool)):
            found.append(value)
        elif isinstance(value, numbers.Integral):
            found.append(int(value))
        elif isinstance(value, numbers.Real) and checks.is_number(value):
            found.append(float(value))
        else:
            expected = "a list of numbers, strings, true, false and None"
            remedy = "Give such a value a name, and let a function `recipe` look it up."
            raise checks.argument_error("tune", place, expected, checks.describe(value), remedy)
    if min(len(set(found)), len(set(map(str, found)))) < len(found):  # 9 and 9.0, or 9 and "9", which have one label
        raise checks.argument_error("tune", place, "values of which no two are equal", repr(list(values)))
    return tuple(found)


def _added(base: Sequence[object], settings: Settings, num_classes: int | None) -> list[Any]:
    """A list with RandAugment before its floats and with mixes at its end."""
    steps = flatten(list(base))
    for name in settings:
        if name not in (*POLICY, *MIXING):
            near = get_close_matches(name, (*POLICY, *MIXING), 1)
            remedy = f"Did you mean `{near[0]}`?" if near else "For other settings, let `recipe` be a function of them."
            known = f"one of {', '.join((*POLICY, *MIXING))}, since `recipe` is a list"
            raise checks.argument_error("tune", "space", known, f"`{name}`", remedy)
    leaves = [step.transform for step in steps_of([step for step in steps if isinstance(step, Transform)])]
    for names, kind in ((POLICY, RandAugment), (MIXING, Mix)):
        if any(name in settings for name in names) and any(isinstance(leaf, kind) for leaf in leaves):
            remedy = "Leave it out of the list, or let `recipe` be a function of the settings."
            expected = f"a list without {kind.__name__}, which {' and '.join(names)} add"
            raise checks.argument_error("tune", "recipe", expected, "one with it", remedy)
    if any(name in settings for name in POLICY):
        values: dict[str, Any] = {name: settings[name] for name in POLICY if name in settings}
        place = next((number for number, step in enumerate(steps) if isinstance(step, Convert)), len(steps))
        steps.insert(place, RandAugment(**values, interpolation="bilinear"))
    return steps + _mixes(settings, num_classes)


def _mixes(settings: Settings, num_classes: int | None) -> list[Any]:
    """MixUp and CutMix, each for half of the batches that are mixed."""
    if not any(name in settings for name in MIXING):
        return []
    if num_classes is None:
        raise checks.argument_error("tune", "num_classes", "given, since mix_p and mix_alpha need it", "None")
    alpha: Any = settings.get("mix_alpha", 1.0)
    share = checks.number("tune", "mix_p", settings.get("mix_p", 0.5), 0, 1, "a probability")
    mixes = [MixUp(alpha=alpha, num_classes=num_classes), CutMix(alpha=alpha, num_classes=num_classes)]
    return [RandomChoice(mixes, p=[share / 2, share / 2])] if share else []


def mixed_share(argument: Sequence[object] | Settings) -> float:
    """The share of samples that a list mixes; of settings without a list, their `mix_p`, in [0, 1]."""
    if isinstance(argument, dict):
        given = argument.get("mix_p", 0.0)
        return float(given) if isinstance(given, (int, float)) else 0.0
    known = [step for step in flatten(list(argument)) if isinstance(step, Transform)]
    return min(1.0, sum(step.p for step in steps_of(known) if isinstance(step.transform, Mix)))
