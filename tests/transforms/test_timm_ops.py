"""Each op of timm's policies against timm's own, on Pillow images: the same level, each sign, each interpolation."""

from __future__ import annotations

import inspect
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.transforms.policy.timm_ops import BLURS, LEVELS, TIMM_NAMES, WARPS, arguments_of
from gpuaug.transforms.policy.timm_tables import AUGMIX_OPS, AUTO_POLICIES, OP_SETS
from tests.support.helpers import smooth

timm = pytest.importorskip("timm.data.auto_augment")

FILL = (12, 200, 77)
PILLOW = {"nearest": 0, "bilinear": 2, "bicubic": 3}
EXACT = ("Equalize", "Invert", "Posterize", "Solarize", "Brightness", "Sharpness")  # the others are within one level
SIZE = (74, 92)  # no shift is half a pixel


def photo() -> torch.Tensor:
    """A smooth image with noise, as uint8 (1, 3, H, W)."""
    noise = torch.randint(0, 60, (1, 3, *SIZE), generator=torch.Generator().manual_seed(0))
    big = smooth(1)[:, :, : SIZE[0], : SIZE[1]].int()
    values = torch.nn.functional.interpolate(big.float(), SIZE, mode="bilinear")
    return (values * 0.7 + noise).clamp(0, 255).to(torch.uint8)


def theirs(name: str, level: float, sign: float, how: str, image: torch.Tensor, **hparams: Any) -> Any:
    """timm's op on Pillow's image, with its sign forced."""
    posterize = timm.posterize

    def lenient(picture: Any, bits: int, **others: Any) -> Any:  # Pillow 13 refuses 0 bits, which are black before
        return posterize(picture, bits) if bits >= 1 else Image.new("RGB", picture.size)

    names = {op: lenient for op in timm.NAME_TO_OP if op.startswith("Posterize")}
    op_names = mock.patch.dict(timm.NAME_TO_OP, names)
    negate = mock.patch.object(timm, "_randomly_negate", lambda value: sign * value)
    middle = mock.patch.object(timm.random, "uniform", lambda low, high: (low + high) / 2)
    with op_names, negate, middle:
        options = {"img_mean": FILL, "interpolation": PILLOW[how], **hparams}
        return np.asarray(timm.AugmentOp(name, 1.0, level, options)(Image.fromarray(image[0].permute(1, 2, 0).numpy())))


def ours(name: str, level: float, sign: float, how: str, image: torch.Tensor, **more: Any) -> Any:
    step = ga.TimmRandAugment(level, 1, 1.0, ops=[name], interpolation=how, fill=FILL, **more)
    augment = ga.Augment([step], backend="torch")
    draw = augment.sample(image, index=torch.arange(1))
    params = draw.params[0]
    limited = min(level, step.magnitude_max)
    params["value"] = arguments_of(params["ops"], np.full((1, 1), limited), np.full((1, 1), sign), step.translate)
    if name == "GaussianBlurRand":  # the middle of the radii
        params["value"] = 0.05 + params["value"]
    return augment.render(image, draw)[0].permute(1, 2, 0).numpy()


POINTS = [name for name in TIMM_NAMES[1:] if name not in WARPS + BLURS]


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("level", [0, 3, 5.5, 9, 10, 14])
@pytest.mark.parametrize("name", POINTS)
def test_ops_on_levels_are_timms(name: str, level: float, sign: float) -> None:
    """Also above level 10, if the upper bound is higher; there Pillow's grey may be two levels off."""
    image, exact = photo(), name.startswith(EXACT)
    if name == "PosterizeOriginal" and level > 10:
        level = 10  # no string of timm's reaches this
    expected = theirs(name, level, sign, "bilinear", image, magnitude_max=30).astype(int)
    result = ours(name, level, sign, "bilinear", image, magnitude_max=30).astype(int)
    assert np.abs(result - expected).max() <= (0 if exact else 1 if level <= 10 else 2)
    if LEVELS[name] is not None and level <= 10:
        near = ours(name, level + (4 if level < 6 else -5), sign, "bilinear", image, magnitude_max=30).astype(int)
        assert np.abs(near - expected).max() > 1  # a wrong level is noticed


