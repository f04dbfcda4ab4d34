"""How many bytes a call holds at most, as torch and NumPy count them."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import warnings
from collections.abc import Callable
from itertools import accumulate

from torch.profiler import ProfilerActivity, profile


def peak_of_torch(run: Callable[[], None]) -> int:
    """Highest level of the bytes that torch's profiler sees allocated."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning: Profiler clears events")  # torch 2.11
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            run()
    results = profiler.profiler.kineto_results
    events = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    return max(accumulate(size for _, size in events))


def peak_of_numpy(run: Callable[[], None]) -> int:
    """Highest level of the bytes that tracemalloc sees allocated, in a new thread, which has no scratch yet."""
    tracemalloc.start()
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
