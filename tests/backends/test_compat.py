"""Without a private name of torch, Numba or Triton the result is the same, and what that costs is said once."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug import compat
from gpuaug.data.index import Index
from tests.support.helpers import BACKENDS, FAST, noise

ROOT = Path(__file__).parents[2]
STEPS = [ga.RandomResizedCrop(16), ga.RandAugment(), ga.ToDtype(torch.float32, scale=True)]
numba_only = pytest.mark.skipif("numba" not in BACKENDS, reason="Numba is not installed")


@pytest.fixture(autouse=True)
def _said_anew() -> Iterator[None]:
    compat._missing.cache_clear()
    yield
    compat._missing.cache_clear()


class Without:
    """`owner` as compat sees it, without the name at the end of `path`; torch itself keeps the name."""

    def __init__(self, owner: Any, *path: str) -> None:
        assert hasattr(owner, path[0]), f"{path[0]} is gone from this version: the other way is all that runs"
        self._owner, self._path = owner, path

    def __getattr__(self, name: str) -> Any:
        if name != self._path[0]:
            return getattr(self._owner, name)
        if len(self._path) == 1:
            raise AttributeError(name)
        return Without(getattr(self._owner, name), *self._path[1:])


def without(monkeypatch: pytest.MonkeyPatch, *path: str) -> None:
    monkeypatch.setattr(compat, "torch", Without(torch, *path))


def test_it_imports_neither_numba_nor_triton() -> None:
    code = "import sys, gpuaug.compat; print(*(n for n in ('numba', 'triton') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@numba_only
def test_results_without_a_count_of_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuaug.kernels.numba.runtime import buffers

    augment, images = ga.Augment(STEPS, seed=0, backend="numba"), noise(6)
    draw = augment.sample(images)
    expected = augment.render(images, draw).clone()
    without(monkeypatch, "_C", "_storage_Use_Count")
    monkeypatch.setattr(buffers, "_kept", [])
    with pytest.warns(
        UserWarning, match=r"torch .* has no torch\._C\._storage_Use_Count; results get new memory"
    ) as said:
        alike = [torch.equal(augment.render(images, draw), expected) for _ in range(5)]  # each is let go of
    assert len([one for one in said if "_storage_Use_Count" in str(one.message)]) == 1
    assert all(alike)


def test_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "UntypedStorage", "_new_shared")
    storage = compat.shared_storage(1000)
    assert storage.nbytes() == 1000
    assert storage.is_shared()
    from gpuaug.data.transport import shared

    whole = shared._by_torch(64)
    assert whole.untyped_storage().is_shared()
    whole[:] = 7
    assert whole.tolist() == [7] * 64


def test_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def function(x: Tensor) -> Tensor:
        found.append(compat.is_tracing())
        return x + 1

    for name in (None, "_get_tracing_state"):
        if name is not None:
            without(monkeypatch, "_C", name)
        function(torch.zeros(1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch says that it is deprecated
            torch.jit.trace(function, torch.zeros(1), check_trace=False)
    assert found == [False, True, False, True]


@pytest.mark.parametrize("reentrant", [False, True])
def test_the_backward_pass(reentrant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpointing runs the augmentation again, with the same draws."""
    augment, layer = ga.Augment(STEPS, seed=0, backend="torch"), nn.Linear(16, 4)
    images = noise(3)
    seen: list[tuple[bool, Tensor]] = []

    def part(weight: Tensor) -> Tensor:
        result = augment(images)
        seen.append((compat.in_backward(), result))
        return (layer(result) * weight).sum()

    without(monkeypatch, "_C", "_current_graph_task_id")
    with pytest.warns(UserWarning, match=r"no torch\._C\._current_graph_task_id") as said:
        checkpoint(part, torch.ones(1, requires_grad=True), use_reentrant=reentrant).backward()
    assert len([one for one in said if "_current_graph_task_id" in str(one.message)]) == 1
    assert [backward for backward, _ in seen] == [False, True]
    assert torch.equal(seen[0][1], seen[1][1])
    assert not compat.in_backward()


