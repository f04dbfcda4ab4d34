"""Pack samples of different sizes into one batch with one buffer, in the worker."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.data.decode import as_tensor
from gpuaug.data.index import Index, Numbered, index_of
from gpuaug.data.parts import Part
from gpuaug.data.transport import shared
from gpuaug.data.transport.encoded import Encoded, EncodedImage
from gpuaug.philox import LOOK, NUMBERS
from gpuaug.ragged import Parts, Ragged

__all__ = ["Batch", "collate", "ragged_collate"]


class _Fields(NamedTuple):
    images: Ragged | Encoded
    labels: Tensor
    index: Tensor | None  # type: ignore[assignment]  # hides tuple.index


class Batch(_Fields):
    """A batch that `ragged_collate` made, a tuple (images, labels, index).

    A worker sends it as one object in shared memory, however many samples it has. Labels and index are a few bytes, and
    are pickled.

    Attributes:
        images: Ragged of B images, or Encoded with decode="device".
        labels: (B, ...) tensor.
        index: (B,) int64, which stays on the CPU (see Index), or None.
    """

    def __reduce__(self) -> tuple[object, ...]:
        sent = shared.segment_of(self.images.data)
        if sent is None:
            return Batch, tuple(self)
        described = self.images.describe()
        return _received, (type(self.images), sent, len(self.images.data), described, *map(_inline, self[1:]))

    def pin_memory(self, device: object = None) -> Batch:
        """A copy in pinned memory; encoded images are not copied. A DataLoader with pin_memory=True calls it.

        Args:
            device: Unused: torch may pass a device, but the memory is pinned for the current accelerator.
        """
        images, labels, index = self
        if isinstance(images, Ragged):
            images = Ragged(shared.pinned(images.data), *images.describe())
        return Batch(images, labels.pin_memory(), None if index is None else index.pin_memory())


def _inline(tensor: Tensor | None) -> Any:
    """A NumPy array, which is pickled by value; the tensor itself if NumPy lacks its dtype.

    An exception here, in a worker's queue, would make the reader wait for ever.
    """
    try:
        return None if tensor is None else tensor.numpy()
    except (TypeError, RuntimeError):
        return tensor


def _received(kind: Any, sent: Any, size: int, described: tuple[Any, ...], labels: Any, index: Any) -> Batch:
    images = kind(shared.attach(shared.open_segment(sent), size), *described)
    labels, index = (torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in (labels, index))
    return Batch(images, labels, None if index is None else index.as_subclass(Index))


def ragged_collate(samples: Sequence[tuple[object, ...]]) -> Batch:
    """Pack samples into one batch: a `collate_fn` for a DataLoader.

    Args:
        samples: (image, label, index) or (image, label) tuples. Images are uint8 tensors (C, H, W) of any sizes, Pillow
            images, uint8 arrays (H, W) or (H, W, C), or encoded images (`decode="device"`). Labels are numbers, or
            tensors of one shape. The index is the sample's number in its data set.

    Returns:
        Batch: (images, labels, index): Ragged or Encoded; (B, ...) tensor; (B,) int64 Index, or None.

    Raises:
        ValueError: If the samples have another form.
    """
    if not samples:
        raise checks.argument_error("ragged_collate", "samples", "at least one", "none")
    kinds = {len(sample) if isinstance(sample, (tuple, list)) else type(sample): sample for sample in samples}
    if len(kinds) > 1 or not kinds.keys() <= {2, 3}:
        remedy = "Wrap the data set in ga.data.Indexed."
        if any(isinstance(sample, Mapping) for sample in kinds.values()):
            remedy = 'Pass collate_fn=ga.collate(image="image", label="label"), with the names of your fields.'
        got = " and ".join(map(_kind, kinds.values()))
        raise checks.argument_error("ragged_collate", "samples", "(image, label, index) or (image, label)", got, remedy)
    images: tuple[Any, ...]
    images, labels, *index = zip(*samples, strict=True)
    numbers = _numbers(index[0]) if index else None
    if any(isinstance(image, Part) for image in images):
        return Batch(_of_parts(images, numbers), _stacked(labels), numbers)
    kind = Encoded if any(isinstance(image, EncodedImage) for image in images) else Ragged
    packed = kind.from_images([as_tensor(image) for image in images], shared.empty)
    return Batch(packed, _stacked(labels), numbers)


def _of_parts(images: Sequence[Any], index: Tensor | None) -> Ragged:
    """A batch of parts, cut for one draw; whole images where every part is the whole."""
    cuts = {image.cut if isinstance(image, Part) else None for image in images}
    if len(cuts) > 1 or index is None:
        expected, got = "samples of one data set with its index", "parts of images without one, or of several passes"
        raise checks.argument_error("ragged_collate", "samples", expected, got, "Collate what the data set returns.")
    packed = Ragged.from_images([image.pixels for image in images], shared.empty)
    origins, whole = (np.array([getattr(image, name) for image in images], np.int32) for name in ("origin", "whole"))
    if (whole == packed.sizes).all():
        return packed
    numbers = index.numpy().astype(np.uint64)
    looks = (numbers >> np.uint64(LOOK)).astype(np.uint32)
    steps, training, key = images[0].cut
    parts = Parts(origins, whole, steps, training, key, numbers & np.uint64(NUMBERS), looks)
    return Ragged(packed.data, packed.sizes, packed.channels, parts)


def collate(
    image: str = "image", label: str = "label", index: str | None = None
) -> Callable[[Sequence[object]], Batch]:
    """Make a `collate_fn` for samples that are dicts, as those of Hugging Face data sets.

    Args:
        image: Name of the field with the image, in a form that `ragged_collate` accepts.
        label: Name of the field with the label.
        index: Name of the field with the sample's number in its data set. None: the batch has no index.

    Returns:
        A function of a list of dicts that packs them as `ragged_collate` does. It can be pickled for workers.

    Raises:
        ValueError: If a name is no str; when the function is called, if a sample is no dict with these fields.
    """
    for argument, name in (("image", image), ("label", label), ("index", index)):
        if not isinstance(name, str) and (argument != "index" or name is not None):
            raise checks.argument_error("collate", argument, "the name of a field, a str", checks.describe(name))
    return _Fielded((image, label) if index is None else (image, label, index))


@dataclass(frozen=True)
class _Fielded:
    names: tuple[str, ...]

    def __call__(self, samples: Sequence[object]) -> Batch:
        for sample in samples:
            if not isinstance(sample, Mapping) or any(name not in sample for name in self.names):
                expected = f"dicts with {', '.join(map(repr, self.names))}"
                got = f"a dict with {', '.join(map(repr, sample))}" if isinstance(sample, Mapping) else _kind(sample)
                raise checks.argument_error("collate", "samples", expected, got)
        dicts = cast(Sequence[Mapping[str, object]], samples)
        return ragged_collate([tuple(sample[name] for name in self.names) for sample in dicts])


def _stacked(labels: Sequence[Any]) -> Tensor:
    try:
        return torch.stack([_label(label) for label in labels]).detach()
    except (TypeError, ValueError, RuntimeError):
        raise checks.argument_error(
            "ragged_collate", "labels", "numbers, or tensors of one shape", _kinds(labels)
        ) from None


def _label(label: Any) -> Tensor:
    return label if isinstance(label, Tensor) else torch.as_tensor(label, device="cpu")


def _numbers(index: Sequence[Any]) -> Tensor:
    try:
        numbers = [index_of(n) if isinstance(n, Numbered) else operator.index(n) for n in index]
        return torch.tensor(numbers, device="cpu").as_subclass(Index)
    except (TypeError, ValueError, RuntimeError):
        raise checks.argument_error("ragged_collate", "index", "integers of 64 bits", _kinds(index)) from None


def _kinds(values: Sequence[Any]) -> str:
    return ", ".join(sorted({_kind(value) for value in values})[:4])


def _kind(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_kind, value))})"
    return checks.describe(value) if isinstance(value, Tensor) else type(value).__name__
