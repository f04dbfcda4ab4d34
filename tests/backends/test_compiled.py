"""Ahead of time: every kernel compiles for real GPUs, without spills, and with exact arithmetic only."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import triton

import gpuaug as ga
from benchmarks.evidence.compiled import AMD, NVIDIA, Launch, distinct, launches, recompiled, resources
from benchmarks.evidence.occupancy import occupancy
from gpuaug.instructions import Feature, bits
from tests.support.lists import cases, channel_counts
from tests.support.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("one_thread")

# Which code is measured: that of Triton 3.6, which torch 2.11 brings, and that of the newest, are not alike.
VERSION = "3.6" if triton.__version__.startswith("3.6.") else "newest"
REGISTERS = 64  # of a thread: half the warps of a multiprocessor
# what may take more where, how many, and why; `test_half_the_warps_fit` allows none on sm_80 and sm_90
MORE: dict[str, dict[tuple[str, int], tuple[int, str]]] = {
    "3.6": {("taps_kernel", 75): (66, "float64, and 28 of 32 warps fit all the same")},
    "newest": {
        ("finish_kernel", 75): (66, "28 of 32 warps fit all the same"),
        ("crop_kernel", 100): (72, "sums of three channels for four pixels; 28 of 64 warps fit"),
    },
}
# bytes of stack of a thread where, and why; none else
SPILLS: dict[str, dict[tuple[str, int], tuple[int, str]]] = {
    "3.6": {
        **{
            ("statistics_kernel", capability): (24, "AugMix: six registers wait until the loop over the image is over")
            for capability in (75, 80, 90, 100)
        },
    },
    "newest": {},
}
# bytes of shared memory of a program; none else: where threads exchange something
SHARED: dict[str, dict[str, tuple[int, str]]] = {
    version: {
        "statistics_kernel": (1024, "256 counts"),
        "jpeg_code_kernel": (1024, "DCT blocks"),
        "taps_kernel": (1024, "a chunk of taps, for stores of four at a time"),
        "finish_kernel": (128, "whether any pixel of the tile is erased or pasted"),
    }
    for version in ("3.6", "newest")
}
WARPS = 0.5  # of a multiprocessor's, at least


INEXACT = re.compile(r"\.approx|div\.full|sin\.|cos\.|ex2\.|lg2\.")


def limit(table: dict[str, dict[Any, tuple[int, str]]], key: object, least: int = 0) -> int:
    """What `table` allows this Triton for `key`."""
    return table[VERSION].get(key, (least, ""))[0]


@cache
def compiled(name: str, target: str) -> list[Launch]:
    return distinct(*RECIPES[name], AMD if target == "amd" else NVIDIA(int(target)))


@pytest.mark.parametrize("capability", [75, 80, 90, 100])
@pytest.mark.parametrize("name", RECIPES)
def test_cubin(name: str, capability: int) -> None:
    for launch in compiled(name, str(capability)):
        used = resources(launch.kernel)
        assert used["stack"] + used["local"] <= limit(SPILLS, (launch.name, capability)), f"{launch.id} spills: {used}"
        assert used["registers"] <= limit(MORE, (launch.name, capability), REGISTERS), f"{launch.id}: {used}"


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", RECIPES)
def test_half_the_warps_fit(name: str, capability: int) -> None:
    for launch in compiled(name, str(capability)):
        used = resources(launch.kernel)
        found = occupancy(capability, used["threads"], used["registers"], used["shared"])
        assert found.share >= WARPS, f"{launch.id}: {used}, {found}"


@pytest.mark.parametrize("name", RECIPES)
def test_threads_go_along_rows(name: str) -> None:
    """Down the columns, a warp would read from sixteen rows at once, and exchange all pixels before it stores them."""
    for launch in compiled(name, "90"):
        assert "order = [0, 1]" not in launch.kernel.asm["ttgir"], launch.id


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
NARROW = ("statistics_kernel", "jpeg_code_kernel")


@pytest.mark.parametrize("name", RECIPES)
def test_stores_are_wide(name: str) -> None:
    for launch in compiled(name, "80"):
        if launch.name not in NARROW:
            stores = re.findall(r"st\.global(?:\.\w+)*", launch.kernel.asm["ptx"])
            widths = {
                int(s[s.rindex("b") + 1 :]) * (int(v[1]) if (v := re.search(r"\.v(\d)", s)) else 1) for s in stores
            }
            assert min(widths) >= narrow(launch), f"{launch.id}: {stores}"


def narrow(launch: Launch) -> int:
    """Bits of the narrowest store: of four pixels, but what reads many taps has registers for two or one."""
    may = launch.constants.get("MAY", 0)
    if may & bits([Feature.BICUBIC]):
        return 8
    return 16 if may & bits([Feature.BILINEAR]) and launch.name == "run_fused_kernel" else 32


@pytest.mark.parametrize("name", RECIPES)
def test_shared_memory(name: str) -> None:
    for launch in compiled(name, "90"):
        assert launch.kernel.metadata.shared <= limit(SHARED, launch.name), launch.id


def test_gates_can_fail() -> None:
    """A spill, few warps, a fused multiply-add and an approximate division are seen where they are."""
    finish = next(one for one in compiled("randaugment", "80") if one.name == "finish_kernel")
    saturation = 3 * 2  # of the multiplications that an addition follows, some in each channel

    def again(**options: object) -> Any:
        return recompiled(finish, NVIDIA(80), **options)

    cramped = resources(again(maxnreg=24, enable_fp_fusion=False))
    assert cramped["stack"] or cramped["local"]
    large = replace(finish, constants={**finish.constants, "BH": 32, "BW": 64})  # sixteen pixels a thread
    free = resources(recompiled(large, NVIDIA(80), enable_fp_fusion=False))
    assert occupancy(80, free["threads"], free["registers"], free["shared"]).share < WARPS
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
            assert used["stack"] + used["local"] <= limit(SPILLS, (launch.name, 90)), launch.id


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_every_result_compiles(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    for size in ((32, 48), (1, 1), (7, 1)):
        steps = [ga.RandomInvert(), ga.ToDtype(dtype, scale=True)] if dtype.is_floating_point else [ga.RandomInvert()]
        images = torch.zeros((2, 3, *size), dtype=torch.uint8)
        assert launches(steps, images, NVIDIA(90), memory_format=memory_format)
