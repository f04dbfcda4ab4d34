"""What holds for any images, sizes and seeds (long: a property each)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import gpuaug as ga
from gpuaug.transforms.base import Transform
from tests.support.helpers import (
    BACKENDS,
    CLASSES,
    PIXEL_OPS,
    anew,
    call,
    labels,
    noise,
    photographs,
    pipeline,
    recipe,
    smooth,
)
from tests.support.ops import ROWS
from tests.support.ops.behaviour import check_neutral

steady = settings(
    deadline=None,
    derandomize=True,
    max_examples=25,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SEEDS = st.integers(0, 2**64 - 1)
SIDES = st.integers(8, 40)
MODES = st.sampled_from(["batch", "pair", "elem"])
backends = pytest.mark.parametrize("backend", BACKENDS)


@backends
@settings(steady, max_examples=60)
@given(op=st.sampled_from(PIXEL_OPS), seed=SEEDS, rows=st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
def test_a_sample_does_not_depend_on_its_batch(backend: str, op: type[Transform], seed: int, rows: list[int]) -> None:
    """Any samples in any order; the same one twice would be another look at it."""
    images, index = noise(8), torch.arange(100, 108)
    augment = ga.Augment(pipeline(op), seed=seed, backend=backend)
    assert torch.equal(anew(augment, images[rows], index=index[rows]), anew(augment, images, index=index)[rows])


@backends
@pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)
@settings(steady, max_examples=4)
@given(seed=SEEDS, height=SIDES, width=SIDES)
def test_neutral_parameters_change_nothing(
    backend: str, op: type[Transform], seed: int, height: int, width: int
) -> None:
    check_neutral(op, ROWS[op], backend, height, width, seed)


@backends
def test_neutral_for_one_channel(backend: str) -> None:
    images = noise(3, 1)
    for step in (ga.Grayscale(1), ga.RandomChannelPermutation(), ga.ColorJitter(saturation=0.9, hue=0.4)):
        assert torch.equal(ga.Augment([step], backend=backend, seed=0)(images), images)
    for step in (ga.RandomGrayscale(p=1), ga.RandomApply([ga.Grayscale(1)], p=1)):
        assert torch.equal(ga.Augment([step], backend=backend, seed=0)(images), images)
    result = ga.Augment([ga.Grayscale(3)], backend=backend, seed=0)(images)
    assert torch.equal(result, images.expand(-1, 3, -1, -1))


@backends
def test_neutral_normalize(backend: str) -> None:
    images = noise()
    steps = [ga.ToDtype(torch.float32), ga.Normalize((0.0,), (1.0,))]
    assert torch.equal(ga.Augment(steps, backend=backend)(images), images.float())


def soft(count: int, kind: str) -> Tensor:
    """Labels that sum to one, as class numbers or weights."""
    if kind == "int":
        return labels(count)
    weights = torch.rand(count, CLASSES, generator=torch.Generator().manual_seed(count))
    return weights / weights.sum(dim=1, keepdim=True)


@backends
@steady
@given(
    seed=SEEDS, count=st.integers(1, 9), mode=MODES, alpha=st.sampled_from([0.1, 0.2, 1.0, 5.0]),
    kind=st.sampled_from(["int", "soft"]), height=SIDES, width=SIDES,
)  # fmt: skip
def test_labels_sum_to_one(
    backend: str, seed: int, count: int, mode: str, alpha: float, kind: str, height: int, width: int
) -> None:
    given_labels = soft(count, kind)
    before = given_labels.clone()
    mixes = [cls(alpha=alpha, num_classes=CLASSES, mode=mode) for cls in (ga.MixUp, ga.CutMix)]
    for step in (*mixes, ga.RandomChoice(mixes, p=[0.4, 0.4])):
        augment = ga.Augment([ga.ToDtype(torch.float32), step], seed=seed, backend=backend)
        images, mixed = augment(noise(count, 3, height, width), given_labels)
        assert mixed.shape == (count, CLASSES)
        assert mixed.dtype == torch.float32
        assert images.shape == (count, 3, height, width)
        assert torch.allclose(mixed.sum(dim=1), torch.ones(count), atol=1e-6)
        assert (mixed >= 0).all()
        assert torch.equal(given_labels, before)


@backends
@steady
@given(seed=SEEDS, count=st.integers(2, 8), mode=MODES, height=SIDES, width=SIDES)
def test_the_share_of_a_cutmix_label_is_the_area_of_its_pixels(
    backend: str, seed: int, count: int, mode: str, height: int, width: int
) -> None:
    """Each image is one level, so its pixels say whose they are; each label is one class."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, height, width)
    steps = [ga.ToDtype(torch.float32), ga.CutMix(num_classes=count, mode=mode)]
    mixed, weights = ga.Augment(steps, seed=seed, backend=backend)(images, torch.arange(count))
    for number in range(count):
        area = torch.bincount(mixed[number, 0].long().flatten(), minlength=count) / (height * width)
        assert torch.allclose(weights[number], area, atol=1e-7)


