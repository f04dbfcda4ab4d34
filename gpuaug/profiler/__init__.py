"""Find where a training job waits for data, predict the gain of changes, and measure it. Does not import the engine."""

from gpuaug.profiler.callbacks import lightning_callback, trainer_callback
from gpuaug.profiler.measure.clock import stage
from gpuaug.profiler.report import Report, load
from gpuaug.profiler.session import Profile, measure

profile = Profile

__all__ = ["Profile", "Report", "lightning_callback", "load", "measure", "profile", "stage", "trainer_callback"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
