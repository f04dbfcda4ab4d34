"""Hooks of pytest: an error of the device is the error of the test whose work raised it, and of no other.

CUDA reports an error at some later call. After an illegal access every later call fails as well, until the process
ends. So the device is asked at the end of each test; a process that has lost it ends. A worker of xdist is replaced by
another one, which runs the tests that are left; without xdist the run stops. Either way pytest's status says failed.
"""

from __future__ import annotations

import os
import sys

import pytest

__all__ = ["LOST", "pytest_runtest_logfinish", "pytest_runtest_teardown"]

LOST = 70  # exit status of a worker that has lost the device
WATCHED = "benchmarks.gpu.watched"  # a plugin that notes such processes, and ends them itself
_lost: list[str] = []  # the test that lost the device, and what the device said


def _fault() -> RuntimeError | None:
    """What the device says to work that is done; None if all is well, or if this process does not use it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return error
    return None


@pytest.hookimpl(trylast=True)  # after the fixtures, which may still give work to the device
def pytest_runtest_teardown(item: pytest.Item) -> None:
    error = _fault()
    if error is None:
        return
    if _fault() is not None and not item.config.pluginmanager.hasplugin(
        WATCHED
    ):  # asked again, a device that can go on is well
        _lost.append(f"{item.nodeid}: the device is lost to this process: {str(error).splitlines()[0]}")
        if "PYTEST_XDIST_WORKER" not in os.environ:
            item.session.shouldfail = _lost[-1]  # the tests after it would all fail
    raise error


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Once the test's reports are on their way: before this no one would learn what happened."""
    if _lost and "PYTEST_XDIST_WORKER" in os.environ:
        print(_lost[-1], file=sys.__stderr__, flush=True)
        os._exit(LOST)
