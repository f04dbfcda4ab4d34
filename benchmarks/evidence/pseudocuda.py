"""Tensors that claim to be on `cuda:0` (long: a stand-in for each part of torch.cuda).

Code runs as it would on a GPU, with real values wherever it looks at one, and mixing the devices raises. `install`
makes torch believe that CUDA is there; that lasts as long as the process, so use a process of its own. Import this
module before Triton: Triton's interpreter is chosen by an environment variable when Triton is imported.

    install()
    with PseudoCuda():
        images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8, device="cuda")

What is not modelled: time, streams that overlap, memory limits, and which dtypes a CUDA kernel supports.
"""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from .pseudograph import CUDAGraph, capturing, graph, refuse

__all__ = ["Call", "PseudoCuda", "PseudoTensor", "Recorder", "install", "is_pinned", "on_cuda", "to_device", "to_host"]

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten

COPIES = {"_to_copy", "copy_", "copy", "_copy_from", "_copy_from_and_resize"}  # the ops that may cross devices
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
SAME_MATHS = {"cudnn_grid_sampler": lambda images, grid: aten.grid_sampler_2d(images, grid, 0, 0, True)}  # CUDA only


@dataclass(frozen=True)
class Call:
    """One dispatched operation, with the tensors as the caller sees them."""

    func: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """Without namespace and overload: `add` of `aten.add.Tensor`."""
        return name_of(self.func)


class Recorder(Protocol):
    """Hears what happens inside `PseudoCuda(recorder)`."""

    def op(self, call: Call) -> None:
        """An operation ran, on either device."""

    def wait(self, kind: str) -> None:
        """The host was told to wait for a stream, an event or the device."""

    def passed(self) -> None:
        """The host learnt, without waiting, that the work so far is done."""

    def pin(self, size: int) -> None:
        """`size` bytes of pinned memory were asked for."""


class PseudoTensor(torch.Tensor):
    """Claims DEVICE; `held` is the CPU tensor with the values."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PseudoTensor:
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )
        self.held = inner
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def record_stream(self, stream: Any) -> None:
        """Streams do not overlap here."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return memo.setdefault(id(self), self.clone())

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"PseudoTensor({tuple(self.shape)}, {self.dtype}, {DEVICE})"


def on_cuda(value: object) -> bool:
    return isinstance(value, PseudoTensor)


def to_device(tensor: Tensor) -> Tensor:
    """`tensor`, said to be on the device; nothing is copied or recorded."""
    return PseudoTensor(tensor)


def to_host(value: Any) -> Any:
    """The CPU tensor under a pseudo tensor, anything else as it is; nothing is copied or recorded."""
    return value.held if isinstance(value, PseudoTensor) else value


class PseudoCuda(TorchDispatchMode):
    """Inside, `device="cuda"` makes pseudo tensors, and `recorder` hears every operation."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        super().__init__()
        self.recorder = recorder

    def __enter__(self) -> PseudoCuda:
        if not _installed:
            raise RuntimeError("PseudoCuda: call benchmarks.evidence.pseudocuda.install() first.")
        if self.recorder is not None:
            _recorders.append(self.recorder)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self.recorder is not None:
            _recorders.remove(self.recorder)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled() and func._can_decompose():  # elsewhere autograd has done so already
            super().__enter__()
            try:
                result = func.decompose(*args, **(kwargs or {}))
            finally:
                super().__exit__(None, None, None)
            if result is not NotImplemented:
                return result
        result = run(func, args, kwargs or {})
        if self.recorder is not None:
            self.recorder.op(Call(func, args, kwargs or {}, result))
        return result


_recorders: list[Recorder] = []
_installed: list[bool] = []


def name_of(func: Any) -> str:
    return func._schema.name.split("::")[-1]


# What a capture refuses, beside copies between host and device: the host would wait
REFUSED = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operation, or write it down if a graph is being captured."""
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    asked = kwargs.get("device")
    if not capturing or not (any(map(on_cuda, leaves)) or (asked is not None and torch.device(asked).type == "cuda")):
        return _run(func, args, kwargs)
    name = name_of(func)
    crosses = name in COPIES and not (all(map(on_cuda, leaves)) and torch.device(asked or DEVICE).type == "cuda")
    if name in REFUSED or crosses:
        refuse()
    return capturing[-1].op(func, lambda: _run(func, args, kwargs), args, kwargs, to_host)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operation on the CPU tensors underneath; its results are said to be where CUDA would have put them."""
    name = name_of(func)
    if name in ("is_pinned", "_pin_memory", "pin_memory"):
        return is_pinned(args[0]) if name == "is_pinned" else _pinned_copy(args[0])
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, PseudoTensor)]
    if ours:
        _check_devices(func, name, args, tensors)
    arguments, options = tree_map(to_host, (args, dict(kwargs)))
    asked = kwargs.get("device")
    if asked is not None:
        options["device"] = torch.device("cpu")
    if kwargs.get("pin_memory"):
        options["pin_memory"] = False
    result = SAME_MATHS.get(name, func)(*arguments, **options)
    for tensor in ours:
        _follow(func, tensor, args, kwargs)
    cuda = bool(ours) if asked is None else torch.device(asked).type == "cuda"
    if kwargs.get("pin_memory") or (name == "_to_copy" and ours and not cuda and kwargs.get("non_blocking")):
        _pin(result)  # torch pins what it does not wait for
    given = {id(to_host(tensor)): tensor for tensor in tensors}  # operations in place return what they were given

    def place(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        known = given.get(id(value))
        if known is not None:
            return known
        return PseudoTensor(value) if cuda else value

    return tree_map(place, result)


def _check_devices(func: Any, name: str, args: Any, tensors: list[Tensor]) -> None:
    """Raise where CUDA would: host tensors may only be numbers (0-dim), indices, or one side of a copy."""
    if name in COPIES:
        return
    indices = {id(index) for index in args[1] if index is not None} if name in INDEXED and on_cuda(args[0]) else set()
    written = func._schema.is_mutable and isinstance(args[0] if args else None, Tensor) and not on_cuda(args[0])
    if written or any(tensor.ndim and not on_cuda(tensor) and id(tensor) not in indices for tensor in tensors):
        places = ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in tensors)
        raise RuntimeError(
            f"{func}: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"({places})"
        )


def _follow(func: Any, tensor: PseudoTensor, args: Any, kwargs: dict[str, Any]) -> None:
    """Keep a pseudo tensor's shape that of its CPU tensor, which an operation may have changed in place."""
    inner = tensor.held
    if tensor.shape == inner.shape and tensor.stride() == inner.stride():
        return
    if torch.Tag.inplace_view not in func.tags or name_of(func) in ("resize_", "set_"):
        raise NotImplementedError(f"{func} changes the shape of a tensor in place, which pseudo tensors cannot follow.")
    with no_dispatch():
        func(*args, **kwargs)


