"""Foreign steps: Kornia and torchvision objects in the list, at any place, seeded by the pipeline."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.engine.recompute import token
from tests.support.helpers import BACKENDS, CLASSES, FAST, anew, labels, noise, photographs, twin, used

K = pytest.importorskip("kornia.augmentation", reason="Kornia is not installed")

backends = pytest.mark.parametrize("backend", BACKENDS)

FOREIGN: dict[str, Any] = {
    "v2.RandomRotation": lambda: ga.Opaque(v2.RandomRotation(30)),
    "v2.ColorJitter": lambda: ga.Opaque(v2.ColorJitter(0.4, 0.4)),
    "v2.RandAugment": lambda: ga.Opaque(v2.RandAugment()),
    "v2.ElasticTransform": lambda: ga.Opaque(v2.ElasticTransform(alpha=20.0, sigma=1.0)),
    "v2.RandomPhotometricDistort": lambda: ga.Opaque(v2.RandomPhotometricDistort(p=0.9)),
    "v2.Compose": lambda: ga.Opaque(v2.Compose([v2.RandomAffine(20), v2.RandomInvert()])),
    "v2.RandomErasing": lambda: ga.Opaque(v2.RandomErasing(p=1.0, inplace=True)),
    "K.RandomAffine": lambda: K.RandomAffine(30.0, p=1.0),
    "K.ColorJiggle": lambda: K.ColorJiggle(0.2, 0.2, 0.2, 0.2, p=1.0),
    "K.RandomElasticTransform": lambda: K.RandomElasticTransform(kernel_size=(7, 7), sigma=(2.0, 2.0), p=1.0),
    "K.RandomGaussianNoise": lambda: K.RandomGaussianNoise(p=1.0),
    "K.RandomSaltAndPepperNoise": lambda: K.RandomSaltAndPepperNoise(p=1.0),
    "K.AugmentationSequential": lambda: K.AugmentationSequential(K.RandomHorizontalFlip(), K.RandomSolarize(p=1.0)),
}
ALL = pytest.mark.parametrize("name", FOREIGN)

PLACES: dict[str, Any] = {
    "alone": lambda step: [step],
    "first": lambda step: [step, ga.RandomResizedCrop(16), ga.RandomRotation(20), ga.ToDtype(torch.float32)],
    "between": lambda step: [ga.RandomCrop(20, padding=2), ga.RandAugment(), step, ga.RandomHorizontalFlip()],
    "last": lambda step: [ga.RandomResizedCrop(16), ga.RandomInvert(), step, ga.ToDtype(torch.bfloat16, scale=True)],
    "before a mix": lambda step: [step, ga.ToDtype(torch.float32), ga.CutMix(num_classes=CLASSES)],
}


@backends
@ALL
def test_reproducible_and_leaves_the_global_generator_alone(name: str, backend: str) -> None:
    images = noise(5)
    copy_of_images = images.clone()
    first, second = (ga.Augment([FOREIGN[name](), ga.RandomInvert()], seed=3, backend=backend) for _ in range(2))
    torch.rand(1)
    before = torch.get_rng_state()
    expected = [first(images) for _ in range(3)]
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    for _ in range(3):  # of which each call takes one number, for activation checkpointing
        token()
    assert torch.equal(torch.get_rng_state(), after)
    torch.rand(7)
    for result in expected:
        again = second(images)
        assert torch.equal(again, result)
        assert again.dtype == torch.uint8
    assert not torch.equal(expected[0], expected[1])
    assert torch.equal(images, copy_of_images)
    other = ga.Augment([FOREIGN[name](), ga.RandomInvert()], seed=4, backend=backend)
    assert not torch.equal(other(images), expected[0])


@backends
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["v2.ColorJitter", "K.RandomAffine"])
def test_at_any_place(name: str, place: str, backend: str) -> None:
    steps = PLACES[place](FOREIGN[name]())
    results = [ga.Augment(steps, seed=2, backend=which)(noise(4), labels(4))[0] for which in (backend, "torch")]
    assert torch.equal(*results)


def test_what_it_computes_is_what_the_library_computes() -> None:
    images = noise(4)
    assert torch.equal(ga.Augment([ga.Opaque(v2.RandomInvert(p=1.0))], backend=FAST, seed=0)(images), 255 - images)
    blurred = ga.Augment([K.RandomGaussianBlur((3, 3), (1.0, 1.0), p=1.0)], backend=FAST, seed=0)(images)
    theirs = K.RandomGaussianBlur((3, 3), (1.0, 1.0), p=1.0)(images / 255)
    assert (blurred.float() - theirs * 255).abs().max() <= 0.51


def test_kornia_draws_for_each_sample_and_torchvision_for_the_batch() -> None:
    images = noise(1).expand(16, -1, -1, -1)
    different = {
        name: len({image.numpy().tobytes() for image in ga.Augment([FOREIGN[name]()], backend=FAST, seed=0)(images)})
        for name in ("K.RandomAffine", "v2.RandomRotation")
    }
    assert different["K.RandomAffine"] == 16
    assert different["v2.RandomRotation"] == 1


def test_autocast_changes_nothing() -> None:
    """Kornia's blur is a convolution, which autocast would run in bfloat16."""
    augment = ga.Augment([K.RandomGaussianBlur((5, 5), (0.5, 2.0), p=1.0)], backend=FAST)
    index = torch.arange(4)
    expected = augment(noise(4), index=index)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(anew(augment, noise(4), index=index), expected)


