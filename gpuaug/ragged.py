"""Images or clips of different sizes in one flat buffer: a batch is one object to share, pin and copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks

__all__ = ["Parts", "Ragged", "layout"]

Array = NDArray[Any]

Sizes = NDArray[np.integer[Any]]  # (B, 2) of integers

LONGEST = 2**24  # largest side of an image, in pixels


@dataclass(frozen=True, eq=False)
class Parts:
    """Which part of each image a batch holds, and the draw that will read no pixel outside it.

    Only a call with this very draw can augment the batch; see `gpuaug.engine.parts`.

    Attributes:
        origins: (top, left) of each part in its image, in pixels, (B, 2) int32.
        whole: (height, width) of each image, in pixels, (B, 2) int32.
        steps: The steps of the list up to its last crop.
        training: Whether they are of the training list.
        key: Key of the draw, 64 bits; see `gpuaug.program.Keys`.
        index, look: Number of each image in its data set, (B,) uint64, and which look at it, (B,) uint32.
    """

    origins: Array
    whole: Array
    steps: str
    training: bool
    key: int
    index: Array
    look: Array


class Ragged:
    """A batch of uint8 images that differ in height and width.

    Pixel transforms may come before the crop or resize that makes all images the same size. They run on the images of
    each size separately, on a copy of the batch; the result for an image does not depend on the others.

    Args:
        data: Pixels of all images, one image after another, each as (height, width, channels). (bytes,) uint8.
        sizes: (height, width) of each image in pixels, (B, 2) NumPy array of integers.
        channels: Number of channels, the same for all images.
        parts: For a batch of the parts of images that one draw reads, as data sets with `regions` make it: where they
            lie. `sizes` are then those of the parts. None: the images are whole.
        frames: Number of frames of each sample, which lie one after another, if it is a batch of clips; 0 for images.

    Attributes:
        data, channels, parts, frames: As passed.
        sizes: (B, 2) int32, read-only.
        offsets: Position of each image's first byte in `data`, (B,) int64.

    Raises:
        ValueError: If an argument has a wrong type or dtype, if the length of `data` does not match `sizes`, if an
            image has no pixels, or if a part lies outside its image.
    """

    def __init__(self, data: Tensor, sizes: Sizes, channels: int, parts: Parts | None = None, frames: int = 0) -> None:
        if not isinstance(data, Tensor) or data.dtype != torch.uint8 or data.ndim != 1:
            raise checks.argument_error("Ragged", "data", "a flat uint8 tensor", checks.describe(data))
        channels = checks.integer("Ragged", "channels", channels, 1)
        given, sizes = sizes, np.asarray(sizes)
        if sizes.dtype.kind not in "iu" or sizes.ndim != 2 or sizes.shape[1] != 2:
            expected = "integers (B, 2), (height, width) of each image"
            raise checks.argument_error("Ragged", "sizes", expected, checks.describe(given))
        bad = (sizes < 1) | (sizes > LONGEST)
        if bad.any():
            number = int(bad.any(axis=1).argmax())
            got = f"{tuple(map(int, sizes[number]))} for image {number}"
            expected = f"at least 1 pixel high and wide, and at most {LONGEST}"
            raise checks.argument_error("Ragged", "sizes", expected, got, "Drop empty images in the loader.")
        sizes = sizes.astype(np.int32)  # a copy
        sizes.setflags(write=False)  # the kernels do not check it again
        frames = checks.integer("Ragged", "frames", frames, 0)
        lengths = sizes[:, 0].astype(np.int64) * sizes[:, 1] * (channels * max(frames, 1))
        if int(lengths.sum()) != len(data):
            expected = f"{int(lengths.sum())} bytes long, as its sizes say"
            raise checks.argument_error("Ragged", "data", expected, f"{len(data)} bytes")
        if parts is not None and frames:
            raise checks.argument_error("Ragged", "parts", "None for clips, which are whole", "parts")
        if parts is not None and not _inside(parts, sizes):
            expected = f"origins and image sizes ({len(sizes)}, 2) that hold parts of `sizes`"
            raise checks.argument_error("Ragged", "parts", expected, "others")
        self.data = data.contiguous()
        self.sizes = sizes
        self.channels = channels
        self.parts = parts
        self.frames = frames
        self.offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)

    @classmethod
    def from_images(cls, images: Sequence[Tensor], empty: Callable[[int], Tensor] | None = None) -> Ragged:
        """Pack images into one batch.

        Args:
            images: uint8 (C, H, W) tensors on one device, of any strides. Those of decoded JPEGs, which are stored as
                (H, W, C), are packed without reordering.
            empty: Function that allocates (bytes,) uint8 for the buffer. None: it is allocated on the images' device.

        Raises:
            ValueError: If there is no image, or if one has another form or number of channels.
        """
        if len(images) == 0:
            raise checks.argument_error("Ragged.from_images", "images", "at least one image", "none")
        first = images[0]
        channels = first.shape[0] if isinstance(first, Tensor) and first.ndim == 3 else 0
        for number, image in enumerate(images):
            good = isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3
            if not good or not image.shape[0] == channels > 0:
                expected = f"uint8 ({channels or 'C'}, H, W) tensors with the same number of channels"
                got = f"{checks.describe(image)} for image {number}"
                remedy = "Decode to RGB, as uint8 (3, H, W), and skip files that are no images."
                raise checks.argument_error("Ragged.from_images", "images", expected, got, remedy)
        sizes = np.array([image.shape[1:] for image in images], np.int32)
        stored = [image.permute(1, 2, 0) for image in images]
        lengths = [image.numel() for image in stored]
        out = None if empty is None else empty(sum(lengths))
        if all(image.is_contiguous() for image in stored):
            return cls(torch.cat([image.reshape(-1) for image in stored], out=out), sizes, channels)
        data = torch.empty(sum(lengths), dtype=torch.uint8, device=first.device) if out is None else out
        for image, place in zip(stored, torch.split(data, lengths), strict=True):  # a reshape would copy it twice
            place.view(image.shape).copy_(image)
        return cls(data, sizes, channels)

    @classmethod
    def from_clips(cls, clips: Sequence[Tensor], empty: Callable[[int], Tensor] | None = None) -> Ragged:
        """Pack clips of one number of frames, which may differ in height and width, into one batch.

        Args:
            clips: uint8 (T, C, H, W) tensors on one device.
            empty: As for `from_images`.

        Raises:
            ValueError: If there is no clip, or if one has another form, number of frames or of channels.
        """
        frames = clips[0].shape[0] if len(clips) and isinstance(clips[0], Tensor) and clips[0].ndim == 4 else 0
        for number, clip in enumerate(clips):
            if not isinstance(clip, Tensor) or clip.ndim != 4 or clip.shape[0] != frames or not frames:
                expected = f"uint8 ({frames or 'T'}, C, H, W) tensors with the same number of frames"
                got = f"{checks.describe(clip)} for clip {number}"
                raise checks.argument_error(
                    "Ragged.from_clips", "clips", expected, got, "Cut clips of one length in the loader."
                )
        images = cls.from_images([frame for clip in clips for frame in clip], empty)
        return cls(images.data, images.sizes[:: max(frames, 1)], images.channels, frames=frames)

    def as_images(self) -> Ragged:
        """The frames of all clips as images, (B * T) of them, in the same memory."""
        frames = max(self.frames, 1)
        sizes = self.sizes.repeat(frames, axis=0)
        length = self.sizes[:, 0].astype(np.int64) * self.sizes[:, 1] * self.channels
        offsets = self.offsets[:, None] + length[:, None] * np.arange(frames)
        return Ragged.placed(self.data, sizes, self.channels, offsets.reshape(-1))

    @classmethod
    def placed(cls, data: Tensor, sizes: Array, channels: int, offsets: Array) -> Ragged:
        """A batch of images at any positions of a buffer, for the engine. Nothing is checked.

        Args:
            data, sizes, channels: As of the constructor, but `data` may contain other bytes too.
            offsets: Position of each image's first byte in `data`, (B,) int64.
        """
        ragged = cls.__new__(cls)
        ragged.data, ragged.channels = data, channels
        ragged.sizes, ragged.offsets, ragged.parts = sizes.astype(np.int32), offsets, None
        ragged.frames = 0
        return ragged

    def take(self, numbers: Array) -> Ragged:
        """The images of these numbers, which are whole, in the same memory."""
        assert self.parts is None
        return Ragged.placed(self.data, self.sizes[numbers], self.channels, self.offsets[numbers])

    def describe(self) -> tuple[Array, int, Parts | None, int]:
        """The arguments of the constructor after `data`."""
        return self.sizes, self.channels, self.parts, self.frames

    @property
    def whole(self) -> Array:
        """(height, width) of each image, of which `data` may hold a part; (B, 2) int32."""
        return self.sizes if self.parts is None else self.parts.whole

    @property
    def corners(self) -> Array:
        """Where in `data` pixel (0, 0) of each image is, or would be if the part had it; (B,) int64."""
        if self.parts is None:
            return self.offsets
        top, left = self.parts.origins.T.astype(np.int64)
        return self.offsets - (top * self.sizes[:, 1] + left) * self.channels

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> Tensor:
        """Image `number`, or the part of it that is here, as a (C, H, W) view of the buffer; a clip as (T, C, H, W)."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"Ragged: there is no image {number} in a batch of {len(self)}.")
        number %= len(self)
        h, w = map(int, self.sizes[number])
        start = int(self.offsets[number])
        if self.frames:
            end = start + self.frames * h * w * self.channels
            return self.data[start:end].view(self.frames, h, w, self.channels).permute(0, 3, 1, 2)
        return self.data[start : start + h * w * self.channels].view(h, w, self.channels).permute(2, 0, 1)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    @property
    def device(self) -> torch.device:
        """Device of the pixels."""
        return self.data.device

    def pin_memory(self) -> Ragged:
        """A copy in pinned memory."""
        return Ragged(self.data.pin_memory(), *self.describe())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Ragged:
        """The batch on a device, as torch.Tensor.to."""
        return Ragged(self.data.to(device, non_blocking=non_blocking), *self.describe())

    def __repr__(self) -> str:
        frames = f", T={self.frames}" if self.frames else ""
        return f"Ragged(B={len(self)}{frames}, C={self.channels}, bytes={len(self.data)}, device={self.device})"


def _inside(parts: Parts, sizes: Array) -> bool:
    origins, whole = parts.origins, parts.whole
    return origins.shape == whole.shape == sizes.shape and bool(((origins >= 0) & (origins + sizes <= whole)).all())


def layout(source: Tensor | Ragged) -> tuple[Tensor, Array, Array, int]:
    """The flat buffer of a batch, and the position of each image in it.

    Returns:
        data (n,) uint8; where pixel (0, 0) of each image is, or would be if only a part of it is there, (B,) int64;
        strides (B, 3) int64 along (y, x, channel); channels.
    """
    if isinstance(source, Ragged):
        channels = source.channels
        widths = source.sizes[:, 1].astype(np.int64)
        strides = np.stack([widths * channels, np.full_like(widths, channels), np.ones_like(widths)], axis=1)
        return source.data, source.corners, strides, channels
    count, channels = source.shape[:2]
    batch, c, y, x = source.stride()
    span = sum((n - 1) * stride for n, stride in zip(source.shape, source.stride(), strict=True)) + 1
    data = source.as_strided((span,), (1,))
    return data, np.arange(count, dtype=np.int64) * batch, np.broadcast_to(np.array([y, x, c]), (count, 3)), channels
