"""Shared memory that workers write batches into, used again once nobody holds a batch any more.

A fresh segment costs a page fault for every 4 KiB of a batch: half as long as decoding (benchmarks/NOTES.md). So a
worker keeps its segments. Two bytes before the batch say whether the worker still holds it, and how it is with the
reader; each side clears its own when its last tensor over the segment is gone, views included.

A worker that is ahead of its reader has time for page faults, but memory is short: when it has no free segment, it
leaves those that the reader holds to the reader, whose memory they are until it lets go of them. So the segments of all
workers are at most the batches that are asked for ahead, and those that the reader holds.

On Linux a segment is a file without a name: the worker sends its process and file number, and the reader maps it from
there and keeps no file open. The system frees it with the last process that has it, so workers that end, are killed or
raise leave nothing in /dev/shm, whatever torch's sharing strategy is, and /dev/shm may be small. Elsewhere a segment is
torch's.

A DeviceLoader keeps the segments of its batches mapped while it iterates: mapping each one again costs page faults, and
half as much time as augmenting (benchmarks/NOTES.md).
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

__all__ = ["Address", "Mapped", "attach", "empty", "lease", "pinned", "segment"]

HEADER = 64  # bytes before the batch; keeps it aligned
WORKER, READER = 0, 1  # the bytes of the header that say who holds the batch
NOBODY, HELD = 0, 1
SENT = 2  # of READER: on its way
FORKED = 3  # the holder forked meanwhile, so that its child has the batch for good
LEFT = 2  # the byte of the header that says whether the worker has let go of the segment for good
SPARE = 2  # segments with the reader that workers keep all the same: the batch at hand and the one before
SLACK = 1.25  # batches vary in size; in a file without a name, pages that are never written cost nothing


class Address(NamedTuple):
    """Where a reader finds a segment: an open file of a process, and which file that must be."""

    process: int
    descriptor: int
    device: int
    inode: int
    size: int  # bytes


_segments: list[Tensor] = []  # of this process: whole segments as uint8
_leased: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()  # address of a batch -> its segment
_pinned = WeakTensorKeyDictionary()  # pinned copy of a batch -> the segment that the batch came in
_addresses: dict[int, Address] = {}  # address in memory of a segment of this process -> where others find it
_attached: weakref.WeakValueDictionary[tuple[int, int], Tensor] = weakref.WeakValueDictionary()  # others' segments
_mapped: weakref.WeakSet[Mapped] = weakref.WeakSet()
_forks = 0  # of this process so far


def _in_child() -> None:
    """A forked child writes into segments of its own, and keeps nothing mapped for the loops of its parent."""
    _segments.clear()
    for mapped in list(_mapped):
        mapped.clear()


def _in_parent() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child, after_in_parent=_in_parent)


def empty(size: int) -> Tensor:
    """(size,) uint8: in a worker process in shared memory, elsewhere as torch.empty."""
    worker = get_worker_info()
    if worker is None:
        return torch.empty(size, dtype=torch.uint8, device="cpu")
    fitting = [whole for whole in _in_state(NOBODY, NOBODY) if len(whole) >= HEADER + size]
    if fitting:
        return lease(min(fitting, key=len), size, WORKER)
    _make_room(SPARE // worker.num_workers)
    whole = _without_name(HEADER + int(SLACK * size)) if _nameless(os.getpid()) else _by_torch(HEADER + size)
    whole[:HEADER] = 0
    _segments.append(whole)
    return lease(whole, size, WORKER)


@cache
def _nameless(process: int) -> bool:
    """Whether this process can share files without a name: it has /proc, and may open the files of its parent there.

    Then its parent, which reads the batches, may open its own: the system compares their users and rights.
    """
    try:
        os.listdir(f"/proc/{os.getppid()}/fd")
        return hasattr(os, "memfd_create") and os.path.exists(f"/proc/{process}/fd")
    except OSError:
        return False


def _without_name(size: int) -> Tensor:
    descriptor = os.memfd_create("gpuaug")
    try:
        os.ftruncate(descriptor, size)
        whole = _map(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    status = os.fstat(descriptor)
    _addresses[whole.data_ptr()] = Address(os.getpid(), descriptor, status.st_dev, status.st_ino, size)
    weakref.finalize(whole, _forget, whole.data_ptr(), descriptor).atexit = False
    return whole


def _map(descriptor: int, size: int) -> Tensor:
    return torch.from_file(f"/proc/self/fd/{descriptor}", shared=True, size=size, dtype=torch.uint8, device="cpu")


def _forget(address: int, descriptor: int) -> None:
    del _addresses[address]
    os.close(descriptor)


def _by_torch(size: int) -> Tensor:
    if not _segments:  # torch counts users in a file that has a name, and an ending process does not sign off by itself
        util.Finalize(None, _segments.clear, exitpriority=0)
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(compat.shared_storage(size))


def _in_state(worker: int, reader: int) -> list[Tensor]:
    return [whole for whole in _segments if whole[: READER + 1].tolist() == [worker, reader]]


def _make_room(spare: int) -> None:
    """Let go of a free segment, which is too small, else of those with the reader but for `spare`; before a new one."""
    free, theirs = _in_state(NOBODY, NOBODY), _in_state(NOBODY, HELD)
    gone = [min(free, key=len)] if free else theirs[: max(0, len(theirs) - spare)]
    gone += [whole for whole in _segments if FORKED in whole[: READER + 1].tolist()]
    for whole in gone:
        whole[LEFT] = 1
    _segments[:] = [whole for whole in _segments if not any(whole is other for other in gone)]


def segment(data: Tensor) -> Tensor | Address | None:
    """What to send to the reader for the segment that `data` from `empty` lies in; None if it is in none.

    Nor has it one for a second reader while there is a first: the first says when it is free.
    """
    address = data.untyped_storage().data_ptr()
    for whole in _segments:
        if whole.data_ptr() + HEADER == address and whole[READER] == NOBODY:
            whole[READER] = SENT
            return _addresses.get(whole.data_ptr(), whole)
    return None


def attach(sent: Tensor | Address) -> Tensor:
    """The whole segment that was sent.

    Raises:
        RuntimeError: if the worker that has it is gone.
    """
    if isinstance(sent, Tensor):
        return sent
    whole = _attached.get(sent[2:4])
    if whole is None:
        try:
            descriptor = os.open(f"/proc/{sent.process}/fd/{sent.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise RuntimeError(f"gpuaug: the batch of worker process {sent.process} is gone ({error}).") from None
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != sent[2:4]:  # another process has that number by now
                raise RuntimeError(f"gpuaug: worker process {sent.process} ended before its batch was read.")
            whole = _attached[sent[2:4]] = _map(descriptor, sent.size)
        finally:
            os.close(descriptor)
    return whole


def lease(whole: Tensor, size: int, holder: int = READER) -> Tensor:
    """The (size,) uint8 of a batch in a segment; the holder's byte says so until nobody there holds its memory."""
    array: NDArray[Any] = whole.numpy()[HEADER : HEADER + size]  # the tensor's storage will hold this very object
    whole[holder] = HELD
    release = weakref.finalize(array, _release, whole, holder, os.getpid(), _forks)
    release.atexit = False
    data = torch.from_numpy(array)
    _leased[data.data_ptr()] = whole
    return data


