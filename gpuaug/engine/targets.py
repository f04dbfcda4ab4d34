"""Targets of a call: masks, boxes and key points in the forms that users have, and back into the same form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.interop import trees

__all__ = [
    "ROTATED", "Entry", "Following", "Targets", "box_format", "clamping_mode", "following_of", "is_structured", "like",
]  # fmt: skip

Array = NDArray[Any]

ROTATED = {"XYWHR": 5, "CXCYWHR": 5, "XYXYXYXY": 8}  # numbers of a box in torchvision's formats of rotated boxes


class Following(NamedTuple):
    """How targets follow. See `gpuaug.Augment` for the arguments of the same names."""

    mask_fill: float = 0
    erase_masks: bool = False
    flip_pairs: tuple[tuple[int, int], ...] = ()


def following_of(owner: object, mask_fill: Any = 0, erase_masks: Any = False, flip_pairs: Any = None) -> Following:
    """The checked arguments."""
    fill = checks.number(owner, "mask_fill", mask_fill, -(2.0**63), 2.0**63)
    pairs = () if flip_pairs is None else tuple(flip_pairs) if isinstance(flip_pairs, Sequence) else (None,)
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

    kind: "boxes", "masks", "keypoints" or "labels". given: One tensor for each image, or one tensor whose first axis
    is the batch (`dense`).
    """

    key: str
    kind: str
    given: Any
    dense: bool

    @cached_property
    def typed(self) -> bool:
        """Whether these are torchvision's own types."""
        values = [self.given] if self.dense else self.given
        kinds = {type(value): value for value in values}
        return any(kind is not Tensor and checks.is_target(value) for kind, value in kinds.items())

    @property
    def format(self) -> str:
        """The format of boxes; one for all images."""
        return box_format(self.given if self.dense else self.given[0])

    @property
    def clamping_mode(self) -> str | None:
        """How boxes are clipped; one for all images."""
        return clamping_mode(self.given if self.dense else self.given[0])

    @property
    def rotated(self) -> bool:
        """Whether these are rotated boxes of torchvision's."""
        return self.kind == "boxes" and self.typed and self.format in ROTATED

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The tensor of each image, or the one of the batch, without torchvision's type and without a graph."""
        values = [self.given] if self.dense else list(self.given)
        values = [value.as_subclass(Tensor) for value in values] if self.typed else values
        return [value.detach() if value.requires_grad else value for value in values]

    @cached_property
    def shapes(self) -> list[torch.Size]:
        return [value.shape for value in self.tensors]

    @property
    def dtype(self) -> torch.dtype:
        return self.tensors[0].dtype

    @property
    def _axes(self) -> int:
        """Number of axes of a row."""
        return 1 if self.kind == "boxes" else 2

    @cached_property
    def counts(self) -> list[int]:
        """Number of rows of each image. A row is a box (4,), a group of key points (K, 2 or 3), or a mask (H, W)."""
        if self.dense:
            shape = self.shapes[0]
            return [math.prod(shape[1 : max(len(shape) - self._axes, 1)])] * shape[0]
        axes = self._axes
        return [shape[0] if len(shape) == axes + 1 else _rows(shape, axes) for shape in self.shapes]

    @cached_property
    def rows(self) -> Tensor:
        """All rows (M, ...) of the batch in one tensor."""
        axes = self._axes
        if self.dense:
            return self.tensors[0].reshape(sum(self.counts), *_last(self.shapes[0][1:], axes))
        return torch.cat([
            value if value.ndim == axes + 1 else value.reshape(count, *_last(value.shape, axes, self.kind))
            for value, count in zip(self.tensors, self.counts, strict=True)
        ])  # fmt: skip

    def put_back(self, flat: Tensor, sizes: Array) -> Any:
        """The result in the form that was given, from its rows. sizes: (height, width) of each image, (B, 2)."""
        if self.dense:
            value = _reshaped(flat, self.shapes[0])
            return like(value, self.given, sizes[0]) if self.typed else value
        values = list(torch.split(flat, self.counts))
        other = {len(shape) for shape in self.shapes} != {flat.ndim}
        for number, shape in enumerate(self.shapes if other else ()):
            if len(shape) != flat.ndim:
                values[number] = _reshaped(values[number], shape)
        if self.typed:
            return [like(*each) for each in zip(values, self.given, sizes, strict=True)]
        return values


def _reshaped(rows: Tensor, shape: torch.Size) -> Tensor:
    """Rows (M, ...) with the axes that `shape` had; those of an image may have another length now."""
    if shape.numel() == 0 and len(shape) < rows.ndim:
        return rows
    own = rows.shape[1:] if len(shape) >= rows.ndim else rows.shape[rows.ndim - len(shape) :]
    return rows.reshape(*shape[: len(shape) - len(own)], *own)


def _rows(shape: torch.Size, axes: int) -> int:
    """How many rows of so many axes a tensor has; one if it is a single row."""
    return math.prod(shape[: max(len(shape) - axes, 0)]) if shape.numel() else 0


def _last(shape: Sequence[int], count: int, kind: str = "") -> list[int]:
    """The last `count` lengths of a shape, with ones before them where it has fewer."""
    if kind == "boxes":
        return [4]  # also of a tensor (0,)
    return [1] * (count - len(shape)) + list(shape[-count:])


@dataclass
class Targets:
    """The targets of a batch, checked.

    given: What the user passed. labels: Class labels of the images, which a mix may change, under `label_key`; None if
    there are none. entries: The keys that follow the images. single: Whether the user passed one of torchvision's
    tensors in place of a mapping.
    """

    given: Any
    labels: Tensor | None = None
    label_key: str | None = None
    entries: list[Entry] = field(default_factory=list)
    single: bool = False

    def of_kind(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def put_back(self, changed: Mapping[str, Any]) -> Any:
        """The targets in the form that was given, with the changed keys; a list holds one value for each image."""
        if self.single:
            return changed[self.entries[0].key]
        if isinstance(self.given, Mapping):
            return trees.mapping_like(self.given, {**self.given, **changed})
        found = [
            trees.mapping_like(row, {**row, **{key: values[number] for key, values in changed.items()}})
            for number, row in enumerate(self.given)
        ]
        return tuple(found) if isinstance(self.given, tuple) else found


def is_structured(labels: object) -> bool:
    """Whether labels are targets with keys, or torchvision's masks, boxes or key points."""
    if isinstance(labels, Mapping):
        return True
    if isinstance(labels, (list, tuple)):
        return len(labels) > 0 and all(issubclass(kind, Mapping) for kind in set(map(type, labels)))
    return checks.is_target(labels)


def box_format(value: Any) -> str:
    """The format of boxes: that of torchvision's BoundingBoxes, otherwise XYXY."""
    format_ = getattr(value, "format", None)
    return "XYXY" if format_ is None else str(getattr(format_, "value", format_))


def clamping_mode(value: Any) -> str | None:
    """How boxes are clipped: what torchvision's BoundingBoxes say, otherwise "soft"."""
    mode: str | None = getattr(value, "clamping_mode", "soft")
    return mode


def like(value: Tensor, given: Any, size: Array) -> Tensor:
    """A result with torchvision's type, format and the new canvas size (height, width), if `given` has them."""
    if type(given) is Tensor or not checks.is_target(given):
        return value
    from torchvision import tv_tensors

    height, width = map(int, size)
    changes: dict[str, Any] = {"canvas_size": (height, width)} if hasattr(given, "canvas_size") else {}
    wrapped: Tensor = tv_tensors.wrap(value, like=given, **changes)
    return wrapped
