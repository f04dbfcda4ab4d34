"""Fixtures that several test files share."""

from __future__ import annotations

import importlib

import pytest

from gpuaug.render import BACKENDS


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend that can run here; the others are skipped with the reason."""
    try:
        importlib.import_module(BACKENDS[request.param]).render  # noqa: B018
    except (ImportError, AttributeError) as error:
        pytest.skip(f"backend {request.param!r} cannot run here: {error}")
    return str(request.param)
