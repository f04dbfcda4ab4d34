"""The Triton backend asks nothing of a device but launches and one copy, the same for every draw; and its pixels are
the twin's. On tensors that claim to be on one: `tests/support/sync_cases.py` runs in a process of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.device_lists import CASES
from tests.support.processes import pretending

RECIPE = ["taps_kernel", "crop_kernel", "finish_kernel"]
POLICY = ["statistics_kernel", "run_fused_kernel", "statistics_kernel"]
WITH_POLICY = ["taps_kernel", "crop_kernel", *POLICY, "finish_kernel"]
MEASURED = {  # MB an image that the launches read and write, 256 x 256 uint8 to 224 x 224 bfloat16; at most this
    "crop, flip": 0.72,
    "RandAugment": 1.02,
    "RandAugment, MixUp": 1.02,
    "ColorJitter": 0.88,
}


@pytest.fixture(scope="module")
def audited() -> dict[str, Any]:
    """What the audit says, from a process that may believe in a GPU."""
    return json.loads(pretending("tests/support/sync_cases.py"))


@pytest.mark.parametrize("name", CASES)
def test_one_copy_up_and_nothing_else(audited: dict[str, Any], name: str) -> None:
    """From the first batch on. Constants go up once, pinned and not waited for; then only the block of parameters."""
    first, later = audited["calls"][name]["first"], audited["calls"][name]["later"]
    assert first["findings"] == []
    assert later["findings"] == []
    assert (later["uploads"], later["downloads"]) == (1, 0)
    assert first["downloads"] == 0
    assert 1 <= first["uploads"] <= 3  # the tables of normals and of JPEG
    others = [one for one in later["launched"] if not one.endswith("_kernel")]
    assert others in ([], ["aten.clone.default"])  # a filter that comes first keeps what the caller gave


@pytest.mark.parametrize("name", CASES)
def test_the_results_are_the_twins(audited: dict[str, Any], name: str) -> None:
    assert audited["calls"][name]["same"] == [True, True]


@pytest.mark.parametrize("name", CASES)
def test_every_draw_launches_the_same(audited: dict[str, Any], name: str) -> None:
    """Kernels, grids, constants, numbers, shapes, strides and dtypes."""
    assert audited["sequences"][name] == 1


def test_images_of_several_sizes(audited: dict[str, Any]) -> None:
    """Pixel steps before the crop: the same launches for each size, one copy up for each and one for the batch."""
    found = audited["by size"]
    later, sizes = found["calls"]["later"], found["sizes"]
    assert found["calls"]["same"] == [True, True]
    assert found["sequences"] == 1
    assert later["findings"] == []
    assert (later["uploads"], later["downloads"]) == (sizes + 1, 0)
    assert later["launched"][-3:] == RECIPE
    before = later["launched"][:-3]
    each = [before[len(before) // sizes * number :][: len(before) // sizes] for number in range(sizes)]
    assert sizes > 2
    assert all(launched == each[0] for launched in each), each
    assert each[0].count("crop_kernel") == 1
    assert each[0][-1] == "aten.copy_.default"


# the images' own is one of them, but for rotated boxes, which are asked alone
UPLOADS = {"masks": 2, "wide masks": 2, "boxes": 2, "rotated boxes": 1, "key points": 4, "objects": 6}


@pytest.mark.parametrize("name", UPLOADS)
def test_targets_ask_nothing_of_the_device(audited: dict[str, Any], name: str) -> None:
    """No wait and no download; masks are one more source of the same kernels, with one copy of parameters."""
    found = audited["targets"][name]
    assert found["same"] == [True, True]
    for call in ("first", "later"):
        assert found[call]["findings"] == []
        assert found[call]["downloads"] == 0
    later = found["later"]
    assert later["uploads"] == UPLOADS[name]
    launched = [one for one in later["launched"] if one.endswith("_kernel")]
    assert launched[:3] == ([] if name == "rotated boxes" else RECIPE)
    masks = {"masks": "run_fused_kernel", "objects": "run_fused_kernel", "wide masks": "finish_kernel"}
    assert launched[3:] == (["taps_kernel", "crop_kernel", masks[name]] if name in masks else [])


def test_launches_of_the_recipes(audited: dict[str, Any]) -> None:
    """At most 3, and at most 8 with RandAugment, MixUp and labels."""
    launched = {name: traffic["launched"] for name, traffic in audited["traffic"].items()}
    assert launched == {
        "crop, flip": RECIPE,
        "RandAugment": WITH_POLICY,
        "RandAugment, MixUp": [*WITH_POLICY, "labels_kernel"],
        "ColorJitter": ["taps_kernel", "crop_kernel", "statistics_kernel", "finish_kernel"],
    }


def test_bytes_of_the_recipes(audited: dict[str, Any]) -> None:
    """The target is 1.8 MB with RandAugment; the least is 0.3 for an uint8 canvas in and 0.3 for the result."""
    moved = {name: traffic["mb_per_image"] for name, traffic in audited["traffic"].items()}
    assert set(moved) == set(MEASURED)
    assert all(0.9 * most < moved[name] <= most for name, most in MEASURED.items()), moved


def test_bytes_of_masks(audited: dict[str, Any]) -> None:
    """A mask of one byte a pixel: two launches, and about a third of the bytes of the canvas of its image."""
    plain, masked = audited["traffic"]["crop, flip"], audited["masked"]
    assert masked["launched"] == [*plain["launched"], "taps_kernel", "crop_kernel"]
    assert 0.05 < masked["mb_per_image"] - plain["mb_per_image"] < 0.1  # 224 x 224 bytes written, what the crop reads


def test_parts_of_images_are_less_to_copy(audited: dict[str, Any]) -> None:
    """`ImageFolder(regions=augment)`: the copy to the device has the parts that the draw reads."""
    found = audited["parts"]
    if found is None:
        pytest.skip("nvImageCodec, which decodes parts, is not installed")
    assert found["parts"] < 0.45 * found["whole"]
    assert found["parts, result"] == found["whole, result"]


def test_faults_are_found(audited: dict[str, Any]) -> None:
    """The tests above can fail: a backend that waits, copies, launches or computes otherwise is told from this one."""
    faults = audited["faults"]
    (text,) = set(faults["item"])
    assert text.startswith(".item() at tests/support/sync_cases.py")
    (text,) = set(faults["pageable"])
    assert text.startswith(
        "asynchronous copy of pageable memory to the device at gpuaug/kernels/triton/runtime/launch.py"
    )
    assert faults["twice"] == 2
    assert faults["nudged"] == [False, False]
    assert faults["skips"] > 1
