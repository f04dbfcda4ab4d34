"""Pipelines after the documentation of other libraries, and what the converters make of them: docs/dialects.md.

python -m tests.support.dialects --write
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchvision import models
from torchvision.transforms import v2

import gpuaug as ga

__all__ = ["PAGE", "PIPELINES", "Pipeline", "result", "table", "written"]

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TORCHVISION = "https://docs.pytorch.org/vision/stable/"
TUTORIAL = "https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html"
REFERENCES = "https://github.com/pytorch/vision/tree/main/references/classification"
TIMM = "https://huggingface.co/docs/timm/training_script"
TIMM_CODE = "https://github.com/huggingface/pytorch-image-models/blob/main/timm/data/auto_augment.py"
TIMM_CARDS = "https://huggingface.co/timm/efficientnet_b2.ra_in1k"
KORNIA = "https://kornia.readthedocs.io/en/latest/augmentation.container.html"
KORNIA_BASICS = "https://kornia.readthedocs.io/en/latest/augmentation.module.html"
ALBUMENTATIONS = "https://albumentations.ai/docs/"

END = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


@dataclass(frozen=True)
class Pipeline:
    """A pipeline of another library: what it is, where it stands, and what converts it."""

    library: str
    what: str
    source: str
    convert: Callable[[], ga.Conversion]


def timm(what: str, **arguments: Any) -> Pipeline:
    given = {"is_training": True, "interpolation": "random", **arguments}
    return Pipeline("timm", what, TIMM, lambda: ga.from_timm_args(**given))


def by_torchvision(what: str, page: str, build: Callable[[], Any], **options: Any) -> Pipeline:
    return Pipeline("torchvision", what, page, lambda: ga.from_torchvision(build(), **options))


def kornia(what: str, page: str, build: Callable[[Any], Any]) -> Pipeline:
    def convert() -> ga.Conversion:
        import kornia.augmentation as augmentations

        return ga.from_kornia(build(augmentations))

    return Pipeline("Kornia", what, page, convert)


def albumentations(what: str, page: str, build: Callable[[Any], Any]) -> Pipeline:
    def convert() -> ga.Conversion:
        import albumentations as library

        return ga.from_albumentations(library.Compose(build(library)))

    return Pipeline("Albumentations", what, ALBUMENTATIONS + page, convert)


def reference(policy: Any) -> Callable[[], Any]:
    """As torchvision's reference script builds its training preset."""
    return lambda: v2.Compose(
        [
            v2.RandomResizedCrop(176, interpolation=v2.InterpolationMode.BILINEAR, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            policy,
            v2.PILToTensor(),
            *END,
            v2.RandomErasing(0.1),
        ]
    )


def detection() -> Any:
    from torchvision import tv_tensors

    fill: Any = {tv_tensors.Image: (123, 117, 104), "others": 0}
    distort, zoom = v2.RandomPhotometricDistort(p=1), v2.RandomZoomOut(fill=fill)
    flip, boxes = v2.RandomHorizontalFlip(p=1), v2.SanitizeBoundingBoxes()
    return v2.Compose([v2.ToImage(), distort, zoom, v2.RandomIoUCrop(), flip, boxes, END[0]])


BILINEAR = v2.InterpolationMode.BILINEAR
TRAIN = [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ToImage(), *END]

PIPELINES: list[Pipeline] = [
    by_torchvision(
        "classification, on tensors",
        TORCHVISION + "transforms.html",
        lambda: v2.Compose([v2.RandomResizedCrop(size=(224, 224), antialias=True), v2.RandomHorizontalFlip(0.5), *END]),
    ),
    by_torchvision(
        "classification, from Pillow by ToImage",
        TORCHVISION + "transforms.html",
        lambda: v2.Compose([v2.ToImage(), v2.ToDtype(torch.uint8, scale=True), *TRAIN[:2], *END]),
    ),
    by_torchvision("transfer learning, training, Pillow", TUTORIAL, lambda: v2.Compose(TRAIN)),
    by_torchvision(
        "transfer learning, evaluation, Pillow",
        TUTORIAL,
        lambda: v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.ToImage(), *END]),
    ),
    by_torchvision(
        "`ResNet50_Weights.IMAGENET1K_V2.transforms()`",
        TORCHVISION + "models.html",
        lambda: models.ResNet50_Weights.IMAGENET1K_V2.transforms(),
    ),
    by_torchvision(
        "reference script, TrivialAugmentWide", REFERENCES, reference(v2.TrivialAugmentWide(interpolation=BILINEAR))
    ),
    by_torchvision("reference script, RandAugment", REFERENCES, reference(v2.RandAugment(interpolation=BILINEAR))),
    by_torchvision("reference script, AugMix", REFERENCES, reference(v2.AugMix(interpolation=BILINEAR))),
    by_torchvision(
        "CutMix or MixUp",
        TORCHVISION + "auto_examples/transforms/plot_cutmix_mixup.html",
        lambda: v2.RandomChoice([v2.CutMix(num_classes=100), v2.MixUp(num_classes=100)]),
    ),
    by_torchvision("detection", TORCHVISION + "auto_examples/transforms/plot_transforms_e2e.html", detection),
    by_torchvision(
        "detection, with `split=True`",
        TORCHVISION + "auto_examples/transforms/plot_transforms_e2e.html",
        detection,
        split=True,
    ),
    timm("SE-ResNet34: erasing by pixels, colour jitter", re_prob=0.5, re_mode="pixel"),
    timm("EfficientNet-B2: RandAugment", auto_augment="rand-m9-mstd0.5", re_mode="pixel", re_prob=0.2),
    timm("ResNeXt-50: RandAugment, increasing", auto_augment="rand-m9-mstd0.5-inc1", re_mode="pixel", re_prob=0.6),
    timm(
        "ResNet-50: three splits",
        auto_augment="rand-m9-mstd0.5-inc1",
        re_mode="pixel",
        re_prob=0.6,
        re_num_splits=3,
    ),
    timm(
        "mixup 0.8, cutmix 1.0",
        auto_augment="rand-m9-mstd0.5-inc1",
        re_mode="pixel",
        re_prob=0.25,
        mixup_alpha=0.8,
        cutmix_alpha=1.0,
        num_classes=1000,
    ),
    Pipeline(
        "timm",
        "EfficientNet-B2: evaluation",
        TIMM_CARDS,
        lambda: ga.from_timm_args(input_size=(3, 288, 288), interpolation="bicubic", crop_pct=1.0),
    ),
    *(
        Pipeline("timm", f"`{text}`", TIMM_CODE, lambda text=text: ga.from_timm(text))  # type: ignore[misc]
        for text in ("rand-m9-n3-mstd0.5", "rand-mstd1-tweights", "original-mstd0.5", "augmix-m5-w4-d2", "3a")
    ),
    kornia(
        "AugmentationSequential",
        KORNIA,
        lambda k: k.AugmentationSequential(k.ColorJiggle(0.1, 0.1, 0.1, 0.1, p=1.0), k.RandomAffine(360.0, p=1.0)),
    ),
    kornia(
        "the same with ColorJitter",
        KORNIA,
        lambda k: k.AugmentationSequential(k.ColorJitter(0.1, 0.1, 0.1, 0.1, p=1.0), k.RandomAffine(360.0, p=1.0)),
    ),
    kornia(
        "flips, rotation, blur",
        KORNIA_BASICS,
        lambda k: torch.nn.Sequential(
            k.RandomHorizontalFlip(p=0.5),
            k.RandomVerticalFlip(p=0.5),
            k.RandomRotation(45.0, p=0.5),
            k.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
            k.RandomMotionBlur(3, 35.0, 0.5, p=0.5),
        ),
    ),
    kornia(
        "RandomResizedCrop, Normalize",
        KORNIA_BASICS,
        lambda k: torch.nn.Sequential(
            k.RandomResizedCrop((224, 224)),
            k.RandomHorizontalFlip(),
            k.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        ),
    ),
    albumentations(
        "first example",
        "getting_started/image_augmentation/",
        lambda a: [a.RandomCrop(width=256, height=256), a.HorizontalFlip(p=0.5), a.RandomBrightnessContrast(p=0.2)],
    ),
    albumentations(
        "starter pipeline",
        "3-basic-usage/choosing-augmentations",
        lambda a: [a.RandomCrop(height=224, width=224), a.HorizontalFlip(p=0.5), a.CoarseDropout(p=0.5), a.Normalize()],
    ),
    albumentations(
        "classification, training",
        "3-basic-usage/image-classification",
        lambda a: [
            a.RandomResizedCrop(size=(224, 224)),
            a.HorizontalFlip(p=0.5),
            a.ColorJitter(p=0.5),
            a.Normalize(),
            a.ToTensorV2(),
        ],
    ),
    albumentations(
        "classification, evaluation",
        "3-basic-usage/image-classification",
        lambda a: [a.SmallestMaxSize(max_size=256), a.CenterCrop(224, 224), a.Normalize(), a.ToTensorV2()],
    ),
    albumentations(
        "OneOf",
        "reference/core-concepts/pipelines",
        lambda a: [
            a.RandomCrop(224, 224),
            a.OneOf([a.GaussianBlur(blur_range=(7, 7)), a.ToGray(), a.InvertImg()], p=0.9),
            a.Rotate(angle_range=(-30, 30)),
        ],
    ),
]


