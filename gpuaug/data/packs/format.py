"""A pack on disk: Arrow IPC files of images, and an index that tells them whole from damaged.

Why Arrow and not another format: benchmarks/NOTES.md. A shard is an Arrow file with a row for each image:

    image   large_binary  uint8 (height, width, 3) of a raw pack, the file of a JPEG one
    height, width  int32  pixels
    label   int64         place in the index's `classes`
    path    string        of the source, relative to its root
    crc32   uint32        of `image`

`index.json` holds the settings and, for each finished shard, its length and the crc32 of all its bytes that are not
image bytes. So every bit of a shard is under one checksum or another, and Arrow's reader never sees a damaged byte.
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

__all__ = ["ENCODINGS", "INDEX", "PARTIAL", "Entry", "Index", "Shard", "arrow", "describe", "open_shard", "sync"]

VERSION = 1
INDEX = "index.json"
PARTIAL = ".partial"  # ends the name of a file that is being written
ENCODINGS = ("raw", "jpeg")

PLACE = [("start", "i8"), ("length", "i8"), ("path_start", "i8"), ("path_length", "i4")]  # bytes of the file
ROW = np.dtype([*PLACE, ("crc32", "u4"), ("height", "i4"), ("width", "i4"), ("label", "i8")])


def arrow() -> Any:
    """The library, imported when a pack is written or read."""
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

    Args:
        file: its name.
        images: how many it holds.
        bytes: length of the file.
        crc32: of the file without its spans.
        spans: (first byte, bytes) of the images of each record batch.
        source: digest of paths, labels and lengths of the files it was made from.
        skipped: files that could not be read, and why.
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
    """What `index.json` says.

    Args:
        encoding: "raw" or "jpeg".
        quality: of a JPEG pack.
        short_side: pixels, None where the images keep their sizes.
        files: of the source, also those that were skipped.
        shard_images: files that make one shard.
        source: digest of the paths and labels of the source.
        classes: names, by label.
        shards: None for one that is not finished.
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
        """So that a reader finds the old one or the new one, also after a loss of power."""
        values = asdict(self)
        partial = folder / (INDEX + PARTIAL)
        with open(partial, "w", encoding="utf-8") as file:
            json.dump({"crc32": _crc32(values), **values}, file, indent=1)
            sync(file)
        os.replace(partial, folder / INDEX)
        sync_folder(folder)

    @classmethod
    def read(cls, owner: object, folder: Path) -> Index:
        """The index of a pack.

        Raises:
            ValueError: if there is none, it is damaged, or from a later version.
        """
        path = folder / INDEX
        try:
            values = json.loads(path.read_bytes())
            right = values.pop("crc32") == _crc32(values)
        except (FileNotFoundError, NotADirectoryError):
            raise checks.argument_error(
                owner, "path", "a folder that gpuaug pack made", f"{folder}, without {INDEX}"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            right = False
        if not right:
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
    """Have the disk hold what was written."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder; not a thing on Windows."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ---- a shard ---------------------------------------------------------------------------------------------------------


class Shard(NamedTuple):
    """An open shard: its bytes (n,) uint8, mapped, and a row of numbers for each image."""

    data: NDArray[np.uint8]
    rows: NDArray[Any]

    def path(self, number: int) -> str:
        """Of the source, relative to its root."""
        _, _, start, length, *_ = self.rows[number].tolist()
        return self.data[start : start + length].tobytes().decode()


def open_shard(folder: Path, entry: Entry) -> Shard:
    """Map a shard and check all of it but the images.

    Raises:
        ImageError: if it is missing, cut short or damaged.
    """
    path = folder / entry.file
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        raise ImageError(f"{path} is missing") from None
    if length != entry.bytes:
        raise ImageError(f"{path} is damaged: it has {length:,} bytes, not {entry.bytes:,}")
    data = mapped(path, length)
    if around(data, entry.spans) != entry.crc32:
        raise ImageError(f"{path} is damaged: its table does not match its checksum")
    return Shard(data, rows(data))


def mapped(path: Path, length: int) -> NDArray[np.uint8]:
    """The bytes of a file through the page cache; writing to them changes this process's copy only.

    numpy.memmap would keep a file descriptor open for each shard, and there can be more shards than descriptors.
    """
    return torch.from_file(str(path), shared=False, size=length, dtype=torch.uint8).numpy()


def around(data: NDArray[np.uint8], spans: list[list[int]]) -> int:
    """The crc32 of what is not in the spans."""
    value = begin = 0
    for start, length in [*spans, [len(data), 0]]:
        value, begin = zlib.crc32(data[begin:start].data, value), start + length
    return value


def describe(data: NDArray[np.uint8]) -> tuple[int, list[list[int]]]:
    """`crc32` and `spans` of a shard that was just written."""
    spans = [list(place(batch.column("image"), data)[2:]) for batch in batches(data)]
    return around(data, spans), spans


def rows(data: NDArray[np.uint8]) -> NDArray[Any]:
    """Where each image is, and the columns of numbers."""
    parts = [np.empty(0, ROW)]
    for batch in batches(data):
        part = np.empty(batch.num_rows, ROW)
        part["start"], part["length"], *_ = place(batch.column("image"), data)
        part["path_start"], part["path_length"], *_ = place(batch.column("path"), data)
        for name in ("crc32", "height", "width", "label"):
            part[name] = batch.column(name).to_numpy()
        parts.append(part)
    return np.concatenate(parts)


def batches(data: NDArray[np.uint8]) -> list[Any]:
    """The record batches of a shard; they point into `data`."""
    pa = arrow()
    options = pa.ipc.IpcReadOptions(use_threads=False)  # a worker may be a fork
    reader = pa.ipc.open_file(pa.py_buffer(data), options=options)
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def place(column: Any, data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    """Starts and lengths of a column's values in the file, and of all of them together."""
    _, offsets, values = column.buffers()
    wide = np.int64 if str(column.type).startswith("large") else np.int32
    ends = np.frombuffer(offsets, wide, len(column) + 1).astype(np.int64)
    begin = values.address - data.ctypes.data
    return begin + ends[:-1], np.diff(ends), int(begin + ends[0]), int(ends[-1] - ends[0])
