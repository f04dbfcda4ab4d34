"""Every backend equals the torch twin, bit for bit: any shape, dtype, layout and parameters; every byte is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.engine.render import BACKENDS
from tests.support.backends import runnable
from tests.support.bits import BOXES, RESIZES, SINGULAR, WARPS, bits, difference, injected
from tests.support.images import LAYOUTS, batch, ragged
from tests.support.lists import LISTS, cases, channel_counts, random_crops, random_pixels
from tests.support.oracle import FLOATS, ROWS

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ((1, 1), (1, 7), (2, 2), (3, 3))
DTYPES = (torch.uint8, torch.float32, torch.float16, torch.bfloat16)
FORMATS = (torch.contiguous_format, torch.channels_last)
COUNT = 5  # images; the second to last has few levels, the last is flat
TAIL = [FLOATS, ga.RandomErasing(0.5)]
WINDOWS = [(0, 0, 33, 47), (32, 46, 1, 1), (0, 0, 1, 47), (0, 46, 33, 1), (5, 7, 24, 31), (5, 7, 24, 30), (3, 4, 2, 3)]


def unequal(
    steps: list[Any], images: Any, backend: str, change: Callable[[Any], Any] = lambda params: params, **options: Any
) -> str:
    """Empty if `backend` renders a draw as the twin does, else what is different."""
    twin = ga.Augment(steps, backend="torch", **options)
    other = ga.Augment(steps, backend=backend, **options)
    draw = twin.sample(images, index=torch.arange(3, 3 + len(images)))
    draw = replace(draw, params=change(draw.params))
    return difference(other.render(images, draw), twin.render(images, draw))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_bit_is_noticed(dtype: torch.dtype) -> None:
    """The comparison can fail."""
    images = batch("noise", COUNT, 3, (33, 47)).to(dtype)
    assert difference(images.clone(), images) == ""
    assert difference(images.contiguous(memory_format=torch.channels_last), images) != ""
    nudged = images.clone()
    bits(nudged)[3, 1, 20, 30] ^= 1
    assert difference(nudged, images) != ""


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it with a byte: from then on new memory is full of it, so that a value nobody wrote shows."""
    bytes_ = [0]

    def tensor(fresh: Tensor) -> Tensor:
        if fresh.device.type == "cpu":
            torch.tensor([], dtype=torch.uint8).set_(fresh.untyped_storage()).fill_(bytes_[0])
        return fresh

    def array(fresh: Any) -> Any:
        if fresh.flags.c_contiguous and fresh.size:
            fresh.reshape(-1).view(np.uint8)[...] = bytes_[0]
        return fresh

    def poisoned(original: Callable[..., Any], fill: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda *arguments, **named: fill(original(*arguments, **named))

    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, poisoned(getattr(torch, name), tensor))
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(np, name, poisoned(getattr(np, name), array))
    return lambda byte: bytes_.__setitem__(0, byte)


@pytest.fixture(params=[name for name in BACKENDS if name != "torch"])
def other(request: pytest.FixtureRequest) -> str:
    """Each backend but the twin."""
    return runnable(request.param)


@pytest.mark.parametrize("steps", cases())
def test_every_op(steps: list[Any], other: str) -> None:
    for channels in {1, 3, 5} & set(channel_counts(steps)):
        images = batch("noise" if channels % 2 else "photo", COUNT, channels, (33, 47))
        assert unequal(steps, images, other) == "", f"{channels} channels"


