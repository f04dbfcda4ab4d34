"""Rewrites the Huffman codes of a baseline JPEG with other restart markers; no coefficient changes.

ITU-T T.81, F.1.2 and F.2.2. After a restart the next DC coefficient of each component is a difference from 0, so
DC codes are written anew, with a table that has a code for every category. AC codes are copied without change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.kernels.numba.runtime.jit import inner, kernel

__all__ = ["DAMAGED", "FULL", "restarted"]

Array = NDArray[Any]

DAMAGED, FULL = -1, -2  # returned by `restarted` instead of a length
AT, BITS, COUNT = 0, 1, 2  # state of the reader: next byte, unused bits, number of unused bits
OUT, KEPT, HELD = 3, 4, 5  # state of the writer: next byte, bits to be written, number of these bits


@inner
def _fill(scan: Array, state: Array, count: int) -> None:
    """Read until there are `count` unused bits; zeros after the end, as in libjpeg."""
    while state[COUNT] < count:
        byte = np.int64(0)
        if state[AT] < scan.size:
            byte = np.int64(scan[state[AT]])
            if byte == 0xFF:
                if state[AT] + 1 < scan.size and scan[state[AT] + 1] == 0:
                    state[AT] += 2
                else:
                    byte = np.int64(0)  # a marker: no more data before it
            else:
                state[AT] += 1
        state[BITS] = (state[BITS] << 8 | byte) & 0xFFFFFFFF
        state[COUNT] += 8


@inner
def _take(scan: Array, state: Array, count: int) -> Any:
    if count == 0:
        return np.int64(0)
    _fill(scan, state, count)
    state[COUNT] -= count
    return (state[BITS] >> state[COUNT]) & ((np.int64(1) << count) - 1)


@inner
def _symbol(scan: Array, state: Array, lengths: Array, symbols: Array) -> Any:
    """The next symbol, with the length of its code from bit 8 on; -1 if the code does not exist."""
    _fill(scan, state, 16)
    ahead = (state[BITS] >> (state[COUNT] - 16)) & 0xFFFF
    length = np.int64(lengths[ahead])
    if length == 0:
        return np.int64(-1)
    state[COUNT] -= length
    return np.int64(symbols[ahead]) | length << 8


@inner
def _put(out: Array, state: Array, value: int, count: int) -> None:
    state[KEPT] = state[KEPT] << count | value
    state[HELD] += count
    while state[HELD] >= 8:
        state[HELD] -= 8
        byte = (state[KEPT] >> state[HELD]) & 0xFF
        out[state[OUT]] = byte
        state[OUT] += 1
        if byte == 0xFF:
            out[state[OUT]] = 0
            state[OUT] += 1
    state[KEPT] &= (np.int64(1) << state[HELD]) - 1


@inner
def _copy_block(scan: Array, state: Array, lengths: Array, symbols: Array, out: Array) -> bool:
    """Copy the AC codes of a block without change; False if they are damaged."""
    place = 1
    while place < 64:
        found = _symbol(scan, state, lengths, symbols)
        if found < 0:
            return False
        length, symbol = found >> 8, found & 0xFF
        # the bits of the code that was just read
        code = (state[BITS] >> state[COUNT]) & ((np.int64(1) << length) - 1)
        _put(out, state, code, length)
        zeros, bits = symbol >> 4, symbol & 15
        if bits == 0:
            if zeros != 15:
                return True
            place += 16
            continue
        _put(out, state, _take(scan, state, bits), bits)
        place += zeros + 1
    return place <= 80


@kernel
def restarted(
    scan: Array, units: int, old: int, new: int, blocks: Array, dc_lengths: Array, dc_symbols: Array,
    ac_lengths: Array, ac_symbols: Array, codes: Array, widths: Array, counts: Array, out: Array,
) -> int:  # fmt: skip
    """Write to `out` the data of a scan, with a restart every `new` units instead of every `old` (0: no restarts).

    blocks (n,): component of each block of a unit. lengths, symbols (component, 65536): code length and symbol for the
    next 16 bits. codes, widths (component, 12): codes of the DC categories to write. counts (component, 12): how often
    each category was written. Returns the number of bytes written, or DAMAGED, or FULL if `out` is too small.
    """
    state, before, after = np.zeros(6, np.int64), np.zeros(4, np.int64), np.zeros(4, np.int64)
    for unit in range(units):
        if old and unit and unit % old == 0:
            state[BITS] = state[COUNT] = 0
            before[:] = 0
            at = state[AT]
            if at + 1 >= scan.size or scan[at] != 0xFF or not 0xD0 <= scan[at + 1] <= 0xD7:
                return DAMAGED
            state[AT] += 2
        if unit and unit % new == 0:
            if state[HELD]:
                _put(out, state, (np.int64(1) << (8 - state[HELD])) - 1, 8 - state[HELD])
            out[state[OUT]] = 0xFF
            out[state[OUT] + 1] = 0xD0 + (unit // new - 1) % 8
            state[OUT] += 2
            after[:] = 0
        for block in range(blocks.size):
            if state[OUT] + 1024 > out.size:
                return FULL
            component = blocks[block]
            found = _symbol(scan, state, dc_lengths[component], dc_symbols[component])
            category = found & 0xFF
            if found < 0 or category > 11:
                return DAMAGED
            value = _take(scan, state, category)
            if category and value < np.int64(1) << (category - 1):
                value -= (np.int64(1) << category) - 1
            before[component] += value
            difference = before[component] - after[component]
            after[component] = before[component]
            size, category = abs(difference), np.int64(0)
            while size:
                size >>= 1
                category += 1
            if category > 11:
                return DAMAGED
            counts[component, category] += 1
            _put(out, state, codes[component, category], widths[component, category])
            if category:
                bits = difference if difference > 0 else difference + (np.int64(1) << category) - 1
                _put(out, state, bits, category)
            if not _copy_block(scan, state, ac_lengths[component], ac_symbols[component], out):
                return DAMAGED
    if state[HELD]:
        _put(out, state, (np.int64(1) << (8 - state[HELD])) - 1, 8 - state[HELD])
    return state[OUT]
