"""Rows of flips and crops: what moves pixels as they are, cuts, pads and resizes."""

from __future__ import annotations

import numpy as np
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

from .. import answers as tv
from .drawn import Box, Integers
from .row import NO_DRAWS, Drawn, Pixels, Row, Timed, answer, shifted

__all__ = ["ROWS"]

CROPS, FLIPS = "Crop, resize, pad", "Flip and warp"
FILTERS = ("nearest", "nearest-exact", "bilinear", "bicubic")
PADDINGS = ("constant", "edge", "reflect", "symmetric")
SIZES = [0, -1, 8.0, (1, 2, 3)]
NOT_TIMED = "a part of RandomResizedCrop and RandomCrop"

ROWS: dict[type, Row] = {
    ga.RandomHorizontalFlip: Row(
        group=FLIPS,
        example=ga.RandomHorizontalFlip(),
        ops=[ga.RandomHorizontalFlip(0.6)],
        answer=tv.plain(F.horizontal_flip),
        same=[{}, {"p": 0.3}],
        timed=[Timed(lambda v: v.RandomHorizontalFlip(p=1.0), fixed=True)],
        pixels=[Pixels.of("RandomHorizontalFlip", {"p": 0.4})],
    ),
    ga.RandomVerticalFlip: Row(
        group=FLIPS,
        example=ga.RandomVerticalFlip(),
        ops=[ga.RandomVerticalFlip(0.6)],
        answer=tv.plain(F.vertical_flip),
        same=[{}, {"p": 0.3}],
        timed="as RandomHorizontalFlip",
        pixels=[Pixels.of("RandomVerticalFlip", {"p": 0.4})],
    ),
    ga.RandomCrop: Row(
        group=CROPS,
        example=ga.RandomCrop(16, padding=3, padding_mode="reflect"),
        ops=[
            *(ga.RandomCrop((30, 28), 4, padding_mode=name, fill=50) for name in PADDINGS),
            ga.RandomCrop(20),
            ga.RandomCrop((40, 60), pad_if_needed=True),
            ga.RandomCrop(32, (1, 2, 3, 4), fill=(1, 9, 200)),
            *(ga.RandomCrop((30, 24), (-9, 3, 2, -1), padding_mode=name, fill=50) for name in PADDINGS),
            ga.RandomCrop(20, -5),
            ga.RandomCrop((40, 60), (-3, 2, 1, -1), pad_if_needed=True, fill=9),
        ],
        answer=tv.crop_padded,
        wrong=shifted,
        neutral=lambda height, width: ga.RandomCrop((height, width)),
        bad_numbers={"size": SIZES, "padding": [1.5, (1, 2, 3)], "fill": [-1, 256]},
        drawn=[
            Drawn(ga.RandomCrop(5, padding=2), {("start", 0): Integers(-2, 3), ("start", 1): Integers(-2, 1)}, (6, 4))
        ],
        same=[
            {"size": 20},
            {
                "size": (30, 28),
                "padding": 4,
                "pad_if_needed": True,
                "fill": (1.0, 9.0, 200.0),
                "padding_mode": "reflect",
            },
            {"size": 32, "padding": (1, 2, 3, 4)},
            {"size": 20, "padding": (-1, 2, 3, -4)},
        ],
        timed=[Timed(lambda v: v.RandomCrop(224))],
        pixels=[Pixels.of("RandomCrop", {"padding": 3}, size=16, padding=4)],
    ),
    ga.RandomResizedCrop: Row(
        group=CROPS,
        example=ga.RandomResizedCrop((16, 14)),
        ops=[
            *(ga.RandomResizedCrop((24, 31), interpolation=name) for name in FILTERS),
            ga.RandomResizedCrop(60, (0.01, 0.2), antialias=False),
            ga.RandomResizedCrop(16, (1, 2), (3, 4), "bicubic"),
        ],
        answer=tv.crop_resized,
        wrong=lambda op, image, sample: answer(op, image, {**sample, "box": sample["box"] + np.array([0, 1, 0, 0])}),
        tolerance=tv.resize_tolerance,
        neutral=lambda height, width: ga.RandomResizedCrop(
            (height, width), scale=(1, 1), ratio=(width / height, width / height)
        ),
        bad_numbers={
            "size": SIZES,
            "scale": [0.5, (1, 0.5), (-0.1, 1), (0.1, 0.2, 0.3)],
            "ratio": [0.5, (2, 1), (0, 1), (-1, 1)],
        },
        drawn=[
            Drawn(
                ga.RandomResizedCrop(8, (0.1, 0.5), (0.5, 2.0)), {"box": Box((0.1, 0.5), (0.5, 2.0))}, (20_000, 20_000)
            )
        ],
        same=[
            {"size": 24},
            {
                "size": (24, 31),
                "scale": (0.2, 0.9),
                "ratio": (0.5, 1.5),
                "interpolation": "bicubic",
                "antialias": False,
            },
        ],
        timed=[
            Timed(
                lambda v: v.RandomResizedCrop(224),
                fixed=lambda v: v.RandomResizedCrop(224, scale=(1.0, 1.0), ratio=(1.0, 1.0)),
            )
        ],
        pixels=[
            Pixels.of("RandomResizedCrop", {"scale": (0.2, 1.0)}, {"ratio": (0.5, 2.0)}, size=16, antialias=True),
        ],
    ),
    ga.Resize: Row(
        group=CROPS,
        example=ga.Resize((18, 15)),
        ops=[
            *(ga.Resize((20, 31), name) for name in FILTERS),
            *(ga.Resize((61, 29), name, antialias=False) for name in ("bilinear", "bicubic")),
            ga.Resize(24),
            ga.Resize(40, max_size=50),
            ga.Resize(None, max_size=30),
            ga.Resize((33, 47)),
            ga.Resize((5, 300)),
        ],
        answer=lambda op, image, _: F.resize(image, tv.sizes(op.size), tv.mode(op), op.max_size, op.antialias),
        wrong=shifted,
        tolerance=tv.resize_tolerance,
        neutral=lambda height, width: ga.Resize((height, width)),
        bad_numbers={
            "size": [0, -1, 8.0, (1, 2, 3), (0, 4), (4, 4.0), 10**6],
            "max_size": [0, 3, 2.5],
        },
        given={"max_size": {"size": 8}},
        same=[
            {"size": 24},
            {"size": (24, 24)},
            {"size": (20, 31), "interpolation": "bicubic", "antialias": False},
            {"size": 24, "max_size": 50, "antialias": None},
            {"size": None, "max_size": 30},
        ],
        only_v2=[{"size": None, "max_size": 30}],
        timed=NOT_TIMED,
        pixels=NO_DRAWS,
    ),
    ga.CenterCrop: Row(
        group=CROPS,
        example=ga.CenterCrop(16),
        ops=[ga.CenterCrop(20), ga.CenterCrop((33, 16)), ga.CenterCrop((50, 60)), ga.CenterCrop((17, 58))],
        answer=lambda op, image, _: F.center_crop(image, tv.sizes(op.size)),
        wrong=shifted,
        neutral=lambda height, width: ga.CenterCrop((height, width)),
        bad_numbers={"size": [0, -1, 8.0, (1, 2, 3), (0, 4), (4, True)]},
        same=[{"size": 20}, {"size": (33, 16)}],
        timed=NOT_TIMED,
        pixels=NO_DRAWS,
    ),
    ga.Pad: Row(
        group=CROPS,
        example=ga.Pad((1, 2, 3, 4), fill=(9, 8, 7), padding_mode="constant"),
        ops=[
            *(ga.Pad(pads, 9, name) for name in PADDINGS for pads in ((1, 2, 3, 4), (-2, 5, 7, -4))),
            *(ga.Pad(5, (1, 2, 200)), ga.Pad((7, 0)), ga.Pad(-3), ga.Pad((-20, -20, 12, -12), (1, 2, 200))),
        ],
        answer=lambda op, image, _: F.pad(image, tv.sizes(op.padding), tv.fill(op), op.padding_mode),
        wrong=shifted,
        neutral=lambda height, width: ga.Pad(0),
        bad_numbers={"padding": [1.5, (1, 2, 3), (True, 1)], "fill": [-1, 256, (1, 300), ()]},
        same=[
            {"padding": 5},
            {"padding": (1, 2, 3, 4), "fill": 9, "padding_mode": "edge"},
            {"padding": (7, 0)},
            {"padding": -2},
        ],
        timed=NOT_TIMED,
        pixels=NO_DRAWS,
    ),
}
