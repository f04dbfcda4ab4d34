"""What timm's policies draw has the distributions of timm's: ops, chances, levels, signs, depths."""

from __future__ import annotations

import itertools
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from scipy import stats

import gpuaug as ga
from gpuaug.transforms.base import Canvas
from gpuaug.transforms.policy.timm_ops import TIMM_NUMBER
from gpuaug.transforms.policy.timm_tables import AUGMIX_OPS, AUTO_POLICIES, OP_SETS
from tests.support.chance import assert_frequencies, hoeffding, ks_distance
from tests.support.helpers import drawn

COUNT = 200_000


@pytest.mark.parametrize("ops", ["plain", "increasing", "3a"])
def test_timm_ops_have_their_chances(ops: str) -> None:
    params = drawn([ga.TimmRandAugment(9, 2, 0.7, ops=ops)], COUNT)[0]
    names = list(OP_SETS[ops])
    numbers = [TIMM_NUMBER[name] for name in names]
    assert set(np.unique(params["ops"])) == {0, *numbers}
    for place in range(2):
        found = np.bincount(params["ops"][:, place], minlength=max(numbers) + 1)[[0, *numbers]] / COUNT
        assert np.abs(found - [0.3, *[0.7 / len(names)] * len(names)]).max() <= hoeffding(COUNT, 99)
    both = (params["ops"] > 0).all(axis=1)
    assert abs(both.mean() - 0.49) <= hoeffding(COUNT, 9)
    same = (params["ops"][:, 0] == params["ops"][:, 1])[both]
    assert abs(same.mean() - 1 / len(names)) <= hoeffding(int(both.sum()), 9)  # with replacement


def test_timm_weights_are_without_replacement() -> None:
    weights = np.array([5.0, 3.0, 1.0, 1.0]) / 10
    step = ga.TimmRandAugment(9, 3, 1.0, ops=["Invert", "Equalize", "Rotate", "Color"], weights=[5, 3, 1, 1])
    ops = drawn([step], COUNT)[0]["ops"]
    numbers = [TIMM_NUMBER[name] for name in step.names]
    expected: dict[tuple[int, ...], float] = {}
    for order in itertools.permutations(range(4), 3):
        left, chance = 1.0, 1.0
        for number in order:
            chance, left = chance * weights[number] / left, left - weights[number]
        expected[tuple(numbers[number] for number in order)] = chance
    counts = Counter(map(tuple, ops.tolist()))
    assert set(counts) == set(expected)
    for order, chance in expected.items():
        assert abs(counts[order] / COUNT - chance) <= hoeffding(COUNT, len(expected))


def test_timm_levels_are_normal_and_signs_are_fair() -> None:
    params = drawn([ga.TimmRandAugment(5, 1, 1.0, 1.5, ops=["Rotate"])], COUNT)[0]
    degrees = params["value"][:, 0]
    assert_frequencies((degrees < 0).astype(int), [0.5, 0.5])
    level = np.abs(degrees) / 3
    between = (level > 0) & (level < 10)
    # clipped at 0 and 10, half a step of the table is 1 / 131072
    edge = stats.norm(5, 1.5).cdf(0.0)
    assert abs((level <= 0).mean() - edge) <= hoeffding(COUNT, 12)
    assert abs((level >= 10).mean() - edge) <= hoeffding(COUNT, 12)
    inside = stats.truncnorm(-5 / 1.5, 5 / 1.5, 5, 1.5)
    assert ks_distance(level[between], inside.cdf) <= hoeffding(int(between.sum()), 12) + 1e-4
    assert ks_distance(level[between], stats.truncnorm(-5 / 1.4, 5 / 1.4, 5, 1.4).cdf) > hoeffding(COUNT, 12)
    uniform = drawn([ga.TimmRandAugment(8, 1, 1.0, "uniform", ops=["Rotate"])], COUNT)[0]["value"][:, 0]
    assert ks_distance(np.abs(uniform) / 3, stats.uniform(0, 8).cdf) <= hoeffding(COUNT, 12)
    radius = drawn([ga.TimmRandAugment(5, 1, 1.0, ops=["GaussianBlurRand"])], COUNT)[0]["value"][:, 0]
    assert ks_distance(radius, stats.uniform(0.1, 0.9).cdf) <= hoeffding(COUNT, 12)


