"""Decode an image file to uint8 (3, H, W).

torchvision.io decodes JPEG (with libjpeg-turbo, a third faster than Pillow). Pillow decodes all other formats:
torchvision's PNG decoder ends the process on a damaged file (torchvision 0.29.2, docs/decisions.md), and Pillow reads
the first frame of an animation only.
"""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np
import torch
import torchvision.io  # loads torch.ops.image
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

__all__ = [
    "ImageError",
    "as_tensor",
    "checked_header",
    "decode",
    "decode_file",
    "is_jpeg",
    "is_upright",
    "is_whole",
    "jpeg_header",
    "read",
    "read_ahead",
    "rgb",
]

RGB = torchvision.io.ImageReadMode.RGB.value
# The operator of torchvision.io.decode_jpeg; the function itself warns that TorchCodec will replace it.
DECODE_JPEG = torch.ops.image.decode_jpeg

# Pillow's formats, without those that start other programs (EPS), accept any bytes as an image (TGA), or decode a
# truncated file to a blur (JPEG 2000).
FORMATS = ("PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")

ORIENTATION = 274  # EXIF tag
# Orientation -> Pillow's transposition, and the same for (C, H, W). Every other value means upright.
TURNS: dict[int, tuple[Image.Transpose, Callable[[Tensor], Tensor]]] = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, lambda image: image.flip(2)),
    3: (Image.Transpose.ROTATE_180, lambda image: image.flip(1, 2)),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, lambda image: image.flip(1)),
    5: (Image.Transpose.TRANSPOSE, lambda image: image.transpose(1, 2)),
    6: (Image.Transpose.ROTATE_270, lambda image: image.transpose(1, 2).flip(2)),
    7: (Image.Transpose.TRANSVERSE, lambda image: image.flip(1, 2).transpose(1, 2)),
    8: (Image.Transpose.ROTATE_90, lambda image: image.transpose(1, 2).flip(1)),
}
APP1, START_OF_SCAN = 0xE1, 0xDA  # JPEG markers
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of the segments that contain the size
ALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a segment


class ImageError(ValueError):
    """An image file that cannot be read or decoded."""


def read(path: str | os.PathLike[str]) -> Tensor:
    """The bytes of a file, (n,) uint8.

    Raises:
        ImageError: If the file is empty, or is no regular file.
        OSError: If the file cannot be read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
        raise ImageError("not a regular file, but a directory, a pipe or a device")
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        data = torch.empty(size, dtype=torch.uint8, device="cpu")
        memory, done = memoryview(data.numpy()), 0  # type: ignore[arg-type]
        while done < size and (more := file.readinto(memory[done:])):  # a network file system may return less
            done += more
    if done == 0:
        raise ImageError("the file is empty")
    return data[:done]


def read_ahead(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Have the system begin to read files that will be read soon, all at once; where it cannot, nothing happens.

    A file that lies in memory already costs 3 us.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        with suppress(OSError):  # reading it will raise the error
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would wait
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)


def decode(data: Tensor) -> Tensor:
    """Decode an image to uint8 (3, H, W), upright: turned as its EXIF or XMP orientation says, as Pillow reads it.

    Greyscale, palette and CMYK images become RGB. Alpha is dropped. Of 16 bits per channel the upper 8 are used. Of an
    animation the first frame is used.

    Args:
        data: Bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF, PPM or AVIF file, (n,) uint8 on the CPU.

    Raises:
        ImageError: If the bytes are no image, are damaged or truncated, contain floats or 32-bit integers, or declare
            more pixels than Pillow's limit, twice PIL.Image.MAX_IMAGE_PIXELS.
    """
    by = _by_torchvision if is_jpeg(data) else _by_pillow
    with _image_errors():
        try:
            return by(data)
        except Warning:  # the user made warnings errors; a large image must not be one
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"PIL\.")
                return by(data)


def decode_file(path: str | os.PathLike[str]) -> Tensor:
    """Read and decode an image file to uint8 (3, H, W); see `decode`.

    Raises:
        ImageError: If the file cannot be read or decoded; the message names it.
    """
    try:
        return decode(read(path))
    except (ImageError, OSError) as error:
        raise ImageError(f"{path} cannot be read as an image ({reason(error)}).") from None


def _by_torchvision(data: Tensor) -> Tensor:
    """Decode a JPEG. Pillow reads its orientation: torchvision reads one APP1 segment, which may be XMP, not EXIF."""
    _limit_size(data)
    image: Tensor = DECODE_JPEG(data, RGB, False)  # False: do not turn it
    turn = TURNS.get(_jpeg_orientation(data))
    return image if turn is None else turn[1](image)


def _jpeg_orientation(data: Tensor) -> int:
    """The orientation of a JPEG; 1 if it has none."""
    if not any(marker == APP1 for marker, _ in _segments(data)):
        return 1
    try:
        with JpegImageFile(io.BytesIO(data.numpy().tobytes())) as image:
            return _orientation(image)
    except Warning:
        raise
    except Exception:
        return 1  # the header is damaged; decoding the pixels will raise the error


def _orientation(image: Image.Image) -> int:
    """The orientation as PIL.ImageOps.exif_transpose reads it; 1 where EXIF is damaged: the pixels may not be."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
        return int(value) if value in TURNS else 1
    except Warning:
        raise
    except Exception:
        return 1


