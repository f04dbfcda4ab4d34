"""ElasticTransform: the displacement is torchvision's for the same noise, and each sample has its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

import gpuaug as ga
from tests.support.answers import displacement, drawn_displacement
from tests.support.images import batch

pytestmark = pytest.mark.usefixtures("one_thread")

PIXELS = torch.tensor([48, 40]) / 2  # (width, height) of the images below, in units of torchvision's displacement


def keys(op: Any, count: int, seed: int = 3) -> Any:
    images = torch.zeros(count, 1, 40, 48, dtype=torch.uint8)
    return ga.Augment([op], seed=seed, backend="torch").sample(images).params[0]["noise"]


@pytest.mark.parametrize(("alpha", "sigma"), [(50.0, 4.0), ((50.0, -90.0), (1.0, 2.5)), (30.0, 0), (200.0, 0.3)])
def test_the_displacement_is_what_torchvision_makes_of_the_noise(alpha: Any, sigma: Any) -> None:
    op = ga.ElasticTransform(alpha, sigma)
    for noise in keys(op, 3):
        own, theirs = (each(op, {"noise": noise}, 40, 48) * PIXELS for each in (displacement, drawn_displacement))
        assert (own - theirs).abs().max() < 2e-4 * np.abs(alpha).max()
        other = drawn_displacement(op, {"noise": noise ^ 1}, 40, 48) * PIXELS
        assert (own - other).abs().max() > 0.02 * np.abs(alpha).max()


def test_displacements_are_distributed_as_torchvisions() -> None:
    op = ga.ElasticTransform(80.0, (1.5, 2.0))
    own = torch.cat([displacement(op, {"noise": noise}, 40, 48) for noise in keys(op, 300)]) * PIXELS
    torch.manual_seed(0)
    theirs = torch.cat([v2.ElasticTransform(80.0, [1.5, 2.0]).make_params([torch.empty(1, 40, 48)])["displacement"]
                        for _ in range(300)]) * PIXELS  # fmt: skip
    for part in (lambda field: field.std((0, 1, 2)), lambda field: field[:, 9:-9, 9:-9].std((0, 1, 2)),
                 lambda field: (field[:, :, 2:] - field[:, :, :-2]).std((0, 1, 2))):  # fmt: skip
        assert torch.allclose(part(own), part(theirs), rtol=0.03)
        assert not torch.allclose(part(own), part(1.06 * theirs), rtol=0.03)
    assert own.mean((0, 1, 2)).abs().max() < 0.05


def test_a_sample_has_its_own_draw_wherever_it_is(backend: str) -> None:
    images = batch("photo", 4, 3, (40, 48))
    augment = ga.Augment([ga.ElasticTransform(80.0, 2.0)], seed=1, backend=backend)
    index = torch.arange(4)
    first = augment.render(images, augment.sample(images, index=index))
    augment.set_epoch(augment.epoch)
    assert torch.equal(augment(images.flip(0), index=index.flip(0)).flip(0), first)
    same = augment(images[:1].expand(4, -1, -1, -1), index=index)
    assert len({image.numpy().tobytes() for image in same}) == 4


def test_masks_and_pixels_move_together_and_only_where_it_is_applied(backend: str) -> None:
    images = batch("noise", 6, 1, (40, 48))
    images[:] = images[0]
    elastic = ga.ElasticTransform(60, 1.5, "nearest", 7)
    step = ga.RandomChoice([elastic, ga.RandomHorizontalFlip(1), ga.RandomInvert(0)])
    augment = ga.Augment([step], seed=2, backend=backend, mask_fill=7)
    result, targets = augment(images, {"masks": images[:, 0]})
    assert torch.equal(result[:, 0], targets["masks"])
    assert len({image.numpy().tobytes() for image in result}) > 3
    kept = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(3)).flatten(1).all(1)
    assert kept.any()
    assert mirrored.any()


def test_a_smoothed_step_of_noise_is_found_where_boxes_and_points_are() -> None:
    """A bright square, its box and its centre, each through its own code."""
    images = torch.zeros(8, 1, 60, 60, dtype=torch.uint8)
    images[:, :, 20:40, 15:35] = 255
    augment = ga.Augment([ga.ElasticTransform(150.0, 6.0, "nearest")], seed=4, backend="torch")
    boxes, points = torch.tensor([[15.0, 20, 35, 40]]).repeat(8, 1, 1), torch.tensor([[25.0, 30]]).repeat(8, 1, 1)
    result, targets = augment(images, {"boxes": boxes, "keypoints": points})
    for image, box, point in zip(result[:, 0], targets["boxes"][:, 0], targets["keypoints"][:, 0], strict=True):
        y, x = (image > 0).nonzero().double().T
        bounds = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert (bounds - box).abs().max() < 3.5
        assert (torch.stack([x.mean(), y.mean()]) - point).abs().max() < 3.5
    assert (targets["boxes"] - boxes).abs().max() > 1


def test_a_box_of_another_area_is_still_shown_as_a_whole() -> None:
    """`min_visibility` is about what crops and borders cut off, before and after the deformation, and not about it."""
    images = torch.zeros(16, 1, 60, 60, dtype=torch.uint8)
    rows = [{"boxes": torch.tensor([[15.0, 20, 35, 40], [30, 30, 55, 55]])} for _ in range(16)]
    elastic, drop = ga.ElasticTransform(90.0, 3.0), ga.SanitizeBoundingBoxes(min_visibility=0.99)
    # a crop behind it may cut off some of what it has moved
    for steps, kept, least in (
        ([elastic], 2, 16), ([ga.CenterCrop(40), elastic], 1, 16), ([elastic, ga.CenterCrop(40)], 1, 12),
    ):  # fmt: skip
        for some in ([*steps, drop], [ga.Identity(), *steps, ga.RandomHorizontalFlip(), drop]):
            _, moved = ga.Augment(some, seed=4, backend="torch")(images, rows)
            assert [len(row["boxes"]) for row in moved].count(kept) >= least, steps
    _, changed = ga.Augment([elastic], seed=4, backend="torch")(images, rows)
    areas = torch.stack([(row["boxes"][:, 2:] - row["boxes"][:, :2]).prod(1) for row in changed])
    assert (areas[:, 0] < 0.95 * 400).any()


def test_no_matrix_says_where_pixels_go() -> None:
    images = torch.zeros(2, 3, 40, 48, dtype=torch.uint8)
    draw = ga.Augment([ga.RandomHorizontalFlip(), ga.ElasticTransform(9, 1)], seed=0, backend="torch").sample(images)
    for ask in (lambda: draw.matrices, lambda: ga.invert(draw, {"boxes": torch.zeros(2, 1, 4)})):
        with pytest.raises(ValueError, match="move pixels by a matrix, got ElasticTransform"):
            ask()


def test_images_smaller_than_the_kernel_are_refused() -> None:
    augment = ga.Augment([ga.ElasticTransform()], backend="torch")
    with pytest.raises(ValueError, match=r"`sigma` must be at most 4 for images of 20 x 32 pixels, got 5\.0"):
        augment(torch.zeros(1, 3, 20, 32, dtype=torch.uint8))
    ga.Augment([ga.ElasticTransform(sigma=4)], backend="torch")(torch.zeros(1, 3, 20, 32, dtype=torch.uint8))
