"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util

import pytest

from gpuaug.render import BACKENDS


def runnable(name: str) -> str:
    """The backend's name; skips the test where the backend cannot run."""
    if name == "numba" and importlib.util.find_spec("numba") is None:
        pytest.skip("Numba is not installed")
    return name


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that can run here."""
    return runnable(request.param)
