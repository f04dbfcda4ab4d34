"""From the bytes of a file to uint8 (3, H, W).

JPEG by torchvision.io (libjpeg-turbo, a third faster than Pillow), everything else by Pillow: torchvision's PNG decoder
ends the process on a damaged file (torchvision 0.29.2, benchmarks/NOTES.md), and Pillow stops after the first frame of
an animation.
"""

from __future__ import annotations

import io
import os
import re

import torch
import torchvision.io  # loads torch.ops.image
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional

__all__ = ["ImageError", "decode", "is_jpeg", "is_upright", "read", "rgb"]

RGB = torchvision.io.ImageReadMode.RGB.value
# The operator of torchvision.io.decode_jpeg; the function itself warns that TorchCodec will take its place one day.
DECODE_JPEG = torch.ops.image.decode_jpeg

ORIENTATION = 274  # EXIF tag
EXIF_WITHIN = 1 << 16  # bytes; the APP1 segment follows the first marker


class ImageError(ValueError):
    """A file that is no image that can be read."""


def read(path: str | os.PathLike[str]) -> Tensor:
    """The bytes of a file, (n,) uint8.

    Raises:
        ImageError: if it is empty.
        OSError: if it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        data = torch.empty(size, dtype=torch.uint8)
        memory, done = memoryview(data.numpy()), 0  # type: ignore[arg-type]
        while done < size and (more := file.readinto(memory[done:])):  # a network file system may give less
            done += more
    if done == 0:
        raise ImageError("the file is empty")
    return data[:done]


def decode(data: Tensor) -> Tensor:
    """An encoded image as uint8 (3, H, W), upright as its EXIF orientation says.

    Greyscale, palette and CMYK become RGB, alpha is dropped, 16 bits a channel become 8 (the upper ones), an animation
    is its first frame.

    Args:
        data: (n,) uint8 on the CPU, the bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF, PPM or whatever else Pillow reads.

    Raises:
        ImageError: if the bytes are no image, are damaged or cut short, or hold floats.
    """
    if is_jpeg(data):
        try:
            decoded: Tensor = DECODE_JPEG(data, RGB, True)  # True: upright
        except RuntimeError as error:
            raise ImageError(reason(error)) from None
        return decoded
    try:
        with Image.open(io.BytesIO(data.numpy().tobytes())) as image:
            return rgb(image)
    except UnidentifiedImageError:
        raise ImageError("no image format that is known here") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(reason(error)) from None


def rgb(image: Image.Image) -> Tensor:
    """A Pillow image as uint8 (3, H, W), upright."""
    if image.mode == "F":
        raise ImageError("it holds floats, not bytes")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits; Pillow would clip at 255
        levels = functional.pil_to_tensor(image).to(torch.int32) >> 8
        if levels.min() < 0 or levels.max() > 255:
            raise ImageError("it holds 32 bits a pixel")
        return levels.to(torch.uint8).expand(3, -1, -1)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")  # a palette with alpha would warn
    return functional.pil_to_tensor(image.convert("RGB"))


def is_jpeg(data: Tensor) -> bool:
    return bytes(data[:3].numpy()) == b"\xff\xd8\xff"


def is_upright(data: Tensor) -> bool:
    """Whether a JPEG has no EXIF orientation that asks for a turn or a mirror."""
    head = data[:EXIF_WITHIN].numpy().tobytes()
    if b"Exif\0\0" not in head:
        return True
    try:
        with Image.open(io.BytesIO(data.numpy().tobytes())) as image:
            return bool(image.getexif().get(ORIENTATION, 1) in (0, 1))
    except (OSError, SyntaxError, ValueError):
        return False  # whoever decodes it will say what is wrong


def reason(error: BaseException) -> str:
    """The message of a decoder, without torchvision's source position and torch's stack."""
    text = str(error).split("\n")[0]
    return re.sub(r"^\S+, \S+\.cpp:\d+, ", "", text).strip().rstrip(".") or type(error).__name__
