"""How targets travel: a mapping for each image, with tensors for boxes, masks, key points and whatever else.

A worker writes large tensors, such as masks, behind the images into the shared memory of the batch; all small ones are
sent by value, in one piece. So a batch stays one object in shared memory, however many tensors it has, and a user who
keeps boxes keeps no images. Who keeps a large tensor that `Augment` did not move keeps the memory of its batch.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from gpuaug import checks
from gpuaug.data.transport import shared
from gpuaug.interop import trees

__all__ = [
    "Room",
    "aligned",
    "are_targets",
    "by_name",
    "keep_for",
    "moved",
    "pinned",
    "received",
    "rows_of",
    "sent",
    "shown",
]

SMALL = 4096  # bytes; a tensor that is larger lies in the shared memory of its batch
ALIGNED = 64  # bytes between which tensors begin


class Place(NamedTuple):
    """Where a tensor is: its first byte in the shared memory of its batch, or in what is sent by value."""

    shared: bool
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    kind: tuple[type[Tensor], dict[str, Any]] | None  # a class like torchvision's, and its attributes


def are_targets(labels: object) -> bool:
    """Whether labels are a mapping, or a list with one mapping for each image."""
    if isinstance(labels, (list, tuple)):
        return len(labels) > 0 and all(isinstance(row, Mapping) for row in labels)
    return isinstance(labels, Mapping)


# ---- in the worker ---------------------------------------------------------------------------------------------------


def rows_of(labels: Sequence[Any]) -> list[Any]:
    """The targets of samples: arrays of numbers become tensors, and so do Pillow images under "masks"."""
    return [trees.mapping_like(row, {key: _tensors(value, key) for key, value in row.items()}) for row in labels]


def by_name(rows: Sequence[Mapping[Any, Any]], names: Sequence[str]) -> dict[Any, Any]:
    """The mappings of scenes as one: under the names of pictures their targets, all else as one tensor or a list."""
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            expected = f"with the keys {', '.join(map(repr, rows[0]))} in each scene"
            got = f"{', '.join(map(repr, row)) or 'none'} for sample {number}"
            raise checks.argument_error("ragged_collate", "labels", expected, got)
    return {key: _together([row[key] for row in rows], key in names) for key in rows[0]}


def _together(values: list[Any], of_pictures: bool) -> Any:
    """Numbers, and tensors of one shape, as one tensor; targets of a picture and all else as a list."""
    if are_targets(values) and of_pictures:
        return values
    tensors = all(isinstance(value, Tensor) and not checks.is_target(value) for value in values)
    if tensors and len({(value.shape, value.dtype) for value in values}) == 1:
        return torch.stack(values)
    numbers = all(isinstance(value, (bool, int, float, np.generic)) for value in values)
    return torch.as_tensor(np.array(values)) if numbers and np.array(values).dtype.kind in "biuf" else values


def _tensors(value: Any, key: object) -> Any:
    if isinstance(value, PIL.Image.Image) and key == "masks":
        value = np.array(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(
            np.require(value, requirements=("C", "W"))
        )  # PyTorch refuses flipped and read-only ones
    return trees.each(lambda tensor: trees.with_type(tensor.detach(), tensor), value)


class Room:
    """Shared memory for a batch in a worker: `empty` allocates it for the images, and for large targets behind them."""

    def __init__(self, rows: Any) -> None:
        self.rows, self._rest = rows, torch.empty(0, dtype=torch.uint8, device="cpu")
        large = [] if rows is None or get_worker_info() is None else filter(_is_large, trees.tensors(rows))
        self._needed = sum(aligned(tensor.nbytes) for tensor in large)

    def empty(self, size: int) -> Tensor:
        """Memory for the images, (size,) uint8."""
        if not self._needed:
            return shared.empty(size)
        data = shared.empty(aligned(size) + self._needed)
        self._rest = data[aligned(size) :]
        return data[:size]

    def filled(self) -> Any:
        """The targets, their large tensors copied into the shared memory if there is any."""
        if not self._needed:
            return self.rows
        start = 0

        def copied(tensor: Tensor) -> Tensor:
            nonlocal start
            if not _is_large(tensor):
                return tensor
            begin, start = start, start + aligned(tensor.nbytes)
            place = self._rest[begin : begin + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            return trees.with_type(place.copy_(tensor.as_subclass(Tensor)), tensor)

        return trees.each(copied, self.rows)


def _is_large(tensor: Tensor) -> bool:
    return _is_plain(tensor) and tensor.nbytes > SMALL


def _is_plain(tensor: Tensor) -> bool:
    """Whether its bytes say everything of it."""
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def aligned(size: int) -> int:
    """Bytes that a tensor of `size` bytes takes up among others."""
    return -(-size // ALIGNED) * ALIGNED


def sent(targets: Any, data: Tensor | None) -> tuple[Any, NDArray[np.uint8]]:
    """What a worker sends of targets.

    Args:
        targets: The targets.
        data: The images, at the beginning of the memory that the reader will have; None: it will have none.

    Returns:
        The targets with a `Place` in place of each tensor, and the bytes of those that are not in that memory.
    """
    storage, end = None if data is None else data.untyped_storage().data_ptr(), 0
    pieces: list[tuple[int, Tensor]] = []

    def place(tensor: Tensor) -> Any:
        nonlocal end
        if not _is_plain(tensor):
            return tensor
        plain = tensor.as_subclass(Tensor).detach().resolve_conj().resolve_neg()
        kind = None if type(tensor) is Tensor else (type(tensor), dict(vars(tensor)))
        inside = plain.untyped_storage().data_ptr() == storage and plain.is_contiguous() and plain.numel() > 0
        start = int(plain.storage_offset()) * plain.itemsize if inside else end
        if not inside:
            pieces.append((end, plain.contiguous().reshape(-1).view(torch.uint8)))
            end += aligned(plain.nbytes)
        return Place(inside, start, plain.dtype, tuple(plain.shape), kind)

    places = trees.each(place, targets)
    by_value = torch.zeros(end, dtype=torch.uint8, device="cpu")
    for begin, piece in pieces:
        by_value[begin : begin + len(piece)] = piece
    return places, by_value.numpy()


# ---- in the reader ---------------------------------------------------------------------------------------------------


def received(given: tuple[Any, NDArray[np.uint8]], data: Tensor | None) -> Any:
    """The targets that a worker sent; `data` is all of the batch's shared memory, or None."""
    places, own = given[0], torch.from_numpy(given[1])

    def tensor(place: Place) -> Tensor:
        source = data if place.shared else own
        assert source is not None
        found = _view(source, place.start, place.dtype, place.shape)
        if place.kind is None:
            return found
        typed: Tensor = found.as_subclass(place.kind[0])
        typed.__dict__.update(place.kind[1])
        return typed

    return trees.each(tensor, places, Place)


