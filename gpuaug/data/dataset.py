"""Data sets that only decode: (uint8 image, label, index), the index to key the draws with."""

from __future__ import annotations

import operator
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from gpuaug import checks
from gpuaug.data.decode import ImageError, as_tensor, decode, read
from gpuaug.data.discover import find, left_out
from gpuaug.data.index import index_of
from gpuaug.data.transport.encoded import REPLACE, EncodedImage, skipped, unreadable
from gpuaug.philox import LOOKS

__all__ = ["Decoded", "ImageFolder", "Indexed", "Strings"]

TRIES = 100  # files in a row that cannot be read, after which skipping gives up
WORKERS = 1024  # that count skips apart
ON_ERROR = ("raise", "skip")
DECODE = ("worker", "device")

Sample = tuple[Any, Any, int]  # image, label, index


class Decoded(Dataset[Sample]):
    """A map-style data set that yields (image, label, index). Abstract: `_load` is the hook.

    `dataset[7]` is image 7, and 7 is its index. `dataset[7, 2]` is the third look at the same image in an epoch: its
    index is `7 | 2 << 48`, so it has a draw of its own. So it is for numbers that NumberedSampler yields.

    Args:
        on_error: "raise" names a file that cannot be read. "skip" puts the next readable image and its label in its
            place, under the index that was asked for, warns once for each file and worker, and counts in `skipped`.
    """

    remedy = REPLACE  # ends the error for an image that cannot be read

    def __init__(self, on_error: str = "raise") -> None:
        self.on_error = checks.one_of(self, "on_error", on_error, ON_ERROR)
        self._skips = torch.zeros(WORKERS, dtype=torch.int64, device="cpu")
        if on_error == "skip":
            self._skips.share_memory_()  # type: ignore[no-untyped-call]  # workers count here, each in its own place

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _load(self, number: int) -> tuple[Any, Any]:
        """Image and label `number`; ImageError or OSError if it cannot be read."""

    def _name(self, number: int) -> str:
        """Of the image, for errors."""
        return f"item {number}"

    @property
    def skipped(self) -> int:
        """How many samples were replaced so far, in all workers."""
        return int(self._skips.sum())

    def __getitem__(self, number: int | tuple[int, int]) -> Sample:
        pair = number if isinstance(number, tuple) else (number, getattr(number, "look", 0))
        number, look = map(operator.index, pair)
        size = len(self)
        if not -size <= number < size or not 0 <= look < LOOKS:
            raise IndexError(f"{type(self).__name__}: image {int(number)}, look {look}, of {size}")
        number = int(number) % size
        try:
            image, label = self._load(number)
        except (ImageError, OSError) as error:
            image, label = self._stand_in(number, error)
        return image, label, index_of(number, look)

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))

    def _stand_in(self, number: int, error: Exception) -> tuple[Any, Any]:
        """The next image that can be read."""
        name = type(self).__name__
        if self.on_error == "raise":
            raise unreadable(name, self._name(number), error, self.remedy) from None
        others = [(number + step) % len(self) for step in range(1, min(TRIES, len(self)))]
        for other in others:
            try:
                loaded = self._load(other)
            except (ImageError, OSError):
                continue
            worker = get_worker_info()
            self._skips[0 if worker is None else 1 + worker.id % (WORKERS - 1)] += 1
            warnings.warn(skipped(name, self._name(number), error, self._name(other)), stacklevel=3)
            return loaded
        raise unreadable(name, f"{self._name(number)} and the {len(others)} after it", error, self.remedy) from None