@backends
@steady
@given(seed=SEEDS, count=st.integers(1, 8), mode=MODES)
def test_mixup_shares_are_those_of_the_pixels(backend: str, seed: int, count: int, mode: str) -> None:
    images = torch.eye(count).mul(255).to(torch.uint8)[:, :, None, None].expand(-1, -1, 8, 8)  # channel i is sample i
    steps = [ga.ToDtype(torch.float32, scale=True), ga.MixUp(num_classes=count, mode=mode)]
    mixed, weights = ga.Augment(steps, seed=seed, backend=backend)(images, torch.arange(count))
    assert torch.allclose(mixed, weights[:, :, None, None].expand_as(mixed), atol=1e-6)
    assert mode != "elem" or count < 4 or len(set(weights.diagonal().tolist())) > 1


@backends
def test_the_middle_of_an_odd_batch_of_pairs_stays(backend: str) -> None:
    images = noise(5)
    for step in (ga.MixUp(num_classes=CLASSES, mode="pair"), ga.CutMix(num_classes=CLASSES, mode="pair")):
        mixed, weights = ga.Augment([ga.ToDtype(torch.float32), step], backend=backend, seed=0)(images, labels(5))
        assert torch.equal(mixed[2], images[2].float())
        assert weights[2].tolist() == torch.nn.functional.one_hot(labels(5), CLASSES)[2].tolist()


@backends
@steady
@given(seed=SEEDS, height=SIDES, width=SIDES, value=st.integers(1, 255))
def test_what_is_erased_is_the_box(backend: str, seed: int, height: int, width: int, value: int) -> None:
    images = torch.zeros(6, 3, height, width, dtype=torch.uint8)
    low, high = 0.1, 0.4
    for steps in ([], [ga.ToDtype(torch.float32)]):
        erasing = ga.RandomErasing(p=0.7, scale=(low, high), value=float(value))
        augment = ga.Augment([*steps, erasing], seed=seed, backend=backend)
        draw = augment.sample(images)
        erased = augment.render(images, draw)
        params = draw.params[-1]
        areas = (erased == value).sum(dim=(2, 3))
        expected = torch.from_numpy(params["box"][:, 2] * params["box"][:, 3] * params["applied"])
        assert torch.equal(areas, expected[:, None].expand(-1, 3).long())
        assert ((erased == value) | (erased == 0)).all()
        for area, box in zip(areas[:, 0].tolist(), params["box"], strict=True):
            slack = (box[2] + box[3] + 1) / 2  # each side is rounded to a pixel
            assert area == 0 or low * height * width - slack <= area <= high * height * width + slack


