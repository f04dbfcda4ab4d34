"""Rows of warps: what resamples along a matrix."""

from __future__ import annotations

from typing import Any

from torchvision.transforms import InterpolationMode

import gpuaug as ga

from .. import answers as tv
from .drawn import Integers, Uniform
from .row import Drawn, Pixels, Row, Timed, instead, moved, other_gate

__all__ = ["ROWS"]

GROUP = "Flip and warp"
WARPS = ("nearest", "bilinear", "bicubic")
TILTED: dict[str, Any] = {
    "degrees": (10, 160), "translate": (0.2, 0.3), "scale": (0.6, 1.7), "shear": (-20, 30, -15, 5)
}  # fmt: skip
LINEAR = InterpolationMode.BILINEAR

ROWS: dict[type, Row] = {
    ga.RandomRotation: Row(
        group=GROUP,
        example=ga.RandomRotation(45.0, fill=(1, 2, 3)),
        ops=[ga.RandomRotation(45, name, fill=fill) for name in WARPS for fill in (0, None, (200, 3, 90))]
        + [ga.RandomRotation((170, 190), name, center=(3.5, 12), fill=128) for name in WARPS],
        answer=tv.rotated,
        wrong=moved(degrees=5),
        tolerance=tv.warp_tolerance,
        neutral=lambda height, width: ga.RandomRotation(0, "bilinear"),
        bad_numbers={
            "degrees": [-1, (30, -30), (1, 2, 3), "ab"],
            "center": [1, (1,), (1, 2, 3)],
            "fill": [-1, 256],
        },
        drawn=[Drawn(ga.RandomRotation(30), {"degrees": Uniform(-30, 30)})],
        same=[
            {"degrees": 30.0},
            {"degrees": (10.0, 40.0), "interpolation": "bilinear", "center": (3.0, 4.0), "fill": (1.0, 2.0, 3.0)},
        ],
        refused=["expand"],
        timed=[
            Timed(
                lambda v: v.RandomRotation(30, interpolation=LINEAR),
                fixed=lambda v: v.RandomRotation((30, 30), interpolation=LINEAR),
            )
        ],
        pixels=[
            Pixels.of("RandomRotation", {"degrees": 25}, degrees=30),
            Pixels.of("RandomRotation", {"degrees": (-20, 30)}, name="bilinear", degrees=30, interpolation=LINEAR),
        ],
    ),
    ga.RandomAffine: Row(
        group=GROUP,
        example=ga.RandomAffine(30, (0.1, 0.2), (0.8, 1.2), (-5, 5, -3, 3), "bilinear", fill=50),
        ops=[ga.RandomAffine(**TILTED, interpolation=name, fill=fill) for name in WARPS for fill in (0, None, 77)]
        + [ga.RandomAffine(0, translate=(0.3, 0.3)), ga.RandomAffine(30, scale=(0.5, 2), center=(0, 5))],
        answer=tv.affine,
        wrong=moved(degrees=5),
        tolerance=tv.warp_tolerance,
        neutral=lambda height, width: ga.RandomAffine(0, (0, 0), (1, 1), 0, "bicubic", fill=7),
        bad_numbers={
            "degrees": [-1, (30, -30), (1, 2, 3)],
            "translate": [0.1, (0.1,), (-0.1, 0), (0, 1.1)],
            "scale": [1.0, (2, 1), (0, 1), (-1, 1)],
            "shear": [-1, (5, -5), (1, 2, 3), (1, 2, 4, 3)],
            "center": [1, (1,), (1, 2, 3)],
            "fill": [-1, 256],
        },
        drawn=[
            Drawn(
                ga.RandomAffine(**TILTED),
                {
                    "degrees": Uniform(10, 160),
                    ("translate", 0): Uniform(-200, 200, step=1),
                    ("translate", 1): Uniform(-600, 600, step=1),
                    "scale": Uniform(0.6, 1.7),
                    ("shear", 0): Uniform(-20, 30),
                    ("shear", 1): Uniform(-15, 5),
                },
                (2000, 1000),
            )
        ],
        same=[
            {"degrees": 0.0},
            {"degrees": 30.0, "shear": 5.0, "fill": 9},
            {
                "degrees": (-10.0, 20.0),
                "translate": (0.1, 0.2),
                "scale": (0.8, 1.2),
                "shear": (-5.0, 6.0, -3.0, 4.0),
                "interpolation": "bilinear",
                "fill": (50.0,),
                "center": (1.0, 2.0),
            },
        ],
        timed=[
            Timed(
                lambda v: v.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), 10, interpolation=LINEAR),
                fixed=lambda v: v.RandomAffine((15, 15), None, (1.1, 1.1), interpolation=LINEAR),
            )
        ],
        pixels=[
            Pixels.of(
                "RandomAffine",
                {"translate": (0.2, 0.1)},
                {"scale": (0.8, 1.1)},
                {"degrees": 20},
                {"shear": 25},
                degrees=10,
                translate=(0.1, 0.2),
                scale=(0.8, 1.2),
                shear=10,
            )
        ],
    ),
    ga.RandomPerspective: Row(
        group=GROUP,
        example=ga.RandomPerspective(),
        ops=[ga.RandomPerspective(0.5, 0.7, name, fill) for name in WARPS for fill in (0, None, (1, 200, 30))]
        + [ga.RandomPerspective(1.0, 0.7, name) for name in WARPS],
        answer=tv.perspective,
        wrong=other_gate,
        tolerance=tv.warp_tolerance,
        neutral=lambda height, width: ga.RandomPerspective(0, p=1, fill=7),
        bad_numbers={"distortion_scale": [-0.1, 1.1], "fill": [-1, 256]},
        drawn=[
            Drawn(
                ga.RandomPerspective(0.5),
                {
                    ("corners", 0, 0): Integers(0, 6), ("corners", 0, 1): Integers(0, 10),
                    ("corners", 1, 0): Integers(17, 23), ("corners", 1, 1): Integers(0, 10),
                    ("corners", 2, 0): Integers(17, 23), ("corners", 2, 1): Integers(29, 39),
                    ("corners", 3, 0): Integers(0, 6), ("corners", 3, 1): Integers(29, 39),
                },
                (40, 24),
            )
        ],
        same=[{}, {"distortion_scale": 0.3, "p": 0.9, "interpolation": "nearest", "fill": 7}],
        timed=[Timed(lambda v: v.RandomPerspective(0.5, p=1.0))],
        pixels=[Pixels.of("RandomPerspective", {"p": 0.4}, {"distortion_scale": 0.4})],
    ),
    ga.ElasticTransform: Row(
        group=GROUP,
        example=ga.ElasticTransform(20.0, 0.5),
        ops=[ga.ElasticTransform(20, 1.2, name, fill) for name in WARPS for fill in (0, None, (1, 200, 30))]
        + [ga.ElasticTransform((25, -15), (1.0, 0.6), name, 9) for name in WARPS]
        + [ga.ElasticTransform(9, 0), ga.ElasticTransform(30, 2)],
        answer=tv.bent,
        wrong=instead(lambda op: op.replace(alpha=4)),
        tolerance=tv.warp_tolerance,
        neutral=lambda height, width: ga.ElasticTransform(0, 0.5),
        bad_numbers={
            "alpha": [1e9, (), (1, 2, 3), "ab"],
            "sigma": [-1, 101, (0, 1), (1, 0), (), (1, 2, 3), "ab"],
            "fill": [-1, 256],
        },
        drawn=[Drawn(ga.ElasticTransform(), {"noise": Uniform(0, 2**24)}, (64, 64))],
        same=[
            {},
            {"alpha": (30.0, 60.0), "sigma": (3.0, 4.0), "interpolation": "nearest", "fill": 7.0},
        ],
        timed=[Timed(lambda v: v.ElasticTransform(50.0, 5.0))],
        pixels=[Pixels.of("ElasticTransform", {"alpha": 30.0}, {"sigma": 1.0}, alpha=60.0, sigma=1.5)],
    ),
}  # fmt: skip
