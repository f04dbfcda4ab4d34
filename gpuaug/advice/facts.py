"""What the rules of `advise` look at, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gpuaug.augment import Augment
from gpuaug.transforms.base import Kind, Transform
from gpuaug.transforms.container import RandomChoice
from gpuaug.transforms.degrade import GaussianNoise

__all__ = ["Facts", "Finding", "Findings", "Rule", "Step", "asked", "dataset_of", "is_random", "steps_of"]

DEEPEST = 16  # data sets that wrap one another


class Finding(NamedTuple):
    """One thing that is likely to be wrong. `str` gives it as one sentence.

    id: Name of the rule, the same in every version, such as "flip-changes-class".
    reason: What was found, and why it matters.
    fix: What to do.
    """

    id: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}; {self.fix}."


class Findings(list[Finding]):
    """The findings, in the order of the rules. `str` gives a sentence a line."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "Nothing was found that is likely to be wrong."


class Step(NamedTuple):
    """A transform with the share of samples that reach it: containers have chances of their own."""

    transform: Transform
    share: float

    @property
    def p(self) -> float:
        """Share of samples that it is applied to, in [0, 1]."""
        own = getattr(self.transform, "p", 1.0)
        return self.share * own if isinstance(own, (int, float)) else self.share

    def __str__(self) -> str:
        return repr(self.transform)


@dataclass(frozen=True)
class Facts:
    """What is known about a training run.

    train, eval: Steps of the two lists, containers opened. given_eval: Whether the user wrote the evaluation list.
    names: Names of the classes; empty if they are not known. domain: Kind of images, None if it was not said.
    preset: Transforms object of the weights, None if no weights were given.
    """

    augment: Augment
    train: Sequence[Step]
    eval: Sequence[Step]
    given_eval: bool
    names: Sequence[str] = ()
    domain: str | None = None
    preset: Any = None
    loader: Any = None
    label_smoothing: float = 0.0

    def trained(self, *kinds: Any) -> Iterator[Step]:
        """Steps of the training list of one of the classes that are applied to some sample."""
        return (step for step in self.train if isinstance(step.transform, kinds) and step.p > 0)


Rule = Callable[[Facts], Iterator[Finding]]


def steps_of(transforms: Sequence[Transform], share: float = 1.0) -> list[Step]:
    """Steps of a list with the share of samples that reach each; containers are opened and left out."""
    found = []
    for transform in transforms:
        children = list(transform.children)
        if not children:
            found.append(Step(transform, share))
            continue
        for child, chance in zip(children, _chances(transform, len(children)), strict=True):
            found += steps_of([child], share * chance)
    return found


def _chances(container: Transform, count: int) -> list[float]:
    """Share of a container's samples that reach each of its children."""
    p: Any = container.p
    if not isinstance(container, RandomChoice):
        return [float(p)] * count
    if p is None:
        return [1 / count] * count
    return [chance / max(1.0, sum(p)) for chance in p]


def is_random(step: Step) -> bool:
    """Whether a step changes images by chance, so that an evaluation list with it gives other results each time."""
    transform = step.transform
    if step.p == 0 or transform.kind not in (Kind.PIXEL, Kind.CROP, Kind.MIX):
        return False
    return bool(transform.draws) or step.p < 1 or isinstance(transform, GaussianNoise)


def asked(owner: Any, name: str, default: Any = None) -> Any:
    """An attribute of a user's object; the default if there is none, or if a property cannot say it yet."""
    try:
        return getattr(owner, name, default)
    except Exception:  # of the user's code: what is not known is no finding
        return default


def dataset_of(loader: Any, name: str) -> Any:
    """The first data set of a loader, from the outside, that has an attribute: below a DeviceLoader, Subset or other
    wrappers. Of none that has it, the innermost; None if there is no data set."""
    dataset = asked(asked(loader, "loader", loader), "dataset")
    for _ in range(DEEPEST):
        inner = asked(dataset, "dataset")
        if inner is None or asked(dataset, name) is not None:
            break
        dataset = inner
    return dataset
