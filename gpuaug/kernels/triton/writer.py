"""Lists that are drawn most often, drawn straight into the block: no parameters and no program in between, same bits.

These are RandomResizedCrop, then flips, RandAugment or TrivialAugmentWide, conversions, and MixUp with one weight, as
far as they are there. Other lists, and all of them where Numba is not installed, are sampled, lowered and packed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import philox
from gpuaug.kernels.triton.launch import Block
from gpuaug.kernels.triton.plan import KEYS, Layout
from gpuaug.program import Alike, Keys
from gpuaug.transform import Canvas, Transform, repeated
from gpuaug.transforms.convert import Convert
from gpuaug.transforms.crop import TRIES, RandomResizedCrop
from gpuaug.transforms.geometric import RandomHorizontalFlip, RandomVerticalFlip
from gpuaug.transforms.mix import MixUp, partners
from gpuaug.transforms.policy import SIGNED, RandAugment, TrivialAugmentWide
from gpuaug.transforms.quantile import beta_quantile

__all__ = ["Writer"]

Array = NDArray[Any]
Part = Callable[..., bool]  # (rows, key low, key high, index, look): writes what is its own, or says that it cannot
FLIPS = {RandomHorizontalFlip: 8, RandomVerticalFlip: 9}  # words from the start of a window
FLIP, MIX = 8, 9  # words: of a window before its flips, and of a mix


class Writer:
    """Fills blocks for one list and one shape. `block` is one that was filled the long way, for what never changes."""

    def __init__(self, parts: Sequence[Part], layout: Layout, block: Block) -> None:
        self.parts, self.begin = parts, _compiled().begin
        self.head = block.head[: len(block.head) - block.rows.size].copy()
        row = block.rows[0].copy()
        row[layout.window_at + FLIP : layout.slots_at] = 0
        rest = layout.slots_at + len(layout.program.slots) * layout.stride
        self.first, self.last = row[KEYS : layout.slots_at], row[rest:]

    @classmethod
    def of(cls, alike: Alike, layouts: Sequence[Layout], block: Block) -> Writer | None:
        """The writer of a list; None if it is not one of those."""
        if philox.compiled is None or len(layouts) != 1:
            return None
        parts = list(_parts(alike, layouts[0], len(block.rows)))
        return None if None in parts else cls([part for part in parts if part is not None], layouts[0], block)

    def write(self, keys: Keys, block: Block) -> bool:
        """Draw for a batch. False if this batch is one for the long way; then the block holds nothing of use."""
        key = keys.key
        low, high = np.uint64(key & philox.MASK), np.uint64(key >> 32)
        index, look = np.ascontiguousarray(keys.index), np.ascontiguousarray(keys.look)
        self.begin(block.head, block.rows, self.head, self.first, self.last, low, high, index, look)
        return all(part(block.rows, low, high, index, look) for part in self.parts)


def _compiled() -> Any:
    return importlib.import_module("gpuaug.kernels.numba.draws")


def _parts(alike: Alike, layout: Layout, count: int) -> Iterator[Part | None]:
    """What writes each step's words, in order; None for a step that has nothing here, or stands where it does not."""
    stage, at = 0, layout.slots_at
    for step, op in zip(alike.steps, alike.ops, strict=True):
        kind, before = type(step), stage
        if kind is RandomResizedCrop:
            stage = 1
            yield _crop(step, op, layout.window_at, alike.size, count) if before == 0 else None
        elif kind in FLIPS:
            yield _flip(step, op, layout.window_at + FLIPS[kind]) if before == 1 else None
        elif kind in (RandAugment, TrivialAugmentWide):
            stage = 2
            places = step.num_ops if kind is RandAugment else 1
            canvas = Canvas(repeated(1, *layout.program.window.size), layout.program.channels)  # type: ignore[union-attr]
            yield _policy(step, op, at, places, canvas) if before in (1, 2) else None
            at += places * layout.stride
        elif kind is MixUp and step.mode == "batch":
            yield _mixup(step, op, layout.mix_at, count) if before else None
        elif not isinstance(step, Convert):
            yield None


def _crop(step: RandomResizedCrop, op: int, at: int, size: tuple[int, int], count: int) -> Part:
    low, high = math.log(step.ratio[0]), math.log(step.ratio[1])
    compiled, (least, most) = _compiled(), step.scale

    def part(rows: Array, key_low: Any, key_high: Any, index: Array, look: Array) -> bool:
        ratio = np.empty((count, TRIES))
        compiled.ratios(key_low, key_high, index, look, op, low, high - low, ratio)
        np.exp(ratio, out=ratio)  # the one of NumPy: a compiled one may round otherwise
        compiled.boxes(rows, at, key_low, key_high, index, look, op, ratio, *size, least, most - least, *step.ratio)
        return True

    return part


def _flip(step: Transform, op: int, at: int) -> Part:
    flips, p = _compiled().flips, float(step.p)

    def part(rows: Array, *keys: Any) -> bool:
        flips(rows, at, *keys, op, p)
        return True

    return part


def _policy(step: Any, op: int, at: int, places: int, canvas: Canvas) -> Part | None:
    book, listed = step.book(canvas), _compiled().listed
    if book is None:
        return None
    words, strengths = book.words, book.bins

    def part(rows: Array, *keys: Any) -> bool:
        listed(rows, at, *keys, op, places, strengths, SIGNED, words)
        return True

    return part


def _mixup(step: MixUp, op: int, at: int, count: int) -> Part:
    compiled, quantile, partner = _compiled(), beta_quantile(step.alpha, step.alpha), partners(step.mode, count).copy()

    def part(rows: Array, key_low: Any, key_high: Any, index: Array, look: Array) -> bool:
        uniform = compiled.single(key_low, key_high, index[0], look[0], op)[1]
        weight = float(quantile(np.array([uniform]))[0])
        mixed: bool = compiled.mixes(rows, at, index, partner, weight, 1.0 - weight)
        return mixed

    return part
