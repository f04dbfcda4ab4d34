"""The lists that golden.py hashes, as source text, so that each name says what is run; and the images."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

import gpuaug as ga

__all__ = ["ARGUMENTS", "CLASSES", "ERRORS", "Case", "cases", "image", "images", "interpreted"]

CLASSES = 4
COUNT = 5  # images of a batch
SIZE = (40, 36)  # height, width
CHANNELS = {"rgb": 3, "grey": 1, "four": 4, "ragged": 3}


@dataclass(frozen=True)
class Case:
    """A list of steps and how it is called; every text is evaluated with the names of gpuaug.

    Args:
        steps: the list, without its brackets.
        images: "rgb", "grey", "four" (channels), "ragged" or "tiny".
        options: keyword arguments of Augment.
        labels: "", "numbers" or "soft".
        then: a method call on the module, such as ".half()".
    """

    steps: str
    images: str = "rgb"
    options: str = ""
    labels: str = ""
    then: str = ""

    @property
    def name(self) -> str:
        return " | ".join(part for part in (self.steps + self.then, self.images, self.options, self.labels) if part)


WARPS = ("'nearest'", "'bilinear'", "'bicubic'")
FILTERS = ("'nearest'", "'nearest-exact'", "'bilinear'", "'bicubic'")
PADDINGS = ("'constant'", "'edge'", "'reflect'", "'symmetric'")
GATE = ("", "0.0", "0.6", "1.0")
TILTED = "25, translate=(0.1, 0.2), scale=(0.7, 1.4), shear=(-9, 9, -5, 5)"
MODES = tuple(f"num_classes=4, mode='{mode}'" for mode in ("batch", "pair", "elem"))

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "RandomHorizontalFlip": GATE,
    "RandomVerticalFlip": GATE,
    "RandomRotation": (
        *(f"45, {name}, fill={fill}" for name in WARPS for fill in ("0", "(200, 3, 90)")),
        *("(170, 190), center=(3.5, 12), fill=128", "90"),
    ),
    "RandomAffine": (
        *(f"{TILTED}, interpolation={name}, fill=77" for name in WARPS),
        *("0, translate=(0.3, 0.3)", "30, scale=(0.5, 2), center=(0, 5)", "0, shear=20"),
    ),
    "RandomPerspective": (*(f"0.5, 0.7, {name}, 9" for name in WARPS), "1.0, 1.0", "0.3, 0.0"),
    "ElasticTransform": (
        *(f"60, 2.5, {name}, fill={fill}" for name in WARPS for fill in ("None", "(200, 3, 90)")),
        *("(40, -20), (1.5, 0.7)", "9, 0", ""),
    ),
    "Resize": (
        *(f"(20, 31), {name}" for name in FILTERS),
        *("(61, 29), antialias=False", "24", "30, max_size=33", "None, max_size=30", "(5, 90), 'bicubic'"),
    ),
    "CenterCrop": ("20", "(33, 16)", "(50, 60)", "(17, 58)"),
    "Pad": (*(f"(1, 2, 3, 4), 9, {name}" for name in PADDINGS), "5, (1, 2, 200)", "(7, 0)"),
    "RandomCrop": (
        *(f"(30, 28), 4, fill=50, padding_mode={name}" for name in PADDINGS),
        *("20", "(48, 50), pad_if_needed=True", "32, (1, 2, 3, 4), fill=(1, 9, 200)"),
    ),
    "RandomResizedCrop": (
        *(f"(24, 31), interpolation={name}" for name in FILTERS),
        *("45, (0.01, 0.2), antialias=False", "16, (1, 2), (3, 4), 'bicubic'"),
    ),
    "ColorJitter": (
        *("0.4, 0.4, 0.4, 0.1", "0.9, 0.9, 0.9", "hue=(-0.5, 0.44)", "brightness=(0, 3)", "contrast=(0, 3)"),
        *("saturation=(0, 3)", ""),
    ),
    "RandomGrayscale": GATE,
    "Grayscale": ("1", "3"),
    "RGB": ("",),
    "RandomPhotometricDistort": ("", "(0.2, 2), (0, 3), (0, 3), (-0.5, 0.44), p=0.7", "p=1.0"),
    "RandomInvert": GATE,
    "RandomPosterize": (*(f"{bits}, 0.7" for bits in (0, 1, 3, 5, 8)), "2, 0.0"),
    "RandomSolarize": (*(f"{threshold}, 0.7" for threshold in (0, 0.5, 100, 127.5, 255)), "90, 1.0"),
    "RandomAutocontrast": GATE,
    "RandomEqualize": GATE,
    "RandomAdjustSharpness": ("0, 0.7", "0.3, 0.7", "1.9, 1.0", "10, 0.7", "2.0, 0.0"),
    "RandomChannelPermutation": ("",),
    "GaussianBlur": ("3", "(9, 5), (0.5, 3)", "23, 4.0", "(1, 7), 1.5"),
    "MotionBlur": (
        *(f"5, 90, 0.5, '{border}', p=0.7" for border in ("constant", "reflect", "replicate", "circular")),
        *("3, 45, 1, p=1.0", "9, (-180, 180), (-1, 1), 'replicate', 'bilinear', p=0.7"),
    ),
    "GaussianNoise": ("", "0.1, 0.02", "-0.2, 0.5, clip=False"),
    "JPEG": ("75", "(1, 30)", "(80, 100)"),
    "RandomErasing": (
        *("0.7", "0.7, (0.3, 0.9), (0.1, 9), value=255", "1.0, value=(1, 2, 3)", "0.0"),
        "0.7, value=0.5",
    ),
    "ToDtype": (
        *(f"torch.{name}, {scale}" for name in ("float32", "float16", "bfloat16") for scale in (True, False)),
        *("torch.uint8", "'auto', scale=True"),
    ),
    "Normalize": ("(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)", "(0.4,), (0.3,)", "(0.1,), (-0.7,)"),
    "RandAugment": ("", "3, 30, fill=(124, 116, 104)", "1, 14, interpolation='bilinear'", "3, 5, 11, 'bicubic'"),
    "AutoAugment": ("'imagenet'", "'cifar10', fill=128", "'svhn', fill=(1, 2, 200)", "'imagenet', 'bilinear'"),
    "TrivialAugmentWide": ("", "11, fill=9", "interpolation='bilinear'"),
    "AugMix": ("", "10, 2, 2, alpha=0.5", "all_ops=False", "5, 4, interpolation='nearest', fill=30"),
    "TimmRandAugment": (
        *("", "9, 3, 0.9, 0.5, interpolation='nearest'"),
        "7, 2, 0.5, 'uniform', interpolation='bicubic', fill=9",
    ),
    "TimmAutoAugment": ("", "'3a', fill=90", "'originalr', 0.5, interpolation='nearest'"),
    "TimmAugMix": ("", "5, 2, 3", "3, alpha=0.4, magnitude_std=0.5, interpolation='bilinear'"),
    "Compose": ("[RandomInvert(), RandomCrop(30)]", "[Compose([RandomEqualize()]), ColorJitter(0.4)]"),
    "RandomApply": (
        *("[ColorJitter(0.4, 0.4), GaussianBlur(5)], p=0.6", "[RandomRotation(20)], 0.0", "[RandomInvert()], 1.0"),
        "[RandomOrder([RandomChoice([RandomInvert(1.0), RandomPosterize(2)]), RandomHorizontalFlip()])], 0.7",
    ),
    "RandomOrder": (
        "[RandomInvert(), RandomEqualize(), RandomSolarize(100), RandomAutocontrast(), RandomAdjustSharpness(2.0)]",
        "[RandomApply([RandomInvert(1.0), RandomSolarize(90, 1.0)]), RandomAffine(20), GaussianBlur(3)]",
    ),
    "RandomChoice": (
        *("[GaussianBlur(3), RandomInvert(1.0), RandomRotation(30)]", "[RandomInvert(1.0), JPEG(9)], p=[0.2, 0.8]"),
        "[RandomResizedCrop(20), CenterCrop(20), Resize((20, 20))], p=[0.1, 0.8, 0.1]",
        "[RandAugment(), TrivialAugmentWide(), AutoAugment()], p=[0.3, 0.3, 0.2]",
        "[MixUp(num_classes=4), CutMix(num_classes=4)], p=[0.4, 0.3]",
    ),
    "MixUp": (*MODES, "alpha=0.2, num_classes=4", "alpha=3.0"),
    "CutMix": (*MODES, "alpha=0.2, num_classes=4", "alpha=3.0"),
    "Identity": ("",),
}  # fmt: skip

FLOATS = "ToDtype(torch.float32, scale=True)"
NORMAL = "Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"
GREY = "Normalize((0.45,), (0.225,))"
TAIL = f"{FLOATS}, {NORMAL}"
BRAIN = f"ToDtype(torch.bfloat16, scale=True), {NORMAL}"
BEFORE = {"Normalize": f"{FLOATS}, "}
LAST = "memory_format=torch.channels_last"
MIXED = "RandomChoice([MixUp(num_classes=4), CutMix(num_classes=4)])"
WARPED = "RandomRotation(20, 'bilinear', fill=9), RandomAffine(9, (0.1, 0.2)), RandomPerspective(0.4)"

RECIPES = (
    Case(f"RandomResizedCrop(31), RandomHorizontalFlip(), ColorJitter(0.4, 0.4, 0.4), {TAIL}, RandomErasing(0.5)"),
    Case(f"RandomHorizontalFlip(), RandomCrop(32, 4, padding_mode='reflect'), RandAugment(), {TAIL}"),
    Case(f"RandomResizedCrop(24), RandAugment(2, 9), {BRAIN}, {MIXED}", labels="numbers"),
    Case(f"RandomResizedCrop(24), TrivialAugmentWide(), {BRAIN}, RandomErasing(0.6, value='random')"),
    Case(f"RandomResizedCrop(24), RandomApply([ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8), GaussianBlur(5), {BRAIN}"),
    Case(f"Resize(36), CenterCrop(32), {TAIL}"),
    Case("RandomVerticalFlip(), Grayscale(1), Resize((20, 31)), RandomInvert(), ToDtype(torch.float16)"),
    Case(f"Resize(30), Pad(3, padding_mode='reflect'), RandomResizedCrop(20), {TAIL}"),
    Case(f"GaussianBlur(3), RandomCrop(30), RandAugment(1), Resize(20), {BRAIN}"),
    Case(f"RandomErasing(0.8, value=9), {FLOATS}, RandomErasing(value=0.5), {NORMAL}, RandomErasing(value='random')"),
    Case("GaussianNoise(), RandomAutocontrast(), GaussianNoise(0.1), RandomChannelPermutation()"),
    Case(f"AugMix(), {TAIL}, MixUp(num_classes=4, mode='elem')", labels="soft"),
    Case("Resize((45, 28)), RandomResizedCrop(24), CenterCrop(20), Pad(2)"),
    Case(f"{WARPED}, {TAIL}"),
    Case("RandomHorizontalFlip(), RandomCrop(32, padding=4), RandomEqualize(), RandomErasing(0.5)"),
)  # fmt: skip

MODULES = (
    *(Case(f"RandomResizedCrop(24), RandAugment(), ToDtype('auto', scale=True), {NORMAL}", then=then)
      for then in (".half()", ".bfloat16()", ".to(torch.float16)", ".float()", ".half().float()")),
    Case(f"RandomCrop(28), {TAIL}", then=".half()"),
    *(Case("RandomHorizontalFlip(), RandAugment()", options=f"seed={seed}") for seed in (0, 1, 2**32, 2**64 - 1)),
    Case(f"RandomResizedCrop(24), {TAIL}", options=f"eval=[Resize((30, 30)), CenterCrop(24), {TAIL}]"),
    Case(f"RandomResizedCrop(24), {TAIL}", options="eval=[RandomHorizontalFlip(), RandomCrop(20)]"),
    Case("RandomHorizontalFlip(), ColorJitter(0.4)", labels="numbers"),
    Case("RandomInvert(), ColorJitter(0.4)", labels="soft"),
    *(Case(f"{FLOATS}, {mix}({mode}, alpha=0.4)", images, labels="soft")
      for mix in ("MixUp", "CutMix") for mode in ("mode='batch'", "mode='pair'", "mode='elem'")
      for images in ("rgb", "grey")),
    *(Case(f"RandomCrop(28), ToDtype(torch.float16, scale=True), {mix}({mode})", labels="numbers")
      for mix in ("MixUp", "CutMix") for mode in MODES),
    Case("RandomResizedCrop(24), v2.RandomInvert(0.5), v2.ToDtype(torch.float32, scale=True)"),
    Case("RandomCrop(30), Opaque(v2.RandomPhotometricDistort(p=1.0)), RandomHorizontalFlip()"),
    Case("Opaque(v2.RandomAffine(10, (0.1, 0.1)), moves=True), ColorJitter(0.4)", labels="numbers"),
    Case("RandomHorizontalFlip(), Opaque(v2.GaussianBlur(3)), RandomCrop(30, 2), Opaque(v2.RandomAutocontrast(1.0))"),
    *(Case(f"*from_torchvision({source})", images, options) for images, options in (("rgb", ""), ("ragged", LAST))
      for source in (
          "v2.Compose([v2.ToImage(), v2.RandomResizedCrop(24), v2.RandAugment(), v2.ToDtype(torch.float32, True)])",
          "[v1.RandomResizedCrop(24), v1.RandomHorizontalFlip(), v1.TrivialAugmentWide(), v1.ToTensor()]",
          "v2.Compose([v2.RandomCrop(24), v2.RandomApply([v2.ColorJitter(0.4)], 0.7), v2.AugMix()])",
          "models.ResNet18_Weights.DEFAULT.transforms(crop_size=24, resize_size=28)",
          "models.ViT_B_16_Weights.DEFAULT.transforms(crop_size=20, resize_size=24)",
          "models.EfficientNet_B3_Weights.DEFAULT.transforms(crop_size=24, resize_size=26)",
      )),
)  # fmt: skip

ERRORS = (
    *("Augment([RandomCrop(-1)])", "Augment([RandomHorizontalFlip(2.0)])", "Augment([Normalize((0.5,), (0.0,))])"),
    *("Augment([], seed=-1)", "Augment([], backend='none')", "Augment([3])", "Augment([RandomPosterize(9)])"),
    *("Augment([MixUp(num_classes=4)])(images)", "Augment([RandomInvert()])(images.float())", "Augment([])(images[0])"),
    *("Augment([RandomInvert()])(images, index=images)", "Augment([RandomCrop(99)])(images)", "Augment([], 1)(images)"),
    *("Augment([MixUp(num_classes=4), RandomInvert()])", "Augment([AutoAugment('none')])", "RandomChoice([], p=[1.0])"),
    *("from_torchvision(v1.FiveCrop(3))", "Ragged.from_images([])", "ragged_collate([])", "collate(3)", "JPEG(0)"),
    *("Augment([ToDtype(torch.float64)])", "DeviceLoader(3, 'cpu', Augment([]))", "Augment([]).set_epoch(-1)"),
    *("data.ImageFolder('none')", "data.Packed('none')", "data.NumberedSampler(3)", "RandomErasing(value='x')"),
    *("Augment([], [RandomInvert()]).eval_module(20)", "Augment([]).render(images, 3)", "Augment([AugMix()])(grid)"),
)  # fmt: skip

CROPS = ("CenterCrop", "Pad", "RandomCrop", "RandomResizedCrop", "Resize")
ENDS = ("Compose", "Grayscale", "MixUp", "CutMix", "ToDtype", "Normalize")  # not in the middle of any list
LATER = (  # added since: the random lists stay
    "ElasticTransform", "Identity", "RGB", "RandomPhotometricDistort", "TimmAugMix", "TimmAutoAugment",
    "TimmRandAugment",
)  # fmt: skip
POOL = [
    f"{name}({text})"
    for name, texts in ARGUMENTS.items()
    for text in texts
    if name not in (*CROPS, *ENDS, *LATER) and "Crop" not in text and "Mix" not in text
]  # fmt: skip


def image(number: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Slopes with a little noise, or noise alone; of whole numbers, so the same everywhere."""
    noise = np.frombuffer(random.Random(number).randbytes(channels * height * width), np.uint8)
    noise = noise.reshape(channels, height, width).astype(np.int64)
    channel, y, x = np.indices((channels, height, width))
    slopes = (x * (3 + number % 4) + y * (5 - channel) + 40 * channel * number) % 320 // 2 + noise % 9
    levels = noise if number % 3 == 2 else np.minimum(slopes, 255)
    return torch.from_numpy(levels.astype(np.uint8))


