"""MixUp and CutMix: whose draw counts, who is mixed in, and how a RandomChoice picks between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.engine.render import BACKENDS as ALL
from tests.support.backends import runnable
from tests.support.helpers import BACKENDS, noise

INDEX = torch.tensor([900, 17, 4, 356, 23])
FLOATS = ga.ToDtype(torch.float32, scale=True)


def drawn(mix: Any, index: torch.Tensor) -> dict[str, Any]:
    return ga.Augment([FLOATS, mix], seed=5).sample(noise(len(index)), index=index).params[1]


def alone(mix: Any, number: int) -> dict[str, Any]:
    """What a sample draws when it is the whole batch, which is its own draw in every mode."""
    return drawn(mix, INDEX[number : number + 1])


@pytest.mark.parametrize("kind", [ga.MixUp, ga.CutMix])
@pytest.mark.parametrize(
    ("mode", "leaders", "partners"),
    [
        ("batch", [0, 0, 0, 0, 0], [4, 0, 1, 2, 3]),
        ("elem", [0, 1, 2, 3, 4], [4, 0, 1, 2, 3]),
        ("pair", [0, 1, 2, 1, 0], [4, 3, 2, 1, 0]),
    ],
)
def test_whose_draw_and_who_is_mixed_in(kind: Any, mode: str, leaders: list[int], partners: list[int]) -> None:
    mix = kind(alpha=0.7, num_classes=3, mode=mode)
    params = drawn(mix, INDEX)
    assert params["partner"].tolist() == partners
    for number, leader in enumerate(leaders):
        own = alone(mix, leader)
        assert params["weight"][number] == own["weight"][0]
        assert (params["place"][number] == own["place"][0]).all()
    assert len(np.unique(params["weight"])) == len(set(leaders))


def test_a_box_is_placed_along_both_sides_independently() -> None:
    place = drawn(ga.CutMix(num_classes=3, mode="elem"), torch.arange(400))["place"]
    assert abs(np.corrcoef(place.T)[0, 1]) < 0.25


def test_the_partner_is_the_sample_before() -> None:
    """As torchvision's roll(1), for images and labels."""
    images, labels = noise(3), torch.tensor([0, 1, 2])
    augment = ga.Augment([FLOATS, ga.MixUp(alpha=1.0, num_classes=3)])
    draw = augment.sample(images)
    mixed, soft = augment.render(images, draw, labels)
    weight = float(draw.params[1]["weight"][0])
    values = images.float() * (1 / 255)
    assert torch.allclose(mixed, values.roll(1, 0) * (1 - weight) + values * weight, atol=1e-6)
    one_hot = torch.eye(3)
    assert torch.allclose(soft, one_hot.roll(1, 0) * (1 - weight) + one_hot * weight, atol=1e-6)


@pytest.mark.parametrize(
    ("p", "uniform", "chosen"),
    [
        (None, [0.0, 0.499999, 0.5, 0.999999], [0, 0, 1, 1]),
        ([0.4, 0.4], [0.0, 0.399999, 0.4, 0.799999, 0.8, 0.999999], [0, 0, 1, 1, 2, 2]),
        ([3, 1], [0.749999, 0.75, 0.999999], [0, 1, 1]),
        ([0, 1], [0.0, 0.999999], [1, 1]),
    ],
)
def test_the_edges_of_a_choice(p: Any, uniform: list[float], chosen: list[int]) -> None:
    choice = ga.RandomChoice([ga.RandomInvert(1.0), ga.RandomEqualize(1.0)], p=p)
    assert choice._choose(np.array(uniform)).tolist() == chosen


def test_ten_tenths_leave_nothing_out() -> None:
    """0.1 added up ten times is a little less than 1."""
    choice = ga.RandomChoice([ga.RandomInvert(1.0)] * 10, p=[0.1] * 10)
    assert choice._choose(np.array([1 - 2.0**-24])).tolist() == [9]


def test_a_choice_of_mixes_is_one_for_the_batch() -> None:
    def chosen(mode: str, seed: int) -> Any:
        mixes = [ga.MixUp(num_classes=3, mode=mode), ga.CutMix(num_classes=3, mode=mode)]
        augment = ga.Augment([FLOATS, ga.RandomChoice(mixes, p=[0.4, 0.4])], seed=seed)
        return augment.sample(noise(9)).params[1]["chosen"]

    batches = [chosen("batch", seed) for seed in range(60)]
    assert all(len(set(batch.tolist())) == 1 for batch in batches)
    assert {int(batch[0]) for batch in batches} == {0, 1, 2}
    pairs = chosen("pair", 0)
    assert (pairs == pairs[::-1]).all()
    assert len({tuple(chosen("elem", seed).tolist()) for seed in range(5)}) == 5


