"""Shared memory for the batches that worker processes write, recycled when a batch is released.

A new segment costs a page fault for every 4 KiB of a batch, which takes half as long as decoding
(docs/decisions.md). So a worker recycles its segments. Two bytes in a segment's header say whether the worker and the
reader still hold the batch in it. Each side clears its own byte when it has deleted its last tensor of the batch, views
included.

A worker that is faster than its reader can afford page faults, but memory is limited: when such a worker has no free
segment, it abandons segments that the reader holds. An abandoned segment is freed when the reader releases it. So the
segments of all workers are at most the batches requested in advance, plus those that the reader holds.

On Linux a segment is an anonymous file: the worker sends its process id and file descriptor, and the reader maps the
file from /proc and closes it again. The system frees it with the last process that maps it. So workers that end, fail
or are killed leave nothing in /dev/shm, whatever torch's sharing strategy is, and /dev/shm may be small. On other
systems torch makes the segment.

A DeviceLoader keeps the segments of its batches mapped while it iterates: mapping a segment again for every batch costs
page faults, which take half as long as augmenting (docs/decisions.md).
"""

from __future__ import annotations

import os
import weakref
from functools import cache
from multiprocessing import util
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info
from torch.utils.weak import WeakTensorKeyDictionary

from gpuaug import compat

__all__ = ["Address", "MappedSegments", "attach", "empty", "open_segment", "pinned", "segment_of"]

# A segment is a uint8 tensor: the header, then the bytes of a batch.
HEADER = 64  # bytes; keeps the batch aligned
WORKER, READER = 0, 1  # header bytes: the state of the batch in the worker, and in the reader
RELEASED, HELD = 0, 1  # states: all tensors of the batch are deleted; some exist
SENT = 2  # state of READER: the batch was sent, and has not arrived
FORKED = 3  # state: the process forked while it held the batch, so its child may hold it for ever
ABANDONED = 2  # header byte: 1 if the worker will not recycle the segment
READER_SLACK = 2  # segments with the reader that a worker does not abandon: the current batch and the one before
SLACK = 1.25  # size of a new segment / size of its batch, as batches vary; unwritten pages of a file cost nothing


class Address(NamedTuple):
    """Where a reader finds a segment: an open file of a process, and the identity of that file."""

    process: int
    descriptor: int
    device: int
    inode: int
    size: int  # bytes


_segments: list[Tensor] = []  # the segments that this process made and has not abandoned
_addresses: dict[int, Address] = {}  # memory address of a segment of this process -> its address for readers
_opened: weakref.WeakValueDictionary[tuple[int, int], Tensor] = weakref.WeakValueDictionary()  # segments of workers
_segment_at: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()  # address of a batch -> segment
_segment_of_copy = WeakTensorKeyDictionary()  # pinned copy of a batch -> segment of that batch
_mapped: weakref.WeakSet[MappedSegments] = weakref.WeakSet()
_forks = 0  # how often this process has forked


def _in_child() -> None:
    """A forked child makes its own segments, and keeps nothing mapped for its parent's loops."""
    _segments.clear()
    for mapped in list(_mapped):
        mapped.clear()


def _in_parent() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child, after_in_parent=_in_parent)


# ---- the worker ------------------------------------------------------------------------------------------------------


