"""Changes of meaning that no other test notices, see mutants.py (long: a test for each)."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import RandomSampler
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.functional import _compute_resized_output_size
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.data.index import index_of
from gpuaug.engine.counter import SampleNumbers
from gpuaug.engine.epochs import Epochs
from gpuaug.engine.evaluation import evaluation
from gpuaug.engine.looks import Looks
from gpuaug.engine.recompute import Recent
from gpuaug.instructions import Q14
from gpuaug.philox import LOOKS, NUMBERS
from gpuaug.program import Keys, Window
from gpuaug.transforms.base import Canvas
from gpuaug.transforms.blur import fixed_point
from gpuaug.transforms.container import Lowered
from gpuaug.transforms.quantile import beta_quantile
from tests.support.helpers import BACKENDS, anew, noise
from tests.support.mutants import TABLE, read

FLOATS = ga.ToDtype(torch.float32, scale=True)
LAST = 1 - 2.0**-24  # the highest uniform


def ends(op: Any, height: int = 40, width: int = 30) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters at the lowest and at the highest draw."""
    canvas = Canvas(np.array([[height, width]]), 3)
    low, high = (op.parameters(np.full((1, op.draws), value), canvas) for value in (0.0, LAST))
    return low, high


# ---- ranges ----------------------------------------------------------------------------------------------------------


def test_a_number_of_degrees_is_to_both_sides() -> None:
    low, high = ends(ga.RandomRotation(30))
    assert low["degrees"][0] == -30
    assert high["degrees"][0] == pytest.approx(30, abs=1e-4)
    low, high = ends(ga.RandomRotation((10, 20)))
    assert (low["degrees"][0], high["degrees"][0]) == (10, pytest.approx(20, abs=1e-4))


def test_the_ranges_of_an_affine() -> None:
    """Shifts are fractions of their own side, rounded to the nearest pixel; one number of shear is along x."""
    low, high = ends(ga.RandomAffine(15, translate=(0.25, 0.4), scale=(0.5, 2), shear=8))
    assert low["degrees"][0] == -15
    assert low["translate"].tolist() == [[-8, -16]]  # 7.5, to even
    assert high["translate"].tolist() == [[7, 16]]  # a little less than 7.5
    assert (low["scale"][0], high["scale"][0]) == (0.5, pytest.approx(2))
    assert low["shear"].tolist() == [[-8, 0]]
    low, high = ends(ga.RandomAffine(0, translate=(0.23, 0)))
    assert (low["translate"][0, 0], high["translate"][0, 0]) == (-7, 7)  # 6.9
    low, _ = ends(ga.RandomAffine(0, shear=(-3, 4, -5, 6)))
    assert low["shear"].tolist() == [[-3, -5]]


def test_corners_move_by_half_of_a_side_at_most() -> None:
    """As torchvision: randint(0, int(scale * (side // 2)) + 1), which leaves that number itself out."""
    low, high = ends(ga.RandomPerspective(0.5), 41, 31)
    assert low["corners"].tolist() == [[[0, 0], [31 - 8, 0], [31 - 8, 41 - 11], [0, 41 - 11]]]
    assert high["corners"].tolist() == [[[7, 10], [30, 10], [30, 40], [7, 40]]]


def test_the_ranges_of_blurs_and_of_a_quality() -> None:
    low, high = ends(ga.GaussianBlur(3, (0.5, 2.0)))
    assert (low["sigma"][0], high["sigma"][0]) == (0.5, pytest.approx(2.0))
    low, high = ends(ga.MotionBlur(3, (10, 40), 0.5))
    assert (low["degrees"][0], high["degrees"][0]) == (10, pytest.approx(40))
    assert (low["direction"][0], high["direction"][0]) == (-0.5, pytest.approx(0.5))
    low, high = ends(ga.JPEG((20, 90)))
    assert (low["quality"][0], high["quality"][0]) == (20, 90)


def test_jitter_factors_are_float32_as_torchvisions() -> None:
    params = ga.Augment([ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]).sample(noise(9)).params[0]
    for name in ("brightness", "contrast", "saturation", "hue"):
        factor = params[f"{name}_factor"]
        assert (factor == factor.astype(np.float32)).all()


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_a_jitter_that_changes_nothing_is_left_out(name: str) -> None:
    neutral = (0, 0) if name == "hue" else (1, 1)
    augment = ga.Augment([ga.ColorJitter(**{name: neutral})], backend="torch")
    images = noise(4)
    draw = augment.sample(images)
    assert f"{name}_factor" not in draw.params[0]
    assert torch.equal(augment.render(images, draw), images)
    (low, _), large = ends(ga.ColorJitter(brightness=3)), 4
    assert low["brightness_factor"][0] == 0
    assert ga.ColorJitter(brightness=3)._ranges()["brightness"] == (0, large)