@pytest.mark.parametrize("policy", list(AUTO_POLICIES))
def test_timm_autoaugment_is_uniform_and_its_ops_have_their_chances(policy: str) -> None:
    params, pairs = drawn([ga.TimmAutoAugment(policy)], 2 * COUNT)[0], AUTO_POLICIES[policy]
    assert_frequencies(params["policy"], [1 / len(pairs)] * len(pairs))
    for number, pair in enumerate(pairs):
        ops = params["ops"][params["policy"] == number]
        applied = ops != TIMM_NUMBER["Identity"]
        for place, (name, p, _) in enumerate(pair):
            assert set(np.unique(ops[:, place])) <= {TIMM_NUMBER[name], TIMM_NUMBER["Identity"]}
            assert_frequencies(applied[:, place].astype(int), [1 - p, p] if p < 1 else [0.0, 1.0])


def test_timm_boxes_share_the_area() -> None:
    """Against timm's own draws of the number of boxes and of their sizes."""
    side, most = 2000, 3
    params = drawn([ga.RandomErasing(1.0, (0.1, 0.3), (0.5, 2.0), max_count=most)], COUNT, height=side, width=side)[0]
    assert_frequencies(params["count"] - 1, [1 / most] * most)
    for number in range(most):
        here = params["count"] > number
        box = params["box"][:, number]
        assert (box[~here] == 0).all()
        area = box[here, 2:].prod(axis=1) / side**2 * params["count"][here]
        assert ks_distance(area, stats.uniform(0.1, 0.2).cdf) <= hoeffding(int(here.sum()), 12) + 1e-3
        ratio = np.log(box[here, 2] / box[here, 3])
        assert ks_distance(ratio, stats.uniform(-np.log(2), 2 * np.log(2)).cdf) <= hoeffding(int(here.sum()), 12) + 1e-3


def test_timm_cutmix_boxes_are_timms() -> None:
    """timm's own functions, with the same centre and weight; and its range of sides."""
    mixup = pytest.importorskip("timm.data.mixup")
    step, size = ga.CutMix(mode="elem", even_sides=False), (37, 52)
    canvas = Canvas(np.broadcast_to(np.array(size), (500, 2)), 3)
    params = drawn([step], 500, height=size[0], width=size[1])[0]
    mixing, plain = step.mixing(params, canvas), step.replace(correct_lam=False).mixing(params, canvas)
    assert (plain.share == params["weight"]).all()
    for number in range(500):
        center = [int(params["place"][number, axis] * side) for axis, side in enumerate(size)]
        with mock.patch.object(mixup.np.random, "randint", side_effect=[np.int64(value) for value in center]):
            weight = float(params["weight"][number])
            (top, bottom, left, right), lam = mixup.cutmix_bbox_and_lam((3, *size), weight)
        assert mixing.box[number].tolist() == [top, left, bottom - top, right - left]
        assert mixing.share[number] == pytest.approx(lam)
    step = ga.CutMix(mode="elem", minmax=(0.2, 0.8))
    params = drawn([step], COUNT, height=size[0], width=size[1])[0]
    box = step.mixing(params, Canvas(np.broadcast_to(np.array(size), (COUNT, 2)), 3)).box
    for axis, side in enumerate(size):
        low, high = int(side * 0.2), int(side * 0.8)
        assert_frequencies(box[:, 2 + axis] - low, [1 / (high - low)] * (high - low))
        start = box[box[:, 2 + axis] == low, axis]
        assert_frequencies(start, [1 / (side - low + 1)] * (side - low + 1))
        assert (box[:, axis] + box[:, 2 + axis] <= side).all()


def test_timm_chains_are_one_to_three_deep() -> None:
    ops = drawn([ga.TimmAugMix()], COUNT)[0]["ops"].reshape(-1, 3)
    depth = (ops != TIMM_NUMBER["Identity"]).sum(axis=1)
    assert_frequencies(depth, [0.0, 1 / 3, 1 / 3, 1 / 3])
    numbers = [TIMM_NUMBER[name] for name in AUGMIX_OPS]
    assert_frequencies(np.array([numbers.index(number) for number in ops[:, 0]]), [1 / 13] * 13)
