"""from_torchvision: each argument carries over, or the step is refused (long: a case for each class)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torchvision import models, tv_tensors
from torchvision import transforms as v1
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.interop import rules
from gpuaug.transforms.base import Transform
from tests.support.answers import EXACT, NATIVE, Tolerance
from tests.support.helpers import FAST, noise, photographs
from tests.support.ops import ROWS
from tests.support.ops.surface import MODULES, carried, check_carries, check_carries_all
from tests.support.oracle import differs

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOATS = ga.ToDtype(torch.float32, scale=True)

CASES = [
    pytest.param(cls, op, arguments, id=f"{version}-{op.__name__}-{number}")
    for op, row in ROWS.items()
    for number, (version, cls, arguments) in enumerate(carried(op, row))
]


@pytest.mark.parametrize(("cls", "op", "arguments"), CASES)
def test_every_argument_carries_over(cls: type, op: type[Transform], arguments: dict[str, Any]) -> None:
    check_carries(cls, op, arguments)


@pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)
def test_every_op_has_its_cases(op: type[Transform]) -> None:
    check_carries_all(op, ROWS[op])


def test_the_table_is_v1_and_v2() -> None:
    for name in [op.__name__ for op in ga.OPS if op is not ga.Compose]:
        for module in MODULES.values():
            assert not hasattr(module, name) or rules.rule_of(getattr(module, name)), name


# What torchvision keeps in another form than it was given in
FORMS: list[tuple[Callable[[ModuleType], Any], Transform]] = [
    (lambda m: m.RandomResizedCrop([24, 24]), ga.RandomResizedCrop(24)),
    (lambda m: m.CenterCrop([9]), ga.CenterCrop(9)),
    (lambda m: m.Resize([9]), ga.Resize(9)),
    (lambda m: m.Resize(9, 3), ga.Resize(9, "bicubic")),
    (lambda m: m.RandomRotation(30, 2), ga.RandomRotation(30.0, "bilinear")),
    (lambda m: m.RandomRotation([-30, 20], m.InterpolationMode.BILINEAR), ga.RandomRotation((-30.0, 20.0), "bilinear")),
    (lambda m: m.RandomAffine(0, shear=[5, 10]), ga.RandomAffine(0.0, shear=(5.0, 10.0))),
    (lambda m: m.RandomCrop(9, padding=[2, 3]), ga.RandomCrop(9, (2, 3, 2, 3))),
    (lambda m: m.RandomCrop(9, padding=[4, 4, 4, 4]), ga.RandomCrop(9, 4)),
    (lambda m: m.GaussianBlur([3, 3], sigma=[1.0, 1.0]), ga.GaussianBlur(3, 1.0)),
    (lambda m: m.RandomErasing(value=[5.0]), ga.RandomErasing(value=5.0)),
    (lambda m: m.Normalize(list(MEAN), list(STD)), ga.Normalize(MEAN, STD)),
    (lambda m: m.Normalize(torch.tensor([0.5]), np.array([0.25])), ga.Normalize((0.5,), (0.25,))),
    (lambda m: v1.Normalize(0.5, 0.25), ga.Normalize((0.5,), (0.25,))),  # v2 takes sequences alone
    (lambda m: m.Normalize([0.5], np.array([0.25], np.float32)), ga.Normalize((0.5,), (0.25,))),
    (lambda m: m.ConvertImageDtype(torch.float16), ga.ToDtype(torch.float16, scale=True)),
    (lambda m: m.AutoAugment(m.AutoAugmentPolicy.CIFAR10), ga.AutoAugment("cifar10")),
    (lambda m: m.ColorJitter((0.4, 1.6), hue=0.1), ga.ColorJitter((0.4, 1.6), hue=(-0.1, 0.1))),
    (lambda m: m.RandomApply([m.RandomInvert(1.0)], 0.3), ga.RandomApply([ga.RandomInvert(1.0)], 0.3)),
    (lambda m: m.RandomApply(nn.ModuleList([m.RandomInvert()])), ga.RandomApply([ga.RandomInvert()])),
    (
        lambda m: m.RandomApply([m.Compose([m.RandomInvert(), m.RandomEqualize()])]),
        ga.RandomApply([ga.RandomInvert(), ga.RandomEqualize()]),
    ),
    (
        lambda m: m.RandomOrder([m.Compose([m.RandomInvert(), m.RandomEqualize()]), m.RandomAutocontrast()]),
        ga.RandomOrder([[ga.RandomInvert(), ga.RandomEqualize()], ga.RandomAutocontrast()]),
    ),
    (
        lambda m: m.RandomChoice([m.RandomInvert(), m.RandomApply([m.RandomEqualize()], 0.2)]),
        ga.RandomChoice([ga.RandomInvert(), ga.RandomApply([ga.RandomEqualize()], 0.2)]),
    ),
    (
        lambda m: m.RandomChoice([m.RandomInvert(), m.RandomEqualize()], p=[0.25, 0.25]),  # scaled up to 1
        ga.RandomChoice([ga.RandomInvert(), ga.RandomEqualize()]),
    ),
    (
        lambda m: m.RandomChoice([m.RandomInvert(), m.RandomEqualize()], p=[3, 1]),
        ga.RandomChoice([ga.RandomInvert(), ga.RandomEqualize()], p=[0.75, 0.25]),
    ),
    (
        lambda m: m.RandomChoice([m.RandomInvert(), v2.Identity(), m.RandomEqualize()], p=[1, 2, 1]),
        ga.RandomChoice([ga.RandomInvert(), ga.RandomEqualize()], p=[0.25, 0.25]),  # half the images stay
    ),
    (
        lambda m: m.RandomChoice([m.Compose([m.RandomInvert(), m.RandomEqualize()]), m.RandomAutocontrast()]),
        ga.RandomChoice([[ga.RandomInvert(), ga.RandomEqualize()], ga.RandomAutocontrast()]),
    ),
    (lambda m: m.RandomOrder([m.RandomInvert(), v2.Identity()]), ga.RandomOrder([ga.RandomInvert()])),
]


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize(("build", "expected"), FORMS, ids=[repr(expected) for _, expected in FORMS])
def test_kept_forms_are_read(build: Callable[[Any], Any], expected: Transform, module: Any) -> None:
    (step,) = ga.from_torchvision(build(module))
    written = step.padding if isinstance(step, ga.RandomCrop) else None
    if written == (2, 3):  # v1 keeps what it was given
        step = ga.RandomCrop(9, (2, 3, 2, 3))
    assert repr(step) == repr(expected)


def test_numbers_of_colorjitter_are_torchvisions_ranges() -> None:
    for module in MODULES.values():
        (step,) = ga.from_torchvision(module.ColorJitter(0.4, 1.5, 0.2, 0.1))
        assert step._ranges() == ga.ColorJitter(0.4, 1.5, 0.2, 0.1)._ranges()  # type: ignore[attr-defined]


MASK = tv_tensors.Mask


def test_a_dict_by_type_is_read_for_images() -> None:
    assert ga.from_torchvision(v2.Pad(2, {tv_tensors.Image: 7, "others": 0})) == [ga.Pad(2, 7)]
    assert ga.from_torchvision(v2.Pad(2, {MASK: 7, "others": [1, 2, 3]})) == [ga.Pad(2, (1, 2, 3))]
    dtypes = {tv_tensors.Image: torch.float32, MASK: torch.int64, "others": None}
    assert ga.from_torchvision(v2.ToDtype(dtypes, scale=True)) == [FLOATS]
    assert ga.from_torchvision(v2.ToDtype({MASK: torch.int64, "others": None})) == []


NOTHING = [v2.ToImage(), v2.PILToTensor(), v2.ToPureTensor(), v2.Identity(), v1.PILToTensor()]


def test_steps_without_work_vanish() -> None:
    assert ga.from_torchvision(NOTHING) == []
    assert ga.from_torchvision(v2.RandomApply([v2.Identity()])) == []
    assert ga.from_torchvision(v2.RandomChoice([v2.Identity(), v2.ToImage()])) == []


def test_to_tensor_is_of_torchs_default_dtype() -> None:
    with pytest.warns(UserWarning, match="ToTensor"):
        old = v2.ToTensor()
    assert ga.from_torchvision([v1.ToTensor()]) == ga.from_torchvision([old]) == [FLOATS]
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match=r"\[0\] ToTensor .*float64"):
            ga.from_torchvision([v1.ToTensor()])
    finally:
        torch.set_default_dtype(torch.float32)


def test_any_list_is_opened() -> None:
    flip, invert = ga.RandomHorizontalFlip(), ga.RandomInvert()
    lists: list[Any] = [
        [v2.RandomHorizontalFlip(), v2.RandomInvert()],
        (v1.RandomHorizontalFlip(), v2.RandomInvert()),
        v1.Compose([v1.RandomHorizontalFlip(), v2.Compose([v1.RandomInvert()])]),
        nn.Sequential(v1.RandomHorizontalFlip(), nn.Sequential(v2.RandomInvert())),
        [ga.Compose([v2.RandomHorizontalFlip()]), ga.RandomInvert()],
        v2.Compose([flip, invert]),
    ]
    for steps in lists:
        assert ga.from_torchvision(steps) == [flip, invert]
    twice = nn.Sequential(*[v1.RandomInvert()] * 2)
    assert ga.from_torchvision(twice) == [invert, invert]
    kept = ga.RandomApply([invert], 0.1)
    assert ga.from_torchvision([kept])[0] is kept
    assert ga.from_torchvision([]) == []


class Proxy:
    """Passes on attributes, and says it is what it wraps."""

    def __init__(self, wrapped: Any) -> None:
        self.__dict__["wrapped"] = wrapped

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return self.wrapped.__class__

    def __repr__(self) -> str:
        return repr(self.__dict__["wrapped"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["wrapped"], name)


def test_proxies_are_what_they_wrap() -> None:
    inner = v2.RandomApply([Proxy(v1.RandomPosterize(3)), Proxy(ga.RandomInvert())], 0.3)
    steps: Any = Proxy(v1.Compose([Proxy(inner), Proxy([Proxy(v2.MixUp(num_classes=3))])]))
    expected = [ga.RandomApply([ga.RandomPosterize(3), ga.RandomInvert()], 0.3), ga.MixUp(num_classes=3)]
    assert repr(ga.from_torchvision(steps)) == repr(expected)


# --- recipes ----------------------------------------------------------------------------------------------------


def preset(policy: Any, erase: Any) -> Any:
    """torchvision's references/classification, training."""
    steps = [v2.ToImage(), v2.RandomResizedCrop(176, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)]
    steps += [v2.RandomHorizontalFlip(0.5), policy, v2.PILToTensor(), v2.ToDtype(torch.float, scale=True)]
    return v2.Compose([*steps, v2.Normalize(MEAN, STD), erase, v2.ToPureTensor()])


