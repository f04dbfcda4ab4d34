"""Images of different sizes whose list changes pixels before it brings them to one size.

Such steps run on the images of each size by themselves. What comes out is what torchvision gives for each image alone,
on every backend, however the batch was formed; and no memory is taken for a batch of the largest size.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.engine.render import BACKENDS
from gpuaug.program import BySize
from tests.support.answers import EXACT
from tests.support.backends import INTERPRETED, runnable
from tests.support.helpers import CLASSES, anew, labels, noise
from tests.support.images import ragged
from tests.support.lists import random_pixels
from tests.support.memory import peak_of_numpy, peak_of_torch
from tests.support.oracle import FLOATS, NORMALIZE, differs, replay, take, wrong

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [(33, 47), (48, 36), (36, 36), (33, 47), (64, 50), (37, 40), (36, 36)]  # two of them twice
TINY = [(1, 1), (5, 9), (1, 7), (1, 1), (2, 3)]
JITTER = ga.ColorJitter(0.4, 0.4, 0.4)
TAIL = [FLOATS, NORMALIZE]

# bit-equal to torchvision, step by step
LISTS: dict[str, list[Any]] = {
    "textbook": [ga.RandomHorizontalFlip(), JITTER, ga.RandomResizedCrop(24), *TAIL],
    "flip and nearest": [ga.RandomHorizontalFlip(), ga.RandomResizedCrop(24, interpolation="nearest"), *TAIL],
    "flip, exact": [ga.RandomVerticalFlip(), ga.RandomResizedCrop((24, 31), antialias=False), *TAIL],
    "containers": [
        ga.RandomApply([JITTER, ga.RandomHorizontalFlip()], 0.6),
        ga.RandomChoice([ga.RandomInvert(1.0), ga.RandomVerticalFlip(1.0), ga.RandomEqualize(1.0)]),
        ga.RandomOrder([ga.RandomSolarize(100), ga.RandomPosterize(3)]),
        ga.RandomResizedCrop(24),
        *TAIL,
    ],
    "grey to one": [ga.Grayscale(1), ga.RandomResizedCrop(24), ga.RandomInvert()],
    "grey to three": [ga.Resize(30), ga.Grayscale(3), ga.RandomHorizontalFlip(), ga.CenterCrop(24), *TAIL],
    "resized twice": [ga.Resize(40), ga.RandomEqualize(), ga.Resize(30), ga.RandomVerticalFlip(), ga.CenterCrop(24)],
    "crops, one after another": [ga.Pad(2, padding_mode="edge"), ga.Resize(30), ga.Pad(3), ga.RandomResizedCrop(24)],
    "noise and erasing": [ga.GaussianNoise(), ga.RandomErasing(0.8, value=9), ga.RandomResizedCrop(24), *TAIL],
    "mixed": [ga.RandomAdjustSharpness(2), ga.RandomResizedCrop(24), *TAIL, ga.CutMix(num_classes=CLASSES)],
}  # fmt: skip
# within the tolerance of a warp or a blur, and then resampled: held to the bits of each image alone
NEAR: dict[str, list[Any]] = {
    "policies": [ga.RandAugment(), ga.TrivialAugmentWide(), ga.AutoAugment(), ga.RandomResizedCrop(24), *TAIL],
    "AugMix": [ga.AugMix(), ga.RandomResizedCrop(24)],
    "warps": [
        *(ga.RandomRotation(30), ga.RandomAffine(20, (0.1, 0.2), (0.7, 1.3), 10), ga.RandomHorizontalFlip()),
        *(ga.RandomPerspective(0.5, 1.0), ga.RandomResizedCrop(24)),
    ],
    "blurs": [ga.GaussianBlur((5, 3)), ga.MotionBlur(5, 90, 0.5, "reflect"), ga.JPEG((20, 90)), ga.Resize((24, 20))],
    "hue": [ga.RandomHorizontalFlip(), ga.ColorJitter(hue=0.3), ga.RandomResizedCrop(24)],
    # what does nothing must not keep a flip from being done by the crop, or an image alone would look otherwise
    "nothing between": [ga.RandomHorizontalFlip(), ga.ColorJitter(), ga.RandAugment(0), ga.RandomResizedCrop(24)],
    "flips in containers": [ga.RandomApply([ga.RandomHorizontalFlip()], 0.7), ga.RandomResizedCrop(24)],
}
NATIVE = F._geometry._do_native_uint8_resize_on_cpu(F.InterpolationMode.BILINEAR)
native = pytest.mark.skipif(not NATIVE, reason="torchvision resizes in float32 on this processor")


def runs(name: str) -> bool:
    return name != "triton" or INTERPRETED


@pytest.fixture(params=BACKENDS)
def anywhere(request: pytest.FixtureRequest) -> str:
    """Each backend, the interpreted one too."""
    return runnable(request.param)


def differences(augment: ga.Augment, images: ga.Ragged) -> list[str]:
    """How the rendered draw differs from torchvision's, image by image."""
    draw = augment.sample(images, index=torch.arange(len(images)) + 7)
    result, expected = augment.render(images, draw), replay(augment, draw, list(images))
    return [line for pair in zip(result, expected, strict=True) if (line := differs(*pair, EXACT))]


