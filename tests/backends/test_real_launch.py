"""Triton's real JIT and launcher on a libcuda without a device: what reaches the driver is what the backend asked for,
and what is launched gives the twin's bits. tests/support/real_launch.py says how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence import fakecuda

ROOT = Path(__file__).parents[2]
WIDTH = ("LaunchError: ", "OverflowError: ")  # Triton 3.6 looks for itself whether a number fits
FAULTS: dict[str, str | tuple[str, ...]] = {  # how the error begins
    "swapped": "LaunchError: parameter small: 7, but 5 was asked for",
    "elsewhere": "LaunchError: parameter out: ",
    "larger": "LaunchError: grid: (2, 1, 1), but (1, 1, 1) was",
    "wider": "LaunchError: block: (64, 1, 1), but (32, 1, 1) was",
    "another_constant": "LaunchError: constant N: 4, but 8 was",
    "another_stream": "LaunchError: stream: ",
    "never": "LaunchError: launches: 0, but 1 was",
    "twice": "LaunchError: launches: 2, but 1 was",
    "stale alignment": "LaunchError: Compiled: `out` is not",
    "stale one": "LaunchError: Compiled: `one` is not",
    "stale multiple of 16": "LaunchError: Compiled: `small` is not",
    "stale width": WIDTH,
    "stale in a list": "LaunchError: Compiled: `canvas` is not",
    "stream of Triton": "LaunchError: stream: 0, but ",
    "host memory": "LaunchError: tensors on the host: ['out']",
    "without launch": "RuntimeError: Triton Error [CUDA]: the launch was found to be wrong",
    "fused": "LaunchError: fused multiply-adds: True, but False was",
    "width of Triton": WIDTH,
}


def real_launch(folder: Path, *arguments: str) -> dict[str, Any]:
    """The report of a process."""
    if reason := fakecuda.missing():
        pytest.skip(reason)
    environment = fakecuda.environment(fakecuda.build(folder), folder / "cache")
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "tests/support/real_launch.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything in one process: most of the time goes into compiling."""
    more = os.environ.get("GPUAUG_REAL_LAUNCH", "").split()  # such as --all --arch=90
    return real_launch(tmp_path_factory.mktemp("fakecuda"), "--faults", *more)


def test_results_equal_the_twin(report: dict[str, Any]) -> None:
    assert {name: text for name, text in report["parts"].items() if isinstance(text, str)} == {}


def test_every_kernel_was_launched(report: dict[str, Any]) -> None:
    assert len(report["kernels"]) >= 9
    assert set(report["launched"]) == {*report["kernels"], "numbers_kernel"}
    assert sum(report["launched"].values()) == report["launches"]


def test_both_ways_of_a_launch_were_taken(report: dict[str, Any]) -> None:
    assert all(report["launched"][name] > count for name, count in report["compiled"].items())
    assert sum(report["compiled"].values()) <= report["launches"] - report["fast"]
    assert report["fast"] >= 50


def test_launches_were_repeated_from_tapes(report: dict[str, Any]) -> None:
    """Every kernel of the lists, with other memory and numbers than were noted."""
    assert set(report["repeated"]) == set(report["kernels"])


def test_every_parameter_was_compared(report: dict[str, Any]) -> None:
    assert report["parameters"] > 10 * report["launches"]


def test_streams_and_graphs_were_used(report: dict[str, Any]) -> None:
    assert report["streams"] >= 4
    assert report["replayed"] >= 2 * report["captured"] > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_noticed(report: dict[str, Any], fault: str) -> None:
    assert str(report["faults"][fault]).startswith(FAULTS[fault]), report["faults"][fault]


def test_no_fault_is_forgotten(report: dict[str, Any]) -> None:
    assert set(report["faults"]) == set(FAULTS)


def test_a_process_without_its_environment_is_refused() -> None:
    if os.environ.get("TRITON_INTERPRET") == "0":
        pytest.skip("the environment is one for it")
    with pytest.raises(RuntimeError, match="start the process with"):
        fakecuda.Driver()


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if reason := fakecuda.missing():
        pytest.skip(reason)
    monkeypatch.setenv("CC", "no such compiler")
    assert fakecuda.missing() == "there is no C compiler (cc, gcc or clang, or the one named by CC)"
    with pytest.raises(RuntimeError, match="no C compiler"):
        fakecuda.build(tmp_path)


def test_a_cache_is_made_for_another_place(tmp_path: Path) -> None:
    report = real_launch(tmp_path, "--cache", str(tmp_path / "cache"), "--at", "/elsewhere", "--arch", "90", "numbers")
    assert report["parts"].keys() == {"numbers"}
    assert report["cache"]["kernels"] == sum(report["compiled"].values()) == 8
    with tarfile.open(report["cache"]["archive"]) as file:
        files = {name: file.extractfile(name).read() for name in file.getnames()}  # type: ignore[union-attr]
    groups = [json.loads(text) for name, text in files.items() if Path(name).name.startswith("__grp__")]
    cubins = [path for group in groups for path in group["child_paths"].values() if path.endswith(".cubin")]
    assert len(cubins) == 8
    assert {Path("/elsewhere") / name for name in files if name.endswith(".cubin")} == set(map(Path, cubins))
    assert not any(name.endswith((".ptx", ".ttir")) for name in files)
