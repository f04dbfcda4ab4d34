"""Sample numbers that count the looks at an image, and an index tensor that stays on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map

from gpuaug import compat
from gpuaug.philox import LOOK, LOOKS, NUMBERS

__all__ = ["Index", "Numbered", "index_of"]


class Numbered(int):
    """The number of an image in its data set, an int, with `look`: how often this epoch has shown the image before.

    NumberedSampler yields it. The data sets of gpuaug, `ragged_collate` and torch's default collate convert it to an
    index (`number | look << 48`), so each look at an image gets its own random draws.

    Args:
        number: Number of the image, in [0, 2**48 - 1].
        look: Number of earlier looks at the image in this epoch, in [0, 2**15 - 1].
    """

    look: int

    def __new__(cls, number: int, look: int) -> Numbered:
        self = super().__new__(cls, number)
        self.look = look
        return self

    def __reduce__(self) -> tuple[type[Numbered], tuple[int, int]]:
        return Numbered, (int(self), self.look)


def index_of(number: int, look: int | None = None) -> int:
    """The key of a sample's random draws: the number in bits 0 to 47, the look in bits 48 to 62.

    Args:
        number: Number of an image.
        look: Look at the image. None: the look of a Numbered, else 0.

    Raises:
        ValueError: If one of them is out of range.
    """
    look = getattr(number, "look", 0) if look is None else look
    if not (0 <= number <= NUMBERS and 0 <= look < LOOKS):
        limits = f"a number in [0, 2**{LOOK} - 1] and a look in [0, {LOOKS - 1}]"
        raise ValueError(f"index_of: `number` and `look` must be {limits}, got {int(number)} and {look}.")
    return int(number) | look << LOOK


class Index(Tensor):
    """The index of a batch, (B,) int64, a tensor that stays on the CPU when the batch is moved to a device.

    The random draws are made on the CPU, so an index on a device would have to be copied back. `.to(device)`, `.cuda()`
    and `.pin_memory()` return it unchanged. The result of any other operation is an ordinary tensor. To move an index:
    `index.as_subclass(torch.Tensor).to(device)`.
    """

    __torch_function__ = compat.without_torch_function()

    def __getitem__(self, samples: Any) -> Tensor:  # whatever a tensor accepts
        return _as_index(super().__getitem__(samples))

    def clone(self, *, memory_format: torch.memory_format | None = None) -> Tensor:
        """A copy, which is an Index too."""
        options = {} if memory_format is None else {"memory_format": memory_format}
        return _as_index(super().clone(**options))

    def detach(self) -> Tensor:
        """The index without gradients, which is an Index too."""
        return _as_index(super().detach())

    def __deepcopy__(self, memo: dict[int, object]) -> Tensor:
        return self.clone()

    def to(self, *arguments: object, **options: object) -> Tensor:
        """The index itself for a device; an ordinary tensor on the CPU for another dtype."""
        dtype = compat.wanted_dtype(*arguments, **options)
        return self if dtype in (None, self.dtype) else self.as_subclass(Tensor).to(dtype)

    def cuda(self, *arguments: object, **options: object) -> Tensor:
        """The index itself."""
        return self

    def pin_memory(self, *arguments: object, **options: object) -> Tensor:
        """The index itself."""
        return self


def _as_index(result: Tensor) -> Tensor:
    return result.as_subclass(Index) if result.ndim == 1 and result.dtype == torch.int64 else result


def _collate(batch: Any, *, collate_fn_map: Any = None) -> Tensor:
    """The index of a list of Numbered, for torch's default collate."""
    return torch.tensor([index_of(number) for number in batch], dtype=torch.int64, device="cpu").as_subclass(Index)


default_collate_fn_map[Numbered] = _collate