# Pinned memory: CPU storages that are said to be pinned, as long as they live

_pinned: dict[int, StorageWeakRef] = {}


def is_pinned(tensor: Tensor) -> bool:
    if on_cuda(tensor):
        return False
    known = _pinned.get(tensor.untyped_storage().data_ptr())
    return known is not None and not known.expired()


def _pin(tensor: Tensor) -> Tensor:
    storage = tensor.untyped_storage()
    if storage.nbytes():
        _pinned[storage.data_ptr()] = StorageWeakRef(storage)
    for recorder in _recorders[-1:]:
        recorder.pin(storage.nbytes())
    return tensor


def _pinned_copy(tensor: Tensor) -> Tensor:
    if on_cuda(tensor):
        raise RuntimeError(f"cannot pin '{tensor.type()}': only dense CPU tensors can be pinned")
    return tensor if is_pinned(tensor) else _pin(tensor.clone())


# What torch.cuda offers without a device


def _waits(kind: str) -> Callable[..., None]:
    def wait(*_: Any, **__: Any) -> None:
        refuse()
        for recorder in _recorders[-1:]:
            recorder.wait(kind)

    return wait


def _passed(*_: Any) -> bool:
    for recorder in _recorders[-1:]:
        recorder.passed()
    return True


class Event:
    """Stands in for torch.cuda.Event."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = DEVICE

    def record(self, stream: Any = None) -> None:
        pass

    def wait(self, stream: Any = None) -> None:
        """A stream waits; the host goes on."""

    def elapsed_time(self, end: Event) -> float:
        raise RuntimeError("There is no device here: nothing can be timed.")

    query = _passed
    synchronize = _waits("Event.synchronize")


_handles = count()  # the default stream's is 0


class Stream:
    """Stands in for torch.cuda.Stream; work is done when it is given."""

    device, device_index = DEVICE, 0

    def __init__(self, *_: Any, **__: Any) -> None:
        self.cuda_stream = next(_handles)

    def record_event(self, event: Event | None = None) -> Event:
        return Event() if event is None else event

    def wait_event(self, event: Event) -> None:
        pass

    def wait_stream(self, stream: Stream) -> None:
        pass

    query = _passed
    synchronize = _waits("Stream.synchronize")


_current = [Stream()]


@contextmanager
def _stream(stream: Stream | None) -> Iterator[None]:
    _current.append(_current[-1] if stream is None else stream)
    try:
        yield
    finally:
        _current.pop()


def _properties(device: Any = None) -> SimpleNamespace:
    """Of an A100, for code that chooses by them."""
    return SimpleNamespace(
        name="pseudo", major=8, minor=0, multi_processor_count=108, total_memory=40 << 30, warp_size=32
    )


def install() -> None:
    """Make torch believe that CUDA is there, until the process ends."""
    if _installed:
        return
    if torch.cuda.is_available():
        raise RuntimeError("pseudocuda: this machine has a CUDA device; the audit stands in for one that is missing.")
    _installed.append(True)
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") builds on the host, then copies
    cuda: Any = torch.cuda
    binding: Any = torch._C
    binding._cuda_getDevice = lambda: 0
    binding._cuda_getCurrentRawStream = lambda device=0: _current[-1].cuda_stream
    cuda._initialized = True
    cuda.default_generators = (torch.default_generator,)
    cuda.Stream, cuda.Event, cuda.stream = Stream, Event, _stream
    cuda.CUDAGraph, cuda.graph = CUDAGraph, graph
    cuda.synchronize = _waits("torch.cuda.synchronize")
    answers: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
        "current_stream": lambda device=None: _current[-1],
        "default_stream": lambda device=None: _current[0],
        "set_stream": lambda stream: None,
        "is_current_stream_capturing": lambda: bool(capturing),
        "get_device_properties": _properties,
        "get_device_capability": lambda device=None: (8, 0),
        "get_device_name": lambda device=None: "pseudo",
    }
    for name, answer in answers.items():
        setattr(cuda, name, answer)
