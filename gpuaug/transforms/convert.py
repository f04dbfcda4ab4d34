"""Conversions from levels to floats. They become a table of 256 values per channel, applied in the last pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from gpuaug import checks
from gpuaug.program import Erase
from gpuaug.transforms.arguments import of_images
from gpuaug.transforms.base import Convert

__all__ = ["AUTO", "Convert", "Normalize", "ToDtype", "followed", "kept"]

AUTO = "auto"
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
DTYPES = (AUTO, *FLOATS, torch.uint8)
Dtype = torch.dtype | str
DtypeByType = Mapping[type | str, Dtype | None]  # as torchvision's


def followed(owner: object, dtype: torch.dtype, fn: Callable[[Tensor], Tensor], dtypes: Sequence[Any]) -> torch.dtype:
    """The `dtype` of a module after nn.Module applies `fn` (`.half()`, `.to(...)`) to its tensors.

    Args:
        owner: Module that is cast.
        dtype: Its dtype before the cast.
        fn: Function that `nn.Module._apply` was called with.
        dtypes: Dtypes in which the module's lists end.

    Raises:
        ValueError: If a list ends in ToDtype("auto"), and no backend makes this dtype.
    """
    after = fn(torch.empty(0, dtype=dtype, device="cpu")).dtype
    if after not in FLOATS and AUTO in dtypes:
        expected = "one of " + ", ".join(map(str, FLOATS)) + ' where ToDtype("auto") follows it'
        remedy = "Use ToDtype(torch.float32), and cast what comes out."
        raise checks.argument_error(owner, "dtype", expected, str(after), remedy)
    return after


def kept(owner: object, dtype: torch.dtype, cast: torch.dtype) -> str:
    """The warning for a module that was cast, but whose list sets another dtype."""
    name = owner if isinstance(owner, str) else type(owner).__name__
    remedy = 'ToDtype("auto") follows the module.' if cast in FLOATS else "Cast what comes out."
    return f"{name}: the module was cast to {cast}, but images stay {dtype}, as ToDtype({dtype}) says. {remedy}"


class ToDtype(Convert):
    """Convert to a float dtype; pixel work after it (Normalize, RandomErasing, mixing) is float32, cast at the end.

    Args:
        dtype: torch.float32, torch.float16 or torch.bfloat16; torch.uint8 leaves levels unchanged. "auto" follows the
            dtype of the module, as the weights of a layer do: torch's default dtype when the module is made, changed by
            `.half()`, `.bfloat16()` or `.to(dtype)` of the module or of a model that contains it; `.double()` raises an
            error. Any other dtype stays when the module is cast, and a warning says so once. Of a dict by type, as
            torchvision takes it, the entry for images counts; None leaves levels unchanged.
        scale: Whether to divide by 255, so that values are in [0, 1].

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, dtype: Dtype | DtypeByType, scale: bool = False) -> None:
        self.dtype, self.scale = self._parse(dtype), bool(scale)

    def _parse(self, dtype: Dtype | DtypeByType) -> Dtype:
        try:
            found: Any = of_images(dtype)
        except ValueError:
            expected = "a dtype, or a dict by type that says one thing of images"
            raise checks.argument_error(self, "dtype", expected, checks.describe(dtype)) from None
        if found is None and isinstance(dtype, Mapping):
            return torch.uint8
        if found not in DTYPES:
            remedy = ""
            if isinstance(found, torch.dtype):  # float32 holds every level, but has not the bits of a float64 / 255
                remedy = f"Pixel work ends in float32 or levels: cast what comes out, augment(images).to({found})."
            raise checks.argument_error(self, "dtype", "one of " + ", ".join(map(str, DTYPES)), repr(found), remedy)
        return found

    @property
    def makes_floats(self) -> bool:  # type: ignore[override]
        return self.dtype != torch.uint8

    def check_order(self, argument: str, floats: bool) -> None:
        if floats and not self.makes_floats:
            expected, got = "without a conversion from floats to levels", f"{self} after ToDtype"
            raise checks.argument_error("Augment", argument, expected, got, "Leave it out.")

    def convert(self, table: Tensor) -> Tensor:
        # floats stay as they are: torchvision's to_dtype scales integers only
        return functional.to_dtype(table, torch.float32, scale=self.scale) if self.makes_floats else table


PerChannel = float | Sequence[float] | Tensor | NDArray[Any]


def _per_channel(values: Any) -> Any:
    """A number as a tuple of one, a tensor or an array as a tuple of numbers; a sequence stays as it was written."""
    if isinstance(values, (Tensor, np.ndarray)):
        values = values.tolist()
        return tuple(values) if isinstance(values, list) else (values,)
    return (values,) if checks.is_number(values) else values


class Normalize(Convert):
    """Subtract the mean and divide by the standard deviation of each channel.

    Args:
        mean, std: One number for each channel, or one for all, on the scale of ToDtype's result; std is not 0. A
            number, a sequence, a tensor or an array.
        inplace: No effect, accepted as in torchvision; the input batch is never written to.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, mean: PerChannel, std: PerChannel, inplace: bool = False) -> None:
        means, deviations = _per_channel(mean), _per_channel(std)
        for name, values in (("mean", means), ("std", deviations)):
            if not isinstance(values, Sequence) or not values or not all(map(checks.is_number, values)):
                raise checks.argument_error(self, name, "a sequence of numbers, one for each channel", repr(values))
        if any(value == 0 for value in deviations):
            raise checks.argument_error(self, "std", "not 0", repr(std))
        if len(means) != len(deviations):
            raise checks.argument_error(self, "std", f"as long as mean ({len(means)})", repr(std))
        self.mean, self.std, self.inplace = means, deviations, bool(inplace)

    def check(self, canvas: Any) -> None:
        if len(self.mean) not in (1, canvas.channels):
            raise checks.argument_error(
                self, "mean", f"one number or {canvas.channels}, one for each channel", repr(self.mean)
            )

    def check_order(self, argument: str, floats: bool) -> None:
        if not floats:
            remedy = "Put ToDtype(torch.float32, scale=True) before it."
            raise checks.argument_error("Augment", argument, "with Normalize on floats", "Normalize on uint8", remedy)

    def convert_erased(self, erase: Erase) -> None:
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        erase.shift, erase.scale = (erase.shift - mean) / std, erase.scale / std

    def convert(self, table: Tensor) -> Tensor:
        return functional.normalize(table, list(self.mean), list(self.std))
