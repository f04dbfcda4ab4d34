"""Pack samples of different sizes into one batch with one buffer, in the worker."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.data.index import Index, Numbered, index_of
from gpuaug.data.parts import Part
from gpuaug.data.transport import shared
from gpuaug.data.transport import targets as travel
from gpuaug.data.transport.encoded import Encoded
from gpuaug.data.transport.pictures import Pictures, packed
from gpuaug.philox import LOOK, NUMBERS
from gpuaug.ragged import Parts, Ragged

__all__ = ["Batch", "collate", "ragged_collate"]

Names = tuple[tuple[str, str], ...]


class _Fields(NamedTuple):
    images: Ragged | Encoded | Pictures
    labels: Tensor | list[dict[str, Any]] | dict[str, Any]
    index: Tensor | None  # type: ignore[assignment]  # hides tuple.index


class Batch(_Fields):
    """A batch that `ragged_collate` made, a tuple (images, labels, index).

    A worker sends it as one object in shared memory, however many samples it has. Labels and index are a few bytes, and
    are pickled. Of targets that are mappings, large tensors, such as masks, lie behind the images in the same memory.

    Attributes:
        images: Ragged of B images or clips, or Encoded with decode="device"; a dict of Ragged for several pictures.
        labels: (B, ...) tensor; or a list with one mapping for each image; for several pictures one dict.
        index: (B,) int64, which stays on the CPU (see Index), or None.
    """

    def __reduce__(self) -> tuple[object, ...]:
        images, labels, index = self
        sent = shared.segment_of(images.data)
        given: Any = labels
        if not isinstance(labels, Tensor):
            given = travel.sent(labels, None if sent is None else images.data)
        if sent is None:
            return (Batch, tuple(self)) if isinstance(labels, Tensor) else (_with_targets, (images, given, index))
        given = _inline(labels) if isinstance(labels, Tensor) else given
        memory, described = images.data.untyped_storage().nbytes(), images.describe()
        return _received, (type(images), sent, memory, len(images.data), described, given, _inline(index))

    def pin_memory(self, device: object = None) -> Batch:
        """A copy in pinned memory; encoded images are not copied. A DataLoader with pin_memory=True calls it.

        Args:
            device: Unused: torch may pass a device, but the memory is pinned for the current accelerator.
        """
        images, labels, index = self
        if isinstance(images, (Ragged, Pictures)):
            images = type(images)(shared.pinned(images.data), *images.describe())
        return Batch(images, travel.pinned(labels), None if index is None else index.pin_memory())


def _inline(tensor: Tensor | None) -> Any:
    """A NumPy array, which is pickled by value; the tensor itself if NumPy lacks its dtype.

    An exception here, in a worker's queue, would make the reader wait for ever.
    """
    try:
        return None if tensor is None else tensor.numpy()
    except (TypeError, RuntimeError):
        return tensor


def _received(
    kind: Any, sent: Any, memory: int, size: int, described: tuple[Any, ...], labels: Any, index: Any
) -> Batch:
    data = shared.attach(shared.open_segment(sent), memory)
    labels = travel.received(labels, data) if isinstance(labels, tuple) else labels
    labels, index = (torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in (labels, index))
    return Batch(kind(data[:size], *described), labels, None if index is None else index.as_subclass(Index))


def _with_targets(images: Any, labels: Any, index: Tensor | None) -> Batch:
    return Batch(images, travel.received(labels, None), index)


def ragged_collate(samples: Sequence[tuple[object, ...]]) -> Batch:
    """Pack samples into one batch: a `collate_fn` for a DataLoader.

    Args:
        samples: (image, label, index) or (image, label) tuples. Images are uint8 tensors (C, H, W) of any sizes, Pillow
            images, uint8 arrays (H, W) or (H, W, C), or encoded images (`decode="device"`); or clips of one number of
            frames, (T, C, H, W) or arrays (T, H, W, C); or a mapping with several pictures of the scene, by name.
            Labels are numbers, tensors of one shape, or a mapping for each image with its boxes, masks and whatever
            else (docs/targets.md). The index is the sample's number in its data set.

    Returns:
        Batch: (images, labels, index): Ragged or Encoded, or a dict of Ragged; a (B, ...) tensor, or a list of mappings
        whose arrays have become tensors; (B,) int64 Index, or None. With several pictures the mappings become one: what
        has the name of a picture is its targets, a list; all else becomes one tensor, or a list if it cannot.

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
    scenes = all(isinstance(image, Mapping) for image in images)
    rows: Any = travel.rows_of(labels) if travel.are_targets(labels) else None
    room = travel.Room(travel.by_name(rows, tuple(images[0])) if scenes and rows is not None else rows)
    if any(isinstance(image, Part) for image in images):
        packs: Any = _of_parts(images, numbers, room.empty)
    else:
        packs = Pictures.from_scenes(images, room.empty) if scenes else packed(images, room.empty)
    return Batch(packs, _stacked(labels) if room.rows is None else room.filled(), numbers)


