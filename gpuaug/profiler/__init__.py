"""Where a training job waits for its data, what changing it would gain, and the proof. Imports torch, not the engine."""

from gpuaug.profiler.clock import stage
from gpuaug.profiler.report import Report, load
from gpuaug.profiler.session import Profile, measure

__all__ = ["Profile", "Report", "load", "measure", "stage"]
