"""Small batches are served by the twin while a thread compiles: who serves which call, forks, ends and failures."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from numba.core.compiler_lock import global_compiler_lock

from gpuaug import compat
from gpuaug.engine import render
from gpuaug.kernels.numba.runtime import background, jit
from gpuaug.program import Keys, Program

LIMIT = 300  # seconds until a wait is taken for a hang

# a gate in front of every kernel that the thread compiles, and who rendered the calls of `backend="auto"`
PRELUDE = """
import os, sys, threading
import torch
import gpuaug as ga
import gpuaug.kernels.torch as twin
from numba.core import event
from gpuaug.kernels.numba.runtime import background

gate = threading.Event()

class Gate(event.Listener):
    def on_start(self, event):
        if threading.current_thread().name == "gpuaug-compile":
            gate.wait()
    def on_end(self, event):
        pass

event.register("numba:compile", Gate())
served = []
prepare = twin.prepare
def counted(*arguments):
    served.append(len(arguments[1]))
    return prepare(*arguments)
twin.prepare = counted

flips = [ga.RandomHorizontalFlip()]
augment = ga.Augment(flips, seed=0)
images = torch.arange(2 * 3 * 20 * 18).remainder(251).to(torch.uint8).view(2, 3, 20, 18)

def alike(*results):
    by_twin = ga.Augment(flips, seed=0, backend="torch")
    assert all(torch.equal(by_twin(images), result) for result in results)
"""

WHILE_IT_COMPILES = """
ready = ga.Augment([ga.RandomInvert()], seed=0, backend="numba")
ready(images)  # it waits for its kernels
assert served == []
results = [augment(images), augment(images)]
assert served == [2, 2]
ready.backend = "auto"
ready(images)
assert served == [2, 2], "what is compiled is used, also while other kernels are compiled"
thread = background._state.thread
gate.set()
thread.join()
assert background._state.thread is None
results += [augment(images), augment(images)]
assert served == [2, 2]
assert not background._state.failed
alike(*results)
"""

IN_A_LOOP = """
background.SERVED = 2
results = [augment(images), augment(images)]
threading.Timer(0.3, gate.set).start()
results.append(augment(images))
assert served == [2, 2], "the third call waits"
alike(*results)
"""

FORK = """
results = [augment(images)]
threading.Timer(0.3, gate.set).start()
child = os.fork()  # waits for the kernel that is being compiled
if child == 0:
    assert background._state.thread is None
    images = images.repeat(5, 1, 1, 1)
    assert augment(images).shape == images.shape
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""

END = """
augment(images)
assert background._state.thread.is_alive()
threading.Timer(0.3, gate.set).start()
"""

NEITHER = """
gate.set()
ga.Augment(flips, seed=0, backend="numba")(images)
ga.Augment([ga.RandomInvert()], seed=0)(images.repeat(5, 1, 1, 1))  # too many to be a single call
assert served == []
assert background._state.thread is None
"""


@pytest.mark.parametrize("code", [WHILE_IT_COMPILES, IN_A_LOOP, FORK, END, NEITHER], ids=range(5))
def test_who_serves_a_call(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if code is FORK and sys.platform == "win32":
        pytest.skip("no fork")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))  # nothing is kept there
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> background._State:
    state = background._State()
    monkeypatch.setattr(background, "_state", state)
    return state


def _never_ready() -> str:
    if getattr(jit._mode, "only_ready", False):
        raise jit.NotReady
    raise ValueError("as the thread")


def test_a_failure_is_said_and_the_next_call_meets_it(state: background._State) -> None:
    def fails() -> None:
        raise ValueError("no such\nkernel")

    def again() -> Callable[[], object]:
        return fails

    def serve() -> str:
        result = background.render(_never_ready, lambda: "twin", again)
        thread = state.thread
        if thread is not None:
            thread.join()
        return result

    with pytest.warns(UserWarning, match=r"could not be compiled \(ValueError: no such kernel\); the next call"):
        assert serve() == "twin"
    with pytest.raises(ValueError, match="as the thread"):
        background.render(_never_ready, lambda: "twin", again)


def test_the_twin_leaves_the_cores_to_the_compiler(state: background._State) -> None:
    threads, interval = torch.get_num_threads(), sys.getswitchinterval()

    def fails() -> str:
        assert torch.get_num_threads() == 1
        assert sys.getswitchinterval() < interval
        raise RuntimeError("in the twin")

    with pytest.raises(RuntimeError, match="in the twin"):
        background.render(_never_ready, fails, lambda: fails)
    assert (torch.get_num_threads(), sys.getswitchinterval()) == (threads, pytest.approx(interval))
    assert state.thread is None, "what raises compiles nothing"


def test_other_threads_of_a_batch_compile_nothing_either() -> None:
    seen: list[bool] = []

    def work(start: int, stop: int) -> None:
        seen.append(getattr(jit._mode, "only_ready", False))

    with jit.only_ready():
        carried = jit.carried(work)
    for task in (carried, jit.carried(work), work):
        thread = threading.Thread(target=task, args=(0, 1))
        thread.start()
        thread.join()
    assert seen == [True, False, False]


@pytest.mark.parametrize("compiles", [False, True])
def test_a_thread_does_not_wait_for_one_that_is_about_to_compile(
    compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba takes its lock, then says that it compiles: in between it looks as if it loaded a kernel."""
    held, go = threading.Event(), threading.Event()

    def other() -> None:
        with global_compiler_lock:
            held.set()
            go.wait(LIMIT)
            if compiles:
                monkeypatch.setattr(jit.watch, "depth", 1)
                done.wait(LIMIT)

    done = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    held.wait(LIMIT)
    threading.Timer(0.05, go.set).start()
    try:
        with jit.only_ready(), pytest.raises(jit.NotReady) if compiles else nullcontext(), global_compiler_lock:
            assert not compiles
            with global_compiler_lock:
                pass
    finally:
        done.set()
        thread.join()
    free: list[bool] = []
    lock = compat.compiler_lock()
    thread = threading.Thread(target=lambda: free.append(lock.acquire(timeout=LIMIT) and not lock.release()))
    thread.start()
    thread.join()
    assert free == [True]


def test_a_users_function_runs_once() -> None:
    keys = Keys(0, 0, np.arange(8, dtype=np.uint64))
    program = Program(keys, 3, None, [])
    assert render._is_small([program, program])
    assert not render._is_small([program, lambda canvas: canvas])
    assert not render._is_small([Program(Keys(0, 0, np.arange(9, dtype=np.uint64)), 3, None, [])])


@pytest.mark.parametrize("several", [False, True])
def test_the_thread_reads_memory_of_its_own(several: bool) -> None:
    import gpuaug as ga

    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    source: Any = ga.Ragged.from_images(list(images)) if several else images
    copied = render._copy(source)
    (source.data if several else source).fill_(9)
    assert int((copied.data if several else copied).max()) == 0
    assert copied.shape == source.shape if not several else (copied.sizes == source.sizes).all()