@backends
@steady
@given(seed=SEEDS, height=SIDES, width=SIDES, out=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_the_output_has_the_size_it_should(
    backend: str, seed: int, height: int, width: int, out: tuple[int, int]
) -> None:
    images = noise(2, 3, height, width)
    sizes = {
        ga.Resize(out): out,
        ga.CenterCrop(out): out,
        ga.RandomResizedCrop(out): out,
        ga.RandomCrop(out, padding=30): out,
        ga.RandomCrop(out, pad_if_needed=True): out,
        ga.Pad((1, 2, 3, 4)): (height + 6, width + 4),
        ga.Resize(out[0]): (
            out[0] if height <= width else int(out[0] * height / width),
            out[0] if width <= height else int(out[0] * width / height),
        ),
    }
    for step, size in sizes.items():
        assert ga.Augment([step], seed=seed, backend=backend)(images).shape == (2, 3, *size)


WHOLE = pytest.mark.parametrize("name", [*(op.__name__ for op in ga.OPS), "recipe"])


@backends
@WHOLE
def test_the_batch_is_never_written_to(backend: str, name: str) -> None:
    steps = recipe(mix=True) if name == "recipe" else pipeline(getattr(ga, name))
    for images in (noise(5), noise(5).to(memory_format=torch.channels_last), noise(6)[::2, :, ::2]):
        copy, version = images.clone(), images._version
        result = call(ga.Augment(steps, seed=1, backend=backend), images)
        assert torch.equal(images, copy)
        assert images._version == version
        result.zero_()  # nor is it what comes out
        assert torch.equal(images, copy)


@backends
@pytest.mark.parametrize("name", [*(op.__name__ for op in PIXEL_OPS), "recipe"])
def test_a_ragged_batch_is_never_written_to(backend: str, name: str) -> None:
    steps = recipe() if name == "recipe" else pipeline(getattr(ga, name), ragged=True)
    images = ga.Ragged.from_images(photographs())
    copy, version = images.data.clone(), images.data._version
    ga.Augment(steps, backend=backend)(images).zero_()
    assert torch.equal(images.data, copy)
    assert images.data._version == version


@backends
@steady
@given(seed=SEEDS, height=SIDES, width=SIDES, between=st.sampled_from([[], [ga.RandomInvert(p=1)], [ga.CenterCrop(7)]]))
def test_opposite_flips_cancel(backend: str, seed: int, height: int, width: int, between: list[Transform]) -> None:
    images = noise(3, 3, height, width, seed % 1000)
    for flip in (ga.RandomHorizontalFlip(p=1), ga.RandomVerticalFlip(p=1)):
        odd = any(isinstance(step, ga.CenterCrop) for step in between) and ((height - 7) % 2 or (width - 7) % 2)
        if not odd:  # else the middle is not in the middle
            twice = ga.Augment([flip, *between, flip], backend=backend, seed=0)(images)
            assert torch.equal(twice, ga.Augment(between, backend=backend, seed=0)(images))
    once = ga.Augment([ga.RandomHorizontalFlip(p=1), ga.RandomVerticalFlip(p=1)], backend=backend, seed=0)(images)
    assert torch.equal(once, images.flip(2, 3))


@backends
@settings(steady, max_examples=10)
@given(seed=SEEDS)
def test_composed_warps_are_close_to_warps_in_turn(backend: str, seed: int) -> None:
    """Where the image is smooth, and away from the border that the first warp brought in."""
    images = smooth()
    steps = [
        ga.RandomRotation(6, "bilinear"),
        ga.RandomAffine(4, (0.03, 0.03), (1.0, 1.1), 3, "bilinear"),
        ga.RandomPerspective(0.1, 1.0),
    ]
    composed, exact = (
        ga.Augment(steps, seed=seed, backend=backend, exact=flag)(images).int() for flag in (False, True)
    )
    inner = (slice(None), slice(None), slice(14, -14), slice(14, -14))
    assert (composed - exact)[inner].abs().max() <= 4
    assert (composed - images.int())[inner].abs().max() > 6  # and it did something


@backends
def test_exact_changes_nothing_where_nothing_is_composed(backend: str) -> None:
    images = noise(6)
    steps = [ga.RandomCrop(16, padding=2), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4), ga.RandomRotation(20)]
    loose, exact = (ga.Augment(steps, backend=backend, exact=flag, seed=0)(images) for flag in (False, True))
    assert torch.equal(loose, exact)