def test_an_index_without_torchs_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "_C", "_disabled_torch_function_impl")

    class Plain(Tensor):
        __torch_function__ = compat.without_torch_function()

    plain = torch.arange(3).as_subclass(Plain)
    assert type(plain + 1) is type(torch.arange(3).as_subclass(Index) + 1) is Tensor
    assert torch.equal(plain + 1, torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("there", [True, False])
def test_what_a_move_asks_for(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not there:
        without(monkeypatch, "_C", "_nn", "_parse_to")
    assert compat.wanted_dtype("cpu") is None
    assert compat.wanted_dtype(torch.device("cpu"), non_blocking=True) is None
    assert compat.wanted_dtype(torch.float16) == torch.float16
    assert compat.wanted_dtype("cpu", torch.int32) == torch.int32
    assert compat.wanted_dtype(device="cpu", dtype=torch.int32) == torch.int32
    assert compat.wanted_dtype(torch.zeros(1, dtype=torch.float64)) == torch.float64
    index = torch.arange(3).as_subclass(Index)
    assert index.to("cpu") is index
    assert index.to(torch.int32).dtype == torch.int32


@pytest.mark.parametrize("there", [True, False])
def test_an_iterator_over_workers(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    workers, alone = (iter(DataLoader(range(4), num_workers=count)) for count in (1, 0))  # type: ignore[arg-type]
    if not there:
        monkeypatch.delattr(sys.modules["torch.utils.data.dataloader"], "_MultiProcessingDataLoaderIter")
    assert compat.is_of_worker_processes(workers)
    assert not compat.is_of_worker_processes(alone)
    assert not compat.is_of_worker_processes(iter([1]))
    workers._shutdown_workers()  # type: ignore[attr-defined]


@numba_only
@pytest.mark.parametrize("name", ["_cache", "_cache_file", "_source_stamp", "load_overload", "cache_path"])
def test_kernels_without_numbas_cache(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba would not notice a changed callee, so nothing is kept on disk, and the kernel is compiled."""
    from gpuaug.kernels.numba.runtime import jit

    file = SimpleNamespace(_source_stamp="theirs")
    cache = SimpleNamespace(_cache_file=file, load_overload=len, save_overload=len, cache_path="there")
    whole = SimpleNamespace(_cache=cache)
    assert compat.keep_on_disk(whole, "ours", lambda method, folder: (method, folder))
    assert file._source_stamp == "ours"
    assert cache.save_overload == (len, "there")
    for owner in (whole, cache, file):
        if hasattr(owner, name):
            delattr(owner, name)
    with pytest.warns(UserWarning, match=r"numba .* has no numba.*; each process compiles its kernels anew"):
        assert not compat.keep_on_disk(whole, "ours", lambda method, folder: method)
    monkeypatch.setattr(compat, "keep_on_disk", lambda *_: False)
    compiled = jit.kernel(lambda x: x + 1)
    assert compiled(2) == 3
    assert not compiled.stats.cache_path


@numba_only
@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [("codegen", None, "JITCodeLibrary"), ("codegen", "CPUCodeLibrary", "_optimize_final_module")],
)
def test_compiling_what_is_linked_into_others(
    module: str, owner: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    from numba import njit

    place = importlib.import_module(f"numba.core.{module}")
    without_it = [compat.linked_only()]
    monkeypatch.delattr(place if owner is None else getattr(place, owner), name)
    with pytest.warns(UserWarning, match=r"numba .* has no numba.core.codegen.*; compiling takes a quarter longer"):
        without_it.append(compat.linked_only())
    monkeypatch.undo()
    assert [sorted(options) for options in without_it] == [["pipeline_class"], []]
    for options in without_it:
        inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
        assert _five_times(njit, inner)(np.arange(3)).tolist() == [0, 5, 10]


@numba_only
def test_waiting_for_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.compiler_lock import global_compiler_lock

    from gpuaug.kernels.numba.runtime import jit

    assert compat.compiler_lock() is global_compiler_lock._lock
    lock = jit._Lock()
    monkeypatch.delattr(global_compiler_lock, "_lock")
    with pytest.warns(UserWarning, match=r"numba .* has no numba.core.compiler_lock._lock; a small batch may wait"):
        without = jit._Lock()
    assert without.lock is None
    for one in (lock, without):
        monkeypatch.setattr(jit.watch, "depth", 0)
        with jit.only_ready():
            one.on_start(None)
            one.on_end(None)
    monkeypatch.setattr(jit.watch, "depth", 1)
    without.on_start(None)
    with jit.only_ready(), pytest.raises(jit.NotReady):
        without.on_start(None)


def _five_times(outer: Any, inner: Any) -> Any:
    double = inner(lambda x: 2 * x)
    triple = inner(lambda x: double(x) + x)
    return outer(lambda x: triple(x) + double(x))


def test_interpreted_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.runtime import interpreter
    from triton.runtime.jit import JITFunction

    def nothing() -> None: ...

    compiled, interpreted = JITFunction(nothing), interpreter.InterpretedFunction(nothing)
    assert triton is not None
    for _ in range(2):
        assert [compat.is_interpreted(kernel) for kernel in (compiled, interpreted)] == [False, True]
        monkeypatch.delattr(interpreter, "InterpretedFunction", raising=False)


def test_a_launch_without_tritons_launcher() -> None:
    """It goes to the same kernel, with the same grid and arguments, through Triton's own way."""
    pytest.importorskip("triton", reason="Triton is not installed")
    log: list[Any] = []

    class Kernel:
        function, packed_metadata = 1, 2

        def run(self, *arguments: Any) -> None:
            log.append(arguments)

        def __getitem__(self, grid: tuple[int, int, int]) -> Any:
            return lambda *arguments: log.append((grid, *arguments))

    class Other:
        __getitem__ = Kernel.__getitem__

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compat.starter(Kernel(), (4, 5, 6))(7, [8, 9])
    with pytest.warns(UserWarning, match="launches go through Triton's checks"):
        compat.starter(Other(), (4, 5, 6))(7, [8, 9])
    assert log == [(4, 5, 6, 7, 1, 2, None, None, None, 8, 9), ((4, 5, 6), 8, 9)]


def test_streams_and_hooks_of_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    assert not compat.has_launch_hooks()
    monkeypatch.setattr(triton.knobs.runtime, "launch_enter_hook", lambda *_: None)
    assert compat.has_launch_hooks()
    monkeypatch.setattr(triton, "knobs", SimpleNamespace())
    with pytest.warns(UserWarning, match="launches are not repeated from notes"):
        assert compat.has_launch_hooks()
    active = SimpleNamespace(get_current_stream=lambda index: 10 + index)
    monkeypatch.setattr(triton.runtime, "driver", SimpleNamespace(active=active))
    assert compat.current_stream(1) == 11
    monkeypatch.setattr(triton.runtime, "driver", SimpleNamespace(active=SimpleNamespace()))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=20 + index))
    assert compat.current_stream(1) == 21


def test_the_fast_backend_says_nothing_here() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ga.Augment(STEPS, seed=0, backend=FAST)(noise(2))
