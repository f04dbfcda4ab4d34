"""Decode a part of a JPEG: the same pixels as that part of the whole image, in less time.

A JPEG with tiles, as packs have them, is cut (see `gpuaug.data.tiles`). Of any other the Huffman codes have to be read
from the start to the last row of the part, so it costs more than its share. NVIDIA's nvImageCodec (`pip install
"gpuaug[regions]"`) decodes parts of these with libjpeg-turbo on the CPU, without GPU or driver.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gpuaug.data.decode import (
    APP1,
    DECODE_JPEG,
    RGB,
    TURNS,
    ImageError,
    checked_header,
    is_jpeg,
    is_whole,
    jpeg_header,
)  # fmt: skip
from gpuaug.data.tiles import Box, Tiles, decode_box, frame_of, tiles_in

__all__ = ["Part", "Readable", "decode_part", "decoder", "is_installed", "readable"]

# libjpeg-turbo makes the columns at the edge of a part from fewer neighbours, where chroma has half the columns
MARGIN = 2
MIRRORED_ROWS, MIRRORED_COLUMNS, TRANSPOSED = {3, 4, 6, 7}, {2, 3, 7, 8}, {5, 6, 7, 8}  # orientations
MISSING = (
    "gpuaug: regions=... needs nvImageCodec ({why}), so images are decoded whole. Install it by "
    'pip install "gpuaug[regions]".'
)
DIFFERENT = (
    "gpuaug: nvImageCodec {version} decodes other pixels than torchvision here, so images are decoded whole, without "
    "regions. Install another version of nvidia-nvimgcodec-cu13."
)


class Part(NamedTuple):
    """A part of an image, as a data set with `regions` returns it in a pass of a DeviceLoader.

    Attributes:
        pixels: uint8 (C, h, w).
        origin: (top, left) of the part in the image, in pixels.
        whole: (height, width) of the image, in pixels.
        cut: The draw that it was cut for, a `gpuaug.engine.parts.Cut`.
    """

    pixels: Tensor
    origin: tuple[int, int]
    whole: tuple[int, int]
    cut: Any


class Readable(NamedTuple):
    """A JPEG of which a part can be decoded. size: (height, width) when it is upright; stored: as it is in the file."""

    size: tuple[int, int]
    stored: tuple[int, int]
    orientation: int
    tiles: Tiles | None = None


def readable(data: Tensor) -> Readable | None:
    """What is known of an image from its header; None if a part of it cannot be decoded here, or should not.

    A truncated file is decoded whole, and so raises its error.
    """
    if not is_jpeg(data) or not is_whole(data):
        return None
    frame = frame_of(data)
    if frame is None:  # progressive, for example
        header, tiles = jpeg_header(data), None
    else:
        exif = any(marker == APP1 for marker, _ in frame.segments)
        header, tiles = checked_header(data, frame.size, exif), tiles_in(data, frame)
    if header is None or (tiles is None and decoder() is None):
        return None
    (height, width), orientation = header
    upright = (width, height) if orientation in TRANSPOSED else (height, width)
    return Readable(upright, (height, width), orientation, tiles)


def stored_box(box: Box, image: Readable) -> Box:
    """Where the part `box` of the upright image lies in the image as it is stored."""
    top, left, height, width = box
    if image.orientation in TRANSPOSED:
        top, left, height, width = left, top, width, height
    if image.orientation in MIRRORED_ROWS:
        top = image.stored[0] - top - height
    if image.orientation in MIRRORED_COLUMNS:
        left = image.stored[1] - left - width
    return top, left, height, width


def decode_part(data: Tensor, image: Readable, box: Box) -> Tensor:
    """The part `box` of an upright image, uint8 (3, h, w).

    Raises:
        ImageError: If the file is damaged in what has to be read of it.
    """
    stored = stored_box(box, image)
    if image.tiles is not None:
        pixels = decode_box(data, image.tiles, stored)
    else:
        by = decoder()
        assert by is not None
        pixels = _with_margin(data, image, stored, by)
    turn = TURNS.get(image.orientation)
    planar = pixels.permute(2, 0, 1)
    return planar if turn is None else turn[1](planar)


def _with_margin(data: Tensor, image: Readable, box: Box, by: Callable[[Tensor, Box], Tensor]) -> Tensor:
    top, left, height, width = box
    first, end = max(left - MARGIN, 0), min(left + width + MARGIN, image.stored[1])
    return by(data, (top, first, height, end - first))[:, left - first : left - first + width]


@cache
def decoder() -> Callable[[Tensor, Box], Tensor] | None:
    """Decodes a box of a stored image to (h, w, 3) uint8; None, with a warning once, where no decoder is right.

    It is compared with torchvision's decoder before it is used.
    """
    try:
        decode = _by_nvimgcodec()
    except Exception as error:  # it is not there, or does not start
        warnings.warn(MISSING.format(why=" ".join(f"{error}".split()) or type(error).__name__), stacklevel=2)
        return None
    if not _is_right(decode):
        from nvidia import nvimgcodec

        warnings.warn(DIFFERENT.format(version=nvimgcodec.__version__), stacklevel=2)
        return None
    return decode


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=decoder.cache_clear)  # its threads stay with the parent


def _by_nvimgcodec() -> Callable[[Tensor, Box], Tensor]:
    codec, memory = _imported(), threading.local()  # two threads in one of its decoders end the process
    params = codec.DecodeParams(apply_exif_orientation=False, color_spec=codec.ColorSpec.SRGB)

    def made() -> Any:
        device: dict[str, Any] = {"device_id": codec.NVIMGCODEC_DEVICE_CPU_ONLY, "max_num_cpu_threads": 1}
        backends = [codec.Backend(codec.BackendKind.CPU_ONLY)]
        memory.decoder = codec.Decoder(**device, backends=backends, options="libjpeg_turbo_decoder:fancy_upsampling=1")
        return memory.decoder

    def decode(data: Tensor, box: Box) -> Tensor:
        top, left, height, width = box
        try:
            stream = codec.CodeStream(data.numpy())
            region = codec.Region(top, left, top + height, left + width)
            by = getattr(memory, "decoder", None) or made()
            image = by.decode(stream.get_sub_code_stream(region=region), params=params)
        except RuntimeError as error:
            raise ImageError(" ".join(str(error).split())) from None
        if image is None:
            raise ImageError("damaged")
        return torch.from_numpy(np.asarray(image))

    return decode


def is_installed() -> bool:
    """Whether nvImageCodec is there."""
    return find_spec("nvidia") is not None and find_spec("nvidia.nvimgcodec") is not None


def _imported() -> Any:
    """nvImageCodec without its decoders for a GPU: each worker would look for CUDA, and print where it is absent."""
    if "nvidia.nvimgcodec" in sys.modules:
        from nvidia import nvimgcodec

        return nvimgcodec
    spec = find_spec("nvidia.nvimgcodec") if is_installed() else None
    if spec is None or spec.origin is None:
        raise ImportError("nvidia.nvimgcodec is not installed")
    found = sorted((Path(spec.origin).parent / "extensions").glob("libjpeg_turbo_ext*"))
    names = {"NVIMGCODEC_EXTENSIONS_PATH", "PYNVIMGCODEC_VERBOSITY"}
    before = {name: os.environ[name] for name in names if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        for file in found:
            (Path(folder) / file.name).symlink_to(file)
        try:
            os.environ |= {"NVIMGCODEC_EXTENSIONS_PATH": folder, "PYNVIMGCODEC_VERBOSITY": "0"}
            from nvidia import nvimgcodec

            nvimgcodec.Decoder(device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY)  # loads them
        finally:
            for name in names:
                os.environ.pop(name, None)
            os.environ |= before
    return nvimgcodec


def _is_right(decode: Callable[[Tensor, Box], Tensor]) -> bool:
    """Whether boxes of JPEGs with all and with half the chroma columns equal those of torchvision's whole image."""
    generator = np.random.default_rng(0)
    levels = generator.integers(0, 256, (11, 13, 3), np.uint8).repeat(7, axis=0).repeat(5, axis=1)
    for subsampling in (0, 1, 2):
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "JPEG", quality=90, subsampling=subsampling)
        data = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
        whole = DECODE_JPEG(data, RGB, False)
        image = Readable((77, 65), (77, 65), 1)
        for box in ((0, 0, 77, 65), (0, 0, 1, 1), (76, 64, 1, 1), (31, 17, 20, 30), (40, 0, 37, 33), (3, 21, 50, 44)):
            top, left, height, width = box
            try:
                part = _with_margin(data, image, box, decode)
            except ImageError:
                return False
            if not torch.equal(part.permute(2, 0, 1), whole[:, top : top + height, left : left + width]):
                return False
    return True
