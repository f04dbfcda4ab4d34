"""Activation checkpointing: a call that autograd runs again finds the draws of the first time."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from gpuaug.compat import in_backward
from gpuaug.program import Keys

__all__ = ["Recent", "in_backward", "token"]

MOST = 256  # calls whose keys are kept: of a batch of 256, 12 bytes a sample, under 1 MB in all
LOST = (
    "Augment: a call inside the backward pass must repeat one of the last {most} calls of this module, got other "
    "{what}. If it comes from torch.utils.checkpoint, leave preserve_rng_state=True: the draws are found by a number "
    "from torch's generator."
)


def token() -> int:
    """A number from torch's generator, which checkpointing puts back before it runs a part again."""
    number = torch.empty(1, dtype=torch.int64, device="cpu").random_()
    return int(number.numpy()[0])


class Recent:
    """The keys of the last calls, by token and images: code that seeds torch before each call repeats tokens."""

    def __init__(self) -> None:
        self._calls: OrderedDict[tuple[int, Any], tuple[Keys, Any]] = OrderedDict()

    def note(self, number: int, images: Any, keys: Keys) -> None:
        """Remember a call."""
        call = number, _memory(images)
        self._calls[call] = keys, weakref.ref(images)
        self._calls.move_to_end(call)
        while len(self._calls) > MOST:
            try:
                self._calls.popitem(last=False)
            except KeyError:  # another thread was faster
                break

    def find(self, number: int, images: Any) -> Keys:
        """The keys of the call that is being repeated: among the calls with its token, the one on these images, or else
        the last one. If no call has its token: the only call on these images.

        Raises:
            RuntimeError: If there is no such call, or more than one.
        """
        size, memory = len(images), _memory(images)
        calls = list(self._calls.items())
        alike = [(token, keys) for (token, at), (keys, image) in calls if at == memory and image() is not None]
        tokens = [keys for token, keys in alike if token == number]
        tokens += [keys for (token, _), (keys, _) in reversed(calls) if token == number and len(keys.index) == size]
        if tokens:
            return tokens[0]
        if len(alike) == 1:
            return alike[0][1]
        raise RuntimeError(LOST.format(most=MOST, what="random numbers" if alike else "images"))


def _memory(images: Any) -> tuple[Any, ...]:
    """The memory of a batch; while the batch is alive, no other tensor has it."""
    data: Tensor = images if isinstance(images, Tensor) else images.data
    try:
        return data.data_ptr(), tuple(data.shape), data.stride(), data.device
    except RuntimeError:  # a fake tensor
        return id(data), tuple(data.shape), data.stride(), data.device
