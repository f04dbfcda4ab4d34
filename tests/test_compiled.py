"""Ahead of time: every kernel compiles for real GPUs, without spills, and with exact arithmetic only."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch
from compiled import AMD, NVIDIA, Launch, launches, recompiled, resources
from limits import allowed
from lists import cases, channel_counts

import gpuaug as ga

pytestmark = pytest.mark.usefixtures("one_thread")

FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.45,), (0.225,))]
HALF = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize((0.45,), (0.225,))]
START = [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip()]
MIX = ga.RandomChoice([ga.MixUp(num_classes=1000), ga.CutMix(num_classes=1000)])

# what people run: name -> list, (height, width) of the images
RECIPES = {
    "imagenet": ([*START, *HALF], (256, 256)),
    "randaugment": ([*START, ga.RandAugment(), *HALF, ga.RandomErasing(0.1), MIX], (256, 256)),
    "randaugment bilinear": ([*START, ga.RandAugment(interpolation="bilinear", fill=128), *FLOATS], (256, 256)),
    "jitter": ([*START, ga.ColorJitter(0.4, 0.4, 0.4, 0.1), *FLOATS], (256, 256)),
    "autoaugment": ([*START, ga.AutoAugment(), *HALF], (256, 256)),
    "trivial": ([*START, ga.TrivialAugmentWide(), *HALF, ga.RandomErasing(value="random")], (256, 256)),
    "augmix": ([*START, ga.AugMix(), *FLOATS], (256, 256)),
    "cifar": ([ga.RandomHorizontalFlip(), ga.RandomCrop(32, 4), *FLOATS], (32, 32)),
    "cifar randaugment": ([ga.RandomCrop(32, 4, padding_mode="reflect"), ga.RandAugment(), *HALF, MIX], (32, 32)),
    "simclr": (
        [
            *START,
            ga.RandomApply([ga.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            ga.RandomGrayscale(0.2),
            ga.GaussianBlur(23),
            *HALF,
        ],
        (256, 256),
    ),
    "bicubic": (
        [ga.RandomAffine(20, interpolation="bicubic"), ga.RandomPerspective(interpolation="bicubic")],
        (224, 224),
    ),
    "levels": ([*START, ga.RandAugment()], (256, 256)),
    "rough": ([ga.GaussianNoise(), ga.JPEG((20, 90)), ga.MotionBlur(5, 40.0, 0.0), *HALF], (224, 224)),
    "evaluation": ([ga.Resize(256), ga.CenterCrop(224), *HALF], (300, 400)),
}

# kernels that may take more than 64 registers, how many, and why
MORE = {
    "tone_kernel": (128, "512 threads of 128 registers fill the register file of one multiprocessor"),
    "bilinear": (104, "four taps of three channels for four pixels at once"),
    "bicubic": (168, "the coefficients of four pixels stay in registers over sixteen taps"),
    "convolve": (80, "three sums and an index for four pixels, over a loop"),
    "crop_kernel": (72, "sums of three channels for four pixels; only sm_100 takes more than 64"),
    "finish_kernel": (
        80,
        "half the pixels a thread would fit, and cost 40 % more instructions: 154 against 108 thousand",
    ),
    "random": (96, "as finish, with the four counters of Philox"),
    "mix": (72, "one's own values wait while the partner's are made"),
}


INEXACT = re.compile(r"\.approx|div\.full|sin\.|cos\.|ex2\.|lg2\.")


def bound(launch: Launch) -> int:
    may = launch.constants.get("MAY", 0)
    kinds = [kind for kind, bit in (("convolve", 13), ("bilinear", 24), ("bicubic", 25)) if may >> bit & 1]
    kinds += [name for name, constant in (("mix", "MIX"), ("random", "RANDOM")) if launch.constants.get(constant)]
    return max([64, *(MORE[kind][0] for kind in [launch.name, *kinds] if kind in MORE)])


@cache
def compiled(name: str, target: str) -> list[Launch]:
    steps, (height, width) = RECIPES[name]
    images = torch.zeros((1, 1, 1, 1), dtype=torch.uint8).expand(4, 3, height, width)
    labels = torch.zeros(4, dtype=torch.int64)
    found = launches(steps, images.contiguous(), AMD if target == "amd" else NVIDIA(int(target)), labels)
    return list({launch.kernel.hash: launch for launch in found}.values())


@pytest.mark.parametrize("capability", [75, 80, 90, 100])
@pytest.mark.parametrize("name", RECIPES)
def test_cubin(name: str, capability: int) -> None:
    for launch in compiled(name, str(capability)):
        used = resources(launch.kernel)
        spilled = allowed("stack", launch.name, capability)
        assert max(used["stack"], used["local"]) <= spilled, f"{launch.id} spills: {used}"
        registers = max(bound(launch), allowed("registers", launch.name, capability))
        assert used["registers"] <= registers, f"{launch.id}: {used}"


@pytest.mark.parametrize("name", RECIPES)
def test_hsaco(name: str) -> None:
    for launch in compiled(name, "amd"):
        text = launch.kernel.asm["amdgcn"]
        # scalar registers may spill, into lanes of vector registers; vector registers would spill into memory
        assert re.findall(r"\.vgpr_spill_count:\s+(\d+)", text) == ["0"], launch.id
        assert launch.kernel.asm["hsaco"]


@pytest.mark.parametrize("name", RECIPES)
def test_arithmetic_is_exact(name: str) -> None:
    """No approximation, and no multiply-add that the kernel did not ask for."""
    for launch in compiled(name, "80"):
        ptx, constants = launch.kernel.asm["ptx"], launch.constants
        assert not INEXACT.findall(ptx), launch.id
        assert "contract" not in launch.kernel.asm["llir"], launch.id
        asked = launch.kernel.asm["ttir"].count("math.fma")
        pixels = constants.get("BH", 1) * constants.get("BW", 1) // (32 * launch.kernel.metadata.num_warps)
        assert len(re.findall(r"\bfma\.", ptx)) <= asked * max(pixels, 1), launch.id


# stores of a byte: tables of a sample, and blocks of 8 x 8 pixels, which lie eight bytes in a row
NARROW = ("tone_kernel", "jpeg_code_kernel")


@pytest.mark.parametrize("name", RECIPES)
def test_stores_are_wide(name: str) -> None:
    for launch in compiled(name, "80"):
        if launch.name not in NARROW:
            stores = re.findall(r"st\.global(?:\.\w+)*", launch.kernel.asm["ptx"])
            widths = {
                int(s[s.rindex("b") + 1 :]) * (int(v[1]) if (v := re.search(r"\.v(\d)", s)) else 1) for s in stores
            }
            assert min(widths) >= 32, f"{launch.id}: {stores}"


@pytest.mark.parametrize("name", RECIPES)
def test_shared_memory(name: str) -> None:
    """Only where threads exchange something: reductions, histograms, DCT blocks, taps for stores of four at a time."""
    most = {"tone_kernel": 4096, "jpeg_code_kernel": 4096, "taps_kernel": 1024}
    for launch in compiled(name, "90"):
        bicubic = launch.constants.get("MAY", 0) >> 25 & 1  # its loop keeps another layout: one exchange at its end
        limit = most.get(launch.name, 2048 if bicubic else 128 if launch.name == "finish_kernel" else 0)
        assert launch.kernel.metadata.shared <= max(limit, allowed("shared", launch.name, 90)), launch.id


def test_limits_are_those_of_the_version() -> None:
    """What one version needs is not allowed to another, nor to other kernels and GPUs."""
    assert allowed("registers", "taps_kernel", 75, (3, 6)) == 66
    assert allowed("registers", "taps_kernel", 75, (3, 7)) == 0
    assert allowed("registers", "taps_kernel", 80, (3, 6)) == 0
    assert allowed("shared", "crop_kernel", 90, (3, 6)) == 512
    assert allowed("shared", "finish_kernel", 90, (3, 6)) == 0


def test_gates_can_fail() -> None:
    """A spill, a fused multiply-add and an approximate division are seen where they are."""
    finish = next(one for one in compiled("randaugment", "80") if one.name == "finish_kernel")
    saturation = 3 * 2  # of the multiplications that an addition follows, some in each channel

    def again(**options: object) -> Any:
        return recompiled(finish, NVIDIA(80), **options)

    cramped = resources(again(maxnreg=24, enable_fp_fusion=False))
    assert cramped["stack"] or cramped["local"]
    fused, apart = (again(enable_fp_fusion=fusion).asm["ptx"].count("fma.rn.f32") for fusion in (True, False))
    assert fused >= apart + saturation
    assert INEXACT.findall("div.full.f32 %f1, %f2, %f3;")
    assert INEXACT.findall("ex2.approx.ftz.f32 %f1, %f2;")


@pytest.mark.parametrize("steps", cases())
def test_every_op_compiles(steps: list[object]) -> None:
    """In every channel count it takes, for odd sizes, one row and one column too; spills would show."""
    for channels in {1, 3, 5} & set(channel_counts(steps)):
        images = torch.zeros((2, channels, 33, 47), dtype=torch.uint8)
        for launch in launches(steps, images, NVIDIA(90)):
            used = resources(launch.kernel)
            assert used["stack"] == used["local"] == 0, launch.id


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_every_result_compiles(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    for size in ((32, 48), (1, 1), (7, 1)):
        steps = [ga.RandomInvert(), ga.ToDtype(dtype, scale=True)] if dtype.is_floating_point else [ga.RandomInvert()]
        images = torch.zeros((2, 3, *size), dtype=torch.uint8)
        assert launches(steps, images, NVIDIA(90), memory_format=memory_format)