def _view(data: Tensor, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return data[start : start + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)


def pinned(targets: Any) -> Any:
    """A copy in pinned memory. Torch's own copies of torchvision's types are plain tensors."""
    return _shipped(Tensor.pin_memory, targets)


def moved(labels: Any, device: torch.device, non_blocking: bool) -> Any:
    """Labels or targets with every tensor on a device; numbers and strings stay as they are."""
    return _shipped(lambda tensor: tensor.to(device, non_blocking=non_blocking), labels)


def _shipped(ship: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Labels or targets after `ship` of every tensor; tensors in one memory, as they arrive, go in one piece."""
    if isinstance(value, Tensor):
        return trees.with_type(ship(value), value)
    lengths: dict[int, int] = defaultdict(int)
    sizes, numbers, pieces = {}, Counter[int](), {}
    for tensor in filter(_shares, trees.tensors(value)):
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        numbers[address] += 1
        lengths[address] += aligned(tensor.nbytes)
        sizes[address] = storage
    for address, storage in sizes.items():
        if (
            numbers[address] > 1 and storage.nbytes() <= 2 * lengths[address]
        ):  # else it holds much that is not asked for
            pieces[address] = ship(torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage))

    def one(tensor: Tensor) -> Tensor:
        piece = pieces.get(tensor.untyped_storage().data_ptr()) if _shares(tensor) else None
        if piece is None:
            return trees.with_type(ship(tensor), tensor)
        start = int(tensor.storage_offset()) * tensor.itemsize
        return trees.with_type(_view(piece, start, tensor.dtype, tuple(tensor.shape)), tensor)

    return trees.each(one, value)


def _shares(tensor: Tensor) -> bool:
    """Whether a small tensor may be sent with others in the same memory. An Index would have stayed on the CPU."""
    known = (type(tensor) is Tensor or checks.is_target(tensor)) and not tensor.requires_grad
    return known and 0 < tensor.nbytes <= SMALL and _is_plain(tensor) and tensor.is_contiguous()


def keep_for(images: list[Tensor], labels: Any, stream: Any) -> None:
    """Say that a stream uses a batch of another stream, which must not reuse its memory before."""
    for tensor in trees.tensors([images, labels]):
        if tensor.device == images[0].device:  # an Index stays on the CPU
            tensor.record_stream(stream)


def shown(labels: Any, numbers: Tensor) -> Any:
    """Labels or targets of the images of these numbers, (B,) int64."""
    count, order = len(numbers), numbers.tolist()

    def taken(value: Any) -> Any:
        if isinstance(value, Tensor):
            return trees.with_type(value[numbers], value) if value.ndim and len(value) == count else value
        if isinstance(value, Mapping):
            return trees.mapping_like(value, {key: taken(inner) for key, inner in value.items()})
        if isinstance(value, (list, tuple)) and len(value) == count:
            return type(value)(value[number] for number in order) if type(value) is tuple else [value[n] for n in order]
        return value

    return taken(labels) if order != list(range(count)) else labels
