"""Rows of what loses detail: blurs, noise, compression, erasing."""

from __future__ import annotations

import numpy as np
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

from .. import answers as tv
from ..answers import WITHIN_1
from .drawn import Box, Elsewhere, Integers, Uniform
from .row import FLOATS, Drawn, Pixels, Row, Timed, answer, moved

__all__ = ["ROWS"]

GROUP = "Blur, noise, compression"
BORDERS = ("constant", "reflect", "replicate", "circular")

ROWS: dict[type, Row] = {
    ga.GaussianBlur: Row(
        group=GROUP,
        example=ga.GaussianBlur(5, sigma=(0.1, 2.0)),
        ops=[
            ga.GaussianBlur(3),
            ga.GaussianBlur((9, 5), (0.5, 3)),
            ga.GaussianBlur(23, 4.0),
            ga.GaussianBlur((1, 7), 1.5),
        ],
        answer=lambda op, image, sample: F.gaussian_blur(image, op.kernel_size, [float(sample["sigma"])] * 2),
        wrong=lambda op, image, sample: answer(op, image, {**sample, "sigma": sample["sigma"] / 2}),
        tolerance=lambda op, sample: WITHIN_1,
        neutral=lambda height, width: ga.GaussianBlur(1),
        bad_numbers={"kernel_size": [2, -1, 0, 129, 2.0, (3, 4)], "sigma": [0, -1, (2, 1), (0, 1), "ab"]},
        drawn=[Drawn(ga.GaussianBlur(3, (0.5, 3.0)), {"sigma": Uniform(0.5, 3.0)})],
        same=[
            {"kernel_size": 5},
            {"kernel_size": (9, 5), "sigma": (0.5, 3.0)},
            {"kernel_size": 3, "sigma": 4.0},
        ],
        timed=[Timed(lambda v: v.GaussianBlur(9, (0.1, 2.0)), fixed=lambda v: v.GaussianBlur(9, (1.0, 1.0)))],
        pixels=[Pixels.of("GaussianBlur", {"sigma": (0.1, 1.7)}, kernel_size=5)],
    ),
    ga.MotionBlur: Row(
        group=GROUP,
        example=ga.MotionBlur(5, angle=40.0, direction=(-1.0, 1.0), p=0.7),
        ops=[ga.MotionBlur(5, 90, 0.5, border, p=0.7) for border in BORDERS]
        + [ga.MotionBlur(3, 45, 1), ga.MotionBlur(9, (-180, 180), (-1, 1), "replicate", "bilinear", p=0.7)],
        answer=tv.motion,
        wrong=moved(degrees=90),
        tolerance=lambda op, sample: WITHIN_1,
        bad_numbers={
            "kernel_size": [1, 4, -3, 3.0, 129],
            "angle": [(2, 1), 361, "ab"],
            "direction": [(1, -1), 1.5],
        },
        drawn=[Drawn(ga.MotionBlur(5, 40, (-1, 0.5)), {"degrees": Uniform(-40, 40), "direction": Uniform(-1, 0.5)})],
        same="torchvision has none; it is Kornia's RandomMotionBlur",
        timed="torchvision has none",
        pixels="torchvision has none",
    ),
    ga.GaussianNoise: Row(
        group=GROUP,
        example=ga.GaussianNoise(),
        ops=[ga.GaussianNoise(), ga.GaussianNoise(0.1, 0.02), ga.GaussianNoise(-0.2, 0.5, clip=False)],
        answer=tv.noisy,
        wrong=lambda op, image, sample: answer(op, image, {**sample, "op": sample["op"] + 1}),
        neutral=lambda height, width: ga.GaussianNoise(sigma=0.0),
        bad_numbers={"mean": [1e9], "sigma": [-0.1, 1e9]},
        same=[{}, {"mean": 0.1, "sigma": 0.2, "clip": False}],
        timed=[Timed(lambda v: v.GaussianNoise(0.0, 0.1))],
        pixels=[Pixels.of("GaussianNoise", {"sigma": 0.11}, {"mean": 0.01})],
    ),
    ga.JPEG: Row(
        group=GROUP,
        example=ga.JPEG((20, 90)),
        ops=[ga.JPEG(75), ga.JPEG((1, 30)), ga.JPEG((80, 100))],
        answer=tv.compressed,
        wrong=lambda op, image, sample: answer(op, image, {**sample, "quality": sample["quality"] % 100 + 1}),
        channels=(1, 3),
        neutral="compression loses detail at every quality",
        bad_numbers={"quality": [0, 101, 50.0, (90, 20), (1, 2, 3)]},
        drawn=[Drawn(ga.JPEG((20, 39)), {"quality": Integers(20, 39)})],
        same=[{"quality": 75}, {"quality": (20, 90)}],
        timed=[Timed(lambda v: v.JPEG((50, 95)), fixed=lambda v: v.JPEG((75, 75)))],
        pixels=[Pixels.of("JPEG", {"quality": (30, 90)}, quality=(20, 90))],
    ),
    ga.RandomErasing: Row(
        group="Erase",
        example=ga.RandomErasing(p=0.8, value=77.0),
        ops=[
            ga.RandomErasing(0.7),
            ga.RandomErasing(0.7, (0.3, 0.9), (0.1, 9), value=255),
            ga.RandomErasing(value=(1, 2, 3)),
            ga.RandomErasing(0.9, value=(-1, 300.9, -1.9)),
            ga.RandomErasing(0.9, value=-700),
            *([FLOATS, ga.RandomErasing(0.7, value=value)] for value in (0.0, 1.5, (0.1, 0.2, 0.7), "random")),
            ga.RandomErasing(0.9, (0.2, 0.6), value=9, max_count=3),
            [FLOATS, ga.RandomErasing(0.9, (0.2, 0.6), value="random", max_count=3)],
        ],
        more=["max_count"],  # timm's
        answer=tv.erased,
        wrong=lambda op, image, sample: answer(op, image, {**sample, "box": sample["box"] + np.array([1, 1, 0, 0])}),
        neutral=lambda height, width: ga.RandomErasing(p=1, scale=(0, 0), value=9),
        bad_numbers={
            "scale": [0.5, (1, 0.5), (-0.1, 1), (0, 2)],
            "ratio": [0.5, (2, 1), (0, 1)],
            "value": ["noise", (), (1, float("nan"))],
            "max_count": [0, 17, 1.5],
        },
        drawn=[
            Drawn(
                ga.RandomErasing(1.0, (0.1, 0.45), (0.5, 2.0)),
                {"box": Box((0.1, 0.45), (0.5, 2.0), tall=True)},
                (20_000, 20_000),
            ),
            Drawn(
                ga.RandomErasing(1.0, max_count=3),
                {
                    "count": Elsewhere("test_timm_boxes_share_the_area"),
                    "box": Elsewhere("test_timm_boxes_share_the_area"),
                },
            ),
        ],
        same=[
            {},
            {"p": 0.9, "scale": (0.1, 0.2), "ratio": (0.5, 2.0), "value": (1.0, 2.0, 3.0), "inplace": True},
            {"value": -7.0},
            {"value": "random"},
        ],
        timed=[Timed(lambda v: v.RandomErasing(p=1.0))],
        pixels=[
            Pixels.of("RandomErasing", {"p": 0.4}, {"scale": (0.02, 0.25)}),
            Pixels.of(
                "RandomErasing",
                {"ratio": (0.3, 1.0)},
                {"ratio": (0.5, 2.0)},
                name="a quarter",
                p=1.0,
                scale=(0.25, 0.25),
                value=128,
            ),
            Pixels.of("RandomErasing", {"p": 0.4}, {"value": 0.5}, name="noise", floats=True, value="random"),
        ],
    ),
}
