"""Numbers of samples that say which look at an image they are, and an index that stays on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map

from gpuaug import compat
from gpuaug.philox import LOOK, LOOKS, NUMBERS

__all__ = ["Index", "Numbered", "index_of"]


class Numbered(int):
    """An int, the image's number in the data set, with `look`: how often the epoch has shown that image before.

    NumberedSampler yields it. Our data sets, `ragged_collate` and torch's default collate make it an index.
    """

    look: int

    def __new__(cls, number: int, look: int) -> Numbered:
        self = super().__new__(cls, number)
        self.look = look
        return self

    def __reduce__(self) -> Any:
        return Numbered, (int(self), self.look)


def index_of(number: int, look: int | None = None) -> int:
    """What keys a draw: the number in bits 0 to 47, and the look, which a Numbered brings along, in bits 48 to 62.

    Raises:
        ValueError: if one of them does not fit.
    """
    look = getattr(number, "look", 0) if look is None else look
    if not (0 <= number <= NUMBERS and 0 <= look < LOOKS):
        limits = f"a number in [0, 2**{LOOK} - 1] and a look in [0, {LOOKS - 1}]"
        raise ValueError(f"index_of: `number` and `look` must be {limits}, got {int(number)} and {look}.")
    return int(number) | look << LOOK


class Index(Tensor):
    """An index (B,) int64 that stays on the CPU when a batch is moved to a device.

    The draws are made on the host, so an index on a device would have to be waited for. `.to(device)`, `.cuda()` and
    `.pin_memory()` return it as it is. Any other operation gives an ordinary tensor, which moves:
    `index.as_subclass(torch.Tensor).to(device)`.
    """

    __torch_function__ = compat.without_torch_function()

    def __getitem__(self, rows: Any) -> Any:
        return _kept(super().__getitem__(rows))

    def clone(self, *arguments: Any, **options: Any) -> Any:
        return _kept(super().clone(*arguments, **options))

    def detach(self) -> Any:
        return _kept(super().detach())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.clone()

    def to(self, *arguments: Any, **options: Any) -> Any:
        dtype = compat.wanted_dtype(*arguments, **options)
        return self if dtype in (None, self.dtype) else self.as_subclass(Tensor).to(dtype)

    def cuda(self, *arguments: Any, **options: Any) -> Any:
        return self

    def pin_memory(self, *arguments: Any, **options: Any) -> Any:
        return self


def _kept(result: Any) -> Any:
    return result.as_subclass(Index) if result.ndim == 1 and result.dtype == torch.int64 else result


def _collate(batch: Any, *, collate_fn_map: Any = None) -> Tensor:
    """What torch's default collate makes of Numbered."""
    return torch.tensor([index_of(number) for number in batch], dtype=torch.int64, device="cpu").as_subclass(Index)


default_collate_fn_map[Numbered] = _collate
