"""What a batch asks of a CUDA device, counted without one (long: one object hears every call of torch).

Nothing is timed. Operations run on the CPU under `benchmarks.evidence.pseudocuda`, and what each would have asked of
a device is written down. In a test, in a process of its own:

    from benchmarks.evidence.pseudocuda import install, to_device
    from benchmarks.evidence.recording import Audit

    install()
    images = to_device(torch.zeros(4, 3, 64, 64, dtype=torch.uint8))
    with Audit() as audit:
        augment(images)
    assert not audit.findings, audit.explain()

A launch is one dispatched operation that computes; an operation may start more than one kernel, so launches are a lower
bound. Bytes are those of the tensors an operation reads and writes, each once, and for a gather at most as many as it
returns: what must move if nothing stays in a cache between operations.
"""

from __future__ import annotations

import contextlib
import linecache
import math
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..locations import ROOT
from .launches import Buffer, Listener, TritonLaunch, intercept, listeners, real_tiles
from .pseudocuda import COPIES, Call, PseudoCuda, is_pinned, on_cuda

__all__ = ["Audit", "Copy", "Finding", "Launch"]

TORCH = str(Path(torch.__file__).parent) + os.sep
CONTEXTLIB = contextlib.__file__
_FOUND = find_spec("triton")  # not imported: it asks for its interpreter when it is
TRITON = str(Path((_FOUND and _FOUND.origin) or "no triton").parent / "runtime") + os.sep
HARNESS = {
    str(Path(__file__).with_name(name)) for name in ("recording.py", "launches.py", "pseudocuda.py", "pseudograph.py")
}

# Operations that start no kernel, beside views
NO_LAUNCH = {
    "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "detach", "alias",
    "lift", "lift_fresh", "_unsafe_view", "_reshape_alias", "set_", "resize_", "is_pinned", "_pin_memory", "pin_memory",
    "record_stream", "is_same_size", "sym_size", "sym_stride", "_local_scalar_dense", "result_type",
}  # fmt: skip

# Operations that make the host wait, whatever they are given: they need a size or a number from the device
WAITS = {
    "_local_scalar_dense": ".item()", "nonzero": "nonzero", "masked_select": "boolean mask", "equal": "torch.equal",
    "is_nonzero": "truth of a tensor", "_unique": "unique", "_unique2": "unique", "unique_dim": "unique",
    "unique_consecutive": "unique", "bincount": "bincount", "multinomial": "multinomial",
    "_linalg_check_errors": "linalg error check",
}  # fmt: skip

GATHERS = {"index", "_unsafe_index", "index_select", "gather", "take", "embedding"}  # read at most what they return
SCATTERS = {  # write at most what they are given, the source, which is the last tensor
    "index_put_", "_index_put_impl_", "index_copy_", "scatter_", "index_add_", "scatter_add_", "scatter_reduce_",
    "index_fill_",
}  # fmt: skip
ADDS = {"index_add_", "scatter_add_", "scatter_reduce_"}  # and read what they write
OVERWRITES = {  # do not read what they write
    "fill_", "zero_", "copy_", "uniform_", "normal_", "random_", "bernoulli_", "exponential_", "log_normal_", *SCATTERS,
}  # fmt: skip
MASKED_PUT = {"index_put", "index_put_", "_index_put_impl_"}


@dataclass(frozen=True)
class Place:
    """A line of source."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {self.text}"


@dataclass(frozen=True)
class Launch:
    """Work for the device. From `grid` on, Triton's only."""

    name: str
    place: Place
    read: int = 0  # bytes
    written: int = 0
    grid: tuple[int, ...] | None = None
    constants: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)  # shape, strides, dtype
    buffers: tuple[Buffer, ...] | None = None  # None: not counted


@dataclass(frozen=True)
class Copy:
    """Between host and device."""

    to_device: bool
    size: int  # bytes
    pinned: bool  # the host's memory; if it is not, CUDA may wait even where it is not asked to
    waits: bool  # the host, for the device
    place: Place


@dataclass(frozen=True)
class Finding:
    """Something `forward` should not do."""

    kind: str
    place: Place
    waits: bool  # the host, for the device; a copy of pageable memory may wait although it is not asked to

    def __str__(self) -> str:
        return f"{self.kind} at {self.place}"


