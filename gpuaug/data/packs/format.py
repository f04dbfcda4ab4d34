"""A pack on disk: shards, which are Arrow IPC files of images, and an index with their checksums.

Why Arrow and not another format: docs/decisions.md. A shard has a row for each image:

    image   large_binary  raw pack: uint8 (height, width, 3); others: a file
    height, width  int32  pixels
    label   int64         class number, a position in the index's `classes`
    path    string        path of the source file, relative to the source's root
    crc32   uint32        of `image`

`index.json` holds the settings and, for each finished shard, its length and the crc32 of all its bytes that are not
image bytes. So a checksum covers every byte of a shard, and Arrow's reader never reads a damaged byte.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.data.decode import ImageError

__all__ = [
    "ENCODINGS",
    "INDEX",
    "PARTIAL",
    "Entry",
    "Index",
    "Shard",
    "arrow",
    "checksum_and_spans",
    "open_shard",
    "sync",
]

VERSION = 1
INDEX = "index.json"
PARTIAL = ".partial"  # suffix of a file that is being written
ENCODINGS = ("raw", "jpeg", "same")

SPANS = [("start", "i8"), ("length", "i8"), ("path_start", "i8"), ("path_length", "i4")]  # in bytes of the file
ROW = np.dtype([*SPANS, ("crc32", "u4"), ("height", "i4"), ("width", "i4"), ("label", "i8")])


def arrow() -> Any:
    """The pyarrow library, imported only when a pack is written or read.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise ModuleNotFoundError('gpuaug: packs need pyarrow. Run pip install "gpuaug[pack]".') from None
    return pyarrow


# ---- the index -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A finished shard.

    Attributes:
        file: Name of the file.
        images: Number of images.
        bytes: Length of the file.
        crc32: Checksum of all bytes outside of `spans`.
        spans: (first byte, number of bytes) of the images of each record batch.
        source: Digest of the paths, labels and lengths of its source files.
        skipped: Unreadable source files: {path: reason}.
    """

    file: str
    images: int
    bytes: int
    crc32: int
    spans: list[list[int]]
    source: str
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass
class Index:
    """The content of `index.json`.

    Attributes:
        encoding: "raw", "jpeg" or "same".
        quality: JPEG quality; None unless the encoding is "jpeg".
        short_side: Largest short side of an image, in pixels; None if the images keep their sizes.
        files: Number of source files, skipped ones included.
        shard_images: Number of source files per shard.
        source: Digest of the paths and labels of the source.
        classes: Class names; the position is the class number.
        shards: Finished shards; None for one that is not finished.
        version: Version of the format.
    """

    encoding: str
    quality: int | None
    short_side: int | None
    files: int
    shard_images: int
    source: str
    classes: list[str]
    shards: list[Entry | None]
    version: int = VERSION

    def write(self, folder: Path) -> None:
        """Replace the file in one step: after a power loss it is the old one or the new one."""
        values = asdict(self)
        partial = folder / (INDEX + PARTIAL)
        with open(partial, "w", encoding="utf-8") as file:
            json.dump({"crc32": _crc32(values), **values}, file, indent=1)
            sync(file)
        os.replace(partial, folder / INDEX)
        sync_folder(folder)

    @classmethod
    def read(cls, owner: object, folder: Path) -> Index:
        """Read the index of a pack.

        Raises:
            ValueError: If there is none, or if it is damaged or from a later version.
        """
        path = folder / INDEX
        try:
            values = json.loads(path.read_bytes())
            intact = values.pop("crc32") == _crc32(values)
        except (FileNotFoundError, NotADirectoryError):
            raise checks.argument_error(
                owner, "path", "a folder that gpuaug pack made", f"{folder}, without {INDEX}"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            intact = False
        if not intact:
            remedy = "Put a copy of it back, or delete the folder and run gpuaug pack again."
            raise checks.argument_error(owner, "path", f"a pack with a whole {INDEX}", f"a damaged {path}", remedy)
        if values["version"] != VERSION:
            got = f"version {values['version']} in {path}"
            raise checks.argument_error(owner, "path", f"a pack of version {VERSION}", got, "Install a later gpuaug.")
        values["shards"] = [entry and Entry(**entry) for entry in values["shards"]]
        return cls(**values)


def _crc32(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def sync(file: Any) -> None:
    """Write a file's data to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ---- a shard ---------------------------------------------------------------------------------------------------------


