"""JPEGs whose restart intervals tile the image: a part is cut out as a smaller JPEG, and nothing else is decoded.

Between two restart markers the pixels of an interval can be read by themselves (ITU-T T.81, F.1.1.5). If the intervals
lie in rows and columns, those that a part touches make a JPEG of their own: new restart numbers and a new size in the
header. `gpuaug.data.packs.retile` writes such files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.data.decode import DECODE_JPEG, RGB, ImageError, reason

__all__ = ["Box", "Frame", "Tiles", "decode_box", "frame_of", "tiles_in", "tiles_of"]

APP0, ADOBE, FRAME, EXTENDED, SCAN, INTERVAL, HUFFMAN = 0xE0, 0xEE, 0xC0, 0xC1, 0xDA, 0xDD, 0xC4
RESTART = 0xD0  # the first of eight
END = b"\xff\xd9"
BLOCK = 8  # pixels of a block's side

Box = tuple[int, int, int, int]  # (top, left, height, width) in pixels


class Frame(NamedTuple):
    """What the header of a JPEG says, for one baseline scan of all components.

    Attributes:
        size: (height, width) in pixels.
        unit: (height, width) of the smallest coded unit in pixels.
        units: (rows, columns) of units.
        sampling: (horizontal, vertical) factors of each component.
        interval: Units between restarts; 0: none.
        segments: (marker, content) of the segments before the scan's data, the scan's header last.
        start: Where the scan's data begins.
    """

    size: tuple[int, int]
    unit: tuple[int, int]
    units: tuple[int, int]
    sampling: list[tuple[int, int]]
    interval: int
    segments: list[tuple[int, bytes]]
    start: int


class Tiles(NamedTuple):
    """Where the intervals of a tiled JPEG lie.

    Attributes:
        frame: Its header.
        columns: Intervals of a row.
        begins, ends: First byte of each interval, and the byte after its last, where a marker stands. (n,) int64.
    """

    frame: Frame
    columns: int
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]


def frame_of(data: Tensor) -> Frame | None:
    """The header of a JPEG; None if it is not baseline in one scan, or damaged."""
    memory = memoryview(data.numpy())  # type: ignore[arg-type]
    segments: list[tuple[int, bytes]] = []
    at, interval, frame = 2, 0, b""
    while at + 4 <= len(memory):
        if memory[at] != 0xFF:
            return None
        marker, length = memory[at + 1], int.from_bytes(memory[at + 2 : at + 4], "big")
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD9 or length < 2 or at + 2 + length > len(memory):
            return None
        content = bytes(memory[at + 4 : at + 2 + length])
        segments.append((marker, content))
        at += 2 + length
        if marker in (FRAME, EXTENDED):
            frame = content
        elif 0xC2 <= marker <= 0xCF and marker not in (HUFFMAN, 0xC8, 0xCC):
            return None  # progressive, lossless or arithmetic
        elif marker == INTERVAL:
            interval = int.from_bytes(content[:2], "big")
        elif marker == SCAN:
            return _frame(frame, interval, segments, at)
    return None


def _frame(frame: bytes, interval: int, segments: list[tuple[int, bytes]], start: int) -> Frame | None:
    if len(frame) < 9 or frame[0] != 8 or len(frame) < 6 + 3 * frame[5]:
        return None
    height, width, count = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
    scan = segments[-1][1]
    if not height or not width or count not in (1, 3, 4) or not scan or scan[0] != count:
        return None
    sampling = [(frame[7 + 3 * n] >> 4, frame[7 + 3 * n] & 15) for n in range(count)]
    if not all(1 <= factor <= 4 for pair in sampling for factor in pair):
        return None
    if count == 1:
        sampling = [(1, 1)]  # a scan of one component is coded block by block
    wide, tall = BLOCK * max(h for h, _ in sampling), BLOCK * max(v for _, v in sampling)
    units = -(-height // tall), -(-width // wide)
    return Frame((height, width), (tall, wide), units, sampling, interval, segments, start)


def tiles_of(data: Tensor) -> Tiles | None:
    """Where the intervals of a JPEG are; None if they do not tile it in more than one column or row."""
    frame = frame_of(data)
    return None if frame is None else tiles_in(data, frame)


def tiles_in(data: Tensor, frame: Frame) -> Tiles | None:
    """As `tiles_of`, of a JPEG whose header is known."""
    if not frame.interval or frame.units[1] % frame.interval:
        return None
    scan = data.numpy()[frame.start :]
    found = np.flatnonzero(scan[:-1] == 0xFF)
    follows = scan[found + 1]
    ends = found[(follows >= 0xD0) & (follows <= 0xD9)] + frame.start
    columns = frame.units[1] // frame.interval
    if len(ends) != columns * frame.units[0] or columns * frame.units[0] < 2:
        return None
    return Tiles(frame, columns, np.concatenate([[frame.start], ends[:-1] + 2]), ends)


def cut_box(data: Tensor, tiles: Tiles, box: Box) -> tuple[Tensor, int, int]:
    """A smaller JPEG that holds a box of the image, and where the box begins in it: row and column."""
    frame, (top, left, height, width) = tiles.frame, box
    tall, wide = frame.unit[0], frame.unit[1] * frame.interval
    # colour of fewer columns or rows is interpolated: the neighbours of the box's edges are needed
    beyond = [int(len(frame.sampling) > 1 and any(factor[axis] < most // BLOCK for factor in frame.sampling))
              for axis, most in ((1, frame.unit[0]), (0, frame.unit[1]))]  # fmt: skip
    first_row, end_row = max(top - beyond[0], 0) // tall, min(-(-(top + height + beyond[0]) // tall), frame.units[0])
    first, end = max(left - beyond[1], 0) // wide, min(-(-(left + width + beyond[1]) // wide), tiles.columns)
    size = min(end_row * tall, frame.size[0]) - first_row * tall, min(end * wide, frame.size[1]) - first * wide
    parts = [b"\xff\xd8"]
    for marker, content in frame.segments:
        if marker in (FRAME, EXTENDED):
            content = content[:1] + size[0].to_bytes(2, "big") + size[1].to_bytes(2, "big") + content[5:]
        elif 0xE0 <= marker <= 0xEF and marker not in (APP0, ADOBE):
            continue  # not about pixels
        parts.append(bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content)
    # the tiles of a row lie side by side, with a marker after each: copied at once, then the markers numbered anew
    ends = tiles.ends.reshape(-1, tiles.columns)[first_row:end_row, first:end]
    starts = tiles.begins.reshape(-1, tiles.columns)[first_row:end_row, first]
    stops = ends[:, -1] + len(END)
    moved = sum(map(len, parts)) + np.cumsum(stops - starts) - stops  # how much further each row then lies
    memory = memoryview(data.numpy())  # type: ignore[arg-type]
    rows = [memory[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    cut = np.frombuffer(bytearray().join([*parts, *rows]), np.uint8)
    markers = (ends + moved[:, None] + 1).ravel()
    cut[markers] = RESTART + np.arange(len(markers)) % 8
    cut[-1] = END[1]
    return torch.from_numpy(cut), top - first_row * tall, left - first * wide


def decode_box(data: Tensor, tiles: Tiles, box: Box) -> Tensor:
    """A box of the image as it is stored, (h, w, 3) uint8: the pixels that decoding the whole gives.

    Raises:
        ImageError: If an interval is damaged.
    """
    cut, row, column = cut_box(data, tiles, box)
    try:
        image: Tensor = DECODE_JPEG(cut, RGB, False)
    except RuntimeError as error:
        raise ImageError(reason(error)) from None
    return image[:, row : row + box[2], column : column + box[3]].permute(1, 2, 0)