@cache
def images(kind: str, count: int = COUNT) -> Any:
    """A batch; nobody writes to it."""
    if kind == "tiny":
        return torch.stack([image(number, 3, 12, 10) for number in range(2)])
    sizes = [(34 + 11 * (number % 3), 30 + 7 * (number % 4)) if kind == "ragged" else SIZE for number in range(count)]
    made = [image(number, CHANNELS[kind], *size) for number, size in enumerate(sizes)]
    return ga.Ragged.from_images(made) if kind == "ragged" else torch.stack(made)


def cases() -> dict[str, list[Case]]:
    """The lists of each part."""
    return {
        "ops": list(_ops()),
        "recipes": [
            Case(
                case.steps if images in ("rgb", "ragged") else case.steps.replace(NORMAL, GREY),
                images,
                options,
                case.labels,
            )
            for case in RECIPES
            for images in ("rgb", "grey", "four", "ragged")
            for options in ("", f"exact=True, {LAST}")
        ],
        "modules": list(MODULES),
        "random": list(dict.fromkeys(map(_random, range(200)))),  # short ones may come twice
    }


def _ops() -> Iterator[Case]:
    for name, texts in ARGUMENTS.items():
        for number, text in enumerate(texts):
            step = f"{BEFORE.get(name, '')}{name}({text})"
            mixes = name in ("MixUp", "CutMix") or "Mix" in text
            labels = "" if not mixes else "numbers" if "num_classes" in text else "soft"
            for images in ("rgb", "grey", "four"):
                yield Case(step, images, labels=labels)
            if name in CROPS:
                yield Case(f"{step}, CenterCrop(20)" if name in ("Pad", "Resize") else step, "ragged")
            elif name not in ENDS and number < 2:
                yield Case(f"{step}, RandomResizedCrop(24), {TAIL}", "ragged", LAST)
                yield Case(f"{step}, RandomCrop(20), {BRAIN}", "rgb", f"exact=True, {LAST}")


