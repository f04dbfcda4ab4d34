"""Read a pack: images are views of files in the page cache."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.data.dataset import DECODE, Decoded, load
from gpuaug.data.decode import ImageError
from gpuaug.data.packs.format import Entry, Index, Shard, arrow, open_shard
from gpuaug.data.transport.encoded import EncodedImage

__all__ = ["Packed", "verify"]


class Packed(Decoded):
    """The images that `gpuaug pack` wrote.

    An image of a raw pack is a view of the file: no copy is made until a batch is. Whoever writes to it changes what
    this process sees, never the file. A shard that somebody shortens while it is read ends the process (SIGBUS), as
    with every map.

    Args:
        path: of the pack.
        decode: of a JPEG pack, see ImageFolder. A raw pack has nothing left for the device to decode.
        on_error: see Decoded; a damaged image is one that cannot be read. A shard with a damaged table is more of them
            in a row than "skip" bears.
        verify: compare the checksum of each image whenever it is read. Tables are compared when a shard is opened,
            also without it.

    Attributes:
        classes, class_to_idx, targets: as ImageFolder's.

    Raises:
        ValueError: if `path` is no pack, or one that is not finished.
        ImageError: if a shard is missing or cut short.
        ModuleNotFoundError: without pyarrow.
    """

    def __init__(self, path: str | Path, decode: str = "worker", on_error: str = "raise", verify: bool = True) -> None:
        super().__init__(on_error)
        arrow()
        self.path, self.verify = checks.path(self, "path", path), verify
        self.decode = checks.one_of(self, "decode", decode, DECODE)
        index = Index.read(self, self.path)
        self._entries = finished(self, self.path, index)
        self.encoding, self.classes = index.encoding, index.classes
        self.remedy = f"Delete that shard and run gpuaug pack again; gpuaug verify {self.path} finds all such shards."
        if self.encoding == "raw" and decode == "device":
            got = f"'device' for {self.path}, which holds pixels"
            raise checks.argument_error(self, "decode", "'worker' for a raw pack", got)
        for entry in self._entries:  # here, not in the middle of an epoch
            _must_be_there(self.path, entry, self.remedy)
        self._ends = np.cumsum([entry.images for entry in self._entries])
        self._open: dict[int, Shard] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # each process maps the shards it reads

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.classes)}

    @property
    def targets(self) -> list[int]:
        """Read from all shards."""
        return [label for shard in range(len(self._entries)) for label in self._shard(shard).rows["label"].tolist()]

    def _shard(self, number: int) -> Shard:
        if number not in self._open:
            self._open[number] = open_shard(self.path, self._entries[number])
        return self._open[number]

    def _place(self, number: int) -> tuple[int, int]:
        """The shard of an image, and its row in it."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return shard, number - int(self._ends[shard]) + self._entries[shard].images

    def _name(self, number: int) -> str:
        shard, row = self._place(number)
        try:
            return self._shard(shard).path(row)
        except (ImageError, OSError):
            return f"image {row} of {self._entries[shard].file}"

    def _load(self, number: int) -> tuple[Tensor | EncodedImage, int]:
        place, row = self._place(number)
        shard = self._shard(place)
        start, length, _, _, crc32, height, width, label = shard.rows[row].tolist()
        data = shard.data[start : start + length]
        if self.verify and zlib.crc32(data.data) != crc32:
            data = self._read(self.path / self._entries[place].file, row, start, length, crc32)
        flat = torch.from_numpy(data)
        if self.encoding == "raw":
            return flat.view(height, width, 3).permute(2, 0, 1), label
        return load(flat, shard.path(row), self.decode, self.on_error), label

    @staticmethod
    def _read(path: Path, row: int, start: int, length: int, crc32: int) -> Any:
        """The bytes as the file has them, for the case that somebody wrote to an image."""
        data = np.fromfile(path, np.uint8, length, offset=start)
        if zlib.crc32(data.data) != crc32:
            raise ImageError(f"{path} is damaged: its image {row} does not match its checksum")
        return data

    def __repr__(self) -> str:
        settings = f"decode={self.decode!r}, on_error={self.on_error!r}, verify={self.verify}"
        return f"Packed({str(self.path)!r}, {settings})"


def finished(owner: object, path: Path, index: Index) -> list[Entry]:
    """The shards of an index that has all of them.

    Raises:
        ValueError: if some are missing, or they hold no image.
    """
    entries = [entry for entry in index.shards if entry is not None]
    if len(entries) < len(index.shards):
        got = f"{path} with {len(entries)} of {len(index.shards)} shards"
        raise checks.argument_error(
            owner, "path", "a finished pack", got, "Run gpuaug pack again, it goes on from there."
        )
    if not any(entry.images for entry in entries):
        raise checks.argument_error(owner, "path", "a pack with images", f"{path} with none")
    return entries


def _must_be_there(folder: Path, entry: Entry, remedy: str) -> None:
    path = folder / entry.file
    length = path.stat().st_size if path.exists() else None
    if length != entry.bytes:
        got = "none" if length is None else f"{length:,} bytes"
        raise ImageError(
            str(checks.argument_error("Packed", "path", f"a pack whose {path} has {entry.bytes:,} bytes", got, remedy))
        )


def verify(path: str | Path, report: Callable[[int, int], None] | None = None) -> dict[str, str]:
    """Read every byte of a pack and compare all checksums.

    Args:
        path: of the pack.
        report: called with (done, all) bytes.

    Returns:
        The damaged shards, and what is wrong with each.

    Raises:
        ValueError: if `path` is no pack, or one that is not finished.
    """
    folder = checks.path("verify", "path", path)
    entries = finished("verify", folder, Index.read("verify", folder))
    damaged, done, total = {}, 0, sum(entry.bytes for entry in entries)
    report = report or (lambda done, total: None)
    report(0, total)
    for entry in entries:
        if found := damage(folder, entry):
            damaged[entry.file] = found
        done += entry.bytes
        report(done, total)
    return damaged


def damage(folder: Path, entry: Entry) -> str:
    """What is wrong with a shard; nothing if it is whole."""
    try:
        shard = open_shard(folder, entry)
    except (ImageError, OSError) as error:
        return str(error)
    bad = [
        number
        for number, row in enumerate(shard.rows)
        if zlib.crc32(shard.data[row["start"] : row["start"] + row["length"]].data) != row["crc32"]
    ]
    if not bad:
        return ""
    others = f" and {len(bad) - 1} more do" if len(bad) > 1 else " does"
    return f"{folder / entry.file} is damaged: its image {bad[0]} ({shard.path(bad[0])}){others} not match its checksum"
