"""`gpuaug demo`: a preview of augmented images, the speed on this machine, and the effect on a small network."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gpuaug.augment import Augment
from gpuaug.data.decode import decode_file
from gpuaug.demo import learning, speed
from gpuaug.demo.photographs import paths
from gpuaug.demo.preview import preview
from gpuaug.engine.render import choose
from gpuaug.sheet.inputs import images_in

__all__ = ["run", "verdict"]

SHOWN = 6  # photographs in the preview


def run(
    data: Path | None = None,
    out: Path = Path("preview.png"),
    *,
    backend: str = "auto",
    quick: bool = False,
    console: Console | None = None,
) -> None:
    """Run the three parts, and print their results.

    Args:
        data: Folder with a folder of images for each class. None: photographs and digits that need no download.
        out: Path of the preview image.
        backend: Backend of Augment.
        quick: Whether to spend only a few seconds on each part; the numbers are then rough.
        console: Console to print to. None: standard output.

    Raises:
        ValueError: If `data` contains no images.
    """
    console = console or Console()
    files = paths() if data is None else images_in("demo", "data", data)
    start = time.perf_counter()
    used = backend if backend == "auto" else choose(backend, torch.device("cpu"))  # "auto" may import a compiler
    with _progress(console) as progress:
        task = progress.add_task("1/3 drawing the preview", total=None)
        shown = files[:: max(1, len(files) // SHOWN)][:SHOWN]
        augment = Augment(train=speed.standard(), seed=0, backend="torch")  # the same picture, and nothing to compile
        preview(augment, [decode_file(file) for file in shown], out)
        progress.update(task, total=1, completed=1)
        used = choose(used, torch.device("cpu"))
        console.print(f"Backend {used}, {torch.get_num_threads()} threads, {speed.cores()} cores.", highlight=False)
        speeds = _speeds(files, backend, quick, progress)
        task_or_reason = _task(data)
        scores = {} if isinstance(task_or_reason, str) else _scores(task_or_reason, backend, quick, progress)
    console.print(
        f"\n[bold]1. What it looks like:[/] {out}, with the transforms of each version.\n",
        highlight=False,
    )
    _print_speeds(console, speeds, data)
    if isinstance(task_or_reason, str):
        console.print(f"[bold]3. Does it help?[/] {task_or_reason}", highlight=False)
    else:
        _print_scores(console, task_or_reason, scores)
    console.print(f"\nTotal time: {time.perf_counter() - start:.0f} seconds.", highlight=False, style="dim")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<26}"), BarColumn(bar_width=30), TimeElapsedColumn())
    return Progress(*columns, console=console)


# ---- speed -----------------------------------------------------------------------------------------------------------


def _speeds(files: Sequence[Path], backend: str, quick: bool, progress: Progress) -> dict[str, list[float]]:
    """Images per second of each data path, one number for each round."""
    count, repeats = (48, 2) if quick else (384, 5)
    task = progress.add_task("2/3 measuring speed", total=3 * (repeats + 1))
    speeds: dict[str, list[float]] = {speed.TORCHVISION: [], speed.GPUAUG: [], speed.DECODE: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = speed.write_files(files[:: max(1, len(files) // count)], Path(temporary), count)
        for name, value in speed.rounds(folder, backend=backend, repeats=repeats):
            if value is not None:
                speeds[name].append(value)
            progress.advance(task)
    progress.update(task, completed=3 * (repeats + 1))
    return speeds


def _print_speeds(console: Console, speeds: dict[str, list[float]], data: Path | None) -> None:
    repeats = len(speeds[speed.GPUAUG])
    console.print("[bold]2. How fast it is:[/] images per second that the training loop receives", highlight=False)
    table = Table("data path", box=None, padding=(0, 2), header_style="dim")
    for heading in ("median", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, values in speeds.items():
        table.add_row(name, *(f"{value:.0f}" for value in (statistics.median(values), min(values), max(values))))
    console.print(table)
    own, other, ceiling = (statistics.median(speeds[name]) for name in (speed.GPUAUG, speed.TORCHVISION, speed.DECODE))
    files, count = "the photographs" if data is None else "your files", speed.cores()
    console.print(
        f"On this machine gpuaug is {own / other:.2f} times as fast as torchvision's transforms in the workers, and "
        f"reaches {100 * own / ceiling:.0f}% of the speed of decoding alone. Files: copies of {files}. Transforms: "
        f"RandomResizedCrop(224), flip, RandAugment(2, 9), normalise. Each data path has {count} worker processes; "
        f"gpuaug's threads share the same {count} cores. {repeats} rounds, in turns.\n",
        highlight=False,
    )


# ---- learning --------------------------------------------------------------------------------------------------------


def _task(data: Path | None) -> learning.Task | str:
    """The learning task, or why there is none."""
    try:
        return learning.digits() if data is None else learning.folder(data)
    except (ValueError, FileNotFoundError) as error:
        return f"Not run. {error}"


def _scores(task: learning.Task, backend: str, quick: bool, progress: Progress) -> dict[str, list[float]]:
    """Test accuracies in percent, without and with augmentation, one for each seed."""
    seeds, steps = (3, 60) if quick else (5, learning.STEPS)
    bar = progress.add_task("3/3 training", total=2 * seeds)
    scores: dict[str, list[float]] = {"none": [], "augmented": []}
    for name, _, percent in learning.accuracies(task, seeds, backend=backend, steps=steps):
        scores[name].append(percent)
        progress.advance(bar)
    return scores


def _print_scores(console: Console, task: learning.Task, scores: dict[str, list[float]]) -> None:
    console.print(
        f"[bold]3. Does it help?[/] test accuracy of a small CNN, {task.name}, {task.per_class * task.classes} labels",
        highlight=False,
    )
    table = Table("training images", box=None, padding=(0, 2), header_style="dim")
    for heading in ("mean", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, words in (("none", "not augmented"), ("augmented", task.words)):
        values = scores[name]
        table.add_row(words, *(f"{value:.1f}%" for value in (statistics.mean(values), min(values), max(values))))
    console.print(table)
    console.print(verdict(scores["none"], scores["augmented"]), highlight=False)


def verdict(none: Sequence[float], augmented: Sequence[float]) -> str:
    """One sentence on the accuracies of the same seeds without and with augmentation."""
    gains = [after - before for before, after in zip(none, augmented, strict=True)]
    mean, better = statistics.mean(gains), sum(gain > 0 for gain in gains)
    if better == len(gains):
        return f"It helps: {mean:+.1f} points on average, better with each of {len(gains)} seeds."
    if mean > 0:
        return f"It helps on average ({mean:+.1f} points), but only with {better} of {len(gains)} seeds."
    return f"It does not help: {mean:+.1f} points on average, better with {better} of {len(gains)} seeds."
