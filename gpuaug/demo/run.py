"""`gpuaug demo`: what the augmentations look like, how fast they are here, and whether they help a network learn."""

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

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.data.decode import decode_file
from gpuaug.demo import learning, speed
from gpuaug.demo.photographs import paths
from gpuaug.demo.preview import preview
from gpuaug.engine.render import choose

__all__ = ["run", "verdict"]

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"}
SHOWN = 6  # photographs in the picture


def run(
    data: Path | None = None,
    out: Path = Path("preview.png"),
    *,
    backend: str = "auto",
    quick: bool = False,
    console: Console | None = None,
) -> None:
    """Run the three parts and print what they found.

    Args:
        data: an ImageFolder to use in place of the photographs and digits that need no download.
        out: where the picture goes.
        backend: of Augment.
        quick: a few seconds of each part; the figures are then rough.
        console: where to print.

    Raises:
        ValueError: if `data` holds no images.
    """
    console = console or Console()
    files = paths() if data is None else images_in(data)
    start = time.perf_counter()
    used = choose(backend, torch.device("cpu"))
    console.print(f"Backend {used}, {torch.get_num_threads()} threads, {speed.cores()} cores.", highlight=False)
    with _progress(console) as progress:
        task = progress.add_task("1/3 drawing the picture", total=None)
        shown = files[:: max(1, len(files) // SHOWN)][:SHOWN]
        preview(Augment(train=speed.standard(), seed=0, backend=backend), [decode_file(file) for file in shown], out)
        progress.update(task, total=1, completed=1)
        speeds = _speeds(files, backend, quick, progress)
        task_or_reason = _task(data)
        scores = {} if isinstance(task_or_reason, str) else _scores(task_or_reason, backend, quick, progress)
    console.print(f"\n[bold]1. What it looks like:[/] {out}, each version with what was done to it.\n", highlight=False)
    _print_speeds(console, speeds, data)
    if isinstance(task_or_reason, str):
        console.print(f"[bold]3. Does it help?[/] {task_or_reason}", highlight=False)
    else:
        _print_scores(console, task_or_reason, scores)
    console.print(f"\n{time.perf_counter() - start:.0f} seconds in all.", highlight=False, style="dim")


def images_in(data: Path) -> list[Path]:
    """Every image file below a folder."""
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in ENDINGS)
    if not files:
        raise checks.argument_error("demo", "data", "a folder with images in it", str(data))
    return files


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<26}"), BarColumn(bar_width=30), TimeElapsedColumn())
    return Progress(*columns, console=console)


# ---- speed -----------------------------------------------------------------------------------------------------------


def _speeds(files: Sequence[Path], backend: str, quick: bool, progress: Progress) -> dict[str, list[float]]:
    """Images per second of each way, one number for each round."""
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
    console.print("[bold]2. How fast it is:[/] images per second that reach the training loop", highlight=False)
    table = Table("way", box=None, padding=(0, 2), header_style="dim")
    for heading in ("median", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, values in speeds.items():
        table.add_row(name, *(f"{value:.0f}" for value in (statistics.median(values), min(values), max(values))))
    console.print(table)
    own, other, ceiling = (statistics.median(speeds[name]) for name in (speed.GPUAUG, speed.TORCHVISION, speed.DECODE))
    files, count = "the photographs" if data is None else "your files", speed.cores()
    console.print(
        f"Here gpuaug gives {own / other:.2f} times what the standard loader gives, and {100 * own / ceiling:.0f}% of "
        f"what decoding alone gives. The files are copies of {files}; RandomResizedCrop(224), flip, "
        f"RandAugment(2, 9), normalise; {count} worker processes each, gpuaug's threads beside them on the same "
        f"{count} cores; {repeats} rounds in turn.\n",
        highlight=False,
    )


# ---- learning --------------------------------------------------------------------------------------------------------


def _task(data: Path | None) -> learning.Task | str:
    """What to learn, or why nothing can be learnt."""
    try:
        return learning.digits() if data is None else learning.folder(data)
    except (ValueError, FileNotFoundError) as error:
        return f"Left out. {error}"


def _scores(task: learning.Task, backend: str, quick: bool, progress: Progress) -> dict[str, list[float]]:
    """Test accuracies in percent, one for each seed."""
    seeds, steps = (3, 60) if quick else (5, learning.STEPS)
    bar = progress.add_task("3/3 training", total=2 * seeds)
    scores: dict[str, list[float]] = {"none": [], "augmented": []}
    for name, _, percent in learning.accuracies(task, seeds, backend=backend, steps=steps):
        scores[name].append(percent)
        progress.advance(bar)
    return scores


def _print_scores(console: Console, task: learning.Task, scores: dict[str, list[float]]) -> None:
    console.print(
        f"[bold]3. Does it help?[/] test accuracy on {task.name}, {task.per_class * task.classes} labels, a small CNN",
        highlight=False,
    )
    table = Table("training images", box=None, padding=(0, 2), header_style="dim")
    for heading in ("mean", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, words in (("none", "as they are"), ("augmented", task.words)):
        values = scores[name]
        table.add_row(words, *(f"{value:.1f}%" for value in (statistics.mean(values), min(values), max(values))))
    console.print(table)
    console.print(verdict(scores["none"], scores["augmented"]), highlight=False)


def verdict(none: Sequence[float], augmented: Sequence[float]) -> str:
    """What the accuracies of the same seeds without and with augmentation say, no more."""
    gains = [after - before for before, after in zip(none, augmented, strict=True)]
    mean, better = statistics.mean(gains), sum(gain > 0 for gain in gains)
    if better == len(gains):
        return f"It helps here: {mean:+.1f} points on average, and on each of {len(gains)} seeds."
    if mean > 0:
        return f"It helps on average ({mean:+.1f} points), but on {better} of {len(gains)} seeds only."
    return f"No gain here: {mean:+.1f} points on average, better on {better} of {len(gains)} seeds."
