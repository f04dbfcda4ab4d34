"""Tensors that say they are on an MPS or XPU device while a CPU tensor underneath holds the values.

    with Pretend("mps") as device:
        images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8, device="mps")

Code runs as it would there, and what such a device cannot do, or does only by waiting, raises: asking for a value,
copying back, mixing devices, and on MPS float64 and copies that do not wait. It works in the thread that entered it.

What is not modelled: which operations the device has kernels for, and how they round. `integers` tells which ran on
64-bit integers, the likeliest to be missing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["AskedError", "Pretend", "PretendTensor", "UnsupportedError", "held"]

ASKS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2"}
COPIES = {"_to_copy", "copy_", "copy"}  # the ops that may cross devices
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
NO_FLOAT64 = ("mps",)
RACES = ("mps",)  # a copy from the host that does not wait may read memory that is used for something else by then
TYPES = ("mps", "xpu")


class UnsupportedError(TypeError):
    """What the device does not have."""


class AskedError(RuntimeError):
    """The host would wait for the device."""


class PretendTensor(torch.Tensor):
    """Claims a device in Python, and to be on none ("meta") in C++, which may know nothing of it."""

    held: Tensor
    claimed: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> PretendTensor:
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("meta"),
        )
        self.held, self.claimed = inner, device
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"Pretend: {func} outside `with Pretend(...)`, or in another thread.")

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.claimed

    def tolist(self) -> Any:
        raise AskedError(f"tolist() on {self.claimed}")

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {self.claimed} device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"PretendTensor({tuple(self.shape)}, {self.dtype}, {self.claimed})"


def held(value: Any) -> Any:
    """The CPU tensor under a pretend tensor, anything else as it is."""
    return value.held if isinstance(value, PretendTensor) else value


class Pretend(TorchDispatchMode):
    """Inside, there is a device of the type: "mps" or "xpu".

    Attributes:
        device: the device.
        integers: names of the operations that ran on 64-bit integers there.
        count: how many operations ran there.
    """

    def __init__(self, kind: str) -> None:
        if kind not in TYPES:
            raise ValueError(f"Pretend: `kind` must be one of {TYPES}, got {kind!r}.")
        super().__init__()
        self.device = torch.device(kind, 0)
        self.integers: set[str] = set()
        self.count = 0

    def __enter__(self) -> Pretend:
        self._before = torch.xpu._lazy_init, torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) builds on the host, then copies
        torch.xpu._lazy_init = lambda: None  # type: ignore[assignment]  # a factory function calls it
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.xpu._lazy_init = self._before[0]  # type: ignore[assignment]
        torch._C._set_only_lift_cpu_tensors(self._before[1])

    def to_device(self, tensor: Tensor) -> Tensor:
        """`tensor`, said to be on the device."""
        return PretendTensor(tensor, self.device)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.split("::")[-1]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
        asked = kwargs.get("device")
        here = bool(ours) if asked is None else torch.device(asked).type in (self.device.type, "meta")
        if ours or here:
            self._check(func, name, args, kwargs, tensors, here)
        arguments, options = tree_map(held, (args, kwargs))
        if asked is not None:
            options["device"] = torch.device("cpu")
        result = func(*arguments, **options)
        given = {id(held(tensor)): tensor for tensor in tensors}  # operations in place return what they were given
        for tensor in ours:
            if tensor.shape != tensor.held.shape or tensor.stride() != tensor.held.stride():
                with no_dispatch():
                    func(*args, **kwargs)  # its shape follows that of its CPU tensor

        def place(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            known = given.get(id(value))
            return known if known is not None else self.to_device(value) if here else value

        placed = tree_map(place, result)
        if here:
            self._note(func, name, [*tensors, *tree_leaves(placed)])
        return placed

    def _check(self, func: Any, name: str, args: Any, kwargs: Any, tensors: list[Tensor], here: bool) -> None:
        """Raise what the device would, or where it would make the host wait."""
        if name in ASKS:
            raise AskedError(f"{func} on {self.device}")
        if name in COPIES:
            target = args[0] if name != "_to_copy" else None
            back = not here if target is None else not isinstance(target, PretendTensor)
            if back:
                raise AskedError(f"{func} from {self.device} to the host")
            crosses = any(not isinstance(tensor, PretendTensor) for tensor in tensors)
            waits = not kwargs.get("non_blocking") and not (name == "copy_" and len(args) > 2 and args[2])
            if crosses and not waits and self.device.type in RACES:
                raise UnsupportedError(f"{func} to {self.device} without waiting")
            return
        indices = {id(index) for index in args[1] if index is not None} if name in INDEXED else set()
        if any(id(one) in indices and one.dtype == torch.bool for one in tensors):
            raise AskedError(f"{func} by a mask on {self.device}")  # looks where the mask is true; only CUDA fills
        if any(t.ndim and not isinstance(t, PretendTensor) and id(t) not in indices for t in tensors):
            raise RuntimeError(f"{func}: Expected all tensors to be on the same device, {self.device} and cpu found.")

    def _note(self, func: Any, name: str, leaves: list[Any]) -> None:
        kinds = {leaf.dtype for leaf in leaves if isinstance(leaf, PretendTensor)}
        if self.device.type in NO_FLOAT64 and kinds & {torch.float64, torch.complex128}:
            raise UnsupportedError(f"{func}: {self.device} has no float64")
        self.count += 1
        if torch.int64 in kinds:
            self.integers.add(name)
