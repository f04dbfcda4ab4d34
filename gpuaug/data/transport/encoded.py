"""Compressed images that travel as they are and are decoded where the batch is augmented."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.data.decode import RGB, ImageError, decode, is_jpeg, is_upright, is_whole, reason
from gpuaug.ragged import Ragged

__all__ = ["Encoded", "EncodedImage"]


class EncodedImage(NamedTuple):
    """One file: its bytes (n,) uint8, its name for errors, and what to do if it cannot be decoded."""

    data: Tensor
    name: str
    on_error: str = "raise"


class Encoded:
    """A batch of compressed images in one flat buffer.

    Args:
        data: (bytes,) uint8 on the CPU, the files one after another.
        lengths: (B,) int64 numpy array, bytes of each.
        names: of the files, for errors.
        on_error: "raise", or "skip" to put another image of the batch in the place of one that cannot be decoded.
    """

    def __init__(self, data: Tensor, lengths: NDArray[Any], names: Sequence[str], on_error: str = "raise") -> None:
        self.data, self.lengths, self.names, self.on_error = data, lengths, tuple(names), on_error

    @classmethod
    def from_images(cls, images: Sequence[EncodedImage], empty: Callable[[int], Tensor] | None = None) -> Encoded:
        """Pack files, into memory that `empty` gives if it is there."""
        if not all(isinstance(image, EncodedImage) for image in images):
            raise checks.argument_error("ragged_collate", "images", "all encoded or all decoded", "some of each")
        lengths = np.array([len(image.data) for image in images], np.int64)
        out = None if empty is None else empty(int(lengths.sum()))
        data = torch.cat([image.data for image in images], out=out)
        return cls(data, lengths, [image.name for image in images], images[0].on_error)

    def describe(self) -> tuple[Any, ...]:
        """The arguments of the constructor after `data`."""
        return self.lengths, self.names, self.on_error

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Tensor:
        """The bytes of image `number`."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"Encoded: image {number} of a batch of {len(self)}")
        number %= len(self)
        end = int(self.lengths[: number + 1].sum())
        return self.data[end - int(self.lengths[number]) : end]

    def pin_memory(self) -> Encoded:
        """Itself: decoders read the bytes on the host."""
        return self

    def decode(self, device: torch.device | str) -> tuple[Ragged, Tensor]:
        """Decode the batch on `device`.

        On CUDA nvJPEG decodes what it can: whole, upright JPEGs it does not refuse. The CPU decodes the rest, as many
        at a time as torch has threads, and everything on other devices. nvJPEG's pixels differ a little from the
        CPU's.

        Returns:
            The images on `device`, and (B,) int64, the number of the image that stands in each place: its own, but
            for one that was skipped.

        Raises:
            ImageError: if an image cannot be decoded and `on_error` is "raise", or none of them can be.
        """
        device = torch.device(device)
        files = [self[number] for number in range(len(self))]
        images: list[Tensor | ImageError | None] = [None] * len(files)
        if device.type == "cuda":
            suited = [number for number, file in enumerate(files) if _suits_device(file)]
            decoded = _on_device([files[number] for number in suited], device)
            if len(suited) > 1 and not any(isinstance(image, Tensor) for image in decoded):
                warnings.warn(f"Encoded: {device} decodes none of a batch's JPEGs; the CPU does.", stacklevel=2)
            for number, image in zip(suited, decoded, strict=True):
                images[number] = image
        left = [number for number, image in enumerate(images) if image is None]
        for number, result in zip(left, _on_cpu([files[number] for number in left]), strict=True):
            images[number] = result if isinstance(result, ImageError) else result.to(device)
        shown = self._substitutes(images)
        return Ragged.from_images([images[number] for number in shown]), torch.tensor(shown, device="cpu")  # type: ignore[misc]

    def _substitutes(self, images: Sequence[Tensor | ImageError | None]) -> list[int]:
        good = [number for number, image in enumerate(images) if isinstance(image, Tensor)]
        for number, image in enumerate(images):
            if isinstance(image, ImageError):
                if self.on_error == "raise" or not good:
                    raise unreadable("Encoded", self.names[number], image) from None
                stand_in = _next(good, number)
                warnings.warn(skipped("Encoded", self.names[number], image, self.names[stand_in]), stacklevel=3)
        return [_next(good, number) for number in range(len(images))]


def _next(good: Sequence[int], number: int) -> int:
    """The first of `good` from `number` on, from the front again after the end."""
    return next((other for other in good if other >= number), good[0])


def _suits_device(file: Tensor) -> bool:
    """nvJPEG ignores the orientation, and need not say that a file is cut short."""
    return is_jpeg(file) and is_whole(file) and is_upright(file)


def _on_device(files: Sequence[Tensor], device: torch.device) -> list[Tensor | None]:
    """Decoded by nvJPEG; None for what it refuses."""
    try:
        return device_jpegs(files, device) if files else []
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # one bad file fails the batch
        if len(files) == 1:
            return [None]
    half = len(files) // 2
    return _on_device(files[:half], device) + _on_device(files[half:], device)


def device_jpegs(files: Sequence[Tensor], device: torch.device) -> list[Tensor | None]:
    """The operator of torchvision.io.decode_jpeg(files, device=device).

    It writes on a stream of its own, into memory of the current stream that it does not wait for: what was there before
    may still be read, and after an error it may still be writing into what is free again.
    """
    torch.cuda.current_stream(device).synchronize()
    try:
        return list(torch.ops.image.decode_jpegs_cuda(list(files), RGB, device))
    except RuntimeError:
        torch.cuda.synchronize(device)
        raise


def _on_cpu(files: Sequence[Tensor]) -> list[Tensor | ImageError]:
    def attempt(file: Tensor) -> Tensor | ImageError:
        try:
            return decode(file)
        except ImageError as error:
            return error

    threads = min(torch.get_num_threads(), len(files))
    if threads <= 1:
        return [attempt(file) for file in files]
    with ThreadPoolExecutor(threads) as pool:  # the decoders let go of the GIL
        return list(pool.map(attempt, files))


REPLACE = 'Replace it, or pass on_error="skip".'


def unreadable(owner: object, name: str, error: BaseException, remedy: str = REPLACE) -> ImageError:
    """The error for a file that cannot be decoded."""
    got = f"{printable(name)} ({reason(error)})"
    return ImageError(str(checks.argument_error(owner, "file", "an image that can be read", got, remedy)))


def skipped(owner: str, name: str, error: BaseException, stand_in: str) -> str:
    """The warning for it."""
    return f"{owner}: skipped {printable(name)} ({reason(error)}); {printable(stand_in)} stands in its place."


def printable(name: str) -> str:
    """Without line breaks, or bytes that are no text, which file names may hold."""
    return name if name.isprintable() else repr(name)