def test_two_steps_never_share_a_seed() -> None:
    augment = ga.Augment(
        [ga.Opaque(v2.RandomInvert()), ga.Opaque(v2.RandomInvert()), K.RandomAffine(3.0)], backend=FAST
    )
    seeds = [params["seed"] for params in augment.sample(noise(50)).params]
    assert len({int(seed) for row in seeds for seed in row}) == 150


@backends
def test_after_a_crop_of_ragged_images(backend: str) -> None:
    images = ga.Ragged.from_images(photographs())
    steps = [ga.RandomResizedCrop(16), ga.Opaque(v2.RandomInvert(p=1.0))]
    plain = ga.Augment(steps[:1], backend=backend, seed=0)
    assert torch.equal(ga.Augment(steps, backend=backend, seed=0)(images), 255 - plain(images))


def test_modules_are_part_of_the_module() -> None:
    kornia_step = K.RandomAffine(30.0, p=1.0)
    augment = ga.Augment([kornia_step, ga.Opaque(v2.RandomInvert()), ga.ToDtype(torch.float32)], backend=FAST)
    assert any(module is kornia_step for module in augment.modules())
    for again in (twin(augment), pickle.loads(pickle.dumps(augment)), twin(augment).to("cpu")):
        mine = again.train_pipeline.steps[0].module
        assert mine is not kornia_step
        assert any(module is mine for module in again.modules())
        index = torch.arange(3)
        assert torch.equal(anew(again, noise(3), index=index), anew(augment, noise(3), index=index))
    assert "Opaque(v2.RandomInvert(p=0.5))" in repr(augment)
    assert "Opaque(kornia.augmentation.RandomAffine(" in repr(augment)


def test_the_default_evaluation_leaves_them_out() -> None:
    augment = ga.Augment([ga.Opaque(v2.RandomInvert(p=1.0)), ga.RandomCrop(16)], backend=FAST)
    images = noise(3, 3, 16, 16)
    assert torch.equal(augment.eval()(images), images)


class Halve(v2.Transform):
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return inpt[..., ::2]