def test_an_erased_boxs_ratio_is_height_to_width() -> None:
    """torchvision's RandomErasing, unlike its RandomResizedCrop."""
    params = ga.Augment([ga.RandomErasing(1.0, (0.05, 0.1), (3, 4))]).sample(noise(64, 3, 60, 60)).params[0]
    height, width = params["box"][:, 2], params["box"][:, 3]
    assert (height > 2 * width).all()
    crops = ga.Augment([ga.RandomResizedCrop(8, (0.05, 0.1), (3, 4))]).sample(noise(64, 3, 60, 60)).params[0]
    assert (crops["box"][:, 3] > 2 * crops["box"][:, 2]).all()


def test_what_a_box_that_never_fits_erases() -> None:
    """An image of one row has none that is lower than it."""
    augment = ga.Augment([ga.RandomErasing(1.0, value=9)], backend="torch")
    images = noise(8, 3, 1, 20)
    assert torch.equal(augment(images), images)


def test_a_crop_pads_what_is_missing_on_both_sides() -> None:
    """As torchvision's pad_if_needed, so that a small image may lie anywhere in the crop."""
    starts = ga.Augment([ga.RandomCrop((40, 37), pad_if_needed=True)]).sample(noise(600, 1, 30, 30)).params[0]["start"]
    assert starts.min(axis=0).tolist() == [-10, -7]
    assert starts.max(axis=0).tolist() == [0, 0]
    assert set(starts[:, 0].tolist()) == set(range(-10, 1))


@pytest.mark.parametrize("padding", [(4, 0, 0, 0), (0, 4, 0, 0), (0, 0, 4, 0), (0, 0, 0, 4)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_crop_that_pads_one_side(backend: str, padding: tuple[int, ...]) -> None:
    """(left, top, right, bottom), with the fill."""
    augment = ga.Augment([ga.RandomCrop(24, padding, fill=200)], backend=backend)
    images = noise(12, 3, 24, 24)
    draw = augment.sample(images)
    left, top, _, _ = padding
    padded = F.pad(images, list(padding), 200)
    for image, start, result in zip(padded, draw.params[0]["start"], augment.render(images, draw), strict=True):
        y, x = int(start[0]) + top, int(start[1]) + left
        assert torch.equal(result, image[:, y : y + 24, x : x + 24])


@pytest.mark.parametrize(("size", "most"), [(24, None), (24, 40), (None, 31), (7, 8), (100, 333)])
def test_sizes_of_a_resize_are_torchvisions(size: int | None, most: int | None) -> None:
    """Edges are truncated, not rounded; where torchvision comes to no pixels and raises, one is left."""
    sizes = np.array([(height, width) for height in range(1, 60, 3) for width in range(1, 200, 7)])
    got = ga.Resize(size, max_size=most).sizes(sizes)
    asked = None if size is None else [size]
    theirs = [_compute_resized_output_size(pair, asked, most, allow_size_none=True) for pair in sizes.tolist()]
    assert (got == np.maximum(theirs, 1)).all()
    assert got.min() > 0


@pytest.mark.parametrize(("mode", "most"), [("reflect", 6), ("symmetric", 7)])
def test_how_far_a_border_may_be_reflected(mode: str, most: int) -> None:
    """An image of 7 pixels: the last width that torchvision takes, and the first that has no pixel to take."""
    images = noise(1, 3, 7, 12)
    for op in (ga.Pad((0, most), padding_mode=mode), ga.RandomCrop((9, 12), (0, most), padding_mode=mode)):
        assert len(ga.Augment([op], backend="torch")(images)) == 1
    pad = ga.Augment([ga.Pad((0, most), padding_mode=mode)], backend="torch")
    assert torch.equal(pad(images), F.pad(images, [0, most], padding_mode=mode))
    for op in (ga.Pad((0, most + 1), padding_mode=mode), ga.RandomCrop(7, (0, most + 1), padding_mode=mode)):
        with pytest.raises(ValueError, match="`padding` must be smaller than the image"):
            ga.Augment([op], backend="torch")(images)


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (3, 4), (0.2, 0.3), (1, 1)])
def test_a_box_that_never_fits_is_torchvisions(ratio: tuple[float, float]) -> None:
    """The largest central one: four times the image's area fits nowhere."""
    ours = ga.RandomResizedCrop(8, (4, 4), ratio)
    theirs = v2.RandomResizedCrop(8, (4, 4), ratio)
    for height, width in [(20, 31), (31, 20), (21, 20), (9, 60), (60, 7), (5, 5), (20, 4)]:
        canvas = Canvas(np.array([[height, width]]), 3)
        box = ours.parameters(np.full((1, ours.draws), 0.5), canvas)["box"][0].tolist()
        expected = theirs.make_params([torch.zeros(3, height, width)])
        assert box == [expected[name] for name in ("top", "left", "height", "width")]
    thin = ga.RandomResizedCrop(8, (4, 4), (3, 4)).parameters(np.full((1, 22), 0.5), Canvas(np.array([[20, 1]]), 3))
    assert thin["box"].tolist() == [[9, 0, 1, 1]]  # torchvision's has no row, and raises