def test_an_unmixed_sample_keeps_its_value_and_label() -> None:
    mixes = [ga.MixUp(num_classes=3, mode="elem"), ga.CutMix(num_classes=3, mode="elem")]
    augment = ga.Augment([FLOATS, ga.RandomChoice(mixes, p=[0.3, 0.3])])
    images, labels = noise(12), torch.arange(12) % 3
    draw = augment.sample(images)
    mixed, soft = augment.render(images, draw, labels)
    rows = torch.from_numpy(draw.params[1]["chosen"] == 2)
    assert rows.any()
    assert torch.equal(mixed[rows], (images * (1 / 255))[rows])
    assert torch.equal(soft[rows], torch.eye(3)[labels][rows])


def test_random_order_runs_in_the_order_it_drew() -> None:
    from torchvision.transforms.v2 import functional as F

    steps = [ga.RandomPosterize(2, 1.0), ga.RandomSolarize(100, 1.0), ga.RandomAutocontrast(1.0)]
    answers = [lambda x: F.posterize(x, 2), lambda x: F.solarize(x, 100), F.autocontrast]
    augment, images = ga.Augment([ga.RandomOrder(steps)]), noise(24)
    draw = augment.sample(images)
    results, orders = augment.render(images, draw), draw.params[0]["order"]
    assert len({tuple(order) for order in orders.tolist()}) == 6
    for image, result, order in zip(images, results, orders, strict=True):
        for step in order:
            image = answers[step](image)
        assert torch.equal(result, image)


@pytest.mark.parametrize("mix", [ga.MixUp, ga.CutMix])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_targets_of_a_regression(mix: Any, dtype: torch.dtype) -> None:
    """Floats (B,) are mixed as their images are; they were to be cut to whole numbers."""
    targets = torch.tensor([0.25, -3.5, 10.0, 0.75], dtype=dtype)
    images = torch.zeros(4, 3, 9, 9, dtype=torch.uint8)
    for backend in BACKENDS:
        augment = ga.Augment([ga.ToDtype(torch.float32), mix(alpha=1.0)], seed=3, backend=backend)
        draw = augment.sample(images, index=torch.arange(4))
        _, mixed = augment.render(images, draw, targets)
        _, columns = augment.render(images, draw, targets[:, None].clone())
        assert mixed.shape == (4,)
        assert mixed.dtype == dtype
        assert torch.equal(mixed, columns[:, 0])
        assert not torch.equal(mixed, targets)
        between = torch.stack([targets, targets.roll(1)])
        assert ((between.amin(0) - 1e-2 <= mixed) & (mixed <= between.amax(0) + 1e-2)).all()
    classes = ga.Augment([ga.ToDtype(torch.float32), mix(num_classes=3)])
    with pytest.raises(ValueError, match=r"labels` must be integer class numbers .* got float.*Leave num_classes out"):
        classes(images, targets)


# 1 - weight is nothing only for 1 itself: float32 makes 1 of the next five
WEIGHTS = [1.0, 1 - 2.0**-53, 1 - 2.0**-40, 1 - 2.0**-30, 1 - 2.0**-26, 1 - 2.0**-25, 1 - 2.0**-24]
WEIGHTS += [0.7003, 0.5, 2.0**-25, 2.0**-60, 0.0]
FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@pytest.mark.parametrize("weight", WEIGHTS, ids=float.hex)
@pytest.mark.parametrize("backend", ALL)
def test_any_weight_is_torchvisions(weight: float, backend: str) -> None:
    """Bit for bit: a partner's share that float32 can hold counts, however near to 1 one's own is."""
    runnable(backend)
    theirs, keys = v2.MixUp(num_classes=7), {"batch_size": 5, "lam": weight}
    images, scaled = noise(5, height=9, width=11), ga.ToDtype(torch.float32)
    steps = [scaled, ga.Normalize((100,), (1e-3,)), ga.MixUp(num_classes=7)]  # large beside a row of zeros
    images[2] = 100
    augment = ga.Augment(steps, backend=backend)
    draw = augment.sample(images)
    draw.params[2]["weight"] = np.full(5, weight)
    kinds = [torch.arange(5), torch.randn(5, 7) > 0, *(torch.randn(5, 7, dtype=dtype) * 1e4 for dtype in FLOATING)]
    for labels in kinds:
        mixed, soft = augment.render(images, draw, labels)
        values = ga.Augment(steps[:2], backend="torch")(images)
        assert torch.equal(mixed, theirs.transform(values, {"labels": None, **keys}))
        assert torch.equal(soft, theirs._mixup_label(labels, lam=weight)), labels.dtype


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (3, 4, 0, 5), (3, 4, 5, 0), (0, 0, 9, 11), (8, 10, 1, 1)])
@pytest.mark.parametrize("backend", ALL)
def test_any_box_is_pasted(box: tuple[int, ...], backend: str) -> None:
    """One of no area mixes nothing; one of the whole image leaves nothing of one's own."""
    runnable(backend)
    images, labels = noise(5, height=9, width=11), torch.randn(5, 7)
    augment = ga.Augment([FLOATS, ga.CutMix(num_classes=7)], backend=backend)
    draw = augment.sample(images)
    mix = augment.train_pipeline.steps[1].mixing(draw.params[1], draw.canvas)
    top, left, height, width = box
    area = height * width / 99
    pasted = replace(mix, box=np.tile(np.array(box, np.int32), (5, 1)), share=np.full(5, 1 - area))
    augment.train_pipeline.steps[1].__dict__["mixing"] = lambda params, canvas: pasted
    mixed, soft = augment.render(images, draw, labels)
    expected = images * (1 / 255)
    inside = expected.roll(1, 0)[..., top : top + height, left : left + width].clone()
    expected[..., top : top + height, left : left + width] = inside
    assert torch.equal(mixed, expected)
    assert torch.equal(soft, v2.CutMix(num_classes=7)._mixup_label(labels, lam=1 - area))


