"""Find the images of a folder, and the class of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpuaug import checks

__all__ = ["EXTENSIONS", "Found", "Strings", "find", "left_out"]

# Every file ending of the formats that `decode` supports.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs"),
)
SHOWN = 5  # file endings, or classes, that a message lists

Valid = Callable[[str], bool]


class Found(NamedTuple):
    """The images of a folder, class by class, in torchvision's order.

    Attributes:
        classes: Names of the class folders, sorted.
        paths: Paths of the images.
        labels: Class number of each image.
        ignored: Counts of what is left out of the class folders: {file ending or "hidden": number of files}.
    """

    classes: list[str]
    paths: list[str]
    labels: list[int]
    ignored: dict[str, int]


def find(
    owner: object,
    root: Path,
    extensions: str | Sequence[str] | None = None,
    is_valid_file: Valid | None = None,
    allow_empty: bool = False,
) -> Found:
    """Find the images below the folders in `root`; hidden files and folders (`.ipynb_checkpoints`) are left out.

    Raises:
        FileNotFoundError: If there are no class folders, or if one has no image and `allow_empty` is False.
        OSError: If a folder cannot be read.
        ValueError: If an argument has a wrong type or value.
    """
    endings = _endings(owner, extensions)
    if is_valid_file is not None and (extensions is not None or not callable(is_valid_file)):
        expected, got = "None, or a function of a path without `extensions`", checks.describe(is_valid_file)
        raise checks.argument_error(owner, "is_valid_file", expected, f"{got} with extensions" if extensions else got)
    valid = is_valid_file or (lambda path: path.lower().endswith(endings))
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    found = Found([name for name in folders if not name.startswith(".")], [], [], {})
    ignored = Counter({"hidden": len(folders) - len(found.classes)})
    for label, name in enumerate(found.classes):
        for path, hidden in _files(root / name, ignored):
            if not hidden and valid(path):
                found.paths.append(path)
                found.labels.append(label)
            else:
                ignored["hidden" if hidden else os.path.splitext(path)[1].lower() or "no ending"] += 1
    _must_hold_images(owner, root, found, allow_empty, endings if is_valid_file is None else None)
    found.ignored.update((kind, count) for kind, count in ignored.most_common() if count)
    return found


def _endings(owner: object, extensions: str | Sequence[str] | None) -> tuple[str, ...]:
    if extensions is None:
        return EXTENSIONS
    given = [extensions] if isinstance(extensions, str) else extensions
    good = isinstance(given, Sequence) and given and all(isinstance(end, str) and end[:1] == "." for end in given)
    if not good:
        expected = 'None, or file endings with their dot, such as (".jpg", ".png")'
        raise checks.argument_error(owner, "extensions", expected, checks.describe(extensions))
    return tuple(end.lower() for end in given)


def _files(folder: Path, ignored: Counter[str]) -> Iterator[tuple[str, bool]]:
    """(path, whether it is hidden) of each file below a folder, in torchvision's order."""
    places = []
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        shown = [name for name in folders if not name.startswith(".")]
        ignored["hidden"] += len(folders) - len(shown)
        folders[:] = shown
        places.append((place, sorted(files)))
    for place, files in sorted(places):
        for name in files:
            yield os.path.join(place, name), name.startswith(".")


def _raise(error: OSError) -> None:
    raise error  # os.walk would leave out an unreadable folder in silence


def _must_hold_images(
    owner: object, root: Path, found: Found, allow_empty: bool, endings: tuple[str, ...] | None
) -> None:
    if not found.classes:
        got = f"{root} with no folder in it"
        raise FileNotFoundError(
            str(checks.argument_error(owner, _argument(owner), "a folder with a folder for each class", got))
        )
    full = set(found.labels)
    empty = [name for label, name in enumerate(found.classes) if label not in full]
    if empty and not allow_empty:
        names = ", ".join(empty[:SHOWN]) + (f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else "")
        what = "a file that `is_valid_file` takes" if endings is None else f"an image ({', '.join(endings)})"
        remedy = "Remove these folders, or pass allow_empty=True."
        got = f"{root} with none in {names}"
        raise FileNotFoundError(
            str(checks.argument_error(owner, _argument(owner), f"a folder with {what} in each class", got, remedy))
        )


def _argument(owner: object) -> str:
    return "source" if owner == "pack" else "root"


def left_out(ignored: dict[str, int]) -> str:
    """The counts of `Found.ignored` in words: `3 files are left out: 2 .txt, 1 hidden`."""
    total, kinds = sum(ignored.values()), list(ignored.items())
    shown = ", ".join(f"{count:,} {kind}" for kind, count in kinds[:SHOWN])
    others = sum(count for _, count in kinds[SHOWN:])
    more = f", {others:,} of other kinds" if others else ""
    return f"{total:,} {'file is' if total == 1 else 'files are'} left out: {shown}{more}"


class Strings(Sequence[str]):
    """Many strings in two arrays: fast to pickle, and a worker's reference counts do not copy memory pages."""

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [os.fsencode(string) for string in strings]
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:  # type: ignore[override]  # no slices
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return os.fsdecode(self._bytes[self._ends[number] : self._ends[number + 1]].tobytes())
