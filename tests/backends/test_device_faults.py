"""A test that loses the device fails, alone, and pytest says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAIN = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:benchmark")  # these take long to import

# A device whose error is told when it is asked, once or for ever
DEVICE = """
import sys
from types import SimpleNamespace

from tests.support.device_faults import pytest_runtest_logfinish, pytest_runtest_teardown

left = []

def synchronize():
    if left:
        error = left[0]
        if error == "launch failed":
            left.clear()
        raise RuntimeError(f"CUDA error: {error}")

sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize))
"""
CASES = """
import conftest, pytest

def test_before(): pass

def test_faulty(): conftest.left.append("{error}")

@pytest.mark.parametrize("number", range(3))
def test_after(number): assert not conftest.left
"""


def run(folder: Path, error: str, *options: str) -> tuple[int, dict[str, int], str]:
    """Pytest's status, its counts and what it said."""
    (folder / "conftest.py").write_text(DEVICE)
    (folder / "test_cases.py").write_text(CASES.format(error=error))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", *PLAIN, "-rA", *options, str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    return done.returncode, counts, done.stdout + done.stderr


def test_a_worker_that_has_lost_the_device_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    status, counts, said = run(tmp_path, "illegal memory access", "-n", "1")
    assert status == pytest.ExitCode.TESTS_FAILED, said
    assert counts == {"passed": 5, "failed": 1, "error": 1}, said  # the faulty test's call passed
    assert "RuntimeError: CUDA error: illegal memory access" in said
    assert "crashed while running 'test_cases.py::test_faulty'" in said
    assert len(re.findall(r"PASSED test_cases\.py::test_(?:before|after)", said)) == 4, said
    assert "test_faulty: the device is lost to this process: CUDA error: illegal memory access" in said


def test_without_workers_the_run_stops(tmp_path: Path) -> None:
    status, counts, said = run(tmp_path, "illegal memory access")
    assert status == pytest.ExitCode.TESTS_FAILED, said
    assert counts == {"passed": 2, "error": 1}, said
    assert "test_faulty: the device is lost to this process: CUDA error: illegal memory access" in said


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_an_error_that_passes_costs_one_test(tmp_path: Path, options: tuple[str, ...]) -> None:
    if options:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    status, counts, said = run(tmp_path, "launch failed", *options)
    assert status == pytest.ExitCode.TESTS_FAILED, said
    assert counts == {"passed": 5, "error": 1}, said