@pytest.mark.parametrize(
    ("step", "remedy"),
    [
        (v2.Normalize((0.5,), (0.5,)), "Use gpuaug.Normalize."),
        (K.Normalize((0.5,), (0.5,)), "Use gpuaug.Normalize."),
        (v2.ToDtype(torch.float32, scale=True), "Use gpuaug.ToDtype."),
        (v2.MixUp(num_classes=3), "Use gpuaug.MixUp."),
        (K.RandomMixUpV2(), "Use gpuaug.MixUp."),
        (v2.CutMix(num_classes=3), "Use gpuaug.CutMix."),
    ],
    ids=lambda value: type(value).__module__.split(".")[0] + type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_has_a_counterpart_that_must_be_used(step: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 to uint8 and without labels, got .*\. " + remedy):
        ga.Opaque(step)


@pytest.mark.parametrize(
    ("step", "shape"),
    [
        (ga.Opaque(v2.Resize(30)), (3, 34, 30)),
        (ga.Opaque(v2.Grayscale(1)), (1, 24, 21)),
        (ga.Opaque(v2.RandomCrop(8)), (3, 8, 8)),
        (K.RandomCrop((8, 8)), (3, 8, 8)),
        (ga.Opaque(Halve()), (3, 24, 11)),
    ],
    ids=lambda value: type(getattr(value, "module", value)).__name__ if not isinstance(value, tuple) else "",
)
def test_a_step_that_changes_the_shape(step: Any, shape: tuple[int, int, int]) -> None:
    """What follows is drawn for the shape after it."""
    steps = [step, ga.RandomErasing(1.0, value=7), ga.RandomCrop(8)]
    augment = ga.Augment(steps, backend=FAST, seed=0)
    assert ga.Augment(steps[:1], backend=FAST, seed=0)(noise(2)).shape[1:] == shape
    draw = augment.sample(noise(2))
    assert (draw.params[1]["box"][:, 0] + draw.params[1]["box"][:, 2] <= shape[1]).all()
    assert augment(noise(2)).shape == (2, shape[0], 8, 8)


@pytest.mark.parametrize(
    "step",
    [ga.Opaque(v2.Lambda(function)) for function in (lambda x: x.float(), lambda x: x[0], len)],
    ids=["float", "image", "number"],
)
def test_a_step_that_returns_something_else(step: Any) -> None:
    augment = ga.Augment([step, ga.RandomRotation(10)], backend=FAST)
    with pytest.raises(ValueError, match=r"a step that returns uint8 \(B, C, H, W\), got .* from Lambda"):
        augment(noise(2))
    assert used(augment)["counter"] == 0


def test_a_step_whose_size_is_random() -> None:
    sizes = iter([20, 22])
    augment = ga.Augment([ga.Opaque(v2.Lambda(lambda x: x[..., : next(sizes)]))], backend=FAST)
    with pytest.raises(ValueError, match=r"uint8 \(2, 3, 24, 20\) here, got uint8 \(2, 3, 24, 21\) .* is fixed"):
        augment(noise(2))


@pytest.mark.parametrize("step", [nn.Conv2d(3, 3, 1), torch.nn.functional.relu, "v2.RandomInvert()", v2.RandomInvert])
def test_what_is_neither_library(step: Any) -> None:
    with pytest.raises(
        ValueError, match=r"Use gpuaug's transforms, a kornia\.augmentation module or a torchvision transform"
    ):
        ga.Augment([step], backend="torch")


def test_a_failing_step_puts_the_generator_back() -> None:
    def fail(_: torch.Tensor) -> None:
        torch.rand(3)
        raise KeyError("no")

    augment = ga.Augment([ga.Opaque(v2.Lambda(fail))], backend=FAST)
    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        augment(noise(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert used(augment)["counter"] == 0


def test_only_the_generator_of_the_canvas_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.manual_seed would reseed every device, and nothing would put the others back."""

    def forbidden(*_: Any) -> None:
        raise AssertionError("seeds all devices")

    monkeypatch.setattr(torch, "manual_seed", forbidden)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", forbidden)
    ga.Augment([ga.Opaque(v2.ColorJitter(0.4))], backend=FAST)(noise(2))


# --- torchvision's transforms in Augment's own list ---------------------------------------------------------------


def pictures(augment: ga.Augment) -> int:
    """How many different pictures it makes of one image."""
    return len({image.numpy().tobytes() for image in augment(noise(1).expand(32, -1, -1, -1))})


def test_torchvisions_transforms_become_ours_with_a_draw_for_each_sample() -> None:
    given = [
        v2.RandomAffine(30),
        v1.RandomRotation(9),
        v2.Compose([v2.RandomInvert()]),
        v2.ToDtype(torch.float32, scale=True),
    ]
    ours = [ga.RandomAffine(30.0), ga.RandomRotation(9.0), ga.RandomInvert(), ga.ToDtype(torch.float32, scale=True)]
    augment, twin = (ga.Augment(steps, seed=3, backend=FAST) for steps in (given, ours))
    assert repr(augment) == repr(twin)
    assert torch.equal(augment(noise(5)), twin(noise(5)))
    assert pictures(ga.Augment(given, backend=FAST)) > 24
    assert pictures(ga.Augment([ga.Opaque(v2.RandomAffine(30))], backend=FAST)) == 1


class Mine(v2.RandomHorizontalFlip):
    pass


@pytest.mark.parametrize("step", [Mine(), v2.RandomRotation(10, expand=True)], ids=["mine", "argument"])
def test_what_draws_once_for_the_batch_says_so_once(step: Any) -> None:
    name = type(step).__name__
    with pytest.warns(
        UserWarning, match=rf"{name} .* draws once for the whole batch\. .*gpuaug\.Opaque\({name}"
    ) as seen:
        augment = ga.Augment([step, ga.RandomCrop(16)], backend=FAST)
    assert len(seen) == 1
    assert seen[0].filename == __file__  # it points at the list
    assert f"Opaque(v2.{name}" in repr(augment)
    ga.Augment([ga.Opaque(step), ga.RandomCrop(16)], backend=FAST)  # said on purpose: no warning


def test_a_step_of_v1_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got Lambda \(its function takes one image; gpuaug\.Lambda"):
        ga.Augment([v1.Lambda(abs)], backend="torch")


def test_a_compose_of_torchvision_is_not_a_list() -> None:
    for compose in (v1.Compose([v1.RandomInvert()]), v2.Compose([v2.RandomInvert()])):
        with pytest.raises(ValueError, match=r"Use train=gpuaug\.from_torchvision\(\.\.\.\)"):
            ga.Augment(compose, backend="torch")
        with pytest.raises(ValueError, match=r"Use eval=gpuaug\.from_torchvision\(\.\.\.\)"):
            ga.Augment([], compose, backend="torch")
