"""What Triton's real launcher is made to launch: lists of steps, images and numbers, compared with the twin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch
import triton
from triton import language as tl

import gpuaug as ga
from tests.support import device_lists, gpu_checks
from tests.support.device_lists import CAPTURED, CASES, Case
from tests.support.gpu_checks import here, index, there
from tests.support.helpers import noise
from tests.support.launch_checks import Watch

__all__ = ["alignments", "chosen", "everything", "numbers", "numbers_kernel"]


@triton.jit
def numbers_kernel(out, small, large, one, N: tl.constexpr):  # noqa: N803
    """out: (N,) int64, to which small + large * one is added."""
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(out + at) + small + large.to(tl.int64) * one)


def numbers(watch: Watch) -> None:
    """Numbers that are 1, negative, multiples of 16 and beyond 32 bits, and memory that is aligned or not."""
    memory, host = torch.zeros(9, dtype=torch.int64, device="cuda"), torch.zeros(9, dtype=torch.int64)
    for turn in range(2):
        before = watch.report.launches - watch.report.fast
        for start in (0, 1):
            for small, large, one in (
                (5, 7, 3),
                (16, 2**40 + 3, 1),
                (1, -(2**33), 3),
                (-7, 2**31, 2),
                (2**31 - 1, 7, 5),
            ):
                watch.launch(numbers_kernel, (1,), memory[start : start + 8], small, large, one, N=8, num_warps=1)
                host[start : start + 8] += small + large * one
        assert turn == 0 or watch.report.launches - watch.report.fast == before, "a second launch went through the JIT"
    if watch.execute:
        assert torch.equal(memory.cpu(), host)


def alignments() -> None:
    """The same shapes from memory that is a multiple of 16 bytes and from memory that is not, in turn."""
    case = Case([ga.RandomInvert(), *device_lists.tail(torch.float16), ga.CutMix(num_classes=7)], "soft")
    images, labels = noise(5, 3, 21, 17), torch.rand(5, 7)
    moved = there([images, labels])
    augment, twin = case.augment("triton"), case.augment("torch")
    for number in range(3):  # compiled, noted, repeated
        for rows in (slice(0, 4), slice(1, 5)):
            batch = [images[rows], labels[rows]]
            device = [one[rows] for one in moved]
            expected = twin(*batch, index=index(number))
            assert gpu_checks.same(here(augment(*device, index=index(number))), expected)


def ones() -> None:
    """Batches, channels, sides that are 1, for which Triton compiles anew, after others and before them."""
    for _ in range(2):
        for shape in ((2, 1, 2, 5), (1, 1, 1, 5), (2, 1, 5, 1), (2, 1, 2, 5)):
            gpu_checks.a_draw_equals_the_twins(
                [ga.RandomInvert(), ga.ToDtype(torch.float32, scale=True)], noise(*shape)
            )


def captured(case: Case) -> None:
    """A graph, whose launches were checked when it was captured."""
    graph, twin = case.augment("triton").capture(*there(case.batch())), case.augment("torch")
    for number in range(2):
        batch = case.batch(seed=number)
        assert gpu_checks.same(here(graph(*there(batch))), twin(*batch)), f"batch {number}"


def beside(case: Case) -> None:
    """On a stream of its own."""
    with torch.cuda.stream(torch.cuda.Stream()):
        gpu_checks.equals_the_twin(case, "triton")


def chosen(watch: Watch) -> dict[str, Callable[[], None]]:
    """Every kernel, both ways of a launch, two streams, a graph: what CI runs."""
    size = ga.RandomResizedCrop(24)
    float16 = Case([size, ga.RandomHorizontalFlip(), *device_lists.tail(torch.float16)])
    equal = gpu_checks.equals_the_twin
    return {
        "numbers": partial(numbers, watch),
        "alignments": alignments,
        "ones": ones,
        "RandAugment, MixUp": partial(equal, CASES["RandAugment, MixUp"], "triton"),
        "JPEG": partial(equal, CASES["JPEG"], "triton"),
        "elastic": partial(equal, CASES["elastic"], "triton"),
        "ragged": partial(equal, Case([size, *device_lists.tail()], ragged=True), "triton"),
        "streams": partial(gpu_checks.streams_do_not_disturb_one_another, float16, 2),
        "a stream of its own": partial(beside, CASES["GaussianBlur"]),
        "a graph": partial(captured, CASES["GaussianBlur"]),
    }


def everything(watch: Watch) -> dict[str, Callable[[], None]]:
    """All that tests/backends/test_gpu.py runs on a device, but for threads, workers and nvJPEG; where nothing is
    executed with all images and at real sizes as well."""
    from tests.support.lists import LISTS, cases, channel_counts

    draw, count, shapes = gpu_checks.a_draw_equals_the_twins, 2, gpu_checks.SHAPES[:-1]
    found: dict[str, Callable[[], None]] = {}
    if not watch.execute:
        count, shapes = 5, gpu_checks.SHAPES
        found |= at_real_sizes()
    for name, case in CASES.items():
        found[f"list {name}"] = partial(gpu_checks.equals_the_twin, case, "triton")
    for case in cases():
        for channels in sorted({1, 3, 5} & set(channel_counts(*case.values))):
            found[f"op {case.id} of {channels}"] = partial(draw, *case.values, noise(count, channels, 33, 47))
    for name in [name for name in LISTS if name not in ("mixed", "half")]:
        found[f"recipe {name}"] = partial(draw, LISTS[name], noise(count, 3, 48, 45))
    for way in product(gpu_checks.FLOATS, gpu_checks.FORMATS, shapes):
        found[f"layout {way}"] = partial(gpu_checks.every_dtype_layout_and_shape, *way)
    for name in CAPTURED:
        found[f"graph {name}"] = partial(gpu_checks.replays_are_forward, CASES[name])
    found["strides"] = gpu_checks.other_strides
    found["loader"] = partial(gpu_checks.the_loader_gives_the_twins_pixels, 0)
    return {**chosen(watch), **found}


def at_real_sizes() -> dict[str, Callable[[], None]]:
    """The recipes from images of 256 x 256 and of many sizes to 224 x 224, for what is only compiled."""
    images = noise(2, 3, 256, 256)
    pixels = [ga.RandAugment(2, 9)], [ga.TrivialAugmentWide()], [ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]
    simclr = [ga.RandomApply([ga.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8), ga.RandomGrayscale(0.2)]
    simclr += [ga.RandomApply([ga.GaussianBlur(23, (0.1, 2.0))], 0.5)]
    mixes = [], [ga.MixUp(num_classes=1000)], [ga.CutMix(num_classes=1000)]
    found: dict[str, Callable[[], None]] = {}
    for middle, mix in product(([], *pixels, simclr), mixes):
        for dtype, form in product((torch.bfloat16, torch.float32), gpu_checks.FORMATS):
            steps = [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip(), *middle, *device_lists.tail(dtype), *mix]
            augment = ga.Augment(steps, backend="triton", memory_format=form)
            batches = there([images, ga.Ragged.from_images(list(images))])
            labels = there([torch.tensor([3, 5])]) if mix else []

            def call(augment: Any = augment, batches: Any = batches, labels: Any = labels) -> None:
                for batch in batches:
                    augment(batch, *labels)

            found[f"at 224 {steps} {form}"] = call
    return found
