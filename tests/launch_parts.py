"""What Triton's real launcher is made to launch: lists of steps, images and numbers, compared with the twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import device_lists
import gpu_checks
import torch
import triton
from device_lists import CAPTURED, CASES, Case
from gpu_checks import here, index, there
from helpers import noise
from launch_checks import Watch
from triton import language as tl

import gpuaug as ga

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


def alignments(_: Any = None) -> None:
    """The same shapes from memory that is a multiple of 16 bytes and from memory that is not, in turn."""
    case = Case([ga.RandomInvert(), *device_lists.tail(torch.float16), ga.CutMix(num_classes=7)], "soft")
    images, labels = noise(5, 3, 21, 17), torch.rand(5, 7)
    moved = there([images, labels])
    for number in range(2):
        for rows in (slice(0, 4), slice(1, 5)):
            batch = [images[rows], labels[rows]]
            device = [one[rows] for one in moved]
            expected = case.augment("torch")(*batch, index=index(number))
            assert gpu_checks.same(here(case.augment("triton")(*device, index=index(number))), expected)


def ones(_: Any = None) -> None:
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
    return {
        "numbers": lambda: numbers(watch),
        "alignments": alignments,
        "ones": ones,
        "RandAugment, MixUp": lambda: gpu_checks.equals_the_twin(CASES["RandAugment, MixUp"], "triton"),
        "JPEG": lambda: gpu_checks.equals_the_twin(CASES["JPEG"], "triton"),
        "ragged": lambda: gpu_checks.equals_the_twin(Case([size, *device_lists.tail()], ragged=True), "triton"),
        "streams": lambda: gpu_checks.streams_do_not_disturb_one_another(float16, 2),
        "a stream of its own": lambda: beside(CASES["GaussianBlur"]),
        "a graph": lambda: captured(CASES["GaussianBlur"]),
    }


def everything(watch: Watch) -> dict[str, Callable[[], None]]:
    """All that tests/test_gpu.py runs on a device, but for threads, workers and nvJPEG."""
    from lists import LISTS, cases, channel_counts

    found: dict[str, Callable[[], None]] = {}
    for name, case in CASES.items():
        found[f"list {name}"] = lambda case=case: gpu_checks.equals_the_twin(case, "triton")  # type: ignore[misc]
    for case in cases():
        steps = getattr(case, "values", [case])[0]
        for channels in sorted({1, 3, 5} & set(channel_counts(steps))):
            found[f"op {case.id} of {channels}"] = lambda steps=steps, channels=channels: (  # type: ignore[misc]
                gpu_checks.a_draw_equals_the_twins(steps, noise(2, channels, 33, 47))
            )
    for name in [name for name in LISTS if name not in ("mixed", "half")]:
        found[f"recipe {name}"] = lambda name=name: (  # type: ignore[misc]
            gpu_checks.a_draw_equals_the_twins(LISTS[name], noise(2, 3, 48, 45))
        )
    for shape in gpu_checks.SHAPES[:-1]:
        for way in [(dtype, form, shape) for dtype in gpu_checks.FLOATS for form in gpu_checks.FORMATS]:
            found[f"layout {way}"] = lambda way=way: gpu_checks.every_dtype_layout_and_shape(*way)  # type: ignore[misc]
    for name in CAPTURED:
        found[f"graph {name}"] = lambda name=name: gpu_checks.replays_are_forward(CASES[name])  # type: ignore[misc]
    found["strides"] = gpu_checks.other_strides
    found["loader"] = lambda: gpu_checks.the_loader_gives_the_twins_pixels(0)
    return {**chosen(watch), **found}
