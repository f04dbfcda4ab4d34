"""The oracle: for every op, how to build it and torchvision's answer for ONE image with ONE sample's parameters.

A row is `answer(op, image, sample)`; `sample` is one row of the params dict that `Augment.sample` drew. Bicubic warps
come from grid_sample, MotionBlur from Kornia; torchvision has neither. `wrong` is the answer to a slightly different
question, which the comparison must tell from the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import _geometry as geometry

import gpuaug as ga
from tests.support import answers as tv
from tests.support.answers import EXACT, TIE, WITHIN_1, Answer, Sample, Tolerance

__all__ = ["ROWS", "Row", "answer", "differs", "on_ties", "replay", "take", "wrong"]


def differs(got: Tensor, expected: Tensor, tolerance: Tolerance) -> str:
    """Empty if `got` is the oracle's answer, else what is wrong."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return f"{got.dtype} {tuple(got.shape)} is not {expected.dtype} {tuple(expected.shape)}"
    if tolerance == EXACT and got.dtype.is_floating_point:
        same = got.view(integer(got.dtype)) == expected.view(integer(got.dtype))
        gap = (got.double() - expected.double()).abs()
    else:
        gap = (got.double() - expected.double()).abs()
        same = gap <= tolerance.levels
    missed = int((~same).sum())
    if missed == 0:
        return ""
    return f"{missed} of {same.numel()} values differ, by up to {float(gap.max()):g}; {tolerance} is allowed"


def on_ties(respond: Callable[[], list[Tensor]]) -> list[list[Tensor]]:
    """What `respond` says when torchvision's warps look a little to the left or right, and up or down."""
    original, answers = geometry._apply_grid_transform, []
    for x, y in ((-TIE, -TIE), (-TIE, TIE), (TIE, -TIE), (TIE, TIE)):

        def near(
            image: Tensor, grid: Tensor, *arguments: Any, step: tuple[float, float] = (x, y), **named: Any
        ) -> Tensor:
            height, width = image.shape[-2:]
            shift = torch.tensor([2 * step[0] / width, 2 * step[1] / height])
            return original(image, grid + shift, *arguments, **named)

        with mock.patch.object(geometry, "_apply_grid_transform", near):
            answers.append(respond())
    return answers


def integer(dtype: torch.dtype) -> torch.dtype:
    """The integer dtype to look at the bits of a float dtype with."""
    return {2: torch.int16, 4: torch.int32}[dtype.itemsize]


def take(params: dict[str, Any], number: int) -> Sample:
    """The parameters of one sample; "op" belongs to all."""
    row: Sample = {}
    for name, value in params.items():
        row[name] = take(value, number) if isinstance(value, dict) else value if name == "op" else value[number]
    return row