def _by_pillow(data: Tensor) -> Tensor:
    with Image.open(io.BytesIO(data.numpy().tobytes()), formats=_formats()) as image:
        return rgb(image)


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def rgb(image: Image.Image) -> Tensor:
    """Convert a Pillow image to uint8 (3, H, W), upright.

    Raises:
        ImageError: As of `decode`: Pillow reads the pixels of an opened file only now.
    """
    with _image_errors():
        if image.mode == "F":
            raise ImageError("it contains floats, not bytes")
        if image.mode == "I" and image.format not in ("PNG", "PPM"):  # these have 16 bits at most
            raise ImageError("it contains 32-bit integers, not bytes")
        image.load()  # a PNG may have its EXIF at the end
        turn = TURNS.get(_orientation(image))
        image = image if turn is None else image.transpose(turn[0])
        if image.mode.startswith("I"):  # 16 bits; Pillow would clip at 255
            levels = np.asarray(image).astype(np.int32) >> 8  # of either byte order
            return torch.from_numpy(levels.astype(np.uint8)).expand(3, -1, -1)
        if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow would warn of a palette with alpha
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def as_tensor(image: object) -> Any:
    """Convert a Pillow image or a uint8 array (H, W) or (H, W, C) to a uint8 tensor (C, H, W); return others unchanged.

    A clip (T, H, W, C) becomes (T, C, H, W).

    Raises:
        ImageError: As of `rgb`.
    """
    if isinstance(image, Image.Image):
        return rgb(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3, 4):
        image = np.require(image, requirements=("C", "W"))  # PyTorch refuses flipped and read-only arrays
        return torch.from_numpy(image if image.ndim > 2 else image[..., None]).movedim(-1, -3)
    return image


@contextmanager
def _image_errors() -> Iterator[None]:
    """Convert every exception to an ImageError: for damaged files Pillow raises nearly every kind of exception."""
    try:
        yield
    except (ImageError, Warning):
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image in a supported format, or its header is damaged") from None
    except Exception as error:
        raise ImageError(reason(error)) from None


def is_jpeg(data: Tensor) -> bool:
    return data.numpy()[:3].tobytes() == b"\xff\xd8\xff"


def is_whole(data: Tensor) -> bool:
    """Whether a JPEG has its end marker."""
    return data.numpy()[-2:].tobytes() == b"\xff\xd9"


def is_upright(data: Tensor) -> bool:
    """Whether a JPEG needs no turn or mirror for its orientation."""
    try:
        return _jpeg_orientation(data) == 1
    except Warning:
        return False  # the user made warnings errors; `decode` handles them


def jpeg_header(data: Tensor) -> tuple[tuple[int, int], int] | None:
    """((height, width), orientation) of a JPEG as it is stored; None where the size is missing or beyond the limit."""
    exif, size = False, None
    for marker, content in _segments(data):
        exif = exif or marker == APP1
        if marker in FRAMES and len(content) >= 5:
            size = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
    return None if size is None else checked_header(data, size, exif)


def checked_header(data: Tensor, size: tuple[int, int], exif: bool) -> tuple[tuple[int, int], int] | None:
    """As `jpeg_header`, of a JPEG whose size is known, and whether it has a segment that may hold an orientation."""
    most = Image.MAX_IMAGE_PIXELS
    if 0 in size or (most is not None and size[0] * size[1] > 2 * most):
        return None
    try:
        return size, _jpeg_orientation(data) if exif else 1
    except Warning:
        return None  # the user made warnings errors; `decode` handles them


def _limit_size(data: Tensor) -> None:
    """Apply Pillow's limit: the decoder would allocate and write the pixels that a false header declares."""
    for marker, content in _segments(data):
        if marker in FRAMES and len(content) >= 5 and (most := Image.MAX_IMAGE_PIXELS) is not None:
            height, width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
            if height * width > 2 * most:
                raise ImageError(f"its size ({height}, {width}) exceeds the limit of {2 * most} pixels")


def _segments(data: Tensor) -> Iterator[tuple[int, memoryview]]:
    """(marker, content) of each segment of a JPEG before the pixels, found as libjpeg finds them."""
    memory, at = memoryview(data.numpy()), 2  # type: ignore[arg-type]
    end = len(memory)
    while at < end:
        while at < end and memory[at] != 0xFF:
            at += 1
        while at < end and memory[at] == 0xFF:
            at += 1
        if at + 2 >= end or memory[at] == START_OF_SCAN:
            return
        marker = memory[at]
        at += 1
        if marker == 0 or marker in ALONE:
            continue
        length = int.from_bytes(memory[at : at + 2], "big")
        yield marker, memory[at + 2 : at + length]
        at += max(2, length)


def reason(error: BaseException) -> str:
    """The message of a decoder's error in one line, without torchvision's source position and torch's stack."""
    text = str(error).strip().split("\n")[0]
    return re.sub(r"^\S+, \S+\.cpp:\d+, ", "", text).strip().rstrip(".") or type(error).__name__
