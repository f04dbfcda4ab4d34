"""Data sets that only decode: samples (uint8 image, label, index), where the index is the key of the random draws."""

from __future__ import annotations

import operator
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from gpuaug import checks
from gpuaug.data.decode import ImageError, as_tensor, decode, read, read_ahead
from gpuaug.data.discover import Strings, find, left_out
from gpuaug.data.index import index_of
from gpuaug.data.regions import boxes_of, finder_of, part_of, present_cut, warn_of_one
from gpuaug.data.transport.encoded import REPLACE, EncodedImage, skipped, unreadable
from gpuaug.philox import LOOKS

if TYPE_CHECKING:
    from gpuaug.augment import Augment

__all__ = ["ImageFolder", "Indexed", "IndexedDataset"]

TRIES = 100  # unreadable files in a row after which on_error="skip" raises an error
WORKERS = 1024  # workers that count their skipped files separately
ON_ERROR = ("raise", "skip")
DECODE = ("worker", "device")

Label_co = TypeVar("Label_co", covariant=True)


class MapDataset(Protocol):
    """Any map-style data set."""

    def __getitem__(self, index: int, /) -> object: ...

    def __len__(self) -> int: ...


class IndexedDataset(Dataset[tuple[Tensor | EncodedImage, Label_co, int]], Generic[Label_co]):
    """A map-style data set that yields (image, label, index). Abstract: `_load` is the hook.

    `dataset[7]` is image 7, and its index is 7. `dataset[7, 2]` is the third look at the same image in an epoch: its
    index is `7 | 2 << 48`, so it gets its own random draws. The same holds for the numbers of NumberedSampler.

    Args:
        on_error: "raise", or "skip". "raise": an unreadable file raises an ImageError that names it. "skip": the next
            readable image and its label are returned instead, with the index that was requested; each worker warns
            once for each file, and `skipped` counts.
        regions: The gpuaug.Augment that a DeviceLoader will use: of a JPEG, only what its draw reads is decoded. None:
            images are decoded whole.
    """

    remedy = REPLACE  # last sentence of the error for an unreadable image

    def __init__(self, on_error: str = "raise", regions: Augment | None = None) -> None:
        self.on_error = checks.one_of(self, "on_error", on_error, ON_ERROR)
        self.finder = finder_of(self, regions, type(self).__getitem__ is not IndexedDataset.__getitem__)
        self._skips = torch.zeros(WORKERS, dtype=torch.int64, device="cpu")
        if on_error == "skip":
            self._skips.share_memory_()  # type: ignore[no-untyped-call]  # each worker counts in its own element

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _load(self, number: int) -> tuple[Tensor | EncodedImage, Label_co]:
        """Image and label `number`; ImageError or OSError if it cannot be read."""

    def _load_encoded(self, number: int) -> tuple[Tensor | EncodedImage, Label_co]:
        """As `_load`, but a file is not decoded yet."""
        return self._load(number)

    def _ahead(self, numbers: Sequence[int]) -> None:
        """Images that are loaded next, where something can begin before."""

    def _name(self, number: int) -> str:
        """Name of an image, for errors."""
        return f"item {number}"

    @property
    def skipped(self) -> int:
        """Number of samples that were replaced so far (`on_error="skip"`), in all workers."""
        return int(self._skips.sum())

    def __getitem__(self, number: int | tuple[int, int]) -> tuple[Tensor | EncodedImage, Label_co, int]:
        """(image, label, index) of an image.

        Args:
            number: The image's number, or (number, look). Negative numbers count from the end.

        Raises:
            IndexError: If there is no such image or look.
            ImageError: If the image cannot be read, and `on_error` is "raise" or no image after it can be read either.
        """
        number, look = self._asked(number)
        warn_of_one(self, self.finder)
        try:
            image, label = self._load(number)
        except (ImageError, OSError) as error:
            image, label = self._substitute(number, error)
        return self._sample(image, label, index_of(number, look))

    def _sample(self, image: Any, label: Any, index: int) -> Any:
        return image, label, index

    def _asked(self, number: int | tuple[int, int]) -> tuple[int, int]:
        """(number, look) of an image, checked."""
        pair = number if isinstance(number, tuple) else (number, getattr(number, "look", 0))
        number, look = map(operator.index, pair)
        size = len(self)
        if not -size <= number < size or not 0 <= look < LOOKS:
            raise IndexError(f"{type(self).__name__}: there is no image {int(number)}, look {look}, of {size} images.")
        return int(number) % size, look

    def __getitems__(self, numbers: Sequence[int | tuple[int, int]]) -> list[Any]:
        """The samples of a batch; torch's DataLoader calls it.

        With `regions`, in a pass of a DeviceLoader, each image is a Part: what its draw will read. All draws of a batch
        are made at once.

        Args:
            numbers: As of `dataset[number]`.
        """
        finder = self.finder
        cut = None if finder is None else present_cut(self, finder)
        if cut is None and type(self)._ahead is IndexedDataset._ahead:  # nothing can begin before
            return [self[number] for number in numbers]
        asked = [self._asked(number) for number in numbers]
        self._ahead([number for number, _ in asked])
        if finder is None or cut is None:
            return [self[number] for number in numbers]
        index = [index_of(*pair) for pair in asked]
        loaded: list[tuple[Any, Any]] = []
        for number, _ in asked:
            try:
                loaded.append(self._load_encoded(number))
            except (ImageError, OSError) as error:
                loaded.append(self._substitute(number, error))
        boxes = boxes_of(finder, cut, [image for image, _ in loaded], index)
        samples = []
        for (number, _), (image, label), key, box in zip(asked, loaded, index, boxes, strict=True):
            try:
                part = part_of(image, box, cut)
            except (ImageError, OSError) as error:
                image, label = self._substitute(number, error)
                part = part_of(image, None, cut)
            samples.append((part, label, key))
        return samples

    def __iter__(self) -> Iterator[tuple[Tensor | EncodedImage, Label_co, int]]:
        return (self[number] for number in range(len(self)))

    def _substitute(self, number: int, error: Exception) -> tuple[Tensor | EncodedImage, Label_co]:
        """The next readable image, with a warning; or the error."""
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