@native
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", LISTS)
def test_equals_torchvision_image_by_image(name: str, channels: int, anywhere: str) -> None:
    steps = [step for step in LISTS[name] if channels == 3 or step != NORMALIZE]
    augment = ga.Augment(steps, seed=3, backend=anywhere, exact=True)
    assert differences(augment, ragged("photo", channels, [*SIZES, *TINY])) == []


@native
@pytest.mark.parametrize("name", ["textbook", "containers", "noise and erasing"])
def test_a_nudge_is_noticed(name: str) -> None:
    """The comparison can fail."""
    augment, images = ga.Augment(LISTS[name], seed=3, backend="torch", exact=True), ragged("photo", 3, SIZES)
    draw = augment.sample(images, index=torch.arange(len(images)))
    expected = replay(augment, draw, list(images), wrong)
    assert all(differs(got, theirs, EXACT) for got, theirs in zip(augment.render(images, draw), expected, strict=True))


@pytest.mark.parametrize("exact", [False, True], ids=["composed", "exact"])
@pytest.mark.parametrize("name", [*LISTS, *NEAR])
def test_each_image_looks_as_alone(name: str, exact: bool, backend: str) -> None:
    """Alone, dense and ragged, in halves and in another order: the same bits."""
    steps = [step for step in (LISTS | NEAR)[name] if step.kind != "mix"]
    images, index = ragged("photo", 3, SIZES), torch.arange(len(SIZES)) + 11
    augment = ga.Augment(steps, seed=5, backend=backend, exact=exact)
    whole = augment(images, index=index)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    shuffled = ga.Ragged.from_images([images[int(number)] for number in order])
    assert torch.equal(anew(augment, shuffled, index=index[order]), whole[order])
    for part in (slice(0, 3), slice(3, 7)):
        some = ga.Ragged.from_images(list(images)[part])
        assert torch.equal(anew(augment, some, index=index[part]), whole[part])
    for number in range(len(images)):
        one, key = images[number][None], index[number : number + 1]
        assert torch.equal(anew(augment, one, index=key)[0], whole[number])
        assert torch.equal(anew(augment, ga.Ragged.from_images([one[0]]), index=key)[0], whole[number])


@pytest.mark.parametrize("name", [*LISTS, *NEAR])
def test_backends_agree(name: str) -> None:
    steps, index = (LISTS | NEAR)[name], torch.arange(5)
    images = ragged("noise", 3, [*SIZES[2:6], SIZES[2]])
    expected, *others = (
        ga.Augment(steps, seed=5, backend=name)(images, labels(5), index=index)[0] for name in BACKENDS if runs(name)
    )
    assert all(torch.equal(other, expected) for other in others)


def any_list(seed: int) -> list[Any]:
    """What torchvision does to the bit, in any order, until a crop gives all images one size."""
    rng = np.random.default_rng(seed)

    def pixels() -> Any:
        alone = [
            *(ga.RandomHorizontalFlip(), ga.RandomVerticalFlip(), JITTER, ga.RandomGrayscale(0.4), ga.RandomInvert()),
            *(ga.RandomSolarize(int(rng.integers(256))), ga.RandomPosterize(int(rng.integers(9))), ga.GaussianNoise()),
            *(ga.RandomAutocontrast(), ga.RandomEqualize(), ga.RandomAdjustSharpness(float(rng.uniform(0, 3)))),
            *(ga.RandomErasing(value=int(rng.integers(256))), ga.ColorJitter()),
        ]
        return alone[rng.integers(len(alone))]

    def step() -> Any:
        inside = [pixels() for _ in range(rng.integers(1, 4))]
        pad = tuple(rng.integers(0, 4, 4).tolist())
        others = [
            *(ga.RandomApply(inside), ga.RandomChoice(inside), ga.RandomOrder(inside), ga.Grayscale(3)),
            *(ga.Pad(pad, 9), ga.Pad(pad, padding_mode="edge"), ga.Resize(int(rng.integers(5, 40)))),
        ]  # fmt: skip
        return pixels() if rng.random() < 0.6 else others[rng.integers(len(others))]

    size = tuple(rng.integers(3, 40, 2).tolist())
    interpolation = str(rng.choice(["bilinear", "bicubic", "nearest", "nearest-exact"]))
    end = [
        ga.RandomResizedCrop(size, interpolation=interpolation),
        ga.Resize(size, interpolation),
        ga.CenterCrop(size),
        ga.RandomCrop(size, pad_if_needed=True),
    ][rng.integers(4)]
    return [*(step() for _ in range(rng.integers(1, 6))), end, *(pixels() for _ in range(rng.integers(3))), FLOATS]


