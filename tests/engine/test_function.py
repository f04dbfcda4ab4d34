"""Steps that are a function of the batch: Lambda and LinearTransformation, on levels and on floats."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision.transforms import v2

import gpuaug as ga
from tests.support.errors import assert_form
from tests.support.helpers import BACKENDS, CLASSES, FAST, labels, noise, photographs

backends = pytest.mark.parametrize("backend", BACKENDS)

FLOATS = ga.ToDtype(torch.float32, scale=True)
NORMALIZE = ga.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
SIDE = 8
MATRIX = torch.randn(3 * SIDE * SIDE, 3 * SIDE * SIDE, generator=torch.Generator().manual_seed(0)) / 20
MEAN = torch.rand(3 * SIDE * SIDE, generator=torch.Generator().manual_seed(1))
WHITEN = ga.LinearTransformation(MATRIX, MEAN)


def negative(batch: Tensor) -> Tensor:
    return 255 - batch


def doubled(batch: Tensor) -> Tensor:
    return batch.mul_(2)


def shaken(batch: Tensor) -> Tensor:
    return batch + torch.rand(batch.shape)


# --- Lambda ---------------------------------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize("before", [[], [ga.RandomCrop(16, 2)], [ga.RandAugment()]], ids=["first", "crop", "policy"])
def test_it_runs_on_levels_at_its_place(before: list[Any], backend: str) -> None:
    steps = [*before, ga.Lambda(negative), ga.RandomPosterize(3, p=1.0)]
    inverted = [*before, ga.RandomInvert(p=1.0), ga.RandomPosterize(3, p=1.0)]
    results = [ga.Augment(list_, seed=3, backend=backend)(noise(5)) for list_ in (steps, inverted)]
    assert torch.equal(*results)


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_it_runs_on_float32_after_all_other_work_on_floats(
    dtype: torch.dtype, layout: torch.memory_format, backend: str
) -> None:
    seen = []

    def function(batch: Tensor) -> Tensor:
        seen.append((batch.dtype, batch.device.type, batch.is_contiguous()))
        return batch.mul_(2) + 1

    head = [ga.RandomHorizontalFlip(), ga.ToDtype(dtype, scale=True), NORMALIZE, ga.RandomErasing(value="random")]
    mix = ga.CutMix(num_classes=CLASSES)
    plain = ga.Augment(
        [*head[:1], FLOATS, *head[2:], mix], seed=1, backend=backend
    )  # the same draws, in float32 to the end
    augment = ga.Augment([*head, mix, ga.Lambda(function)], seed=1, backend=backend, memory_format=layout)
    result, mixed = augment(noise(6), labels(6))
    expected, targets = plain(noise(6), labels(6))
    assert torch.equal(result, (expected * 2 + 1).to(dtype))
    assert torch.equal(mixed, targets)
    assert result.is_contiguous(memory_format=layout)
    assert seen == [(torch.float32, "cpu", True)]


def test_two_of_them_run_one_after_the_other() -> None:
    steps = [ga.ToDtype(torch.float32), ga.Lambda(doubled), ga.Identity(), ga.Lambda(negative)]
    assert torch.equal(ga.Augment(steps, backend=FAST)(noise(2)), 255 - 2 * noise(2).float())


@backends
def test_the_batch_of_the_caller_is_not_written_to(backend: str) -> None:
    images = noise(3)
    ga.Augment([ga.Lambda(lambda batch: batch.zero_())], backend=backend)(images)
    assert torch.equal(images, noise(3))


def test_what_it_draws_is_seeded_and_the_generator_put_back() -> None:
    first, second, other = (ga.Augment([FLOATS, ga.Lambda(shaken)], seed=seed, backend=FAST) for seed in (1, 1, 2))
    results = [augment(noise(3)) for augment in (first, second, other, first)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[3])


def test_a_module_is_a_part_of_augment() -> None:
    module = nn.BatchNorm2d(3)
    augment = ga.Augment([FLOATS, ga.Lambda(module)], [FLOATS], backend=FAST)
    assert any(part is module for part in augment.modules())
    assert "Lambda(BatchNorm2d)" in repr(augment)
    assert torch.equal(augment(noise(4)), nn.BatchNorm2d(3)(augment.eval()(noise(4))).detach())


def test_copies_and_changes() -> None:
    step = ga.Lambda(negative)
    for again in (copy.deepcopy(step), pickle.loads(pickle.dumps(step)), step.replace()):
        assert again == step
        assert repr(again) == "Lambda(negative)"
    assert step.replace(lambd=doubled) == ga.Lambda(doubled) != step
    with pytest.raises(AttributeError, match="Use replace"):
        step.lambd = doubled  # type: ignore[misc]


@pytest.mark.parametrize(
    ("function", "levels"),
    [
        (lambda batch: batch[0], True),
        (lambda batch: batch.float(), True),
        (lambda batch: batch[..., 1:], True),
        (len, True),
        (lambda batch: batch.to(torch.uint8), False),
        (lambda batch: batch.flatten(1), False),
    ],
)
def test_a_result_of_another_kind_is_refused(function: Any, levels: bool) -> None:
    augment = ga.Augment([ga.Lambda(function)] if levels else [FLOATS, ga.Lambda(function)], [], backend=FAST)
    kind = "uint8" if levels else "floats"
    with pytest.raises(
        ValueError, match=rf"`lambd` must be a function that returns {kind} \(2, 3, 24, 21\) here"
    ) as error:
        augment(noise(2))
    assert_form(error, "Lambda", "lambd")


def test_arguments_that_are_refused() -> None:
    with pytest.raises(ValueError, match="gets the batch of images and nothing else") as error:
        ga.Lambda(negative, (Tensor,))
    assert_form(error, "Lambda", "types")
    with pytest.raises(ValueError) as error:
        ga.Lambda(3)  # type: ignore[arg-type]
    assert_form(error, "Lambda", "lambd")


def test_the_evaluation_list_has_to_be_given() -> None:
    augment = ga.Augment([ga.Lambda(negative)], backend=FAST)
    augment(noise(2))
    with pytest.raises(ValueError, match="since Lambda of `train` may have to run in evaluation, or may not"):
        augment.eval()(noise(2))
    assert torch.equal(ga.Augment([], [ga.Lambda(negative)], backend=FAST).eval()(noise(2)), 255 - noise(2))


def test_images_of_several_sizes_are_cropped_first() -> None:
    images = ga.Ragged.from_images(photographs())
    with pytest.raises(ValueError, match="Lambda: `images` must have one size at this step"):
        ga.Augment([ga.Lambda(negative), ga.RandomCrop(16)], backend=FAST)(images)
    results = [ga.Augment([ga.RandomCrop(16), step], backend=FAST, seed=0)(images)
               for step in (ga.Lambda(negative), ga.RandomInvert(p=1.0))]  # fmt: skip
    assert torch.equal(*results)


def test_masks_beside_it_are_refused() -> None:
    with pytest.raises(ValueError, match="with Lambda, which moves pixels"):
        ga.Augment([ga.Lambda(negative)], backend=FAST)(noise(2), torch.zeros(2, 24, 21))


LATE = [NORMALIZE, ga.RandomErasing(), ga.ToDtype(torch.float16), ga.MixUp(num_classes=3), ga.RandomInvert()]


@pytest.mark.parametrize("step", LATE, ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("function", [ga.Lambda(doubled), WHITEN], ids=["Lambda", "LinearTransformation"])
def test_nothing_else_follows_it_on_floats(function: Any, step: Any) -> None:
    name, other = type(function).__name__, type(step).__name__
    with pytest.raises(
        ValueError, match=rf"with {name} as the last step, got {other} after it\. Put {other} before it"
    ):
        ga.Augment([FLOATS, function, step], backend="torch")
    with pytest.raises(ValueError, match="with the mix after all pixel work, got Lambda after it"):
        ga.Augment([ga.MixUp(num_classes=3), ga.Lambda(doubled)], backend="torch")


def test_it_stands_in_no_container() -> None:
    with pytest.raises(ValueError, match="Put it straight into Augment's list"):
        ga.RandomApply([ga.Lambda(negative)])


# --- LinearTransformation -------------------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize("module", [v1, v2], ids=["v1", "v2"])
def test_a_linear_transformation_is_torchvisions(module: Any, backend: str) -> None:
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), module.LinearTransformation(MATRIX, MEAN)])
    steps = ga.from_torchvision(theirs)
    assert steps == [FLOATS, WHITEN]
    for list_ in (steps, [FLOATS, WHITEN]):
        augment = ga.Augment(list_, backend=backend)
        for result in (augment(noise(5, 3, SIDE, SIDE)), augment.eval()(noise(5, 3, SIDE, SIDE))):
            expected = torch.stack([theirs(image) for image in noise(5, 3, SIDE, SIDE)])
            torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
            assert (result.flip(-1) - expected).abs().max() > 0.1


def test_a_linear_transformation_is_copied() -> None:
    for again in (copy.deepcopy(WHITEN), pickle.loads(pickle.dumps(WHITEN)), WHITEN.replace()):
        assert again == WHITEN
        assert hash(again) == hash(WHITEN)
        assert repr(again) == "LinearTransformation(float32 (192, 192), float32 (192,))"
    assert WHITEN.replace(mean_vector=MEAN + 1) != WHITEN != NORMALIZE


def test_a_linear_transformation_keeps_float32_and_its_dtype_is_that_of_the_list() -> None:
    steps = [ga.ToDtype("auto", scale=True), ga.LinearTransformation(MATRIX.double(), MEAN.double())]
    result = ga.Augment(steps, backend=FAST).half()(noise(2, 3, SIDE, SIDE))
    assert torch.equal(result, ga.Augment([FLOATS, WHITEN], backend=FAST)(noise(2, 3, SIDE, SIDE)).half())


@pytest.mark.parametrize(
    ("matrix", "mean", "argument"),
    [
        ("ab", MEAN, "transformation_matrix"),
        (MATRIX[0], MEAN, "transformation_matrix"),
        (MATRIX[:9], MEAN, "transformation_matrix"),
        (MATRIX.int(), MEAN, "transformation_matrix"),
        (MATRIX, MATRIX, "mean_vector"),
        (MATRIX, MEAN[:9], "mean_vector"),
        (MATRIX, MEAN.double(), "mean_vector"),
        (MATRIX, 0.5, "mean_vector"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(matrix: Any, mean: Any, argument: str) -> None:
    with pytest.raises(ValueError) as error:
        ga.LinearTransformation(matrix, mean)
    assert_form(error, "LinearTransformation", argument)


def test_a_place_or_an_image_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="with LinearTransformation on floats, got LinearTransformation on uint8"):
        ga.Augment([WHITEN], backend="torch")
    with pytest.raises(ValueError, match=r"must be as many as its matrix is wide, 192, got 3 \* 24 \* 21"):
        ga.Augment([FLOATS, WHITEN], backend="torch")(noise(2))
