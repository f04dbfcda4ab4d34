"""The state of a module in a checkpoint: one int64 tensor, so that any code that handles tensors can handle it."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MISSING", "State", "damaged"]

Array = NDArray[Any]

VERSION = 1
HEADER = 12  # version, checksum, seed (2), view, epoch, flags, counter (2), pages, and room
MASK = 0xFFFFFFFF
DAMAGED = (
    "Augment: the state in this checkpoint is damaged, for example by averaging or casting, and is ignored: seed, "
    "epoch and counter stay as they are. Average parameters and buffers only."
)
MISSING = (
    "Augment: this checkpoint holds no state of the module; perhaps it was saved without one. Seed, epoch and counter "
    "stay as they are."
)


@dataclass
class State:
    """Seed, view, epoch and its flags (see Epochs), counter, and the looks of the epoch, (pages, entries) of Looks.

    seed: None for a checkpoint of version 0.1, which does not contain it.
    """

    seed: int | None
    view: int
    epoch: int
    flags: int
    counter: int
    looks: tuple[Array, Array] = field(default_factory=lambda: (np.zeros(0, np.int64), np.zeros((0, 8), np.int64)))

    def tensor(self, room: int = 0) -> Tensor:
        """(12 + 9 P,) int64 on the CPU, for P pages of looks, or for `room` pages if that is more."""
        pages, entries = self.looks
        assert self.seed is not None
        words = np.zeros(HEADER + 9 * max(len(pages), room), np.int64)
        words[2:10] = [
            self.seed & MASK, self.seed >> 32, self.view, self.epoch, self.flags,
            self.counter & MASK, self.counter >> 32, len(pages),
        ]  # fmt: skip
        words[HEADER : HEADER + 9 * len(pages)] = np.concatenate([pages, entries.reshape(-1)])
        words[0] = VERSION
        words[1] = _checksum(words)
        return torch.from_numpy(words)

    @classmethod
    def read(cls, value: Any) -> State | None:
        """Read a tensor on any device, or the dict of a checkpoint of version 0.1; None if it is damaged."""
        if isinstance(value, dict):
            return cls(None, 0, value["epoch"], 0, value["counter"]) if {"epoch", "counter"} <= value.keys() else None
        if not isinstance(value, Tensor) or value.ndim != 1 or len(value) < HEADER or value.is_meta:
            return None
        here = value.detach().cpu()
        words: Array = (here.round() if here.is_floating_point() else here).to(torch.int64).numpy()
        if words[0] != VERSION or words[1] != _checksum(words) or len(words) < HEADER + 9 * int(words[9]):
            return None
        low, high, view, epoch, flags, first, second, count = words[2:10].tolist()
        pages, entries = words[HEADER : HEADER + count], words[HEADER + count : HEADER + 9 * count].reshape(count, 8)
        return cls(low | high << 32, view, epoch, flags, first | second << 32, (pages, entries))


def _checksum(words: Array) -> int:
    return zlib.crc32(np.delete(words, 1).astype("<i8").tobytes())


def damaged() -> None:
    warnings.warn(DAMAGED, stacklevel=4)
