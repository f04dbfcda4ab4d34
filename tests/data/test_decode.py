"""Each kind of file decodes as Pillow decodes it, or is refused (long: a family of files each)."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features
from torchvision.io import decode_image

import gpuaug as ga
from gpuaug.data.decode import decode, is_jpeg, is_upright, is_whole, read, rgb
from gpuaug.demo.photographs import paths
from tests.support.files import (
    by_pillow,
    claiming,
    deep,
    encode,
    exif_bytes,
    kinds,
    picture,
    segment,
    sixteen,
    tensor,
    turned_files,
    turned_jpegs,
    with_orientation,
)

ImageError = ga.data.ImageError


def hwc(data: bytes) -> np.ndarray[Any, Any]:
    image = decode(tensor(data))
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    return image.permute(1, 2, 0).numpy()


# Pillow and torchvision bring a libjpeg of their own each, whose upsampling may differ by a level or two.
def tolerance(name: str) -> int:
    return 3 if name.startswith(("jpeg", "mpo")) else 0


# ---- what is decoded -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # of the comparison
@pytest.mark.parametrize("name", kinds())
def test_a_file_of_each_kind(name: str) -> None:
    data = kinds()[name]
    expected = by_pillow(data).astype(int)
    assert expected.std() > 20
    assert np.abs(hwc(data) - expected).max() <= tolerance(name)


@pytest.mark.filterwarnings("ignore")  # torchvision's, of TorchCodec
@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_a_photograph_as_torchvision_decodes_it(path: Path) -> None:
    assert torch.equal(decode(read(path)), decode_image(str(path), mode="RGB"))


@pytest.mark.parametrize("name", ["gif animated", "png animated", "webp animated", "tiff pages", "mpo"])
def test_an_animation_is_its_first_frame(name: str) -> None:
    assert np.abs(hwc(kinds()[name]) - np.asarray(picture()).astype(int)).mean() < 6


@pytest.mark.parametrize("name", deep())
def test_grey_of_16_bits_becomes_its_upper_byte(name: str) -> None:
    image = hwc(deep()[name])
    assert np.array_equal(image, np.repeat((sixteen() >> 8)[..., None], 3, axis=2))
    assert len(np.unique(image)) > 100


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """PNGs that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)], ids=["rgb", "grey and alpha", "rgba"])
def test_png_of_16_bits_in_colour_becomes_its_upper_bytes(colour: int, channels: int) -> None:
    levels = np.random.default_rng(colour).integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    shown = levels[..., :3] if channels > 2 else levels[..., [0, 0, 0]]
    assert np.array_equal(hwc(png(7, 5, 16, colour, rows)), shown >> 8)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_bits(depth: int) -> None:
    rows = b"".join(b"\0" + bytes([0b00011011, 0b11100100]) for _ in range(3))
    levels = np.unpackbits(np.frombuffer(b"\x1b\xe4", np.uint8)).reshape(-1, depth) @ (1 << np.arange(depth)[::-1])
    expected = levels * 255 // (2**depth - 1)
    assert np.array_equal(hwc(png(16 // depth, 3, depth, 0, rows))[1, :, 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    data = with_orientation(kind, orientation, **options)
    image, expected = hwc(data), by_pillow(data).astype(int)
    assert image.shape == ((53, 37, 3) if orientation > 4 else (37, 53, 3))
    assert np.abs(image - expected).max() <= (3 if kind == "JPEG" else 0)
    if orientation > 1:  # the comparison can fail
        assert not np.array_equal(image, hwc(with_orientation(kind, 1, **options)))


def test_both_byte_orders_of_exif() -> None:
    exif = Image.Exif()
    exif.endian = ">"
    exif[274] = 6
    assert hwc(encode(picture(), "JPEG", exif=exif)).shape == (53, 37, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of values that are not valid
@pytest.mark.parametrize("family", [turned_jpegs, turned_files])
def test_orientation_wherever_it_stands(family: Any) -> None:
    """As PIL.ImageOps.exif_transpose, file by file; also what tells nvJPEG's files from the others."""
    turned, wrong = 0, []
    stored = np.asarray(picture()).astype(int)
    for name, data in family().items():
        expected = by_pillow(data).astype(int)
        image = hwc(data)
        same = image.shape == expected.shape and np.abs(image - expected).max() <= (3 if is_jpeg(tensor(data)) else 0)
        moved = expected.shape != stored.shape or np.abs(expected - stored).mean() > 20
        turned += moved
        if not same or (is_jpeg(tensor(data)) and is_upright(tensor(data)) == moved):
            wrong.append(name)
    assert not wrong
    assert turned > len(family()) / 2


DAMAGED_EXIF = [b"", b"II", b"junk and more junk", b"II*\0\xff\xff\xff\xff", exif_bytes(6)[:12], b"MM\0*" + bytes(20)]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of corrupt EXIF
@pytest.mark.parametrize("exif", DAMAGED_EXIF)
def test_damaged_exif_is_no_damaged_image(exif: bytes) -> None:
    """It may say nothing of the orientation; the pixels are there."""
    plain = kinds()["jpeg"]
    jpeg = plain[:2] + segment(0xE1, b"Exif\0\0" + exif) + plain[2:]
    assert np.array_equal(hwc(jpeg), hwc(plain))
    assert is_upright(tensor(jpeg))
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert np.array_equal(hwc(encode(picture(), kind, exif=b"Exif\0\0" + exif, **options)), np.asarray(picture()))


def test_alpha_is_dropped_not_blended() -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    assert np.array_equal(hwc(encode(image, "PNG")), np.asarray(picture()))


def test_a_large_image_is_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns of it, which is an error in these tests."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 37 * 53 - 1)
    with pytest.raises(Image.DecompressionBombWarning):
        by_pillow(kinds()["png"])
    for name in ("png", "jpeg", "webp", "gif", "tiff"):
        assert hwc(kinds()[name]).shape == (37, 53, 3)


# ---- what is refused -------------------------------------------------------------------------------------------------


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(tensor(data))
    text = str(caught.value)
    assert text
    assert "\n" not in text
    assert len(text) < 200
    return text


JUNK = {
    "one byte": b"x",
    "text": b"<html>404 not found</html>",
    "zeros": bytes(1000),
    "jpeg's first bytes": b"\xff\xd8\xff",
    "jpeg of markers": b"\xff\xd8" + b"\xff" * 1000,
    "png's first bytes": b"\x89PNG\r\n\x1a\n",
    "gif's first bytes": b"GIF89a",
    "tiff's first bytes": b"II*\0",
    "bmp's first bytes": b"BM",
    "ppm's header": b"P6 3 3 255\n",
    "ppm of no size": b"P6 0 0 255\n",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
}


@pytest.mark.parametrize("name", JUNK)
def test_junk(name: str) -> None:
    refusal(JUNK[name])


def test_no_program_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow gives PostScript to Ghostscript."""

    def started(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(subprocess, "Popen", started)
    assert "format" in refusal(JUNK["postscript"])


def test_floats() -> None:
    assert "floats" in refusal(encode(Image.new("F", (4, 4), 0.5), "TIFF"))


def test_integers_of_32_bits() -> None:
    """Their upper bytes are most often zero: a black image."""
    assert "32-bit" in refusal(encode(Image.new("I", (4, 4), 200), "TIFF"))


@pytest.mark.parametrize("kind", ["jpeg", "jpeg progressive"])
def test_a_jpeg_that_claims_a_large_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = claiming(65500, 65500, kind)
    hidden = data[:2] + b"\xff\xff\xd0junk\xff\0" + data[2:]  # libjpeg skips what it does not know
    for bomb in (data, hidden):
        assert "(65500, 65500)" in refusal(bomb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert hwc(claiming(37, 53, kind)).shape == (37, 53, 3)


def test_a_png_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 37 * 53 // 2 - 1)
    for name in ("png", "jpeg", "webp", "gif"):
        assert "limit" in refusal(kinds()[name])


@pytest.mark.parametrize("name", kinds())
def test_a_file_that_is_cut_short(name: str) -> None:
    """Refused, or every pixel is there: the end of a PNG, and the later frames of an animation, hold none."""
    data = kinds()[name]
    whole = decode(tensor(data))
    lengths = {*np.linspace(1, len(data) - 1, 60).astype(int).tolist(), *range(max(1, len(data) - 4), len(data))}
    refused = 0
    for length in lengths:
        try:
            assert torch.equal(decode(tensor(data[:length])), whole), f"{length} of {len(data)} bytes"
        except ImageError:
            refused += 1
    first = 0.2 if name in ("gif animated", "webp animated", "png animated", "mpo", "tiff pages") else 0.6
    assert refused > first * len(lengths)


def test_a_photograph_that_is_cut_short() -> None:
    data = read(paths()[0])
    for length in (*range(1, len(data), len(data) // 50), len(data) - 2, len(data) - 1):
        with pytest.raises(ImageError):
            decode(data[:length])


FLIPS = """
import random, resource, sys, warnings
warnings.simplefilter("error")
from tests.support.files import kinds, tensor
from gpuaug.data.decode import ImageError, decode, is_upright
from tests.support.files import claiming
files = kinds()
for file in files.values():
    decode(tensor(file))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for kind in ("jpeg", "jpeg progressive"):
    try:
        decode(tensor(claiming(65500, 65500, kind)))
        raise AssertionError
    except ImageError:
        pass
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
assert grown < 300, f"{grown} MiB"
outcomes = set()
for name, file in files.items():
    draw = random.Random(name)
    for _ in range(150):
        damaged = bytearray(file)
        for _ in range(draw.choice([1, 1, 2, 5, 20])):
            place = int(draw.random() ** draw.choice([1, 4]) * len(damaged))
            damaged[place] = draw.randrange(256)
        data = tensor(damaged)
        is_upright(data)
        try:
            image = decode(data)
            assert image.shape[0] == 3 and image.numel() > 0, name
            outcomes.add("decoded")
        except ImageError as error:
            assert str(error) and "\\n" not in str(error), name
            outcomes.add("refused")
assert outcomes == {"decoded", "refused"}
print("all went well")
"""


def test_damaged_files_do_not_end_the_process() -> None:
    """In a process of its own, whose end would be seen. torchvision's PNG decoder does not live through this."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    here = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", FLIPS],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
        cwd=here,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "all went well" in done.stdout


def test_arithmetic_coding_is_decoded_or_refused() -> None:
    data = bytearray(kinds()["jpeg"])
    data[data.find(b"\xff\xc0") + 1] = 0xC9  # the frame says arithmetic coding, the data is Huffman's
    with contextlib.suppress(ImageError):
        assert hwc(bytes(data)).shape == (37, 53, 3)


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="empty"):
        read(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match="not a regular file, but a directory"):
        read(tmp_path)
    with pytest.raises(ImageError, match="not a regular file"):
        read(os.devnull)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.jpg")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(ImageError, match="a pipe"):
            read(tmp_path / "pipe.jpg")


def test_a_lazy_image_whose_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(kinds()["png"][:200])
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(ImageError, match="truncated"):
        rgb(image)


# ---- what the device's decoder is told -------------------------------------------------------------------------------


def test_which_jpegs_are_upright() -> None:
    assert is_upright(tensor(kinds()["jpeg"]))
    assert is_upright(tensor(with_orientation("JPEG", 1)))
    assert not any(is_upright(tensor(with_orientation("JPEG", n))) for n in range(2, 9))


def test_orientation_behind_a_large_profile() -> None:
    """EXIF need not come first."""
    turned = with_orientation("JPEG", 6)
    segment = b"\xff\xe2" + struct.pack(">H", 65000) + bytes(64998)
    data = tensor(turned[:2] + 3 * segment + turned[2:])
    assert decode(data).shape == (3, 53, 37)
    assert not is_upright(data)


def test_which_jpegs_are_whole() -> None:
    data = kinds()["jpeg"]
    assert is_whole(tensor(data))
    assert not is_whole(tensor(data[:-1]))
    assert is_jpeg(tensor(data))
    assert not is_jpeg(tensor(kinds()["png"]))
    assert not is_jpeg(torch.empty(0, dtype=torch.uint8))
