"""Write a shard of a pack, as an Arrow file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuaug.data.packs import format as shards
from gpuaug.data.packs.format import PARTIAL, Entry

__all__ = ["Image", "Writer"]

BATCH_BYTES = 64 << 20  # of images in a record batch, which packing holds in memory; a larger image has its own batch


class Image(NamedTuple):
    """An image of a shard: its row without label and path."""

    data: NDArray[np.uint8]
    height: int
    width: int
    crc32: int


class Writer:
    """Write one shard. The file gets its name when it is finished; an unfinished file is deleted.

    Args:
        path: Path of the finished file.
        encoding: "raw", "jpeg" or "same".
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self._pa = pa = shards.arrow()
        self.path, self.images = path, 0
        self._file: Any = None
        self._partial = path.with_name(path.name + PARTIAL)
        columns = {"image": pa.large_binary(), "height": pa.int32(), "width": pa.int32(), "label": pa.int64()}
        about = {"gpuaug.version": str(shards.VERSION), "gpuaug.encoding": encoding}
        self._schema = pa.schema({**columns, "path": pa.string(), "crc32": pa.uint32()}, about)
        self._clear()

    def _clear(self) -> None:
        self._data, self._ends = bytearray(), [0]
        self._columns: dict[str, list[Any]] = {name: [] for name in ("height", "width", "label", "path", "crc32")}

    def __enter__(self) -> Writer:
        try:
            self._file = open(self._partial, "wb")
            self._arrow = self._pa.ipc.new_file(self._file, self._schema)
            return self
        except BaseException:  # Ctrl-C too: Python does not call __exit__ after a failed __enter__
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk has no room for the last bytes either
                self._file.close()
        self._partial.unlink(missing_ok=True)  # a finished shard has another name

    def add(self, image: Image, label: int, path: str) -> None:
        if self._data and len(self._data) + len(image.data) > BATCH_BYTES:
            self._flush()
        self._data += image.data.data
        self._ends.append(len(self._data))
        row = {"height": image.height, "width": image.width, "label": label, "path": path, "crc32": image.crc32}
        for name, value in row.items():
            self._columns[name].append(value)
        self.images += 1

    def _flush(self) -> None:
        """Write a record batch."""
        pa = self._pa
        buffers = [None, pa.py_buffer(np.array(self._ends, np.int64)), pa.py_buffer(self._data)]
        images = pa.Array.from_buffers(pa.large_binary(), len(self._ends) - 1, buffers)
        columns = [
            images if field.name == "image" else pa.array(self._columns[field.name], field.type)
            for field in self._schema
        ]
        self._arrow.write_batch(pa.record_batch(columns, schema=self._schema))
        self._clear()

    def finish(self, source: str, skipped: dict[str, str]) -> Entry:
        """Close the file, read it back for its checksum, and give it its name."""
        if self._data:
            self._flush()
        self._arrow.close()
        shards.sync(self._file)
        self._file.close()
        length = self._partial.stat().st_size
        crc32, spans = shards.checksum_and_spans(shards.map_file(self._partial, length))
        os.replace(self._partial, self.path)
        return Entry(self.path.name, self.images, length, crc32, spans, source, skipped)
