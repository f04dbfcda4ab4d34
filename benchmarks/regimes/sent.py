"""The bytes of images that the workers of a loader send in an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gpuaug as ga

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


def drain(loader: Iterable[Any]) -> None:
    """All batches of an epoch."""
    for _ in loader:
        pass