def answer(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """torchvision's answer, or the image where the op's gate said no."""
    return ROWS[type(op)].answer(op, image, sample) if sample.get("applied", True) else image


def wrong(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """An answer that is slightly off."""
    return ROWS[type(op)].wrong(op, image, sample)


def replay(augment: ga.Augment, draw: ga.Draw, images: Sequence[Tensor], last: Answer = answer) -> list[Tensor]:
    """The oracle's batch: the list's steps one after another, sample by sample; `last` answers the last step."""
    pipeline = augment.train_pipeline if draw.training else augment.eval_pipeline
    results = [image.contiguous() for image in images]
    for place, (op, params) in enumerate(zip(pipeline.steps, draw.params, strict=True)):
        respond = last if place == len(pipeline.steps) - 1 else answer
        keys = [{"keys": draw.keys.take(np.array([b]))} for b in range(len(results))]
        samples = [take(params, b) | keys[b] | {"batch": results, "number": b} for b in range(len(results))]
        results = [respond(op, image, sample) for image, sample in zip(results, samples, strict=True)]
    dtype = torch.float32 if isinstance(pipeline.dtype, str) else pipeline.dtype
    return [result.to(dtype) if result.is_floating_point() else result for result in results]


# --- how to be slightly wrong -----------------------------------------------------------------------------------


def other_gate(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """Applied where it was not, and the other way round."""
    return answer(op, image, {**sample, "applied": not sample["applied"]})


def moved(**amounts: float) -> Answer:
    """The sample's parameters, each moved by an amount."""

    def respond(op: Any, image: Tensor, sample: Sample) -> Tensor:
        near = {name: sample[name] + amount for name, amount in amounts.items() if name in sample}
        return answer(op, image, {**sample, **near})

    return respond


def instead(change: Callable[[Any], Any]) -> Answer:
    """Another op than the one that ran."""
    return lambda op, image, sample: answer(change(op), image, sample)


def shifted(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """The right answer for an image one pixel further right."""
    return answer(op, image.roll(1, -1), sample)


# --- rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One op: `ops` at several strengths, and what torchvision makes of a sample."""

    ops: Sequence[Any]  # an op, or a list of steps that ends with it
    answer: Answer
    wrong: Answer = other_gate
    tolerance: Callable[[Any, Sample], Tolerance | None] = lambda op, sample: EXACT
    channels: Sequence[int] = (1, 2, 3, 4, 5)
    count: int = 7  # samples per batch


def other_op(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """Brightness for Contrast, Solarize for Posterize, and so on."""
    return answer(
        op, image, {**sample, "ops": np.clip(sample["ops"] - 1, 6, 14), "magnitude": sample["magnitude"].clip(-1, 1)}
    )


def chosen(op: ga.RandomChoice, image: Tensor, sample: Sample) -> Tensor:
    number = int(sample["chosen"])
    if number == len(op.transforms):
        return image
    return answer(op.transforms[number], image, inner(sample, number))


def in_turn(numbers: Callable[[Any, Sample], Sequence[int]]) -> Answer:
    """The children one after another."""

    def respond(op: Any, image: Tensor, sample: Sample) -> Tensor:
        for number in numbers(op, sample):
            image = answer(op.transforms[number], image, inner(sample, number))
        return image

    return respond


def inner(sample: Sample, number: int) -> Sample:
    return sample[str(number)] | {name: sample[name] for name in ("keys", "batch", "number")}


FLOATS = ga.ToDtype(torch.float32, scale=True)
NORMALIZE = ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


WARPS = ("nearest", "bilinear", "bicubic")
TILTED = {"degrees": (10, 160), "translate": (0.2, 0.3), "scale": (0.6, 1.7), "shear": (-20, 30, -15, 5)}

ROWS: dict[type, Row] = {
    ga.RandomHorizontalFlip: Row([ga.RandomHorizontalFlip(0.6)], tv.plain(F.horizontal_flip)),
    ga.RandomVerticalFlip: Row([ga.RandomVerticalFlip(0.6)], tv.plain(F.vertical_flip)),
    ga.RandomRotation: Row(
        [ga.RandomRotation(45, name, fill=fill) for name in WARPS for fill in (0, None, (200, 3, 90))]
        + [ga.RandomRotation((170, 190), name, center=(3.5, 12), fill=128) for name in WARPS],
        tv.rotated,
        moved(degrees=5),
        tv.warp_tolerance,
    ),
    ga.RandomAffine: Row(
        [ga.RandomAffine(**TILTED, interpolation=name, fill=fill) for name in WARPS for fill in (0, None, 77)]
        + [ga.RandomAffine(0, translate=(0.3, 0.3)), ga.RandomAffine(30, scale=(0.5, 2), center=(0, 5))],
        tv.affine,
        moved(degrees=5),
        tv.warp_tolerance,
    ),
    ga.RandomPerspective: Row(
        [ga.RandomPerspective(0.5, 0.7, name, fill) for name in WARPS for fill in (0, None, (1, 200, 30))]
        + [ga.RandomPerspective(1.0, 0.7, name) for name in WARPS],
        tv.perspective,
        other_gate,
        tv.warp_tolerance,
    ),
    ga.Resize: Row(
        [ga.Resize((20, 31), name) for name in ("nearest", "nearest-exact", "bilinear", "bicubic")]
        + [ga.Resize((61, 29), name, antialias=False) for name in ("bilinear", "bicubic")]
        + [
            ga.Resize(24),
            ga.Resize(40, max_size=50),
            ga.Resize(None, max_size=30),
            ga.Resize((33, 47)),
            ga.Resize((5, 300)),
        ],
        lambda op, image, _: F.resize(image, tv.sizes(op.size), tv.mode(op), op.max_size, op.antialias),
        shifted,
        tv.resize_tolerance,
    ),
    ga.CenterCrop: Row(
        [ga.CenterCrop(20), ga.CenterCrop((33, 16)), ga.CenterCrop((50, 60)), ga.CenterCrop((17, 58))],
        lambda op, image, _: F.center_crop(image, tv.sizes(op.size)),
        shifted,
    ),
    ga.Pad: Row(
        [ga.Pad((1, 2, 3, 4), 9, name) for name in ("constant", "edge", "reflect", "symmetric")]
        + [ga.Pad(5, (1, 2, 200)), ga.Pad((7, 0))],
        lambda op, image, _: F.pad(image, tv.sizes(op.padding), tv.fill(op), op.padding_mode),
        shifted,
    ),
    ga.RandomCrop: Row(
        [
            ga.RandomCrop((30, 28), 4, padding_mode=name, fill=50)
            for name in ("constant", "edge", "reflect", "symmetric")
        ]
        + [
            ga.RandomCrop(20),
            ga.RandomCrop((40, 60), pad_if_needed=True),
            ga.RandomCrop(32, (1, 2, 3, 4), fill=(1, 9, 200)),
        ],
        tv.crop_padded,
        shifted,
    ),
    ga.RandomResizedCrop: Row(
        [
            ga.RandomResizedCrop((24, 31), interpolation=name)
            for name in ("nearest", "nearest-exact", "bilinear", "bicubic")
        ]
        + [ga.RandomResizedCrop(60, (0.01, 0.2), antialias=False), ga.RandomResizedCrop(16, (1, 2), (3, 4), "bicubic")],
        tv.crop_resized,
        lambda op, image, sample: answer(op, image, {**sample, "box": sample["box"] + np.array([0, 1, 0, 0])}),
        tv.resize_tolerance,
    ),
    ga.ColorJitter: Row(
        [
            *(ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.ColorJitter(0.9, 0.9, 0.9), ga.ColorJitter(hue=(-0.5, 0.44))),
            *(ga.ColorJitter(brightness=(0, 3)), ga.ColorJitter(contrast=(0, 3)), ga.ColorJitter(saturation=(0, 3))),
        ],
        tv.jitter,
        moved(brightness_factor=0.05, contrast_factor=0.1, saturation_factor=0.1, hue_factor=0.05),
        tv.jitter_tolerance,
        (1, 3),
    ),
    ga.RandomGrayscale: Row(
        [ga.RandomGrayscale(0.6)], lambda op, image, _: F.rgb_to_grayscale(image, len(image)), channels=(1, 3)
    ),
    ga.Grayscale: Row(
        [ga.Grayscale(1), ga.Grayscale(3)],
        tv.plain(F.rgb_to_grayscale, "num_output_channels"),
        shifted,
        channels=(1, 3),
    ),
    ga.RandomInvert: Row([ga.RandomInvert(0.6)], tv.plain(F.invert)),
    ga.RandomPosterize: Row(
        [ga.RandomPosterize(bits, 0.7) for bits in range(9)],
        tv.plain(F.posterize, "bits"),
        instead(lambda op: ga.RandomPosterize(op.bits + (1 if op.bits < 4 else -1))),
    ),
    ga.RandomSolarize: Row(
        [ga.RandomSolarize(threshold, 0.7) for threshold in (0, 0.5, 100, 127.5, 200, 255)],
        tv.plain(F.solarize, "threshold"),
        instead(lambda op: ga.RandomSolarize(op.threshold + (50 if op.threshold < 128 else -50))),
    ),
    ga.RandomAutocontrast: Row([ga.RandomAutocontrast(0.6)], tv.plain(tv.autocontrast)),
    ga.RandomEqualize: Row([ga.RandomEqualize(0.6)], tv.plain(F.equalize)),
    ga.RandomAdjustSharpness: Row(
        [ga.RandomAdjustSharpness(factor, 0.7) for factor in (0, 0.3, 1.9, 10)],
        tv.plain(tv.sharpness, "sharpness_factor"),
        instead(lambda op: ga.RandomAdjustSharpness(op.sharpness_factor + 0.1)),
    ),
    ga.RandomChannelPermutation: Row(
        [ga.RandomChannelPermutation()],
        lambda op, image, sample: F.permute_channels(image, sample["permutation"].tolist()),
        lambda op, image, sample: answer(op, image, {**sample, "permutation": np.roll(sample["permutation"], 1)}),
        channels=(2, 3, 4, 5),
    ),
    ga.GaussianBlur: Row(
        [ga.GaussianBlur(3), ga.GaussianBlur((9, 5), (0.5, 3)), ga.GaussianBlur(23, 4.0), ga.GaussianBlur((1, 7), 1.5)],
        lambda op, image, sample: F.gaussian_blur(image, op.kernel_size, [float(sample["sigma"])] * 2),
        lambda op, image, sample: answer(op, image, {**sample, "sigma": sample["sigma"] / 2}),
        lambda op, sample: WITHIN_1,
    ),
    ga.MotionBlur: Row(
        [ga.MotionBlur(5, 90, 0.5, border, p=0.7) for border in ("constant", "reflect", "replicate", "circular")]
        + [ga.MotionBlur(3, 45, 1), ga.MotionBlur(9, (-180, 180), (-1, 1), "replicate", "bilinear", p=0.7)],
        tv.motion,
        moved(degrees=90),
        lambda op, sample: WITHIN_1,
    ),
    ga.GaussianNoise: Row(
        [ga.GaussianNoise(), ga.GaussianNoise(0.1, 0.02), ga.GaussianNoise(-0.2, 0.5, clip=False)],
        tv.noisy,
        lambda op, image, sample: answer(op, image, {**sample, "op": sample["op"] + 1}),
    ),
    ga.JPEG: Row(
        [ga.JPEG(75), ga.JPEG((1, 30)), ga.JPEG((80, 100))],
        tv.compressed,
        lambda op, image, sample: answer(op, image, {**sample, "quality": sample["quality"] % 100 + 1}),
        channels=(1, 3),
    ),
    ga.RandomErasing: Row(
        [
            ga.RandomErasing(0.7),
            ga.RandomErasing(0.7, (0.3, 0.9), (0.1, 9), value=255),
            ga.RandomErasing(value=(1, 2, 3)),
        ]
        + [[FLOATS, ga.RandomErasing(0.7, value=value)] for value in (0.0, 1.5, (0.1, 0.2, 0.7), "random")],
        tv.erased,
        lambda op, image, sample: answer(op, image, {**sample, "box": sample["box"] + np.array([1, 1, 0, 0])}),
    ),
    ga.ToDtype: Row(
        [
            ga.ToDtype(dtype, scale)
            for dtype in (torch.float32, torch.float16, torch.bfloat16)
            for scale in (True, False)
        ]
        + [ga.ToDtype(torch.uint8), ga.ToDtype("auto", scale=True)],
        lambda op, image, _: image if op.dtype == torch.uint8 else F.to_dtype(image, torch.float32, op.scale),
        shifted,
    ),
    ga.Normalize: Row(
        [
            [FLOATS, NORMALIZE],
            [FLOATS, ga.Normalize((0.4,), (0.3,))],
            [ga.ToDtype(torch.float32), ga.Normalize((100,), (-7,))],
        ]
        + [[ga.ToDtype(dtype, scale=True), NORMALIZE] for dtype in (torch.float16, torch.bfloat16)],
        lambda op, image, _: F.normalize(image, list(op.mean), list(op.std)),
        instead(lambda op: ga.Normalize([value + 0.05 for value in op.mean], op.std)),
    ),
    ga.RandAugment: Row(
        [
            ga.RandAugment(),
            ga.RandAugment(3, 30, fill=(124, 116, 104)),
            ga.RandAugment(1, 14, interpolation="bilinear", fill=0),
        ],
        tv.policy,
        other_op,
        tv.policy_tolerance,
        (1, 3),
        20,
    ),
    ga.AutoAugment: Row(
        [
            ga.AutoAugment(name, fill=fill)
            for name, fill in (("imagenet", None), ("cifar10", 128), ("svhn", (1, 2, 200)))
        ],
        tv.policy,
        other_op,
        tv.policy_tolerance,
        (1, 3),
        20,
    ),
    ga.TrivialAugmentWide: Row(
        [ga.TrivialAugmentWide(), ga.TrivialAugmentWide(11, fill=9), ga.TrivialAugmentWide(interpolation="bilinear")],
        tv.policy,
        other_op,
        tv.policy_tolerance,
        (1, 3),
        20,
    ),
    ga.AugMix: Row(
        [ga.AugMix(chain_depth=1), ga.AugMix(10, 2, 1, 0.5, all_ops=False, interpolation="nearest", fill=100)],
        tv.augmix,
        lambda op, image, sample: answer(op, image, {**sample, "weights": np.roll(sample["weights"], 1)}),
        tv.policy_tolerance,
        (1, 3),
        20,
    ),
    ga.MixUp: Row(
        [
            [FLOATS, ga.MixUp(alpha=alpha, num_classes=5, mode=mode)]
            for alpha in (0.2, 1)
            for mode in ("batch", "pair", "elem")
        ],
        tv.mixed_up,
        moved(weight=0.05),
    ),
    ga.CutMix: Row(
        [
            [FLOATS, ga.CutMix(alpha=alpha, num_classes=5, mode=mode)]
            for alpha in (0.2, 1)
            for mode in ("batch", "pair", "elem")
        ],
        tv.cut,
        moved(weight=-0.3),
    ),
    ga.RandomApply: Row(
        [
            ga.RandomApply(
                [ga.RandomInvert(), ga.RandomApply([ga.RandomEqualize(0.4), ga.RandomVerticalFlip()], 0.8)], 0.6
            )
        ],
        in_turn(lambda op, sample: range(len(op.transforms))),
    ),
    ga.RandomOrder: Row(
        [ga.RandomOrder([ga.RandomSolarize(100, 0.9), ga.RandomPosterize(3, 0.9), ga.RandomAutocontrast(0.9)])],
        in_turn(lambda op, sample: sample["order"]),
        lambda op, image, sample: answer(op, image, {**sample, "order": sample["order"][::-1]}),
    ),
    ga.RandomChoice: Row(
        [
            ga.RandomChoice(
                [ga.RandomInvert(0.8), [ga.RandomEqualize(1), ga.RandomSolarize(40, 0.5)], ga.JPEG(30)], [0.3, 0.3, 0.2]
            ),
            ga.RandomChoice([ga.RandomResizedCrop(20), ga.CenterCrop(20), ga.Resize((20, 20))]),
            [
                FLOATS,
                ga.RandomChoice(
                    [ga.MixUp(num_classes=3, mode="elem"), ga.CutMix(num_classes=3, mode="elem")], [0.4, 0.4]
                ),
            ],
        ],
        chosen,
        lambda op, image, sample: answer(op, image, {**sample, "chosen": (sample["chosen"] + 1) % len(op.transforms)}),
        channels=(1, 3),
    ),
    ga.Compose: Row(
        [[ga.Compose([ga.RandomInvert(), ga.RandomEqualize()])]], tv.plain(F.equalize)
    ),  # opened by the list
}
