"""`python -m benchmarks` and `gpuaug bench`: the regimes, each in a process of its own, and what becomes of them.

A run is one dict, the JSON file. It holds every turn, and every table, chart and CSV is made from it alone.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .locations import PACKAGE, ROOT

__all__ = ["PLANS", "REGIMES", "SCHEMA", "Part", "run"]

SCHEMA = 1
REGIMES = ("ops", "recipes", "targets", "views", "loaders", "training", "scaling", "turns", "audit")
Report = Callable[[str], None]


class Part:
    """One regime at one number of threads.

    Args:
        regime: of REGIMES.
        threads: of this process, or worker processes; a loader of 1 has one core for everything.
        settings: what the regime's function takes.
    """

    def __init__(self, regime: str, threads: int, **settings: Any) -> None:
        self.regime, self.threads, self.settings = regime, threads, settings

    @property
    def name(self) -> str:
        return self.regime if self.regime in ("scaling", "audit") else f"{self.regime}, {_cores(self)}"


def _cores(part: Part) -> str:
    return f"{part.threads} {'core' if part.threads == 1 else 'cores'}"


QUICK_OPS = (
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomAffine",
    "ColorJitter",
    "RandomEqualize",
    "GaussianBlur",
)
QUICK_RECIPES = ("crop + flip", "RandAugment", "ColorJitter")
QUICK_TARGETS = ("mask + 10 boxes", "mask, int64", "small images, 20 boxes")
QUICK_WAYS = (
    "gpuaug", "torchvision v2, tensors", "DALI, decodes the crop only", "torchvision v2, PIL", "AlbumentationsX",
    "gpuaug, packed raw",
)  # fmt: skip
NO_COMPILE = {"leave_out": ("Kornia, compiled",)}
PLANS: dict[str, list[Part]] = {
    "quick": [
        Part("ops", 1, images=16, rounds=3, seconds=2, cases=QUICK_OPS, **NO_COMPILE),
        Part("recipes", 1, images=32, rounds=3, seconds=3, cases=QUICK_RECIPES, **NO_COMPILE),
        Part("targets", 1, rounds=3, seconds=3, cases=QUICK_TARGETS),
        Part("views", 1, rounds=3, seconds=3, batch=16),
        Part("loaders", 2, images=256, rounds=3, cases=("RandAugment",), ways=QUICK_WAYS),
        Part("training", 2, steps=8, rounds=1, ways=QUICK_WAYS[:2]),
        Part("scaling", 2, batches=(1, 8, 64), sizes=(64, 224), numbers=(0, 2), rounds=3, seconds=1),
        Part("turns", 1, rounds=3),
        Part("turns", 2, rounds=3),
        Part("audit", 1, quick=True),
    ],
    "full": [
        Part("ops", 1, images=32, rounds=5, seconds=4),
        Part("recipes", 1, images=128, rounds=5, seconds=13),
        Part("recipes", 2, images=128, rounds=5, seconds=13),
        Part("targets", 1, rounds=5, seconds=8),
        Part("views", 1, rounds=5, seconds=20),
        Part("loaders", 1, images=352, rounds=3),
        Part("loaders", 2, images=512, rounds=3),
        Part("training", 2, steps=16, rounds=3),
        Part("scaling", 2),
        Part("turns", 1),
        Part("turns", 2),
        Part("audit", 1),
    ],
}


def run(parts: list[Part], data: Path, device: str, plan: str, report: Callable[[str, str], None]) -> dict[str, Any]:
    """Run the parts one after the other; `report` hears the part and what it is at.

    A part whose process ends before its time is in "failed" with what is known of it; the others go on.
    """
    from .machine import describe, pace

    start = time.perf_counter()
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "plan": plan,
        "device": device,
        **describe(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "pace": [pace()],
        "regimes": {},
        "failed": {},
    }
    for part in parts:
        begin = time.perf_counter()
        try:
            found = _audit(part, report) if part.regime == "audit" else _in_process(part, data, device, report)
        except _FailedError as error:
            result["failed"][part.name] = str(error)
            continue
        found["wall_s"] = time.perf_counter() - begin
        if part.regime == "audit":
            result["regimes"]["audit"] = found
        else:
            kept = result["regimes"].setdefault(part.regime, {"rows": [], "absent": [], "wall_s": 0.0})
            for name, value in found.items():
                kept[name] += value
        result["pace"].append(pace())
    result["wall_s"] = time.perf_counter() - start
    return result


class _FailedError(Exception):
    """A part's process could not do it."""