@pytest.mark.parametrize("how", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("level", [2, 7, 10])
@pytest.mark.parametrize("name", WARPS)
def test_warps_are_timms_but_for_the_resampling(name: str, level: float, sign: float, how: str) -> None:
    """Inside the image bilinear is within one level; Pillow's bicubic is another filter, and its border is hard."""
    image = photo()
    expected = theirs(name, level, sign, how, image).astype(int)
    result = ours(name, level, sign, how, image).astype(int)
    far = {"nearest": 0, "bilinear": 1, "bicubic": 24}[how]
    inside = _inside(name, level, sign)
    assert inside.mean() > 0.3
    wrong = (np.abs(result - expected).max(axis=2) > far) & inside
    assert wrong.mean() <= (0.01 if how == "nearest" else 0)  # ties between two pixels
    other = ours(name, level, -sign, how, image).astype(int)
    assert (np.abs(other - expected).max(axis=2) > far)[inside].mean() > 0.1  # a wrong sign is noticed
    outside = (expected == FILL).all(axis=2) & (result == FILL).all(axis=2)
    assert (outside | inside).mean() > 0.85  # what is neither lies along the border


def _inside(name: str, level: float, sign: float) -> Any:
    """(H, W) whether a pixel reads more than two pixels away from the border, by a white image with a black frame."""
    frame = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    frame[:, :, 2:-2, 2:-2] = 255
    step = ga.TimmRandAugment(level, 1, 1.0, ops=[name], interpolation="bilinear", fill=0)
    augment = ga.Augment([step], backend="torch")
    draw = augment.sample(frame, index=torch.arange(1))
    value = arguments_of(draw.params[0]["ops"], np.full((1, 1), float(level)), np.full((1, 1), sign), step.translate)
    draw.params[0]["value"] = value
    return (augment.render(frame, draw)[0] == 255).all(dim=0).numpy()


@pytest.mark.parametrize("level", [1, 5, 10])
@pytest.mark.parametrize("name", BLURS)
def test_blurs_are_timms_inside(name: str, level: float) -> None:
    image = photo()
    expected, result = theirs(name, level, 1.0, "bilinear", image), ours(name, level, 1.0, "bilinear", image)
    inside = np.s_[7:-7, 7:-7]
    assert np.abs(result.astype(int) - expected)[inside].max() <= 3  # Pillow rounds after each of six passes
    other = ours(name, min(level + 3, 10) - (6 if level == 10 else 0), 1.0, "bilinear", image)
    assert np.abs(other.astype(int) - expected)[inside].max() > 3


def test_the_tables_are_timms() -> None:
    for name, pairs in AUTO_POLICIES.items():
        for own, other in zip(pairs, timm.auto_augment_policy(name), strict=True):
            for (op, p, level), their_op in zip(own, other, strict=True):
                assert (op, p) == (their_op.name, their_op.prob)
                assert LEVELS[op] is None or level == their_op.magnitude
    assert OP_SETS["plain"] == timm._RAND_TRANSFORMS
    assert OP_SETS["increasing"] == timm._RAND_INCREASING_TRANSFORMS
    assert OP_SETS["weights"] == timm._RAND_WEIGHTED_0
    assert OP_SETS["3a"] == timm._RAND_3A
    assert OP_SETS["3aw"] == timm._RAND_WEIGHTED_3A
    assert AUGMIX_OPS == timm._AUGMIX_TRANSFORMS


def test_no_op_of_timms_is_left_out() -> None:
    """Apart from shifts by pixels, which none of its policies has."""
    assert set(timm.NAME_TO_OP) - set(TIMM_NAMES) == {"TranslateX", "TranslateY"}
    assert "uniform" in inspect.getsource(timm.gaussian_blur_rand)


@pytest.mark.parametrize("width", [1, 3])
def test_augmix_adds_up_as_timms(width: int) -> None:
    """The same chains and weights: within one level, as timm truncates the sum of the chains first."""
    image = photo()
    augment = ga.Augment([ga.TimmAugMix(8, width, 1, interpolation="bilinear", fill=FILL)], backend="torch", seed=5)
    draw = augment.sample(image, index=torch.arange(1))
    params = draw.params[0]
    point = [name for name in AUGMIX_OPS if name not in WARPS][:width]
    params["ops"][0, :, 0] = [TIMM_NAMES.index(name) for name in point]
    params["value"] = arguments_of(params["ops"], np.full((1, width, 1), 8.0), np.ones((1, width, 1)), 0.45)
    own, *chains = params["weights"][0]
    with mock.patch.object(timm, "_randomly_negate", lambda value: value):
        ops = [timm.AugmentOp(name, 1.0, 8.0, {"img_mean": FILL}) for name in point]
        mix = timm.AugMixAugment(ops, width=width, depth=1)
        choices = mock.patch.object(timm.np.random, "choice", side_effect=[[op] for op in ops])
        with choices:
            weights = np.float32(np.array(chains) / (1 - own))
            picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
            expected = np.asarray(mix._apply_basic(picture, weights, np.float32(1 - own)))
    result = augment.render(image, draw)[0].permute(1, 2, 0).numpy()
    assert np.abs(result.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("policy", [ga.TimmRandAugment(), ga.TimmAutoAugment()], ids=repr)
def test_masks_boxes_and_points_follow_the_policies(policy: Any) -> None:
    """The middle of a painted square, through the pixels of the mask and through the matrices."""
    count = 60
    masks = torch.zeros(count, 80, 100, dtype=torch.uint8)
    masks[:, 25:55, 30:70] = 255
    box, point = torch.tensor([30.0, 25, 70, 55]), torch.tensor([49.5, 39.5])
    given = {"masks": masks, "boxes": box.repeat(count, 1, 1), "keypoints": point.repeat(count, 1, 1)}
    _, moved = ga.Augment([policy], seed=1, backend="torch")(masks[:, None], given)
    changed = 0
    for mask, (own,), (middle,) in zip(moved["masks"], moved["boxes"], moved["keypoints"], strict=True):
        y, x = (mask > 0).nonzero().double().T
        if min(x.min(), y.min()) > 0 and x.max() < 99 and y.max() < 79:  # not cut off
            assert (torch.stack([x.mean(), y.mean()]) - middle).abs().max() < 0.6
            around = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
            assert (torch.cat([own[:2], -own[2:]]) <= torch.cat([around[:2], -around[2:]]) + 1).all()
            changed += int((middle != point).any())
    assert changed > 5