class Audit:
    """Records what runs inside `with Audit() as audit`, which is also inside PseudoCuda.

    Args:
        count_bytes: count the bytes of Triton launches, by watching every load and store of the interpreter: slow.
        execute: run Triton's kernels; False only writes down what would be launched, with the grids of a device.
    """

    def __init__(self, count_bytes: bool = False, execute: bool = True) -> None:
        self.launches: list[Launch] = []
        self.copies: list[Copy] = []
        self.findings: list[Finding] = []
        self.pinned: list[int] = []  # bytes of each block of pinned memory that was asked for
        self._in_flight: list[tuple[Tensor, Tensor, Place]] = []  # pinned source, what it held, where it was copied
        self._listener = Listener(self._triton, count_bytes, execute)
        self._tiles: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        self._mode = PseudoCuda(self)

    def __enter__(self) -> Audit:
        intercept()
        if not self._listener.execute:
            self._tiles = real_tiles()
        self._tiles.__enter__()
        listeners.append(self._listener)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)
        listeners.remove(self._listener)
        self._tiles.__exit__(*error)
        self.passed()

    @property
    def waits(self) -> list[Finding]:
        """The findings that make the host wait for the device."""
        return [finding for finding in self.findings if finding.waits]

    @property
    def uploads(self) -> list[Copy]:
        return [copy for copy in self.copies if copy.to_device]

    @property
    def downloads(self) -> list[Copy]:
        return [copy for copy in self.copies if not copy.to_device]

    @property
    def read(self) -> int:
        return sum(launch.read for launch in self.launches)

    @property
    def written(self) -> int:
        return sum(launch.written for launch in self.launches)

    @property
    def counted(self) -> bool:
        """Whether `read` and `written` hold the bytes of every launch."""
        return all(launch.grid is None or launch.buffers is not None for launch in self.launches)

    @property
    def sequence(self) -> list[tuple[Any, ...]]:
        """What is launched, in order: names and grids, numbers, shapes. A CUDA graph needs it the same for any draw."""
        return [(one.name, one.grid, one.constants, one.numbers, one.tensors) for one in self.launches]

    def explain(self) -> str:
        """The findings, one a line."""
        counts = Counter(map(str, self.findings))
        return "\n".join(f"{count}x {text}" for text, count in counts.most_common()) or "no findings"

    def report(self, images: int) -> dict[str, Any]:
        """Everything as JSON has it; `images` in the batch."""
        names = Counter(launch.name for launch in self.launches)
        moved = (self.read + self.written) / images / 1e6 if self.counted else None
        return {
            "launches": len(self.launches),
            "triton_launches": sum(launch.grid is not None for launch in self.launches),
            "by_name": dict(names.most_common()),
            "mb_per_image": moved,
            "read": self.read,
            "written": self.written,
            "waits": len(self.waits),
            "uploads": len(self.uploads),
            "uploads_that_wait": sum(copy.waits for copy in self.uploads),
            "uploads_that_may_wait": sum(not copy.waits and not copy.pinned for copy in self.uploads),
            "uploaded_bytes": sum(copy.size for copy in self.uploads),
            "downloads": len(self.downloads),
            "pinned_blocks": len(self.pinned),
            "findings": [
                {"kind": f.kind, "file": f.place.file, "line": f.place.line, "text": f.place.text, "waits": f.waits}
                for f in self.findings
            ],
        }

    # What PseudoCuda and the launch function tell

    def op(self, call: Call) -> None:
        tensors = [leaf for leaf in tree_leaves((call.args, call.kwargs, call.result)) if isinstance(leaf, Tensor)]
        if not any(map(on_cuda, tensors)):
            return
        if call.name in COPIES:
            source, target, non_blocking = _ends(call)
            if on_cuda(source) != on_cuda(target):
                self._copy(call, source, target, non_blocking)
                return
        kind = _waits(call)
        if kind is not None:
            self._find(kind)
        if _launches(call):
            read, written = _traffic(call)
            self.launches.append(Launch(str(call.func), caller(), read, written))

    def wait(self, kind: str) -> None:
        self._find(kind)
        self.passed()

    def pin(self, size: int) -> None:
        self.pinned.append(size)

    def passed(self) -> None:
        """The copies under way are over: their pinned sources must still hold what they held."""
        for source, held, place in self._in_flight:
            if not torch.equal(_bytes(source), held):
                kind = "pinned memory written while its copy may be under way"
                self.findings.append(Finding(kind, place, waits=False))
        self._in_flight.clear()

    def _find(self, kind: str, waits: bool = True) -> None:
        self.findings.append(Finding(kind, caller(), waits))

    def _triton(self, launch: TritonLaunch) -> None:
        buffers = launch.buffers or ()
        read, written = sum(b.read for b in buffers), sum(b.written for b in buffers)
        more = (launch.grid, launch.constants, launch.numbers, launch.tensors, launch.buffers)
        self.launches.append(Launch(launch.name, caller(), read, written, *more))

    def _copy(self, call: Call, source: Tensor, target: Tensor, non_blocking: bool) -> None:
        """A copy between host and device, as ATen's Copy.cu makes it.

        What is not one run of bytes of one dtype goes by way of temporaries: on the host they are pageable, and where
        they are on the device they cost a launch.
        """
        upload = on_cuda(target)
        host, device = (source, target) if upload else (target, source)
        converts = source.dtype != target.dtype
        direct = not converts and _same_run(source, target)
        on_device = converts and non_blocking  # where it converts; else on the host
        expands = source.shape != target.shape
        pinned = is_pinned(host) and (direct or (host.is_contiguous() and not (upload and expands)))
        waits = not non_blocking or not (pinned or upload)  # a download to pageable memory returns when it is done
        place, size = caller(), target.numel() * (source if on_device == upload else target).element_size()
        self.copies.append(Copy(upload, size, pinned, waits, place))
        if not upload:
            kind = "copy from the device" + ("" if waits else ", not waited for")
            self.findings.append(Finding(kind, place, waits))
        elif waits or not pinned:
            kind = f"{'blocking' if waits else 'asynchronous'} copy of {'pinned' if pinned else 'pageable'} memory"
            self.findings.append(Finding(f"{kind} to the device", place, waits))
        else:
            self._in_flight.append((source, _bytes(source), place))
        if not direct and (on_device or not device.is_contiguous()):
            traffic = (size, _distinct(target)) if upload else (_distinct(source), size)
            self.launches.append(Launch(str(call.func), place, *traffic))


