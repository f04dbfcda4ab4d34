"""Read a pack: the images of a raw pack are views of files in the page cache."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.data.dataset import IndexedDataset, decoded_where, load
from gpuaug.data.decode import ImageError
from gpuaug.data.packs.format import Entry, Index, Shard, arrow, open_shard
from gpuaug.data.transport.encoded import EncodedImage

if TYPE_CHECKING:
    from gpuaug.augment import Augment

__all__ = ["Packed", "verify"]


class Packed(IndexedDataset[int]):
    """The images of a pack that `pack` or `gpuaug pack` wrote.

    A sample is (image, label, index): a uint8 (3, H, W) tensor or an encoded image, the class number, and the image's
    number. An image of a raw pack is a view of the file; the first copy is made when a batch is packed. Writing to that
    view changes what this process sees, never the file. As with every memory-mapped file, the system ends the process
    (SIGBUS) if a shard is shortened while it is read.

    Args:
        path: Path of the pack's folder.
        decode: "worker" or "device": where images are decoded, see ImageFolder. "worker" for a raw pack, which contains
            decoded pixels.
        on_error: "raise": an unreadable or damaged image raises an ImageError that names it. "skip": the next readable
            image is returned instead, with a warning. A shard with a damaged table raises an ImageError in both cases.
        verify: Whether to compare the checksum of each image whenever it is read. The checksum of a shard's table is
            always compared when the shard is opened.
        regions: As of ImageFolder, for a pack that is not raw. JPEGs with tiles, as packs have them, need no
            nvImageCodec.

    Attributes:
        encoding: "raw", "jpeg" or "same".
        classes: Class names, sorted.
        class_to_idx: {class name: class number}.
        targets: Class number of every image. Read from all shards on each access.
        skipped: Number of samples that were replaced so far (`on_error="skip"`), in all workers.

    Raises:
        ValueError: If an argument has a wrong type or value, or if `path` is no pack or an unfinished one.
        ImageError: If a shard is missing or truncated.
        ModuleNotFoundError: If pyarrow is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        decode: str = "worker",
        on_error: str = "raise",
        verify: bool = True,
        regions: Augment | None = None,
    ) -> None:
        super().__init__(on_error, regions)
        arrow()
        self.path, self.verify = checks.path(self, "path", path), verify
        self.decode = decoded_where(self, decode, regions)
        index = Index.read(self, self.path)
        self._entries = entries_of(self, self.path, index)
        self.encoding, self.classes = index.encoding, index.classes
        self.remedy = f"Delete that shard and run gpuaug pack again; gpuaug verify {self.path} finds all such shards."
        if self.encoding == "raw" and decode == "device":
            got = f"'device' for {self.path}, which contains pixels"
            raise checks.argument_error(self, "decode", "'worker' for a raw pack", got)
        if self.encoding == "raw" and regions is not None:
            got, remedy = f"a module for {self.path}, which contains pixels", "Its images are read without decoding."
            raise checks.argument_error(self, "regions", "None for a raw pack", got, remedy)
        for entry in self._entries:  # here, not in the middle of an epoch
            _check_length(self.path, entry, self.remedy)
        self._ends = np.cumsum([entry.images for entry in self._entries])
        self._open: dict[int, Shard] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # each process maps the shards that it reads

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def class_to_idx(self) -> dict[str, int]:
        """{class name: class number}."""
        return {name: number for number, name in enumerate(self.classes)}

    @property
    def targets(self) -> list[int]:
        """Class number of every image, read from all shards."""
        return [label for shard in range(len(self._entries)) for label in self._shard(shard).table["label"].tolist()]

    def _shard(self, number: int) -> Shard:
        if number not in self._open:
            self._open[number] = open_shard(self.path, self._entries[number])
        return self._open[number]

    def _locate(self, number: int) -> tuple[int, int]:
        """(number of the shard, row in its table) of an image."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return shard, number - int(self._ends[shard]) + self._entries[shard].images

    def _name(self, number: int) -> str:
        shard, row = self._locate(number)
        try:
            return self._shard(shard).path(row)
        except (ImageError, OSError):
            return f"image {row} of {self._entries[shard].file}"

    def _load(self, number: int) -> tuple[Tensor | EncodedImage, int]:
        image, label = self._load_encoded(number)
        if isinstance(image, EncodedImage):
            return load(image.data, image.name, self.decode, self.on_error), label
        return image, label

    def _load_encoded(self, number: int) -> tuple[Tensor | EncodedImage, int]:
        shard_number, row = self._locate(number)
        shard = self._shard(shard_number)
        start, length, _, _, crc32, height, width, label = shard.table[row].tolist()
        data = shard.data[start : start + length]
        if self.verify and zlib.crc32(data.data) != crc32:
            data = self._read(self.path / self._entries[shard_number].file, row, start, length, crc32)
        flat = torch.from_numpy(data)
        if self.encoding == "raw":
            return flat.view(height, width, 3).permute(2, 0, 1), label
        return EncodedImage(flat, shard.path(row), self.on_error), label

    @staticmethod
    def _read(path: Path, row: int, start: int, length: int, crc32: int) -> NDArray[np.uint8]:
        """The bytes of an image in the file, in case this process wrote to the view."""
        data = np.fromfile(path, np.uint8, length, offset=start)
        if zlib.crc32(data.data) != crc32:
            raise ImageError(f"{path} is damaged: its image {row} does not match its checksum")
        return data

    def __repr__(self) -> str:
        settings = f"decode={self.decode!r}, on_error={self.on_error!r}, verify={self.verify}"
        return f"Packed({str(self.path)!r}, {settings})"


def entries_of(owner: object, path: Path, index: Index) -> list[Entry]:
    """The shards of a finished pack.

    Raises:
        ValueError: If some are missing, or if they contain no image.
    """
    entries = [entry for entry in index.shards if entry is not None]
    if len(entries) < len(index.shards):
        got = f"{path} with {len(entries)} of {len(index.shards)} shards"
        raise checks.argument_error(owner, "path", "a finished pack", got, "Run gpuaug pack again, it continues there.")
    if not any(entry.images for entry in entries):
        raise checks.argument_error(owner, "path", "a pack with images", f"{path} with none")
    return entries


def _check_length(folder: Path, entry: Entry, remedy: str) -> None:
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
        path: Path of the pack's folder.
        report: Function of (bytes read, bytes in all) that is called after each shard.

    Returns:
        The damaged shards: {file name: description of the damage}.

    Raises:
        ValueError: If `path` is no pack, or an unfinished one.
    """
    folder = checks.path("verify", "path", path)
    entries = entries_of("verify", folder, Index.read("verify", folder))
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
    """A description of what is damaged in a shard; empty if nothing is."""
    try:
        shard = open_shard(folder, entry)
    except (ImageError, OSError) as error:
        return str(error)
    bad = [
        number
        for number, row in enumerate(shard.table)
        if zlib.crc32(shard.data[row["start"] : row["start"] + row["length"]].data) != row["crc32"]
    ]
    if not bad:
        return ""
    others = f" and {len(bad) - 1} more do" if len(bad) > 1 else " does"
    return f"{folder / entry.file} is damaged: its image {bad[0]} ({shard.path(bad[0])}){others} not match its checksum"
