"""Image files of every kind, made here: nothing is downloaded."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, features
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


# ---- orientation, wherever and however it is written -----------------------------------------------------------------

XMP = b"http://ns.adobe.com/xap/1.0/\0"
TYPES = {
    "byte": (1, "B"),
    "ascii": (2, "s"),
    "short": (3, "H"),
    "long": (4, "I"),
    "signed": (8, "h"),
    "rational": (5, ""),
}


def exif_bytes(
    orientation: int | None, order: str = "<", kind: str = "short", count: int = 1, later: bool = False
) -> bytes:
    """A TIFF header and its first directory, with an orientation of that type, behind another tag if `later`."""
    number, letter = TYPES[kind]
    entries = [struct.pack(order + "HHI4s", 271, 2, 4, b"Cam\0")] if later else []
    start = 8 + 2 + 12 * (len(entries) + (orientation is not None)) + 4
    outside = b""
    if orientation is not None:
        if kind == "rational":
            value, outside = struct.pack(order + "I", start), struct.pack(order + "II", orientation * 10, 10)
        elif kind == "ascii":
            value = str(orientation).encode() + b"\0"
        else:
            value = struct.pack(f"{order}{count}{letter}", *[orientation] * count)
        entries.append(struct.pack(order + "HHI", 274, number, count) + value.ljust(4, b"\0")[:4])
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return header + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4) + outside


def xmp_bytes(orientation: int | None, element: bool = False) -> bytes:
    if orientation is None:
        inside, attribute = "", ""
    elif element:
        inside, attribute = f"<tiff:Orientation>{orientation}</tiff:Orientation>", ""
    else:
        inside, attribute = "", f' tiff:Orientation="{orientation}"'
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{attribute}>{inside}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


@cache
def turned_jpegs() -> dict[str, bytes]:
    """JPEGs whose orientation stands in every place, order and type that are met, and some that are not valid."""
    plain = encode(picture(), "JPEG", quality=95)

    def jpeg(*segments: bytes) -> bytes:
        return plain[:2] + b"".join(segments) + plain[2:]

    def exif(*arguments: Any, **options: Any) -> bytes:
        return segment(0xE1, b"Exif\0\0" + exif_bytes(*arguments, **options))

    def xmp(*arguments: Any) -> bytes:
        return segment(0xE1, XMP + xmp_bytes(*arguments))

    profile, comment = segment(0xE2, bytes(65000)), segment(0xFE, b"a comment")
    files = {}
    for number in range(10):
        files[f"exif {number}"] = jpeg(exif(number))
        files[f"xmp, then exif {number}"] = jpeg(xmp(None), exif(number))
        files[f"exif {number}, then xmp"] = jpeg(exif(number), xmp(None))
        files[f"xmp alone {number}"] = jpeg(xmp(number))
        files[f"xmp element {number}"] = jpeg(xmp(number, True))
        files[f"exif without, then xmp {number}"] = jpeg(exif(None), xmp(number))
        files[f"behind others {number}"] = jpeg(comment, profile, xmp(None), profile, b"\xff\xff" + exif(number))
        files[f"after the tables {number}"] = (
            plain[: plain.index(b"\xff\xc0")] + exif(number) + plain[plain.index(b"\xff\xc0") :]
        )
        for order in "<>":
            for kind in TYPES:
                files[f"{kind} {number} {order}"] = jpeg(exif(number, order, kind, later=True))
    whole = exif_bytes(6, later=True)
    files["two that disagree"] = jpeg(exif(6), exif(8))
    files["exif and xmp that disagree"] = jpeg(xmp(3), exif(6))
    files["in two segments"] = jpeg(segment(0xE1, b"Exif\0\0" + whole[:20]), segment(0xE1, b"Exif\0\0" + whole[20:]))
    files["two values"] = jpeg(exif(6, count=2))
    files["no values"] = jpeg(exif(6, count=0))
    files["lower case"] = jpeg(segment(0xE1, b"exif\0\0" + whole))
    files["one zero"] = jpeg(segment(0xE1, b"Exif\0" + whole))
    files["an APP1 of somebody else"] = jpeg(segment(0xE1, b"something else\0"), exif(6))
    files["an empty APP1"] = jpeg(segment(0xE1, b""), exif(6))
    return files


@cache
def turned_files() -> dict[str, bytes]:
    """The same in other formats."""
    files = {}
    for number in range(1, 9):
        for name in ("PNG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else [])):
            options: dict[str, Any] = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(name, {})
            files[f"{name} exif {number}"] = with_orientation(name, number, **options)
            if name in ("PNG", "AVIF", "WEBP"):
                files[f"{name} big-endian {number}"] = encode(
                    picture(), name, exif=b"Exif\0\0" + exif_bytes(number, ">"), **options
                )
            if name in ("WEBP", "AVIF"):
                files[f"{name} xmp {number}"] = encode(picture(), name, xmp=xmp_bytes(number), **options)
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp_bytes(number).decode())
        files[f"PNG xmp {number}"] = encode(picture(), "PNG", pnginfo=text)
        old = PngImagePlugin.PngInfo()
        data = b"Exif\0\0" + exif_bytes(number)
        old.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
        files[f"PNG old exif {number}"] = encode(picture(), "PNG", pnginfo=old)
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[700] = xmp_bytes(number)
        files[f"TIFF xmp {number}"] = encode(picture(), "TIFF", tiffinfo=tags)
        chunk = exif_bytes(number)
        end = encode(picture(), "PNG")
        body = b"eXIf" + chunk
        late = struct.pack(">I", len(chunk)) + body + struct.pack(">I", zlib.crc32(body))
        files[f"PNG exif at the end {number}"] = end[:-12] + late + end[-12:]
    return files


def claiming(height: int, width: int, kind: str) -> bytes:
    """A JPEG of few bytes with a large size in its header."""
    data = bytearray(kinds()[kind])
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)
