"""Who is audited, on what, and what differs in the work. Each library is used as its own documentation says.

torchaug asks for an old torchvision but runs with today's: pip install --no-deps torchaug.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .peer import PeerError

__all__ = ["CLASSES", "OURS", "SIZE", "SOURCE", "Contestant", "contestants", "steps"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = (0.4, 0.4, 0.4, 0.1)
SOURCE, SIZE, CLASSES = 256, 224, 10
CROP, RANDAUGMENT, MIXED, COLOR = "crop + flip", "+ RandAugment", "+ RandAugment + MixUp", "+ ColorJitter"
CASES = (CROP, RANDAUGMENT, COLOR)
OURS = (CROP, RANDAUGMENT, MIXED, COLOR)

Run = Callable[[Tensor, Tensor], Any]  # of images and labels


@dataclass(frozen=True)
class Contestant:
    who: str
    case: str
    work: str  # what differs in the work
    build: Callable[[int], Run]  # from a seed; raises if the library is missing or cannot do it
    triton: bool = False  # has kernels for Triton's interpreter, which is slow


def contestants() -> list[Contestant]:
    return [
        *(gpuaug(case, backend) for backend in ("triton", "torch") for case in OURS),
        *(kornia(case, device) for device in ("cpu", "cuda") for case in CASES),
        *(torchvision(case, loop) for loop in (False, True) for case in CASES),
        *map(torchaug, CASES),
        *map(triton_augment, CASES),
    ]


def steps(case: str) -> list[Any]:
    """gpuaug's list."""
    import gpuaug as ga

    color: dict[str, list[Any]] = {CROP: [], COLOR: [ga.ColorJitter(*JITTER)]}
    middle = color.get(case, [ga.RandAugment(2, 9)])
    tail: list[Any] = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize(MEAN, STD)]
    mix = [ga.MixUp(num_classes=CLASSES)] if case == MIXED else []
    return [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip(), *middle, *tail, *mix]


def gpuaug(case: str, backend: str) -> Contestant:
    mixes = case == MIXED

    def build(seed: int) -> Run:
        import gpuaug as ga

        augment = ga.Augment(steps(case), seed=seed, backend=backend)
        return lambda images, labels: augment(images, labels) if mixes else augment(images)

    work = "each image its own draw; antialiased; bfloat16 out" + ("; labels are mixed too" if mixes else "")
    return Contestant(f"gpuaug, {backend} backend", case, work, build, backend == "triton")


def kornia(case: str, device: str) -> Contestant:
    def build(seed: int) -> Run:
        import kornia.augmentation as ka

        middles = {RANDAUGMENT: [ka.auto.RandAugment(n=2, m=9)], COLOR: [ka.ColorJitter(*JITTER, p=1.0)]}
        head = [ka.RandomResizedCrop((SIZE, SIZE)), ka.RandomHorizontalFlip()]
        tail = [ka.Normalize(torch.tensor(MEAN), torch.tensor(STD))]
        chain = torch.nn.Sequential(*head, *middles.get(case, []), *tail).to(device)
        return lambda images, labels: chain(images.float() / 255)

    who = f"Kornia, modules on the {'device' if device == 'cuda' else 'host'}"
    draw = "both ops drawn once for the batch" if case == RANDAUGMENT else "each image its own draw"
    work = f"float32 all the way; {draw}; not antialiased; crops in a loop: launches grow with the batch"
    return Contestant(who, case, work, build)


def torchvision(case: str, loop: bool) -> Contestant:
    def build(seed: int) -> Run:
        from torchvision.transforms import v2

        middles = {RANDAUGMENT: [v2.RandAugment(2, 9)], COLOR: [v2.ColorJitter(*JITTER)]}
        head = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()]
        tail = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        chain = v2.Compose([*head, *middles.get(case, []), *tail])
        if loop:
            return lambda images, labels: torch.stack([chain(image) for image in images])
        return lambda images, labels: chain(images)

    who = f"torchvision v2, {'image by image' if loop else 'whole batch'}"
    draw = "each image its own draw; launches grow with the batch" if loop else "one draw for the batch: less work"
    return Contestant(who, case, f"uint8 until Normalize; antialiased; {draw}", build)


def torchaug(case: str) -> Contestant:
    def build(seed: int) -> Run:
        from torchaug import transforms as ta

        head = [ta.RandomResizedCrop(SIZE), ta.RandomHorizontalFlip()]
        jitter = [ta.ColorJitter(*JITTER)] if case == COLOR else []
        policy = [ta.RandAugment(2, 9)] if case == RANDAUGMENT else []  # which a SequentialTransform does not take
        tail = [ta.ToDtype(torch.float32, scale=True), ta.Normalize(MEAN, STD)]
        chain = ta.Compose([ta.SequentialTransform([*head, *jitter]), *policy, ta.SequentialTransform(tail)])
        return lambda images, labels: chain(images)

    draw = "both ops drawn once for the batch" if case == RANDAUGMENT else "each image its own draw"
    work = f"uint8 until Normalize; antialiased; {draw}; crops in a loop: launches grow with the batch"
    return Contestant("torchaug", case, work, build)


def triton_augment(case: str) -> Contestant:
    def build(seed: int) -> Run:
        import triton_augment as ta

        if case == RANDAUGMENT:
            raise PeerError("triton-augment has no RandAugment")
        jitter = dict(zip(("brightness", "contrast", "saturation"), JITTER, strict=False)) if case == COLOR else {}
        fused = ta.TritonFusedAugment(crop_size=SIZE, horizontal_flip_p=0.5, mean=MEAN, std=STD, **jitter)
        return lambda images, labels: fused(images.float() / 255)

    jitter = "; no hue, contrast around grey, one order" if case == COLOR else ""
    work = f"float32; each image its own draw; crops but does not resize: less work{jitter}"
    return Contestant("triton-augment", case, work, build, triton=True)
