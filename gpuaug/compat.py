"""Private names of torch, Numba and Triton, each used in one place, with a fallback that works without it.

Checked on torch 2.14, Numba 0.68 and Triton 3.8. Another version may not have some of these names: then the fallback
gives the same result, and a warning says once what it costs. tests/backends/test_compat.py removes each name in turn.
Numba and Triton are imported only where they are used.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from types import FrameType
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "compiler_lock",
    "current_stream",
    "has_launch_hooks",
    "in_backward",
    "is_interpreted",
    "is_of_worker_processes",
    "is_tracing",
    "keep_on_disk",
    "linked_only",
    "owners",
    "shared_storage",
    "starter",
    "wanted_dtype",
    "without_torch_function",
]


@cache
def _missing(name: str, cost: str) -> None:
    """Warn once what the absence of a name costs."""
    owner = name.partition(".")[0]
    version = getattr(sys.modules.get(owner), "__version__", "")
    warnings.warn(f"gpuaug: {owner} {version} has no {name}; {cost}. Results are the same.", stacklevel=3)


# --- torch ---------------------------------------------------------------------------------------------------------


def owners(storage: torch.UntypedStorage) -> int | None:
    """How many tensors and Python objects hold a storage; None if torch does not say."""
    count = getattr(torch._C, "_storage_Use_Count", None)  # torch's own CUDA graphs rely on it
    address = getattr(storage, "_cdata", None)
    if count is None or address is None:
        _missing("torch._C._storage_Use_Count", "results get new memory in each call, which is slower")
        return None
    return int(count(address))


def shared_storage(size: int) -> torch.UntypedStorage:
    """Memory that processes can share, made by torch's current sharing strategy."""
    new = getattr(torch.UntypedStorage, "_new_shared", None)
    if new is not None:
        shared: torch.UntypedStorage = new(size)
        return shared
    memory = torch.empty(size, dtype=torch.uint8, device="cpu")
    return memory.share_memory_().untyped_storage()  # type: ignore[no-untyped-call]  # copies it once


def is_tracing() -> bool:
    """True inside torch.jit.trace, and the old exporter to ONNX."""
    state = getattr(torch._C, "_get_tracing_state", None)
    if state is not None:
        return state() is not None
    public: Callable[[], bool] = vars(torch.jit)["is_tracing"]  # it has no type annotations
    return public()


def in_backward() -> bool:
    """True inside the backward pass, where activation checkpointing runs a part of the network again."""
    task = getattr(torch._C, "_current_graph_task_id", None)
    if task is not None:
        return bool(task() != -1)
    _missing("torch._C._current_graph_task_id", "each call looks through the stack for a checkpoint")
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        runs_again = frame.f_code.co_name in ("unpack_hook", "backward")
        if runs_again and frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
        frame = frame.f_back
    return False


def without_torch_function() -> Any:
    """The `__torch_function__` of a subclass of Tensor whose operations return plain tensors."""
    disabled = getattr(torch._C, "_disabled_torch_function_impl", None)
    return classmethod(_plain) if disabled is None else disabled


