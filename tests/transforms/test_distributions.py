"""What is drawn has the distribution it should: gates, choices, orders, boxes, weights.

Draws are keyed, so each test gives the same answer every time; the bounds say how likely a right library would have
failed it for another seed: `helpers.FALSE_ALARM`, by Hoeffding, Bernstein, or Dvoretzky-Kiefer-Wolfowitz.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.transforms.base import Canvas, Transform
from gpuaug.transforms.policy import NAMES, NUMBER, SIGNED
from gpuaug.transforms.policy.tables import POLICIES
from gpuaug.transforms.quantile import beta_quantile
from tests.support.chance import FALSE_ALARM, assert_frequencies, hoeffding, ks_between, ks_distance
from tests.support.helpers import FAST, blank, drawn, smooth
from tests.support.ops import ROWS, Drawn
from tests.support.ops.behaviour import check_drawn_case, check_drawn_names, check_gate, is_gated
from tests.support.ops.drawn import Elsewhere

Array = NDArray[Any]

COUNT = 200_000
GATES = (0.05, 0.1, 0.5, 0.9)


@pytest.mark.parametrize("size", [1, 4, 64])
def test_gates_are_bernoulli_for_any_batch_size(size: int) -> None:
    augment = ga.Augment([ga.RandomInvert(p=p) for p in GATES], backend="torch")
    calls = 16_384 if size == 1 else 8_192
    applied = np.zeros(len(GATES))
    images = blank(size)
    for _ in range(calls):
        applied += [params["applied"].sum() for params in augment.sample(images).params]
    for p, frequency in zip(GATES, applied / (calls * size), strict=True):
        assert abs(frequency - p) <= hoeffding(calls * size, len(GATES)), (p, frequency)


# ---- what the rows say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [op for op in ga.OPS if is_gated(op, ROWS[op])], ids=lambda op: op.__name__)
def test_every_op_with_p_is_gated_by_it(op: type[Transform]) -> None:
    check_gate(op, ROWS[op])


CASES = [
    pytest.param(case, id=f"{op.__name__}-{number}")
    for op, row in ROWS.items()
    for number, case in enumerate(row.drawn)
]


@pytest.mark.parametrize("case", CASES)
def test_parameters_have_their_distributions(case: Drawn) -> None:
    check_drawn_case(case)


@pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)
def test_every_parameter_has_a_distribution(op: type[Transform]) -> None:
    check_drawn_names(op, ROWS[op])
    texts = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*distributions.py"))
    for case in ROWS[op].drawn:
        for distribution in case.params.values():
            assert not isinstance(distribution, Elsewhere) or f"def {distribution.by}(" in texts


# ---- what holds of all, and what an op draws besides one number after another ----------------------------------------


def test_no_chance_is_never_and_certainty_is_always() -> None:
    """Also for the lowest and the highest uniform there is."""
    for uniform in (0.0, 1 - 2.0**-24):
        for p in (0.0, 1.0):
            draws = iter([(0, np.full((3, 1), uniform))])
            params = ga.RandomInvert(p=p).sample(draws, Canvas(np.full((3, 2), 8), 3))
            assert (params["applied"] == (p == 1.0)).all()


def test_gates_of_one_list_are_independent() -> None:
    applied = np.stack([params["applied"] for params in drawn([ga.RandomInvert() for _ in range(6)], COUNT)])
    signs = 2.0 * applied - 1
    assert np.abs(np.triu(signs @ signs.T / COUNT, 1)).max() <= 2 * hoeffding(COUNT, 36)


def test_a_gate_does_not_depend_on_its_parameters() -> None:
    params = drawn([ga.RandomPerspective(0.5, p=0.3)], COUNT)[0]
    corner = params["corners"][:, 0, 0]
    chosen, left = corner[params["applied"]], corner[~params["applied"]]
    assert ks_between(chosen, left) <= hoeffding(len(chosen)) + hoeffding(len(left))


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (None, [1 / 3] * 3),
        ([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]),
        ([2.0, 1.0, 1.0], [0.5, 0.25, 0.25]),
        ([0.0, 0.0, 0.05], [0.0, 0.0, 0.05, 0.95]),
    ],
    ids=["none", "one", "rest", "scaled", "rare"],
)
def test_random_choice_chooses_by_p(p: list[float] | None, expected: list[float]) -> None:
    for children in ([ga.RandomInvert() for _ in range(3)], [ga.MixUp(mode="elem") for _ in range(3)]):
        assert_frequencies(drawn([ga.RandomChoice(children, p=p)], COUNT)[0]["chosen"], expected)


def test_random_choice_of_batch_mixes_is_one_choice_for_the_batch() -> None:
    augment = ga.Augment([ga.RandomChoice([ga.MixUp(), ga.CutMix()], p=[0.4, 0.4])], backend="torch")
    first = []
    for _ in range(4_096):
        chosen = augment.sample(blank(3)).params[0]["chosen"]
        assert len(set(chosen.tolist())) == 1
        first.append(chosen[0])
    assert_frequencies(np.array(first), [0.4, 0.4, 0.2])


def ordered_pairs(ops: Array) -> Array:
    return ops[:, 0] * 14 + ops[:, 1]


def test_photometric_changes_are_independent_of_their_strengths_and_of_each_other() -> None:
    params = drawn([ga.RandomPhotometricDistort((0, 1), (0, 1), (0, 1), (0, 0.5))], COUNT)[0]
    factors = [params[f"{name}_factor"] for name in ("brightness", "contrast", "saturation", "hue")]
    numbers = [*params["changed"].T, params["contrast_before"], *factors, params["permutation"][:, 0]]
    together = np.abs(np.corrcoef(np.stack(numbers).astype(float)) - np.eye(len(numbers))).max()
    assert together < 0.02


def test_randaugment_ops_pairs_and_signs_are_uniform() -> None:
    params = drawn([ga.RandAugment(2, 9)], 2 * COUNT, height=224, width=224)[0]
    ops, magnitude = params["ops"], params["magnitude"]
    assert NAMES[13] == "Equalize"
    assert_frequencies(ops[:, 0], [1 / 14] * 14)
    assert_frequencies(ops[:, 1], [1 / 14] * 14)
    assert_frequencies(ordered_pairs(ops), [1 / 196] * 196)
    for number, name in enumerate(NAMES[:14]):
        drawn_here = magnitude[ops == number]
        if SIGNED[number]:
            assert_frequencies((drawn_here < 0).astype(int), [0.5, 0.5])
            assert len(np.unique(np.abs(drawn_here))) == 1, name
            assert drawn_here.any()
        else:
            assert len(np.unique(drawn_here)) == 1, name
    signs = np.sign(magnitude)[SIGNED[ops].all(axis=1)]
    assert abs((signs[:, 0] * signs[:, 1]).mean()) <= 2 * hoeffding(len(signs))


def test_trivialaugment_ops_and_bins_are_uniform() -> None:
    params = drawn([ga.TrivialAugmentWide(31)], COUNT, height=224, width=224)[0]
    assert_frequencies(params["ops"], [1 / 14] * 14)
    assert_frequencies((params["magnitude"] < 0)[SIGNED[params["ops"]]].astype(int), [1 - 15 / 31, 15 / 31])
    rotations = params["magnitude"][params["ops"] == NUMBER["Rotate"]]
    levels, bins = np.unique(rotations, return_inverse=True)
    assert len(levels) == 61  # 30 strengths of either sign, and zero
    assert levels[-1] == pytest.approx(135.0)
    assert_frequencies(bins, [1 / 62] * 30 + [2 / 62] + [1 / 62] * 30)


@pytest.mark.parametrize("policy", list(POLICIES))
def test_autoaugment_policies_are_uniform_and_their_ops_have_their_chances(policy: str) -> None:
    params = drawn([ga.AutoAugment(policy)], 2 * COUNT, height=32, width=32)[0]
    assert_frequencies(params["policy"], [1 / 25] * 25)
    for number, pair in enumerate(POLICIES[policy]):
        ops = params["ops"][params["policy"] == number]
        applied = ops != NUMBER["Identity"]
        for place, (name, p, _) in enumerate(pair):
            assert set(np.unique(ops[:, place])) <= {NUMBER[name], NUMBER["Identity"]}
            assert_frequencies(applied[:, place].astype(int), [1 - p, p] if p < 1 else [0.0, 1.0])
        assert_frequencies(
            (applied[:, 0] & applied[:, 1]).astype(int), [1 - pair[0][1] * pair[1][1], pair[0][1] * pair[1][1]]
        )


def test_jitter_factors_are_independent_of_the_order() -> None:
    params = drawn([ga.ColorJitter((0.2, 1.7), 0.3, (1.0, 3.0), (-0.1, 0.4))], COUNT)[0]
    first = params["order"][:, 0] == 0
    for name in ("brightness", "contrast", "saturation", "hue"):
        factor = params[f"{name}_factor"]
        assert ks_between(factor[first], factor[~first]) <= hoeffding(int(first.sum())) + hoeffding(int((~first).sum()))


@pytest.mark.parametrize(
    "step", [ga.RandomResizedCrop(2, (0.25, 0.25), (1, 1)), ga.RandomErasing(1, (0.25, 0.25), (1, 1))]
)
def test_boxes_start_everywhere_alike(step: Transform) -> None:
    box = drawn([step], COUNT, height=4, width=4)[0]["box"]
    assert (box[:, 2:] == 2).all()
    assert_frequencies(box[:, 0] * 3 + box[:, 1], [1 / 9] * 9)


def test_cutmix_boxes_have_the_drawn_share_of_each_side() -> None:
    height, width = 2000, 500
    step = ga.CutMix(mode="elem")
    params = drawn([step], 20_000, height=height, width=width)[0]
    boxes = step.mixing(params, Canvas(np.broadcast_to([height, width], (20_000, 2)), 3)).box
    share = np.sqrt(1 - params["weight"])
    for axis, side in enumerate((height, width)):
        start, length = boxes[:, axis], boxes[:, axis + 2]
        whole = (start > 0) & (start + length < side)  # not cut off at the border
        assert whole.sum() > 1000
        assert np.abs(length - share * side)[whole].max() <= 2  # each half is rounded down


@pytest.mark.parametrize("size", [(375, 500), (60, 300), (32, 32)], ids=str)
def test_default_crops_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    height, width = size
    ours = drawn([ga.RandomResizedCrop(224)], 100_000, height=height, width=width)[0]["box"]
    oracle, image = v2.RandomResizedCrop(224), torch.empty(3, height, width, device="meta")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [oracle.make_params([image]) for _ in range(4_000)]
    theirs = np.array([[params[key] for key in ("top", "left", "height", "width")] for params in made])
    for column in range(4):
        assert ks_between(ours[:, column], theirs[:, column]) <= hoeffding(len(theirs), 12) + hoeffding(len(ours), 12)


@pytest.mark.parametrize("size", [(10, 1000), (1000, 10), (100, 100)], ids=str)
def test_a_crop_that_never_fits_falls_back_to_the_centre(size: tuple[int, int]) -> None:
    height, width = size
    arguments: Any = {"size": 8, "scale": (1.5, 1.6), "ratio": (0.8, 1.25)}
    ours = drawn([ga.RandomResizedCrop(**arguments)], 50, height=height, width=width)[0]["box"]
    theirs = v2.RandomResizedCrop(**arguments).make_params([torch.empty(3, height, width, device="meta")])
    assert (ours == [theirs[key] for key in ("top", "left", "height", "width")]).all()


def test_a_box_that_never_fits_erases_nothing() -> None:
    params = drawn([ga.RandomErasing(1.0, (1.0, 1.0), (1.0, 1.0))], 50)[0]
    assert not params["box"].any()


def test_random_crop_starts_everywhere_alike() -> None:
    start = drawn([ga.RandomCrop(5, padding=2)], COUNT, height=6, width=4)[0]["start"] + 2
    assert_frequencies(start[:, 0], [1 / 6] * 6)
    assert_frequencies(start[:, 1], [1 / 4] * 4)
    assert_frequencies(start[:, 0] * 4 + start[:, 1], [1 / 24] * 24)


@pytest.mark.parametrize("a", [0.2, 0.4, 1.0, 2.0])
def test_mix_weights_have_the_mean_and_variance_of_a_beta(a: float) -> None:
    for step in (ga.MixUp(alpha=a, mode="elem"), ga.CutMix(alpha=a, mode="elem")):
        weight = drawn([step], COUNT)[0]["weight"]
        assert abs(weight.mean() - 0.5) <= hoeffding(COUNT, 8)
        # (weight - mean)**2 lies in [0, 1/4]
        assert abs(((weight - 0.5) ** 2).mean() - 0.25 / (2 * a + 1)) <= 0.25 * hoeffding(COUNT, 8)


@pytest.mark.parametrize("op", [ga.MixUp, ga.CutMix])
def test_partners_are_neighbours(op: Any) -> None:
    partners = {mode: drawn([op(mode=mode)], 5)[0]["partner"].tolist() for mode in ("batch", "elem", "pair")}
    assert partners == {"batch": [4, 0, 1, 2, 3], "elem": [4, 0, 1, 2, 3], "pair": [4, 3, 2, 1, 0]}


SHAPES = [(0.05, 0.05), (0.2, 0.2), (0.4, 0.8), (1, 1), (1, 2), (2, 2), (10, 10), (30, 5), (100, 100)]


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_beta_quantile_inverts_the_distribution_function(a: float, b: float) -> None:
    grid = (np.arange(20_000) + 0.5) / 20_000
    quantiles = beta_quantile(a, b)(grid)
    assert (np.diff(quantiles) >= 0).all()
    assert ((quantiles >= 0) & (quantiles <= 1)).all()
    inside = (quantiles > 1e-300) & (quantiles < 1 - 1e-12)  # beyond, float64 has no number fine enough
    assert np.abs(stats.beta(a, b).cdf(quantiles[inside]) - grid[inside]).max() < 2e-6


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_augmix_weights_are_a_beta_and_a_dirichlet(alpha: float) -> None:
    params = drawn([ga.AugMix(alpha=alpha)], 100_000)[0]
    weights = params["weights"]
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert (weights >= 0).all()
    own, chains = weights[:, 0], weights[:, 1:]
    assert ks_distance(own, stats.beta(alpha, alpha).cdf) <= hoeffding(len(own), 12)
    shares = chains[own < 0.999] / (1 - own[own < 0.999])[:, None]
    for chain in shares.T:
        assert ks_distance(chain, stats.beta(alpha, 2 * alpha).cdf) <= hoeffding(len(chain), 12)
    expected = -1 / (9 * (3 * alpha + 1))  # covariance of two shares of a symmetric Dirichlet
    for first, second in itertools.combinations(shares.T, 2):
        assert abs((first * second).mean() - 1 / 9 - expected) <= hoeffding(len(first), 12)


def test_augmix_chains_are_one_to_three_deep() -> None:
    params = drawn([ga.AugMix()], 100_000, height=64, width=64)[0]
    ops = params["ops"].reshape(-1, 3)
    depth = (ops != NUMBER["Identity"]).sum(axis=1)
    assert_frequencies(depth, [0.0, 1 / 3, 1 / 3, 1 / 3])
    assert_frequencies(ops[:, 0] - 1, [1 / 13] * 13)


def test_copies_of_one_image_become_many_different_images() -> None:
    """At least 19 of 64, by the number of ops, in the worst case and with a chance of one in 1e9; 44 are expected.

    An outcome is an unordered pair of signed ops, ops that may do nothing to an image (Identity, AutoContrast,
    Equalize, Posterize) counted as one. With q the chance of an outcome, E = sum of 1 - (1 - q)**64 of them are
    expected, and one sample changes their number by at most 1, so by McDiarmid's inequality fewer than
    E - sqrt(32 ln(1 / 1e-9)) has a chance of one in 1e9.
    """
    single = Counter({"nothing": 4 / 14, "Solarize": 1 / 14})
    for name, signed in zip(NAMES[:14], SIGNED, strict=False):
        if signed:
            single.update({f"+{name}": 1 / 28, f"-{name}": 1 / 28})
    assert sum(single.values()) == pytest.approx(1.0)
    pairs: Counter[tuple[str, ...]] = Counter()
    for (first, p), (second, q) in itertools.product(single.items(), repeat=2):
        pairs[tuple(sorted((first, second)))] += p * q
    expected = sum(1 - (1 - q) ** 64 for q in pairs.values())
    least = expected - math.sqrt(32 * math.log(1 / FALSE_ALARM))
    assert least >= 19
    images = smooth(1).expand(64, -1, -1, -1)
    result = ga.Augment([ga.RandAugment(2, 9)], backend=FAST)(images)
    different = len({image.numpy().tobytes() for image in result})
    assert different >= least
    assert different >= 40