class ImageFolder(Decoded):
    """Images in folders named after their classes, in the order of torchvision.datasets.ImageFolder.

    It finds every format that it can decode, so also GIF, AVIF and .jfif. Hidden files and folders are left out.

    Args:
        root: holds a folder for each class.
        decode: "worker": images are uint8 (3, H, W); see `gpuaug.data.decode.decode` for the formats. "device": the
            compressed bytes travel, and DeviceLoader decodes them on its device.
        on_error: see Decoded. With decode="device" another image of the batch stands in for one that the device
            cannot decode.
        extensions: endings of the files to take, such as ".jpg" or (".jpg", ".png"), upper or lower case. None: those
            of all formats that are decoded; a warning then counts the files that are left out.
        is_valid_file: a function of a path that says whether to take the file, in place of `extensions`.
        allow_empty: whether a class may have no image.

    Attributes:
        ignored: what is left out of the class folders: how many files of each ending, and how many "hidden" ones.
        classes, class_to_idx: as torchvision's. `samples` and `targets` are made when asked for: millions of Python
            objects would be copied into each worker.

    Raises:
        ValueError: if an argument is something else.
        FileNotFoundError: if `root` does not exist; if there are no classes, or one is empty.
    """

    def __init__(
        self,
        root: str | Path,
        decode: str = "worker",
        on_error: str = "raise",
        *,
        extensions: str | Sequence[str] | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        super().__init__(on_error)
        self.decode = checks.one_of(self, "decode", decode, DECODE)
        self.root = checks.folder(self, "root", root)
        found = find(self, self.root, extensions, is_valid_file, allow_empty)
        self.classes, self.ignored = found.classes, found.ignored
        self.class_to_idx = {name: label for label, name in enumerate(found.classes)}
        self._paths = Strings(found.paths)
        self._labels = np.array(found.labels, np.int64)
        options = {"extensions": extensions, "is_valid_file": is_valid_file, "allow_empty": allow_empty or None}
        # as text: a lambda would not travel to a worker
        self._chosen = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
        if found.ignored and extensions is None and is_valid_file is None:
            remedy = "Pass extensions=... or is_valid_file=... to say which files to take."
            warnings.warn(f"ImageFolder: {left_out(found.ignored)} of {self.root}. {remedy}", stacklevel=2)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def samples(self) -> list[tuple[str, int]]:
        return list(zip(self._paths, self.targets, strict=True))

    @property
    def targets(self) -> list[int]:
        return self._labels.tolist()

    def _name(self, number: int) -> str:
        return self._paths[number]

    def _load(self, number: int) -> tuple[Tensor | EncodedImage, int]:
        path = self._paths[number]
        return load(read(path), path, self.decode, self.on_error), int(self._labels[number])

    def __repr__(self) -> str:
        return f"ImageFolder({str(self.root)!r}, decode={self.decode!r}, on_error={self.on_error!r}{self._chosen})"


def load(data: Tensor, name: str, where: str, on_error: str) -> Tensor | EncodedImage:
    """An encoded image, decoded here unless that is for the device to do."""
    if where == "worker":
        return decode(data)
    return EncodedImage(data, name, on_error)


class Indexed(Decoded):
    """Any map-style data set that yields (image, label), as one that yields (uint8 image, label, index).

    It also numbers anew what yields (image, label, index): a ConcatDataset of two ImageFolders has each index twice.

    Args:
        dataset: its images are Pillow images, uint8 tensors (C, H, W), or uint8 arrays (H, W) or (H, W, C). It must
            not augment: wrap a torchvision data set that has no transform.
        on_error: see Decoded; OSError and ImageError of the data set count as files that cannot be read.
    """

    def __init__(self, dataset: Any, on_error: str = "raise") -> None:
        super().__init__(on_error)
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            expected = "a map-style data set, with __getitem__ and __len__"
            raise checks.argument_error(self, "dataset", expected, checks.describe(dataset))
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def _load(self, number: int) -> tuple[Tensor | EncodedImage, Any]:
        item = self.dataset[number]
        good = isinstance(item, (tuple, list)) and (len(item) == 2 or (len(item) == 3 and checks.is_integer(item[2])))
        if not good:
            raise checks.argument_error(self, "dataset", "one that yields (image, label)", checks.describe(item))
        image, label = item[:2]
        image = image if isinstance(image, EncodedImage) else as_tensor(image)
        if isinstance(image, EncodedImage) or (
            isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3
        ):
            return image, label
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else checks.describe(image)
        remedy = "Take float conversion and augmentation out of it; gpuaug.Augment does them on the batch."
        raise checks.argument_error(self, "dataset", "one of uint8 images (C, H, W) or Pillow images", got, remedy)

    def __repr__(self) -> str:
        return f"Indexed({self.dataset!r}, on_error={self.on_error!r})"


class Strings(Sequence[str]):
    """Many strings in two arrays: nothing for a worker to count references of, and quick to pickle."""

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [os.fsencode(string) for string in strings]
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: Any) -> Any:
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return os.fsdecode(self._bytes[self._ends[number] : self._ends[number + 1]].tobytes())
