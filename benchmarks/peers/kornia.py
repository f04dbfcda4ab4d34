"""Kornia: modules on float batches of one size, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import kornia.augmentation as ka
import torch
from kornia.augmentation import auto
from torch import nn

from ..cases import CLASSES, JITTER, MEAN, PARITY, RECIPES, SIZE, STD
from .peer import Batches, PeerError, check_fixed

SQUARE = (SIZE, SIZE)
Table = dict[str, Callable[[], nn.Module]]


def tables(jitter: Callable[..., nn.Module]) -> tuple[Table, Table]:
    """Ops with random and with fixed parameters; `jitter` makes a ColorJitter."""
    random: Table = {
        "RandomHorizontalFlip": lambda: ka.RandomHorizontalFlip(p=1.0),
        "RandomCrop": lambda: ka.RandomCrop(SQUARE),
        "RandomResizedCrop": lambda: ka.RandomResizedCrop(SQUARE),
        "RandomRotation": lambda: ka.RandomRotation(30.0, p=1.0),
        "RandomAffine": lambda: ka.RandomAffine(15.0, (0.1, 0.1), (0.8, 1.2), 10.0, p=1.0),
        "RandomPerspective": lambda: ka.RandomPerspective(0.5, p=1.0),
        "Brightness": lambda: jitter(brightness=0.4),
        "Contrast": lambda: jitter(contrast=0.4),
        "Saturation": lambda: jitter(saturation=0.4),
        "Hue": lambda: jitter(hue=0.1),
        "ColorJitter": lambda: jitter(*JITTER),
        "RandomGrayscale": lambda: ka.RandomGrayscale(p=1.0),
        "RandomInvert": lambda: ka.RandomInvert(p=1.0),
        "RandomPosterize": lambda: ka.RandomPosterize(4.0, p=1.0),
        "RandomSolarize": lambda: ka.RandomSolarize((0.5, 0.5), (0.0, 0.0), p=1.0),
        "RandomAutocontrast": lambda: ka.RandomAutoContrast(p=1.0),
        "RandomEqualize": lambda: ka.RandomEqualize(p=1.0),
        "RandomAdjustSharpness": lambda: ka.RandomSharpness((2.0, 2.0), p=1.0),
        "GaussianBlur": lambda: ka.RandomGaussianBlur((9, 9), (0.1, 2.0), p=1.0),
        "GaussianNoise": lambda: ka.RandomGaussianNoise(0.0, 0.1, p=1.0),
        "JPEG": lambda: ka.RandomJPEG((50.0, 95.0), p=1.0),
        "RandomErasing": lambda: ka.RandomErasing(p=1.0),
        "Normalize": lambda: ka.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        "RandAugment": lambda: auto.RandAugment(n=2, m=9),
        "TrivialAugmentWide": lambda: auto.TrivialAugment(),
        "AutoAugment": lambda: auto.AutoAugment("imagenet"),
        "SimCLR jitter": lambda: jitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        "SimCLR grayscale": lambda: ka.RandomGrayscale(p=0.2),
        "SimCLR blur": lambda: ka.RandomGaussianBlur((23, 23), (0.1, 2.0), p=0.5),
    }
    fixed: Table = {
        "RandomResizedCrop": lambda: ka.RandomResizedCrop(SQUARE, (1.0, 1.0), (1.0, 1.0)),
        "RandomRotation": lambda: ka.RandomRotation((30.0, 30.0), p=1.0),
        "RandomAffine": lambda: ka.RandomAffine((15.0, 15.0), None, (1.1, 1.1), p=1.0),
        "Brightness": lambda: jitter(brightness=(1.4, 1.4)),
        "Contrast": lambda: jitter(contrast=(1.4, 1.4)),
        "Saturation": lambda: jitter(saturation=(1.4, 1.4)),
        "Hue": lambda: jitter(hue=(0.1, 0.1)),
        "GaussianBlur": lambda: ka.RandomGaussianBlur((9, 9), (1.0, 1.0), p=1.0),
        "JPEG": lambda: ka.RandomJPEG((75.0, 75.0), p=1.0),
        **{
            name: random[name]
            for name in (
                "RandomHorizontalFlip", "RandomGrayscale", "RandomInvert", "RandomPosterize", "RandomSolarize",
                "RandomAutocontrast", "RandomEqualize", "RandomAdjustSharpness", "Normalize",
            )
        },
    }  # fmt: skip
    return random, fixed


MIXES: Table = {
    "MixUp": lambda: ka.RandomMixUpV2(p=1.0, data_keys=["input", "class"]),
    "CutMix": lambda: ka.RandomCutMixV2(p=1.0, data_keys=["input", "class"]),
}


class Kornia(Batches):
    work = "float32 all the way, not antialiased"
    jitter: Callable[..., nn.Module] = ka.ColorJitter

    def __init__(self, name: str, threads: int, device: str) -> None:
        super().__init__(name, threads, device)
        self.random, self.fixed = tables(type(self).jitter)

    def differs(self, case: str) -> tuple[str, bool]:
        """Its policies choose their operations once for a batch."""
        less = any(policy in case for policy in ("RandAugment", "TrivialAugment", "AutoAugment"))
        return self.work + ("; operations chosen once for the batch: less work" if less else ""), less

    def op(self, case: str, fixed: bool) -> Any:
        """On floats, as Kornia is used."""
        if case in MIXES:
            check_fixed(case, fixed, self.fixed)
            mix = MIXES[case]()
            return lambda images: mix(images.float() / 255, (torch.arange(len(images)) % CLASSES).to(images.device))[0]
        if case not in self.random:
            raise PeerError(f"Kornia has no {case}")
        check_fixed(case, fixed, self.fixed)
        return self._chain([(self.fixed if fixed else self.random)[case]()])

    def recipe(self, case: str) -> Any:
        if case == PARITY:
            head: list[nn.Module] = [ka.Resize(256), ka.CenterCrop(SQUARE), ka.RandomHorizontalFlip(p=1.0)]
            head += [type(self).jitter(brightness=(1.2, 1.2))]
        else:
            head = [ka.RandomResizedCrop(SQUARE), ka.RandomHorizontalFlip()]
            head += [self.random[name]() for name in RECIPES[case]]
        return self._chain([*head, self.random["Normalize"]()])

    def _chain(self, modules: list[nn.Module]) -> Any:
        chain = self.finished(nn.Sequential(*modules).to(self.device))
        return lambda images: chain(images.float() / 255)

    def finished(self, chain: nn.Module) -> Any:
        return chain


class KorniaCompiled(Kornia):
    work = "float32 all the way, not antialiased; torch.compile, the order of ColorJitter's steps fixed"
    jitter = partial(ka.ColorJitter, order=(0, 1, 2, 3))

    def finished(self, chain: nn.Module) -> Any:
        torch._dynamo.reset()
        return torch.compile(chain)
