"""Image files of every kind, made here: nothing is downloaded."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, features
from torch import Tensor

Array = NDArray[Any]


@cache
def picture(height: int = 37, width: int = 53) -> Image.Image:
    """RGB, no two quarters alike, with detail that is lost if rows are mixed up."""
    y, x = np.mgrid[0:height, 0:width]
    levels = np.stack([x * 4 + y, y * 5, (x * y) // 3], axis=-1) % 256
    return Image.fromarray(levels.astype(np.uint8))


def sixteen() -> Array:
    """(37, 53) uint16, upper and lower bytes that differ."""
    y, x = np.mgrid[0:37, 0:53]
    return (x * 1000 + y * 257 + 7).astype(np.uint16)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # a copy: saving leaves settings behind in the image
    return file.getvalue()


def frames() -> dict[str, Any]:
    """For an animation of three frames."""
    return {"save_all": True, "append_images": [ImageOps.invert(picture()), ImageOps.flip(picture())]}


def tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(data), np.uint8))


def by_pillow(data: bytes) -> Array:
    """(H, W, 3) uint8, upright."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def with_orientation(kind: str, orientation: int, image: Image.Image | None = None, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encode(image or picture(), kind, exif=exif, **options)


@cache
def kinds() -> dict[str, bytes]:
    """One file of every kind that is decoded."""
    image, grey = picture(), picture().convert("L")
    palette, see_through = image.quantize(16), image.convert("RGBA")
    see_through.putalpha(grey)
    files = {
        "jpeg": encode(image, "JPEG", quality=90),
        "jpeg progressive": encode(image, "JPEG", progressive=True),
        "jpeg grey": encode(grey, "JPEG"),
        "jpeg cmyk": encode(image.convert("CMYK"), "JPEG"),
        "jpeg 4:4:4": encode(image, "JPEG", subsampling=0),
        "jpeg restarts": encode(image, "JPEG", restart_marker_rows=1),
        "jpeg and junk": encode(image, "JPEG") + b"junk" * 99,
        "mpo": encode(image, "MPO", **frames()),
        "png": encode(image, "PNG"),
        "png grey": encode(grey, "PNG"),
        "png 1 bit": encode(image.convert("1"), "PNG"),
        "png palette": encode(palette, "PNG"),
        "png palette, one see-through": encode(palette, "PNG", transparency=3),
        "png palette, alpha": encode(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "png grey, one see-through": encode(grey, "PNG", transparency=3),
        "png rgb, one see-through": encode(image, "PNG", transparency=(1, 2, 3)),
        "png grey and alpha": encode(see_through.convert("LA"), "PNG"),
        "png rgba": encode(see_through, "PNG"),
        "png animated": encode(image, "PNG", **frames()),
        "webp": encode(image, "WEBP"),
        "webp lossless": encode(image, "WEBP", lossless=True),
        "webp rgba": encode(see_through, "WEBP"),
        "webp animated": encode(image, "WEBP", **frames()),
        "gif": encode(image, "GIF"),
        "gif animated": encode(image, "GIF", **frames()),
        "gif see-through": encode(see_through, "GIF"),
        "bmp": encode(image, "BMP"),
        "bmp palette": encode(palette, "BMP"),
        "bmp grey": encode(grey, "BMP"),
        "tiff": encode(image, "TIFF"),
        "tiff lzw": encode(image, "TIFF", compression="tiff_lzw"),
        "tiff deflate": encode(image, "TIFF", compression="tiff_adobe_deflate"),
        "tiff fax": encode(image.convert("1"), "TIFF", compression="group4"),
        "tiff jpeg": encode(image, "TIFF", compression="jpeg"),
        "tiff cmyk": encode(image.convert("CMYK"), "TIFF"),
        "tiff pages": encode(image, "TIFF", **frames()),
        "ppm": encode(image, "PPM"),
        "pgm": encode(grey, "PPM"),
        "pbm": encode(image.convert("1"), "PPM"),
    }
    if features.check("avif"):
        files["avif"] = encode(image, "AVIF")
        files["avif rgba"] = encode(see_through, "AVIF")
    return files


# Of one channel and 16 bits, which Pillow would clip at 255.
def deep() -> dict[str, bytes]:
    image = Image.fromarray(sixteen())
    return {
        "png": encode(image, "PNG"),
        "tiff": encode(image, "TIFF"),
        "tiff big-endian": encode(Image.fromarray(sixteen().astype(">u2")), "TIFF"),
        "pgm": encode(image, "PPM"),
    }


def folder(root: Path, classes: int = 3, each: int = 4) -> Path:
    """A data set of files of several kinds."""
    suffixes = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "PPM": ".ppm"}
    for number in range(classes * each):
        kind = list(suffixes)[number % len(suffixes)]
        place = root / f"class {number // each}"
        place.mkdir(parents=True, exist_ok=True)
        levels = np.asarray(picture(20 + number, 31 + 2 * number)) // 2 + 10 * number
        (place / f"{number:02}{suffixes[kind]}").write_bytes(encode(Image.fromarray(levels.astype(np.uint8)), kind))
    return root