BILINEAR = v2.InterpolationMode.BILINEAR
POLICIES = [
    (v2.RandAugment(interpolation=BILINEAR, magnitude=9), ga.RandAugment(interpolation="bilinear")),
    (v2.TrivialAugmentWide(interpolation=BILINEAR), ga.TrivialAugmentWide(interpolation="bilinear")),
    (v2.AugMix(interpolation=BILINEAR, severity=3), ga.AugMix()),
    (v2.AutoAugment(v2.AutoAugmentPolicy("imagenet"), BILINEAR), ga.AutoAugment(interpolation="bilinear")),
]


@pytest.mark.parametrize(("policy", "ours"), POLICIES, ids=lambda policy: type(policy).__name__)
def test_training_presets(policy: Any, ours: Transform) -> None:
    steps = ga.from_torchvision(preset(policy, v2.RandomErasing(p=0.1)))
    tail = [ours, FLOATS, ga.Normalize(MEAN, STD), ga.RandomErasing(0.1)]
    assert steps == [ga.RandomResizedCrop(176), ga.RandomHorizontalFlip(), *tail]
    batch = ga.Augment(train=steps, backend=FAST)(noise(2))
    assert batch.shape == (2, 3, 176, 176)
    assert batch.dtype == torch.float32


def test_the_classic_v1_recipe_and_a_mix() -> None:
    steps = [v1.RandomResizedCrop(24), v1.RandomHorizontalFlip(), v1.ColorJitter(0.4, 0.4, 0.4)]
    mixes = v2.RandomChoice([v2.MixUp(num_classes=5), v2.CutMix(num_classes=5)])
    compose = v1.Compose([*steps, v1.ToTensor(), v1.Normalize(list(MEAN), list(STD)), mixes])
    augment = ga.Augment(train=ga.from_torchvision(compose), backend=FAST)
    images, targets = augment(noise(4), torch.arange(4))
    assert images.shape == (4, 3, 24, 24)
    assert targets.shape == (4, 5)
    ours = [ga.Resize(27), ga.CenterCrop(24), FLOATS, ga.Normalize(MEAN, STD)]
    assert augment.eval_pipeline.steps == tuple(ours)


