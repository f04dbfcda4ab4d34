"""FFCV, which is built from source (it wants OpenCV's and libjpeg-turbo's headers) and reads a file of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter

from ..cases import MEAN, SIZE, STD

PAGE = 1 << 26  # bytes; an image must fit


class _Arrays:
    """(H, W, 3) arrays and labels, as its writer wants them."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        image, label = self.dataset[number][:2]
        return image.permute(1, 2, 0).numpy(), label


def write(dataset: Any, path: Path, mode: str) -> None:
    fields = {"image": RGBImageField(write_mode=mode, jpeg_quality=95), "label": IntField()}
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # its bar
        DatasetWriter(str(path), fields, page_size=PAGE, num_workers=1).from_indexed_dataset(_Arrays(dataset))


def loader(path: Path, batch: int, threads: int) -> Iterable[Any]:
    """RandomResizedCrop, flip, normalise: what its ImageNet example does."""
    levels = [255 * np.array(values) for values in (MEAN, STD)]
    image = [RandomResizedCropRGBImageDecoder((SIZE, SIZE)), RandomHorizontalFlip()]
    image += [NormalizeImage(*levels, np.float32), ToTensor(), ToTorchImage()]
    pipelines = {"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]}
    opened: Iterable[Any] = Loader(
        str(path), batch, num_workers=threads, order=OrderOption.RANDOM, drop_last=False, pipelines=pipelines
    )
    return opened
