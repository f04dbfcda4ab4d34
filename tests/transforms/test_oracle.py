"""Every op equals torchvision, sample by sample, within its row's tolerance, and the comparison can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import _geometry as geometry

import gpuaug as ga
from gpuaug.transforms.policy import NAMES, SIGNED, magnitudes
from gpuaug.transforms.policy.tables import POLICIES as POLICY_TABLES
from tests.support.answers import EXACT, NATIVE, WARP, WITHIN_1, blended, contrast, policy_op
from tests.support.images import KINDS, LAYOUTS, batch, ragged
from tests.support.lists import LISTS, cases, channel_counts, random_crops
from tests.support.ops.behaviour import SIZES, check_answer, check_containers, check_nudge
from tests.support.oracle import ROWS, compared, differences, take
from tests.support.oracle import replay as replayed

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 7


def test_every_op_has_a_row() -> None:
    assert set(ROWS) == set(ga.OPS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", cases())
def test_equals_the_oracle(steps: list[Any], kind: str, backend: str) -> None:
    check_answer(steps, kind, backend)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", cases())
def test_a_nudge_is_noticed(steps: list[Any], kind: str) -> None:
    if type(steps[-1]) is ga.Compose:
        pytest.skip("opened by the list; its steps are tested")
    check_nudge(steps, kind)


@pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)
def test_every_op_stands_in_containers(op: Any) -> None:
    check_containers(op, ROWS[op])


CROPS = [case for case in cases() if case.values[0][-1].kind == "crop"]
RAGGED = [(33, 47), (48, 36), (36, 36), (64, 90), (37, 40), (150, 53)]


@pytest.mark.parametrize("steps", CROPS)
def test_ragged_crops_equal_the_oracle(steps: list[Any], backend: str) -> None:
    """Images of different sizes, read straight from the buffer."""
    for channels in channel_counts(steps):
        images = ragged("photo", channels, RAGGED)
        augment = ga.Augment([*steps, ga.CenterCrop((30, 31))], backend=backend, exact=True, seed=0)
        draw = augment.sample(images, index=torch.arange(len(images)))
        assert compared(augment, images, draw, place=0) == [], f"{channels} channels"


STRIDED = [
    ga.RandomResizedCrop((24, 31)),
    ga.RandomCrop(30, 4),
    ga.RandomInvert(),
    ga.GaussianBlur(5),
    ga.RandomEqualize(),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", STRIDED, ids=repr)
def test_strides_do_not_matter(op: Any, layout: str, backend: str) -> None:
    images = LAYOUTS[layout](batch("photo", COUNT, 3, SIZES[0]))
    augment = ga.Augment([op], backend=backend, exact=True)
    draw = augment.sample(images, index=torch.arange(COUNT))
    assert compared(augment, images, draw) == []


native = pytest.mark.skipif(not NATIVE, reason="torchvision resizes in float32 on this processor")


@native
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", LISTS)
def test_lists_equal_the_oracle(name: str, layout: torch.memory_format, backend: str) -> None:
    augment = ga.Augment(LISTS[name], backend=backend, exact=True, memory_format=layout)
    images = batch("photo", 9, 3, (45, 53)).contiguous(memory_format=layout)
    draw = augment.sample(images, index=torch.arange(9))
    result = augment.render(images, draw)
    assert result.is_contiguous(memory_format=layout)
    assert differences(result, [EXACT] * 9, lambda: replayed(augment, draw, list(images))) == []


@native
@pytest.mark.parametrize("seed", range(40))
def test_any_list_of_crops_equals_the_oracle(seed: int, backend: str) -> None:
    augment = ga.Augment(random_crops(seed), seed=seed, backend=backend, exact=True)
    images = batch("noise", 5, 3, (34, 45))
    draw = augment.sample(images, index=torch.arange(5))
    assert differences(augment.render(images, draw), [EXACT] * 5, lambda: replayed(augment, draw, list(images))) == []


@pytest.mark.parametrize("fill", [None, 90])
def test_neighbouring_warps_become_one(fill: float | None, backend: str) -> None:
    """Without exact=True: one resample through the product of torchvision's two inverse matrices."""
    steps = [
        ga.RandomRotation(40, "bilinear", fill=fill),
        ga.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), 10, "bilinear", fill),
    ]
    augment = ga.Augment(steps, backend=backend)
    images = batch("noise", COUNT, 3, SIZES[0])
    draw = augment.sample(images, index=torch.arange(COUNT))

    def once(image: Tensor, first: Any, second: Any) -> Tensor:
        shift, shear, none = second["translate"].tolist(), second["shear"].tolist(), [0.0, 0.0]
        rotation = geometry._get_inverse_affine_matrix(none, -float(first["degrees"]), none, 1.0, none)
        pose = geometry._get_inverse_affine_matrix(none, float(second["degrees"]), shift, float(second["scale"]), shear)
        product = np.array([*rotation, 0, 0, 1]).reshape(3, 3) @ np.array([*pose, 0, 0, 1]).reshape(3, 3)
        (height, width), theta = image.shape[-2:], torch.tensor(product[:2], dtype=torch.float32)[None]
        grid = geometry._affine_grid(theta, w=width, h=height, ow=width, oh=height)
        return geometry._apply_grid_transform(image, grid, "bilinear", fill)

    first, second = draw.params
    expected = [once(image, take(first, b), take(second, b)) for b, image in enumerate(images)]
    assert differences(augment.render(images, draw), [WITHIN_1] * COUNT, lambda: expected) == []
    twice = lambda: replayed(augment, draw, list(images))  # noqa: E731
    assert differences(augment.render(images, draw), [WITHIN_1] * COUNT, twice) != []


