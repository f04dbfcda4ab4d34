"""Rows of conversions to floats."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

from .row import FLOATS, NO_DRAWS, Row, Timed, instead, shifted

__all__ = ["NORMALIZE", "ROWS"]

GROUP = "To floats"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZE = ga.Normalize(MEAN, STD)
HALVES = (torch.float16, torch.bfloat16)

ROWS: dict[type, Row] = {
    ga.ToDtype: Row(
        group=GROUP,
        example=ga.ToDtype(torch.float32, scale=True),
        ops=[ga.ToDtype(dtype, scale) for dtype in (torch.float32, *HALVES) for scale in (True, False)]
        + [ga.ToDtype(torch.uint8), ga.ToDtype("auto", scale=True)],
        answer=lambda op, image, _: image if op.dtype == torch.uint8 else F.to_dtype(image, torch.float32, op.scale),
        wrong=shifted,
        neutral=lambda height, width: ga.ToDtype(torch.uint8),
        same=[{"dtype": torch.float32}, {"dtype": torch.float16, "scale": True}, {"dtype": torch.uint8}],
        timed="a part of Normalize",
        pixels=NO_DRAWS,
    ),
    ga.Normalize: Row(
        group=GROUP,
        example=ga.Normalize(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
        before=[FLOATS],
        ops=[
            [FLOATS, NORMALIZE],
            [FLOATS, ga.Normalize((0.4,), (0.3,))],
            [ga.ToDtype(torch.float32), ga.Normalize((100,), (-7,))],
            *([ga.ToDtype(dtype, scale=True), NORMALIZE] for dtype in HALVES),
        ],
        answer=lambda op, image, _: F.normalize(image, list(op.mean), list(op.std)),
        wrong=instead(lambda op: ga.Normalize([value + 0.05 for value in op.mean], op.std)),
        neutral="it makes floats: see test_neutral_normalize",
        bad_numbers={
            "mean": [0.5, [], [0.1, "a"], [0.1, float("nan"), 0.2], [0.1, 0.2], np.array([0.5])],
            "std": [0.5, [], [0.1, float("inf"), 1], [0, 1, 1], [0.1, 0.2]],
        },
        same=[{"mean": MEAN, "std": STD}, {"mean": (0.5,), "std": (0.2,), "inplace": True}],
        timed=[Timed(lambda v: v.Compose([v.ToDtype(torch.float32, scale=True), v.Normalize(MEAN, STD)]), fixed=True)],
        pixels=NO_DRAWS,
    ),
}
