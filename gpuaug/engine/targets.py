"""Targets of a call: masks, boxes and key points in the forms that users have, and back into the same form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.target_checks import KINDS, check_entry, kind_of, unknown_name
from gpuaug.transforms.base import Canvas

__all__ = ["Entry", "Following", "Targets", "following_of", "is_structured", "parse"]

Array = NDArray[Any]


class Following(NamedTuple):
    """How targets follow. See `gpuaug.Augment` for the arguments of the same names."""

    mask_fill: float = 0
    erase_masks: bool = False
    flip_pairs: tuple[tuple[int, int], ...] = ()


def following_of(owner: object, mask_fill: Any, erase_masks: Any, flip_pairs: Any) -> Following:
    """The checked arguments."""
    fill = checks.number(owner, "mask_fill", mask_fill, -(2.0**63), 2.0**63)
    pairs = () if flip_pairs is None else tuple(flip_pairs)
    good = all(
        isinstance(pair, Sequence) and len(pair) == 2 and all(checks.is_integer(n) and n >= 0 for n in pair)
        for pair in pairs
    )
    numbers = [number for pair in pairs for number in pair] if good else []
    if not good or len(set(numbers)) < len(numbers):
        expected = "None or pairs (left, right) of numbers of key points, each number once"
        raise checks.argument_error(owner, "flip_pairs", expected, checks.describe(flip_pairs))
    exact = int(mask_fill) if fill == int(fill) else fill
    return Following(exact, bool(erase_masks), tuple((int(left), int(right)) for left, right in pairs))


@dataclass
class Entry:
    """One key of the targets.

    kind: "boxes", "masks", "keypoints" or "labels". values: One tensor for each image, or one tensor whose first axis
    is the batch (`dense`).
    """

    key: str
    kind: str
    values: Any
    dense: bool

    def each(self) -> Iterator[Tensor]:
        """The tensor of each image."""
        return iter(self.values)

    @property
    def counts(self) -> Array:
        """Number of rows of each image, (B,)."""
        if self.dense:
            return np.full(len(self.values), self.values.shape[1] if self.values.ndim > 1 else 1)
        return np.array([len(value) for value in self.values], np.int64)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.values.device if self.dense else self.values[0].device
        return device


@dataclass
class Targets:
    """The targets of a batch, checked.

    given: What the user passed. labels: Class labels of the images, which a mix may change; None if there are none.
    entries: The keys that follow the images. single: Whether the user passed one torchvision tensor in place of a dict.
    """

    given: Any
    labels: Tensor | None
    label_key: str | None
    entries: list[Entry] = field(default_factory=list)
    single: bool = False

    def of_kind(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def find(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)

    def put_back(self, changed: Mapping[str, Any]) -> Any:
        """The targets in the form that was given, with the changed keys; a list holds one value for each image."""
        if self.single:
            return changed[self.entries[0].key]
        if isinstance(self.given, Mapping):
            return {**self.given, **changed}
        return [
            {**row, **{key: values[number] for key, values in changed.items() if key in row}}
            for number, row in enumerate(self.given)
        ]


def is_structured(labels: object) -> bool:
    """Whether labels are targets with keys, or torchvision's masks, boxes or key points."""
    if isinstance(labels, Mapping):
        return True
    if isinstance(labels, (list, tuple)):
        return len(labels) > 0 and all(isinstance(row, Mapping) for row in labels)
    return checks.is_target(labels)


def parse(owner: object, given: Any, canvas: Canvas) -> Targets:
    """Check targets against the batch; reads metadata, and values only on the CPU.

    Raises:
        ValueError: If a target has a wrong form, size, dtype or number, or lies outside its image.
    """
    single = checks.is_target(given)
    if single:
        kind = kind_of("", given)
        assert kind is not None
        targets = Targets(given, None, None, single=True)
        rows: Mapping[str, Any] = {kind: given}
    elif isinstance(given, Mapping):
        targets, rows = Targets(given, None, None), given
    else:
        return _of_list(owner, given, canvas)
    for key, value in rows.items():
        kind = kind_of(key, value)
        unknown_name(owner, key, value, kind)
        if kind == "labels" and isinstance(value, Tensor):
            if value.ndim == 0 or len(value) != len(canvas):
                expected = f"as many as the images, {len(canvas)}"
                raise checks.argument_error(owner, f'labels["{key}"]', expected, checks.describe(value))
            targets.labels, targets.label_key = value, key
        elif kind is not None:
            dense = isinstance(value, Tensor)
            if not dense and not (isinstance(value, (list, tuple)) and all(isinstance(v, Tensor) for v in value)):
                if kind == "labels":
                    continue  # of no interest here: names, numbers
                expected = "a tensor, or a list with one tensor for each image"
                raise checks.argument_error(owner, f'labels["{key}"]', expected, checks.describe(value))
            if len(value) != len(canvas):
                expected = f"as many as the images, {len(canvas)}"
                raise checks.argument_error(owner, f'labels["{key}"]', expected, str(len(value)))
            targets.entries.append(check_entry(owner, Entry(key, kind, value, dense), canvas))
    return targets


def _of_list(owner: object, given: Sequence[Mapping[str, Any]], canvas: Canvas) -> Targets:
    """Targets as a list with a mapping for each image, torchvision's form for detection."""
    if len(given) != len(canvas):
        expected = f"as many as the images, {len(canvas)}"
        raise checks.argument_error(owner, "labels", expected, f"a list of {len(given)}")
    targets = Targets(given, None, None)
    for key in dict.fromkeys(key for row in given for key in row):
        holders = [number for number, row in enumerate(given) if key in row]
        values = [given[number][key] for number in holders]
        kind = next((found for value in values if (found := kind_of(key, value)) is not None), None)
        unknown_name(owner, key, values[0], kind)
        if kind is None:
            continue
        if kind != "labels" and len(holders) < len(given):
            number = next(number for number in range(len(given)) if number not in holders)
            raise checks.argument_error(
                owner, f'labels[{number}]["{key}"]', "given, as for the other images", "nothing",
                "Pass a tensor with no rows for an image without any.",
            )  # fmt: skip
        if kind == "labels" and (len(holders) < len(given) or not all(isinstance(v, Tensor) for v in values)):
            continue
        for number, value in enumerate(values):
            if not isinstance(value, Tensor):
                expected = "a tensor"
                raise checks.argument_error(owner, f'labels[{number}]["{key}"]', expected, checks.describe(value))
        targets.entries.append(check_entry(owner, Entry(key, kind, values, dense=False), canvas))
    return targets


assert set(KINDS) == {"boxes", "masks", "keypoints", "labels"}