def _ends(call: Call) -> tuple[Tensor, Tensor, bool]:
    """Source, target and `non_blocking` of a copy."""
    if call.name == "_to_copy":
        return call.args[0], call.result, bool(call.kwargs.get("non_blocking"))
    first, second = call.args[:2]
    non_blocking = bool(call.args[2] if len(call.args) > 2 else call.kwargs.get("non_blocking"))
    return (second, first, non_blocking) if call.name.startswith("copy") else (first, second, non_blocking)


def _same_run(source: Tensor, target: Tensor) -> bool:
    """Both are the same dense run of elements, so that one memcpy does it."""

    def order(tensor: Tensor) -> list[tuple[int, int]]:
        return [(size, step) for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]

    steps = sorted(order(source), key=lambda pair: pair[1])
    dense = all(step == math.prod(size for size, _ in steps[:number]) for number, (_, step) in enumerate(steps))
    return source.shape == target.shape and order(source) == order(target) and dense


def _waits(call: Call) -> str | None:
    """Why the host would wait, if it would."""
    name, args = call.name, call.args
    if name in WAITS:
        return WAITS[name] if on_cuda(args[0]) else None
    if name == "repeat_interleave":
        return "repeat_interleave without output_size" if call.kwargs.get("output_size") is None else None
    if name == "histc":
        low, high = (*args[2:4], 0, 0)[:2]
        return "histc without a range" if low == high else None
    if name in ("masked_fill", "masked_fill_") and isinstance(args[2], Tensor):
        return ".item() of the value of masked_fill" if on_cuda(args[2]) else None
    if name not in MASKED_PUT | {"index", "_unsafe_index"}:
        return None
    indices = [index for index in args[1] if index is not None]
    masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
    if name in MASKED_PUT and len(masks) == len(indices) and args[2].numel() == 1:
        return ".item() of the value of a masked fill" if on_cuda(args[2]) else None
    if masks:
        return "boolean mask"
    if not all(map(on_cuda, indices)):
        return "copy of an index to the device"
    if name in MASKED_PUT and not on_cuda(args[2]):
        return "copy of a value to the device"
    return None


def _launches(call: Call) -> bool:
    if call.func.is_view or call.name in NO_LAUNCH:
        return False
    return any(on_cuda(leaf) and leaf.numel() for leaf in tree_leaves((call.result, call.args)))


def _traffic(call: Call) -> tuple[int, int]:
    """Bytes read and written on the device."""
    name = call.name
    written = sum(_distinct(leaf) for leaf in tree_leaves(call.result) if on_cuda(leaf))
    if name in SCATTERS:
        written = min(written, _scattered(call))
    read = 0
    for number, argument in enumerate(call.func._schema.arguments):
        value = call.args[number] if number < len(call.args) else call.kwargs.get(argument.name)
        size = sum(_distinct(leaf) for leaf in tree_leaves(value) if on_cuda(leaf))
        if argument.alias_info is not None and argument.alias_info.is_write:
            size = 0 if argument.is_out or name in OVERWRITES - ADDS else min(size, written)
        elif number == 0 and name in GATHERS:
            size = min(size, written)
        read += size
    return read, written


def _distinct(tensor: Tensor) -> int:
    """Bytes of a tensor, with what `expand` repeats counted once."""
    sizes = (size for size, step in zip(tensor.shape, tensor.stride(), strict=True) if step)
    return math.prod(sizes) * tensor.element_size() if tensor.numel() else 0


def _scattered(call: Call) -> int:
    """Bytes that a scatter writes at most: as many elements as it is given, or as it has indices for one number."""
    target, *rest = (leaf for leaf in tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Tensor))
    return max(leaf.numel() for leaf in rest) * target.element_size()


def _bytes(tensor: Tensor) -> Tensor:
    """A copy of what a CPU tensor holds."""
    with torch._C._DisableTorchDispatch():
        return tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


def caller() -> Place:
    """The innermost line outside torch, Triton and this harness: who asked for what is being recorded."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_plumbing(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return Place("?", 0, "")
    file, line = frame.f_code.co_filename, frame.f_lineno
    return Place(_short(file), line, linecache.getline(file, line, frame.f_globals).strip()[:100])


def _is_plumbing(file: str) -> bool:
    return file in HARNESS or file.startswith((TORCH, TRITON, "<frozen")) or file == CONTEXTLIB


def _short(file: str) -> str:
    """Relative to the libraries or to the repository."""
    if "site-packages" in file:
        return file.split("site-packages", 1)[1].lstrip("/\\")
    path = Path(file)
    return str(path.relative_to(ROOT)) if ROOT and path.is_relative_to(ROOT) else path.name
