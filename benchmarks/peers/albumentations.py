"""AlbumentationsX, an AGPL library that is installed by itself; one NumPy image at a time, on OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import albumentations as al
import cv2
import numpy as np
import torch
from torch import Tensor

from ..cases import JITTER, MEAN, PARITY, RECIPES, SIZE, STD
from .peer import Peer, PeerError, check_fixed

cv2.setNumThreads(1)  # in a loader's workers, too

NONE = (1.0, 1.0)  # the factors that ColorJitter leaves alone
STILL = (0.0, 0.0)


def span(strength: float) -> tuple[float, float]:
    return 1 - strength, 1 + strength


def jitter(brightness: Any = NONE, contrast: Any = NONE, saturation: Any = NONE, hue: Any = STILL, p: float = 1) -> Any:
    return al.ColorJitter(brightness, contrast, saturation, hue, p=p)  # by place: the names differ between versions


RANDOM: dict[str, Callable[[], Any]] = {
    "RandomHorizontalFlip": lambda: al.HorizontalFlip(p=1),
    "RandomCrop": lambda: al.RandomCrop(SIZE, SIZE),
    "RandomResizedCrop": lambda: al.RandomResizedCrop(size=(SIZE, SIZE)),
    "RandomRotation": lambda: al.Rotate((-30, 30), p=1),
    "RandomAffine": lambda: al.Affine(
        scale=(0.8, 1.2), translate_percent=(-0.1, 0.1), rotate=(-15, 15), shear=(-10, 10), p=1
    ),
    "RandomPerspective": lambda: al.Perspective((0.0, 0.25), p=1),
    "Brightness": lambda: jitter(brightness=span(0.4)),
    "Contrast": lambda: jitter(contrast=span(0.4)),
    "Saturation": lambda: jitter(saturation=span(0.4)),
    "Hue": lambda: jitter(hue=(-0.1, 0.1)),
    "ColorJitter": lambda: jitter(*(span(strength) for strength in JITTER[:3]), (-JITTER[3], JITTER[3])),
    "RandomGrayscale": lambda: al.ToGray(p=1),
    "RandomInvert": lambda: al.InvertImg(p=1),
    "RandomPosterize": lambda: al.Posterize((4, 4), p=1),
    "RandomSolarize": lambda: al.Solarize((128 / 255, 128 / 255), p=1),
    "RandomAutocontrast": lambda: al.AutoContrast(method="pil", p=1),
    "RandomEqualize": lambda: al.Equalize(mode="pil", p=1),
    "RandomAdjustSharpness": lambda: al.Sharpen((0.5, 0.5), (1.0, 1.0), p=1),
    "GaussianBlur": lambda: al.GaussianBlur((9, 9), (0.1, 2.0), p=1),
    "GaussianNoise": lambda: al.GaussNoise((0.1, 0.1), per_channel=True, p=1),
    "JPEG": lambda: al.ImageCompression(quality_range=(50, 95), p=1),
    "RandomErasing": lambda: al.Erasing(p=1),
    "Normalize": lambda: [al.Normalize(MEAN, STD), al.ToTensorV2()],
    "SimCLR jitter": lambda: jitter(span(0.8), span(0.8), span(0.8), (-0.2, 0.2), p=0.8),
    "SimCLR grayscale": lambda: al.ToGray(p=0.2),
    "SimCLR blur": lambda: al.GaussianBlur((23, 23), (0.1, 2.0), p=0.5),
}
FIXED: dict[str, Callable[[], Any]] = {
    "RandomResizedCrop": lambda: al.RandomResizedCrop(size=(SIZE, SIZE), scale=NONE, ratio=NONE),
    "RandomRotation": lambda: al.Rotate((30, 30), p=1),
    "RandomAffine": lambda: al.Affine(scale=(1.1, 1.1), rotate=(-15, -15), p=1),
    "Brightness": lambda: jitter(brightness=(1.4, 1.4)),
    "Contrast": lambda: jitter(contrast=(1.4, 1.4)),
    "Saturation": lambda: jitter(saturation=(1.4, 1.4)),
    "Hue": lambda: jitter(hue=(0.1, 0.1)),
    "GaussianBlur": lambda: al.GaussianBlur((9, 9), (1.0, 1.0), p=1),
    "JPEG": lambda: al.ImageCompression(quality_range=(75, 75), p=1),
    **{
        name: RANDOM[name]
        for name in (
            "RandomHorizontalFlip", "RandomGrayscale", "RandomInvert", "RandomPosterize", "RandomSolarize",
            "RandomAutocontrast", "RandomEqualize", "RandomAdjustSharpness", "Normalize",
        )
    },
}  # fmt: skip


def compose(steps: list[Any], **targets: Any) -> Any:
    """One flat composition that tells nobody; `targets` says what boxes and key points are."""
    flat = [one for step in steps for one in (step if isinstance(step, list) else [step])]
    return al.Compose(flat, telemetry=False, **targets)


def read(path: str) -> Any:
    """A file as its examples read it."""
    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)


class Albumentations(Peer):
    alone = True
    work = "one image at a time; OpenCV, not antialiased"
    area: str | None = None  # for its resizes

    def prepare(self, images: list[Tensor], batch: int) -> Any:
        return [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]

    def op(self, case: str, fixed: bool) -> Any:
        if case not in RANDOM:
            raise PeerError(f"AlbumentationsX has no {case}")
        check_fixed(case, fixed, FIXED)
        return compose([(FIXED if fixed else RANDOM)[case]()])

    def recipe(self, case: str) -> Any:
        if case == PARITY:
            resize = al.SmallestMaxSize(256, area_for_downscale=self.area)
            head = [resize, al.CenterCrop(SIZE, SIZE), al.HorizontalFlip(p=1)]
            return compose([*head, jitter(brightness=(1.2, 1.2)), RANDOM["Normalize"]()])
        missing = [name for name in RECIPES[case] if name not in RANDOM]
        if missing:
            raise PeerError(f"AlbumentationsX has no {', '.join(missing)}")
        crop = al.RandomResizedCrop(size=(SIZE, SIZE), area_for_downscale=self.area)
        head = [crop, al.HorizontalFlip()]
        return compose([*head, *(RANDOM[name]() for name in RECIPES[case]), RANDOM["Normalize"]()])

    def run(self, transform: Any, prepared: Any) -> Iterator[Any]:
        """A flip alone is a view: it is made real, as a tensor must be."""
        results = (transform(image=array)["image"] for array in prepared)
        return (one if isinstance(one, Tensor) else np.ascontiguousarray(one) for one in results)

    def tensors(self, result: Any) -> list[Tensor]:
        return [one if isinstance(one, Tensor) else torch.from_numpy(one).permute(2, 0, 1) for one in result]


class AlbumentationsArea(Albumentations):
    work = "one image at a time; OpenCV, shrinks by area, which is nearest to antialiasing"
    area = "image"
