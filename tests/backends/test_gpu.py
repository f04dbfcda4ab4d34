"""On a CUDA device: compiled kernels give the twin's bits, nothing waits, graphs replay, streams and threads do not
disturb one another. Skipped without one; then the checks are only rehearsed, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import gpuaug as ga
from tests.support import gpu_checks
from tests.support.device_lists import CAPTURED, CASES
from tests.support.helpers import noise
from tests.support.lists import LISTS, cases, channel_counts
from tests.support.processes import ENVIRONMENT, python

CUDA = torch.cuda.is_available()


def gpu(test: Any) -> Any:
    return pytest.mark.gpu(pytest.mark.skipif(not CUDA, reason="needs a CUDA device")(test))


@gpu
def test_kernels_are_compiled() -> None:
    from gpuaug.engine.backends import choose, interpreted

    assert not interpreted()
    assert choose("auto", torch.device("cuda")) == "triton"


def needs(steps: list[Any]) -> None:
    """Skip the test if the list needs what is not installed."""
    if any(isinstance(step, ga.MotionBlur) for step in steps):
        pytest.importorskip("kornia", reason="Kornia, which MotionBlur needs, is not installed")


@gpu
@pytest.mark.parametrize("name", CASES)
def test_lists_equal_the_twin(name: str) -> None:
    needs(CASES[name].steps)
    gpu_checks.equals_the_twin(CASES[name])


@gpu
@pytest.mark.parametrize("steps", cases())
def test_every_op_equals_the_twin(steps: list[Any]) -> None:
    needs(steps)
    for channels in {1, 3, 5} & set(channel_counts(steps)):
        gpu_checks.a_draw_equals_the_twins(steps, noise(5, channels, 33, 47))


@gpu
@pytest.mark.parametrize("name", [name for name in LISTS if name not in ("mixed", "half")])
def test_recipes_equal_the_twin(name: str) -> None:
    gpu_checks.a_draw_equals_the_twins(LISTS[name], noise(5, 3, 48, 45))


@gpu
@pytest.mark.parametrize("shape", gpu_checks.SHAPES, ids=str)
@pytest.mark.parametrize("memory_format", gpu_checks.FORMATS, ids=str)
@pytest.mark.parametrize("dtype", gpu_checks.FLOATS, ids=str)
def test_every_dtype_layout_and_shape(dtype: Any, memory_format: Any, shape: Any) -> None:
    gpu_checks.every_dtype_layout_and_shape(dtype, memory_format, shape)


@gpu
def test_images_of_other_strides() -> None:
    gpu_checks.other_strides()


@gpu
@pytest.mark.parametrize("name", CASES)
def test_forward_does_not_wait(name: str) -> None:
    needs(CASES[name].steps)
    gpu_checks.does_not_wait(CASES[name])


@gpu
@pytest.mark.parametrize("name", ["masks", "wide masks", "boxes", "rotated boxes", "key points", "objects"])
def test_targets_follow(name: str) -> None:
    gpu_checks.targets_follow(name)


@gpu
def test_waiting_is_noticed() -> None:
    """The test above can fail."""
    value = torch.ones(3, device="cuda").sum()
    with gpu_checks.no_sync(), pytest.raises(RuntimeError, match="synchroniz"):
        value.item()


@gpu
@pytest.mark.parametrize("name", CAPTURED)
def test_graphs_replay_forward(name: str) -> None:
    gpu_checks.replays_are_forward(CASES[name])


@gpu
@pytest.mark.parametrize("name", ["RandAugment, MixUp", "RandomErasing", "JPEG"])
def test_replays_behind_a_busy_device(name: str) -> None:
    gpu_checks.replays_behind_a_busy_device(CASES[name])


@gpu
@pytest.mark.parametrize("name", ["crop, flip", "RandAugment, MixUp"])
def test_a_capture_on_the_users_stream(name: str) -> None:
    gpu_checks.a_capture_on_the_users_stream(CASES[name])


@gpu
def test_captures_in_inference_mode() -> None:
    gpu_checks.captures_in_inference_mode(CASES["RandAugment, MixUp"])


@gpu
@pytest.mark.parametrize("ragged", [False, True], ids=["batch", "ragged"])
def test_beyond_32_bits(ragged: bool) -> None:
    gpu_checks.beyond_32_bits(ragged)


@gpu
@pytest.mark.parametrize("name", ["RandAugment, MixUp", "RandomErasing", "JPEG"])
def test_streams_do_not_disturb_one_another(name: str) -> None:
    gpu_checks.streams_do_not_disturb_one_another(CASES[name])


@gpu
@pytest.mark.parametrize("name", ["RandAugment, MixUp", "RandomErasing", "JPEG"])
def test_threads_do_not_disturb_one_another(name: str) -> None:
    gpu_checks.threads_do_not_disturb_one_another(CASES[name])


@gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_twins_pixels(workers: int) -> None:
    gpu_checks.the_loader_gives_the_twins_pixels(workers)


@gpu
@pytest.mark.parametrize("name", ["ragged", "RandAugment, MixUp"])
def test_pinned_batches(name: str) -> None:
    gpu_checks.pinned_batches(CASES[name])


@gpu
def test_pinned_batches_keep_their_segments() -> None:
    gpu_checks.pinned_batches_keep_their_segments()


@gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_decodes_on_the_device(workers: int) -> None:
    gpu_checks.a_loader_decodes_on_the_device(workers)


@gpu
def test_jpegs_are_decoded_on_the_device() -> None:
    gpu_checks.jpegs_are_decoded_on_the_device()


# What a machine that is lent for its GPU may lack
MISSING = "kornia,kornia_rs,pydantic,ray,torchdata,playwright,axe_playwright_python,jsonschema"


def test_without_kornia_and_others_the_tests_are_found_and_run() -> None:
    """All that need a device, from all files; and MotionBlur says what it lacks."""
    found = python("tests/support/without.py", MISSING, "-m", "gpu", "--collect-only", "-p", "no:cacheprovider", "-q")
    here = {line.partition(": ")[0]: int(line.partition(": ")[2]) for line in found.split("\n") if ": " in line}
    assert here["tests/backends/test_gpu.py"] > 250
    assert here["tests/data/test_encoded.py"] == 1
    code = "import gpuaug as ga, torch; x = torch.zeros(2, 3, 9, 9, dtype=torch.uint8)\n"
    code += "print(ga.Augment([ga.RandAugment()])(x).shape)\nga.Augment([ga.MotionBlur(3, 0, 0)], backend='torch')(x)"
    hide = f"import sys; sys.modules.update(dict.fromkeys({MISSING.split(',')!r}))\n"
    said = subprocess.run([sys.executable, "-c", hide + code], env=ENVIRONMENT, capture_output=True, text=True)
    assert said.stdout == "torch.Size([2, 3, 9, 9])\n", said.stderr
    assert "ModuleNotFoundError: MotionBlur: its weights come from Kornia" in said.stderr
    assert 'Run pip install "kornia>=0.8".' in said.stderr


@pytest.mark.skipif(CUDA, reason="there is a CUDA device: the checks themselves run")
def test_the_checks_run_on_tensors_that_claim_to_be_there() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    assert python("tests/support/gpu_checks.py", TRITON_INTERPRET="1") == "rehearsed\n"
