"""`Augment.capture`: a CUDA graph gives what `forward` gives, bit for bit, and asks the device for two or three copies.

Graphs are faked (`benchmarks/evidence/pseudograph.py`): a capture writes launches down with the memory they use, a
replay runs them in Triton's interpreter. `tests/support/capture_cases.py` does it in a process of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import gpuaug as ga
from tests.support.device_lists import BATCHES, CAPTURED, CASES
from tests.support.processes import pretending

REFUSED = "operation not permitted when stream is capturing"

CAPTURES = {  # what cannot be captured: what is said
    "ragged": "`images` must be uint8 (B, C, H, W) to capture, got Ragged.",
    "opaque": "`train` must be of gpuaug's own pixel transforms to capture",
    "one channel": "`eval` must be of gpuaug's own pixel transforms to capture",
    "images on the CPU": "`images` must be on a CUDA device to capture, got on cpu.",
    "labels on the CPU": "`labels` must be a Tensor on cuda:0, as the images, to capture, got int64 (4,) on cpu.",
    "labels of another kind": "`labels` must be a Tensor on cuda:0, as the images, to capture, got [0, 1, 2, 3].",
    "no labels": "the pipeline mixes labels (MixUp), but no labels were given.",
    "floats": "`images` must be uint8 (B, C, H, W), clips (B, T, C, H, W) or Ragged, got float32",
    "another backend": "`backend` must be \"triton\" to capture, got 'torch'.",
}
HERE = "uint8 (4, 3, 40, 36) on cuda:0, as captured"
CALLS = {  # what a graph cannot take: what is said
    "another shape": f"`images` must be {HERE}, got uint8 (4, 3, 39, 36) on cuda:0.",
    "fewer": f"`images` must be {HERE}, got uint8 (2, 3, 40, 36) on cuda:0.",
    "floats": "`images` must be uint8 (B, C, H, W), clips (B, T, C, H, W) or Ragged, got float32",
    "images on the CPU": f"`images` must be {HERE}, got uint8 (4, 3, 40, 36) on cpu.",
    "ragged": f"`images` must be {HERE}, got Ragged(B=4",
    "no labels": "the pipeline mixes labels (MixUp), but no labels were given.",
    "soft labels": "`labels` must be int64 (4,) on cuda:0, as captured, got float32 (4, 7) on cuda:0.",
    "labels on the CPU": "`labels` must be int64 (4,) on cuda:0, as captured, got int64 (4,) on cpu.",
    "labels that were not captured": "`labels` must be None, as captured, got int64 (4,) on cuda:0.",
    "bad index": "`index` must be int64 (4,), one number for each image, got int64 (3,).",
    "another mode": "`mode` must be train, as captured, got eval.",
    "another list": "the list, its dtype, `exact` or `memory_format` changed after the capture.",
    "more classes": "`num_classes` must be 7, as captured, got 11.",
    "another layout": "the list, its dtype, `exact` or `memory_format` changed after the capture.",
    "a failure": "the device failed",
}


@pytest.fixture(scope="module")
def done() -> dict[str, Any]:
    """What happened, in a process that may believe in a GPU."""
    return json.loads(pretending("tests/support/capture_cases.py"))


@pytest.mark.parametrize("name", CAPTURED)
def test_replays_are_forward_bit_for_bit(done: dict[str, Any], name: str) -> None:
    """Other batches, other draws."""
    assert done["replays"][name]["same"] == [True] * BATCHES


@pytest.mark.parametrize("name", CAPTURED)
def test_a_call_copies_parameters_images_and_labels(done: dict[str, Any], name: str) -> None:
    """One upload, a copy on the device for images and one for labels, and the replay: nothing else."""
    copies = ["aten.copy_.default"] * (2 if CASES[name].labels else 1)
    assert done["replays"][name]["asks"] == [[[], 1, copies]] * BATCHES


@pytest.mark.parametrize("name", CAPTURED)
def test_a_capture_uses_up_no_draw(done: dict[str, Any], name: str) -> None:
    assert done["replays"][name]["state"] == {"epoch": 0, "counter": 0}


@pytest.mark.parametrize("name", ["RandAugment, MixUp", "evaluation"])
def test_counters_and_epochs_are_those_of_forward(done: dict[str, Any], name: str) -> None:
    assert done["counters"][name] == [[True, True]] * 3


def test_a_graph_goes_on_with_a_weaker_list(done: dict[str, Any]) -> None:
    """As a warm-up of strength needs it: the launches are the same."""
    assert done["weaker"] == [True] * 3


def test_inference_mode_makes_no_difference(done: dict[str, Any]) -> None:
    """Captured inside and called outside, the other way round, and so on; the results are plain tensors."""
    assert len(done["inference"]) == 4
    assert set(map(tuple, done["inference"].values())) == {(True, True)}, done["inference"]


def test_what_cannot_be_captured_is_said_clearly(done: dict[str, Any]) -> None:
    said = done["refused captures"]
    assert said.pop("nothing wrong") == "nothing"
    assert set(said) == set(CAPTURES)
    for name, text in CAPTURES.items():
        assert said[name].startswith(f"ValueError: Augment: {text}"), said[name]


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call_says_so_and_changes_nothing(done: dict[str, Any], name: str) -> None:
    """And the next call is right."""
    said, kept, right = done["refused calls"][name]
    assert CALLS[name] in said
    assert (kept, right) == (True, True)


def test_every_bad_call_is_expected(done: dict[str, Any]) -> None:
    assert set(done["refused calls"]) == set(CALLS)


def test_faults_are_found(done: dict[str, Any]) -> None:
    """The tests above can fail: a graph that is not right is told from one that is."""
    faults = done["faults"]
    assert faults["right"]
    assert [faults[name] for name in ("a launch less", "old images", "old parameters")] == [False] * 3
    assert "uses memory that was given back" in faults["memory given back"]


def test_the_fake_is_as_strict_as_a_device(done: dict[str, Any]) -> None:
    faults = done["faults"]
    assert {faults[name] for name in ("item", "upload", "wait")} == {f"RuntimeError: {REFUSED}"}
    assert "nothing was captured" in faults["nothing captured"]
    rubbish, *values = faults["twice"]
    assert values == [4.0, 10.0]
    assert rubbish not in values


def test_without_a_device_a_capture_says_what_it_needs() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"`images` must be on a CUDA device to capture, got on cpu\. Move them"):
        ga.Augment([ga.RandomInvert()]).capture(images)
