"""Decode, shrink and write a folder of images once, so that later epochs read them through the page cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import InterpolationMode, functional

from gpuaug import checks
from gpuaug.data.dataset import ON_ERROR, Strings
from gpuaug.data.decode import ImageError, decode, read, reason
from gpuaug.data.discover import find
from gpuaug.data.packs import format as shards
from gpuaug.data.packs.format import ENCODINGS, INDEX, PARTIAL, Entry, Index
from gpuaug.data.packs.writer import Image, Writer
from gpuaug.data.transport.encoded import unreadable
from gpuaug.data.workers import SPAWN, batches, cores

__all__ = ["Packing", "pack"]

# The operator of torchvision.io.encode_jpeg; the function itself warns that TorchCodec will take its place one day.
ENCODE_JPEG = torch.ops.image.encode_jpeg

AHEAD = 4  # images that each worker may have ready
REPLACE = 'Replace it, or pass on_error="skip", and pack again: finished shards stay.'

Report = Callable[[int, int], None]


class Packing(NamedTuple):
    """What `pack` made.

    Args:
        images: in the pack.
        bytes: of its shards.
        skipped: source files that are not in it, relative to the source, and why.
        seconds: this call took.
        written: images that this call wrote; an earlier one wrote the others.
        ignored: what is in the class folders and was not taken for an image: how many files of each ending, and how
            many "hidden" ones.
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
    """Write the images of a folder into shards that `Packed` reads.

    A call that was interrupted, in whatever way, goes on where it stopped when it is made again: a finished shard is
    kept if its length and table are right. Worker processes import the calling script anew, so a script calls this
    under `if __name__ == "__main__":`, or with workers=0.

    Args:
        source: holds a folder for each class, see ImageFolder.
        destination: a new or empty folder, or what an earlier call left.
        short_side: pixels. Larger images are made that small, by torchvision's bilinear resize with antialias on uint8;
            smaller ones stay as they are, none is enlarged. None: all keep their sizes.
        encoding: "raw": the pixels, (height, width, 3) uint8. "jpeg": encoded again, upright and in RGB, with colour at
            half the resolution (4:2:0), as torchvision.io.encode_jpeg; about a seventh of the space, and to be decoded.
        quality: of "jpeg", in [1, 100].
        workers: processes that decode; None is one for each core, 0 decodes here.
        shard_images: source files that make one shard.
        on_error: "raise" stops at a file that cannot be read. "skip" leaves it out, and names it in the result.
        extensions, is_valid_file, allow_empty: which files to take, see ImageFolder.
        report: called with (done, all) source files, at first with what an earlier call did.

    Raises:
        ImageError: if a file cannot be read, or none can. Finished shards stay.
        FileNotFoundError: if `source` does not exist; if it has no classes, or an empty one.
        OSError: if `destination` cannot be written to. Finished shards stay.
        ValueError: if an argument is out of range, or `destination` holds something else: another pack, one of a source
            that has changed, or no pack.
        ModuleNotFoundError: without pyarrow.
    """
    begin = time.perf_counter()
    shards.arrow()
    checks.one_of("pack", "encoding", encoding, ENCODINGS)
    checks.one_of("pack", "on_error", on_error, ON_ERROR)
    quality = checks.integer("pack", "quality", quality, 1, 100)
    shard_images = checks.integer("pack", "shard_images", shard_images, 1)
    short_side = short_side if short_side is None else checks.integer("pack", "short_side", short_side, 1)
    workers = cores() if workers is None else checks.integer("pack", "workers", workers, 0)
    source, folder = checks.folder("pack", "source", source), checks.path("pack", "destination", destination)
    if folder.exists():
        checks.folder("pack", "destination", folder)
    if folder.resolve().is_relative_to(source.resolve()):
        raise checks.argument_error(
            "pack", "destination", "outside of the source", str(folder), "It would be taken for a class."
        )
    listing = Listing(source, extensions, is_valid_file, allow_empty)
    index = Index(
        encoding=encoding,
        quality=quality if encoding == "jpeg" else None,
        short_side=short_side,
        files=len(listing),
        shard_images=shard_images,
        source=listing.digest(),
        classes=listing.classes,
        shards=[None] * -(-len(listing) // shard_images),
    )
    with _writing(folder), locked(folder):
        index.shards = kept(folder, index, listing)
        written = _write(folder, index, listing, workers, on_error, report)
    entries = [entry for entry in index.shards if entry is not None]
    skipped = {path: why for entry in entries for path, why in entry.skipped.items()}
    images = sum(entry.images for entry in entries)
    if images == 0:
        path, why = next(iter(skipped.items()), ("every class", "no image"))
        raise checks.argument_error(
            "pack", "source", "a folder with images that can be read", f"{source} ({path}: {why}, ...)"
        )
    size, seconds = sum(entry.bytes for entry in entries), time.perf_counter() - begin
    return Packing(images, size, skipped, seconds, written, listing.ignored)


# ---- the source ------------------------------------------------------------------------------------------------------


class Listing:
    """The files of a source, in their order."""

    def __init__(self, root: Path, *options: Any) -> None:
        found = find("pack", root, *options)
        self.root, self.classes, self.ignored = root, found.classes, found.ignored
        self.labels, self.paths = np.array(found.labels, np.int64), Strings(found.paths)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        """The path relative to the root; what is not UTF-8 in it is escaped."""
        path = self.paths[number][len(str(self.root)) :].lstrip(os.sep).replace(os.sep, "/")
        return path.encode("utf-8", "backslashreplace").decode()

    def digest(self, numbers: range | None = None) -> str:
        """Of paths and labels; of some files also their lengths."""
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


def span(index: Index, shard: int) -> range:
    """Numbers of the source files of a shard."""
    return range(shard * index.shard_images, min((shard + 1) * index.shard_images, index.files))


# ---- what an earlier call left ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time writes into a folder, which is made; the system opens the lock when the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        got = f"{folder}, which another process writes into"
        raise checks.argument_error("pack", "destination", "a folder that nobody uses", got, "Wait for it.") from None
    except OSError:
        pass  # a network file system without locks
    try:
        yield
    finally:
        os.close(handle)


def kept(folder: Path, index: Index, listing: Listing) -> list[Entry | None]:
    """The finished shards of an earlier call; the index of a new pack is written here."""
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if INDEX not in names:
        other = sorted(name for name in names if not name.endswith(PARTIAL))
        if other:
            got = f"{folder} with {other[0]} in it"
            raise checks.argument_error(
                "pack", "destination", "a new or empty folder, or what an earlier call left", got
            )
        index.write(folder)
    old = Index.read("pack", folder)
    _must_match(folder, old, index)
    for name in names:
        if name.endswith(PARTIAL):
            (folder / name).unlink(missing_ok=True)
    whole = [entry if entry and is_whole(folder, entry) else None for entry in old.shards]
    for shard, entry in enumerate(whole):
        if entry and entry.source != listing.digest(span(index, shard)):
            first, last = (listing.name(span(index, shard)[end]) for end in (0, -1))
            got = f"files of other lengths between {first} and {last}"
            remedy = f"Delete {folder / entry.file} to have them packed again, or choose another destination."
            raise checks.argument_error("pack", "source", f"as it was when {folder} was packed from it", got, remedy)
    return whole


def _must_match(folder: Path, old: Index, new: Index) -> None:
    """One error that says what differs from the pack that is there."""
    expected = f"as in the pack that {folder} holds"
    for name in ("encoding", "quality", "short_side", "shard_images"):
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            remedy = "Pass the same settings, or another destination."
            raise checks.argument_error("pack", name, f"{before!r}, {expected}", repr(now), remedy)
    if old.source != new.source or old.classes != new.classes:
        before, now = (f"{index.files} files in {len(index.classes)} classes" for index in (old, new))
        got = f"{now}, with other names" if before == now else now
        raise checks.argument_error("pack", "source", f"{before}, {expected}", got, "Choose another destination.")


def is_whole(folder: Path, entry: Entry) -> bool:
    """By its length and its table; `gpuaug verify` reads the images too."""
    try:
        shards.open_shard(folder, entry)
    except (ImageError, OSError):
        return False
    return True


# ---- writing ---------------------------------------------------------------------------------------------------------


class Images(Dataset[Image | ImageError]):
    """What goes into the pack, made in the workers; in place of one that cannot be read, the reason."""

    def __init__(self, paths: Strings, short_side: int | None, quality: int | None) -> None:
        self.paths, self.short_side, self.quality = paths, short_side, quality

    def __getitem__(self, number: int) -> Image | ImageError:
        try:
            image = shrunk(decode(read(self.paths[number])), self.short_side)
            data = pixels(image) if self.quality is None else encoded(image, self.quality)
        except (ImageError, OSError) as error:
            return ImageError(reason(error))
        return Image(data.numpy(), image.shape[1], image.shape[2], zlib.crc32(data.numpy().data))


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
def _writing(folder: Path) -> Iterator[None]:
    """What the system says, in the form of an error."""
    try:
        yield
    except OSError as error:
        got = f"{folder} ({error.strerror or error})"
        remedy = "Make room or mend it, and pack again: finished shards stay."
        raise type(error)(
            str(checks.argument_error("pack", "destination", "a folder to write into", got, remedy))
        ) from error


def _write(
    folder: Path, index: Index, listing: Listing, workers: int, on_error: str, report: Report | None
) -> int:  # images
    """Write the shards that are missing."""
    missing = [shard for shard, entry in enumerate(index.shards) if entry is None]
    numbers = [number for shard in missing for number in span(index, shard)]
    report = report or (lambda done, total: None)
    done, written = index.files - len(numbers), 0
    report(done, index.files)
    with batches(_loader(Images(listing.paths, index.short_side, index.quality), numbers, workers)) as images:
        for shard in missing:
            skipped = {}
            with Writer(folder / f"shard-{shard:05d}.arrow", index.encoding) as writer:
                for number in span(index, shard):
                    image, name = _next(images), listing.name(number)
                    if isinstance(image, Image):
                        writer.add(image, int(listing.labels[number]), name)
                    elif on_error == "raise":
                        raise unreadable("pack", listing.paths[number], image, REPLACE)
                    else:
                        skipped[name] = str(image)
                    done += 1
                    report(done, index.files)
                digest = listing.digest(span(index, shard))
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
        raise RuntimeError(f"pack: worker processes ended; each imports the calling script anew. {remedy}") from error


def _loader(images: Images, numbers: Sequence[int], workers: int) -> DataLoader[Any]:
    workers = min(workers, len(numbers))
    options = {"num_workers": workers, "prefetch_factor": AHEAD, **SPAWN} if workers else {}
    # as_it_is: arrays go through a pipe; /dev/shm may be too small for images of any size
    return DataLoader(images, batch_size=None, sampler=numbers, collate_fn=as_it_is, **options)


def as_it_is(image: Any) -> Any:
    return image
