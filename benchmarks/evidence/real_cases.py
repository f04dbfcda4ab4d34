"""Loaders as people write them, with the libraries that they use. Their data is made from a folder of photographs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset, get_worker_info
from torchvision import datasets, transforms, tv_tensors
from torchvision.transforms import v2

from .real_photos import BATCH, COUNT, MEAN, REPEATS, STD, TENSOR, Samples, files, loader, small
from .real_storage import h5, hugging_face, lmdb_jpegs, memory_map, sqlite_jpegs, web_dataset, zip_jpegs

__all__ = ["CASES", "Case"]

# ---- torchvision -----------------------------------------------------------------------------------------------------


def image_folder(folder: Path) -> Any:
    return loader(datasets.ImageFolder(str(folder / "photos"), small()))


def rand_augment(folder: Path) -> Any:
    steps = v2.Compose([v2.RandomResizedCrop(160), v2.RandAugment(), v2.TrivialAugmentWide(), *TENSOR])
    return loader(datasets.ImageFolder(str(folder / "photos"), steps))


def first_transforms(folder: Path) -> Any:
    steps = transforms.Compose(
        [
            transforms.Resize(160),
            transforms.CenterCrop(128),
            transforms.ColorJitter(0.4, 0.4, 0.4, 0.1),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return loader(datasets.ImageFolder(str(folder / "photos"), steps))


class Cifar(datasets.CIFAR10):
    """CIFAR-10 with the bytes of our photographs in its files."""

    def _check_integrity(self) -> bool:
        return True

    def _load_meta(self) -> None:
        self.classes = [str(number) for number in range(10)]


def cifar(folder: Path) -> Any:
    place = folder / "cifar" / Cifar.base_folder
    if not place.exists():
        place.mkdir(parents=True)
        draw = np.random.default_rng(0)
        for name, _ in Cifar.train_list:
            data = draw.integers(0, 256, (1600, 3072), np.uint8)
            (place / name).write_bytes(pickle.dumps({"data": data, "labels": [n % 10 for n in range(1600)]}))
    steps = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.AutoAugment(), *TENSOR])
    return loader(Cifar(str(folder / "cifar"), transform=steps))


def fake_data(folder: Path) -> Any:
    return loader(datasets.FakeData(REPEATS * COUNT, (3, 96, 96), 10, v2.Compose(list(TENSOR))))


class Masks(Dataset[Any]):
    """Images with masks, transformed together."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = v2.Compose(
            [v2.RandomResizedCrop(160), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3), v2.ToPureTensor()]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        image = tv_tensors.Image(v2.functional.pil_to_tensor(Image.open(self.paths[index]).convert("RGB")))
        mask = tv_tensors.Mask((image[0] > 128).to(torch.uint8))
        image, mask = self.transform(image, mask)
        return image.float() / 255, mask.long()


def segmentation(folder: Path) -> Any:
    return loader(Masks(REPEATS * files(folder)))


def clips(folder: Path) -> Any:
    """Four frames each, as of a video that was written as images."""
    paths = files(folder)
    steps = v2.Compose([v2.Resize((96, 96)), *TENSOR])

    def frames(number: int) -> torch.Tensor:
        names = [paths[(number + k) % len(paths)] for k in range(4)]
        return torch.stack([steps(Image.open(name).convert("RGB")) for name in names])

    return loader(Samples(frames))


# ---- other decoders and transforms -----------------------------------------------------------------------------------


def opencv(folder: Path) -> Any:
    import cv2

    cv2.setNumThreads(0)
    paths = files(folder)

    def load(number: int) -> Any:
        image = cv2.imread(str(paths[number]))
        image = cv2.resize(image[:, :: 1 if number % 2 else -1], (128, 128), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).permute(2, 0, 1).float() / 255

    return loader(Samples(load))


def albumentations(folder: Path) -> Any:
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)
    paths = files(folder)
    steps = [A.RandomResizedCrop(size=(128, 128)), A.HorizontalFlip(), A.RandomBrightnessContrast(), A.GaussianBlur()]

    class Photos(Dataset[Any]):
        transform = None

        def __init__(self) -> None:
            self.transform = A.Compose([*steps, A.Normalize()])

        def __len__(self) -> int:
            return REPEATS * len(paths)

        def __getitem__(self, index: int) -> Any:
            image = cv2.cvtColor(cv2.imread(str(paths[index % len(paths)])), cv2.COLOR_BGR2RGB)
            return torch.from_numpy(self.transform(image=image)["image"]).permute(2, 0, 1), index % 2

    return loader(Photos())