@native
def test_a_flip_before_a_resizing_crop_is_done_by_the_crop(backend: str) -> None:
    """Without exact=True: the mirrored box, mirrored afterwards."""
    augment = ga.Augment(
        [ga.RandomHorizontalFlip(0.5), ga.RandomVerticalFlip(0.5), ga.RandomResizedCrop((24, 31))], backend=backend
    )
    images = batch("photo", 12, 3, SIZES[0])
    draw = augment.sample(images, index=torch.arange(12))
    expected = []
    for number, image in enumerate(images):
        across, down = (bool(draw.params[step]["applied"][number]) for step in (0, 1))
        top, left, height, width = draw.params[2]["box"][number].tolist()
        top = image.shape[1] - top - height if down else top
        left = image.shape[2] - left - width if across else left
        flips = [axis for axis, flip in ((1, down), (2, across)) if flip]
        expected.append(F.resized_crop(image, top, left, height, width, [24, 31]).flip(flips))
    assert differences(augment.render(images, draw), [EXACT] * 12, lambda: expected) == []


def contrasted(image: Tensor, factor: float, backend: str) -> Tensor:
    augment = ga.Augment([ga.ColorJitter(contrast=(factor, factor))], backend=backend)
    result: Tensor = augment(image[None])[0]
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_is_torchvisions_but_for_two_roundings(channels: int, backend: str) -> None:
    """Bit-equal where its vectors end with the image; else, or where its float32 mean is not exact, within a level."""
    numbers = np.random.default_rng(channels)
    missed = 0
    for number in range(400):
        width = 64 * (1 + number % 3) if number % 2 else int(numbers.integers(1, 90))
        image = torch.from_numpy(numbers.integers(0, 256, (channels, 1, width), np.uint8))
        factor = float(np.float32(numbers.integers(0, 41) / 20))
        result, theirs = contrasted(image, factor, backend), F.adjust_contrast(image, factor)
        assert torch.equal(result, contrast(image, factor))
        if width % 64 == 0:
            assert torch.equal(result, theirs)
        missed += int((result != theirs).sum())
        assert (result.int() - theirs.int()).abs().max() <= 1
    assert missed < 40


