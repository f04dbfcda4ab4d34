"""The source of a pack: the images of a folder, in the order in which they are packed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gpuaug.data.discover import Strings, find
from gpuaug.data.packs.format import Index

__all__ = ["Source", "shard_range"]


class Source:
    """The image files of a folder. The arguments are those of ImageFolder."""

    def __init__(
        self,
        root: Path,
        extensions: str | Sequence[str] | None,
        is_valid_file: Callable[[str], bool] | None,
        allow_empty: bool,
    ) -> None:
        found = find("pack", root, extensions, is_valid_file, allow_empty)
        self.root, self.classes, self.ignored = root, found.classes, found.ignored
        self.labels, self.paths = np.array(found.labels, np.int64), Strings(found.paths)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        """Path of a file relative to the root; bytes that are not UTF-8 are escaped."""
        path = self.paths[number][len(str(self.root)) :].lstrip(os.sep).replace(os.sep, "/")
        return path.encode("utf-8", "backslashreplace").decode()

    def digest(self, numbers: range | None = None) -> str:
        """Digest of all paths and labels; with `numbers`, of the paths, labels and lengths of these files."""
        state = hashlib.blake2b(digest_size=8)
        for number in range(len(self)) if numbers is None else numbers:
            length = 0 if numbers is None else self._length(number)
            state.update(f"{self.name(number)}\0{self.labels[number]}\0{length}\n".encode())
        return state.hexdigest()

    def _length(self, number: int) -> int:
        try:
            return os.stat(self.paths[number]).st_size
        except OSError:  # a dangling link
            return -1


def shard_range(index: Index, shard: int) -> range:
    """Numbers of the source files of a shard."""
    return range(shard * index.shard_images, min((shard + 1) * index.shard_images, index.files))
