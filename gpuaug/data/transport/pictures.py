"""Several pictures of each scene, such as those of two cameras, as they travel: in one buffer, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.data.decode import as_tensor
from gpuaug.data.transport.encoded import Encoded, EncodedImage
from gpuaug.data.transport.targets import aligned
from gpuaug.ragged import Ragged

__all__ = ["Pictures", "are_pictures", "buffers", "moved", "packed"]


class Pictures(dict[str, Ragged]):
    """A dict of batches of pictures or clips, whose pixels lie one after another in `data`, (bytes,) uint8.

    Args:
        data: The buffer.
        described: For each batch its name, the positions of its first and last byte, and the arguments of Ragged.
    """

    def __init__(self, data: Tensor, *described: tuple[Any, ...]) -> None:
        super().__init__((name, Ragged(data[start:end], *more)) for name, start, end, *more in described)
        self.data, self._described = data, described

    @classmethod
    def from_scenes(cls, scenes: Sequence[Mapping[str, object]], empty: Callable[[int], Tensor]) -> Pictures:
        """Pack the pictures of scenes, mappings with the same keys.

        Raises:
            ValueError: If scenes have other keys, or a picture has another form than `ragged_collate` takes.
        """
        names = tuple(scenes[0])
        for number, scene in enumerate(scenes):
            if not names or scene.keys() != scenes[0].keys() or not all(isinstance(name, str) for name in names):
                got = ", ".join(map(repr, scene)) or "none"
                expected = f"one picture of each scene under each of {', '.join(map(repr, names)) or 'its names'}"
                raise checks.argument_error("ragged_collate", "images", expected, f"{got} for sample {number}")
        columns = {name: [as_tensor(scene[name]) for scene in scenes] for name in names}
        sizes = {name: sum(getattr(each, "nbytes", 0) for each in column) for name, column in columns.items()}
        data, start, described = empty(sum(map(aligned, sizes.values()))), 0, []
        for name, column in columns.items():
            try:
                batch = packed(column, partial(data.narrow, 0, start))
            except ValueError as error:
                raise ValueError(f'{error} This is about "{name}".') from error
            if not isinstance(batch, Ragged):
                expected, remedy = "decoded images in a mapping of pictures", 'Use decode="worker".'
                raise checks.argument_error("ragged_collate", f'images["{name}"]', expected, "files", remedy)
            described.append((name, start, start + sizes[name], *batch.describe()))
            start += aligned(sizes[name])
        return cls(data, *described)

    def describe(self) -> tuple[Any, ...]:
        """The arguments of the constructor after `data`."""
        return self._described

    def __reduce__(self) -> tuple[object, ...]:
        return Pictures, (self.data, *self._described)

    def pin_memory(self) -> Pictures:
        """A copy in pinned memory."""
        return Pictures(self.data.pin_memory(), *self._described)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Pictures:
        """The pictures on a device, in one copy."""
        return Pictures(self.data.to(device, non_blocking=non_blocking), *self._described)


def packed(images: Sequence[Any], empty: Callable[[int], Tensor]) -> Ragged | Encoded:
    """Images, clips or files in one buffer."""
    if any(isinstance(image, EncodedImage) for image in images):
        return Encoded.from_images(images, empty)
    tensors = [as_tensor(image) for image in images]
    clips = any(isinstance(each, Tensor) and each.ndim == 4 for each in tensors)
    return Ragged.from_clips(tensors, empty) if clips else Ragged.from_images(tensors, empty)


def are_pictures(images: object) -> bool:
    """Whether images are a mapping of batches of pictures, and not of fields such as images and labels."""
    if not isinstance(images, Mapping) or not images:
        return False
    return all(isinstance(value, Ragged) or (isinstance(value, Tensor) and value.ndim > 3) for value in images.values())


def buffers(images: Any) -> list[Tensor]:
    """The memory of a batch: that of its images, or of each of its pictures."""
    if isinstance(images, Tensor):
        return [images]
    if isinstance(images, Mapping) and not isinstance(images, Pictures):
        return [data for each in images.values() for data in buffers(each)]
    return [images.data]


def moved(images: Any, device: torch.device, non_blocking: bool) -> Any:
    """Images, or a mapping of pictures, on a device."""
    if isinstance(images, Mapping) and not isinstance(images, Pictures):
        return {name: each.to(device, non_blocking=non_blocking) for name, each in images.items()}
    return images.to(device, non_blocking=non_blocking)