def test_which_boxes_fit() -> None:
    """A crop may be all of the image, what is erased may not; neither may be empty."""
    for h, w, crop, erase in [(5, 7, True, False), (6, 7, False, False), (5, 8, False, False), (4, 6, True, True)]:
        assert bool(ga.RandomResizedCrop._fits(*map(np.array, (h, w, 5, 7)))) == crop
        assert bool(ga.RandomErasing._fits(*map(np.array, (w, h, 7, 5)))) == erase
    assert not ga.RandomErasing._fits(*map(np.array, (6, 5, 7, 5)))
    assert not ga.RandomErasing._fits(*map(np.array, (7, 4, 7, 5)))
    for h, w in ((0, 3), (3, 0)):
        assert not ga.RandomResizedCrop._fits(*map(np.array, (h, w, 5, 7)))


# ---- windows ---------------------------------------------------------------------------------------------------------


def in_turn(steps: list[Any], images: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """What a list gives, and its steps one after another with the same draws."""
    augment = ga.Augment(steps, seed=1, backend=backend, exact=True)
    draw = augment.sample(images)
    result, expected = augment.render(images, draw), images
    for step, params in zip(steps, draw.params, strict=True):
        alone = ga.Augment([step], seed=1, backend=backend, exact=True)
        expected = alone.render(expected, replace(alone.sample(expected), params=[params]))
    return result, expected


CUTS = [ga.CenterCrop((35, 31)), ga.RandomCrop(29), ga.RandomCrop((27, 26))]
RESIZED = ga.RandomResizedCrop((19, 21))
FLIPS = [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()]


@pytest.mark.parametrize(
    "steps",
    [
        CUTS,
        [*CUTS, RESIZED],
        [RESIZED, ga.CenterCrop(15), ga.RandomCrop(9)],
        [CUTS[0], *FLIPS, CUTS[1]],
        [*FLIPS, CUTS[1], FLIPS[0], CUTS[2]],
        [ga.Pad((1, 2, 3, 4), 9), *CUTS, RESIZED],
        [ga.Pad((9, 2, 3, 4), 9, "reflect"), FLIPS[0], CUTS[0], ga.Pad(3, 7)],
        [RESIZED, ga.RandomResizedCrop((12, 11))],
        [CUTS[0], ga.Pad(5, 200), ga.CenterCrop((60, 20))],
        [FLIPS[0], ga.RandomResizedCrop((19, 21), interpolation="nearest")],
    ],
    ids=str,
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_window_of_a_window(backend: str, steps: list[Any]) -> None:
    result, expected = in_turn(steps, noise(9, 3, 45, 53), backend)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("change", ["flip", "start", "box start", "box size", "resized", "source"])
def test_a_window_shows_all_only_where_it_does(change: str) -> None:
    """One sample of two that is different is enough."""

    def window(**parts: Any) -> Window:
        whole = np.array([[0, 0, 8, 9]] * 2, np.int32)
        given = {"box": whole, "resized": whole[:, 2:], "start": whole[:, :2], "flip": whole[:, :2]} | parts
        return Window((8, 9), **given)

    def nudged(width: int, at: int, rest: tuple[int, ...]) -> Any:
        rows = np.array([rest] * 2, np.int32)
        rows[1, at] += 1 if width else -1
        return rows

    assert window().shows_all((8, 9))
    other = {
        "flip": window(flip=nudged(1, 0, (0, 0))),
        "start": window(start=nudged(1, 1, (0, 0))),
        "box start": window(box=nudged(1, 1, (0, 0, 8, 9))),
        "box size": window(box=nudged(0, 3, (0, 0, 8, 9))),
        "resized": window(resized=nudged(1, 0, (8, 9))),
        "source": window(),
    }[change]
    assert not other.shows_all((8, 10) if change == "source" else (8, 9))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_of_one_whose_box_has_the_targets_size(backend: str) -> None:
    """Whatever the box's start: no draw may pass for one that has nothing to do."""
    augment = ga.Augment([ga.RandomResizedCrop((8, 9))], backend=backend)
    images = noise(1, 3, 10, 11)
    draw = augment.sample(images)
    for top in range(3):
        for left in range(3):
            there = replace(draw, params=[draw.params[0] | {"box": np.array([[top, left, 8, 9]])}])
            assert torch.equal(augment.render(images, there), images[:, :, top : top + 8, left : left + 9])


@pytest.mark.parametrize("size", [(41, 87), (41, 86), (41, 88), (87, 41), (47, 81), (55, 73), (55, 74)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_nearest_exact_changes_its_rule_where_torch_does(backend: str, size: tuple[int, int]) -> None:
    """Up to a height + width of 128; the two rules differ where few pixels become 41, 47 or 55."""
    augment = ga.Augment([ga.Resize(size, "nearest-exact")], backend=backend)
    for height, width in [(2, 2), (2, 30), (30, 2), (4, 6), (33, 47)]:
        images = torch.arange(height * width).remainder(251).to(torch.uint8).view(1, 1, height, width)
        expected = F.resize(images, list(size), InterpolationMode.NEAREST_EXACT)
        assert torch.equal(augment(images), expected), (height, width)


def test_the_least_size_is_that_of_all_crops() -> None:
    """Kernels are chosen by it, so it must not be the first one's."""
    crops = [ga.CenterCrop(20), ga.Resize((20, 20)), ga.RandomCrop(20)]
    canvas = Canvas(np.array([[48, 40]] * 4), 3)
    for order in (crops, crops[::-1], [crops[1], crops[0]]):
        choice = ga.RandomChoice(order)
        draw = ga.Augment([choice], seed=0).sample(noise(4, 3, 48, 40))
        lowered = Lowered(canvas)
        choice.lower(draw.params[0], lowered)  # type: ignore[arg-type]
        placement = lowered.placement
        assert placement is not None
        assert placement.min_resized is not None
        assert placement.min_resized.tolist() == [20, 20]
        assert placement.may_resample
        assert placement.may_crop


def test_ragged_images_have_a_least_size() -> None:
    """Of Resize to a shorter edge: of the images at hand."""
    images = ga.Ragged.from_images([noise(1, 3, 20, 80)[0], noise(1, 3, 60, 24)[0]])
    augment = ga.Augment([ga.Resize(16), ga.CenterCrop(12)], backend="torch")
    draw = augment.sample(images)
    items = augment.train_pipeline.lower(draw.params, draw.keys, draw.canvas, False, augment.memory_format)
    assert items[0].window.min_resized == (16, 16)  # type: ignore[union-attr]


# ---- warps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_composed_warps_keep_their_gates(backend: str) -> None:
    """A sample that one of two neighbours leaves out has the other alone; one that both leave out is as it was."""
    steps = [ga.RandomPerspective(0.6, 0.5, "nearest"), ga.RandomPerspective(0.4, 0.5, "nearest")]
    images = noise(48, 3, 33, 29)
    once, twice = (ga.Augment(steps, seed=4, backend=backend, exact=exact) for exact in (False, True))
    draw = once.sample(images)
    both = np.logical_and(*(params["applied"] for params in draw.params))
    none = ~np.logical_or(*(params["applied"] for params in draw.params))
    result, expected = once.render(images, draw), twice.render(images, draw)
    alone = torch.from_numpy(~both)
    assert torch.equal(result[alone], expected[alone])
    assert torch.equal(result[torch.from_numpy(none)], images[torch.from_numpy(none)])
    assert min(both.sum(), none.sum(), (~both & ~none).sum()) > 3
    assert not torch.equal(result[~alone], expected[~alone])


@pytest.mark.parametrize("second", [{"interpolation": "bilinear"}, {"fill": 9}, {"fill": None}], ids=str)
def test_only_warps_that_resample_alike_become_one(second: dict[str, Any]) -> None:
    steps = [ga.RandomRotation(40, fill=0), ga.RandomRotation((20, 50), **{"fill": 0} | second)]
    images = noise(4, 3, 33, 29)
    results = [
        anew(ga.Augment(steps, seed=4, backend="torch", exact=exact), images, index=torch.arange(4))
        for exact in (False, True)
    ]
    assert torch.equal(*results)
    between = [steps[0], ga.RandomInvert(0.5), steps[0]]
    results = [
        anew(ga.Augment(between, seed=4, backend="torch", exact=exact), images, index=torch.arange(4))
        for exact in (False, True)
    ]
    assert torch.equal(*results)


# ---- the end of the list ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["random", 0.5, (0.1, 0.2, 0.7)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_erased_is_normalised_after_it(backend: str, value: Any) -> None:
    """Its shift and its spread."""
    normalize = ga.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.05))
    erasing = ga.RandomErasing(1.0, (0.2, 0.5), value=value)
    augment = ga.Augment([FLOATS, erasing, normalize], seed=2, backend=backend)
    images = noise(5)
    draw = augment.sample(images, index=torch.arange(5))
    before = ga.Augment([FLOATS, erasing], seed=2, backend=backend)
    values = before.render(images, replace(draw, params=draw.params[:2]))
    expected = F.normalize(values, list(normalize.mean), list(normalize.std))
    assert torch.allclose(augment.render(images, draw), expected, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_todtype_of_uint8_makes_no_floats_to_erase(backend: str) -> None:
    """As torchvision, which cuts a level to a whole number; floats would be rounded."""
    images, value = noise(4), (1.7, 99.5, 254.9)
    augment = ga.Augment([ga.ToDtype(torch.uint8), ga.RandomErasing(1.0, value=value)], backend=backend)
    draw = augment.sample(images)
    for image, box, result in zip(images, draw.params[1]["box"], augment.render(images, draw), strict=True):
        assert torch.equal(result, F.erase(image, *map(int, box), v=torch.tensor(value).view(3, 1, 1)))


def test_the_evaluation_list_keeps_how_it_resizes() -> None:
    crop = ga.RandomResizedCrop(20, interpolation="bicubic", antialias=False)
    assert evaluation([crop]) == [ga.Resize(23, "bicubic", antialias=False), ga.CenterCrop(20)]
    assert evaluation([ga.RandomResizedCrop((21, 20))]) == [ga.Resize((24, 23)), ga.CenterCrop((21, 20))]
    assert evaluation([ga.RandomCrop(8, 2)]) == [ga.CenterCrop(8)]


@pytest.mark.parametrize("index", [None, torch.arange(16)], ids=["counted", "indexed"])
def test_evaluation_draws_by_the_epoch(index: Tensor | None) -> None:
    """Where an evaluation list draws at all: the same batch gives the same pixels, in its epoch."""
    augment = ga.Augment([ga.RandomInvert()], eval=[ga.RandomInvert()], seed=3, backend="torch").eval()
    seen = []
    for epoch in range(4):
        augment.set_epoch(epoch)
        first, again = augment(noise(16), index=index), augment(noise(16), index=index)
        assert torch.equal(first, again)
        seen.append(first)
    assert not any(torch.equal(one, other) for n, one in enumerate(seen) for other in seen[:n])


# ---- samplers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [255, 256, 257, 511, 512])
def test_an_epoch_is_rounded_where_timms_is(count: int) -> None:
    """Also for a data set of exactly as many images as it is rounded to."""
    sampler = pytest.importorskip("timm.data.distributed_sampler").RepeatAugSampler
    dataset = ga.data.Indexed([(torch.zeros(3, 1, 1, dtype=torch.uint8), 0)] * count)
    for ranks in (1, 3, 7):
        theirs = sampler(dataset, num_replicas=ranks, rank=0)
        ours = ga.data.RepeatedAugmentationSampler(dataset, num_replicas=ranks, rank=0)
        assert len(ours) == len(theirs)
        assert [number for number, _ in ours] == list(theirs)


# ---- looks and epochs ------------------------------------------------------------------------------------------------


def test_a_repeat_is_counted_from_bit_15_of_the_look_on() -> None:
    """As docs/draws.md says: below it, what the sampler numbers."""
    index = np.array([5, 5, 5 | 2 << 48, 5 | 1 << 48], np.uint64)
    assert Looks().reserve(index).looks.tolist() == [0, 1 << 15, 2, 1 | 2 << 15]


def test_a_batch_given_back_takes_no_look_of_a_later_one() -> None:
    looks, index = Looks(), np.array([7, 8], np.uint64)
    first, second = looks.reserve(index), looks.reserve(index)
    looks.release(first)  # it is not the last one, so its looks are lost
    later = [looks.reserve(index) for _ in range(3)]
    assert len({int(taken.looks[0]) for taken in (second, *later)}) == 4
    looks.release(later[-1])
    assert looks.reserve(index).looks.tolist() == later[-1].looks.tolist()


def test_a_resumed_epoch_goes_on_only_if_it_is_the_one_that_was_saved() -> None:
    """Of the next one, each image has its looks anew."""
    images, index = noise(4), torch.arange(4)
    augment = ga.Augment([ga.RandomRotation(90)], seed=1, backend="torch")
    augment.set_epoch(3)
    results = [augment(images, index=index) for _ in range(3)]
    again, other, straight = (ga.Augment([ga.RandomRotation(90)], seed=1, backend="torch") for _ in range(3))
    for module in (again, other):
        module.load_state_dict(augment.state_dict())
    again.set_epoch(3)
    assert not any(torch.equal(again(images, index=index), result) for result in results)
    for module in (other, straight):
        module.set_epoch(4)
    assert torch.equal(other(images, index=index), straight(images, index=index))


def test_what_an_epoch_says_of_itself() -> None:
    """Told once, it stays told, and further passes are of that epoch; only the last pass ends."""
    epochs = Epochs()
    epochs.begin()
    assert (epochs.number, epochs.told, epochs.again) == (0, False, 0)
    epochs.begin()
    assert (epochs.number, epochs.told, epochs.again) == (1, False, 0)
    epochs.tell(3)
    epochs.begin()
    assert (epochs.number, epochs.told, epochs.again) == (3, True, 0)
    first = epochs.version
    epochs.begin()
    assert (epochs.number, epochs.told, epochs.again) == (3, True, 1)
    for ended, again in ((first, 1), (epochs.version, 2)):
        epochs.end(ended)
        resumed = Epochs()
        resumed.load(*epochs.save())
        resumed.begin()
        assert (resumed.number, resumed.again) == (
            3,
            again,
        )  # amid a pass it is the same, after it the next


def test_a_counter_gives_back_only_what_is_at_its_end() -> None:
    counter = SampleNumbers()
    first, second = counter.reserve(4), counter.reserve(3)
    assert counter.value() == 0
    counter.release(first)
    assert counter.next == 7  # 0 to 3 are lost: 4 to 6 are another's
    counter.release(second)
    assert (counter.next, counter.value()) == (4, 4)
    third = counter.reserve(2)
    assert pickle.loads(pickle.dumps(counter)).next == 4  # of a batch that is made ahead
    counter.commit(third)
    assert counter.value() == 6


def test_a_call_whose_batch_is_gone_is_not_taken_for_a_repeat() -> None:
    """Its memory may be another batch's by then."""
    recent, keys = Recent(), Keys(0, 0, np.arange(2, dtype=np.uint64))
    images = noise(2)
    recent.note(1, images, keys)
    same_memory = torch.empty(0, dtype=torch.uint8).set_(images.untyped_storage(), 0, images.shape, images.stride())
    assert recent.find(99, same_memory) is keys
    del images
    with pytest.raises(RuntimeError, match="must repeat one of the last"):
        recent.find(99, same_memory)
    assert recent.find(1, same_memory) is keys


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("count", [6, 7, 8])
def test_a_numbered_sampler_knows_its_length(count: int, drop_last: bool) -> None:
    for rank in range(3):
        sampler = ga.data.NumberedSampler(range(count), 3, rank, drop_last=drop_last)
        assert len(sampler) == len(list(sampler)) == (count // 3 if drop_last else -(-count // 3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_levels_stay_levels_in_any_layout(backend: str) -> None:
    """ToDtype(torch.uint8, scale=True) of uint8 changes nothing, as torchvision's."""
    images = noise(3)
    steps = [ga.ToDtype(torch.uint8, scale=True)]
    assert torch.equal(ga.Augment(steps, backend=backend, memory_format=torch.channels_last)(images), images)


def test_the_largest_weight_of_a_kernel_takes_up_the_rounding() -> None:
    """So that weights sum to one exactly, and the smallest are not the ones that are off."""
    weights = np.array([[0.1, 0.2, 0.4, 0.2, 0.1], [1e-5, 1e-5, 1 - 4e-5, 1e-5, 1e-5]])
    fixed = fixed_point(weights).astype(np.int64)
    assert fixed.sum(axis=1).tolist() == [Q14, Q14]
    others = [0, 1, 3, 4]
    assert (fixed[:, others] == np.floor(weights[:, others] * Q14 + 0.5)).all()


def test_a_collated_index_keeps_its_look() -> None:
    """Of a data set that returns its index as it got it from NumberedSampler."""
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    numbered = [(image, 0, number) for number in ga.data.NumberedSampler([3, 4, 3, 3])]
    assert ga.ragged_collate(numbered).index.tolist() == [3, 4, 3 | 1 << 48, 3 | 2 << 48]  # type: ignore[union-attr]


def test_the_mutants_are_of_the_code_as_it_is() -> None:
    """Each text of the table stands in its file once. Running them takes an hour: `python tests/support/mutants.py`."""
    mutants = list(read(TABLE.read_text()))
    assert len(mutants) >= 150
    assert all(mutant.text != mutant.other for mutant in mutants)


def test_an_epoch_that_is_told_begins_with_its_first_pass() -> None:
    epochs = Epochs()
    epochs.tell(3)
    epochs.begin()
    epochs.begin()
    assert epochs.again == 1
    epochs.tell(5)
    assert (epochs.number, epochs.again) == (5, 0)


def test_a_copys_view_leaves_room_for_pictures_of_one_call() -> None:
    augment = ga.Augment([ga.RandomInvert()], seed=0)
    views = [copy.deepcopy(augment)._numbering.view for _ in range(3)]
    assert views == [1 << 16, 2 << 16, 3 << 16]


def test_looks_of_an_epoch_that_nobody_told_are_in_the_state() -> None:
    images, index = noise(8), torch.arange(8)
    augment, resumed = (ga.Augment([ga.RandomResizedCrop(9)], seed=seed, backend="torch") for seed in (3, 4))
    first = augment(images, index=index)
    with pytest.warns(UserWarning, match="saved with seed"):
        resumed.load_state_dict(augment.state_dict())
    second = resumed(images, index=index)
    assert not torch.equal(second, first)
    assert torch.equal(second, augment(images, index=index))


@pytest.mark.parametrize("spawned", [False, True])
def test_calls_without_an_index_in_workers_of_several_ranks(spawned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank and number of ranks tell them apart; a worker that is spawned has them from the process it came from."""
    streams = set()
    for place in ((1, 0), (2, 0), (2, 1)):
        numbering = ga.Augment([ga.RandomInvert()], seed=0)._numbering
        monkeypatch.setattr("gpuaug.engine.numbering.world", lambda place=place: place)
        if spawned:
            numbering = pickle.loads(pickle.dumps(numbering))
            monkeypatch.setattr("gpuaug.engine.numbering.world", lambda: (1, 0))
        info = SimpleNamespace(id=1, num_workers=2, seed=100)
        with monkeypatch.context() as inside:
            inside.setattr("gpuaug.engine.numbering.get_worker_info", lambda info=info: info)
            streams.add(numbering.reserve(4, None, numbering.mode(True)).keys.stream)
    assert len(streams) == 3


def test_ranks_that_are_not_even_take_the_first_images_again() -> None:
    dealt = [list(ga.data.NumberedSampler([7, 8, 9, 5, 6], num_replicas=3, rank=rank)) for rank in range(3)]
    assert [int(numbers[-1]) for numbers in dealt] == [5, 6, 7]


def test_a_sampler_counts_looks_as_far_as_an_index_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuaug.data.sampler.LOOKS", 3)
    looks = [number.look for number in ga.data.NumberedSampler([4] * 5, num_replicas=1, rank=0)]
    assert looks == [0, 1, 2, 0, 1]


def test_cutmix_shares_labels_by_the_area_that_is_pasted() -> None:
    """Not by the weight that was drawn: the box is cut off at the border, and its sides are whole pixels."""
    canvas = Canvas(np.full((64, 2), 33), 3)
    augment = ga.Augment([ga.ToDtype(torch.float32), ga.CutMix(num_classes=2, mode="elem")], seed=1, backend="torch")
    drawn = augment.sample(noise(64, 3, 33, 33)).params[1]
    mix = augment.train_pipeline.steps[1].mixing(drawn, canvas)
    assert (mix.share == 1 - mix.box[:, 2].astype(np.int64) * mix.box[:, 3] / 33**2).all()
    assert (mix.share != drawn["weight"]).sum() > 32


def test_a_blur_is_at_most_as_wide_as_reflection_reaches() -> None:
    images = noise(2, 3, 9, 4)
    blurred = ga.Augment([ga.GaussianBlur((7, 9), (1.0, 1.0))], seed=0, backend="torch")(images)
    assert (blurred.int() - F.gaussian_blur(images, [7, 9], [1.0, 1.0]).int()).abs().max() <= 1
    for size in ((9, 3), (1, 19)):
        with pytest.raises(ValueError, match="GaussianBlur: `kernel_size` must be less than twice the image"):
            ga.Augment([ga.GaussianBlur(size, (1.0, 1.0))], seed=0, backend="torch")(images)


@pytest.mark.parametrize(("border", "largest"), [("reflect", 7), ("circular", 9), ("replicate", 11)])
def test_a_motion_blur_is_at_most_as_wide_as_its_border_reaches(border: str, largest: int) -> None:
    """Kornia's padding refuses more; images are 4 pixels wide."""
    images = noise(2, 3, 9, 4)
    ga.Augment([ga.MotionBlur(largest, 0.0, 0.0, border)], seed=0, backend="torch")(images)
    if border != "replicate":
        with pytest.raises(ValueError, match="MotionBlur: `kernel_size` must be less than twice the image"):
            ga.Augment([ga.MotionBlur(largest + 2, 0.0, 0.0, border)], seed=0, backend="torch")(images)


def test_random_order_draws_every_order() -> None:
    steps = [ga.RandomInvert(), ga.RandomSolarize(9), ga.RandomPosterize(2)]
    order = ga.Augment([ga.RandomOrder(steps)], seed=0).sample(noise(600, 3, 4, 4)).params[0]["order"]
    orders, counts = np.unique(order, axis=0, return_counts=True)
    assert len(orders) == 6
    assert counts.min() > 60


@pytest.mark.parametrize("turned", [False, True])
def test_a_choice_of_crops_has_the_least_size_of_all(turned: bool) -> None:
    """What resamples is chosen by it, for every draw."""
    crops = [ga.RandomResizedCrop(16), ga.CenterCrop(16)]
    augment = ga.Augment([ga.RandomChoice(crops[::-1] if turned else crops)], seed=0)
    draw = augment.sample(noise(8, 3, 48, 48))
    (program,) = augment.train_pipeline.lower(draw.params, draw.keys, draw.canvas, False, torch.contiguous_format)
    assert program.window.min_resized == (16, 16)


def test_a_choice_keeps_the_channels() -> None:
    augment = ga.Augment([ga.RandomChoice([ga.RandomInvert(), ga.Grayscale(1)])], seed=0, backend="torch")
    with pytest.raises(ValueError, match="transforms that keep the images' 3 channels"):
        augment(noise(2))


def test_means_are_one_or_one_for_each_channel() -> None:
    steps = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))]
    with pytest.raises(ValueError, match="Normalize"):
        ga.Augment(steps, seed=0, backend="torch")(noise(2, 1))


def test_what_an_index_holds() -> None:
    assert index_of(NUMBERS, LOOKS - 1) == 2**63 - 1
    for number, look in ((NUMBERS + 1, 0), (0, LOOKS), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="`number` and `look` must be"):
            index_of(number, look)


def test_what_stays_an_index() -> None:
    index = torch.arange(4).as_subclass(ga.data.Index)
    for kept in (index.to("cpu"), index.to(torch.int64), index[1:], index.clone(), index.detach()):
        assert type(kept) is ga.data.Index
    for plain in (index.to(torch.float32), index[None], index[1], index + 1):
        assert type(plain) is Tensor
    assert index.to(torch.float32).dtype == torch.float32


def test_a_counted_epoch_reaches_a_sampler_unless_it_was_told() -> None:
    def orders(follow: int, told: int | None = None) -> list[int]:
        numbers = list(range(40))
        sampler = ga.data.NumberedSampler(RandomSampler(numbers), num_replicas=1, rank=0, seed=0)
        if told is not None:
            sampler.set_epoch(told)
        sampler._follow(follow)
        return [int(number) for number in sampler]

    assert orders(2) == orders(5, told=2)
    assert orders(2) != orders(3)


def test_a_crop_after_to_tensor_pads_with_the_level_that_becomes_its_fill() -> None:
    """Also one that pads only if it must."""
    crop = v2.RandomCrop(40, pad_if_needed=True, fill=1.0)
    (*_, step) = [s for s in ga.from_torchvision([v1.ToTensor(), crop]) if isinstance(s, ga.RandomCrop)]
    assert step.fill == 255


def test_pillow_resizes_nearest_without_antialias() -> None:
    resize = v1.Resize(20, InterpolationMode.NEAREST_EXACT, antialias=False)
    (step,) = [s for s in ga.from_torchvision([resize, v1.ToTensor()]) if isinstance(s, ga.Resize)]
    assert step.interpolation == "nearest-exact"


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_one_draw_of_beta_is_that_of_many(alpha: float) -> None:
    """To the bit, on both sides of the middle."""
    quantile, uniforms = beta_quantile(alpha, alpha), np.linspace(0.0, 1.0, 41)[:-1]
    assert [quantile(uniforms[at : at + 1])[0] for at in range(40)] == quantile(uniforms).tolist()
