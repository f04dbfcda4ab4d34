"""The progress bar of `gpuaug pack` and `gpuaug verify`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["bar"]


@contextlib.contextmanager
def bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, as a function of (done, total). It appears at the first call and measures time from there.

    Args:
        unit: What is counted, images or bytes.
    """
    from rich import progress
    from rich.text import Text

    class Speed(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} images/s", style="progress.data.speed")

    counts = {
        "images": (progress.MofNCompleteColumn(), Speed()),
        "bytes": (progress.DownloadColumn(), progress.TransferSpeedColumn()),
    }
    remaining = progress.TimeRemainingColumn(elapsed_when_finished=True)
    shown = progress.Progress(progress.BarColumn(bar_width=None), *counts[unit], remaining, expand=True)

    def report(done: int, total: int) -> None:
        if shown.tasks:
            shown.update(shown.task_ids[0], completed=done)
        else:
            shown.add_task("", total=total, completed=done)
            shown.start()

    try:
        yield report
    finally:
        if shown.tasks:
            shown.stop()
