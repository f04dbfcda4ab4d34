"""Arguments in the other forms that torchvision takes: they mean the same, or a sentence says why they are refused."""

from __future__ import annotations

import inspect
from typing import Any

import PIL.Image
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

import gpuaug as ga
from tests.support.errors import assert_form
from tests.support.helpers import FAST, drawn, noise
from tests.support.ops import ROWS

MASK = tv_tensors.Mask
PILLOW = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def having(name: str) -> Any:
    """Parameters of a test: each op that has this argument."""
    ops = [op for op in ga.OPS if name in inspect.signature(op).parameters]
    assert len(ops) >= 5
    return pytest.mark.parametrize("op", ops, ids=lambda op: op.__name__)


@having("interpolation")
@pytest.mark.parametrize("word", PILLOW)
def test_interpolation_by_its_word_its_enum_and_pillows_number(op: Any, word: str) -> None:
    example = ROWS[op].example
    expected = example.replace(interpolation=word)
    for value in (InterpolationMode(word), PILLOW[word], PIL.Image.Resampling(PILLOW[word])):
        step = example.replace(interpolation=value)
        assert step == expected
        assert step.interpolation == word
        assert ga.from_torchvision(v2.Resize(9, value)) == [ga.Resize(9, word)]


@having("interpolation")
@pytest.mark.parametrize("value", [1, 4, 5, "box", PIL.Image.LANCZOS, InterpolationMode.HAMMING])
def test_filters_that_only_pillow_has(op: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="`interpolation` must be one of 'nearest'") as error:
        ROWS[op].example.replace(interpolation=value)
    assert_form(error, op.__name__, "interpolation")


FILLS: list[tuple[dict[Any, Any], Any]] = [
    ({tv_tensors.Image: 9, MASK: 0}, 9),
    ({torch.Tensor: (1, 2, 3), "others": 0}, (1.0, 2.0, 3.0)),
    ({PIL.Image.Image: 5, tv_tensors.Image: 5, "others": 9}, 5),
    ({MASK: 1, "others": 7}, 7),
    ({"others": None, MASK: 1}, None),
]


@having("fill")
@pytest.mark.parametrize(("given", "level"), FILLS)
def test_a_fill_by_type_is_that_of_images(op: Any, given: Any, level: Any) -> None:
    example = ROWS[op].example
    assert example.replace(fill=given) == example.replace(fill=level)
    assert example.replace(fill=given).fill == level


@having("fill")
def test_a_fill_by_type_that_says_nothing_or_two_things_of_images(op: Any) -> None:
    for given in ({MASK: 1}, {}, {tv_tensors.Image: 1, torch.Tensor: 2}, {tv_tensors.Image: 256}):
        with pytest.raises(ValueError) as error:
            ROWS[op].example.replace(fill=given)
        assert_form(error, op.__name__, "fill")


@having("fill")
def test_a_fill_that_is_no_level(op: Any) -> None:
    """torchvision wraps around in warps, and raises where it pads."""
    for given in (-1, 256, 1e6, (1, 2, -3)):
        with pytest.raises(ValueError, match=r"Pixels are uint8\.") as error:
            ROWS[op].example.replace(fill=given)
        assert_form(error, op.__name__, "fill")


def test_an_erased_level_that_no_integer_holds() -> None:
    with pytest.raises(ValueError, match=r"`value` must be in \[-1e\+09, 1e\+09\] before ToDtype") as error:
        ga.Augment([ga.RandomErasing(value=-2e9)], backend="torch")(torch.zeros(2, 3, 9, 9, dtype=torch.uint8))
    assert_form(error, "RandomErasing", "value")


DTYPES: list[tuple[dict[Any, Any], torch.dtype]] = [
    ({tv_tensors.Image: torch.float32, MASK: torch.int64, "others": None}, torch.float32),
    ({torch.Tensor: torch.float16}, torch.float16),
    ({"others": torch.bfloat16}, torch.bfloat16),
    ({MASK: torch.int64, "others": None}, torch.uint8),
]


@pytest.mark.parametrize(("given", "dtype"), DTYPES)
def test_a_dtype_by_type_is_that_of_images(given: Any, dtype: torch.dtype) -> None:
    step, image = ga.ToDtype(given, scale=dtype != torch.uint8), torch.arange(192, dtype=torch.uint8).view(3, 8, 8)
    assert step.dtype == dtype
    theirs = v2.ToDtype(given, step.scale)(image if torch.Tensor in given else tv_tensors.Image(image))
    assert torch.equal(ga.Augment([step], backend="torch")(image[None])[0], theirs)


@pytest.mark.parametrize("given", [{MASK: torch.int64}, {}, {tv_tensors.Image: torch.float32, torch.Tensor: None}])
def test_a_dtype_by_type_that_does_not_say_one_thing_of_images(given: Any) -> None:
    with pytest.raises(ValueError, match="a dict by type that says one thing of images") as error:
        ga.ToDtype(given)
    assert_form(error, "ToDtype", "dtype")


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.int32, torch.uint16, torch.bool])
def test_other_dtypes_say_what_to_do(dtype: torch.dtype) -> None:
    for given in (dtype, {tv_tensors.Image: dtype}):
        with pytest.raises(ValueError, match=rf"cast what comes out, augment\(images\)\.to\({dtype}\)\.") as error:
            ga.ToDtype(given)
        assert_form(error, "ToDtype", "dtype")


def test_a_depth_of_0_or_less_is_drawn() -> None:
    """As torchvision asks whether it is above 0."""
    results = [ga.Augment([ga.AugMix(chain_depth=depth)], seed=3, backend=FAST)(noise(4)) for depth in (-1, 0, -5)]
    assert all(torch.equal(result, results[0]) for result in results)
    assert not torch.equal(ga.Augment([ga.AugMix(chain_depth=1)], seed=3, backend=FAST)(noise(4)), results[0])


def test_a_wide_mixture() -> None:
    """32 chains have weights that add up to one, and the same bits on both backends of the CPU."""
    step = ga.AugMix(mixture_width=32)
    results = [ga.Augment([step], seed=3, backend=backend)(noise(2)) for backend in ("torch", FAST)]
    assert torch.equal(*results)
    weights = drawn([step], 1000)[0]["weights"]
    assert weights.shape == (1000, 33)
    assert (weights >= 0).all()
    assert abs(weights.sum(axis=1) - 1).max() < 1e-12
    assert abs(weights[:, 1:].mean(axis=0) - 1 / 64).max() < 0.01


REASONS: list[tuple[Any, str]] = [
    (lambda: ga.RandomSolarize(-5), "RandomInvert inverts every level"),
    (lambda: ga.GaussianNoise(21), "leaves the int16"),
    (lambda: ga.GaussianNoise(0, 21), "leaves the int16"),
    (lambda: ga.AugMix(mixture_width=33), "an instruction of every image"),
    (lambda: ga.AugMix(chain_depth=33), "an instruction of every image"),
    (lambda: ga.AugMix(alpha=0.001), "quantiles"),
    (lambda: ga.TrivialAugmentWide(1), "with one bin has no strength"),
    (lambda: ga.RandAugment(magnitude=0, num_magnitude_bins=1), "with one bin has no strength"),
    (lambda: ga.RandomRotation(9, expand=True), "the size of an expanded image depends on its angle"),
]


@pytest.mark.parametrize(("build", "reason"), REASONS, ids=[reason for _, reason in REASONS])
def test_what_is_out_of_range_says_why(build: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build()
