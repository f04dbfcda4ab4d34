"""Rows of colours."""

from __future__ import annotations

import numpy as np
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

from .. import answers as tv
from .drawn import Categories, Permutation, Uniform
from .row import NO_DRAWS, Drawn, Pixels, Row, Timed, answer, instead, moved, shifted

__all__ = ["ROWS"]

GROUP = "Colour"
FACTOR = [-1, (2, 1), (-1, 1)]

ROWS: dict[type, Row] = {
    ga.ColorJitter: Row(
        group=GROUP,
        example=ga.ColorJitter(0.4, (0.5, 1.5), 0.4, 0.1),
        ops=[
            *(ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.ColorJitter(0.9, 0.9, 0.9), ga.ColorJitter(hue=(-0.5, 0.44))),
            *(ga.ColorJitter(brightness=(0, 3)), ga.ColorJitter(contrast=(0, 3)), ga.ColorJitter(saturation=(0, 3))),
        ],
        answer=tv.jitter,
        wrong=moved(brightness_factor=0.05, contrast_factor=0.1, saturation_factor=0.1, hue_factor=0.05),
        tolerance=tv.jitter_tolerance,
        channels=(1, 3),
        neutral=lambda height, width: ga.ColorJitter((1, 1), (1.0, 1.0), 0, (0, 0)),
        bad_numbers={
            "brightness": [*FACTOR, "ab"],
            "contrast": FACTOR,
            "saturation": FACTOR,
            "hue": [-0.1, 0.6, (-0.6, 0), (0.2, 0.1)],
        },
        drawn=[
            Drawn(
                ga.ColorJitter((0.2, 1.7), 0.3, (1.0, 3.0), (-0.1, 0.4)),
                {
                    "order": Permutation(4),
                    "brightness_factor": Uniform(0.2, 1.7),
                    "contrast_factor": Uniform(0.7, 1.3),
                    "saturation_factor": Uniform(1.0, 3.0),
                    "hue_factor": Uniform(-0.1, 0.4),
                },
            )
        ],
        same=[
            {},
            {"brightness": (0.5, 1.5), "contrast": (0.2, 1.0), "saturation": (0.0, 3.0), "hue": (-0.1, 0.2)},
        ],
        timed=[
            Timed(
                lambda v: v.ColorJitter(brightness=0.4), lambda v: v.ColorJitter(brightness=(1.4, 1.4)), "Brightness"
            ),
            Timed(lambda v: v.ColorJitter(contrast=0.4), lambda v: v.ColorJitter(contrast=(1.4, 1.4)), "Contrast"),
            Timed(
                lambda v: v.ColorJitter(saturation=0.4), lambda v: v.ColorJitter(saturation=(1.4, 1.4)), "Saturation"
            ),
            Timed(lambda v: v.ColorJitter(hue=0.1), lambda v: v.ColorJitter(hue=(0.1, 0.1)), "Hue"),
            Timed(lambda v: v.ColorJitter(0.4, 0.4, 0.4, 0.1)),
        ],
        pixels=[
            Pixels.of("ColorJitter", {"brightness": 0.3}, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
            Pixels.of("ColorJitter", {"contrast": 0.3}, name="contrast", contrast=0.4),
            Pixels.of("ColorJitter", {"saturation": 0.3}, name="saturation", saturation=0.4),
            Pixels.of("ColorJitter", {"hue": 0.08}, name="hue", hue=0.1),
        ],
    ),
    ga.RandomGrayscale: Row(
        group=GROUP,
        example=ga.RandomGrayscale(p=0.5),
        ops=[ga.RandomGrayscale(0.6)],
        answer=lambda op, image, _: F.rgb_to_grayscale(image, len(image)),
        channels=(1, 3),
        same=[{}, {"p": 0.3}],
        timed=[Timed(lambda v: v.RandomGrayscale(p=1.0), fixed=True)],
        pixels=[Pixels.of("RandomGrayscale", {"p": 0.4}, p=0.5)],
    ),
    ga.Grayscale: Row(
        group=GROUP,
        example=ga.Grayscale(3),
        ops=[ga.Grayscale(1), ga.Grayscale(3)],
        answer=tv.plain(F.rgb_to_grayscale, "num_output_channels"),
        wrong=shifted,
        channels=(1, 3),
        neutral="every image of three channels becomes grey",
        bad_numbers={"num_output_channels": [0, 2, 4, 1.0, (1,)]},
        same=[{}, {"num_output_channels": 3}],
        timed="as RandomGrayscale",
        pixels=NO_DRAWS,
    ),
    ga.RGB: Row(
        group=GROUP,
        example=ga.RGB(),
        before=[ga.Grayscale(1)],
        ops=[ga.RGB()],
        answer=tv.plain(F.grayscale_to_rgb),
        wrong=shifted,
        channels=(1, 3, 4, 5),
        neutral=lambda height, width: ga.RGB(),  # of three channels
        same=[{}],
        timed="it copies a channel",
        pixels=NO_DRAWS,
    ),
    ga.RandomPhotometricDistort: Row(
        group=GROUP,
        example=ga.RandomPhotometricDistort(hue=(-0.2, 0.3)),
        ops=[
            ga.RandomPhotometricDistort(),
            ga.RandomPhotometricDistort((0.2, 2), (0, 3), (0, 3), (-0.5, 0.44), p=0.7),
            ga.RandomPhotometricDistort(p=1),
        ],
        answer=tv.distorted,
        wrong=lambda op, image, sample: answer(op, image, {**sample, "changed": ~sample["changed"]}),
        tolerance=tv.distortion_tolerance,
        channels=(1, 3),
        count=20,
        gated=False,
        neutral=lambda height, width: ga.RandomPhotometricDistort(p=0),
        bad_numbers={
            "brightness": [0.5, *FACTOR],
            "contrast": [0.5, *FACTOR],
            "saturation": [0.5, *FACTOR],
            "hue": [0.1, (-0.6, 0), (0.2, 0.1)],
        },
        drawn=[
            Drawn(
                ga.RandomPhotometricDistort((0.2, 1.7), (0.7, 1.3), (1.0, 3.0), (-0.1, 0.4), p=0.3),
                {
                    **{("changed", part): Categories([0.7, 0.3]) for part in range(5)},
                    "contrast_before": Categories([0.5, 0.5]),
                    "permutation": Permutation(3),
                    "brightness_factor": Uniform(0.2, 1.7),
                    "contrast_factor": Uniform(0.7, 1.3),
                    "saturation_factor": Uniform(1.0, 3.0),
                    "hue_factor": Uniform(-0.1, 0.4),
                },
            )
        ],
        same=[
            {},
            {"brightness": (0.5, 1.5), "contrast": (0.2, 1.0), "saturation": (0.0, 3.0)},
            {"hue": (-0.1, 0.2), "p": 0.3},
        ],
        timed="it takes the time of ColorJitter and RandomChannelPermutation",
        pixels=[Pixels.of("RandomPhotometricDistort", {"p": 0.4}, {"brightness": (0.5, 0.9)}, brightness=(0.5, 1.2))],
    ),
    ga.RandomInvert: Row(
        group=GROUP,
        example=ga.RandomInvert(),
        ops=[ga.RandomInvert(0.6)],
        answer=tv.plain(F.invert),
        same=[{}, {"p": 0.3}],
        timed=[Timed(lambda v: v.RandomInvert(p=1.0), fixed=True)],
        pixels=[Pixels.of("RandomInvert", {"p": 0.4})],
    ),
    ga.RandomPosterize: Row(
        group=GROUP,
        example=ga.RandomPosterize(3),
        ops=[ga.RandomPosterize(bits, 0.7) for bits in range(9)],
        answer=tv.plain(F.posterize, "bits"),
        wrong=instead(lambda op: ga.RandomPosterize(op.bits + (1 if op.bits < 4 else -1))),
        neutral=lambda height, width: ga.RandomPosterize(8, p=1),
        bad_numbers={"bits": [-1, 9, 3.0]},
        same=[{"bits": 3}, {"bits": 5, "p": 0.3}],
        timed=[Timed(lambda v: v.RandomPosterize(4, p=1.0), fixed=True)],
        pixels=[Pixels.of("RandomPosterize", {"p": 0.4}, {"bits": 4}, bits=3)],
    ),
    ga.RandomSolarize: Row(
        group=GROUP,
        example=ga.RandomSolarize(128.0),
        ops=[ga.RandomSolarize(threshold, 0.7) for threshold in (0, 0.5, 100, 127.5, 200, 255)],
        answer=tv.plain(F.solarize, "threshold"),
        wrong=instead(lambda op: ga.RandomSolarize(op.threshold + (50 if op.threshold < 128 else -50))),
        bad_numbers={"threshold": [-1, 256]},
        same=[{"threshold": 128.0}, {"threshold": 100.5, "p": 0.3}],
        timed=[Timed(lambda v: v.RandomSolarize(128, p=1.0), fixed=True)],
        pixels=[Pixels.of("RandomSolarize", {"p": 0.4}, {"threshold": 120}, threshold=128)],
    ),
    ga.RandomAutocontrast: Row(
        group=GROUP,
        example=ga.RandomAutocontrast(),
        ops=[ga.RandomAutocontrast(0.6)],
        answer=tv.plain(tv.autocontrast),
        neutral=lambda height, width: ga.RandomAutocontrast(p=1),  # the images of that test have all levels
        same=[{}, {"p": 0.3}],
        timed=[Timed(lambda v: v.RandomAutocontrast(p=1.0), fixed=True)],
        pixels=[Pixels.of("RandomAutocontrast", {"p": 0.4})],
    ),
    ga.RandomEqualize: Row(
        group=GROUP,
        example=ga.RandomEqualize(),
        ops=[ga.RandomEqualize(0.6)],
        answer=tv.plain(F.equalize),
        same=[{}, {"p": 0.3}],
        timed=[Timed(lambda v: v.RandomEqualize(p=1.0), fixed=True)],
        pixels=[Pixels.of("RandomEqualize", {"p": 0.4})],
    ),
    ga.RandomAdjustSharpness: Row(
        group=GROUP,
        example=ga.RandomAdjustSharpness(2.0),
        ops=[ga.RandomAdjustSharpness(factor, 0.7) for factor in (0, 0.3, 1.9, 10)],
        answer=tv.plain(tv.sharpness, "sharpness_factor"),
        wrong=instead(lambda op: ga.RandomAdjustSharpness(op.sharpness_factor + 0.1)),
        neutral=lambda height, width: ga.RandomAdjustSharpness(1.0, p=1),
        bad_numbers={"sharpness_factor": [-0.1]},
        same=[{"sharpness_factor": 2.0}, {"sharpness_factor": 0.5, "p": 0.3}],
        timed=[Timed(lambda v: v.RandomAdjustSharpness(2.0, p=1.0), fixed=True)],
        pixels=[Pixels.of("RandomAdjustSharpness", {"p": 0.4}, {"sharpness_factor": 1.5}, sharpness_factor=2)],
    ),
    ga.RandomChannelPermutation: Row(
        group=GROUP,
        example=ga.RandomChannelPermutation(),
        ops=[ga.RandomChannelPermutation()],
        answer=lambda op, image, sample: F.permute_channels(image, sample["permutation"].tolist()),
        wrong=lambda op, image, sample: answer(op, image, {**sample, "permutation": np.roll(sample["permutation"], 1)}),
        channels=(2, 3, 4, 5),
        neutral="the order is drawn for every image",
        drawn=[Drawn(ga.RandomChannelPermutation(), {"permutation": Permutation(3)})],
        same=[{}],
        timed="nobody but torchvision has it",
        pixels=[
            Pixels(
                lambda library, p=1.0: [library.RandomApply([library.RandomChannelPermutation()], p=p)], [{"p": 0.8}]
            )
        ],
    ),
}
