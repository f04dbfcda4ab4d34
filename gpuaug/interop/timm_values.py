"""The form of the values that timm's functions take, checked before anything is computed with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpuaug import checks

__all__ = ["check_hparams", "wrong_forms"]

Form = tuple[Callable[[Any], bool], str]  # whether a value has it, and its words


def _numbers(*counts: int) -> Callable[[Any], bool]:
    """A sequence of numbers, as many as one of `counts`; without `counts` any number of them."""

    def has_form(value: Any) -> bool:
        several = isinstance(value, (list, tuple)) and (not counts or len(value) in counts)
        return several and all(map(checks.is_number, value))

    return has_form


def _or(*kinds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: any(kind(value) for kind in kinds)


def _is_none(value: Any) -> bool:
    return value is None


NUMBER: Form = (checks.is_number, "a number")
NUMBER_OR_NONE: Form = (_or(_is_none, checks.is_number), "a number or None")
PAIR_OR_NONE: Form = (_or(_is_none, _numbers(2)), "(low, high) or None")

# of create_transform and Mixup; other values are checked by the transforms that they become
ARGUMENTS: dict[str, Form] = {
    "input_size": (
        _or(lambda value: checks.is_integer(value) and checks.is_number(value), _numbers(2, 3)),
        "an int or (channels, height, width)",
    ),
    "scale": PAIR_OR_NONE, "ratio": PAIR_OR_NONE,
    "hflip": NUMBER, "vflip": NUMBER, "re_prob": NUMBER,
    "crop_pct": NUMBER_OR_NONE, "color_jitter_prob": NUMBER_OR_NONE,
    "color_jitter": (_or(_is_none, checks.is_number, _numbers()), "a number, several or None"),
    "auto_augment": (_or(_is_none, lambda value: isinstance(value, str)), "a string or None"),
    "re_mode": (lambda value: isinstance(value, str), "a string"),
    "mixup_alpha": NUMBER, "cutmix_alpha": NUMBER,
}  # fmt: skip

HPARAMS: dict[str, Form] = {
    "img_mean": (_numbers(), "numbers in a tuple"),
    "magnitude_std": (lambda value: isinstance(value, (int, float)), "a number"),  # also infinite
}


def wrong_forms(given: Mapping[str, Any], forms: Mapping[str, Form] = ARGUMENTS) -> list[str]:
    """What is said of each value that has another form."""
    return [
        f"{name}={checks.describe(given[name])} (must be {words})"
        for name, (has_form, words) in forms.items()
        if name in given and not has_form(given[name])
    ]


def check_hparams(owner: str, hparams: Any) -> None:
    """Raise an error if timm's hparams have another form."""
    if not isinstance(hparams, Mapping):
        raise checks.argument_error(owner, "hparams", "a mapping", checks.describe(hparams))
    if wrong := wrong_forms(hparams, HPARAMS):
        raise checks.argument_error(owner, "hparams", "as timm takes them", "; ".join(wrong))
