"""A plugin of pytest for machines that are lent for minutes: pytest -p benchmarks.gpu.watched

It writes a line of JSON for each test as it ends, stops a process whose test hangs or whose device is lost, and lets
each worker of xdist compile its share of the kernels before the first test. Nothing but pytest is needed.

Variables: GPUAUG_WATCHED, the file of the lines. GPUAUG_PATIENCE, seconds for a test.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .results import POISON

__all__ = ["FILE", "KEPT", "PATIENCE", "WARMED", "stack"]

FILE, PATIENCE, WARMED = "GPUAUG_WATCHED", "GPUAUG_PATIENCE", "GPUAUG_WARM"
KEPT = 14  # last lines of a failure
LOST = 70  # exit status of a process that has lost the device


def stack(file: str, worker: str) -> Path:
    """Where a process says what it was doing when its test took too long."""
    return Path(file).with_suffix(f".{worker or 'main'}") if file != os.devnull else Path(os.devnull)


def _write(**line: Any) -> None:
    """Lines of this length are appended whole, whoever else appends."""
    file = os.environ.get(FILE)
    if file:
        with Path(file).open("a") as out:
            out.write(json.dumps(line) + "\n")


def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "")


@pytest.hookimpl(trylast=True)  # after those that were not asked for have gone
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before any test starts, in every worker: it compiles its share of the kernels."""
    _write(kind="collected", worker=_worker(), count=len(items))
    shares = getattr(config, "workerinput", None)
    if os.environ.get(WARMED) and shares is not None:
        from .warm import warm

        number, workers = int(_worker().removeprefix("gw")), int(shares["workercount"])
        start = time.monotonic()
        if number < workers:  # a process that takes the place of another one starts at once
            kernels, said = warm(number, workers)
            _write(kind="warmed", worker=_worker(), kernels=kernels, seconds=time.monotonic() - start, said=said)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Name the test before it runs, and leave the process if it hangs or has lost the device."""
    _write(kind="started", test=item.nodeid, worker=_worker())
    patience = float(os.environ.get(PATIENCE, 0))
    with stack(os.environ.get(FILE, os.devnull), _worker()).open("w") as hanging:
        if patience:
            faulthandler.dump_traceback_later(patience, exit=True, file=hanging)
        try:
            result = yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    error = _lost()
    if error:
        _write(kind="lost", test=item.nodeid, worker=_worker(), text=error)
        os._exit(LOST)
    return result


def _lost() -> str:
    """What a device says that this process cannot use any more."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error) if POISON.search(str(error)) else ""
    return ""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Only where it comes together: in the process that the workers report to."""
    if _worker():
        return
    if report.when == "call" or report.outcome != "passed":
        text = "" if report.outcome == "passed" else _last(report)
        line = {"test": report.nodeid, "when": report.when, "outcome": report.outcome, "seconds": report.duration}
        _write(kind="ended", **line, text=text)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed and not _worker():
        _write(kind="ended", test=report.nodeid, when="collect", outcome="failed", seconds=0.0, text=_last(report))


def _last(report: Any) -> str:
    """The last lines of what pytest says about it."""
    text = str(report.longrepr[2]) if report.skipped and isinstance(report.longrepr, tuple) else report.longreprtext
    return "\n".join(line[:200] for line in text.strip().splitlines()[-KEPT:])