def fixed(module: Any, short: int = 30, floats: Any = None) -> list[Any]:
    floats = floats or v2.ToDtype(torch.float32, scale=True)
    return [module.Resize(short), module.CenterCrop(24), floats, module.Normalize(MEAN, STD)]


# A recipe without chance, one slightly different, and the tolerance in units of what comes out
LEVEL = Tolerance(levels=1)  # v1 resizes tensors in float32 and rounds, and so does v2 where it has no uint8 kernel
NORMALIZED_LEVEL = Tolerance(levels=1.01 / 255 / min(STD))
RECIPES: dict[str, tuple[list[Any], list[Any], Tolerance]] = {
    "v1": (
        fixed(v1, floats=v1.ConvertImageDtype(torch.float32)),
        fixed(v1, 31),
        NORMALIZED_LEVEL,
    ),
    "v2": (fixed(v2), fixed(v2, 29), EXACT if NATIVE else NORMALIZED_LEVEL),
    "bicubic": (
        [v2.Resize((20, 31), 3), v2.Pad([1, 2, 3, 4], 9)],
        [v2.Resize((20, 31), 2), v2.Pad([1, 2, 3, 4], 9)],
        EXACT,
    ),
    "padded": ([v1.Pad([1, 2, 3, 4], 9), v1.Resize(17)], [v1.Pad([2, 1, 3, 4], 9), v1.Resize(17)], LEVEL),
    "unscaled": ([v2.ToDtype(torch.float32)], [v2.ToDtype(torch.float32, scale=True)], EXACT),
}