def _release(whole: Tensor, holder: int, process: int, forks: int) -> None:
    if os.getpid() == process:  # a forked child's copy says nothing about its parent
        whole[holder] = NOBODY if forks == _forks else FORKED


def pinned(data: Tensor) -> Tensor:
    """The bytes of a batch in pinned memory. The copy remembers the segment, which `Mapped.keep` would not find by it.

    A loader's pinning thread makes it, and lets go of the batch itself before the consumer sees any of it.
    """
    copy = data.pin_memory()
    whole = _leased.get(data.data_ptr())
    if whole is not None and copy is not data:
        _pinned[copy] = whole
    return copy


class Mapped:
    """Segments that stay mapped here as long as this lives; torch finds them when they arrive again.

    Those that their worker has let go of are let go of here when the next new one arrives.
    """

    def __init__(self) -> None:
        self._wholes: dict[int, Tensor] = {}
        _mapped.add(self)

    def keep(self, data: Tensor) -> None:
        """Keep the segment of a batch from `lease`, or of its copy by `pinned`; other data has none to keep."""
        whole = _leased.get(data.data_ptr(), _pinned.get(data))  # type: ignore[no-untyped-call]
        if whole is not None and whole.data_ptr() not in self._wholes:
            self._wholes = {at: kept for at, kept in self._wholes.items() if not kept[LEFT]}
            self._wholes[whole.data_ptr()] = whole

    def clear(self) -> None:
        self._wholes = {}

    def __len__(self) -> int:
        return len(self._wholes)
