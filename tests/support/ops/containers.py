"""Rows of containers, whose answers are those of what they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

from .. import answers as tv
from ..answers import Answer, Sample, Tolerance
from .drawn import Categories, Permutation
from .row import FLOATS, NO_DRAWS, Drawn, Pixels, Row, answer, shifted
from .row import ROWS as ALL_ROWS

__all__ = ["ROWS"]

GROUP = "Containers"
NOT_LISTS = [[], None, "ab", 3, ga.RandomInvert()]  # what `transforms` must refuse
NOT_OURS = [[3], [v2.RandomRotation(9, expand=True)]]
ELSEWHERE = "tests/transforms/test_interop.py, with what they hold"
NOT_TIMED = "it takes the time of what it holds"


def chosen(op: Any, image: Tensor, sample: Sample) -> Tensor:
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


def loosest(op: Any, sample: Sample) -> Tolerance | None:
    """The tolerance of the child that may be furthest off."""
    found = [ALL_ROWS[type(child)].tolerance(child, sample[str(number)]) for number, child in enumerate(op.transforms)]
    return max(filter(None, found), key=lambda tolerance: tolerance.levels, default=None)


def three(library: Any) -> list[Any]:
    """Their order matters."""
    return [library.RandomSolarize(100, p=0.8), library.RandomInvert(p=0.8), library.RandomPosterize(2, p=0.8)]


ROWS: dict[type, Row] = {
    ga.RandomApply: Row(
        group=GROUP,
        example=ga.RandomApply([ga.RandomInvert(), ga.GaussianBlur(3)], p=0.6),
        ops=[
            ga.RandomApply(
                [ga.RandomInvert(), ga.RandomApply([ga.RandomEqualize(0.4), ga.RandomVerticalFlip()], 0.8)], 0.6
            )
        ],
        answer=in_turn(lambda op, sample: range(len(op.transforms))),
        tolerance=loosest,
        bad_words={"transforms": [*NOT_LISTS, *NOT_OURS]},
        same=ELSEWHERE,
        timed=NOT_TIMED,
        pixels=[Pixels(lambda library, p=0.5: [library.RandomApply(three(library), p=p)], [{"p": 0.4}])],
    ),
    ga.RandomOrder: Row(
        group=GROUP,
        example=ga.RandomOrder([ga.RandomInvert(), ga.RandomSolarize(100), ga.RandomPosterize(2)]),
        ops=[ga.RandomOrder([ga.RandomSolarize(100, 0.9), ga.RandomPosterize(3, 0.9), ga.RandomAutocontrast(0.9)])],
        answer=in_turn(lambda op, sample: sample["order"]),
        wrong=lambda op, image, sample: answer(op, image, {**sample, "order": sample["order"][::-1]}),
        neutral=lambda height, width: ga.RandomOrder([ga.RandomRotation(0), ga.RandomInvert(p=0)]),
        bad_words={"transforms": [*NOT_LISTS, *NOT_OURS]},
        drawn=[Drawn(ga.RandomOrder([ga.RandomInvert() for _ in range(3)]), {"order": Permutation(3)})],
        same=ELSEWHERE,
        timed=NOT_TIMED,
        pixels=[
            Pixels(lambda library, name="RandomOrder": [getattr(library, name)(three(library))], [{"name": "Compose"}])
        ],
    ),
    ga.RandomChoice: Row(
        group=GROUP,
        example=ga.RandomChoice([ga.RandomInvert(p=1.0), ga.RandomRotation((10, 20))], p=[0.3, 0.5]),
        ops=[
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
        answer=chosen,
        wrong=lambda op, image, sample: answer(
            op, image, {**sample, "chosen": (sample["chosen"] + 1) % len(op.transforms)}
        ),
        channels=(1, 3),
        neutral=lambda height, width: ga.RandomChoice([ga.RandomPosterize(8, p=1), ga.RandomInvert(p=0)]),
        bad_numbers={"p": [0.5, [0.1], [0.1, -0.1], [0, 0], [float("nan"), 1], ["1", 1], [True, 1]]},
        bad_words={"transforms": [*NOT_LISTS, *NOT_OURS]},
        drawn=[
            Drawn(
                ga.RandomChoice([ga.RandomInvert() for _ in range(3)], [0.1, 0.2, 0.3]),
                {"chosen": Categories([0.1, 0.2, 0.3, 0.4])},
            )
        ],
        same=ELSEWHERE,
        timed=NOT_TIMED,
        pixels=[  # a sum of one: below, ours leaves the rest unchanged and torchvision scales it up
            Pixels(
                lambda library, p=(0.2, 0.3, 0.5): [library.RandomChoice(three(library), p=list(p))],
                [{"p": (0.35, 0.15, 0.5)}],
            )
        ],
    ),
    ga.Compose: Row(
        group=GROUP,
        example=ga.Compose([ga.RandomInvert(), ga.RandomRotation(20.0)]),
        ops=[[ga.Compose([ga.RandomInvert(), ga.RandomEqualize()])]],
        answer=tv.plain(F.equalize),  # opened by the list
        neutral=lambda height, width: ga.Compose([ga.RandomRotation(0), ga.RandomInvert(p=0)]),
        bad_words={"transforms": NOT_LISTS},  # Augment looks at what is in it
        same=ELSEWHERE,
        timed=NOT_TIMED,
        pixels=NO_DRAWS,
    ),
    ga.Identity: Row(
        group=GROUP,
        example=ga.Identity(),
        ops=[ga.Identity()],
        answer=lambda op, image, sample: image,
        wrong=shifted,
        idle=True,
        neutral=lambda height, width: ga.Identity(),
        same="from_torchvision leaves it out",
        timed="it takes no time",
        pixels=NO_DRAWS,
    ),
}