@pytest.mark.parametrize("steps", cases())
def test_tiny_images(steps: list[Any], other: str) -> None:
    """From one pixel on; where an op cannot run, both say so."""
    for size in TINY:
        images = batch("noise", 3, channel_counts(steps)[-1], size)
        try:
            ga.Augment(steps, backend="torch", seed=0).sample(images)
        except ValueError:
            continue
        assert unequal(steps, images, other) == "", f"size {size}"


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_filters_of_every_width(channels: int) -> None:
    """Narrower than the vectors, up to two of them and a bit; kernels up to the largest that fits, or 31."""
    runnable("numba")
    for width in range(1, 71):
        height = 1 + (width + channels) % 9
        images = batch("noise", 2, channels, (height, width))
        sizes = [min(31, 2 * side - 1) for side in (width, height)]
        blurs: list[Any] = [
            ga.GaussianBlur((kx, ky), (0.3, 9)) for kx in (1, sizes[0]) for ky in (3, sizes[1]) if ky <= sizes[1]
        ]
        blurs.append(
            ga.MotionBlur(3 + width % 13 // 2 * 2, 180, 1, ["constant", "replicate"][width % 2], "bilinear", p=1)
        )
        for blur in blurs:
            assert unequal([blur], images, "numba") == "", f"{blur} of {height} x {width}"


CROPS = [case for case in cases() if case.values[0][-1].kind == "crop"]


@pytest.mark.parametrize("steps", CROPS)
def test_ragged_images(steps: list[Any], other: str) -> None:
    for channels in {1, 3} & set(channel_counts(steps)):
        images = ragged("noise", channels, [(33, 47), (48, 36), (37, 60)])
        assert unequal([*steps, ga.CenterCrop((30, 31)), *TAIL], images, other) == "", f"{channels} channels"
        flipped = [ga.RandomHorizontalFlip(), *steps, ga.CenterCrop((30, 31))]
        assert unequal(flipped, images, other) == ""


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_dtypes_and_formats(dtype: torch.dtype, memory_format: torch.memory_format, channels: int, other: str) -> None:
    for size in ((33, 47), (32, 64), (1, 1)):
        images = batch("noise", COUNT, channels, size)
        floats = [] if dtype == torch.uint8 else [ga.ToDtype(dtype, scale=True), ga.Normalize((0.45,), (0.225,))]
        for ends in ([ga.RandomErasing(0.8, value=0.25)], [ga.MixUp(num_classes=2)], [ga.CutMix(num_classes=2)]):
            steps = [ga.RandomHorizontalFlip(), ga.RandomSolarize(99), *floats, *ends]
            assert unequal(steps, images, other, memory_format=memory_format) == "", f"{size}, {ends}"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_layouts(layout: str, memory_format: torch.memory_format, channels: int, other: str) -> None:
    images = LAYOUTS[layout](batch("photo", COUNT, channels, (33, 47)))
    before = images.clone()
    crops = (
        [],
        [ga.RandomResizedCrop(24)],
        [ga.RandomCrop(33, 4)],
        [ga.RandomVerticalFlip()],
        [ga.CenterCrop((33, 20))],
    )
    for crop in crops:
        for ends in ([], [FLOATS], [ga.GaussianBlur(3), FLOATS, ga.RandomErasing()]):
            assert unequal([*crop, *ends], images, other, memory_format=memory_format) == "", f"{crop}, {ends}"
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("exact", [True, False])
def test_recipes(name: str, exact: bool, other: str) -> None:
    for size in ((45, 53), (224, 224)):
        assert unequal(LISTS[name], batch("photo", COUNT, 3, size), other, exact=exact) == "", f"size {size}"


@pytest.mark.parametrize("seed", range(30))
def test_random_lists_of_crops(seed: int, other: str) -> None:
    assert unequal([*random_crops(seed), FLOATS], batch("noise", 4, 3, (34, 45)), other, seed=seed) == ""


@pytest.mark.parametrize("seed", range(60))
def test_random_lists_of_pixels(seed: int, other: str) -> None:
    images = batch("photo" if seed % 2 else "noise", 6, 3, (32, 40) if seed % 3 else (31, 37))
    assert unequal(random_pixels(seed), images, other, seed=seed) == ""


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("after", [[], [ga.RandomHorizontalFlip()], [ga.Pad(2), ga.Resize(20), ga.RandomCrop(16)]])
def test_what_is_lowered_to_does_not_depend_on_the_draw(count: int, after: list[Any]) -> None:
    """Choices of crops, which may resample or not, in small batches, where one draw is all there is."""
    crops = [ga.RandomResizedCrop(32, scale=(0.1, 0.9)), ga.CenterCrop(32), ga.RandomCrop(32, 2)]
    augment = ga.Augment([ga.RandomChoice(crops), *after], backend="torch")
    images = batch("noise", count, 3, (48, 40))
    seen = set()
    for number in range(40):
        draw = augment.sample(images, index=torch.arange(count) + 7 * number)
        items = augment.train_pipeline.lower(draw.params, draw.keys, draw.canvas, False, augment.memory_format)
        windows = [getattr(item, "window", None) for item in items]
        seen.add(
            tuple(
                w and (w.size, w.may_resample, w.min_resized, w.is_identity, w.padding_mode, w.interpolation)
                for w in windows
            )
        )
    assert len(seen) == 1


def test_far_strides(other: str) -> None:
    """A sample that spans more bytes than 32 bits count."""
    memory = torch.empty(2**31 + 2**12, dtype=torch.uint8)  # touched only where the images are
    images = memory.as_strided((2, 3, 9, 11), (1, 2**30, 64, 4))
    images.copy_(batch("noise", 2, 3, (9, 11)))
    assert unequal([ga.RandomResizedCrop(8), FLOATS], images, other) == ""


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads(threads: int, other: str) -> None:
    """A batch shared between threads is what one thread makes of it."""
    if other == "triton":
        pytest.skip("has no threads on the host")
    images = batch("photo", 33, 3, (33, 47))
    steps = [
        ga.RandomResizedCrop(32),
        ga.RandAugment(),
        ga.AugMix(),
        FLOATS,
        ga.RandomErasing(),
        ga.MixUp(num_classes=2),
    ]
    augment = ga.Augment(steps, backend=other)
    draw = augment.sample(images, index=torch.arange(33))
    alone = augment.render(images, draw)
    torch.set_num_threads(threads)
    try:
        shared = augment.render(images, draw)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(bits(shared), bits(alone))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "floats", [[], [FLOATS], [ga.ToDtype(torch.bfloat16), ga.RandomErasing(value="random")]], ids=repr
)
def test_mixes(mode: str, count: int, floats: list[Any], other: str) -> None:
    mixes = [ga.MixUp(num_classes=2, mode=mode), ga.CutMix(num_classes=2, mode=mode)]
    for mix in (*mixes, ga.RandomChoice(mixes, p=[0.3, 0.4])):
        assert unequal([*floats, mix], batch("photo", count, 3, (33, 47)), other) == "", repr(mix)