class Shard(NamedTuple):
    """An open shard.

    Attributes:
        data: All bytes of the file, (n,) uint8, memory-mapped.
        table: (images,) of dtype ROW, a row of numbers for each image.
    """

    data: NDArray[np.uint8]
    table: NDArray[np.void]

    def path(self, row: int) -> str:
        """Path of the source file of an image, relative to the source's root."""
        _, _, start, length, *_ = self.table[row].tolist()
        return self.data[start : start + length].tobytes().decode()


def open_shard(folder: Path, entry: Entry) -> Shard:
    """Map a shard, and check everything in it except the images.

    Raises:
        ImageError: If it is missing, truncated or damaged.
    """
    path = folder / entry.file
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        raise ImageError(f"{path} is missing") from None
    if length != entry.bytes:
        raise ImageError(f"{path} is damaged: it has {length:,} bytes, not {entry.bytes:,}")
    data = map_file(path, length)
    if table_crc32(data, entry.spans) != entry.crc32:
        raise ImageError(f"{path} is damaged: its table does not match its checksum")
    return Shard(data, read_table(data))


def map_file(path: Path, length: int) -> NDArray[np.uint8]:
    """Memory-map a file; writing to the array changes this process's copy only.

    numpy.memmap would keep a file descriptor open for each shard, and there may be more shards than descriptors.
    """
    return torch.from_file(str(path), shared=False, size=length, dtype=torch.uint8).numpy()


def table_crc32(data: NDArray[np.uint8], spans: list[list[int]]) -> int:
    """The crc32 of all bytes outside of the spans."""
    value = begin = 0
    for start, length in [*spans, [len(data), 0]]:
        value, begin = zlib.crc32(data[begin:start].data, value), start + length
    return value


def checksum_and_spans(data: NDArray[np.uint8]) -> tuple[int, list[list[int]]]:
    """`Entry.crc32` and `Entry.spans` of a shard that was just written."""
    spans = [list(span_of(batch.column("image"), data)[2:]) for batch in record_batches(data)]
    return table_crc32(data, spans), spans


def read_table(data: NDArray[np.uint8]) -> NDArray[np.void]:
    """The table of a shard: where each image and path is in the file, and the columns of numbers."""
    parts = [np.empty(0, ROW)]
    for batch in record_batches(data):
        part = np.empty(batch.num_rows, ROW)
        part["start"], part["length"], *_ = span_of(batch.column("image"), data)
        part["path_start"], part["path_length"], *_ = span_of(batch.column("path"), data)
        for name in ("crc32", "height", "width", "label"):
            part[name] = batch.column(name).to_numpy()
        parts.append(part)
    return np.concatenate(parts)


def record_batches(data: NDArray[np.uint8]) -> list[Any]:
    """The Arrow record batches of a shard; they share memory with `data`."""
    pa = arrow()
    options = pa.ipc.IpcReadOptions(use_threads=False)  # threads hang in a forked worker
    reader = pa.ipc.open_file(pa.py_buffer(data), options=options)
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def span_of(column: Any, data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    """(starts, lengths, start, length) in bytes of the file: of each value of a column, and of all its values."""
    _, offsets, values = column.buffers()
    wide = np.int64 if str(column.type).startswith("large") else np.int32
    ends = np.frombuffer(offsets, wide, len(column) + 1).astype(np.int64)
    begin = values.address - data.ctypes.data
    return begin + ends[:-1], np.diff(ends), int(begin + ends[0]), int(ends[-1] - ends[0])