@pytest.mark.parametrize(("recipe", "other", "tolerance"), RECIPES.values(), ids=RECIPES)
def test_pixels_are_torchvisions(recipe: list[Any], other: list[Any], tolerance: Tolerance) -> None:
    augment = ga.Augment(train=ga.from_torchvision(recipe), backend=FAST)
    for image in photographs():
        got = augment(image[None])[0]
        assert not differs(got, v2.Compose(recipe)(image), tolerance)
        assert differs(got, v2.Compose(other)(image), tolerance)


def test_pixels_after_to_tensor_are_torchvisions() -> None:
    """From Pillow's images; where nothing resamples, to the last bits of a float."""
    image = noise(1, height=40, width=37)[0]
    compose = v1.Compose([v1.Pad(3, 7), v1.CenterCrop(24), v1.ToTensor(), v1.Normalize(MEAN, STD)])
    got = ga.Augment(train=ga.from_torchvision(compose), backend=FAST)(image[None])[0]
    expected = compose(PIL.Image.fromarray(image.permute(1, 2, 0).numpy()))
    assert not differs(got, expected, Tolerance(levels=1e-6))
    assert differs(got, expected.roll(1, -1), Tolerance(levels=1e-6))


def test_pillows_nearest_is_nearest_exact() -> None:
    image = noise(1, height=40, width=37)[0]
    pillow = PIL.Image.fromarray(image.permute(1, 2, 0).numpy())
    expected = v2.functional.pil_to_tensor(v2.Resize((23, 31), v2.InterpolationMode.NEAREST)(pillow))
    compose = [v2.Resize((23, 31), v2.InterpolationMode.NEAREST_EXACT), v2.ToImage()]
    assert not differs(ga.Augment(ga.from_torchvision(compose), backend=FAST, seed=0)(image[None])[0], expected, EXACT)
    assert differs(ga.Augment([ga.Resize((23, 31), "nearest")], backend=FAST, seed=0)(image[None])[0], expected, EXACT)


# --- what people have -----------------------------------------------------------------------------------------------


