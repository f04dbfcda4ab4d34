"""What DeviceLoader holds of a batch on its way to the user."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from gpuaug.engine.numbering import Reservation

__all__ = ["AugmentedBatch", "Batch", "DeviceBatch"]

Batch = Tensor | list[Tensor] | tuple[Tensor | list[Tensor], Any] | dict[str, Any]


class DeviceBatch(NamedTuple):
    """A batch on the device."""

    images: Any  # Tensor, Ragged, or a mapping of them
    labels: Any  # a tensor, targets, or None
    index: Tensor | None  # type: ignore[assignment]  # hides tuple.index
    place: Any  # the wrapped loader's state after this batch, if it has one
    rest: Any  # the other fields of a mapping


class AugmentedBatch(NamedTuple):
    """A batch on its way to the user."""

    result: Batch  # the images, (images, labels), or a dict, for the user
    reservation: Reservation  # the reservation of its draws
    place: Any
