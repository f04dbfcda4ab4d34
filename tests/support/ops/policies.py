"""Rows of policies, which draw ops for each image."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy

import gpuaug as ga

from .. import answers as tv
from ..answers import Sample
from .drawn import Categories, Elsewhere
from .row import Drawn, Pixels, Row, Timed, answer

__all__ = ["ROWS"]

GROUP = "Policies, each image its own ops"
COUNT = 20  # samples in a batch, so that most ops are drawn
BINS = [1, 0, 5.0]
LEVELS = [-1, 256]
ALWAYS = "it draws ops for every image"
ANY_OP = Categories([1 / 14] * 14)


def other_op(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """Brightness for Contrast, Solarize for Posterize, and so on."""
    return answer(
        op, image, {**sample, "ops": np.clip(sample["ops"] - 1, 6, 14), "magnitude": sample["magnitude"].clip(-1, 1)}
    )


ROWS: dict[type, Row] = {
    ga.RandAugment: Row(
        group=GROUP,
        example=ga.RandAugment(3, 12),
        ops=[
            ga.RandAugment(),
            ga.RandAugment(3, 30, fill=(124, 116, 104)),
            ga.RandAugment(1, 14, interpolation="bilinear", fill=0),
        ],
        answer=tv.policy,
        wrong=other_op,
        tolerance=tv.policy_tolerance,
        channels=(1, 3),
        count=COUNT,
        neutral=lambda height, width: ga.RandAugment(num_ops=0),
        bad_numbers={
            "num_ops": [-1, 1.5],
            "magnitude": [-1, 31, 9.0],
            "num_magnitude_bins": BINS,
            "fill": LEVELS,
        },
        drawn=[
            Drawn(
                ga.RandAugment(2, 9),
                {"ops": ANY_OP, "magnitude": Elsewhere("test_randaugment_ops_pairs_and_signs_are_uniform")},
                (224, 224),
            )
        ],
        same=[
            {},
            {
                "num_ops": 3,
                "magnitude": 12,
                "num_magnitude_bins": 21,
                "interpolation": "bilinear",
                "fill": (1.0, 2.0, 3.0),
            },
        ],
        timed=[Timed(lambda v: v.RandAugment(2, 9))],
        pixels=[Pixels.of("RandAugment", {"magnitude": 8}, {"num_ops": 1})],
    ),
    ga.TrivialAugmentWide: Row(
        group=GROUP,
        example=ga.TrivialAugmentWide(),
        ops=[
            ga.TrivialAugmentWide(),
            ga.TrivialAugmentWide(11, fill=9),
            ga.TrivialAugmentWide(interpolation="bilinear"),
        ],
        answer=tv.policy,
        wrong=other_op,
        tolerance=tv.policy_tolerance,
        channels=(1, 3),
        count=COUNT,
        neutral=ALWAYS,
        bad_numbers={"num_magnitude_bins": BINS, "fill": LEVELS},
        drawn=[
            Drawn(
                ga.TrivialAugmentWide(31),
                {"ops": ANY_OP, "magnitude": Elsewhere("test_trivialaugment_ops_and_bins_are_uniform")},
                (224, 224),
            )
        ],
        same=[{}, {"num_magnitude_bins": 11, "interpolation": "bilinear", "fill": 9}],
        timed=[Timed(lambda v: v.TrivialAugmentWide())],
        pixels=[Pixels.of("TrivialAugmentWide", {"num_magnitude_bins": 6})],
    ),
    ga.AutoAugment: Row(
        group=GROUP,
        example=ga.AutoAugment(),
        ops=[
            ga.AutoAugment(name, fill=fill)
            for name, fill in (("imagenet", None), ("cifar10", 128), ("svhn", (1, 2, 200)))
        ],
        answer=tv.policy,
        wrong=other_op,
        tolerance=tv.policy_tolerance,
        channels=(1, 3),
        count=COUNT,
        neutral=ALWAYS,
        bad_numbers={"fill": LEVELS},
        drawn=[
            Drawn(
                ga.AutoAugment(),
                {
                    "policy": Categories([1 / 25] * 25),
                    "ops": Elsewhere("test_autoaugment_policies_are_uniform_and_their_ops_have_their_chances"),
                    "magnitude": Elsewhere("test_autoaugment_policies_are_uniform_and_their_ops_have_their_chances"),
                },
            )
        ],
        same=[{}, {"policy": AutoAugmentPolicy.SVHN, "interpolation": "bilinear", "fill": 9}],
        timed=[Timed(lambda v: v.AutoAugment())],
        pixels=[
            Pixels.of("AutoAugment", {"policy": other}, name=policy.value, policy=policy)
            for policy, other in (
                (AutoAugmentPolicy.IMAGENET, AutoAugmentPolicy.CIFAR10),
                (AutoAugmentPolicy.CIFAR10, AutoAugmentPolicy.SVHN),
                (AutoAugmentPolicy.SVHN, AutoAugmentPolicy.IMAGENET),
            )
        ],
    ),
    ga.AugMix: Row(
        group=GROUP,
        example=ga.AugMix(),
        ops=[
            ga.AugMix(chain_depth=1),
            ga.AugMix(10, 2, 1, 0.5, all_ops=False, interpolation="nearest", fill=100),
        ],
        answer=tv.augmix,
        wrong=lambda op, image, sample: answer(op, image, {**sample, "weights": np.roll(sample["weights"], 1)}),
        tolerance=tv.policy_tolerance,
        channels=(1, 3),
        count=COUNT,
        neutral=ALWAYS,
        bad_numbers={
            "severity": [0, 11, 3.0],
            "mixture_width": [0, -1, 33, 2.0],
            "chain_depth": [-33, 33, 1.5],
            "alpha": [0, -1, 1000],
            "fill": LEVELS,
        },
        drawn=[
            Drawn(
                ga.AugMix(),
                {
                    "ops": Elsewhere("test_augmix_chains_are_one_to_three_deep"),
                    "magnitude": Elsewhere("test_augmix_chains_are_one_to_three_deep"),
                    "weights": Elsewhere("test_augmix_weights_are_a_beta_and_a_dirichlet"),
                },
            )
        ],
        same=[
            {},
            {
                "severity": 5,
                "mixture_width": 2,
                "chain_depth": 1,
                "alpha": 0.5,
                "all_ops": False,
                "interpolation": "nearest",
                "fill": 9,
            },
        ],
        timed=[Timed(lambda v: v.AugMix())],
        pixels=[Pixels.of("AugMix", {"severity": 4}, {"mixture_width": 1})],
    ),
}