BICUBIC = Tolerance(levels=8.01 / 255 / min(STD))  # of noise: v1 does not clamp between its two passes
WEIGHTS = [(models.ResNet50_Weights.DEFAULT, NORMALIZED_LEVEL), (models.EfficientNet_B0_Weights.DEFAULT, BICUBIC)]


@pytest.mark.parametrize(("weights", "tolerance"), WEIGHTS, ids=str)
def test_weights_transforms(weights: Any, tolerance: Tolerance) -> None:
    """The pixels are those of the preset: v1's resize of tensors."""
    preset = weights.transforms()
    augment = ga.Augment(train=ga.from_torchvision(preset), backend=FAST)
    image = noise(1, height=300, width=280)[0]
    assert not differs(augment(image[None])[0], preset(image), tolerance)
    assert differs(augment(image[None])[0], preset(image.flip(-1)), tolerance)
    with pytest.raises(ValueError, match=r"call it, as in weights\.transforms\(\)"):
        ga.from_torchvision(weights.transforms)
    with pytest.raises(ValueError, match="SemanticSegmentation"):
        ga.from_torchvision(models.segmentation.FCN_ResNet50_Weights.DEFAULT.transforms())


class Mine(v2.RandomHorizontalFlip):
    pass


class Preset:
    """As torchvision's references write them."""

    def __init__(self, *transforms: Any, brighter: int = 0) -> None:
        self.transforms, self.brighter = v2.Compose(list(transforms)), brighter

    def __call__(self, image: Any) -> Any:
        return self.transforms(image) + self.brighter


def test_an_object_that_only_carries_transforms_is_opened() -> None:
    steps = [v2.RandomResizedCrop(24), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    expected = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()]
    assert ga.from_torchvision(Preset(*steps)) == expected
    assert ga.from_torchvision([Preset(*steps), v2.ToDtype(torch.float32, scale=True)]) == [*expected, FLOATS]
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(
        ValueError, match=r"Preset \(an object whose result on an image is not that of its `transforms`"
    ):
        ga.from_torchvision(Preset(*steps, brighter=1))
    with pytest.raises(ValueError, match=r"got \[0\]\.transforms\[1\] Mine \("):
        ga.from_torchvision([Preset(v2.PILToTensor(), Mine())])


@pytest.mark.parametrize("training", [False, True])
def test_timms_transforms(training: bool) -> None:
    data = pytest.importorskip("timm.data")
    compose = data.create_transform(24, is_training=training, color_jitter=None)
    means = tuple(torch.tensor(MEAN).tolist()), tuple(torch.tensor(STD).tolist())
    head = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()] if training else [ga.Resize(27), ga.CenterCrop(24)]
    assert repr(ga.from_torchvision(compose)) == repr([*head, FLOATS, ga.Normalize(*means)])
    assert ga.from_torchvision(data.transforms.MaybePILToTensor()) == []
    choice = data.transforms.RandomResizedCropAndInterpolation(24, interpolation="random")
    assert ga.from_torchvision(choice) == [ga.RandomResizedCrop(24, interpolation="random")]
    choice.interpolation = ("nearest", "bilinear")
    with pytest.raises(ValueError, match="it draws one of bilinear and nearest; gpuaug draws bilinear or bicubic"):
        ga.from_torchvision(choice)


LATE: list[tuple[list[Any], list[Any]]] = [  # steps between ToTensor and Normalize, and what they are on levels
    ([v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5)], [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()]),
    ([v2.CenterCrop(30), v2.RandomCrop(20)], [ga.CenterCrop(30), ga.RandomCrop(20)]),
    ([v2.RandomCrop(20, 4, fill=1.0)], [ga.RandomCrop(20, 4, fill=255.0)]),
    ([v2.RGB(), v2.CenterCrop(30)], [ga.RGB(), ga.CenterCrop(30)]),
    ([v2.Pad(3, padding_mode="reflect"), v2.Pad(2, 1)], [ga.Pad(3, padding_mode="reflect"), ga.Pad(2, 255.0)]),
    ([v2.RandomRotation((20, 20), fill=1)], [ga.RandomRotation((20.0, 20.0), fill=255.0)]),
    ([v2.RandomApply([v2.RandomHorizontalFlip(1.0)], 1.0)], [ga.RandomApply([ga.RandomHorizontalFlip(1.0)], 1.0)]),
]


