"""Continue an interrupted pack: the destination's lock, its finished shards, and whether the settings match."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from gpuaug import checks
from gpuaug.data.decode import ImageError
from gpuaug.data.packs.format import INDEX, PARTIAL, Entry, Index, open_shard
from gpuaug.data.packs.source import Source, shard_range

__all__ = ["finished_shards", "locked"]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and lock it, so that one process at a time writes into it.

    The system releases the lock when the process ends.

    Raises:
        ValueError: If another process has the lock.
    """
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
        expected = "a folder that no other process uses"
        raise checks.argument_error("pack", "destination", expected, got, "Wait for it.") from None
    except OSError:
        pass  # a network file system without locks
    try:
        yield
    finally:
        os.close(handle)


def finished_shards(folder: Path, index: Index, source: Source) -> list[Entry | None]:
    """The finished shards of an earlier call, None for the others. Writes the index of a new pack.

    Raises:
        ValueError: If the folder contains something else, or if settings or source differ from the earlier call's.
    """
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
    shards = [entry if entry and is_intact(folder, entry) else None for entry in old.shards]
    for shard, entry in enumerate(shards):
        if entry and entry.source != source.digest(shard_range(index, shard)):
            first, last = (source.name(shard_range(index, shard)[end]) for end in (0, -1))
            got = f"files of other lengths between {first} and {last}"
            remedy = f"Delete {folder / entry.file} to have them packed again, or choose another destination."
            raise checks.argument_error("pack", "source", f"as it was when {folder} was packed from it", got, remedy)
    return shards


def _must_match(folder: Path, old: Index, new: Index) -> None:
    """Raise an error that says what differs from the pack in the folder."""
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


def is_intact(folder: Path, entry: Entry) -> bool:
    """Whether a shard's length and table are right; `gpuaug verify` reads the images too."""
    try:
        open_shard(folder, entry)
    except (ImageError, OSError):
        return False
    return True
