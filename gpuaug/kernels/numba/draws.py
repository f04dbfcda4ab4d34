"""Draws of common steps, written directly into a parameter block for a device, with the bits of `sample` and `lower`.

There is one function for each kind of step. `rows` (B, n) int32 is the block's rows, `at` the first word that the
function writes in a row, `op` the number of the step; `index` and `look`, both (B,) uint64, identify the samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug.instructions import KEY_WORDS, KeyWord, MixWord
from gpuaug.kernels.numba.common import HEIGHT, LEFT, TOP, WIDTH
from gpuaug.kernels.numba.philox import BYTE, HALF, LOW, M0, M1, W0, W1
from gpuaug.kernels.numba.runtime.jit import inner, kernel
from gpuaug.philox import ROUNDS

__all__ = ["begin", "boxes", "flips", "listed", "mixes", "ratios", "single"]

Array = NDArray[Any]

KEY_LOW, KEY_HIGH, LOOK = int(KeyWord.KEY_LOW), int(KeyWord.KEY_HIGH), int(KeyWord.LOOK)
INDEX_LOW, INDEX_HIGH = int(KeyWord.INDEX_LOW), int(KeyWord.INDEX_HIGH)
PARTNER, WEIGHT, REST, SHARE = (int(word) for word in (MixWord.PARTNER, MixWord.WEIGHT, MixWord.REST, MixWord.SHARE))


@inner
def _four(low: Any, high: Any, index: Any, look: Any, op: Any, block: Any) -> Any:
    """Four uniform draws in [0, 1) of one sample, as `philox.uniforms`."""
    c0, c1, c2, c3 = np.uint64(block), np.uint64(op) | (index >> HALF << np.uint64(16)), index & LOW, np.uint64(look)
    k0, k1 = low, high
    for _ in range(ROUNDS):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return _unit(c0), _unit(c1), _unit(c2), _unit(c3)


@inner
def _unit(word: Any) -> Any:
    return np.float64(np.int64(word >> BYTE)) * 2.0**-24


@kernel
def begin(
    words: Array, rows: Array, head: Array, first: Array, last: Array, low: Any, high: Any, index: Array, look: Array
) -> None:
    """Write the words that are the same for every draw, and the keys of per-pixel draws at the start of each row.

    words: The whole block, which begins with `head`. first: A row's words after its keys. last: A row's last words.
    """
    words[: head.size] = head
    end = rows.shape[1] - last.size
    for b in range(index.size):
        for word in range(first.size):
            rows[b, KEY_WORDS + word] = first[word]
        for word in range(last.size):
            rows[b, end + word] = last[word]
        rows[b, KEY_LOW], rows[b, KEY_HIGH] = np.int32(np.uint32(low)), np.int32(np.uint32(high))
        rows[b, LOOK] = np.int32(np.uint32(look[b]))
        rows[b, INDEX_LOW] = np.int32(np.uint32(index[b] & LOW))
        rows[b, INDEX_HIGH] = np.int32(np.uint32(index[b] >> HALF))


@kernel
def ratios(low: Any, high: Any, index: Array, look: Array, op: int, first: float, span: float, out: Array) -> None:
    """Draw the logarithm of width / height for each try of a box, into `out` (B, tries) float64."""
    tries = out.shape[1]
    for b in range(index.size):
        for block in range((1 + tries) // 4, (1 + 2 * tries + 3) // 4):
            four = _four(low, high, index[b], look[b], op, block)
            for word in range(4):
                number = 4 * block + word - 1 - tries
                if 0 <= number < tries:
                    out[b, number] = first + four[word] * span


@kernel
def boxes(
    rows: Array, at: int, low: Any, high: Any, index: Array, look: Array, op: int, ratio: Array,
    height: int, width: int, least: float, span: float, lowest: float, highest: float,
) -> None:  # fmt: skip
    """Draw the boxes of RandomResizedCrop, (top, left, height, width). `ratio` (B, tries): width / height of each try.

    least, span: Lower limit and width of the range of areas. lowest, highest: Limits of the ratio.
    """
    tries = ratio.shape[1]
    area = height * width
    for b in range(index.size):
        h, w, found, block = 0.0, 0.0, False, -1
        first_h, first_w = 0.0, 0.0
        four = (0.0, 0.0, 0.0, 0.0)
        for number in range(tries):
            if (1 + number) // 4 != block:
                block = (1 + number) // 4
                four = _four(low, high, index[b], look[b], op, block)
            size = area * (least + four[(1 + number) % 4] * span)
            h, w = np.rint(np.sqrt(size / ratio[b, number])), np.rint(np.sqrt(size * ratio[b, number]))
            if number == 0:
                first_h, first_w = h, w
            if w > 0 and w <= width and h > 0 and h <= height:
                found = True
                break
        if not found:
            h, w = first_h, first_w
        last = _four(low, high, index[b], look[b], op, (1 + 2 * tries) // 4)
        place = (1 + 2 * tries) % 4
        top, left = np.floor(last[place] * (height - h + 1)), np.floor(last[place + 1] * (width - w + 1))
        if not found:  # every try was too large: the largest central box with an allowed ratio
            whole = width / height
            w = max(np.rint(height * highest), 1.0) if whole > highest else np.float64(width)
            h = max(np.rint(width / lowest), 1.0) if whole < lowest else np.float64(height)
            top, left = np.floor((height - h) / 2), np.floor((width - w) / 2)
        rows[b, at + TOP], rows[b, at + LEFT] = int(top), int(left)
        rows[b, at + HEIGHT], rows[b, at + WIDTH] = int(h), int(w)


@kernel
def flips(rows: Array, at: int, low: Any, high: Any, index: Array, look: Array, op: int, p: float) -> None:
    """Invert the word of each sample for which a flip is drawn."""
    for b in range(index.size):
        if _four(low, high, index[b], look[b], op, 0)[0] < p:
            rows[b, at] ^= 1


@kernel
def listed(
    rows: Array, at: int, low: Any, high: Any, index: Array, look: Array, op: int, places: int, kinds: int,
    strengths: int, signed: Array, words: Array,
) -> None:  # fmt: skip
    """Draw the instructions of a policy: for each place an op, a strength if there are several, and a sign.

    words: All instructions of the policy, (instructions, n) int32, in the order (kind, strength, sign).
    """
    sorts = 2 if strengths > 1 else 1  # groups of draws before the signs
    count = 1 + (sorts + 1) * places
    draws = np.empty(count + 3)
    for b in range(index.size):
        for block in range((count + 3) // 4):
            four = _four(low, high, index[b], look[b], op, block)
            for word in range(4):
                draws[4 * block + word] = four[word]
        for place in range(places):
            number = int(draws[1 + place] * kinds)
            negative = signed[number] and draws[1 + sorts * places + place] < 0.5
            if strengths > 1:
                number = number * strengths + int(draws[1 + places + place] * strengths)
            number = 2 * number + negative
            start = at + place * words.shape[1]
            for word in range(words.shape[1]):
                rows[b, start + word] = words[number, word]


@kernel
def single(low: Any, high: Any, index: Any, look: Any, op: int) -> Any:
    """The four uniform draws of the first block of a sample."""
    return _four(low, high, index, look, op, 0)


@kernel
def mixes(rows: Array, at: int, index: Array, partner: Array, weight: float, rest: float) -> bool:
    """Write partner, weight and share of a MixUp with one weight. False if a partner shows the same image.

    index: Number of the image that each sample shows. After False, the contents of `rows` are not valid.
    """
    one, other = np.float32(weight), np.float32(rest)
    share = np.float64(weight).view(np.int64)
    for b in range(index.size):
        p = partner[b]
        if p != b and index[p] == index[b]:
            return False
        rows[b, at + PARTNER] = p
        _put(rows, b, at + WEIGHT, one)
        _put(rows, b, at + REST, other)
        rows[b, at + SHARE] = np.int32(np.uint32(share & 0xFFFFFFFF))
        rows[b, at + SHARE + 1] = np.int32(share >> 32)
    return True


@inner
def _put(rows: Array, b: Any, at: Any, value: Any) -> None:
    rows[b, at] = np.float32(value).view(np.int32)