def _random(seed: int) -> Case:
    """Steps in any order, in containers too, with crops among them, then a dtype and an end."""
    rng = random.Random(seed)
    crops = [f"{name}({text})" for name in ("RandomResizedCrop", "Resize", "Pad") for text in ARGUMENTS[name]]
    crops += ["CenterCrop((33, 16))", "RandomCrop(20, pad_if_needed=True)", "RandomCrop(24, 2, True, 200)"]

    def drawn(depth: int = 0) -> str:
        if depth == 2 or rng.random() < 0.75:
            return rng.choice(POOL)
        inner = ", ".join(drawn(depth + 1) for _ in range(rng.randint(1, 3)))
        return f"{rng.choice(['RandomApply', 'RandomChoice', 'RandomOrder'])}([{inner}])"

    images = rng.choice(["rgb", "rgb", "rgb", "ragged"])
    steps = [rng.choice(crops) if rng.random() < 0.4 else drawn() for _ in range(rng.randint(1, 5))]
    if images == "ragged":
        steps.insert(rng.randint(0, len(steps)), "RandomResizedCrop((24, 31))")
    end = rng.choice(["", TAIL, BRAIN, f"{FLOATS}, RandomErasing(value='random'), MixUp(num_classes=4)"])
    options = rng.choice(["", "exact=True", LAST, f"exact=True, {LAST}"])
    return Case(", ".join([*steps, *[end] * bool(end)]), images, options, "numbers" if "MixUp" in end else "")


def interpreted() -> list[Case]:
    """Few and small, for Triton's interpreter is slow."""
    lists = (
        *(f"RandomResizedCrop(8), RandomHorizontalFlip(), {TAIL}", "RandAugment()", "ColorJitter(0.4, 0.4, 0.4, 0.1)"),
        *("GaussianBlur(3)", "JPEG(50)", "RandomRotation(30, 'bicubic', fill=9)", "RandomPerspective(0.5, 1.0)"),
        *(f"{FLOATS}, RandomErasing(0.9, value='random')", "MotionBlur(3, 40.0, 0.5, p=1.0)", "GaussianNoise()"),
        *("RandomEqualize(0.7), RandomAutocontrast()", "RandomCrop(8, 2, padding_mode='reflect'), RandomPosterize(3)"),
    )
    mixed = Case(f"RandomCrop(8), {BRAIN}, CutMix(num_classes=4)", "tiny", labels="numbers")
    return [*(Case(steps, "tiny") for steps in lists), mixed, Case("AugMix(), RandomCrop(8)", "tiny", LAST)]
