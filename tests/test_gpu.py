"""On a CUDA device: compiled kernels give the twin's bits, nothing waits, graphs replay, streams and threads do not
disturb one another. Skipped without one; then the checks are only rehearsed, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_checks
import pytest
import torch
from device_lists import CAPTURED, CASES
from helpers import noise
from lists import LISTS, cases, channel_counts

ROOT = Path(__file__).parents[1]
CUDA = torch.cuda.is_available()


def gpu(test: Any) -> Any:
    return pytest.mark.gpu(pytest.mark.skipif(not CUDA, reason="needs a CUDA device")(test))


@gpu
def test_kernels_are_compiled() -> None:
    from gpuaug.render import choose, interpreted

    assert not interpreted()
    assert choose("auto", torch.device("cuda")) == "triton"


@gpu
@pytest.mark.parametrize("name", CASES)
def test_lists_equal_the_twin(name: str) -> None:
    gpu_checks.equals_the_twin(CASES[name])


@gpu
@pytest.mark.parametrize("steps", cases())
def test_every_op_equals_the_twin(steps: list[Any]) -> None:
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
    gpu_checks.does_not_wait(CASES[name])


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
def test_jpegs_are_decoded_on_the_device() -> None:
    gpu_checks.jpegs_are_decoded_on_the_device()


@pytest.mark.skipif(CUDA, reason="there is a CUDA device: the checks themselves run")
def test_the_checks_run_on_tensors_that_claim_to_be_there() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "tests/gpu_checks.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "rehearsed\n"
