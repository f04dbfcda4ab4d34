"""Rows of timm's policies. tests/transforms/test_timm_ops.py compares each op with timm's own, on Pillow images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import _geometry as geometry

import gpuaug as ga
from gpuaug.transforms.policy.timm_ops import KERNEL, TIMM_NAMES, TIMM_NUMBER, WARPS

from .. import answers as tv
from ..answers import EXACT, WARP, Sample, Tolerance
from .drawn import Categories, Elsewhere
from .row import Drawn, Row, answer

__all__ = ["ROWS"]

GROUP = "Policies of timm"
COUNT = 24  # samples in a batch, so that most ops are drawn
LEVELS = [-1, 256]
NONE = "timm's, on Pillow images; torchvision has none"
ALWAYS = "it draws ops for every image"


def warp(op: Any, image: Tensor, name: str, value: float, cubic: bool) -> Tensor:
    """grid_sample on torchvision's grid, for the matrix that timm or Pillow makes (from corner to corner)."""
    height, width = image.shape[-2:]
    rows = np.eye(3)
    if name == "Rotate":  # as PIL.Image.rotate
        angle = -math.radians(value)
        rows[:2, :2] = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        middle = np.array([width / 2.0, height / 2.0])
        rows[:2, 2] = middle - rows[:2, :2] @ middle
    elif name == "ShearX":
        rows[0, 1] = value
    elif name == "ShearY":
        rows[1, 0] = value
    else:
        rows[:2, 2] = (value * width, 0) if name == "TranslateXRel" else (0, value * height)
    # torchvision measures from the middle of the image
    to_corner = np.array([[1, 0, width / 2.0], [0, 1, height / 2.0], [0, 0, 1]])
    theta = torch.tensor((np.linalg.inv(to_corner) @ rows @ to_corner)[:2], dtype=torch.float32)[None]
    grid = geometry._affine_grid(theta, w=width, h=height, ow=width, oh=height)
    how = op.interpolation if op.interpolation != "random" else "bicubic" if cubic else "bilinear"
    values = geometry._apply_grid_transform(image.float(), grid, how, tv.fill(op))
    return values.round().clamp(0, 255).to(torch.uint8)