def test_contrast_does_not_depend_on_the_order_of_the_sum(backend: str) -> None:
    """More than 2**24 levels in all: torchvision's mean, in float32, depends on where they lie in the image."""
    bright = torch.full((1, 500, 501), 255, dtype=torch.uint8)
    bright[:, :100] = torch.arange(501).remainder(7).to(torch.uint8)
    mixed = bright.flatten()[torch.randperm(bright.numel(), generator=torch.Generator().manual_seed(0))].view_as(bright)
    assert bright.float().mean() != mixed.float().mean()
    seen = set()
    for image in (bright, mixed):
        result = contrasted(image, 0.25, backend)
        seen |= set(result[image == 3].tolist())
        assert torch.equal(result, contrast(image, 0.25))
        assert (result.int() - F.adjust_contrast(image, 0.25).int()).abs().max() <= 1
    assert len(seen) == 1


POLICIES = [
    ga.RandAugment(3, 30, fill=(124, 116, 104)),
    ga.RandAugment(2, 9, interpolation="bilinear"),
    ga.AutoAugment(),
    ga.AutoAugment("svhn", "bilinear", fill=0),
    ga.AutoAugment("cifar10", fill=128),
]


def prefix(params: dict[str, Any], place: int) -> dict[str, Any]:
    """The same draw, with the first `place` ops only; the rest is Identity."""
    return params | {"ops": np.where(np.arange(params["ops"].shape[-1]) < place, params["ops"], 0)}


def op_by_op(augment: ga.Augment, images: Tensor, draw: ga.Draw, ops: Any, magnitude: Any) -> list[str]:
    """Each op of a policy against torchvision's, on what came out of the ops before it. `ops` (B, places)."""
    (policy,), (params,) = augment.train_pipeline.steps, draw.params
    before, lines = images, []
    for place in range(ops.shape[1]):
        after = augment.render(images, replace(draw, params=[prefix(params, place + 1)]))
        names, strengths = ops[:, place], magnitude[:, place]
        cases = list(zip(before, names, strengths, strict=True))
        tolerances = [WARP[policy.interpolation] if 1 <= name <= 5 else EXACT for name in names]
        lines += differences(after, tolerances, lambda cases=cases: [policy_op(policy, *case) for case in cases])
        before = after
    return lines


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_policies_op_by_op(policy: Any, kind: str, backend: str) -> None:
    augment = ga.Augment([policy], backend=backend)
    images = batch(kind, 30, 3, SIZES[0])
    draw = augment.sample(images, index=torch.arange(len(images)))
    ops, magnitude = draw.params[0]["ops"], draw.params[0]["magnitude"]
    assert op_by_op(augment, images, draw, ops, magnitude) == []
    assert op_by_op(augment, images, draw, ops, np.where(SIGNED[ops], -magnitude, magnitude)) != []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", [ga.AugMix(), ga.AugMix(10, 2, 4, 0.5, interpolation="nearest", fill=9)], ids=repr)
def test_augmix_op_by_op(policy: Any, kind: str, backend: str) -> None:
    """Every chain on its own, with all the weight; then the mixture of the chains."""
    augment = ga.Augment([policy], backend=backend)
    images = batch(kind, 12, 3, SIZES[0])
    draw = augment.sample(images, index=torch.arange(len(images)))
    (params,) = draw.params
    chains = []
    for chain in range(policy.mixture_width):
        alone = np.zeros_like(params["weights"])
        alone[:, chain + 1] = 1
        only = replace(draw, params=[params | {"weights": alone}])
        assert op_by_op(augment, images, only, params["ops"][:, chain], params["magnitude"][:, chain]) == []
        chains.append(augment.render(images, only))
    parts = list(zip(images, zip(*chains, strict=True), params["weights"], strict=True))
    result = augment.render(images, draw)
    exact = [EXACT] * len(images)
    assert differences(result, exact, lambda: [blended(*part) for part in parts]) == []
    nudged = [blended(image, chains, np.roll(weights, 1)) for image, chains, weights in parts]
    assert differences(result, exact, lambda: nudged) != []


