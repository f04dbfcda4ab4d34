"""Write a pack: decode and shrink the images of a folder once, so that later epochs read them from the page cache."""

from __future__ import annotations

import contextlib
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import InterpolationMode, functional

from gpuaug import checks
from gpuaug.data.dataset import ON_ERROR
from gpuaug.data.decode import ImageError, decode, is_jpeg, read, reason
from gpuaug.data.discover import Strings
from gpuaug.data.packs import format as shards
from gpuaug.data.packs.format import ENCODINGS, Index
from gpuaug.data.packs.resume import finished_shards, locked
from gpuaug.data.packs.retile import can_tile, retiled
from gpuaug.data.packs.source import Source, shard_range
from gpuaug.data.packs.writer import Image, Writer
from gpuaug.data.transport.encoded import unreadable
from gpuaug.data.workers import SPAWN, batches, cores

__all__ = ["Packing", "pack"]

# The operator of torchvision.io.encode_jpeg; the function itself warns that TorchCodec will replace it.
ENCODE_JPEG = torch.ops.image.encode_jpeg
NO_TILES = (
    "pack: Numba is not installed, so JPEGs are written without tiles, and Packed(regions=...) needs nvImageCodec for "
    'them. Run pip install "gpuaug[cpu]".'
)

AHEAD = 4  # images that each worker prepares in advance
REPLACE = 'Replace it, or pass on_error="skip", and pack again: finished shards stay.'

Report = Callable[[int, int], None]


class Packing(NamedTuple):
    """The result of `pack`.

    Attributes:
        images: Number of images in the pack.
        bytes: Length of its shards.
        skipped: Source files that were left out as unreadable: {path relative to the source: reason}.
        seconds: Duration of this call.
        written: Number of images that this call wrote; an earlier call wrote the others.
        ignored: Counts of other files in the class folders: {file ending or "hidden": number of files}.
    """

    images: int
    bytes: int
    skipped: dict[str, str]
    seconds: float
    written: int
    ignored: dict[str, int]


