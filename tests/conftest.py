"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():  # then Triton's interpreter runs the kernels; Triton asks when it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

from device_faults import pytest_runtest_logfinish, pytest_runtest_teardown  # noqa: F401  # hooks
from packs import make, packed

from gpuaug.render import BACKENDS

if "PYTEST_XDIST_WORKER" in os.environ:  # a process for each core: threads of one would wait for those of another
    torch.set_num_threads(1)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background, and all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None

if INTERPRETED:
    from benchmarks.interpreter import mend, whole_images

    mend()
    whole_images()


def runnable(name: str) -> str:
    """The backend's name; skips the test where the backend cannot run."""
    if name == "numba" and importlib.util.find_spec("numba") is None:
        pytest.skip("Numba is not installed")
    if name == "triton" and not INTERPRETED:
        pytest.skip("Triton's interpreter is not at hand")
    return name


@pytest.fixture(params=[name for name in BACKENDS if name != "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that can run here, but the interpreted one: tests/test_backends.py holds it to the twin's bits."""
    return runnable(request.param)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A module that is given no seed draws one: let it be the same in every run of a test."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small images on many threads are mostly waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---- packs, for tests of writing and of reading them -----------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def raw(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(source, tmp_path_factory.mktemp("packs") / "raw")


@pytest.fixture(scope="module")
def jpeg(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(source, tmp_path_factory.mktemp("packs") / "jpeg", encoding="jpeg", quality=90)


@pytest.fixture
def copy(raw: Path, tmp_path: Path) -> Path:
    """A pack to damage."""
    return shutil.copytree(raw, tmp_path / "copy")
