"""Rows of what mixes a sample with another of its batch."""

from __future__ import annotations

from typing import Any

import gpuaug as ga

from .. import answers as tv
from .drawn import Beta, Elsewhere, Uniform
from .row import FLOATS, Drawn, Pixels, Row, Timed, moved

__all__ = ["CLASSES", "ROWS"]

CLASSES = 7
GROUP = "Mix images and labels"
MODES = ("batch", "pair", "elem")


def strengths(op: type) -> list[Any]:
    return [[FLOATS, op(alpha=alpha, num_classes=5, mode=mode)] for alpha in (0.2, 1) for mode in MODES]


SHARED: dict[str, Any] = {
    "group": GROUP,
    "neutral": "it needs labels: see tests/engine/test_mix.py",
    "bad_numbers": {"alpha": [0, -1, 1000], "num_classes": [0, -2, 2.5], "label_smoothing": [-0.1, 1.1]},
    "same": [{}, {"alpha": 0.2, "num_classes": 5}],
    "refused": ["labels_getter"],
}
TIMM = ["mode", "label_smoothing"]  # timm's: one draw for the batch, the pair or the sample
PLACE = {("place", 0): Uniform(0, 1), ("place", 1): Uniform(0, 1)}

ROWS: dict[type, Row] = {
    ga.MixUp: Row(
        **SHARED,
        more=TIMM,
        example=ga.MixUp(alpha=0.4, num_classes=CLASSES),
        ops=strengths(ga.MixUp),
        answer=tv.mixed_up,
        wrong=moved(weight=0.05),
        drawn=[
            Drawn(
                ga.MixUp(alpha=a, mode="elem"),
                {"weight": Beta(a, a), "partner": Elsewhere("test_partners_are_neighbours"), **PLACE},
            )
            for a in (0.2, 0.4, 1.0, 2.0)
        ],
        timed=[Timed(lambda v: v.MixUp(num_classes=10))],
        pixels=[Pixels.of("MixUp", {"alpha": 0.6}, floats=True, alpha=0.4, num_classes=2)],
    ),
    ga.CutMix: Row(
        **SHARED | {"bad_numbers": SHARED["bad_numbers"] | {"minmax": [0.5, (0.6, 0.4), (-0.1, 0.5), (0.5, 1.1)]}},
        more=[*TIMM, "minmax", "correct_lam", "even_sides"],
        example=ga.CutMix(alpha=1.0, num_classes=CLASSES, mode="elem"),
        ops=strengths(ga.CutMix),
        answer=tv.cut,
        wrong=moved(weight=-0.3),
        drawn=[
            Drawn(
                ga.CutMix(alpha=a, mode="elem"),
                {"weight": Beta(a, a), "partner": Elsewhere("test_partners_are_neighbours"), **PLACE},
            )
            for a in (0.2, 0.4, 1.0, 2.0)
        ],
        timed=[Timed(lambda v: v.CutMix(num_classes=10))],
        pixels=[Pixels.of("CutMix", {"alpha": 0.5}, floats=True, alpha=1.0, num_classes=2)],
    ),
}