def empty(size: int) -> Tensor:
    """Uninitialized memory for a batch, (size,) uint8: shared memory in a worker process, else as torch.empty."""
    worker = get_worker_info()
    if worker is None:
        return torch.empty(size, dtype=torch.uint8, device="cpu")
    fitting = [segment for segment in _in_state(RELEASED, RELEASED) if len(segment) >= HEADER + size]
    if fitting:
        return attach(min(fitting, key=len), size, WORKER)
    _make_room(READER_SLACK // worker.num_workers)
    segment = _anonymous(HEADER + int(SLACK * size)) if _has_proc(os.getpid()) else _by_torch(HEADER + size)
    segment[:HEADER] = 0
    _segments.append(segment)
    return attach(segment, size, WORKER)


@cache
def _has_proc(process: int) -> bool:
    """Whether this process can share anonymous files: it needs /proc, and may open its parent's files there.

    Then the parent, which reads the batches, may open this process's files: the system compares users and permissions.
    """
    try:
        os.listdir(f"/proc/{os.getppid()}/fd")
        return hasattr(os, "memfd_create") and os.path.exists(f"/proc/{process}/fd")
    except OSError:
        return False


def _anonymous(size: int) -> Tensor:
    descriptor = os.memfd_create("gpuaug")
    try:
        os.ftruncate(descriptor, size)
        segment = _map(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    status = os.fstat(descriptor)
    _addresses[segment.data_ptr()] = Address(os.getpid(), descriptor, status.st_dev, status.st_ino, size)
    weakref.finalize(segment, _forget, segment.data_ptr(), descriptor).atexit = False
    return segment


def _map(descriptor: int, size: int) -> Tensor:
    with torch.inference_mode(False):  # a loader may be iterated in it; other threads write to the header too
        return torch.from_file(f"/proc/self/fd/{descriptor}", shared=True, size=size, dtype=torch.uint8, device="cpu")


def _forget(address: int, descriptor: int) -> None:
    del _addresses[address]
    os.close(descriptor)


def _by_torch(size: int) -> Tensor:
    if not _segments:  # torch counts the users in a named file, and a process that ends does not decrease that count
        util.Finalize(None, _segments.clear, exitpriority=0)
    with torch.inference_mode(False):  # as in _map
        return torch.empty(0, dtype=torch.uint8, device="cpu").set_(compat.shared_storage(size))


def _in_state(worker: int, reader: int) -> list[Tensor]:
    return [segment for segment in _segments if segment[: READER + 1].tolist() == [worker, reader]]


def _make_room(slack: int) -> None:
    """Abandon segments before a new one is made.

    A free segment, which is too small; if there is none, all but `slack` of those that the reader holds. In both cases
    those that a forked child may hold.
    """
    free, with_reader = _in_state(RELEASED, RELEASED), _in_state(RELEASED, HELD)
    abandoned = [min(free, key=len)] if free else with_reader[: max(0, len(with_reader) - slack)]
    abandoned += [segment for segment in _segments if FORKED in segment[: READER + 1].tolist()]
    for segment in abandoned:
        segment[ABANDONED] = 1
    _segments[:] = [segment for segment in _segments if not any(segment is other for other in abandoned)]


def segment_of(data: Tensor) -> Tensor | Address | None:
    """What to send to the reader for the segment of a batch from `empty`.

    None if `data` is in no segment, or if the batch was sent before: only its first reader says when it is released.
    """
    address = data.untyped_storage().data_ptr()
    for segment in _segments:
        if segment.data_ptr() + HEADER == address and segment[READER] == RELEASED:
            segment[READER] = SENT
            return _addresses.get(segment.data_ptr(), segment)
    return None


# ---- the reader ------------------------------------------------------------------------------------------------------


def open_segment(sent: Tensor | Address) -> Tensor:
    """The segment that a worker sent, mapped in this process.

    Raises:
        RuntimeError: If the worker process has ended.
    """
    if isinstance(sent, Tensor):
        return sent
    segment = _opened.get(sent[2:4])
    if segment is None:
        try:
            descriptor = os.open(f"/proc/{sent.process}/fd/{sent.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise RuntimeError(
                f"gpuaug: worker process {sent.process} ended before its batch was read ({error})."
            ) from None
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != sent[2:4]:  # another process has the same id now
                raise RuntimeError(f"gpuaug: worker process {sent.process} ended before its batch was read.")
            segment = _opened[sent[2:4]] = _map(descriptor, sent.size)
        finally:
            os.close(descriptor)
    return segment


def attach(segment: Tensor, size: int, holder: int = READER) -> Tensor:
    """The batch in a segment, (size,) uint8; the holder's header byte is HELD until all tensors of it are deleted."""
    array: NDArray[Any] = segment.numpy()[HEADER : HEADER + size]  # the tensor's storage will hold this very object
    segment[holder] = HELD
    release = weakref.finalize(array, _release, segment, holder, os.getpid(), _forks)
    release.atexit = False
    data = torch.from_numpy(array)
    _segment_at[data.data_ptr()] = segment
    return data


def _release(segment: Tensor, holder: int, process: int, forks: int) -> None:
    if os.getpid() == process:  # in a forked child it says nothing about the parent
        segment[holder] = RELEASED if forks == _forks else FORKED


def pinned(data: Tensor) -> Tensor:
    """A copy of a batch in pinned memory. `MappedSegments.keep` accepts it for the batch.

    A loader's pinning thread makes the copy, and deletes the batch before the consumer sees either.
    """
    copy = data.pin_memory()
    segment = _segment_at.get(data.data_ptr())
    if segment is not None and copy is not data:
        _segment_of_copy[copy] = segment
    return copy


class MappedSegments:
    """Segments that stay mapped in this process as long as this object lives, to be found when they arrive again.

    Segments that their worker has abandoned are dropped when the next new one arrives.
    """

    def __init__(self) -> None:
        self._segments: dict[int, Tensor] = {}
        _mapped.add(self)

    def keep(self, data: Tensor) -> None:
        """Keep the segment of a batch that `attach` or `pinned` returned. Other tensors have none: nothing is kept."""
        segment = _segment_at.get(data.data_ptr(), _segment_of_copy.get(data))  # type: ignore[no-untyped-call]
        if segment is not None and segment.data_ptr() not in self._segments:
            self._segments = {address: other for address, other in self._segments.items() if not other[ABANDONED]}
            self._segments[segment.data_ptr()] = segment

    def clear(self) -> None:
        self._segments = {}

    def __len__(self) -> int:
        return len(self._segments)
