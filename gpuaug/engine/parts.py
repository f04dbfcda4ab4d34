"""Which part of each image a draw reads, known before the image is decoded, and that no other draw gets it.

A draw is a function of its keys, so a worker process that knows the list, the key of a pass and the images' sizes knows
what the first window will read. `PartFinder` is what a data set holds; the batch says which draw it was cut for, and
`check_parts` compares that with the draw of the call.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.reads import read_by
from gpuaug.program import Keys, Program
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Canvas

__all__ = ["Cut", "OtherDrawError", "PartFinder", "check_parts"]

Array = NDArray[Any]

PASS, TRAINING, KEY, WHOLE = range(4)
CHANGES = -1  # number of the pass while it and its key are being written
OTHER_DRAW = (
    "Augment: `images` must be drawn as their parts were cut, got another {what}. With regions=..., iterate the data "
    "set by a DeviceLoader of this module, and change nothing during a pass."
)
AGAIN = (
    "Augment: `images` must be drawn as their parts were cut, got another look at image {number}: the epoch shows it "
    "more than once, and no sampler numbers the looks. Pass sampler=ga.data.NumberedSampler(...), or no regions."
)


class OtherDrawError(ValueError):
    """A batch of parts was given to another draw than the one it was cut for."""


class Cut(NamedTuple):
    """The draw that parts are cut for: the first steps of its list, whether they are for training, and its key."""

    steps: str
    training: bool
    key: int


def name_of(pipeline: Pipeline, exact: bool) -> str:
    """The first steps as text, with what else decides what they read."""
    return f"{pipeline.first_name}, exact={exact}"


class PartFinder:
    """What a data set needs to know of a module to decode parts; small, and the same in its worker processes.

    `follow` says which pass begins; a worker then finds the parts of its images by `find`. Until a pass is followed,
    and after it has ended, images are decoded whole.
    """

    def __init__(self, train: Pipeline, eval: Pipeline, exact: bool) -> None:
        self.renew(train, eval, exact)
        # shared with workers, forked or spawned, which read it: the number of the pass (0: none), training, the key,
        # and whether images are decoded whole
        self._words = torch.zeros(4, dtype=torch.int64, device="cpu").share_memory_()  # type: ignore[no-untyped-call]
        self._passes = 0
        self._asked = False

    def renew(self, train: Pipeline, eval: Pipeline, exact: bool) -> None:
        """Take other lists, in this process and in those that begin from now on."""
        self._first = {True: train.only_first(), False: eval.only_first()}
        self._names = {True: name_of(train, exact), False: name_of(eval, exact)}
        self._exact = exact

    def knows(self, pipeline: Pipeline, training: bool, exact: bool) -> bool:
        """Whether this is the list that it finds parts for."""
        return self._names[training] == name_of(pipeline, exact)

    def follow(self, training: bool, key: int, whole: bool = False) -> int:
        """A pass over the data set begins, with this list and key. Returns the number of the pass.

        Args:
            training: Whether it is of the training list.
            key: Key of all its draws.
            whole: True decodes whole images in this pass.
        """
        self._passes += 1
        signed = key - 2**64 if key >= 2**63 else key
        self._words[PASS] = CHANGES  # another thread or process may read meanwhile
        self._words[TRAINING:] = torch.tensor([training, signed, whole], device="cpu")
        self._words[PASS] = self._passes
        return self._passes

    def leave(self, number: int) -> None:
        """The pass has ended, if no later one has begun."""
        if int(self._words[PASS]) == number:
            self._words[PASS] = 0

    def is_last(self, number: int) -> bool:
        """Whether no pass has begun since this one."""
        return number == self._passes

    @property
    def helps(self) -> bool:
        """Whether any list reads less than all of each image."""
        return self._first[True] is not None or self._first[False] is not None

    @property
    def in_pass(self) -> bool:
        """Whether a pass was followed and has not ended."""
        return bool(self._words[PASS])

    def first_time(self) -> bool:
        """True when it is called first in this process; for a warning that is given once."""
        first, self._asked = not self._asked, True
        return first

    def _read(self) -> list[int]:
        """The words of one pass, not of two that follow one another."""
        found = self._words.tolist()
        while found[PASS] == CHANGES or found != (again := self._words.tolist()):
            time.sleep(0)
            found = self._words.tolist()
        return again

    def cut(self) -> Cut | None:
        """The draw of the present pass; None if there is no pass, or its list reads all of each image."""
        number, training, key, whole = self._read()
        if not number or whole or self._first[bool(training)] is None:
            return None
        return Cut(self._names[bool(training)], bool(training), key % 2**64)

    def find(self, cut: Cut, index: Sequence[int], sizes: Sequence[tuple[int, int]]) -> Array | None:
        """The part of each image that the draw reads.

        Args:
            cut: What `cut` returned.
            index: Number of each image in its data set, with the sampler's look from bit 48 on.
            sizes: (height, width) of each image in pixels.

        Returns:
            (B, 4) int64, (top, left, height, width); None where the list cannot run on such images, so that the call
            says why.
        """
        first = self._first[cut.training]
        assert first is not None
        canvas = Canvas(np.array(sizes, np.int64), 3)
        keys = Keys(cut.key, 0, np.array(index, np.uint64))  # a seed with nothing else is the key itself
        try:
            params = first.sample(keys, canvas)
            items = first.lower(params, keys, canvas, self._exact, torch.contiguous_format)
        except ValueError:
            return None
        window = items[0].window if isinstance(items[0], Program) else None
        return None if window is None else read_by(window)


def check_parts(images: Ragged, pipeline: Pipeline, exact: bool, training: bool, keys: Keys) -> None:
    """Raise if a batch of parts was cut for another draw than that of the call; nothing was read yet."""
    if images.parts is None:
        return
    parts, what = images.parts, None
    draws = any(step.draws or step.p < 1 or step.children for step in pipeline.first_steps)
    if parts.training != training:
        what = f"list: they are cut for the {'training' if parts.training else 'evaluation'} list"
    elif parts.steps != name_of(pipeline, exact):
        what = f"list: they are cut for {parts.steps}"
    elif draws and parts.key != keys.key:
        what = "seed, epoch or pass"
    elif draws and (parts.index != keys.index).any():
        what = "index, or none at all"
    if what is not None:
        raise OtherDrawError(OTHER_DRAW.format(what=what))
    if draws and (parts.look != keys.look).any():
        number = int(parts.index[(parts.look != keys.look).argmax()])
        raise ValueError(AGAIN.format(number=number))