def _of_parts(images: Sequence[Any], index: Tensor | None, empty: Callable[[int], Tensor]) -> Ragged:
    """A batch of parts, cut for one draw; whole images where every part is the whole."""
    cuts = {image.cut if isinstance(image, Part) else None for image in images}
    if len(cuts) > 1 or index is None:
        expected, got = "samples of one data set with its index", "parts of images without one, or of several passes"
        raise checks.argument_error("ragged_collate", "samples", expected, got, "Collate what the data set returns.")
    cut = Ragged.from_images([image.pixels for image in images], empty)
    origins, whole = (np.array([getattr(image, name) for image in images], np.int32) for name in ("origin", "whole"))
    if (whole == cut.sizes).all():
        return cut
    numbers = index.numpy().astype(np.uint64)
    looks = (numbers >> np.uint64(LOOK)).astype(np.uint32)
    steps, training, key = images[0].cut
    parts = Parts(origins, whole, steps, training, key, numbers & np.uint64(NUMBERS), looks)
    return Ragged(cut.data, cut.sizes, cut.channels, parts)


def collate(
    image: str | Sequence[str] | Mapping[str, str] = "image",
    label: str | Mapping[str, str] | None = "label",
    index: str | None = None,
) -> Callable[[Sequence[object]], Batch]:
    """Make a `collate_fn` for samples that are dicts, as those of Hugging Face data sets.

    Args:
        image: Name of the field with the image or clip, in a form that `ragged_collate` accepts. Or the names of
            several pictures of each scene: a list, or a dict with the names they are to have, {"front": "cam_0"}.
        label: Name of the field with the label. Or the names of fields with targets, under the keys that `Augment`
            knows: {"masks": "annotation"}. None: all other fields, under their own names.
        index: Name of the field with the sample's number in its data set. None: the batch has no index.

    Returns:
        A function of a list of dicts that packs them as `ragged_collate` does. It can be pickled for workers.

    Raises:
        ValueError: If a name is no str; when the function is called, if a sample is no dict with these fields.
    """
    images: str | Names = image if isinstance(image, str) else _names("image", image)
    labels: str | Names | None = label if label is None or isinstance(label, str) else _names("label", label)
    if index is not None and not isinstance(index, str):
        raise checks.argument_error("collate", "index", "the name of a field, a str", checks.describe(index))
    return _Fielded(images, labels, index)


def _names(argument: str, given: Any) -> Names:
    """(key, field) pairs of a dict of names, or of a list of names of pictures."""
    pairs = tuple(given.items()) if isinstance(given, Mapping) else ()
    if argument == "image" and isinstance(given, (list, tuple)):
        pairs = tuple((name, name) for name in given)
    if not pairs or not all(isinstance(part, str) for pair in pairs for part in pair) or len(dict(pairs)) < len(pairs):
        expected = "the name of a field, a str, or a dict of such names"
        expected += ", or a list of them, each once" if argument == "image" else ""
        raise checks.argument_error("collate", argument, expected, checks.describe(given))
    return pairs


@dataclass(frozen=True)
class _Fielded:
    image: str | Names  # a field, or (key, field) pairs
    label: str | Names | None  # None: all other fields
    index: str | None

    @property
    def _read(self) -> list[str]:
        """The fields of images and index."""
        fields = [self.image] if isinstance(self.image, str) else [field for _, field in self.image]
        return fields if self.index is None else [*fields, self.index]

    def __call__(self, samples: Sequence[object]) -> Batch:
        labels = [self.label] if isinstance(self.label, str) else [field for _, field in self.label or ()]
        names = [*self._read, *labels]
        for sample in samples:
            if not isinstance(sample, Mapping) or any(name not in sample for name in names):
                expected = f"dicts with {', '.join(map(repr, names))}"
                got = f"a dict with {', '.join(map(repr, sample))}" if isinstance(sample, Mapping) else _kind(sample)
                raise checks.argument_error("collate", "samples", expected, got)
        dicts = cast(Sequence[Mapping[str, object]], samples)
        return ragged_collate([self._sample(sample) for sample in dicts])

    def _sample(self, sample: Mapping[str, object]) -> tuple[object, ...]:
        image, label = _of(sample, self.image), self.label
        if label is None:
            read = self._read
            label = tuple((field, field) for field in sample if field not in read)
        found = image, _of(sample, label)
        return found if self.index is None else (*found, sample[self.index])


def _of(sample: Mapping[str, object], names: str | Names) -> Any:
    """A field of a sample, or a dict of several."""
    return sample[names] if isinstance(names, str) else {key: sample[field] for key, field in names}


def _stacked(labels: Sequence[Any]) -> Tensor:
    try:
        return torch.stack([_label(label) for label in labels]).detach()
    except (TypeError, ValueError, RuntimeError):
        expected, remedy = "numbers, tensors of one shape, or one mapping for each image", ""
        if any(isinstance(label, (list, tuple)) and travel.are_targets(label) for label in labels):
            remedy = "Make one mapping of the annotations of an image, as wrap_dataset_for_transforms_v2 does."
        elif any(isinstance(label, PIL.Image.Image) or getattr(label, "ndim", 0) >= 2 for label in labels):
            remedy = 'Return masks as {"masks": mask}, and boxes as {"boxes": boxes}.'
        raise checks.argument_error("ragged_collate", "labels", expected, _kinds(labels), remedy) from None


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