@pytest.mark.parametrize(("late", "early"), LATE, ids=[repr(early) for _, early in LATE])
def test_steps_after_to_tensor_that_only_move_pixels(late: list[Any], early: list[Any]) -> None:
    """They give before it what they give after it, bit for bit, drawn as gpuaug draws."""
    steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), *late, v2.Normalize(MEAN, STD)]
    converted = ga.from_torchvision(steps)
    assert repr(converted) == repr([*early, FLOATS, ga.Normalize(MEAN, STD)])
    fixed = [step for step in early if not isinstance(step, (ga.RandomHorizontalFlip, ga.RandomVerticalFlip))]
    fixed = [step for step in fixed if type(step).__name__ not in ("RandomCrop",)]
    image = noise(1, height=40, width=37)[0]
    if len(fixed) == len(early):  # without chance: torchvision's floats are ours
        assert torch.equal(ga.Augment(converted, backend=FAST)(image[None])[0], v2.Compose(steps)(image))


NOT_EXACT = [
    v2.RandomInvert(),
    v2.RandomResizedCrop(20),
    v2.Resize(20),
    v2.RandomRotation(20, v2.InterpolationMode.BILINEAR),
    v2.Pad(2, 0.2),  # torchvision's 51 / 255 is another float
    v2.RandomApply([v2.RandomInvert()]),
]


@pytest.mark.parametrize("step", NOT_EXACT, ids=lambda step: type(step).__name__)
def test_steps_after_to_tensor_that_compute_on_floats_are_refused(step: Any) -> None:
    steps = ga.from_torchvision([v2.ToDtype(torch.float32, scale=True), step, v2.RandomHorizontalFlip()])
    with pytest.raises(ValueError, match=rf"with pixel work before ToDtype, got {type(step).__name__} after it"):
        ga.Augment(steps, backend="torch")


def test_what_puts_in_zeros_after_normalize_is_refused() -> None:
    floats = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    for step in (v2.Pad(2), v2.RandomCrop(20, 2), v2.RandomRotation(10), v2.CenterCrop(20)):
        with pytest.raises(ValueError, match="with pixel work before ToDtype"):
            ga.Augment(ga.from_torchvision([*floats, step]), backend="torch")
    flips = ga.from_torchvision([*floats, v2.RandomHorizontalFlip(), v2.RandomCrop(9)])
    assert [type(step).__name__ for step in flips] == ["RandomHorizontalFlip", "RandomCrop", "ToDtype", "Normalize"]


# --- in containers -----------------------------------------------------------------------------------------------


def test_containers_take_torchvisions_transforms() -> None:
    """Each becomes gpuaug's, with a draw for each sample; several steps stay one child, none is an Identity."""
    jitter, both = v2.ColorJitter(0.4), v2.Compose([v2.RandomInvert(), v1.RandomEqualize()])
    ours = [ga.ColorJitter((0.6, 1.4)), ga.RandomApply([ga.RandomInvert(), ga.RandomEqualize()], p=1.0), ga.Identity()]
    assert ga.RandomApply([jitter, both, v2.ToImage()], p=0.3) == ga.RandomApply(ours, p=0.3)
    assert ga.RandomOrder([jitter, both, v2.ToImage()]) == ga.RandomOrder(ours)
    assert ga.RandomChoice([jitter, both, v2.ToImage()], [1, 1, 1]) == ga.RandomChoice(ours, [1, 1, 1])
    crops = ga.RandomChoice([v2.RandomCrop(9), ga.CenterCrop(9)])
    assert crops == ga.RandomChoice([ga.RandomCrop(9), ga.CenterCrop(9)])
    nested = ga.RandomApply([[v2.RandomInvert(), ga.RandomEqualize()], v2.RandomOrder([v2.RandomInvert()])])
    assert nested == ga.RandomApply([[ga.RandomInvert(), ga.RandomEqualize()], ga.RandomOrder([ga.RandomInvert()])])
    assert repr(nested.replace()) == repr(nested)


