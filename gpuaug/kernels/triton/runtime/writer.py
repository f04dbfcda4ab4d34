"""A faster path for the most common lists: draws are written directly to the block, with the same bits.

These lists have RandomResizedCrop, then, if present, flips, RandAugment or TrivialAugmentWide, conversions, and MixUp
with one weight: steps that implement `straight`. Other lists are sampled, lowered and packed, and so are all lists if
Numba is not installed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import philox
from gpuaug.instructions import KEY_WORDS, WindowWord
from gpuaug.kernels.triton.runtime.launch import Block
from gpuaug.kernels.triton.runtime.plan import Layout
from gpuaug.program import Alike, Keys
from gpuaug.transforms.straight import Blend, Boxes, Mirror, Picks, Straight

__all__ = ["Writer"]

Array = NDArray[Any]
Part = Callable[..., bool]  # (rows, key low, key high, index, look): writes its words; False if it cannot


class Writer:
    """Fills blocks for one list and one shape. block: A block that was packed before, for the constant words."""

    def __init__(self, parts: Sequence[Part], layout: Layout, block: Block) -> None:
        self.parts, self.begin = parts, _compiled().begin
        self.head = block.head[: len(block.head) - block.rows.size].copy()
        row = block.rows[0].copy()
        row[layout.window_at + WindowWord.FLIP : layout.instructions_at] = 0
        rest = layout.instructions_at + len(layout.program.instructions) * layout.stride
        self.first, self.last = row[KEY_WORDS : layout.instructions_at], row[rest:]

    @classmethod
    def of(cls, alike: Alike, layouts: Sequence[Layout], block: Block) -> Writer | None:
        """The writer of a list; None if the list is not a common one."""
        steps = alike.straight() if philox.compiled is not None and len(layouts) == 1 else None
        if steps is None:
            return None
        parts = list(_parts(steps, layouts[0], len(block.rows)))
        return None if None in parts else cls([part for part in parts if part is not None], layouts[0], block)

    def write(self, keys: Keys, block: Block) -> bool:
        """Draw for a batch. False, with an invalid block, if this batch must be sampled, lowered and packed."""
        key = keys.key
        low, high = np.uint64(key & philox.MASK), np.uint64(key >> 32)
        index, look = np.ascontiguousarray(keys.index), np.ascontiguousarray(keys.look)
        self.begin(block.head, block.rows, self.head, self.first, self.last, low, high, index, look)
        return all(part(block.rows, low, high, index, look) for part in self.parts)


def _compiled() -> Any:
    return importlib.import_module("gpuaug.kernels.numba.draws")


def _parts(steps: Sequence[tuple[int, Straight]], layout: Layout, count: int) -> Iterator[Part | None]:
    """The function that writes the words of each step, in order; None for a step in an unsupported position."""
    window, at = layout.window_at, layout.instructions_at
    before: type[Straight] | None = None
    for op, step in steps:
        if isinstance(step, Boxes):
            yield _boxes(step, op, window, count) if before is None else None
        elif isinstance(step, Mirror):  # joins the window if no instruction is before it
            yield _mirror(step, op, window + WindowWord.FLIP + step.axis) if before in (Boxes, Mirror) else None
        elif isinstance(step, Picks):
            yield _picks(step, op, at) if before is not None else None
            at += step.places * layout.stride
        else:
            yield _blend(step, op, layout.mix_at) if before is not None else None
        before = type(step)


def _boxes(step: Boxes, op: int, at: int, count: int) -> Part:
    low, high = math.log(step.ratio[0]), math.log(step.ratio[1])
    compiled, (least, most) = _compiled(), step.scale

    def part(rows: Array, key_low: Any, key_high: Any, index: Array, look: Array) -> bool:
        ratio = np.empty((count, step.tries))
        compiled.ratios(key_low, key_high, index, look, op, low, high - low, ratio)
        np.exp(ratio, out=ratio)  # by NumPy: compiled code may round differently
        compiled.boxes(
            rows, at, key_low, key_high, index, look, op, ratio, *step.size, least, most - least, *step.ratio
        )  # fmt: skip
        return True

    return part


def _mirror(step: Mirror, op: int, at: int) -> Part:
    flips, p = _compiled().flips, step.p

    def part(rows: Array, *keys: Any) -> bool:
        flips(rows, at, *keys, op, p)
        return True

    return part


def _picks(step: Picks, op: int, at: int) -> Part:
    listed, places, kinds, strengths = _compiled().listed, step.places, step.kinds, step.strengths
    signed, words = step.signed, step.words

    def part(rows: Array, *keys: Any) -> bool:
        listed(rows, at, *keys, op, places, kinds, strengths, signed, words)
        return True

    return part


def _blend(step: Blend, op: int, at: int) -> Part:
    compiled, quantile, partner = _compiled(), step.quantile, step.partner

    def part(rows: Array, key_low: Any, key_high: Any, index: Array, look: Array) -> bool:
        uniform = compiled.single(key_low, key_high, index[0], look[0], op)[1]
        weight = float(quantile(np.array([uniform]))[0])
        mixed: bool = compiled.mixes(rows, at, index, partner, weight, 1.0 - weight)
        return mixed

    return part