def timm_loader(folder: Path) -> Any:
    from timm.data import create_dataset, create_loader

    dataset = create_dataset("folder", str(folder / "photos"))
    options = {"use_prefetcher": False, "num_workers": 2, "persistent_workers": False}
    return create_loader(
        dataset, (3, 128, 128), BATCH, is_training=True, auto_augment="rand-m9-mstd0.5", re_prob=0.25, **options
    )


def torchdata_loader(folder: Path) -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    dataset = datasets.ImageFolder(str(folder / "photos"), small(112))
    options: dict[str, Any] = {"num_workers": 2, "drop_last": True, "multiprocessing_context": "fork"}
    return StatefulDataLoader(dataset, BATCH, shuffle=True, **options)


# ---- other forms -----------------------------------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    """Photographs one after another; each worker reads its part."""

    def __init__(self, paths: list[Path], transform: Any) -> None:
        self.paths, self.transform = paths, transform

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        for path in self.paths[info.id :: info.num_workers] if info else self.paths:
            yield self.transform(Image.open(path).convert("RGB")), int(path.stem) % 2


def iterable(folder: Path) -> Any:
    return loader(Stream(REPEATS * files(folder), small()))


def in_memory(folder: Path) -> Any:
    """Tensors in memory, augmented in the collate function."""
    images = torch.stack([v2.functional.pil_to_tensor(Image.open(one).resize((160, 160))) for one in files(folder)])
    steps = v2.Compose([v2.RandomResizedCrop(128), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])

    def collate(samples: list[Any]) -> Any:
        return torch.stack([steps(image) for image, _ in samples]), torch.stack([label for _, label in samples])

    return loader(
        TensorDataset(images.repeat(REPEATS, 1, 1, 1), torch.arange(REPEATS * len(images)) % 2), collate_fn=collate
    )


def own_folder(folder: Path) -> Any:
    import gpuaug as ga

    data = ga.data.ImageFolder(folder / "photos")
    return ga.DeviceLoader(loader(data, collate_fn=ga.ragged_collate), "cpu", _augment(), train=True)


def own_pack(folder: Path) -> Any:
    import gpuaug as ga

    target = folder / "pack"
    if not target.exists():
        ga.data.pack(folder / "photos", target, short_side=160)
    data = ga.data.Packed(target)
    return ga.DeviceLoader(loader(data, collate_fn=ga.ragged_collate), "cpu", _augment(), train=True)


def _augment() -> Any:
    import gpuaug as ga

    steps = [ga.RandomResizedCrop(128), ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)]
    return ga.Augment([*steps, ga.Normalize(MEAN, STD)])


@dataclass(frozen=True)
class Case:
    """A loader.

    Attributes:
        name: Name in the table.
        make: Function of the folder that returns the loader.
        needs: Modules besides those of this package.
        waits: Milliseconds that the step waits besides training a small network, as for a GPU.
    """

    name: str
    make: Callable[[Path], Any]
    needs: tuple[str, ...] = ()
    waits: float = 0.0


CASES = (
    Case("torchvision ImageFolder", image_folder),
    Case("ImageFolder, RandAugment", rand_augment, waits=10),
    Case("ImageFolder, transforms v1", first_transforms),
    Case("torchvision CIFAR10", cifar),
    Case("torchvision FakeData", fake_data),
    Case("segmentation with masks", segmentation, waits=20),
    Case("clips of four frames", clips),
    Case("OpenCV, plain functions", opencv, ("cv2",)),
    Case("Albumentations, OpenCV", albumentations, ("albumentations", "cv2"), waits=10),
    Case("timm create_loader", timm_loader, ("timm",), waits=20),
    Case("torchdata StatefulDataLoader", torchdata_loader, ("torchdata",)),
    Case("h5py, gzip", h5, ("h5py",)),
    Case("lmdb", lmdb_jpegs, ("lmdb",)),
    Case("sqlite3", sqlite_jpegs, waits=10),
    Case("zip", zip_jpegs),
    Case("memory map", memory_map, waits=10),
    Case("WebDataset", web_dataset, ("webdataset",)),
    Case("Hugging Face, with_transform", hugging_face, ("datasets",)),
    Case("IterableDataset", iterable, waits=20),
    Case("tensors in memory, collate augments", in_memory),
    Case("gpuaug ImageFolder", own_folder, waits=10),
    Case("gpuaug Packed", own_pack, ("pyarrow",), waits=10),
)