@pytest.mark.parametrize("container", [ga.RandomApply, ga.RandomOrder, ga.RandomChoice])
def test_containers_say_what_gpuaug_lacks(container: Any) -> None:
    with pytest.raises(ValueError) as error:
        container([ga.RandomInvert(), v2.Compose([v2.RandomInvert(), v2.ToPILImage()])])
    said = r"`transforms` must be transforms that gpuaug has, got \[1\] ToPILImage \(gpuaug has no such "
    said += r"transform\)\."
    assert error.match(f"{container.__name__}: {said}")
    with pytest.raises(ValueError, match="must be transforms of pixels"):
        container([v2.ToDtype(torch.float32)])


def test_steps_for_boxes() -> None:
    steps = [v2.RandomCrop(9), v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(2, 5, labels_getter=None)]
    expected = [ga.RandomCrop(9), ga.ClampBoundingBoxes(), ga.SanitizeBoundingBoxes(2, 5)]
    assert ga.from_torchvision([*steps, v2.ToPureTensor()]) == expected
    assert ga.Augment(steps).train_pipeline.steps == tuple(expected)
    late = [v2.ToDtype(torch.float32, scale=True), v2.SanitizeBoundingBoxes(), v2.RandomHorizontalFlip()]
    converted = ga.from_torchvision(late)
    assert [type(step).__name__ for step in converted] == ["SanitizeBoundingBoxes", "RandomHorizontalFlip", "ToDtype"]


@pytest.mark.parametrize("name", ["ClampKeyPoints", "SanitizeKeyPoints", "SetClampingMode"])
def test_steps_for_targets_that_gpuaug_has_not(name: str) -> None:
    """Of later versions of torchvision. They would do nothing as opaque steps."""
    cls = getattr(v2, name, None)
    if cls is None:
        pytest.skip("this torchvision has no such step")
    step = cls("soft") if name == "SetClampingMode" else cls()
    for build in (ga.from_torchvision, lambda step: ga.Augment([step])):
        with pytest.raises(ValueError, match=rf"{name} \(.*; leave it out"):
            build(step)


# --- refusals ---------------------------------------------------------------------------------------------------


REFUSED: list[tuple[Any, str]] = [
    (v1.Lambda(abs), "Lambda (its function takes one image; gpuaug.Lambda takes one of the whole batch)"),
    (v1.ToPILImage(), "ToPILImage (gpuaug has no such transform)"),
    (Mine(), "Mine (a subclass of RandomHorizontalFlip, whose behaviour is unknown)"),
    (abs, "builtin_function_or_method (not one of torchvision's transforms)"),
    (nn.ReLU(), "ReLU (not one of torchvision's transforms)"),
    (None, "NoneType (not one"),
    (v2.RandomRotation(30, expand=True), "RandomRotation (`expand` must be False"),
    (v2.RandomRotation(30, "bicubic"), "RandomRotation (`interpolation` must be an interpolation that"),
    (v1.RandAugment(interpolation=v1.InterpolationMode.BICUBIC), "RandAugment (`interpolation` must be"),
    (v2.Resize(9, "lanczos"), "Resize (`interpolation` must be"),
    (v2.Resize(9, 1), "Resize (`interpolation` must be one of"),
    (v2.MixUp(labels_getter=None), "MixUp (`labels_getter` must be 'default'"),
    (v2.CutMix(labels_getter=lambda inputs: inputs), "CutMix (`labels_getter` must be 'default'"),
    (v2.SanitizeBoundingBoxes(labels_getter=abs), "SanitizeBoundingBoxes (`labels_getter` must be 'default' or None"),
    (v2.ConvertBoundingBoxFormat("XYWH"), "ConvertBoundingBoxFormat (boxes come back in the format they had; leave"),
    (v2.ToDtype(torch.float64), "ToDtype (`dtype` must be"),
    (v2.ToDtype({MASK: torch.int64}), "ToDtype (a dict must say one thing of images"),
    (v2.Pad(2, {tv_tensors.Image: 1, torch.Tensor: 2}), "Pad (a dict must say one thing of images"),
    (v1.Pad((2, 2.5)), "Pad (`padding` must be"),
    (v2.RandomApply([v2.RandomCrop(9)]), "RandomApply (`transforms` must be transforms of pixels"),
    (v1.RandomChoice([v1.RandomInvert()], p=[1, 1]), "RandomChoice (`p` must be 1 numbers"),
    (v1.RandomChoice([v1.RandomInvert()], p=[0]), "RandomChoice (`p` must be chances with a sum greater than 0"),
    (v2.RandomChoice([v2.CenterCrop(9), v2.Identity()]), "RandomChoice (`p` must be chances with a sum of at least 1"),
    ([v2.Resize(9, antialias=False), v1.ToTensor()], "[0] Resize (`antialias` must be True, got False"),
    ([v2.RandomResizedCrop(9, antialias=None), v2.ToImage()], "[0] RandomResizedCrop (`antialias` must be True"),
    (
        [v1.Resize(9, 0), v1.PILToTensor()],
        "[0] Resize (`interpolation` must be 'nearest-exact', 'bilinear' or 'bicubic', got",
    ),
]


