"""Smaller libraries: triton-augment, which needs a CUDA device, and torchaug."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torchvision.transforms import InterpolationMode

from ..cases import JITTER, MEAN, PARITY, RECIPES, SIZE, STD
from .peer import Batches, PeerError, check_fixed

LINEAR = InterpolationMode.BILINEAR
PLAIN = (
    "RandomHorizontalFlip", "RandomGrayscale", "RandomInvert", "RandomPosterize", "RandomSolarize",
    "RandomAutocontrast", "RandomEqualize", "RandomAdjustSharpness",
)  # fmt: skip


class TritonAugment(Batches):
    work = "floats in; its contrast is about the middle grey"

    def __init__(self, name: str, threads: int, device: str) -> None:
        import triton_augment as ta

        super().__init__(name, threads, device)
        ta.TritonFusedAugment(horizontal_flip_p=0.5)(torch.zeros(1, 3, 8, 8, device=device))  # says what it needs
        self.fused = ta.TritonFusedAugment

    def op(self, case: str, fixed: bool) -> Any:
        if fixed:
            raise PeerError("its parameters cannot be fixed")
        options: dict[str, dict[str, Any]] = {
            "RandomHorizontalFlip": {"horizontal_flip_p": 1.0},
            "RandomCrop": {"crop_size": SIZE},
            "RandomAffine": {"degrees": 15, "translate": (0.1, 0.1), "scale": (0.8, 1.2), "shear": 10},
            "Brightness": {"brightness": 0.4},
            "Contrast": {"contrast": 0.4},
            "Saturation": {"saturation": 0.4},
            "RandomGrayscale": {"grayscale_p": 1.0},
            "Normalize": {"mean": MEAN, "std": STD},
        }
        if case not in options:
            raise PeerError(f"triton-augment has no {case}")
        augment = self.fused(**options[case])
        return lambda images: augment(images.float() / 255)

    def recipe(self, case: str) -> Any:
        raise PeerError("triton-augment has no RandomResizedCrop")


ONE_DRAW = ("RandAugment", "TrivialAugment", "TrivialAugmentWide", "AutoAugment", "AugMix", "JPEG")


class Torchaug(Batches):
    work = "one batch, each image its own draw (num_chunks=-1)"

    def differs(self, case: str) -> tuple[str, bool]:
        if case in ONE_DRAW:
            return "one batch; operations drawn once for the batch: less work", True
        return self.work, False

    def __init__(self, name: str, threads: int, device: str) -> None:
        import torchaug.transforms as ta

        super().__init__(name, threads, device)
        each = {"batch_transform": True, "num_chunks": -1}
        gated = {"batch_transform": True}
        floats = lambda: ta.Compose([ta.ToDtype(torch.float32, scale=True), ta.Normalize(MEAN, STD)])  # noqa: E731
        self.ta = ta
        self.random: dict[str, Callable[[], Any]] = {
            "RandomHorizontalFlip": lambda: ta.RandomHorizontalFlip(1.0, **gated),
            "RandomResizedCrop": lambda: ta.RandomResizedCrop(SIZE, **each),
            "Brightness": lambda: ta.ColorJitter(brightness=0.4, **each),
            "Contrast": lambda: ta.ColorJitter(contrast=0.4, **each),
            "Saturation": lambda: ta.ColorJitter(saturation=0.4, **each),
            "Hue": lambda: ta.ColorJitter(hue=0.1, **each),
            "ColorJitter": lambda: ta.ColorJitter(*JITTER, **each),
            "RandomGrayscale": lambda: ta.RandomGrayscale(1.0, **gated),
            "RandomSolarize": lambda: ta.RandomSolarize(128, 1.0, **gated),
            "RandomRotation": lambda: ta.RandomRotation(30, interpolation=LINEAR, **each),
            "RandomAffine": lambda: ta.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), 10, interpolation=LINEAR, **each),
            "RandomPerspective": lambda: ta.RandomPerspective(0.5, 1.0, **each),
            "RandomInvert": lambda: ta.RandomInvert(1.0, **gated),
            "RandomPosterize": lambda: ta.RandomPosterize(4, 1.0, **gated),
            "RandomAutocontrast": lambda: ta.RandomAutocontrast(1.0, **gated),
            "RandomEqualize": lambda: ta.RandomEqualize(1.0, **gated),
            "RandomAdjustSharpness": lambda: ta.RandomAdjustSharpness(2.0, 1.0, **gated),
            "GaussianBlur": lambda: ta.RandomGaussianBlur(9, (0.1, 2.0), 1.0, **gated),
            "RandomErasing": lambda: ta.RandomErasing(1.0, **each),
            "Normalize": floats,
            "RandAugment": lambda: ta.RandAugment(2, 9),
            "TrivialAugmentWide": lambda: ta.TrivialAugmentWide(),
            "AutoAugment": lambda: ta.AutoAugment(),
            "AugMix": lambda: ta.AugMix(),
            "JPEG": lambda: ta.JPEG((50, 95)),
            "SimCLR blur": lambda: ta.RandomGaussianBlur(23, (0.1, 2.0), 0.5, **gated),
            "SimCLR jitter": lambda: ta.RandomColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8, **each),
            "SimCLR grayscale": lambda: ta.RandomGrayscale(0.2, **gated),
        }
        self.fixed: dict[str, Callable[[], Any]] = {
            "Brightness": lambda: ta.ColorJitter(brightness=(1.4, 1.4), **each),
            "Contrast": lambda: ta.ColorJitter(contrast=(1.4, 1.4), **each),
            "Saturation": lambda: ta.ColorJitter(saturation=(1.4, 1.4), **each),
            "Hue": lambda: ta.ColorJitter(hue=(0.1, 0.1), **each),
            **{name: self.random[name] for name in PLAIN},
            "Normalize": floats,
        }

    def op(self, case: str, fixed: bool) -> Any:
        if case not in self.random:
            raise PeerError(f"torchaug has no {case} that draws for each image")
        check_fixed(case, fixed, self.fixed)
        return (self.fixed if fixed else self.random)[case]()

    def recipe(self, case: str) -> Any:
        ta = self.ta
        if case == PARITY:
            head = [ta.Resize(256), ta.CenterCrop(SIZE), self.random["RandomHorizontalFlip"]()]
            bright = ta.ColorJitter(brightness=(1.2, 1.2), batch_transform=True, num_chunks=-1)
            return ta.Compose([*head, bright, self.random["Normalize"]()])
        missing = [name for name in RECIPES[case] if name not in self.random]
        if missing:
            raise PeerError(f"torchaug has no {', '.join(missing)} that draws for each image")
        flip = ta.RandomHorizontalFlip(0.5, batch_transform=True)
        middle = [self.random[name]() for name in RECIPES[case]]
        return ta.Compose([self.random["RandomResizedCrop"](), flip, *middle, self.random["Normalize"]()])