def blurred(image: Tensor, radius: float) -> Tensor:
    """Three boxes of the radius that Pillow takes, one after another, with a reflected border."""
    variance = radius * radius / 3
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    box = np.array([part, *[1.0] * (2 * whole + 1), part])
    box /= box.sum()
    kernel = np.convolve(np.convolve(box, box), box)
    line = torch.tensor(np.pad(kernel, (KERNEL - len(kernel)) // 2))
    padded = torch.nn.functional.pad(image.double(), [KERNEL // 2] * 4, mode="reflect")[:, None]
    across = torch.nn.functional.conv2d(padded, line.view(1, 1, 1, -1))
    return torch.nn.functional.conv2d(across, line.view(1, 1, -1, 1))[:, 0].round().to(torch.uint8)


def added(image: Tensor, add: float) -> Tensor:
    return torch.where(image < 128, (image.int() + int(add)).clamp(max=255), image.int()).to(torch.uint8)


POINTS: dict[str, Callable[[Tensor, float], Tensor]] = {  # by the start of the name
    "AutoContrast": lambda image, _: tv.autocontrast(image),
    "Equalize": lambda image, _: F.equalize(image),
    "Invert": lambda image, _: F.invert(image),
    "Posterize": lambda image, bits: F.posterize(image, int(min(bits, 8))),
    "SolarizeAdd": added,
    "Solarize": lambda image, threshold: image if threshold > 255 else F.solarize(image, threshold),
    "Color": F.adjust_saturation,
    "Desaturate": lambda image, value: F.adjust_saturation(image, 1.0 - value),
    "Contrast": tv.contrast,
    "Brightness": F.adjust_brightness,
    "Sharpness": tv.sharpness,
    "GaussianBlur": blurred,
}


def one(op: Any, image: Tensor, number: int, value: float, cubic: bool) -> Tensor:
    name = TIMM_NAMES[number]
    if name == "Identity":
        return image
    if name in WARPS:
        return warp(op, image, name, float(value), cubic)
    start = next(start for start in POINTS if name.startswith(start))
    with mock.patch.object(F, "adjust_contrast", tv.contrast_of):
        return POINTS[start](image, float(value))


def chain(op: Any, image: Tensor, sample: Sample) -> Tensor:
    for number, value, cubic in zip(sample["ops"], sample["value"], sample["cubic"], strict=True):
        image = one(op, image, number, value, cubic)
    return image


def augmix(op: ga.TimmAugMix, image: Tensor, sample: Sample) -> Tensor:
    names = ("ops", "value", "cubic")
    chains = [chain(op, image, {name: sample[name][number] for name in names}) for number in range(op.width)]
    return tv.blended(image, chains, sample["weights"])


def tolerance(op: Any, sample: Sample) -> Tolerance | None:
    """As for torchvision's policies; a blur is within one level."""
    names = [TIMM_NAMES[number] for number in sample["ops"].ravel() if number]
    if not any(name in WARPS or name.startswith("GaussianBlur") for name in names):
        return EXACT
    if len(names) > 1:
        return None
    return WARP["bilinear" if op.interpolation == "random" else op.interpolation]


def other_op(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """Invert for every op without a warp, and one more pixel or degree of every warp."""
    ops, value = sample["ops"].copy(), sample["value"].copy()
    still = ~np.isin(ops, [TIMM_NUMBER[name] for name in WARPS])
    ops[still] = np.where(ops[still] == TIMM_NUMBER["Invert"], 0, TIMM_NUMBER["Invert"])
    return answer(op, image, {**sample, "ops": ops, "value": np.where(still, value, value + 0.2)})


COMMON: dict[str, Any] = {
    "group": GROUP,
    "tolerance": tolerance,
    "channels": (1, 3),
    "count": COUNT,
    "same": NONE,
    "timed": NONE,
    "pixels": NONE,
}
NUMBERS = {"magnitude_std": [-1, 101], "magnitude_max": [-1, 1001], "fill": LEVELS, "translate": [-0.1, 1.1]}
VALUES = {"value": Elsewhere("test_timm_levels_are_normal_and_signs_are_fair"), "cubic": Categories([0.5, 0.5])}

ROWS: dict[type, Row] = {
    ga.TimmRandAugment: Row(
        **COMMON,
        example=ga.TimmRandAugment(12, 3, 0.9, 0.5, 15, "increasing"),
        ops=[
            ga.TimmRandAugment(9, magnitude_std=0.5, fill=(124, 116, 104)),
            ga.TimmRandAugment(7, 1, 1.0, ops="increasing", fill=0),
            ga.TimmRandAugment(20, 1, 1.0, magnitude_max=30, interpolation="nearest", fill=None),
            ga.TimmRandAugment(9, 2, 0.8, "uniform", ops="3aw", interpolation="bicubic"),
            ga.TimmRandAugment(9, 2, ops="weights", interpolation="bilinear"),
        ],
        answer=chain,
        wrong=other_op,
        neutral=lambda height, width: ga.TimmRandAugment(num_ops=0),
        bad_numbers={
            **NUMBERS,
            "magnitude": [-1, 1001],
            "num_ops": [-1, 1.5],
            "prob": [-0.1, 1.1],
        },
        bad_words={
            "ops": ["random", [], None, ["Cutout"], ["Identity"], 3],
            "weights": ["1", 3, (1.0,)],
        },
        drawn=[
            Drawn(
                ga.TimmRandAugment(9, 2, magnitude_std=0.5),
                {"ops": Elsewhere("test_timm_ops_have_their_chances"), **VALUES},
                (64, 64),
            )
        ],
    ),
    ga.TimmAutoAugment: Row(
        **COMMON,
        example=ga.TimmAutoAugment("v0r", 0.5, 11, "bicubic", (1, 2, 3), 0.3),
        ops=[
            ga.TimmAutoAugment(name, fill=fill)
            for name, fill in (
                ("original", None),
                ("originalr", 128),
                ("v0", (1, 2, 200)),
                ("v0r", 0),
                ("3a", 128),
            )
        ],
        answer=chain,
        wrong=other_op,
        neutral=ALWAYS,
        bad_numbers=NUMBERS,
        drawn=[
            Drawn(
                ga.TimmAutoAugment("v0", 0.5),
                {
                    "policy": Categories([1 / 25] * 25),
                    "ops": Elsewhere("test_timm_autoaugment_is_uniform_and_its_ops_have_their_chances"),
                    **VALUES,
                },
            )
        ],
    ),
    ga.TimmAugMix: Row(
        **COMMON,
        example=ga.TimmAugMix(5, 4, 2, 0.5, 0.5, 11, "bicubic", (1, 2, 3), 0.3),
        ops=[ga.TimmAugMix(depth=1), ga.TimmAugMix(10, 2, 1, 0.5, interpolation="nearest", fill=100)],
        answer=augmix,
        wrong=lambda op, image, sample: answer(op, image, {**sample, "weights": np.roll(sample["weights"], 1)}),
        neutral=ALWAYS,
        bad_numbers={
            **NUMBERS,
            "magnitude": [-1, 1001],
            "width": [0, -1, 33, 2.0],
            "depth": [-33, 33, 1.5],
            "alpha": [0, -1, 1000],
        },
        drawn=[
            Drawn(
                ga.TimmAugMix(),
                {
                    "ops": Elsewhere("test_timm_chains_are_one_to_three_deep"),
                    "weights": Elsewhere("test_augmix_weights_are_a_beta_and_a_dirichlet"),
                    **VALUES,
                },
            )
        ],
    ),
}