@native
@pytest.mark.parametrize("seed", range(40))
def test_any_list_equals_torchvision(seed: int, anywhere: str) -> None:
    if anywhere == "triton" and seed >= 8:
        pytest.skip("its interpreter is slow")
    rng = np.random.default_rng([seed, 1])
    sizes = [*rng.integers(1, 50, (5, 2)).tolist(), [1, 1], [1, 1]]
    sizes = [tuple(sizes[number]) for number in rng.integers(0, 7, int(rng.integers(2, 8)))]
    augment = ga.Augment(any_list(seed), seed=seed, backend=anywhere, exact=True)
    for channels in (3, 1):
        assert differences(augment, ragged("noise", channels, sizes)) == [], f"{sizes}, {augment}"


@pytest.mark.parametrize("seed", range(12))
def test_any_pixels_equal_the_twins(seed: int, anywhere: str) -> None:
    """Every op there is, in containers too, before the crop."""
    if anywhere == "triton" and seed >= 3:
        pytest.skip("its interpreter is slow")
    steps = [step for step in random_pixels(seed) if step.kind == "pixel" and getattr(step, "value", 0) != "random"]
    images, index = ragged("noise", 3, [(33, 47), (48, 36), (33, 47), (40, 31)]), torch.arange(4)
    steps = [*steps, ga.RandomResizedCrop((20, 24)), FLOATS]
    result = ga.Augment(steps, seed=seed, backend=anywhere)(images, index=index)
    for number in range(4):
        alone = ga.Augment(steps, seed=seed, backend="torch")(images[number][None], index=index[number : number + 1])
        assert torch.equal(alone[0], result[number]), f"image {number}, {steps}"


def test_params_are_rows_of_the_batch() -> None:
    images = ragged("photo", 3, SIZES)
    draw = ga.Augment([*NEAR["policies"][:3], *NEAR["warps"]], seed=1).sample(images)
    for params in draw.params:
        for name, value in params.items():
            assert name == "op" or len(value) == len(SIZES), name
    alone = ga.Augment([ga.RandAugment(), *NEAR["warps"]], seed=1)
    together = alone.sample(images, index=torch.arange(len(SIZES)))
    for number, image in enumerate(images):
        alone.set_epoch(0)
        one = alone.sample(image[None], index=torch.tensor([number]))
        for mine, all_ in zip(one.params, together.params, strict=True):
            for name, value in take(all_, number).items():
                assert np.array_equal(take(mine, 0)[name], value), name


def parts(steps: list[Any], images: ga.Ragged, **options: Any) -> int | None:
    """How many sizes run by themselves; None if none does."""
    augment = ga.Augment(steps, seed=0, **options)
    draw = augment.sample(images)
    first = augment.train_pipeline.lower(draw.params, draw.keys, draw.canvas, augment.exact, torch.contiguous_format)[0]
    return len(first.parts) if isinstance(first, BySize) else None


def test_what_runs_by_size() -> None:
    """The images of one size run together; and what a crop can do while it reads the batch needs no such run."""
    images, alike = ragged("photo", 3, SIZES), ragged("photo", 3, [(30, 40)] * 4)
    textbook = LISTS["textbook"]
    assert parts(textbook, images) == len(set(SIZES)) == 5
    assert parts(textbook, alike) is None
    for steps in ([ga.Resize(30), ga.RandomHorizontalFlip(), ga.CenterCrop(24), JITTER], [textbook[0], *textbook[2:]]):
        assert parts(steps, images) is None
    assert parts([textbook[0], *textbook[2:]], images, exact=True) == 5


# ---- memory ----------------------------------------------------------------------------------------------------------


def peak(augment: ga.Augment, sizes: list[Any]) -> tuple[int, int]:
    """Highest level of the bytes that a call allocates, its result among them, and the bytes of the batch."""
    images = ga.Ragged.from_images([noise(1, 3, *size, seed=size[0])[0] for size in sizes])
    run = partial(anew, augment, images, index=torch.arange(len(sizes)))  # the largest, the first, always drawn alike
    for _ in range(5 if augment.backend == "numba" else 1):  # warm up
        run()
    return peak_of_torch(run) + (peak_of_numpy(run) if augment.backend == "numba" else 0), len(images.data)


