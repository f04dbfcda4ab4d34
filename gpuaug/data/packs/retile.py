"""Restart intervals that tile a JPEG, so that a part of it can be cut out; the pixels stay the same bit for bit.

Each coefficient keeps its value. Only the codes of DC coefficients are written anew, and markers are put between the
tiles, which adds about 1 % of bytes (docs/decisions.md).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug.data.tiles import END, HUFFMAN, INTERVAL, SCAN, Frame, frame_of, tiles_of

__all__ = ["can_tile", "retiled"]

Array = NDArray[Any]

WIDTH = 64  # of a tile, in pixels, about
CATEGORIES = 12  # of DC differences


def can_tile() -> bool:
    """Whether Numba is there."""
    return find_spec("numba") is not None


def retiled(data: Tensor) -> Tensor:
    """The same JPEG with tiles; as it is if it cannot have any: it is not baseline, tiled already, or damaged.

    Args:
        data: Bytes of a JPEG, (n,) uint8 on the CPU.

    Raises:
        ModuleNotFoundError: If Numba is not installed.
    """
    frame = frame_of(data)
    if frame is None or tiles_of(data) is not None or frame.size[0] * frame.size[1] == 0:
        return data
    interval = _interval(frame)
    if interval == frame.units[0] * frame.units[1]:
        return data  # one tile
    tables = _tables(frame)
    return data if tables is None else _written(data, frame, interval, *tables)


def _interval(frame: Frame) -> int:
    """Units of a tile: they divide the row evenly, and are about WIDTH pixels together."""
    columns = frame.units[1]
    fitting = [count for count in range(1, columns + 1) if columns % count == 0]
    return min(fitting, key=lambda count: abs(np.log(count * frame.unit[1] / WIDTH)))


def _tables(frame: Frame) -> tuple[list[tuple[Array, Array]], list[tuple[Array, Array]]] | None:
    """(code lengths, symbols) by the next 16 bits, for DC and AC of each component; None if one is missing."""
    found: dict[int, tuple[Array, Array]] = {}
    for marker, content in frame.segments:
        while marker == HUFFMAN and len(content) >= 17:
            counts, total = content[1:17], sum(content[1:17])
            found[content[0]] = _by_prefix(counts, content[17 : 17 + total])
            content = content[17 + total :]
    picks = _picks(frame)
    if any(pick >> 4 not in found or (16 | (pick & 15)) not in found for pick in picks):
        return None
    return [found[pick >> 4] for pick in picks], [found[16 | (pick & 15)] for pick in picks]


def _picks(frame: Frame) -> list[int]:
    """The numbers of each component's tables: DC in the upper four bits, AC in the lower ones."""
    return list(frame.segments[-1][1][2 : 2 + 2 * len(frame.sampling) : 2])


def _codes(counts: Sequence[int], symbols: Sequence[int]) -> dict[int, tuple[int, int]]:
    """{symbol: (code, length)} (T.81, C.2)."""
    code, found, order = 0, {}, iter(symbols)
    for length, count in enumerate(counts, start=1):
        for symbol in (next(order, 0) for _ in range(count)):
            found[symbol] = code, length
            code += 1
        code <<= 1
    return found


def _by_prefix(counts: Sequence[int], symbols: Sequence[int]) -> tuple[Array, Array]:
    lengths, values = np.zeros(65536, np.uint8), np.zeros(65536, np.uint8)
    for symbol, (code, length) in _codes(counts, symbols).items():
        first = code << (16 - length)
        lengths[first : first + (1 << (16 - length))], values[first : first + (1 << (16 - length))] = length, symbol
    return lengths, values


def _written(
    data: Tensor, frame: Frame, interval: int, dc: list[tuple[Array, Array]], ac: list[tuple[Array, Array]]
) -> Tensor:
    """The file with new restarts: written once to count the DC categories, and again with the best codes for them."""
    try:
        from gpuaug.kernels.numba.huffman import FULL, restarted
    except ImportError:
        raise ModuleNotFoundError('gpuaug: JPEGs with tiles need Numba. Run pip install "gpuaug[cpu]".') from None
    units, components = frame.units[0] * frame.units[1], len(frame.sampling)
    order = np.array([n for n, (h, v) in enumerate(frame.sampling) for _ in range(h * v)], np.int64)
    stacked = [np.stack([table[part] for table in tables]) for tables in (dc, ac) for part in (0, 1)]
    scan = data.numpy()[frame.start :]
    out = np.empty(2 * len(scan) + 8 * units // interval + 4096, np.uint8)
    numbers = [pick >> 4 for pick in _picks(frame)]
    codes, widths = np.zeros((components, CATEGORIES), np.int64), np.ones((components, CATEGORIES), np.int64)
    counts = np.zeros((components, CATEGORIES), np.int64)
    length = restarted(scan, units, frame.interval, interval, order, *stacked, codes, widths, counts, out)
    if length < 0:
        return data
    lengths = {number: _lengths(counts[[n == number for n in numbers]].sum(axis=0)) for number in set(numbers)}
    for n, number in enumerate(numbers):
        for symbol, (code, width) in _codes(*lengths[number]).items():
            codes[n, symbol], widths[n, symbol] = code, width
    length = restarted(scan, units, frame.interval, interval, order, *stacked, codes, widths, counts, out)
    assert length != FULL
    return torch.from_numpy(np.concatenate([_header(frame, interval, lengths), out[:length], _bytes(END)]))


def _lengths(counts: Array) -> tuple[list[int], list[int]]:
    """How many codes of each length 1 to 16, and the categories in the order of their codes (T.81, K.2)."""
    unused = CATEGORIES  # takes the code of all ones, which must not be used
    heap = [(int(count), [symbol]) for symbol, count in enumerate(counts) if count] + [(0, [unused])]
    depth = dict.fromkeys(range(CATEGORIES + 1), 0)
    heapq.heapify(heap)
    while len(heap) > 1:
        (first, left), (second, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in left + right:
            depth[symbol] += 1
        heapq.heappush(heap, (first + second, left + right))
    # the unused one was merged first, so none is longer, and in the order of codes it comes last
    symbols = sorted((symbol for symbol in range(CATEGORIES) if depth[symbol]), key=lambda symbol: depth[symbol])
    return [sum(depth[symbol] == length for symbol in symbols) for length in range(1, 17)], symbols


def _header(frame: Frame, interval: int, lengths: Mapping[int, tuple[list[int], list[int]]]) -> Array:
    """The segments, with the new interval, and the new DC tables in place of the old ones."""
    parts = [b"\xff\xd8"]
    for marker, content in frame.segments[:-1]:
        if marker == INTERVAL:
            continue
        if marker == HUFFMAN:
            content = _without_dc(content)
            if not content:
                continue
        parts.append(_segment(marker, content))
    parts += [_segment(HUFFMAN, bytes([number, *counts, *symbols])) for number, (counts, symbols) in lengths.items()]
    parts += [_segment(INTERVAL, interval.to_bytes(2, "big")), _segment(SCAN, frame.segments[-1][1])]
    return _bytes(b"".join(parts))


def _without_dc(content: bytes) -> bytes:
    kept = b""
    while len(content) >= 17:
        end = 17 + sum(content[1:17])
        kept += content[:end] if content[0] >= 16 else b""
        content = content[end:]
    return kept


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def _bytes(data: bytes) -> Array:
    return np.frombuffer(data, np.uint8)