# ---- label smoothing -------------------------------------------------------------------------------------------------


def smoothed(smoothing: float, labels: torch.Tensor, backend: str = "torch") -> torch.Tensor:
    mixes = [op(num_classes=5, mode="elem", label_smoothing=smoothing) for op in (ga.MixUp, ga.CutMix)]
    augment = ga.Augment([FLOATS, ga.RandomChoice(mixes, p=[0.4, 0.4])], seed=3, backend=backend)
    images = noise(len(labels))
    result: torch.Tensor = augment.render(images, augment.sample(images, index=torch.arange(len(labels))), labels)[1]
    return result


@pytest.mark.parametrize("labels", [torch.arange(12) % 5, torch.eye(5)[torch.arange(12) % 5]], ids=["one-hot", "soft"])
def test_smoothing_spreads_a_part_of_every_label(labels: torch.Tensor) -> None:
    """As torch's cross_entropy does it to class weights; unmixed labels too."""
    sharp = smoothed(0.0, labels)
    assert (sharp.amax(dim=1) == 1).any()
    soft = smoothed(0.1, labels)
    assert torch.allclose(soft, sharp * 0.9 + 0.1 / 5)
    scores = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    theirs = torch.nn.functional.cross_entropy(scores, sharp, label_smoothing=0.1)
    assert torch.allclose(torch.nn.functional.cross_entropy(scores, soft), theirs)
    assert torch.allclose(smoothed(1.0, labels), torch.full((12, 5), 0.2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_smoothed_labels_have_the_same_bits(backend: str) -> None:
    for labels in (torch.arange(12) % 5, torch.rand(12, 5), torch.rand(12, 5).to(torch.bfloat16)):
        assert torch.equal(smoothed(0.13, labels, backend), smoothed(0.13, labels))


def test_smoothed_labels_are_timms() -> None:
    mixup = pytest.importorskip("timm.data.mixup")
    mix = ga.MixUp(num_classes=5, mode="pair", label_smoothing=0.1)
    augment, labels = ga.Augment([FLOATS, mix]), torch.tensor([0, 3, 1, 4, 4, 2])
    draw = augment.sample(noise(6))
    weight = torch.from_numpy(draw.params[1]["weight"]).float()[:, None]
    _, ours = augment.render(noise(6), draw, labels)
    assert torch.allclose(ours, mixup.mixup_target(labels, 5, weight, 0.1), atol=1e-6)


def test_labels_are_smoothed_in_training_only_and_need_classes() -> None:
    augment = ga.Augment([FLOATS, ga.MixUp(num_classes=5, label_smoothing=0.1)]).eval()
    labels = torch.tensor([0, 3])
    assert torch.equal(augment(noise(2), labels)[1], labels)
    regression = ga.Augment([FLOATS, ga.MixUp(label_smoothing=0.1)])
    with pytest.raises(ValueError, match=r"MixUp: `label_smoothing` must be 0 for a regression, got 0.1 with targets"):
        regression(noise(4), torch.rand(4))
    assert ga.Augment([FLOATS, ga.MixUp()])(noise(4), torch.rand(4))[1].shape == (4,)
    with pytest.raises(ValueError, match="mixes of one mode, num_classes and label_smoothing"):
        ga.RandomChoice([ga.MixUp(), ga.CutMix(label_smoothing=0.1)])