def pack(
    source: str | Path,
    destination: str | Path,
    *,
    short_side: int | None = 256,
    encoding: str = "raw",
    quality: int = 95,
    workers: int | None = None,
    shard_images: int = 1024,
    on_error: str = "raise",
    extensions: str | Sequence[str] | None = None,
    is_valid_file: Callable[[str], bool] | None = None,
    allow_empty: bool = False,
    report: Report | None = None,
) -> Packing:
    """Write the images of a folder into a pack, a folder of shards that `Packed` reads.

    After an interruption of any kind, call it again with the same arguments: it continues where it stopped. Shards with
    the right length and table are not written again. Worker processes import the calling script, so call this under
    `if __name__ == "__main__":`, or with workers=0.

    Args:
        source: Path of a folder that contains one folder for each class, see ImageFolder.
        destination: Path of a new or empty folder, or of the folder of an interrupted call.
        short_side: Largest short side of an image, in pixels. Larger images are resized to it, by torchvision's
            bilinear resize with antialias on uint8; smaller images are unchanged. None: all images keep their sizes.
        encoding: "raw": pixels, (height, width, 3) uint8. "jpeg": JPEG, upright and RGB, with colour at half the
            resolution (4:2:0), as torchvision.io.encode_jpeg. It needs about a seventh of the space, and decoding.
            "same": the files themselves, with `short_side=None`; their pixels do not change. "jpeg" and "same" write
            JPEGs in tiles (1 % more bytes) where Numba is installed, so that `Packed(regions=...)` decodes only what a
            draw reads; progressive files cannot have tiles.
        quality: JPEG quality, in [1, 100], for "jpeg".
        workers: Number of processes that decode. None: one for each core. 0: this process decodes.
        shard_images: Number of source files per shard.
        on_error: "raise": stop at an unreadable file. "skip": leave it out, and list it in the result.
        extensions: File endings to include, see ImageFolder.
        is_valid_file: Function of a path that returns whether to include the file, see ImageFolder.
        allow_empty: Whether a class may have no image.
        report: Function of (source files done, source files in all) that is called after each file, and once before
            the first with the files of an earlier call.

    Returns:
        Packing: The number of images, their bytes, the skipped files, and the duration.

    Raises:
        ImageError: If a file cannot be read. Finished shards stay.
        FileNotFoundError: If `source` does not exist or has no class folder, or if a class has no image and
            `allow_empty` is False.
        OSError: If `destination` cannot be written to. Finished shards stay.
        ValueError: If an argument has a wrong type or value, if no file can be read, or if `destination` contains
            something else: another pack, a pack of a source that has changed since, or other files.
        ModuleNotFoundError: If pyarrow is not installed.
    """
    begin = time.perf_counter()
    shards.arrow()
    checks.one_of("pack", "encoding", encoding, ENCODINGS)
    checks.one_of("pack", "on_error", on_error, ON_ERROR)
    quality = checks.integer("pack", "quality", quality, 1, 100)
    shard_images = checks.integer("pack", "shard_images", shard_images, 1)
    short_side = short_side if short_side is None else checks.integer("pack", "short_side", short_side, 1)
    _check_encoding(encoding, short_side)
    workers = cores() if workers is None else checks.integer("pack", "workers", workers, 0)
    source, folder = _folders(source, destination)
    files = Source(source, extensions, is_valid_file, allow_empty)
    index = Index(
        encoding=encoding,
        quality=quality if encoding == "jpeg" else None,
        short_side=short_side,
        files=len(files),
        shard_images=shard_images,
        source=files.digest(),
        classes=files.classes,
        shards=[None] * -(-len(files) // shard_images),
    )
    with _os_errors(folder), locked(folder):
        index.shards = finished_shards(folder, index, files)
        written = _write(folder, index, files, workers, on_error, report)
    return _result(index, files, written, time.perf_counter() - begin)


def _folders(source: str | Path, destination: str | Path) -> tuple[Path, Path]:
    """Both folders, checked."""
    source, folder = checks.folder("pack", "source", source), checks.path("pack", "destination", destination)
    if folder.exists():
        checks.folder("pack", "destination", folder)
    if folder.resolve().is_relative_to(source.resolve()):
        remedy = "Inside, it would count as a class."
        raise checks.argument_error("pack", "destination", "outside of the source", str(folder), remedy)
    return source, folder


def _check_encoding(encoding: str, short_side: int | None) -> None:
    """Raise if files are to stay the same and shrink; warn if JPEGs cannot have tiles."""
    if encoding == "same" and short_side is not None:
        remedy = 'Pass short_side=None (on the command line --short-side 0), or encoding="jpeg".'
        raise checks.argument_error("pack", "short_side", 'None with encoding="same"', short_side, remedy)
    if encoding != "raw" and not can_tile():
        warnings.warn(NO_TILES, stacklevel=3)


def _result(index: Index, source: Source, written: int, seconds: float) -> Packing:
    entries = [entry for entry in index.shards if entry is not None]
    skipped = {path: why for entry in entries for path, why in entry.skipped.items()}
    images = sum(entry.images for entry in entries)
    if images == 0:
        path, why = next(iter(skipped.items()), ("every class", "no image"))
        expected, got = "a folder with images that can be read", f"{source.root} ({path}: {why}, ...)"
        raise checks.argument_error("pack", "source", expected, got)
    return Packing(images, sum(entry.bytes for entry in entries), skipped, seconds, written, source.ignored)


class Images(Dataset[Image | ImageError]):
    """The images of a pack, decoded and encoded in the workers; an ImageError for an unreadable one."""

    def __init__(self, paths: Strings, index: Index) -> None:
        self.paths, self.short_side = paths, index.short_side
        self.encoding, self.quality = index.encoding, index.quality

    def __getitem__(self, number: int) -> Image | ImageError:
        try:
            file = read(self.paths[number])
            image = shrunk(decode(file), self.short_side)
            data = pixels(image) if self.encoding == "raw" else self._file(file, image)
        except (ImageError, OSError) as error:
            return ImageError(reason(error))
        return Image(data.numpy(), image.shape[1], image.shape[2], zlib.crc32(data.numpy().data))

    def _file(self, file: Tensor, image: Tensor) -> Tensor:
        """The JPEG, with tiles where it can have them; "same" is the file itself, if not its pixels would change."""
        if self.encoding == "jpeg":
            data = encoded(image, self.quality or 0)
            return retiled(data) if can_tile() else data
        tiled = retiled(file) if can_tile() and is_jpeg(file) else file
        return tiled if tiled is file or torch.equal(decode(tiled), image) else file


def shrunk(image: Tensor, short_side: int | None) -> Tensor:
    if short_side is None or min(image.shape[1:]) <= short_side:
        return image
    return functional.resize(image, [short_side], InterpolationMode.BILINEAR, antialias=True)


def pixels(image: Tensor) -> Tensor:
    return image.permute(1, 2, 0).reshape(-1)


def encoded(image: Tensor, quality: int) -> Tensor:
    try:
        data: Tensor = ENCODE_JPEG(image.contiguous(), quality)
    except RuntimeError as error:  # sides of 65,536 pixels
        raise ImageError(reason(error)) from None
    return data


@contextlib.contextmanager
def _os_errors(folder: Path) -> Iterator[None]:
    """Give the system's errors the form of an argument error."""
    try:
        yield
    except OSError as error:
        got = f"{folder} ({error.strerror or error})"
        remedy = "Free space or set its permissions, and pack again: finished shards stay."
        raise type(error)(
            str(checks.argument_error("pack", "destination", "a folder to write into", got, remedy))
        ) from error


def _write(folder: Path, index: Index, source: Source, workers: int, on_error: str, report: Report | None) -> int:
    """Write the missing shards; return the number of images in them."""
    missing = [shard for shard, entry in enumerate(index.shards) if entry is None]
    numbers = [number for shard in missing for number in shard_range(index, shard)]
    report = report or (lambda done, total: None)
    done, written = index.files - len(numbers), 0
    report(done, index.files)
    with batches(_loader(Images(source.paths, index), numbers, workers)) as images:
        for shard in missing:
            skipped = {}
            with Writer(folder / f"shard-{shard:05d}.arrow", index.encoding) as writer:
                for number in shard_range(index, shard):
                    image, name = _next(images), source.name(number)
                    if isinstance(image, Image):
                        writer.add(image, int(source.labels[number]), name)
                    elif on_error == "raise":
                        raise unreadable("pack", source.paths[number], image, REPLACE)
                    else:
                        skipped[name] = str(image)
                    done += 1
                    report(done, index.files)
                digest = source.digest(shard_range(index, shard))
                index.shards[shard] = writer.finish(digest, skipped)
            index.write(folder)
            written += writer.images
    return written


def _next(images: Iterator[Any]) -> Any:
    try:
        return next(images)
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        remedy = 'Call it under `if __name__ == "__main__":` of a file, or pass workers=0.'
        raise RuntimeError(f"pack: worker processes ended. Each imports the calling script. {remedy}") from error


def _loader(images: Images, numbers: Sequence[int], workers: int) -> DataLoader[Any]:
    workers = min(workers, len(numbers))
    options = {"num_workers": workers, "prefetch_factor": AHEAD, **SPAWN} if workers else {}
    # Arrays, not tensors, so that images go through a pipe: /dev/shm may be too small for large ones.
    return DataLoader(images, batch_size=None, sampler=numbers, collate_fn=unchanged, **options)


def unchanged(image: Any) -> Any:
    return image
