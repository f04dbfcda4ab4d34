"""What an epoch of a loader costs beside its time: CPU seconds, and the bytes of images that its workers send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gpuaug as ga

from ..measure import cpu_seconds

__all__ = ["Sent", "counted", "drain"]


class Sent:
    """A DataLoader that counts the bytes of the images in its batches."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.bytes = loader, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            self.bytes += len(batch.images.data)
            yield batch


@contextmanager
def counted(loader: Iterable[Any]) -> Iterator[Sent]:
    """Counts what a DeviceLoader gets meanwhile; nothing of others."""
    whole = Sent(getattr(loader, "loader", None))
    if not isinstance(loader, ga.DeviceLoader):
        yield whole
        return
    loader.loader = whole
    try:
        yield whole
    finally:
        loader.loader = whole.loader


def drain(loader: Iterable[Any], cpu: list[float]) -> None:
    """All batches of an epoch; notes its CPU seconds."""
    begin = cpu_seconds()
    for _ in loader:
        pass
    cpu.append(cpu_seconds() - begin)
