"""`advise`: run every rule on a list and what is known about its training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gpuaug import checks
from gpuaug.advice import pixels, training
from gpuaug.advice.facts import Facts, Findings, Rule, asked, dataset_of, steps_of
from gpuaug.augment import Augment
from gpuaug.engine.evaluation import evaluation
from gpuaug.engine.multi import MultiView
from gpuaug.engine.views import is_nested

__all__ = ["DOMAINS", "RULES", "advise"]

DOMAINS = ("natural", "documents", "medical", "satellite", "products", "digits", "letters", "signs")
RULES: tuple[Rule, ...] = (*pixels.RULES, *training.RULES)


def advise(
    augment: Augment | Sequence[object],
    *,
    weights: object = None,
    domain: str | None = None,
    classes: Sequence[str] | None = None,
    loader: object = None,
    label_smoothing: float = 0.0,
) -> Findings:
    """Say what in a list is likely to cost accuracy or time, before it is trained with.

    Nothing is drawn, read or changed. The rules and their numbers are in docs/advice.md.

    Args:
        augment: Module, or its training list.
        weights: Weights of torchvision, such as ResNet50_Weights.DEFAULT, or an object with mean, std and crop_size.
        domain: Kind of images: "natural", "documents", "medical", "satellite", "products", "digits", "letters" or
            "signs". None: not known; then only the names of the classes say what a flip or a turn may do.
        classes: Names of the classes. None: `classes` of the loader's data set, if it has them.
        loader: DataLoader or DeviceLoader that training uses.
        label_smoothing: Label smoothing of the loss, in [0, 1].

    Returns:
        The findings, a list; `print` shows a sentence for each. Empty if nothing was found.

    Raises:
        ValueError: If an argument has another form.
    """
    module = augment if isinstance(augment, Augment) else _module(augment)
    if domain is not None:
        domain = checks.one_of("advise", "domain", domain, DOMAINS)
    smoothing = checks.number("advise", "label_smoothing", label_smoothing, 0, 1)
    facts = Facts(
        module,
        steps_of(module.train_pipeline.steps),
        steps_of(module.eval_pipeline.steps),
        list(module.eval_pipeline.steps) != evaluation(module.train_pipeline.steps),
        _names(classes, loader),
        domain,
        _preset(weights),
        loader,
        smoothing,
    )
    return Findings(finding for rule in RULES for finding in rule(facts))


def _module(given: Any) -> Augment:
    """The module of a training list."""
    expected, remedy = "an Augment or its training list", "Pass the list of one view."
    if isinstance(given, MultiView):
        raise checks.argument_error("advise", "augment", expected, "a MultiView", remedy)
    try:
        return Augment(given, seed=0)
    except ValueError:
        if not isinstance(given, Sequence) or len(given) < 2 or not is_nested(given):
            raise
    raise checks.argument_error("advise", "augment", expected, f"{len(given)} lists", remedy)


def _names(classes: Any, loader: Any) -> tuple[str, ...]:
    """Names of the classes, as given, or those of the loader's data set."""
    if classes is None:
        found = asked(dataset_of(loader, "classes"), "classes", ())
        named = isinstance(found, Iterable) and not isinstance(found, (str, Iterator))
        return tuple(found) if named and all(isinstance(name, str) for name in found) else ()
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(n, str) for n in classes):
        raise checks.argument_error("advise", "classes", "a list of names, str", checks.describe(classes))
    return tuple(classes)


def _preset(weights: Any) -> Any:
    """The transforms of the weights: an object with mean, std and crop_size."""
    if weights is None:
        return None
    made = weights.transforms() if callable(getattr(weights, "transforms", None)) else weights
    if not all(_are_numbers(getattr(made, name, None)) for name in ("mean", "std", "crop_size")):
        expected = "weights of a classification model of torchvision, or an object with mean, std and crop_size"
        raise checks.argument_error("advise", "weights", expected, checks.describe(weights))
    return made


def _are_numbers(values: Any) -> bool:
    try:
        return bool(list(map(float, values)))
    except (TypeError, ValueError):
        return False