def _plain(cls: type, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return function(*arguments, **(options or {}))


def wanted_dtype(*arguments: Any, **options: Any) -> torch.dtype | None:
    """The dtype that the arguments of `tensor.to(...)` ask for; None if they leave it unchanged."""
    parse = getattr(getattr(torch._C, "_nn", None), "_parse_to", None)
    if parse is not None:
        dtype: torch.dtype | None = parse(*arguments, **options)[1]
        return dtype
    given = [*arguments, options.get("dtype"), options.get("other")]
    return next((one if isinstance(one, torch.dtype) else one.dtype for one in given
                 if isinstance(one, (torch.dtype, Tensor))), None)  # fmt: skip


def is_of_worker_processes(iterator: Any) -> bool:
    """True for the iterator of a torch DataLoader that has worker processes."""
    from torch.utils.data import dataloader

    kind = getattr(dataloader, "_MultiProcessingDataLoaderIter", None)
    if kind is not None:
        return isinstance(iterator, kind)
    return type(iterator).__module__.startswith("torch.") and getattr(iterator, "_num_workers", 0) > 0


# --- Numba ---------------------------------------------------------------------------------------------------------


def keep_on_disk(compiled: Any, stamp: str, guard: Callable[[Callable[..., Any], str], Callable[..., Any]]) -> bool:
    """Make a dispatcher with `cache=True` store its machine code under `stamp`; False if it cannot.

    Numba's own stamp covers only the file of the kernel: a change in the file of a function that the kernel calls would
    go unnoticed.

    Args:
        compiled: Dispatcher that was made with `cache=True`.
        stamp: Text that identifies the sources of the machine code.
        guard: Function that takes a method of the cache and the cache's folder, and returns the method's replacement.
    """
    kept = getattr(compiled, "_cache", None)
    file = getattr(kept, "_cache_file", None)
    names = ("load_overload", "save_overload", "cache_path")
    if not hasattr(file, "_source_stamp") or not all(hasattr(kept, name) for name in names):
        _missing("numba.core.caching._CacheImpl", "each process compiles its kernels anew")
        return False
    file._source_stamp = stamp  # type: ignore[union-attr]
    for name in names[:2]:
        setattr(kept, name, guard(getattr(kept, name), kept.cache_path))  # type: ignore[union-attr]
    return True


def compiler_lock() -> Any:
    """The lock, a threading.RLock, that a thread holds while it loads or compiles a kernel; None if Numba hides it."""
    from numba.core.compiler_lock import global_compiler_lock

    lock = getattr(global_compiler_lock, "_lock", None)
    if not hasattr(lock, "acquire"):
        _missing("numba.core.compiler_lock._lock", "a small batch may wait while another thread compiles")
        return None
    return lock


def linked_only() -> dict[str, Any]:
    """Options of `njit` for functions that only compiled functions call, so that nothing of them is run by itself.

    Numba optimises such a function and makes machine code of it, and then does both once more for each caller that the
    function is linked into. With these options only the callers are optimised, with all that is linked into them.
    """
    try:
        from numba.core.codegen import JITCodeLibrary
        from numba.core.compiler import CompilerBase, DefaultPassBuilder
    except ImportError:
        _missing("numba.core.codegen.JITCodeLibrary", "compiling takes a quarter longer")
        return {}
    names = ("_optimize_final_module", "_finalize_final_module", "get_pointer_to_function")
    if not all(hasattr(JITCodeLibrary, name) for name in names):
        _missing("numba.core.codegen.JITCodeLibrary._optimize_final_module", "compiling takes a quarter longer")
        return {}

    class Linked(JITCodeLibrary):
        def _optimize_final_module(self) -> None:
            """Nothing: that is left to the callers."""

        def _finalize_final_module(self) -> None:
            self._finalized = True

        def get_pointer_to_function(self, name: str) -> int:
            return 0

        @property
        def codegen(self) -> Any:
            return _WithoutEnvironment()

    class Pipeline(CompilerBase):
        def define_pipelines(self) -> list[Any]:
            state = self.state
            if state.library is None:
                name = state.func_id.func_qualname
                state.library = Linked(state.targetctx.codegen(), name)  # type: ignore[no-untyped-call]
            return [DefaultPassBuilder.define_nopython_pipeline(state)]  # type: ignore[no-untyped-call]

    return {"pipeline_class": Pipeline}


class _WithoutEnvironment:
    """What a library that has no machine code answers in place of Numba's code generator."""

    def set_env(self, name: str, environment: Any) -> None:
        """There is nothing to set it in: compiled functions use it for Python objects only, and these have none."""


# --- Triton --------------------------------------------------------------------------------------------------------


def is_interpreted(kernel: Any) -> bool:
    """True if Triton's interpreter runs the kernel."""
    try:
        from triton.runtime.interpreter import InterpretedFunction
    except ImportError:
        from triton.runtime.jit import JITFunction

        return not isinstance(kernel, JITFunction)
    return isinstance(kernel, InterpretedFunction)


def current_stream(index: int | None) -> int:
    """The handle of the stream on which Triton launches."""
    import triton

    try:
        stream = triton.runtime.driver.active.get_current_stream
    except AttributeError:
        return int(torch.cuda.current_stream(index).cuda_stream)
    return int(stream(index))


def has_launch_hooks() -> bool:
    """True if a hook, such as a profiler's, must be called at each launch; also true if Triton does not say."""
    import triton

    try:
        hooks = triton.knobs.runtime.launch_enter_hook, triton.knobs.runtime.launch_exit_hook
    except AttributeError:
        _missing("triton.knobs.runtime.launch_enter_hook", "launches are not repeated from notes, which is slower")
        return True
    return any(getattr(hook, "calls", hook) for hook in hooks)


def starter(compiled: Any, grid: tuple[int, int, int]) -> Callable[[int, Sequence[Any]], None]:
    """A function that starts a compiled kernel, loaded on the current device.

    Returns:
        start(stream, arguments): starts it on `stream`, the current one of that device; tensors are given as addresses.
    """
    try:
        run, function, metadata = compiled.run, compiled.function, compiled.packed_metadata
    except AttributeError:
        _missing("triton.compiler.CompiledKernel.run", "launches go through Triton's checks, which is slower")
        return lambda stream, arguments: compiled[grid](*arguments)
    return lambda stream, arguments: run(*grid, stream, function, metadata, None, None, None, *arguments)