def result(pipeline: Pipeline) -> tuple[str, str]:
    """The weakest fidelity, or "refused"; and why, in a few words."""
    try:
        conversion = pipeline.convert()
    except ValueError as error:
        named = str(error).partition(", got ")[2]
        return "refused", re.sub(r"\s*\. Replace them.*|\.$", "", named)
    reasons = dict.fromkeys(line.why for line in conversion.report if line.why)
    found = conversion.report.fidelity
    if conversion.worker:
        found, names = "split", ", ".join(type(step).__name__ for step in conversion.worker)
        reasons = dict.fromkeys([f"the worker runs {names}", *reasons])
    return found, "; ".join(reasons)


def table() -> str:
    """The Markdown table."""
    lines = ["| library | pipeline | pixels | why |", "|---|---|---|---|"]
    for pipeline in PIPELINES:
        found, why = result(pipeline)
        why = why.replace("|", "\\|")
        lines.append(f"| {pipeline.library} | [{pipeline.what}]({pipeline.source}) | {found} | {why} |")
    return "\n".join(lines)


BEGIN, STOP = "<!-- pipelines: python -m tests.support.dialects --write -->", "<!-- end of pipelines -->"


def written() -> str:
    """The table as it stands on the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(STOP)[0].strip()


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{STOP}{rest.partition(STOP)[2]}", encoding="utf-8")
    else:
        print(table())
