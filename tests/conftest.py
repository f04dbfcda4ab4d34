"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.backends import INTERPRETED, runnable  # isort: skip  # before torchvision, which imports Triton
from gpuaug.engine.render import BACKENDS
from tests.support.browser import browser  # noqa: F401  # a fixture
from tests.support.device_faults import pytest_runtest_logfinish, pytest_runtest_teardown  # noqa: F401  # hooks
from tests.support.packs import make, packed

if "PYTEST_XDIST_WORKER" in os.environ:  # a process for each core: threads of one would wait for those of another
    torch.set_num_threads(1)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background, and all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

if INTERPRETED:
    from benchmarks.evidence.interpreter import mend, whole_images

    mend()
    whole_images()


@pytest.fixture(params=[name for name in BACKENDS if name != "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that can run here, but the interpreted one: tests/backends/test_backends.py holds it to the
    twin's bits."""
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
