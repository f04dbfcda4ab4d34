"""The one place where `--dry` differs: CUDA is pretended (`benchmarks.evidence.pseudocuda`), and what only a device
has is replaced by something that can be called.

Time is the host's clock, so figures of a dry run mean nothing. Import this before torch compiles or Triton is imported.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

__all__ = ["pretend"]


@contextmanager
def pretend() -> Iterator[None]:
    """Inside, `device="cuda"` and everything of torch.cuda that the parts use can be called without a device.

    What is replaced stays so until the process ends.
    """
    import torch

    from ..evidence import pseudocuda
    from ..evidence.launches import intercept

    pseudocuda.install()
    torch.set_num_threads(1)
    _replace(torch.cuda)
    warnings.filterwarnings("ignore", message="User provided device_type of 'cuda'")
    with pseudocuda.PseudoCuda():
        intercept()
        yield


def _replace(cuda: Any) -> None:
    from ..evidence import pseudocuda

    busy = [False]  # since `_sleep`, until the host waits: events are not reached before

    def sleep(cycles: int) -> None:
        busy[:] = [True]

    def synchronize(*_: Any) -> None:
        busy[:] = [False]
        wait()

    class Event(pseudocuda.Event):
        """Reads the clock where it is recorded: work is done when it is given."""

        at = 0.0

        def query(self) -> bool:
            return not busy[0]

        def synchronize(self) -> None:
            busy[:] = [False]
            super().synchronize()

        def record(self, stream: Any = None) -> None:
            self.at = time.perf_counter()

        def elapsed_time(self, end: Any) -> float:
            return max(1e3 * (end.at - self.at), 1e-3)

    def record_event(self: Any, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    properties = SimpleNamespace(
        name="pretended", major=9, minor=0, multi_processor_count=132, total_memory=80 << 30, warp_size=32,
        L2_cache_size=1 << 20, regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048,
        shared_memory_per_multiprocessor=228 << 10,
    )  # fmt: skip
    pseudocuda.Stream.record_event = record_event
    pseudocuda.Stream.priority = 0
    wait = cuda.synchronize
    cuda.Event, cuda._sleep, cuda.synchronize = Event, sleep, synchronize
    answers = {
        "get_device_properties": properties,
        "get_device_name": properties.name,
        "get_device_capability": (properties.major, properties.minor),
        "set_sync_debug_mode": None,
        "empty_cache": None,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "memory_reserved": 0,
        "reset_peak_memory_stats": None,
        "mem_get_info": (64 << 30, 80 << 30),
        "is_bf16_supported": True,
    }
    for name, answer in answers.items():
        setattr(cuda, name, lambda *_, answer=answer, **__: answer)