HUGE = 1e7
EXTREMES = [
    *((ga.RandomRotation(1, name), {"degrees": value}) for name in WARPS for value in (0, 90, 180, 45, -270, 1e6)),
    *(
        (ga.RandomAffine(1, interpolation=name, fill=9), {"translate": value})
        for name in WARPS
        for value in (HUGE, -HUGE, 47, -33)
    ),
    *((ga.RandomAffine(1, interpolation=name), {"scale": value}) for name in WARPS for value in (1e-6, 1e6, 1e-30, -1)),
    *(
        (ga.RandomAffine(1, interpolation=name), {"shear": value})
        for name in WARPS
        for value in ([89.9, 0], [0, -89.9], [45, 45])
    ),
    *(
        (ga.RandomPerspective(p=1, interpolation=name, fill=7), {"corners": value})
        for name in WARPS
        for value in SINGULAR
    ),
    *((ga.RandomErasing(1, value=9), {"box": box}) for box in BOXES),
    *(([FLOATS, ga.RandomErasing(1, value="random")], {"box": box}) for box in BOXES),
    *((ga.ColorJitter(hue=0.5), {"hue_factor": value}) for value in (-0.5, 0, 0.5, 1 / 6, -1 / 3, 1e-9)),
    *((ga.ColorJitter(contrast=1), {"contrast_factor": value}) for value in (0, 1, 1e4, 0.5)),
    *((ga.ColorJitter(saturation=1), {"saturation_factor": value}) for value in (0, 1, 1e4, 0.5)),
    *((ga.ColorJitter(brightness=1), {"brightness_factor": value}) for value in (0, 1, 1e30)),
    *((ga.GaussianBlur(size, 1.0), {"sigma": value}) for size in (1, 3, (63, 65), (5, 1)) for value in (1e-3, 1, 1e4)),
    *((ga.JPEG((1, 100)), {"quality": value}) for value in (1, 2, 49, 50, 51, 99, 100)),
    *((ga.RandomResizedCrop((24, 31), interpolation=name), {"box": box}) for name in RESIZES for box in WINDOWS),
    *((ga.RandomResizedCrop((1, 1), interpolation=name), {"box": box}) for name in RESIZES for box in WINDOWS),
    *((ga.AugMix(), {"weights": value}) for value in ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.5])),
    *(([FLOATS, ga.MixUp(num_classes=2)], {"weight": value}) for value in (0, 1, 0.5, 1e-12)),
    *(([FLOATS, ga.CutMix(num_classes=2)], {"weight": value}) for value in (0, 1, 0.5, 1e-12)),
    *(
        (ga.GaussianNoise(mean, sigma, clip), {})
        for mean in (-20, 0, 20)
        for sigma in (0, 20)
        for clip in (True, False)
    ),
    *((ga.RandomAdjustSharpness(factor, 1), {}) for factor in (0, 1, 1e4)),
]


@pytest.mark.parametrize(("steps", "values"), [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in EXTREMES])
def test_extreme_parameters(steps: Any, values: dict[str, Any], other: str) -> None:
    for channels in (3, 1):
        images = batch("noise", 3, channels, (33, 47))
        assert unequal(steps if isinstance(steps, list) else [steps], images, other, injected(**values)) == "", (
            f"{channels} channels"
        )


FIRST = {repr(row.ops[0][-1] if isinstance(row.ops[0], list) else row.ops[0]) for row in ROWS.values()}


@pytest.mark.parametrize("steps", [steps for steps in cases() if steps.id in FIRST])
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_every_byte_is_written(steps: list[Any], backend: str, poison: Callable[[int], None]) -> None:
    """On poisoned memory, and on scratch memory that another batch has used."""
    runnable(backend)
    channels = channel_counts(steps)[-1]
    images, others = (batch(kind, 3, channels, (29, 37)) for kind in ("photo", "noise"))
    augment = ga.Augment(steps, backend=backend)
    draw, another = (augment.sample(images, index=torch.arange(3) + start) for start in (0, 50))
    results = []
    for byte in (0xA5, 0x3C, 0xA5):
        poison(byte)
        results.append(bits(augment.render(images, draw)))
        augment.render(others, another)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