@steady
@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=6),
    channels=st.integers(1, 4),
    strided=st.booleans(),
)
def test_ragged_gives_back_its_images(sizes: list[tuple[int, int]], channels: int, strided: bool) -> None:
    images = [noise(1, channels, *size, seed=n)[0] for n, size in enumerate(sizes)]
    if strided:
        images = [image.flip(2).transpose(1, 2) for image in images]
    ragged = ga.Ragged.from_images(images)
    assert len(ragged) == len(images)
    assert ragged.channels == channels
    assert [tuple(size) for size in ragged.sizes.tolist()] == [tuple(image.shape[1:]) for image in images]
    for again in (ragged, ragged.to("cpu"), ga.Ragged(ragged.data, ragged.sizes, channels)):
        for number, image in enumerate(again):
            assert torch.equal(image, images[number])
            assert image.untyped_storage().data_ptr() == again.data.untyped_storage().data_ptr()
        assert torch.equal(again[-1], images[-1])
    assert np.array_equal(ragged.offsets, np.cumsum([0, *(image.numel() for image in images)])[:-1])


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "expanded"])
def test_the_layout_of_the_batch_does_not_matter(layout: str) -> None:
    images = noise(4, 3, 24, 21)
    given_images: Any = {
        "contiguous": images,
        "channels_last": images.to(memory_format=torch.channels_last),
        "strided": images.repeat_interleave(2, dim=3)[..., ::2],
        "expanded": images[:1].expand(4, -1, -1, -1),
    }[layout]
    index = torch.arange(4)
    for backend in BACKENDS:
        augment = ga.Augment(recipe(), backend=backend, seed=0)
        assert torch.equal(
            augment(given_images, index=index), anew(augment, given_images.contiguous().clone(), index=index)
        )


TIGHT: dict[str, Callable[[int, int], list[Any]]] = {  # crops that often happen to start at (0, 0), uncut or unscaled
    "RandomResizedCrop": lambda h, w: [ga.RandomResizedCrop((h, w), scale=(0.5, 1.0), ratio=(0.8, 1.25))],
    "RandomCrop": lambda h, w: [ga.RandomCrop((h, w))],
    "RandomCrop, padded": lambda h, w: [ga.RandomCrop((h, w), 1)],
    "CenterCrop": lambda h, w: [ga.CenterCrop((h, w))],
    "Resize, CenterCrop": lambda h, w: [ga.Resize(max(h, w)), ga.CenterCrop((h, w))],
    "RandomChoice": lambda h, w: [
        ga.RandomChoice([ga.RandomCrop((h, w)), ga.CenterCrop((h, w)), ga.RandomResizedCrop((h, w))])
    ],
    "flip and crop": lambda h, w: [ga.RandomHorizontalFlip(0.2), ga.RandomInvert(0.2), ga.RandomCrop((h, w))],
    "crop after a step": lambda h, w: [ga.RandomInvert(0.2), ga.RandomResizedCrop((h, w))],
    "crop twice": lambda h, w: [ga.RandomCrop((h + 1, w + 1), 1), ga.RandomInvert(0.2), ga.RandomCrop((h, w))],
}


@pytest.mark.parametrize("name", TIGHT)
@settings(steady, max_examples=6)
@given(seed=SEEDS, height=st.integers(3, 8), width=st.integers(3, 8), more=st.tuples(*[st.integers(0, 2)] * 2))
def test_no_draw_is_a_special_case(name: str, seed: int, height: int, width: int, more: tuple[int, int]) -> None:
    """Alone and beside others, from a dense and from a ragged batch, on every backend: the same shape, the same bits.

    A backend that leaves something out because this draw seems not to need it, a crop for example, shows here.
    """
    steps = TIGHT[name](height, width)
    images, index = noise(10)[..., : height + more[0], : width + more[1]], torch.arange(10)
    expected = ga.Augment(steps, seed=seed, backend="numba")(images, index=index)
    assert expected.shape == (10, 3, height, width)
    for backend in BACKENDS:
        for number in range(10):
            one, key = images[number : number + 1], index[number : number + 1]
            for source in (one, ga.Ragged.from_images(list(one))):
                result = ga.Augment(steps, seed=seed, backend=backend)(source, index=key)
                assert torch.equal(result, expected[number : number + 1]), f"{backend}, sample {number}"
