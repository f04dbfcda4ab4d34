"""Batches that are mappings with named fields, such as {"pixel_values": ..., "labels": ..., "index": ...}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gpuaug import checks
from gpuaug.data.transport.encoded import Encoded
from gpuaug.engine.target_checks import is_other_name, kind_of
from gpuaug.ragged import Ragged

__all__ = ["Fields", "checked_fields"]

ROLES = ("image", "label", "index")


@dataclass(frozen=True)
class Fields:
    """The names of a batch's fields.

    Attributes:
        image: Name of the field with the images.
        label: Name of the field with labels or targets, which a batch may lack. None: there is none.
        index: Name of the field with the samples' numbers, which a batch may lack. None: there is none.
    """

    image: str
    label: str | None = None
    index: str | None = None

    def given(self) -> dict[str, str]:
        """The argument that made it."""
        return {role: name for role, name in vars(self).items() if name is not None}

    def split(self, owner: object, batch: object) -> tuple[Any, Any, Tensor | None]:
        """Images, labels and index of a batch; raises an error that names `owner` if it has no images."""
        images = batch.get(self.image) if isinstance(batch, Mapping) else None
        if not isinstance(batch, Mapping) or not isinstance(images, (Tensor, Ragged, Encoded)):
            expected = f"one that yields mappings with images, as a tensor or Ragged, in {self.image!r}"
            names = ", ".join(map(repr, batch)) if isinstance(batch, Mapping) else ""
            got = f"a mapping with {names}" if isinstance(batch, Mapping) else type(batch).__name__
            remedy = "Make such batches in the loader's collate_fn, or give the names of its fields."
            raise checks.argument_error(owner, "loader", expected, got, remedy)
        index = None if self.index is None else batch.get(self.index)
        if index is not None and not isinstance(index, Tensor):
            raise checks.argument_error(owner, "loader", f"one with a tensor in {self.index!r}", type(index).__name__)
        return images, None if self.label is None else batch.get(self.label), index

    def rest(self, owner: object, batch: Any) -> dict[str, Any]:
        """The other fields of a batch that `split` has taken; raises an error if one holds what has to move."""
        rest = {name: value for name, value in batch.items() if name not in (self.image, self.label, self.index)}
        for name, value in rest.items():
            if kind_of(name, value) in ("masks", "boxes", "keypoints") or is_other_name(name, value):
                expected = f"one without targets in {name!r}, which would not be moved with the pixels"
                remedy = 'Put targets into one field, {"boxes": ..., "masks": ...}, and name it as "label" in `fields`.'
                raise checks.argument_error(owner, "loader", expected, checks.describe(value), remedy)
        return rest

    def join(self, result: Any, rest: Mapping[str, Any]) -> dict[str, Any]:
        """What `Augment` returned, as fields of their old names, beside the others; the index is left out."""
        if isinstance(result, tuple):
            return {**rest, self.image: result[0], str(self.label): result[1]}
        return {**rest, self.image: result}


def checked_fields(owner: object, fields: Any) -> Fields | None:
    """The argument `fields` of a loader or an adapter, a mapping of roles to names.

    Raises:
        ValueError: If it has other roles, no image, or a name that is no str.
    """
    if fields is None:
        return None
    good = isinstance(fields, Mapping) and "image" in fields and fields.keys() <= set(ROLES)
    if not good or not all(isinstance(name, str) for name in fields.values()):
        expected = 'None, or the names of fields, such as {"image": "pixel_values", "label": "labels"}'
        raise checks.argument_error(
            owner, "fields", expected, checks.describe(fields), "Its keys are image, label, index."
        )
    if len(set(fields.values())) < len(fields):
        raise checks.argument_error(owner, "fields", "a name for each role", checks.describe(fields))
    return Fields(**fields)
