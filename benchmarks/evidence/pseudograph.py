"""CUDA graphs without a device: what is given to it during a capture is written down, not run, and `replay` runs it.

As on a device, memory that was there before the capture is known to the graph by its address only: if nobody else keeps
it, `replay` raises. Memory asked for during the capture is the graph's own and full of rubbish until the first replay.
Copies between host and device raise during a capture, and so does waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["CUDAGraph", "capturing", "graph", "refuse"]

RUBBISH = 0xA5
REFUSED = "operation not permitted when stream is capturing"


class CUDAGraph:
    """Stands in for torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        self.own: list[Tensor] = []  # memory asked for during the capture
        self.done = False

    def replay(self) -> None:
        if not self.done:
            raise RuntimeError("CUDAGraph: nothing was captured.")
        with _disable_current_modes():
            for run in self.work:
                run()

    def add(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> None:
        """Call `function` in every replay. CPU tensors stand for device memory here."""
        known = {tensor.untyped_storage().data_ptr() for tensor in self.own}

        def hold(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.untyped_storage().data_ptr() in known:
                return value
            return _Address.of(value)

        held = tree_map(hold, (tuple(arguments), named))

        def run() -> None:
            live, options = tree_map(lambda value: value.tensor() if isinstance(value, _Address) else value, held)
            function(*live, **options)

        self.work.append(run)

    def op(self, func: Any, run: Callable[[], Any], arguments: Any, named: Any, to_host: Callable[[Any], Any]) -> Any:
        """An operation on device tensors; `run` runs it now."""
        hosts, options = tree_map(to_host, (tuple(arguments), {k: v for k, v in named.items() if k != "device"}))
        if func._schema.is_mutable:
            self.add(func, hosts, options)
            return arguments[0]
        result = run()
        if func.is_view or func._schema.name in ("aten::detach", "aten::alias"):
            return result
        made = [to_host(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        with torch._C._DisableTorchDispatch():
            for tensor in made:
                tensor.untyped_storage().fill_(RUBBISH)
        self.own += made
        if "empty" not in func._schema.name:
            self.add(_again(func, made), hosts, options)
        return result


@dataclass(frozen=True)
class _Address:
    """A tensor whose memory somebody else must keep."""

    storage: StorageWeakRef
    dtype: torch.dtype
    place: tuple[int, tuple[int, ...], tuple[int, ...]]  # offset, shape, strides

    @classmethod
    def of(cls, tensor: Tensor) -> _Address:
        place = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        return cls(StorageWeakRef(tensor.untyped_storage()), tensor.dtype, place)

    def tensor(self) -> Tensor:
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        if storage is None:
            raise RuntimeError("CUDAGraph: a replay uses memory that was given back.")
        return torch.empty(0, dtype=self.dtype).set_(storage, *self.place)


def _again(func: Any, made: list[Tensor]) -> Callable[..., None]:
    def again(*arguments: Any, **named: Any) -> None:
        for target, source in zip(made, tree_leaves(func(*arguments, **named)), strict=True):
            target.copy_(source)

    return again


capturing: list[CUDAGraph] = []


def refuse() -> None:
    """Raise during a capture."""
    if capturing:
        raise RuntimeError(REFUSED)


class graph:  # noqa: N801
    """Stands in for torch.cuda.graph."""

    def __init__(
        self, cuda_graph: CUDAGraph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
    ) -> None:
        self.graph, self.stream = cuda_graph, torch.cuda.stream(stream)

    def __enter__(self) -> None:
        refuse()
        self.stream.__enter__()
        capturing.append(self.graph)

    def __exit__(self, *error: Any) -> None:
        capturing.pop()
        self.stream.__exit__(*error)
        self.graph.done = error[0] is None