@pytest.mark.parametrize("policy", [ga.RandAugment(1, 0, fill=fill) for fill in (None, 0, 200)], ids=repr)
@pytest.mark.parametrize("space", ["RandAugment", "TrivialAugmentWide", "AugMix"])
def test_every_policy_op_at_every_strength(policy: ga.RandAugment, space: str, backend: str) -> None:
    """All ops at all of torchvision's magnitudes, both signs, on one photograph each."""
    height, width = SIZES[0]
    strengths = [
        (NAMES.index(name), sign * float(magnitudes[number]) if magnitudes is not None else 0.0)
        for name, (function, signed) in getattr(v2, space)._AUGMENTATION_SPACE.items()
        for magnitudes in [function(10, height, width)]
        for number in (range(10) if magnitudes is not None else [0])
        for sign in ((1, -1) if signed else (1,))
    ]
    augment = ga.Augment([policy], backend=backend)
    images = batch("photo", 6, 3, SIZES[0])[torch.arange(len(strengths)) % 6]
    draw = augment.sample(images, index=torch.arange(len(images)))
    ops, magnitude = (np.array(column)[:, None] for column in zip(*strengths, strict=True))
    draw = replace(draw, params=[draw.params[0] | {"ops": ops, "magnitude": magnitude}])
    assert op_by_op(augment, images, draw, ops, magnitude) == []


@pytest.mark.parametrize("size", [(224, 224), (33, 47), (1, 500)])
@pytest.mark.parametrize("bins", [2, 10, 31])
@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("standard", v2.RandAugment),
        ("standard", v2.AutoAugment),
        ("wide", v2.TrivialAugmentWide),
        ("augmix", v2.AugMix),
    ],
)
def test_magnitudes_are_torchvisions(kind: str, theirs: Any, bins: int, size: tuple[int, int]) -> None:
    for name, (function, signed) in theirs._AUGMENTATION_SPACE.items():
        expected = function(bins, *size)
        got = magnitudes(kind, bins, *size)[NAMES.index(name)]
        assert SIGNED[NAMES.index(name)] == signed, name
        assert got.tolist() == (torch.zeros(bins) if expected is None else expected).tolist(), name


@pytest.mark.parametrize("policy", list(v2.AutoAugmentPolicy))
def test_policies_are_torchvisions(policy: v2.AutoAugmentPolicy) -> None:
    assert POLICY_TABLES[policy.value] == v2.AutoAugment(policy)._policies


TYPICAL = [
    ga.RandomRotation(45),
    ga.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), 10),
    ga.RandomPerspective(0.5, 1, "nearest"),
    ga.RandAugment(),
    ga.TrivialAugmentWide(),
]


@pytest.mark.parametrize("op", TYPICAL, ids=repr)
def test_nearest_is_equal_on_nearly_all_pixels(op: Any, backend: str) -> None:
    """At a usual size and strength, ties or not: 99.9 % of the values."""
    augment = ga.Augment([op], backend=backend)
    images = batch("photo", 12, 3, (224, 224))
    draw = augment.sample(images, index=torch.arange(12))
    result, expected = augment.render(images, draw), torch.stack(replayed(augment, draw, list(images)))
    assert float((result == expected).float().mean()) >= 0.999


def test_noise_is_normal(backend: str) -> None:
    """Mean and spread of what is added, and that samples and channels do not share it."""
    images = torch.full((4, 3, 100, 100), 128, dtype=torch.uint8)
    augment = ga.Augment([ga.GaussianNoise(0.05, 0.1)], backend=backend)
    result = augment(images, index=torch.arange(4))
    noise = (result.double() - 128).flatten(2)
    count = noise.shape[2]
    error = 25.5 / count**0.5
    assert ((noise.mean(2) - 12.75).abs() < 0.5 + 6 * error).all()  # truncated towards zero, as torchvision
    assert ((noise.std(2) - 25.5).abs() < 6 * error).all()
    correlations = torch.corrcoef(noise.flatten(0, 1)) - torch.eye(12)
    assert correlations.abs().max() < 6 / count**0.5
