"""Compressed images: workers send the bytes of files, and the batch is decoded where it is augmented."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.data.decode import RGB, ImageError, decode, is_jpeg, is_upright, is_whole, reason
from gpuaug.ragged import Ragged

__all__ = ["Encoded", "EncodedImage"]


class EncodedImage(NamedTuple):
    """The bytes of one image file.

    Attributes:
        data: (n,) uint8.
        name: Name for errors.
        on_error: "raise" or "skip", see Encoded.
    """

    data: Tensor
    name: str
    on_error: str = "raise"


class Encoded:
    """A batch of compressed images in one flat buffer.

    Args:
        data: Bytes of all files, one after another, (bytes,) uint8 on the CPU.
        lengths: Length of each file in bytes, (B,) int64 NumPy array.
        names: Names of the files, for errors.
        on_error: "raise": an image that cannot be decoded raises an ImageError. "skip": another image of the batch
            replaces it, with a warning.
    """

    def __init__(self, data: Tensor, lengths: NDArray[np.int64], names: Sequence[str], on_error: str = "raise") -> None:
        self.data, self.lengths, self.names, self.on_error = data, lengths, tuple(names), on_error

    @classmethod
    def from_images(cls, images: Sequence[EncodedImage], empty: Callable[[int], Tensor] | None = None) -> Encoded:
        """Pack files into one buffer.

        Args:
            images: Files.
            empty: Function that allocates (bytes,) uint8 for the buffer. None: torch allocates it.

        Raises:
            ValueError: If some images are decoded already.
        """
        if not all(isinstance(image, EncodedImage) for image in images):
            raise checks.argument_error("ragged_collate", "images", "all encoded or all decoded", "some of each")
        lengths = np.array([len(image.data) for image in images], np.int64)
        out = None if empty is None else empty(int(lengths.sum()))
        data = torch.cat([image.data for image in images], out=out)
        return cls(data, lengths, [image.name for image in images], images[0].on_error)

    def describe(self) -> tuple[NDArray[np.int64], tuple[str, ...], str]:
        """The arguments of the constructor after `data`."""
        return self.lengths, self.names, self.on_error

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Tensor:
        """The bytes of image `number`."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"Encoded: there is no image {number} in a batch of {len(self)}.")
        number %= len(self)
        end = int(self.lengths[: number + 1].sum())
        return self.data[end - int(self.lengths[number]) : end]

    def pin_memory(self) -> Encoded:
        """Return the batch itself: decoders read the bytes from ordinary CPU memory."""
        return self

    def decode(self, device: torch.device | str) -> tuple[Ragged, Tensor]:
        """Decode the batch on a device.

        On CUDA, nvJPEG decodes complete, upright JPEGs, and the CPU decodes the rest, as many at a time as torch has
        threads. On other devices the CPU decodes everything. nvJPEG's pixels differ a little from the CPU's.

        Args:
            device: Device of the result.

        Returns:
            (images, numbers): Ragged of B images on `device`; (B,) int64 on the CPU, for each position the number of
            the image in it, which is another one's where an image was skipped.

        Raises:
            ImageError: If an image cannot be decoded and `on_error` is "raise", or if none can be decoded.
        """
        device = torch.device(device)
        files = [self[number] for number in range(len(self))]
        images: list[Tensor | ImageError | None] = [None] * len(files)
        if device.type == "cuda":
            suited = [number for number, file in enumerate(files) if _suits_device(file)]
            decoded = _on_device([files[number] for number in suited], device)
            if len(suited) > 1 and not any(isinstance(image, Tensor) for image in decoded):
                warnings.warn(f"Encoded: {device} decodes no JPEG of a batch; the CPU decodes them.", stacklevel=2)
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
                other = _next(good, number)
                warnings.warn(skipped("Encoded", self.names[number], image, self.names[other]), stacklevel=3)
        return [_next(good, number) for number in range(len(images))]


def _next(good: Sequence[int], number: int) -> int:
    """The first of `good` that is at least `number`; if there is none, the first of all."""
    return next((other for other in good if other >= number), good[0])


def _suits_device(file: Tensor) -> bool:
    """Whether nvJPEG decodes a file correctly: it ignores the orientation, and may not notice a truncated file."""
    return is_jpeg(file) and is_whole(file) and is_upright(file)


def _on_device(files: Sequence[Tensor], device: torch.device) -> list[Tensor | None]:
    """Images decoded by nvJPEG; None for a file that it refuses."""
    try:
        return device_jpegs(files, device) if files else []
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # one bad file makes the whole batch fail
        if len(files) == 1:
            return [None]
    half = len(files) // 2
    return _on_device(files[:half], device) + _on_device(files[half:], device)


def device_jpegs(files: Sequence[Tensor], device: torch.device) -> list[Tensor | None]:
    """The operator of torchvision.io.decode_jpeg(files, device=device).

    It writes on a separate stream, into memory that the current stream allocates, and does not wait for that stream.
    So earlier work may still read the memory, and after an error nvJPEG may still write to memory that is free again.
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
    with ThreadPoolExecutor(threads) as pool:  # the decoders release the GIL
        return list(pool.map(attempt, files))


REPLACE = 'Replace it, or pass on_error="skip".'


def unreadable(owner: object, name: str, error: BaseException, remedy: str = REPLACE) -> ImageError:
    """The error for an unreadable file."""
    got = f"{printable(name)} ({reason(error)})"
    return ImageError(str(checks.argument_error(owner, "file", "an image that can be read", got, remedy)))


def skipped(owner: str, name: str, error: BaseException, substitute: str) -> str:
    """The text of the warning for an unreadable file."""
    return f"{owner}: skipped {printable(name)} ({reason(error)}); {printable(substitute)} replaces it."


def printable(name: str) -> str:
    """A file name without line breaks, and without bytes that are no text."""
    return name if name.isprintable() else repr(name)
