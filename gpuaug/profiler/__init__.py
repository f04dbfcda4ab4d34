"""Where a training job waits for data, what changing it would gain, and the proof. Imports torch, not the engine."""

from gpuaug.profiler.measure.clock import stage
from gpuaug.profiler.report import Report, load
from gpuaug.profiler.session import Profile, measure

profile = Profile

__all__ = ["Profile", "Report", "load", "measure", "profile", "stage"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
