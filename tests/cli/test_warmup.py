"""`gpuaug warmup` compiles once; later processes, also several at once, load what it kept."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

pytest.importorskip("numba")
pytest.importorskip("typer")

SCRIPT = """
import gpuaug as ga
steps = [ga.RandomHorizontalFlip()]
large = [ga.RandomCrop(448)]
module = ga.Augment([ga.RandomHorizontalFlip(), ga.RandomInvert()], seed=0)
views = ga.MultiView([steps, [*steps, ga.MixUp(num_classes=3)]], seed=0)
def made():
    return [ga.RandomVerticalFlip()]
number = 3
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("warmup") / "lists.py"
    path.write_text(SCRIPT)
    return path


def start(cache: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "COLUMNS": "80"}
    command = [sys.executable, "-m", "gpuaug", "warmup", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def counts(process: subprocess.Popen[str]) -> tuple[int, int]:
    """How many kernels were compiled, and how many loaded."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    found = re.match(r"(\d+) kernels compiled and (\d+) loaded in \d+ s\.\nKept in ", output)
    assert found, output
    return int(found[1]), int(found[2])


def test_what_was_compiled_is_loaded(script: Path, tmp_path: Path) -> None:
    """By name of a list, a module, and a function; also from a folder that only can be read."""
    compiled, loaded = counts(start(tmp_path, f"{script}:steps"))
    assert compiled > 0
    assert loaded == 0
    again, loaded = counts(start(tmp_path, f"{script}:made"))
    assert (again, loaded > 0) == (0, True), "a kernel inside another one is loaded with it"
    assert counts(start(tmp_path, f"{script}:module"))[0] > 0
    for folder in (tmp_path, *tmp_path.rglob("*")):
        folder.chmod(0o555 if folder.is_dir() else 0o444)
    assert counts(start(tmp_path, f"{script}:module"))[0] == 0


def test_the_lists_of_a_multi_view_are_compiled(script: Path, tmp_path: Path) -> None:
    assert counts(start(tmp_path, f"{script}:views"))[0] > 0


def test_a_crop_of_a_usual_size_fits(script: Path, tmp_path: Path) -> None:
    assert counts(start(tmp_path, f"{script}:large"))[0] > 0


def test_a_crop_chosen_by_boxes_gets_some() -> None:
    import gpuaug as ga
    from gpuaug.cli.warmup import warm

    augment = ga.Augment([ga.RandomIoUCrop(), ga.SanitizeBoundingBoxes(), ga.Resize((32, 32))], seed=0)
    state = augment.state_dict()["_extra_state"].clone()
    warm(augment)
    assert torch.equal(augment.state_dict()["_extra_state"], state)


def test_several_processes_at_once(script: Path, tmp_path: Path) -> None:
    processes = [start(tmp_path, f"{script}:steps") for _ in range(3)]
    found = [counts(process) for process in processes]
    assert sum(pair[0] for pair in found) > 0
    assert counts(start(tmp_path, f"{script}:steps"))[0] == 0


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("lists.py", "warmup: `target` must be FILE.py:NAME"),
        ("no.py:steps", "there is no file"),
        ("no.yaml", "warmup: `target` must name a file, and there is no file no.yaml"),
        ("{}:other", "which does not have 'other'. It defines steps, large, module, views, made, number."),
        ("{}:number", "Augment: `train` must be a list of transforms or a Compose, got 3"),
    ],
)
def test_wrong_targets(target: str, says: str, script: Path, tmp_path: Path) -> None:
    _, errors = (process := start(tmp_path, target.format(script))).communicate(timeout=120)
    assert process.returncode == 1
    assert says in " ".join(errors.split())
    assert errors.count("\n") <= 2


def test_where_nothing_can_be_kept(script: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import typer

    from gpuaug.cli.warmup import command
    from gpuaug.kernels.numba.runtime import jit

    monkeypatch.setattr(jit, "kept", lambda: jit.Kept(0, 0, frozenset()))
    with pytest.raises(typer.Exit) as exit_:
        command(f"{script}:steps")
    assert exit_.value.exit_code == 1
    assert "kernels must be kept in a folder, and none can be written" in capsys.readouterr().err


def test_every_kernel_is_in_the_default() -> None:
    """But what a pack is written with, and what draws on the host of a GPU."""
    code = """
import importlib, pkgutil
import gpuaug.kernels.numba as package
from gpuaug.cli.warmup import everything, warm
from numba.core.dispatcher import Dispatcher
for module in everything():
    warm(module)
for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    for name, value in vars(importlib.import_module(info.name)).items():
        cached = isinstance(value, Dispatcher) and type(value._cache).__name__ != "NullCache"
        if cached and value.__module__ == info.name and not value.overloads:
            print(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    inside = {"crop", "finish", "finish_by_table", "run_instructions"}  # of others, with which they are loaded
    host = {"begin", "boxes", "flips", "listed", "mixes", "ratios", "single"}
    assert set(done.stdout.split()) <= {"restarted", *host, *inside}


class Kernel(NamedTuple):
    """An event of Numba's, for a function of ours."""

    data: dict[str, Any] = {"dispatcher": SimpleNamespace(py_func=SimpleNamespace(__module__="gpuaug.kernels"))}  # noqa: RUF012


@pytest.fixture
def watch() -> Any:
    from gpuaug.kernels.numba.runtime import jit

    watch = jit._Watch()
    watch.waits = True  # no timer: the test is its clock
    return watch


def test_a_long_compile_is_said_once(watch: Any, caplog: pytest.LogCaptureFixture) -> None:
    from gpuaug.kernels.numba.runtime.jit import COMPILING

    caplog.set_level(logging.INFO, "gpuaug")
    watch.on_start(Kernel())
    watch.on_start(Kernel())  # one inside it
    watch.on_end(Kernel())
    watch.tell()
    watch.tell()
    watch.on_end(Kernel())
    assert [record.message for record in caplog.records] == [COMPILING]


def test_a_short_compile_is_not_said(watch: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpuaug")
    watch.on_start(Kernel())
    watch.on_end(Kernel())
    watch.tell()
    assert not caplog.records
    assert not watch.waits, "the next compile is timed anew"


def test_it_is_printed_where_somebody_sits(watch: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    watch.on_start(Kernel())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    watch.tell()
    watch.on_end(Kernel())
    assert "gpuaug warmup" in capsys.readouterr().err