@pytest.mark.parametrize(("transform", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_cannot_be_converted_is_refused(transform: Any, why: str) -> None:
    with pytest.raises(ValueError) as error:
        ga.from_torchvision(transform)
    head = "from_torchvision: `transform` must be steps that gpuaug can run as torchvision does, got "
    assert str(error.value).startswith(head + why)
    remedy = "Replace them by gpuaug's transforms, or leave them to the workers with split=True."
    assert str(error.value).endswith(f"). {remedy}")


def test_what_is_refused_on_pillows_images_is_not_on_tensors() -> None:
    steps = [v2.ToImage(), v2.Resize(9, antialias=False), v2.Resize(9, 0), v1.ToTensor()]
    assert ga.from_torchvision(steps) == [ga.Resize(9, antialias=False), ga.Resize(9, "nearest"), FLOATS]


def test_all_refusals_are_listed_with_their_places() -> None:
    choice = v2.RandomChoice([v2.RandomInvert(), v2.Compose([v2.RandomInvert(), v2.Lambda(abs)])], p=[0.5, 0.5])
    crops = v2.RandomChoice([v2.CenterCrop(9), v2.FiveCrop(9)])  # not at fault itself
    steps = [v2.RandomInvert(), Mine(), v1.Compose([v2.ToImage(), v1.FiveCrop(9)]), choice, v2.Resize(9, "box"), crops]
    before = repr(steps)
    with pytest.raises(ValueError) as error:
        ga.from_torchvision(steps)
    text = str(error.value)
    named = ["got [1] Mine (", "; [2][1] FiveCrop (", "; [3][1][1] Lambda (", "; [4] Resize (", "; [5][1] FiveCrop ("]
    assert [text.count(name) for name in named] == [1] * len(named)
    assert text.count("; [") == len(named) - 1
    assert repr(steps) == before
    steps[1:] = [v1.Compose([v2.ToImage()])]
    assert ga.from_torchvision(steps) == [ga.RandomInvert()]


def test_an_argument_that_gpuaug_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later torchvision may have one."""

    class RandomInvert(v2.Transform):
        def __init__(self, p: float = 0.5, strength: int = 1) -> None:
            super().__init__()
            self.p, self.strength = p, strength

    monkeypatch.setitem(rules.TABLE, RandomInvert, partial(rules.same, ga.RandomInvert))
    with pytest.raises(ValueError, match=r"RandomInvert \(gpuaug has no argument `strength` for it\)"):
        ga.from_torchvision(RandomInvert())


def test_a_list_in_another_form_says_what_to_pass() -> None:
    with pytest.raises(ValueError, match=r"got Sequential.*Use train=gpuaug.from_torchvision"):
        ga.Augment(nn.Sequential(v2.RandomHorizontalFlip()))
    with pytest.raises(ValueError, match=r"Put it into a list: train=\[RandomHorizontalFlip\(...\)\]"):
        ga.Augment(ga.RandomHorizontalFlip())


def test_the_steps_of_a_module_cannot_be_exchanged() -> None:
    augment = ga.Augment([ga.RandomHorizontalFlip()])
    with pytest.raises(TypeError):
        augment.train_pipeline.steps[0] = ga.RandomVerticalFlip()  # type: ignore[index]