def _audit(part: Part, report: Callable[[str, str], None]) -> dict[str, Any]:
    """It makes torch believe in a GPU, so it is a program of its own."""
    report(part.name, "counting on tensors that claim to be on a GPU")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "audit.json"
        command = [sys.executable, "-m", f"{PACKAGE}.evidence.audit", "--json", str(file)]
        command += ["--quick"] if part.settings.get("quick") else []
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not file.exists():
            raise _FailedError(_last(done.stderr) or f"ended with {done.returncode}")
        found: dict[str, Any] = json.loads(file.read_text())
        return found


def _in_process(part: Part, data: Path, device: str, report: Callable[[str, str], None]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with _pinned(part), tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=_serve, args=(there, part, data, device, folder))
        process.start()
        there.close()
        try:
            while True:
                kind, value = here.recv()
                if kind == "report":
                    report(part.name, value)
                elif kind == "failed":
                    raise _FailedError(value)
                else:
                    return dict(value)
        except EOFError:
            process.join()
            raise _FailedError(f"its process ended with {process.exitcode}") from None
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            here.close()
            process.join(30)
            if process.is_alive():
                process.kill()


@contextlib.contextmanager
def _pinned(part: Part) -> Iterator[None]:
    """The child, and all it starts, on as many cores as the part says."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    whole = os.sched_getaffinity(0)
    if len(whole) < part.threads:
        raise _FailedError(f"needs {part.threads} cores, this process may use {len(whole)}")
    os.sched_setaffinity(0, set(sorted(whole)[-part.threads :]))  # the first core serves interrupts
    try:
        yield
    finally:
        os.sched_setaffinity(0, whole)


def _serve(end: Connection, part: Part, data: Path, device: str, folder: str) -> None:
    """What the child does."""
    import logging
    import warnings

    import torch

    from gpuaug.data.workers import prepare

    prepare(0)
    warnings.simplefilter("ignore")  # of the contestants
    logging.disable(logging.WARNING)
    torch.set_num_threads(part.threads)
    try:
        end.send(("result", _regime(part, data, device, Path(folder), lambda text: end.send(("report", text)))))
    except Exception as error:
        end.send(("failed", f"{type(error).__name__}: {' '.join(str(error).split())}"))
    end.close()
    multiprocessing.util._exit_function()  # workers end
    os._exit(0)  # Numba's finalizers fail now and then, and say so over the tables


def _regime(part: Part, data: Path, device: str, folder: Path, report: Report) -> dict[str, Any]:
    settings = dict(part.settings)
    if part.regime in ("ops", "recipes"):
        from .cases import OPS, RECIPES, load
        from .peers import PEERS, PeerError
        from .regimes.op_regimes import contest, missing

        out = dict.fromkeys(settings.pop("leave_out", ()), "left out of --quick")
        if part.regime == "ops":
            out["AlbumentationsX, area"] = "differs from AlbumentationsX in recipes"
        cases = settings.pop("cases", OPS if part.regime == "ops" else tuple(RECIPES))
        names = [name for name in PEERS if name not in out]
        images = load(data, settings.pop("images"))
        more = {"threads": part.threads, "device": device, "report": report}
        found = contest(part.regime, images, names, cases, **settings, **more)
        found["absent"] += [missing(name, None, part.threads, PeerError(why)) for name, why in out.items()]
        return found
    if part.regime == "loaders":
        from .regimes.loaders import WAYS, loaders

        found = loaders(data, folder, workers=part.threads, report=report, **settings)
        found["absent"] += _left_out(settings, WAYS, part)
        return found
    if part.regime == "training":
        from .regimes.training import CPU, GPU, WAYS_HERE, training

        settings.setdefault("names", CPU if device == "cpu" else GPU)
        found = training(data, folder, workers=part.threads, device=device, report=report, **settings)
        found["absent"] += _left_out(settings, WAYS_HERE, part)
        return found
    from .cases import load

    if part.regime == "targets":
        from .regimes.targets import targets

        if device != "cpu":
            raise ValueError("its CPU seconds say nothing about a GPU")
        return targets(load(data, 64), report=report, **settings)
    if part.regime == "views":
        from .regimes.views import views

        if device != "cpu":
            raise ValueError("it measures the CPU only")
        return views(load(data, 64), report=report, **settings)
    from .regimes.scaling import scaling
    from .regimes.turns import turns

    if part.regime == "turns":
        return turns(load(data, 64), threads=part.threads, report=report, **settings)
    return scaling(load(data, 64), device=device, report=report, **settings)


def _left_out(settings: dict[str, Any], ways: Iterable[str], part: Part) -> list[dict[str, Any]]:
    """What a plan leaves out is not dropped in silence."""
    out = [way for way in ways if way not in settings.get("ways", ways)]
    return [{"who": way, "case": None, "threads": part.threads, "error": "left out of --quick"} for way in out]


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