class ImageFolder(IndexedDataset[int]):
    """Images in folders named after their classes, in the order of torchvision.datasets.ImageFolder.

    It finds files of every format that it can decode, among them GIF, AVIF and .jfif. Hidden files and folders are left
    out. A sample is (image, label, index): a uint8 (3, H, W) tensor or an encoded image, the class number, and the
    image's number.

    Args:
        root: Path of a folder that contains one folder for each class.
        decode: "worker" or "device". "worker": images are decoded by the data set, to uint8 (3, H, W); see
            `gpuaug.data.decode.decode` for the formats. "device": images are returned as compressed bytes, and
            DeviceLoader decodes them on its device.
        on_error: "raise": an unreadable file raises an ImageError that names it. "skip": the next readable image is
            returned instead, with a warning; with decode="device", another image of the batch replaces one that the
            device cannot decode.
        extensions: File endings to include, such as ".jpg" or (".jpg", ".png"), upper or lower case. None: the endings
            of all formats that are decoded; a warning then counts the files that are left out.
        is_valid_file: Function of a path that returns whether to include the file, instead of `extensions`.
        allow_empty: Whether a class may have no image.
        regions: The gpuaug.Augment of the DeviceLoader that will iterate this data set. In its passes only the part of
            a JPEG is decoded and sent that its draw reads: the same pixels in less time. Needs `pip install
            "gpuaug[regions]"`; without it images are decoded whole, with a warning. None: whole images.

    Attributes:
        ignored: Counts of what is left out of the class folders: {file ending or "hidden": number of files}.
        classes: Class names, sorted.
        class_to_idx: {class name: class number}.
        samples: (path, class number) of every image. Made on each access: workers need not copy millions of objects.
        targets: Class number of every image. Made on each access.
        skipped: Number of samples that were replaced so far (`on_error="skip"`), in all workers.

    Raises:
        ValueError: If an argument has a wrong type or value.
        FileNotFoundError: If `root` does not exist or has no class folder, or if a class has no image and
            `allow_empty` is False.
        NotADirectoryError: If `root` is a file.
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
        regions: Augment | None = None,
    ) -> None:
        super().__init__(on_error, regions)
        self.decode = decoded_where(self, decode, regions)
        self.root = checks.folder(self, "root", root)
        found = find(self, self.root, extensions, is_valid_file, allow_empty)
        self.classes, self.ignored = found.classes, found.ignored
        self.class_to_idx = {name: label for label, name in enumerate(found.classes)}
        self._paths = Strings(found.paths)
        self._labels = np.array(found.labels, np.int64)
        options = {"extensions": extensions, "is_valid_file": is_valid_file, "allow_empty": allow_empty or None}
        # as text: a lambda cannot be pickled for a worker
        self._options = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
        if found.ignored and extensions is None and is_valid_file is None:
            remedy = "Pass extensions=... or is_valid_file=... to choose the files."
            warnings.warn(f"ImageFolder: {left_out(found.ignored)} of {self.root}. {remedy}", stacklevel=2)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def samples(self) -> list[tuple[str, int]]:
        """(path, class number) of every image."""
        return list(zip(self._paths, self.targets, strict=True))

    @property
    def targets(self) -> list[int]:
        """Class number of every image."""
        return self._labels.tolist()

    def _ahead(self, numbers: Sequence[int]) -> None:
        read_ahead(self._paths[number] for number in numbers)

    def _name(self, number: int) -> str:
        return self._paths[number]

    def _load(self, number: int) -> tuple[Tensor | EncodedImage, int]:
        path = self._paths[number]
        return load(read(path), path, self.decode, self.on_error), int(self._labels[number])

    def _load_encoded(self, number: int) -> tuple[Tensor | EncodedImage, int]:
        path = self._paths[number]
        return EncodedImage(read(path), path, self.on_error), int(self._labels[number])

    def __repr__(self) -> str:
        return f"ImageFolder({str(self.root)!r}, decode={self.decode!r}, on_error={self.on_error!r}{self._options})"


def decoded_where(owner: object, decode: str, regions: Augment | None) -> str:
    """The argument `decode`, checked."""
    checks.one_of(owner, "decode", decode, DECODE)
    if decode == "device" and regions is not None:
        remedy = "A worker has to decode parts; leave out one of the two."
        raise checks.argument_error(owner, "decode", "'worker' with `regions`", "'device'", remedy)
    return decode


def load(data: Tensor, name: str, where: str, on_error: str) -> Tensor | EncodedImage:
    """An encoded image: decoded now, or (`where` is "device") left for DeviceLoader to decode."""
    if where == "worker":
        return decode(data)
    return EncodedImage(data, name, on_error)


class Indexed(IndexedDataset[object]):
    """Add an index to the samples of any map-style data set: (image, label) becomes (uint8 image, label, index).

    Samples (image, label, index) get a new index. A ConcatDataset of two ImageFolders needs this: it has each index
    twice. Samples that are mappings, as those of Hugging Face data sets, get it as their field "index", and are not
    changed otherwise: `ga.collate(index="index")` packs them.

    Args:
        dataset: Map-style data set whose images are Pillow images, uint8 tensors (C, H, W), or uint8 arrays (H, W) or
            (H, W, C). It must not augment: wrap a torchvision data set without a transform.
        on_error: "raise": an unreadable image raises an ImageError. "skip": the next readable image is returned
            instead, with a warning. An image is unreadable if the data set raises OSError or ImageError.
        regions: As of ImageFolder, for a data set that returns encoded images, such as ImageFolder(root,
            decode="device"): they are decoded here. Other images stay whole.

    Attributes:
        skipped: Number of samples that were replaced so far (`on_error="skip"`), in all workers.

    Raises:
        ValueError: If `dataset` is no map-style data set; on access, if a sample has another form.
    """

    def __init__(self, dataset: MapDataset, on_error: str = "raise", regions: Augment | None = None) -> None:
        super().__init__(on_error, regions)
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            expected = "a map-style data set, with __getitem__ and __len__"
            raise checks.argument_error(self, "dataset", expected, checks.describe(dataset))
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def _load(self, number: int) -> tuple[Tensor | EncodedImage, object]:
        image, label = self._load_encoded(number)
        whole = isinstance(image, EncodedImage) and self.finder is not None
        return decode(image.data) if whole else image, label

    def _load_encoded(self, number: int) -> tuple[Tensor | EncodedImage, object]:
        item: Any = self.dataset[number]
        if isinstance(item, Mapping) and self.finder is None:
            return cast(Any, item), None
        pair = isinstance(item, (tuple, list)) and len(item) in (2, 3)
        if not pair or (len(item) == 3 and not checks.is_integer(item[2])):
            expected = f"a data set of {'' if self.finder else 'mappings, or of '}(image, label) samples"
            raise checks.argument_error(self, "dataset", expected, checks.describe(item))
        image, label = item[:2]
        if isinstance(image, EncodedImage):
            return image, label
        image = as_tensor(image)
        if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3:
            return image, label
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else checks.describe(image)
        remedy = "Remove its float conversion and augmentation; gpuaug.Augment does both on the batch."
        expected = "a data set of uint8 images (C, H, W) or Pillow images"
        raise checks.argument_error(self, "dataset", expected, got, remedy)

    def _sample(self, image: Any, label: Any, index: int) -> Any:
        return {**image, "index": index} if isinstance(image, Mapping) else (image, label, index)

    def __repr__(self) -> str:
        return f"Indexed({self.dataset!r}, on_error={self.on_error!r})"