@pytest.mark.parametrize("name", ["textbook", "policies", "warps", "blurs"])
def test_memory_is_bounded_by_the_batch(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what its largest image takes: a copy of the bytes, and not a canvas of that size for each image."""
    for module in ("common", "crop"):  # the twin works in chunks
        monkeypatch.setattr(importlib.import_module(f"gpuaug.kernels.torch.{module}"), "PIXELS_AT_ONCE", 1 << 14)
    augment = ga.Augment((LISTS | NEAR)[name], backend=backend, seed=0)
    large = (400, 500)
    alone, _ = peak(augment, [large])
    beside, size = peak(augment, [large, *[(24 + number, 30) for number in range(40)]])
    assert beside - alone < 3 * size < 41 * 3 * 400 * 500 / 10
    # different sizes, one after another: of twice as many images, a copy
    first, few = peak(augment, [(90 + number, 100) for number in range(12)])
    second, many = peak(augment, [(90 + number, 100) for number in range(24)])
    assert second - first < 3 * (many - few)


@pytest.mark.parametrize("name", ["textbook", "policies"])
def test_the_batch_is_never_written_to(name: str, anywhere: str) -> None:
    images = ragged("photo", 3, SIZES)
    before = images.data.clone()
    ga.Augment((LISTS | NEAR)[name], backend=anywhere)(images)
    assert torch.equal(images.data, before)


def test_in_many_threads_and_in_inference_mode(backend: str) -> None:
    images, index = ragged("photo", 3, [*SIZES, *[(20, 30)] * 9]), torch.arange(16)
    augment = ga.Augment(LISTS["textbook"], backend=backend, seed=0)
    expected = anew(augment, images, index=index)
    torch.set_num_threads(4)
    try:
        for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            with mode():
                assert torch.equal(anew(augment, images, index=index), expected)
    finally:
        torch.set_num_threads(1)


# ---- errors ----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[list[Any], str]] = {
    "MixUp": ([JITTER, *TAIL, ga.MixUp(num_classes=CLASSES)], "MixUp: `images` must have one size at this step"),
    "a choice of mixes": (
        [JITTER, *TAIL, ga.RandomChoice([ga.MixUp(num_classes=CLASSES), ga.CutMix(num_classes=CLASSES)])],
        "MixUp: `images` must have one size at this step",
    ),
    "no crop": ([ga.RandomHorizontalFlip(), JITTER], "Augment: `images` must have one size at this step"),
    "a resize of the shorter edge": ([JITTER, ga.Resize(20)], "Augment: `images` must have one size at this step"),
    "an opaque step": ([ga.Opaque(v2.RandomInvert()), ga.CenterCrop(20)], "Opaque: `images` must have one size"),
    "a blur of a tiny image": ([ga.GaussianBlur(3), ga.CenterCrop(20)], "GaussianBlur: `kernel_size` must be less"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_use_up_no_draw(name: str, backend: str) -> None:
    steps, message = ERRORS[name]
    augment, index = ga.Augment(steps, seed=0, backend=backend), torch.arange(len(TINY))
    augment.set_epoch(0)
    with pytest.raises(ValueError, match=message):
        augment(ragged("photo", 3, TINY), labels(len(TINY)), index=index)
    good = noise(len(TINY)), labels(len(TINY))
    first = augment(*good, index=index)
    fresh = ga.Augment(steps, seed=0, backend=backend)
    fresh.set_epoch(0)
    assert torch.equal(first[0], fresh(*good, index=index)[0])


# ---- end to end ------------------------------------------------------------------------------------------------------


class Photos(Dataset[Any]):
    """Images of different sizes, labels and numbers."""

    def __len__(self) -> int:
        return 14

    def __getitem__(self, number: int) -> Any:
        return noise(1, 3, *SIZES[number % len(SIZES)], seed=number)[0], number % CLASSES, number


@pytest.mark.parametrize("workers", [0, 1])
def test_through_a_device_loader(workers: int, backend: str) -> None:
    steps = [*LISTS["textbook"], ga.MixUp(num_classes=CLASSES)]
    augment = ga.Augment(steps, seed=2, backend=backend)
    inner = DataLoader(Photos(), 5, num_workers=workers, collate_fn=ga.ragged_collate)
    seen = list(ga.DeviceLoader(inner, "cpu", augment))
    assert [len(images) for images, _ in seen] == [5, 5, 4]
    twin = ga.Augment(steps, seed=2, backend="torch")
    for (images, targets), start in zip(seen, (0, 5, 10), strict=True):
        samples = [Photos()[number] for number in range(start, min(start + 5, 14))]
        batch = ga.Ragged.from_images([image for image, _, _ in samples])
        numbers, index = torch.tensor([sample[1] for sample in samples]), torch.tensor([s[2] for s in samples])
        expected = twin(batch, numbers, index=index)
        assert torch.equal(images, expected[0])
        assert torch.equal(targets, expected[1])
